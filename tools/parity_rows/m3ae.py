"""m3ae: without learned image and reconstruction head; arrays are (z, y, x) as ours."""

from __future__ import annotations

from typing import Any

import record_m3ae
import torch
from parity import Golden, parameters
from recorder import images

from anymri.types import GLIOMA, Where
from anymri.zoo import import_checkpoint
from parity_rows.compared import Row

#: Cells of the table of checkpoints: what to give, source, their channels, their intensities.
LOAD = "entry `state_dict` | `official` | t1, t1c, t2, flair | 1st to 99th percentile to [0, 1]"


def row() -> Row:
    """Without learned image and reconstruction head; arrays are (z, y, x) as ours."""
    golden = Golden("m3ae")
    weights = golden.filled("network")
    method: Any = import_checkpoint("m3ae", {**weights, "limage": weights["limage"] * 100.0})
    where = Where(*(torch.tensor([v]) for v in (record_m3ae.ORIGIN, record_m3ae.IMAGE_SHAPE, (False,) * 3)))
    features = method.encode(images(record_m3ae.ORDER, record_m3ae.SIZE), torch.ones(1, 4).bool(), where)
    differences = {
        subset: golden.difference(subset, method.decode(features, GLIOMA.available(subset.split("+"))[None]).logits)
        for subset in record_m3ae.SUBSETS
    }
    ours = parameters(method) - parameters(method.learned_image) - parameters(method.reconstruction)
    return record_m3ae.REPOSITORY, ours, golden.parameters["unet"], differences
