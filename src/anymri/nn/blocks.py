"""Normalisation, convolution blocks and resizing in three dimensions."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["InstanceNorm", "PreActivationConv", "ResizeRule", "enlarge"]

#: ``centred``: voxel centres of both grids share one frame (the default everywhere today). ``corner``: the first
#: voxels coincide instead, as TensorFlow 1 resized, which shifts the result by half a coarse voxel. ``ends``: the
#: outermost voxel centres coincide, which stretches the result by less than a voxel.
ResizeRule = Literal["centred", "corner", "ends"]


class InstanceNorm(nn.Module):
    """Instance normalisation with learned scale and shift that accepts a single voxel.

    Parameters
    ----------
    channels : int
    eps : float, default=1e-5
        Added to the variance.

    Notes
    -----
    `torch.nn.InstanceNorm3d` refuses inputs of one voxel while training; here such a channel becomes its shift.
    torch normalises instances only in the plain memory layout. One row in the channels-last layout, in which CPUs
    convolve bfloat16 fastest, is normalised as a batch of one instead: the same numbers without two copies.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x`` of shape (B, C, *S) over its spatial axes."""
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        if len(x) == 1 and not x.is_contiguous():
            return torch.batch_norm(x, weight, bias, None, None, True, 0.0, self.eps, False)
        return torch.instance_norm(x, weight, bias, None, None, True, 0.0, self.eps, False)


class PreActivationConv(nn.Module):
    """Instance norm, leaky ReLU, then a 3x3x3 convolution without bias.

    Parameters
    ----------
    in_channels, out_channels : int
    slope : float
        Slope of the leaky ReLU below 0.
    eps : float, default=1e-6
        Of the instance norm.
    """

    def __init__(self, in_channels: int, out_channels: int, slope: float, eps: float = 1e-6) -> None:
        super().__init__()
        self.slope = slope
        self.norm = InstanceNorm(in_channels, eps)
        self.conv = nn.Conv3d(in_channels, out_channels, kernel_size=3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, *S) to (B, out_channels, *S)."""
        return self.conv(F.leaky_relu(self.norm(x), self.slope))


def enlarge(x: Tensor, size: tuple[int, ...], rule: ResizeRule = "centred") -> Tensor:
    """Resize (B, C, *S) linearly to a size of about twice its own.

    Parameters
    ----------
    x : Tensor, shape (B, C, D, H, W)
    size : tuple of int
        (D, H, W) of the result.
    rule : {"centred", "corner", "ends"}, default="centred"
        How the two grids lie on each other. ``corner`` is defined for exact doubling only.

    Raises
    ------
    ValueError
        If ``corner`` is asked to do anything but double.
    """
    if rule != "corner":
        return F.interpolate(x, size=size, mode="trilinear", align_corners=rule == "ends")
    if tuple(size) != tuple(2 * n for n in x.shape[2:]):
        raise ValueError(f"rule 'corner' doubles sizes; cannot go from {tuple(x.shape[2:])} to {tuple(size)}")
    # n + 1 coarse voxels, the last one repeated, span exactly 2 n + 1 fine ones; the last fine one is surplus.
    padded = F.pad(x, (0, 1, 0, 1, 0, 1), mode="replicate")
    fine = F.interpolate(padded, size=tuple(n + 1 for n in size), mode="trilinear", align_corners=True)
    return fine[:, :, : size[0], : size[1], : size[2]]
