"""The residual group-norm U-Net of Myronenko, as ACN, SMU-Net and M3AE use it."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["GROUPS", "GroupNormDecoder", "GroupNormEncoder", "ResidualBlock"]

#: Groups of every group norm; widths are multiples of it.
GROUPS = 8


class ResidualBlock(nn.Module):
    """Twice group norm, ReLU and a 3x3x3 convolution, added to the input.

    Parameters
    ----------
    channels : int
        A multiple of `GROUPS`.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first_norm = nn.GroupNorm(GROUPS, channels)
        self.first = nn.Conv3d(channels, channels, 3, padding=1)
        self.second_norm = nn.GroupNorm(GROUPS, channels)
        self.second = nn.Conv3d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, *S) to the same shape."""
        # Neither the norms' results nor the map in between outlive their use: these are the largest maps there are.
        inner = self.second_norm(self.first(F.relu(self.first_norm(x), inplace=True)))
        return x + self.second(F.relu(inner, inplace=True))


class _EncoderLevel(nn.Module):
    def __init__(self, in_channels: int, channels: int, stride: int, blocks: int) -> None:
        super().__init__()
        self.arrive = nn.Conv3d(in_channels, channels, 3, stride, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)))


class GroupNormEncoder(nn.Module):
    """Levels of residual blocks; all but the first halve the size by a strided convolution.

    Parameters
    ----------
    in_channels : int
    widths : tuple of int
        Channels of each level, finest first, all multiples of `GROUPS`.
    blocks : tuple of int
        Residual blocks of each level.
    """

    def __init__(self, in_channels: int, widths: tuple[int, ...], blocks: tuple[int, ...]) -> None:
        super().__init__()
        before = (in_channels, *widths[:-1])
        self.levels = nn.ModuleList(
            _EncoderLevel(b, w, 2 if i else 1, n)
            for i, (b, w, n) in enumerate(zip(before, widths, blocks, strict=True))
        )

    def forward(self, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Features of every level, finest first, and what the first convolution of the two coarsest levels gave."""
        features: list[Tensor] = []
        arrivals: list[Tensor] = []
        x = image
        for level in self.levels:
            assert isinstance(level, _EncoderLevel)
            arrivals = [*arrivals[-1:], level.arrive(x)]
            x = level.blocks(arrivals[-1])
            features.append(x)
        return features, arrivals


class _DecoderLevel(nn.Module):
    def __init__(self, coarse: int, fine: int) -> None:
        super().__init__()
        self.shrink = nn.Conv3d(coarse, fine, 1)
        self.block = ResidualBlock(fine)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.block(F.interpolate(self.shrink(x), scale_factor=2.0) + skip)


class GroupNormDecoder(nn.Module):
    """Decoder of a `GroupNormEncoder`: channels shrink, voxels are repeated, the encoder's features are added.

    Parameters
    ----------
    widths : tuple of int
        Channels of each encoder level, finest first.
    out_channels : int
    """

    def __init__(self, widths: tuple[int, ...], out_channels: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(_DecoderLevel(widths[i + 1], widths[i]) for i in reversed(range(len(widths) - 1)))
        self.classifier = nn.Conv3d(widths[0], out_channels, 1)

    def features(self, bottom: Tensor, skips: list[Tensor]) -> list[Tensor]:
        """Features of every level, coarsest first, from the encoder's coarsest and its finer ones (finest first)."""
        x, features = bottom, []
        for level, skip in zip(self.levels, reversed(skips), strict=True):
            x = level(x, skip)
            features.append(x)
        return features

    def forward(self, bottom: Tensor, skips: list[Tensor]) -> Tensor:
        """Map the coarsest features and the finer levels' (finest first) to (B, out_channels, D, H, W)."""
        x = bottom
        for level, skip in zip(self.levels, reversed(skips), strict=True):
            x = level(x, skip)
        return self.classifier(x)
