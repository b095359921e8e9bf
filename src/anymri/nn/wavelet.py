"""Haar wavelets of volumes: one level, eight bands, orthonormal, as wavelet diffusion and wavelet flows use them."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["BANDS", "LOW_DIVISOR", "from_bands", "haar", "inverse_haar", "to_bands"]

#: Bands of one level in three dimensions.
BANDS = 8
#: What the low band is divided by, so that images in [0, 1] have bands of about that size (Friedrich et al.,
#: arXiv:2411.17203).
LOW_DIVISOR = 3.0
#: Places of the halves of every axis after the two channels axes (B, C, D/2, 2, H/2, 2, W/2, 2).
_HALVES = (3, 5, 7)


def haar(image: Tensor) -> Tensor:
    """Haar transform of every channel.

    Parameters
    ----------
    image : Tensor, shape (B, C, D, H, W)
        Of even size.

    Returns
    -------
    Tensor, shape (B, C, 8, D/2, H/2, W/2)
        Band ``4 d + 2 h + w``, where d, h and w are 0 for the low and 1 for the high half along (D, H, W). The high one
        is the first voxel of a pair minus the second.
    """
    size = [half for length in image.shape[2:] for half in (length // 2, 2)]
    bands = _turn(image.reshape(*image.shape[:2], *size))
    return bands.permute(0, 1, 3, 5, 7, 2, 4, 6).flatten(2, 4)


def inverse_haar(bands: Tensor) -> Tensor:
    """Undo `haar`.

    Parameters
    ----------
    bands : Tensor, shape (B, C, 8, D/2, H/2, W/2)

    Returns
    -------
    Tensor, shape (B, C, D, H, W)
    """
    pairs = _turn(bands.unflatten(2, (2, 2, 2)).permute(0, 1, 5, 2, 6, 3, 7, 4))
    return pairs.reshape(*bands.shape[:2], *(2 * length for length in bands.shape[3:]))


def to_bands(image: Tensor) -> Tensor:
    """`haar` with the low band divided by `LOW_DIVISOR`; shapes as there."""
    bands = haar(image)
    return torch.cat([bands[:, :, :1] / LOW_DIVISOR, bands[:, :, 1:]], dim=2)


def from_bands(bands: Tensor) -> Tensor:
    """Undo `to_bands`; shapes as in `inverse_haar`."""
    return inverse_haar(torch.cat([bands[:, :, :1] * LOW_DIVISOR, bands[:, :, 1:]], dim=2))


def _turn(pairs: Tensor) -> Tensor:
    """Sums and differences of the pairs along every axis over the root of two, which is its own inverse."""
    for axis in _HALVES:
        first, second = pairs.unbind(axis)
        pairs = torch.stack([first + second, first - second], dim=axis) * 0.5**0.5
    return pairs
