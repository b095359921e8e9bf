"""Plain convolutional U-Net as nnU-Net builds it: convolution, instance norm, leaky ReLU; strides instead of pools."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anymri.nn.blocks import InstanceNorm

__all__ = ["Axes", "ConvNormAct", "PlainUNet", "two_convolutions"]

#: One number for each of D, H, W.
Axes = tuple[int, int, int]


class ConvNormAct(nn.Module):
    """Convolution, instance norm with scale and shift, leaky ReLU 0.01.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel : tuple of int, default=(3, 3, 3)
        (D, H, W); odd.
    stride : tuple of int, default=(1, 1, 1)

    Notes
    -----
    The convolution's bias exists for published weights only: the norm removes it, so it is not added.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: Axes = (3, 3, 3), stride: Axes = (1, 1, 1)) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, kernel, stride, cast(Axes, tuple(k // 2 for k in kernel)))
        self.norm = InstanceNorm(out_channels)
        nn.init.kaiming_normal_(self.conv.weight, a=0.01)
        nn.init.zeros_(cast(Tensor, self.conv.bias))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, *S) to (B, out_channels, *S / stride)."""
        x = F.conv3d(x, self.conv.weight, None, self.conv.stride, cast(Axes, self.conv.padding))
        return F.leaky_relu(self.norm(x), 0.01)


def two_convolutions(in_channels: int, out_channels: int, kernel: Axes, stride: Axes) -> nn.Sequential:
    """Two `ConvNormAct` in a row, the stride in the first."""
    return nn.Sequential(
        ConvNormAct(in_channels, out_channels, kernel, stride), ConvNormAct(out_channels, out_channels, kernel)
    )


class PlainUNet(nn.Module):
    """Plain convolutional U-Net; its classifiers are for those who call it to apply.

    Parameters
    ----------
    in_channels, out_channels : int
    widths : tuple of int
        Channels of each level, finest first.
    kernels, strides : tuple of (int, int, int)
        Of each level's convolutions, and of its first one.
    every_level : bool, default=True
        Whether every level of the way up has a classifier, or the finest alone.
    bias : bool, default=True
        Whether enlarging layers and classifiers add a constant; nnU-Net's first version has none.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        widths: tuple[int, ...],
        kernels: tuple[Axes, ...],
        strides: tuple[Axes, ...],
        every_level: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            two_convolutions(before, width, kernel, stride)
            for before, width, kernel, stride in zip((in_channels, *widths[:-1]), widths, kernels, strides, strict=True)
        )
        # From the coarsest level to the finest.
        upward = list(reversed(range(len(widths) - 1)))
        self.enlarge = nn.ModuleList(
            nn.ConvTranspose3d(widths[i + 1], widths[i], strides[i + 1], strides[i + 1], bias=bias) for i in upward
        )
        self.up = nn.ModuleList(two_convolutions(2 * widths[i], widths[i], kernels[i], (1, 1, 1)) for i in upward)
        levels = upward if every_level else [0]
        self.heads = nn.ModuleList(nn.Conv3d(widths[i], out_channels, 1, bias=bias) for i in levels)
        for layer in (*self.enlarge, *self.heads):
            nn.init.kaiming_normal_(layer.get_parameter("weight"), a=0.01)
            if bias:
                nn.init.zeros_(layer.get_parameter("bias"))

    def encode(self, x: Tensor) -> list[Tensor]:
        """Features of every level of the way down, finest first; the last are the bottleneck's."""
        skips = []
        for level in self.down:
            x = level(x)
            skips.append(x)
        return skips

    def decode(self, skips: list[Tensor]) -> list[Tensor]:
        """Features of every level of the way up, coarsest first, from those of the way down."""
        x, features = skips[-1], []
        for enlarge, level, skip in zip(self.enlarge, self.up, reversed(skips[:-1]), strict=True):
            x = level(torch.cat([enlarge(x), skip], dim=1))
            features.append(x)
        return features

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features of every level of the way up, coarsest first."""
        return self.decode(self.encode(x))
