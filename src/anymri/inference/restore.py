"""Resample results from the model's grid to the grid and orientation of the input."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from anymri.data.geometry import Geometry
from anymri.data.resample import resample_to

__all__ = ["restore_image", "restore_probability"]

Array = np.ndarray[Any, Any]
#: Share of a native voxel's surroundings that must be brain for a synthesised value to be defined there.
MIN_SHARE = 1e-3


def restore_probability(probability: Tensor, native: Geometry) -> Array:
    """Probability on the native grid, still in (D, H, W) order.

    Parameters
    ----------
    probability : Tensor of float32, shape (C, D, H, W)
        On the model's grid, which covers the same box.
    native : Geometry
        Grid of the input.

    Returns
    -------
    float32 array, shape (C, *native.shape_dhw)
    """
    return np.asarray(resample_to(probability, native.shape_dhw))


def restore_image(image: Tensor, brain: Tensor, native_brain: Array) -> Array:
    """Synthesised image on the native grid, 0 outside the native brain, not darkened at its edge.

    Parameters
    ----------
    image : Tensor of float32, shape (D, H, W)
        z-scores on the model's grid.
    brain : Tensor of bool, shape (D, H, W)
        Where `image` is defined.
    native_brain : bool array, shape (*native)
        Voxels to fill, in (D, H, W) order.

    Returns
    -------
    float32 array, shape of `native_brain`
        Rounded to float16's values, the precision of the cache.
    """
    share = np.asarray(resample_to(brain.float(), native_brain.shape))
    total = np.asarray(resample_to(image.where(brain, image.new_zeros(())), native_brain.shape))
    inside = native_brain & (share > MIN_SHARE)
    restored = np.divide(total, share, out=np.zeros_like(total), where=inside)
    return restored.astype(np.float16).astype(np.float32)
