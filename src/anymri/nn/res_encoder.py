"""Encoder, decoder and stacked convolutions of RobustSeg and the networks built on it, e.g. RFNet."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anymri.nn.fusion import spread

__all__ = [
    "ConvNormAct",
    "DecoderLevel",
    "SLOPE",
    "PaddingRule",
    "PyramidDecoder",
    "ResidualEncoder",
    "ResidualUNet",
    "StackedConv",
    "StackedConvNormAct",
    "double",
    "keep_available",
    "normalise_instance",
    "pad",
]

#: What lies outside the volume for a convolution: the mirrored inside, or zeros.
PaddingRule = Literal["reflect", "zeros"]

#: Slope of every leaky ReLU of this family below 0.
SLOPE = 0.2


def normalise_instance(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Instance norm without scale and shift of ``x`` (B, C, *S); a single voxel becomes 0."""
    if len(x) == 1 and not x.is_contiguous():
        # The same numbers without copies to the plain memory layout; see `anymri.nn.blocks.InstanceNorm`.
        return torch.batch_norm(x, None, None, None, None, True, 0.0, eps, False)
    return torch.instance_norm(x, None, None, None, None, True, 0.0, eps, False)


def double(x: Tensor, times: int = 1) -> Tensor:
    """Enlarge (B, C, *S) linearly to ``2 ** times`` its size; the outermost voxel centres of both grids coincide."""
    return x if times == 0 else F.interpolate(x, scale_factor=2.0**times, mode="trilinear", align_corners=True)


def pad(x: Tensor, margin: int, rule: PaddingRule = "reflect") -> Tensor:
    """Put `margin` voxels around (B, C, *S), mirrored or 0."""
    if margin == 0:
        return x
    if rule == "zeros":
        return F.pad(x, [margin] * 6)
    # A single voxel is its own mirror image; torch refuses to mirror it.
    return F.pad(x, [margin] * 6, mode="reflect" if min(x.shape[2:]) > margin else "replicate")


