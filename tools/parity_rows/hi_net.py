"""hi_net: the synthesis of one task, and both reconstructions, which only training needs."""

from __future__ import annotations

from typing import Any

import record_hi_net as recording
import torch
from parity import Golden, parameters

from anymri.types import GLIOMA
from anymri.zoo import import_checkpoint
from parity_rows.compared import Row

#: Cells of the table of checkpoints: what to give, source, their channels, their intensities.
LOAD = "`generator_<epoch>.pkl` | `official:<sources>-><target>` | as given in `source` | [-1, 1], range not stated"


def row() -> Row:
    """The synthesis of one task, and both reconstructions; slices are (x, y) there."""
    golden = Golden("hi_net")
    weights = recording.filled(golden.shapes["generator"], "generator")
    judge = recording.filled(golden.shapes["discriminator"], "discriminator")
    weights |= {f"discriminator.{key}": value for key, value in judge.items()}
    task = f"{'+'.join(recording.SOURCES)}->{recording.TARGET}"
    method: Any = import_checkpoint("hi_net", weights, f"official:{task}")
    image = torch.cat([recording.slices(code) for code in GLIOMA.modalities], dim=1).transpose(2, 3)
    prediction = method.predict(image.transpose(0, 1)[None], GLIOMA.available(recording.SOURCES)[None])
    made = {task: prediction.image[0, GLIOMA.index(recording.TARGET), :, None]}
    sources = image[:, [GLIOMA.index(code) for code in recording.SOURCES]]
    made |= method.generator.reconstruct(method.generator.encode(sources))
    differences = {
        name: golden.difference(recording.TARGET if name == task else name, value.transpose(2, 3).contiguous())
        for name, value in made.items()
    }
    return recording.REPOSITORY, parameters(method), sum(golden.parameters.values()), differences
