"""wfm: samples of one to three steps for every target, of a smaller network; counted at the published size."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import record_wfm
import torch
from parity import Golden, parameters

from anymri.methods import create
from anymri.protocol.request import Request
from anymri.types import GLIOMA
from anymri.zoo import import_checkpoint
from parity_rows.compared import Row

#: Cells of the table of checkpoints: what to give, source, their channels, their intensities.
LOAD = "`wfm_unified_*.pt` | `official` | t1, t1c, t2, flair | [0, 1] between the quantiles 0.1 and 99.9 %"


def row() -> Row:
    """Samples of one to three steps for every target, of a smaller network; counted at the published size."""
    golden = Golden("wfm")
    method: Any = import_checkpoint("wfm", golden.filled("network"))
    image = torch.cat([record_wfm.images()[code] for code in GLIOMA.modalities], dim=1).transpose(2, 4)
    differences: dict[str, float] = {}
    for target in GLIOMA.modalities:
        for sampler, steps in (("end", 1), ("euler", 3), ("heun", 2)):
            solver = "heun" if sampler == "heun" else "euler"
            method.config = replace(method.config, single_step_at_end=True, solver=solver)
            shown = ~GLIOMA.available([target])[None]
            made = method.predict(image, shown, request=Request(steps=steps)).image[:, GLIOMA.index(target), None]
            found = golden.difference(f"{target}.{sampler}", made.transpose(2, 4))
            differences[target] = max(found, differences.get(target, 0.0))
    with torch.device("meta"):
        published = parameters(create("wfm"))
    return record_wfm.REPOSITORY, published, golden.parameters["published"], differences
