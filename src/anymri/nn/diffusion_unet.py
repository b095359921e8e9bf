"""Diffusion U-Net in three dimensions: residual blocks that know the time, conditions beside the state."""

from __future__ import annotations

import math
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anymri.nn.wavelet import BANDS

__all__ = ["DiffusionUNet", "DiffusionUNetSizes", "embed_time"]

#: Longest period of the sines of a time, in steps.
LONGEST_PERIOD = 10_000


class DiffusionUNetSizes(Protocol):
    """Sizes of a `DiffusionUNet`, usually fields of a method's settings."""

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of every resolution; each halves the one before it."""

    @property
    def blocks(self) -> int:
        """Residual blocks of every resolution on the way down; one more on the way up."""

    @property
    def groups(self) -> int:
        """Groups of the group norms."""

    @property
    def zero_start(self) -> bool:
        """Whether the last convolution of every block and of the network starts at 0."""


def embed_time(time: Tensor, size: int) -> Tensor:
    """Cosines, then sines, of a time with periods from 2 pi to nearly 10,000 times that.

    Parameters
    ----------
    time : Tensor, shape (B,)
        In steps; need not be whole.
    size : int
        Even.

    Returns
    -------
    Tensor, shape (B, size)
    """
    rate = torch.exp(-math.log(LONGEST_PERIOD) * torch.arange(size // 2, device=time.device) / (size // 2))
    angle = time.float()[:, None] * rate
    return torch.cat([angle.cos(), angle.sin()], dim=1)


class _GroupNorm(nn.GroupNorm):
    """Group norm in 32 bits whatever comes in."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float()).to(x.dtype)


class _ResidualBlock(nn.Module):
    """Two convolutions with the time added between them; may halve or double the image before the first."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        time_width: int,
        sizes: DiffusionUNetSizes,
        resize: Literal["same", "halve", "double"] = "same",
    ) -> None:
        super().__init__()
        self.resize = resize
        self.norm_1 = _GroupNorm(sizes.groups, in_channels)
        self.conv_1 = nn.Conv3d(in_channels, out_channels, 3, padding=1)
        self.time = nn.Linear(time_width, out_channels)
        self.norm_2 = _GroupNorm(sizes.groups, out_channels)
        self.conv_2 = _last_convolution(out_channels, out_channels, sizes.zero_start)
        self.shortcut = nn.Conv3d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        inner = F.silu(self.norm_1(x))
        if self.resize == "halve":
            inner, x = F.avg_pool3d(inner, 2), F.avg_pool3d(x, 2)
        elif self.resize == "double":
            inner, x = (F.interpolate(part, scale_factor=2, mode="nearest") for part in (inner, x))
        inner = self.conv_1(inner) + self.time(F.silu(time))[..., None, None, None]
        return self.shortcut(x) + self.conv_2(F.silu(self.norm_2(inner)))


class DiffusionUNet(nn.Module):
    """U-Net of wavelet diffusion [1]_: bands of the state and of the conditions in, bands out.

    Parameters
    ----------
    conditions : int
        Images that are given beside the state.
    sizes : DiffusionUNetSizes
    classes : int, default=0
        Number of targets that one network tells apart; 0 = it is not told.

    Notes
    -----
    State and conditions have a first convolution each, whose results are added: together one over all channels, and
    started as that one.

    References
    ----------
    .. [1] Friedrich et al., "cWDM: Conditional Wavelet Diffusion Models for Cross-Modality 3D Medical Image Synthesis",
       2024, arXiv:2411.17203.
    """

    def __init__(self, conditions: int, sizes: DiffusionUNetSizes, classes: int = 0) -> None:
        super().__init__()
        widths = sizes.widths
        self.width, time_width = widths[0], 4 * widths[0]
        self.time = nn.Sequential(nn.Linear(widths[0], time_width), nn.SiLU(), nn.Linear(time_width, time_width))
        self.classes = nn.Embedding(classes, time_width) if classes else None
        self.state = nn.Conv3d((1 + conditions) * BANDS, widths[0], 3, padding=1)
        whole = self.state.weight.detach().unflatten(1, (1 + conditions, BANDS))
        self.state.weight = nn.Parameter(whole[:, 0].clone())
        self.conditions = nn.Parameter(whole[:, 1:].clone())
        self.down, self.middle, self.up = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        channels, skipped = widths[0], [widths[0]]
        for level, width in enumerate(widths):
            for _ in range(sizes.blocks):
                self.down.append(_ResidualBlock(channels, width, time_width, sizes))
                channels = width
                skipped.append(width)
            if level < len(widths) - 1:
                self.down.append(_ResidualBlock(width, width, time_width, sizes, "halve"))
                skipped.append(width)
        self.middle.extend(_ResidualBlock(channels, channels, time_width, sizes) for _ in range(2))
        for level in reversed(range(len(widths))):
            for _ in range(sizes.blocks + 1):
                self.up.append(_ResidualBlock(channels + skipped.pop(), widths[level], time_width, sizes))
                channels = widths[level]
            if level:
                self.up.append(_ResidualBlock(channels, channels, time_width, sizes, "double"))
        self.norm = _GroupNorm(sizes.groups, channels)
        self.last = _last_convolution(channels, BANDS, sizes.zero_start)

    def forward(self, state: Tensor, conditions: Tensor, time: Tensor, target: Tensor | None = None) -> Tensor:
        """Bands that the network makes of a state.

        Parameters
        ----------
        state : Tensor, shape (B, 8, D, H, W)
            Sizes are multiples of two to the number of resolutions less one.
        conditions : Tensor, shape (B, conditions, 8, D, H, W)
        time : Tensor, shape (B,)
            In steps.
        target : Tensor of int64, shape (B,), or None
            Class of every row, if the network has classes.

        Returns
        -------
        Tensor, shape (B, 8, D, H, W)
        """
        embedded = self.time(embed_time(time, self.width))
        if self.classes is not None:
            embedded = embedded + self.classes(target)
        x = self.state(state) + F.conv3d(conditions.flatten(1, 2), self.conditions.flatten(1, 2), padding=1)
        skipped = [x]
        for block in self.down:
            x = block(x, embedded)
            skipped.append(x)
        for block in self.middle:
            x = block(x, embedded)
        for block in self.up:
            if block.resize == "same":
                x = torch.cat([x, skipped.pop()], dim=1)
            x = block(x, embedded)
        return self.last(F.silu(self.norm(x)))


def _last_convolution(in_channels: int, out_channels: int, zero: bool) -> nn.Conv3d:
    conv = nn.Conv3d(in_channels, out_channels, 3, padding=1)
    if zero:
        nn.init.zeros_(conv.weight)
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv
