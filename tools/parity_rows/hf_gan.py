"""hf_gan: a narrower network on small slices, counted as published; three subsets, each with a target."""

from __future__ import annotations

from typing import Any

import record_hf_gan as recording
import torch
from parity import Golden, parameters

from anymri.methods import create
from anymri.types import GLIOMA
from anymri.zoo import import_checkpoint
from parity_rows.compared import Row, in_our_order

#: Cells of the table of checkpoints: what to give, source, their channels, their intensities.
LOAD = "the generator's weights | `official:<sources>` | as given in `source` | [-1, 1], range not stated"


def row() -> Row:
    """Three subsets with a target each."""
    golden = Golden("hf_gan")
    weights = recording.filled(golden.shapes["generator"], "generator")
    method: Any = import_checkpoint("hf_gan", weights, f"official:{'+'.join(recording.ORDER)}")
    image = in_our_order(recording.slices(), recording.ORDER).transpose(0, 1)[None]
    differences = {}
    for subset, target in recording.TASKS:
        made = method.predict(image, GLIOMA.available(subset.split("+"))[None]).image
        channel = made[0, GLIOMA.index(target), :, None].contiguous()
        differences[f"{subset}->{target}"] = golden.difference(f"{subset}.{target}", channel)
    with torch.device("meta"):
        ours = parameters(create("hf_gan"))
    return recording.REPOSITORY, ours, sum(golden.parameters.values()), differences
