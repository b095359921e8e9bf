"""kdd_net: the student of two inputs, on the authors' features."""

from __future__ import annotations

import record_kdd_net
import torch
from parity import Golden, parameters

from anymri.zoo import import_checkpoint
from parity_rows.compared import Row

#: Cells of the table of checkpoints: what to give, source, their channels, their intensities.
LOAD = "student, teacher1, teacher2 | `official:<subset>` | first input, second input | features of another kind"


def row() -> Row:
    """The student of two inputs, on the authors' features."""
    golden = Golden("kdd_net")
    entries = {"student": "student", "teacher1": "teacher.t1", "teacher2": "teacher.flair"}
    given = {name: golden.filled(prefix) for name, prefix in entries.items()}
    method = import_checkpoint("kdd_net", given, "official:t1+flair")
    theirs = torch.from_numpy(golden.values["logits.student"])
    gap = (method.get_submodule("student")(record_kdd_net.inputs()) - theirs).abs().max() / theirs.std()
    return record_kdd_net.REPOSITORY, parameters(method), sum(golden.parameters.values()), {"t1+flair": gap.item()}
