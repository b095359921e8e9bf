"""mmcformer: both paths, without the layers that are never called; arrays are (z, x, y)."""

from __future__ import annotations

import record_mmcformer
from parity import Golden, parameters

from anymri.types import GLIOMA
from anymri.zoo import import_checkpoint
from parity_rows.compared import Row, in_our_order

#: Cells of the table of checkpoints: what to give, source, their channels, their intensities.
LOAD = "the whole checkpoint | `official:<subset>` | available first; flair, t1, t1c, t2 | range to [0, 1]"


def row() -> Row:
    """Both paths, without the layers that are never called; arrays are (z, x, y)."""
    golden = Golden("mmcformer")
    entries = {name: golden.filled(name) for name in ("model_full", "model_missing")}
    method = import_checkpoint("mmcformer", entries, f"official:{record_mmcformer.SUBSET}")
    image = in_our_order(record_mmcformer.window(), record_mmcformer.ORDER).transpose(3, 4)
    logits = method.predict(image, GLIOMA.available(record_mmcformer.SUBSET.split("+"))[None]).logits
    difference = golden.difference("model_missing", logits[:, [1, 0, 2, 3]].transpose(3, 4))
    theirs = sum(golden.parameters.values())
    return record_mmcformer.REPOSITORY, parameters(method), theirs, {record_mmcformer.SUBSET: difference}
