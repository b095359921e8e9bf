"""maml: all four modalities, which the released code needs; the joint logits and every modality's own."""

from __future__ import annotations

import record_maml
import torch
from parity import Golden
from recorder import images

from anymri.methods import create
from anymri.zoo import import_checkpoint
from parity_rows.compared import Row

#: Cells of the table of checkpoints: what to give, source, their channels, their intensities.
LOAD = "entry `state_dict` | `official` | t1, t1c, t2, flair | z-score"


def row() -> Row:
    """All four modalities; the finest logits. Parameters are of the published size."""
    golden = Golden("maml")
    method = import_checkpoint("maml", golden.filled("network"))
    image = images(record_maml.ORDER, record_maml.SIZE)
    image = torch.cat([image, image.flip(2)])
    logits = method.predict(image, torch.ones(2, 4).bool()).logits
    with torch.device("meta"):
        ours = sum(p.numel() for p in create("maml").parameters())
    differences = {"t1+t1c+t2+flair": golden.difference("joint", logits)}
    return record_maml.REPOSITORY, ours, sum(golden.parameters.values()), differences
