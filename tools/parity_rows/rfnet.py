"""rfnet: all of it, padded as a current PyTorch does."""

from __future__ import annotations

import record_rfnet
from named_numbers import state_dict
from parity import Golden, parameters

from anymri.zoo import import_checkpoint
from parity_rows.compared import Row, any_subset, in_our_order

#: Cells of the table of checkpoints: what to give, source, their channels, their intensities.
LOAD = "entry `state_dict` | `official`, `retrained` | flair, t1c, t1, t2 | z-score, sum of all positive"


def row() -> Row:
    """All of it, padded as a current PyTorch does."""
    golden = Golden("rfnet")
    method = import_checkpoint("rfnet", state_dict(golden.shapes), "retrained")
    image = in_our_order(record_rfnet.images(1), record_rfnet.ORDER)
    differences = any_subset(golden, method, image, record_rfnet.SUBSETS)
    return record_rfnet.REPOSITORY, parameters(method), sum(golden.parameters.values()), differences
