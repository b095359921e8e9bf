"""The same numbers for the same name on every machine, to fill two implementations of one network alike."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

#: Values of the logits that a golden keeps of each subset.
SAMPLED = 4096


def numbers(name: str, shape: tuple[int, ...]) -> Tensor:
    """Normal numbers with variance 1 / fan-in, seeded by the name of the parameter."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    fan_in = max(math.prod(shape[1:]), 1)
    values = np.random.Generator(np.random.PCG64(seed)).standard_normal(shape) / math.sqrt(fan_in)
    return torch.from_numpy(values.astype(np.float32))


def state_dict(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """`numbers` for every name."""
    return {name: numbers(name, tuple(shape)) for name, shape in shapes.items()}


def sample(logits: Tensor) -> np.ndarray:
    """The same `SAMPLED` values of a tensor every time."""
    values = logits.detach().flatten().numpy()
    chosen = np.random.Generator(np.random.PCG64(0)).choice(len(values), SAMPLED, replace=False)
    return values[chosen]


def script_hash(path: str) -> str:
    """First 16 digits of the sha256 of a script."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
