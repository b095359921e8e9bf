"""Pre-norm encoder and decoder levels of mmFormer and the networks built on it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anymri.nn.res_encoder import SLOPE, PaddingRule, StackedConv, double, normalise_instance, pad

__all__ = ["PreNormConv", "PreNormDecoderLevel", "PreNormEncoder", "StackedPreNormConv"]


class _BiasedConv(nn.Module):
    """Padded convolution; a lost bias is kept for the number of parameters and authors' weights, and not added."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int, padding: PaddingRule, lost_bias: bool
    ) -> None:
        super().__init__()
        self.padding: PaddingRule = padding
        self.conv = nn.Conv3d(in_channels, out_channels, kernel_size, stride, bias=not lost_bias)
        nn.init.kaiming_normal_(self.conv.weight)
        if lost_bias:
            self.lost_bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, *S) to (B, out_channels, *S / stride)."""
        return self.conv(pad(x, self.conv.kernel_size[0] // 2, self.padding))


class PreNormConv(_BiasedConv):
    """Instance norm without scale and shift, leaky ReLU 0.2, convolution.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size : int, default=3
        Odd.
    stride : int, default=1
    padding : {"reflect", "zeros"}, default="reflect"
    lost_bias : bool, default=True
        Whether only instance norms read the result, which remove a bias.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        padding: PaddingRule = "reflect",
        lost_bias: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, lost_bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, *S) to (B, out_channels, *S / stride)."""
        return super().forward(F.leaky_relu(normalise_instance(x), SLOPE))


class StackedPreNormConv(StackedConv):
    """`PreNormConv` of kernel size 1 over the stacked features of all modalities, with a lost bias.

    Parameters
    ----------
    codes : tuple of str
    in_channels, out_channels : int
        Of one modality, and of the result.
    """

    def __init__(self, codes: tuple[str, ...], in_channels: int, out_channels: int) -> None:
        super().__init__(codes, in_channels, out_channels)
        self.lost_bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, kept: dict[str, Tensor]) -> Tensor:
        """Map features by modality code, each (B, in_channels, *S) and 0 where absent, to (B, out_channels, *S)."""
        return super().forward({code: F.leaky_relu(normalise_instance(x), SLOPE) for code, x in kept.items()})


class _Stage(nn.Module):
    def __init__(
        self, in_channels: int, out_channels: int, finest: bool, last: bool, padding: PaddingRule = "reflect"
    ) -> None:
        super().__init__()
        self.first = (
            _BiasedConv(in_channels, out_channels, 3, 1, padding, lost_bias=True)
            if finest
            else PreNormConv(in_channels, out_channels, 3, 2, padding, lost_bias=not last)
        )
        self.second = PreNormConv(out_channels, out_channels, padding=padding)
        self.third = PreNormConv(out_channels, out_channels, padding=padding, lost_bias=not last)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return x + self.third(self.second(x))


class PreNormEncoder(nn.Module):
    """Encoder of one modality: one residual stage per level, all but the first halving the size.

    Parameters
    ----------
    widths : tuple of int
        Channels of each level, finest first.
    padding : {"reflect", "zeros"}, default="reflect"

    Notes
    -----
    The coarsest level's result may be read by anything, the others' by layers that normalise first: their biases
    are lost.
    """

    def __init__(self, widths: tuple[int, ...], padding: PaddingRule = "reflect") -> None:
        super().__init__()
        before, last = (1, *widths[:-1]), len(widths) - 1
        self.stages = nn.ModuleList(
            _Stage(b, w, finest=i == 0, last=i == last, padding=padding)
            for i, (b, w) in enumerate(zip(before, widths, strict=True))
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features of every level, finest first, from an image of shape (B, 1, D, H, W)."""
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class PreNormDecoderLevel(nn.Module):
    """One step from a coarse level to the next finer one.

    Parameters
    ----------
    coarse, fine : int
        Channels of the two levels.
    last_bias : bool
        Whether the last convolution's bias has an effect, e.g. on a classifier.
    padding : {"reflect", "zeros"}, default="reflect"
    """

    def __init__(self, coarse: int, fine: int, last_bias: bool, padding: PaddingRule = "reflect") -> None:
        super().__init__()
        self.shrink = PreNormConv(coarse, fine, padding=padding)
        self.join = PreNormConv(2 * fine, fine, padding=padding)
        self.out = PreNormConv(fine, fine, 1, lost_bias=not last_bias)

    def arrive(self, x: Tensor) -> Tensor:
        """Map (B, coarse, *S) to (B, fine, *2S)."""
        return self.shrink(double(x))

    def merge(self, first: Tensor, second: Tensor) -> Tensor:
        """Join two features of shape (B, fine, *S)."""
        return self.out(self.join(torch.cat([first, second], dim=1)))
