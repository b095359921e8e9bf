"""resvit: one source, on small slices; counted at the published 256 x 256."""

from __future__ import annotations

from typing import Any

import record_resvit
import torch
from parity import Golden, parameters

from anymri.types import GLIOMA
from anymri.zoo import import_checkpoint
from parity_rows.compared import Row

#: Cells of the table of checkpoints: what to give, source, their channels, their intensities.
LOAD = "`latest_net_G.pth` | `official:<sources>-><target>` | as given in `source` | [-1, 1], range not stated"


def row() -> Row:
    """One source, on small slices; counted at the published 256 x 256."""
    golden = Golden("resvit")
    weights = record_resvit.filled(golden.shapes["generator"], "generator")
    task = f"{'+'.join(record_resvit.SOURCES)}->{record_resvit.TARGET}"
    method: Any = import_checkpoint("resvit", weights, f"official:{task}")
    image = torch.cat([record_resvit.slices(code) for code in GLIOMA.modalities], dim=1).transpose(0, 1)[None]
    made = method.predict(image, GLIOMA.available(record_resvit.SOURCES)[None]).image
    difference = golden.difference("resvit", made[0, GLIOMA.index(record_resvit.TARGET)].contiguous())
    tables = 2 * (256 - (record_resvit.SIZE // 16) ** 2) * method.config.hidden
    theirs = golden.parameters["generator"] + golden.parameters["discriminator"]
    return record_resvit.REPOSITORY, parameters(method) + tables, theirs, {task: difference}
