"""had_net: three students, teacher and discriminator."""

from __future__ import annotations

import record_had_net
import torch
from parity import Golden, parameters
from recorder import images

from anymri.methods import create
from anymri.types import GLIOMA
from anymri.zoo import import_checkpoint
from parity_rows.compared import Row, in_our_order

#: Cells of the table of checkpoints: what to give, source, their channels, their intensities.
LOAD = "the student's weights | `official:<subset>` | flair, t1c, t1, t2 | 0 to 3 deviations above the mean, to [0, 1]"


def row() -> Row:
    """Three students; teacher and discriminator are compared in the tests."""
    golden = Golden("had_net")
    image = in_our_order(images(record_had_net.ORDER, record_had_net.SIZE), record_had_net.ORDER)
    differences = {}
    for subset in record_had_net.SUBSETS:
        student = import_checkpoint("had_net", golden.filled(subset), f"official:{subset}")
        logits = student.predict(image, GLIOMA.available(subset.split("+"))[None]).logits
        differences[subset] = golden.difference(subset, logits)
    # Compared at a quarter of the width; counted at the published one.
    with torch.device("meta"):
        published = create("had_net", subset=record_had_net.SUBSETS[0])
    return record_had_net.REPOSITORY, parameters(published), sum(golden.parameters.values()), differences
