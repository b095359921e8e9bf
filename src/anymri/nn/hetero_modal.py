"""Encoder and decoder of the hetero-modal U-Nets (U-HeMIS and U-HVED)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anymri.moved import hand_on
from anymri.nn.blocks import PreActivationConv, ResizeRule, enlarge

__all__ = ["ModalityEncoder", "SkipDecoder", "encode_each", "init_he_normal"]


class ModalityEncoder(nn.Module):
    """Encoder of one modality: a pyramid of plain pre-activation convolutions.

    Parameters
    ----------
    widths : tuple of int
        Channels of each level, finest first.
    slope : float
        Slope of the leaky ReLU below 0.
    """

    def __init__(self, widths: tuple[int, ...], slope: float) -> None:
        super().__init__()
        self.slope = slope
        self.stem = nn.Conv3d(1, widths[0], kernel_size=1, bias=False)
        before = (widths[0], *widths[:-1])
        self.levels = nn.ModuleList(
            nn.Sequential(PreActivationConv(b, w, slope), PreActivationConv(w, w, slope))
            for b, w in zip(before, widths, strict=True)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features of every level, finest first, from ``image`` of shape (B, 1, D, H, W)."""
        x = F.leaky_relu(self.stem(image), self.slope)
        features: list[Tensor] = []
        for i, level in enumerate(self.levels):
            x = level(x if i == 0 else F.max_pool3d(x, 2))
            features.append(x)
        return features


class SkipDecoder(nn.Module):
    """Decoder that enlarges the coarsest features and joins the finer ones on the way.

    Parameters
    ----------
    skip_channels : tuple of int
        Channels of the features it gets, finest first.
    widths : tuple of int
        Channels of each level of the encoder, finest first; they set the decoder's own.
    out_channels : int
    slope : float
        Slope of the leaky ReLU below 0.
    resize : {"centred", "corner", "ends"}, default="centred"
        See `anymri.nn.blocks.enlarge`.
    """

    def __init__(
        self,
        skip_channels: tuple[int, ...],
        widths: tuple[int, ...],
        out_channels: int,
        slope: float,
        resize: ResizeRule = "centred",
    ) -> None:
        super().__init__()
        self.resize = resize
        levels, flow = [], skip_channels[-1]
        for i in reversed(range(len(widths) - 1)):
            inner, outer = widths[i], widths[i - 1] if i else widths[0] // 2
            levels.append(
                nn.Sequential(
                    PreActivationConv(flow + skip_channels[i], inner, slope), PreActivationConv(inner, outer, slope)
                )
            )
            flow = outer
        self.levels = nn.ModuleList(levels)
        self.last = nn.Conv3d(flow, out_channels, kernel_size=1, bias=False)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Map features, finest first, to (B, out_channels, D, H, W)."""
        flow = features[-1]
        for level, skip in zip(self.levels, reversed(features[:-1]), strict=True):
            flow = level(torch.cat([enlarge(flow, tuple(skip.shape[2:]), self.resize), skip], dim=1))
        return self.last(flow)


def init_he_normal(network: nn.Module) -> None:
    """Draw every kernel by He's normal rule, as the authors' framework (NiftyNet) does; biases stay."""
    for part in network.modules():
        if isinstance(part, nn.Conv3d):
            nn.init.kaiming_normal_(part.weight)


def encode_each(encoders: nn.ModuleDict, image: Tensor, available: Tensor) -> dict[str, list[Tensor]]:
    """Run the encoder of every modality that some row has, on all rows.

    Parameters
    ----------
    encoders : ModuleDict
        One `ModalityEncoder` for each modality, in channel order.
    image : Tensor, shape (B, M, *S)
        Finite; channels that are not available hold zeros.
    available : Tensor of bool, shape (B, M)
    """
    return {
        code: encoder(image[:, i : i + 1])
        for i, (code, encoder) in enumerate(encoders.items())
        if available[:, i].any()
    }


__getattr__ = hand_on(__name__)
