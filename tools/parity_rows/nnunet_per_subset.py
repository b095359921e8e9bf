"""nnunet_per_subset: all four sequences; the finest output."""

from __future__ import annotations

import record_nnunet_per_subset
import torch
from parity import Golden, parameters
from recorder import images

from anymri.zoo import import_checkpoint
from parity_rows.compared import Row

#: Cells of the table of checkpoints: what to give, source, their channels, their intensities.
LOAD = "entry `network_weights` | `official:<subset>` | t1, t1c, t2, flair | z-score"


def row() -> Row:
    """All four sequences; the finest output."""
    golden = Golden("nnunet_per_subset")
    method = import_checkpoint("nnunet_per_subset", golden.filled("network"))
    image = images(record_nnunet_per_subset.ORDER, record_nnunet_per_subset.SIZE)
    logits = method.predict(image, torch.ones(1, 4).bool()).logits
    differences = {"t1+t1c+t2+flair": golden.difference("level0", logits)}
    theirs = sum(golden.parameters.values())
    return record_nnunet_per_subset.REPOSITORY, parameters(method), theirs, differences
