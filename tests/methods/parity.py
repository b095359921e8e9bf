"""Goldens recorded from authors' code, and the comparison with them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from named_numbers import sample, state_dict

GOLDEN = Path(__file__).parents[1] / "golden"


class Golden:
    """One file of `tests/golden`."""

    def __init__(self, name: str) -> None:
        with np.load(GOLDEN / f"{name}.npz") as file:
            self.values = dict(file)
        self.parameters: dict[str, int] = json.loads(str(self.values["about"]))["parameters"]
        self.shapes = json.loads(str(self.values["shapes"]))

    def filled(self, prefix: str) -> dict[str, torch.Tensor]:
        """The authors' network of that prefix, with the numbers it was recorded with."""
        filled = state_dict({f"{prefix}.{key}": shape for key, shape in self.shapes[prefix].items()})
        return {key.removeprefix(f"{prefix}."): value for key, value in filled.items()}

    def losses(self) -> dict[str, float]:
        """Recorded losses by name."""
        return {key.removeprefix("loss."): float(v) for key, v in self.values.items() if key.startswith("loss.")}

    def difference(self, name: str, logits: torch.Tensor) -> float:
        """Largest difference from the recorded logits over their standard deviation, which is at least 0.1."""
        std = float(self.values[f"{name}.moments"][1])
        assert std >= 0.1
        return float(np.abs(sample(logits) - self.values[f"{name}.logits"]).max()) / std


def parameters(module: torch.nn.Module) -> int:
    """Number of a module's parameters."""
    return sum(p.numel() for p in module.parameters())
