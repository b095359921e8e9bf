"""acn: the missing paths; parameters of both paths and discriminators of the released T1c example."""

from __future__ import annotations

import record_acn
from parity import Golden, parameters
from recorder import images

from anymri.zoo import import_checkpoint
from parity_rows.compared import Row, in_our_order, one_network

#: Cells of the table of checkpoints: what to give, source, their channels, their intensities.
LOAD = "the whole checkpoint | `official` (T1c), `official:<subset>` | t1, t2, flair, t1c | range to [0, 1]"


def row() -> Row:
    """The missing paths; parameters of both paths and discriminators of the released T1c example."""
    golden, counted = Golden("acn"), 0
    differences: dict[str, float] = {}
    entries = {name: golden.filled(name) for name in ("model", "d_main", "d_feature")}
    image = in_our_order(images(record_acn.ORDER, record_acn.SIZE), record_acn.ORDER)
    for subset in record_acn.SUBSETS:
        own = {**entries, "model_mono": golden.filled(f"model_mono.{subset}")}
        method = import_checkpoint("acn", own, f"official:{subset}")
        differences |= one_network(golden, method, image, subset, subset)
        counted = counted or parameters(method)
    names = ("model.unet", "model_mono.unet", "model_mono.VID_branch", "d_main", "d_feature")
    return record_acn.REPOSITORY, counted, sum(golden.parameters[name] for name in names), differences
