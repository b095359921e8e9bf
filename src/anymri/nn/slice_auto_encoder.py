"""Variational auto-encoder of slices, as GPPVAE and MGP-VAE use it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["SliceAutoEncoder"]


class _Cell(nn.Module):
    """Two convolutions: the second one halves, or the voxels are repeated before the first."""

    def __init__(self, in_channels: int, out_channels: int, up: bool, last: bool = False) -> None:
        super().__init__()
        self.up, self.last = up, last
        self.first = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.second = nn.Conv2d(out_channels, out_channels, 3, stride=1 if up else 2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.elu(self.first(F.interpolate(x, scale_factor=2.0) if self.up else x))
        x = self.second(x)
        return x if self.last else F.elu(x)


class SliceAutoEncoder(nn.Module):
    """Slices (N, channels, size, size) to Gaussian codes and back.

    Parameters
    ----------
    size : int
        Height and width, a multiple of ``2 ** steps``.
    width, steps : int
        Filters, and how often the slice is halved.
    latent : int
        Length of a code.
    channels : int
    """

    def __init__(self, size: int, width: int, steps: int, latent: int, channels: int) -> None:
        super().__init__()
        self.coarse = (width, size // 2**steps, size // 2**steps)
        flat = width * self.coarse[1] ** 2
        self.down = nn.ModuleList(_Cell(width if i else channels, width, up=False) for i in range(steps))
        self.mean, self.deviation = nn.Linear(flat, latent), nn.Linear(flat, latent)
        self.start = nn.Linear(latent, flat)
        self.up = nn.ModuleList(_Cell(width, width, up=True) for _ in range(steps - 1))
        self.up.append(_Cell(width, channels, up=True, last=True))

    def encode(self, slices: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of every slice's code, each (N, latent), in 32 bits."""
        x = slices
        for cell in self.down:
            x = cell(x)
        x = x.flatten(1)
        return self.mean(x).float(), F.softplus(self.deviation(x)).float()

    def decode(self, codes: Tensor) -> Tensor:
        """Slices (N, channels, size, size) of codes (N, latent)."""
        x: Tensor = torch.unflatten(self.start(codes), 1, self.coarse)
        for cell in self.up:
            x = cell(x)
        return x
