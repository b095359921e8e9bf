"""Decoder of maps that are fused already, and the divergence between places, of the Zhou papers' networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anymri.nn.blocks import InstanceNorm, enlarge
from anymri.nn.dilated_encoders import DilatedResidual

__all__ = ["DualAttentionDecoder", "position_divergence"]


def _conv_norm_act(in_channels: int, out_channels: int) -> nn.Sequential:
    conv = nn.Conv3d(in_channels, out_channels, 3, padding=1, bias=False)
    return nn.Sequential(conv, InstanceNorm(out_channels), nn.LeakyReLU(0.01))


class DualAttentionDecoder(nn.Module):
    """Decoder that enlarges the coarsest fused map and joins the finer ones on the way; several may share the maps.

    Parameters
    ----------
    widths : tuple of int
        Channels of each level, finest first.
    out_channels : int
    """

    def __init__(self, widths: tuple[int, ...], out_channels: int) -> None:
        super().__init__()
        self.shrink, self.join = nn.ModuleList(), nn.ModuleList()
        flow = widths[-1]
        for width in reversed(widths[:-1]):
            self.shrink.append(_conv_norm_act(flow, width))
            self.join.append(DilatedResidual(2 * width))
            flow = 2 * width
        self.last = nn.Conv3d(flow, out_channels, 1)

    def forward(self, fused: list[Tensor]) -> Tensor:
        """Map fused features, finest first, to (B, out_channels, D, H, W)."""
        x = fused[-1]
        for shrink, join, skip in zip(self.shrink, self.join, reversed(fused[:-1]), strict=True):
            x = join(torch.cat([shrink(enlarge(x, tuple(skip.shape[2:]))), skip], dim=1))
        return self.last(x)


def position_divergence(actual: Tensor, expressed: Tensor) -> Tensor:
    """Divergence KL(P || Q) of where two features are large, of every row, mean over channels.

    Parameters
    ----------
    actual, expressed : Tensor, shape (B, C, *S)
        P and Q are their softmax over the places of each channel.

    Returns
    -------
    Tensor, shape (B,)
        0 where they are equal up to a constant for each channel.
    """
    p, q = (x.float().contiguous().flatten(2).log_softmax(dim=2) for x in (actual, expressed))
    return F.kl_div(q, p, reduction="none", log_target=True).sum(dim=2).mean(dim=1)
