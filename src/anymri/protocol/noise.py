"""Noise of stochastic methods: standard normal numbers tied to a voxel's place in the brain.

A generator that is read voxel after voxel would give overlapping windows different noise at the same place, and the
average over windows would show their seams. Here every number is a hash of seed, name, channel and position.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Noise"]

#: Odd 64-bit constants: one per axis, and those of the splitmix64 finaliser (Steele et al. 2014,
#: doi:10.1145/2660193.2660195).
_AXES = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)
_MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


class Noise:
    """Reproducible standard normal numbers of a batch of windows, one seed per row.

    Parameters
    ----------
    seeds : sequence of str or int
        One per row: rows of the same seed lie in the same volume.
    origin : Tensor of int, shape (B, 3), or None, default=None
        First voxel (D, H, W) of each row's window, counted from a voxel of the brain (`anymri.data.study.Study.frame`),
        so that empty space around it changes no number; None = that voxel.
    """

    def __init__(self, seeds: Sequence[str | int], origin: Tensor | None = None) -> None:
        self.seeds = tuple(str(seed) for seed in seeds)
        places = torch.zeros(len(self.seeds), 3, dtype=torch.int64) if origin is None else origin.cpu()
        if places.shape != (len(self.seeds), 3):
            raise ValueError(f"origin of shape {tuple(places.shape)} for {len(self.seeds)} seeds; expected (B, 3)")
        self.origin: list[list[int]] = places.tolist()

    def rows(self, chosen: Sequence[int]) -> Noise:
        """The noise of some rows, in the given order."""
        return Noise([self.seeds[i] for i in chosen], torch.tensor([self.origin[i] for i in chosen]).reshape(-1, 3))

    def normal(self, name: str, channels: int, shape: Sequence[int], stride: int | Sequence[int] = 1) -> Tensor:
        """Numbers of every voxel of a feature map.

        Parameters
        ----------
        name : str
            What they are for, e.g. ``"level2"`` or ``"step17"``; another name gives independent numbers.
        channels : int
        shape : sequence of int
            Of the map (D, H, W), which begins where the window begins.
        stride : int or sequence of int, default=1
            Voxels of the volume between neighbours of the map. Windows that begin at multiples of it agree exactly
            where they overlap; others take the nearest place of the map before them.

        Returns
        -------
        Tensor of float32, shape (B, channels, *shape)
            On the CPU.
        """
        steps = [stride] * 3 if isinstance(stride, int) else list(stride)
        parts = []
        for seed, origin in zip(self.seeds, self.origin, strict=True):
            position = np.zeros((1, 1, 1), np.uint64)
            for axis, (first, step, size) in enumerate(zip(origin, steps, shape, strict=True)):
                index = (np.arange(size, dtype=np.int64) + first // step).astype(np.uint64)
                position = position + (index * np.uint64(_AXES[axis])).reshape(
                    [-1 if a == axis else 1 for a in range(3)]
                )
            keys = [_key(f"{seed}|{name}|{channel}") for channel in range(channels)]
            parts.append(_normal(np.stack([_mix(position) ^ key for key in keys])))
        return torch.stack(parts)

    def vector(self, name: str, size: int) -> Tensor:
        """Numbers of a whole volume, the same in all its windows, shape (B, size): a style, a class, a latent code."""
        parts = []
        for seed in self.seeds:
            index = np.arange(size, dtype=np.uint64) * np.uint64(_AXES[0])
            parts.append(_normal(_mix(index) ^ _key(f"{seed}|{name}")))
        return torch.stack(parts)


def _key(text: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread every bit over all bits."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(_MIX[0])
    value = (value ^ (value >> np.uint64(27))) * np.uint64(_MIX[1])
    return value ^ (value >> np.uint64(31))


def _normal(value: NDArray[np.uint64]) -> Tensor:
    """Standard normal numbers by the inverse distribution function of 53 uniform bits."""
    uniform = ((_mix(value) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return torch.special.ndtri(torch.from_numpy(uniform)).float()
