"""mmformer: with small position tables; the authors' four layers that are never called are not counted."""

from __future__ import annotations

import record_mmformer
from parity import Golden, parameters
from recorder import images

from anymri.zoo import import_checkpoint
from parity_rows.compared import Row, any_subset, in_our_order

#: Cells of the table of checkpoints: what to give, source, their channels, their intensities.
LOAD = "entry `state_dict` | `official`, `retrained` | flair, t1c, t1, t2 | z-score, sum of all positive"


def row() -> Row:
    """With small position tables; the authors' four layers that are never called are not counted."""
    golden = Golden("mmformer")
    method = import_checkpoint("mmformer", golden.filled("network"), "retrained")
    image = in_our_order(images(record_mmformer.ORDER, record_mmformer.SIZE), record_mmformer.ORDER)
    tables = sum(p.numel() for name, p in method.named_parameters() if name.endswith(".position"))
    theirs = sum(n for name, n in golden.parameters.items() if name[-11:] != "decode_conv" or name[:5] == "multi")
    differences = any_subset(golden, method, image, record_mmformer.SUBSETS)
    return record_mmformer.REPOSITORY, parameters(method) - tables, theirs, differences