class ConvNormAct(nn.Module):
    """Convolution, optional dropout, instance norm without scale and shift, leaky ReLU 0.2.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size : int, default=3
        Odd.
    stride : int, default=1
    padding : {"reflect", "zeros"}, default="reflect"
    dropout : float, default=0.0
        Probability with which a voxel of the convolution's result is dropped in training.

    Notes
    -----
    The convolution's bias is kept for the weights files of the authors' code, and not added: the norm removes any
    constant. It gets no gradient.
    """

    #: Added to the norm's variance; an instance may have its own.
    eps: float = 1e-5

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        padding: PaddingRule = "reflect",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.padding: PaddingRule = padding
        self.dropout = dropout
        self.conv = nn.Conv3d(in_channels, out_channels, kernel_size, stride)
        nn.init.kaiming_normal_(self.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, *S) to (B, out_channels, *S / stride)."""
        x = pad(x, self.conv.kernel_size[0] // 2, self.padding)
        x = F.dropout(F.conv3d(x, self.conv.weight, None, self.conv.stride), self.dropout, self.training)
        return F.leaky_relu(normalise_instance(x, self.eps), SLOPE)


class StackedConv(nn.Module):
    """Convolution without bias over the stacked features of all modalities, one named part per modality.

    Parameters
    ----------
    codes : tuple of str
        Modality codes.
    in_channels : int
        Channels of one modality.
    out_channels : int
    kernel_size : int, default=1
        Odd.
    padding : {"reflect", "zeros"}, default="reflect"

    Notes
    -----
    Equivalent to one convolution per modality, summed; modalities absent from the whole batch are skipped, and weights
    are named by modality instead of by place in the stack.
    """

    def __init__(
        self,
        codes: tuple[str, ...],
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        padding: PaddingRule = "reflect",
    ) -> None:
        super().__init__()
        self.padding: PaddingRule = padding
        self.margin = kernel_size // 2
        self.convs = nn.ModuleDict(
            {code: nn.Conv3d(in_channels, out_channels, kernel_size, bias=False) for code in codes}
        )
        for conv in self.convs.values():
            nn.init.normal_(
                conv.get_parameter("weight"), std=math.sqrt(2 / (len(codes) * in_channels * kernel_size**3))
            )

    def forward(self, kept: dict[str, Tensor]) -> Tensor:
        """Map features by modality code, each (B, in_channels, *S) and 0 where absent, to (B, out_channels, *S)."""
        parts = [self.convs[code](pad(feature, self.margin, self.padding)) for code, feature in kept.items()]
        return sum(parts[1:], parts[0])


class StackedConvNormAct(StackedConv):
    """`StackedConv`, instance norm without scale and shift, leaky ReLU 0.2; the bias is kept as in `ConvNormAct`.

    Parameters
    ----------
    codes : tuple of str
    in_channels, out_channels : int
    kernel_size : int, default=1
    padding : {"reflect", "zeros"}, default="reflect"
    """

    #: Added to the norm's variance; an instance may have its own.
    eps: float = 1e-5

    def __init__(
        self,
        codes: tuple[str, ...],
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        padding: PaddingRule = "reflect",
    ) -> None:
        super().__init__(codes, in_channels, out_channels, kernel_size, padding)
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, kept: dict[str, Tensor]) -> Tensor:
        """Map features by modality code, each (B, in_channels, *S) and 0 where absent, to (B, out_channels, *S)."""
        return F.leaky_relu(normalise_instance(super().forward(kept), self.eps), SLOPE)


class _ResidualStage(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, stride: int, padding: PaddingRule, dropout: float) -> None:
        super().__init__()
        self.first = ConvNormAct(in_channels, out_channels, 3, stride, padding)
        self.second = ConvNormAct(out_channels, out_channels, 3, 1, padding, dropout)
        self.third = ConvNormAct(out_channels, out_channels, 3, 1, padding)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return x + self.third(self.second(x))


class ResidualEncoder(nn.Module):
    """Encoder of one modality: one residual stage per level, all but the first halving the size.

    Parameters
    ----------
    widths : tuple of int
        Channels of each level, finest first.
    padding : {"reflect", "zeros"}, default="reflect"
    dropout : float, default=0.0
        Inside every stage.
    in_channels : int, default=1
        Of the image; a plain U-Net's encoder takes more than one.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        padding: PaddingRule = "reflect",
        dropout: float = 0.0,
        in_channels: int = 1,
    ) -> None:
        super().__init__()
        before = (in_channels, *widths[:-1])
        self.stages = nn.ModuleList(
            _ResidualStage(b, w, 2 if i else 1, padding, dropout)
            for i, (b, w) in enumerate(zip(before, widths, strict=True))
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features of every level, finest first, from an image of shape (B, in_channels, D, H, W)."""
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class DecoderLevel(nn.Module):
    """One step from a coarse level to the next finer one.

    Parameters
    ----------
    coarse, fine : int
        Channels of the two levels.
    padding : {"reflect", "zeros"}, default="reflect"
    """

    def __init__(self, coarse: int, fine: int, padding: PaddingRule = "reflect") -> None:
        super().__init__()
        self.shrink = ConvNormAct(coarse, fine, 3, 1, padding)
        self.join = ConvNormAct(2 * fine, fine, 3, 1, padding)
        self.out = ConvNormAct(fine, fine, 1)

    def arrive(self, x: Tensor) -> Tensor:
        """Map (B, coarse, *S) to (B, fine, *2S)."""
        return self.shrink(double(x))

    def merge(self, first: Tensor, second: Tensor) -> Tensor:
        """Join two features of shape (B, fine, *S)."""
        return self.out(self.join(torch.cat([first, second], dim=1)))


class PyramidDecoder(nn.Module):
    """Decoder with skips from every level of a `ResidualEncoder`.

    Parameters
    ----------
    widths : tuple of int
        Channels of each level, finest first.
    out_channels : int
    padding : {"reflect", "zeros"}, default="reflect"
    """

    def __init__(self, widths: tuple[int, ...], out_channels: int, padding: PaddingRule = "reflect") -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            DecoderLevel(widths[i + 1], widths[i], padding) for i in reversed(range(len(widths) - 1))
        )
        self.classifier = nn.Conv3d(widths[0], out_channels, kernel_size=1)
        nn.init.kaiming_normal_(self.classifier.weight)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Map features, finest first, to (B, out_channels, D, H, W)."""
        flow = features[-1]
        for level, skip in zip(self.levels, reversed(features[:-1]), strict=True):
            assert isinstance(level, DecoderLevel)
            flow = level.merge(level.arrive(flow), skip)
        return self.classifier(flow)


class ResidualUNet(nn.Module):
    """A `ResidualEncoder` of several channels and its `PyramidDecoder`.

    Parameters
    ----------
    in_channels : int
    widths : tuple of int
        Channels of each level, finest first.
    out_channels : int
    """

    def __init__(self, in_channels: int, widths: tuple[int, ...], out_channels: int) -> None:
        super().__init__()
        self.encoder = ResidualEncoder(widths, in_channels=in_channels)
        self.decoder = PyramidDecoder(widths, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, D, H, W) to (B, out_channels, D, H, W)."""
        return self.decoder(self.encoder(x))


def keep_available(
    features: dict[str, list[Tensor]], available: Tensor, codes: tuple[str, ...]
) -> list[dict[str, Tensor]]:
    """Features of the modalities that some row shows, 0 in rows that do not, for every level.

    Parameters
    ----------
    features : dict of str to list of Tensor
        Levels, finest first, by modality code.
    available : Tensor of bool, shape (B, M)
    codes : tuple of str
        Modality of each column of `available`.
    """
    shown = {code: available[:, i] for i, code in enumerate(codes) if available[:, i].any()}
    count = len(next(iter(features.values())))
    kept: list[dict[str, Tensor]] = [{} for _ in range(count)]
    for code, row in shown.items():
        for level, feature in zip(kept, features[code], strict=True):
            # where, not times: what an absent modality holds (NaN included) must not get through.
            level[code] = feature if bool(row.all()) else torch.where(spread(row, feature.ndim), feature, 0.0)
    return kept
