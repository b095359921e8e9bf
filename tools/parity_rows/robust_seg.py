"""robust_seg: without image decoders, whose layer norms differ."""

from __future__ import annotations

import record_robust_seg
from named_numbers import state_dict
from parity import Golden, parameters
from recorder import images

from anymri.zoo import import_checkpoint
from parity_rows.compared import Row, any_subset, in_our_order

#: Cells of the table of checkpoints: what to give, source, their channels, their intensities.
LOAD = "entry `state_dict` of the port | `port` | flair, t1c, t1, t2 | z-score"


def row() -> Row:
    """Without image decoders, whose layer norms differ."""
    golden = Golden("robust_seg")
    method = import_checkpoint("robust_seg", state_dict(golden.shapes), "port")
    image = in_our_order(images(record_robust_seg.ORDER, record_robust_seg.SIZE), record_robust_seg.ORDER)
    theirs = sum(size for name, size in golden.parameters.items() if not name.startswith("image_de"))
    ours = parameters(method) - parameters(method.get_submodule("images"))
    differences = any_subset(golden, method, image, record_robust_seg.SUBSETS)
    return f"port in {record_robust_seg.REPOSITORY}", ours, theirs, differences
