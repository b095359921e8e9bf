"""cones: three tasks on small slices, of narrower networks; counted at the published size. Their slices are (x, y)."""

from __future__ import annotations

from typing import Any

import record_cones
import torch
from parity import Golden, parameters

from anymri.methods import create
from anymri.types import GLIOMA
from anymri.zoo import import_checkpoint
from parity_rows.compared import Row

#: Cells of the table of checkpoints: what to give, source, their channels, their intensities.
LOAD = "`latest_net_G.pth` | `official:<sources>-><target>` | as given in `source` | [-1, 1], range not stated"


def row() -> Row:
    """Three tasks on small slices, of narrower networks; counted at the published size."""
    golden = Golden("cones")
    slices = torch.cat([record_cones.slices(code) for code in GLIOMA.modalities], dim=1)
    image = slices.transpose(0, 1).transpose(2, 3)[None]
    differences = {}
    for given, target in record_cones.TASKS:
        task = f"{given}->{target}"
        method: Any = import_checkpoint("cones", record_cones.filled(golden.shapes[task], task), f"official:{task}")
        made = method.predict(image, GLIOMA.available(given.split("+"))[None]).image[0, GLIOMA.index(target), :, None]
        differences[task] = golden.difference(task, made.transpose(2, 3).contiguous())
    with torch.device("meta"):
        published = parameters(create("cones", subset="t2", target="t1c"))
    return record_cones.REPOSITORY, published, golden.parameters["published"], differences
