"""Encoders of one modality each with dilated residual blocks, dual attention over their maps, and a decoder.

The common network of Zhou and colleagues, as far as their papers describe it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anymri.nn.blocks import InstanceNorm, enlarge
from anymri.nn.plain_unet import ConvNormAct

__all__ = ["DilatedEncoder", "DilatedResidual", "DualAttention", "FusedDecoder"]


class DilatedResidual(nn.Module):
    """Twice instance norm, leaky ReLU 0.01 and a 3x3x3 convolution, of dilation 2 and 4, added to the input.

    Parameters
    ----------
    channels : int
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first_norm = InstanceNorm(channels)
        self.first = nn.Conv3d(channels, channels, 3, padding=2, dilation=2)
        self.second_norm = InstanceNorm(channels)
        self.second = nn.Conv3d(channels, channels, 3, padding=4, dilation=4)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, *S) to the same shape."""
        inner = self.first(F.leaky_relu(self.first_norm(x), 0.01))
        return x + self.second(F.leaky_relu(self.second_norm(inner), 0.01))


class DilatedEncoder(nn.Module):
    """Levels of one convolution and one dilated residual block; all but the first halve the size by a stride.

    Parameters
    ----------
    in_channels : int
    widths : tuple of int
        Channels of each level, finest first.
    """

    def __init__(self, in_channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            nn.Sequential(ConvNormAct(before, width, stride=(2, 2, 2) if level else (1, 1, 1)), DilatedResidual(width))
            for level, (before, width) in enumerate(zip((in_channels, *widths[:-1]), widths, strict=True))
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features of every level, finest first, of (B, in_channels, *S)."""
        features = []
        for level in self.levels:
            x = level(x)
            features.append(x)
        return features


class DualAttention(nn.Module):
    """Attention over the channels of all modalities' maps plus attention over their voxels, reduced to one map.

    Parameters
    ----------
    modalities : int
    width : int
        Channels of each modality's map, and of the result.
    """

    def __init__(self, modalities: int, width: int) -> None:
        super().__init__()
        joined, hidden = modalities * width, modalities * max(width // 2, 1)
        self.squeeze = nn.Linear(joined, hidden)
        self.excite = nn.Linear(hidden, joined)
        self.places = nn.Conv3d(joined, 1, 1)
        self.reduce = nn.Conv3d(joined, width, 1)

    def attend(self, x: Tensor) -> Tensor:
        """Sum of the two weighted copies of (B, modalities * width, *S)."""
        channels = self.excite(F.relu(self.squeeze(x.mean(dim=(2, 3, 4))))).sigmoid()
        return x * channels[..., None, None, None] + x * self.places(x).sigmoid()

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Map one (B, width, *S) of each modality to (B, width, *S)."""
        return self.reduce(self.attend(torch.cat(maps, dim=1)))


class FusedDecoder(nn.Module):
    """Fusion of the encoders' maps at every level, and a way up that joins them.

    Parameters
    ----------
    modalities : int
    widths : tuple of int
        Channels of each level, finest first.
    """

    def __init__(self, modalities: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.fusions = nn.ModuleList(DualAttention(modalities, width) for width in widths)
        upward = list(reversed(range(len(widths) - 1)))
        self.shrink = nn.ModuleList(nn.Conv3d(widths[i + 1], widths[i], 3, padding=1) for i in upward)
        self.join = nn.ModuleList(nn.Conv3d(2 * widths[i], widths[i], 1) for i in upward)
        self.blocks = nn.ModuleList(DilatedResidual(widths[i]) for i in upward)

    def forward(self, pyramids: list[list[Tensor]]) -> Tensor:
        """Finest features (B, widths[0], *S) from every modality's levels, finest first."""
        fused = [fusion(list(maps)) for fusion, maps in zip(self.fusions, zip(*pyramids, strict=True), strict=True)]
        x = fused[-1]
        for shrink, join, block, skip in zip(self.shrink, self.join, self.blocks, reversed(fused[:-1]), strict=True):
            x = block(join(torch.cat([shrink(enlarge(x, tuple(skip.shape[2:]))), skip], dim=1)))
        return x
