"""Coverage: slice thickness, field of view and position."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from anymri.phantom.anatomy import rotation

__all__ = ["drop_slices", "move_rigidly", "thick_slices"]


def drop_slices(image: np.ndarray, slices: np.ndarray, axis: int) -> np.ndarray:
    """Set slices (numbers along `axis`) to zero."""
    image = image.copy()
    np.moveaxis(image, axis, 0)[slices] = 0
    return image


def move_rigidly(image: np.ndarray, angles_degrees: np.ndarray, shift_mm: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Turn an image about its middle, then shift it; linear interpolation, 0 comes in.

    Parameters
    ----------
    image : ndarray, shape (D, H, W)
    angles_degrees : ndarray, shape (3,)
        About the axes D, H, W.
    shift_mm : ndarray, shape (3,)
        Along D, H, W.
    spacing_mm : float
    """
    matrix = rotation(np.radians(angles_degrees))
    middle = (np.array(image.shape) - 1) / 2
    offset = middle - matrix.T @ (middle + np.asarray(shift_mm) / spacing_mm)
    return ndimage.affine_transform(image, matrix.T, offset, order=1, mode="constant", prefilter=False)


def thick_slices(image: np.ndarray, axis: int, slice_mm: float, spacing_mm: float, gap_mm: float = 0.0) -> np.ndarray:
    """Average an image over slices of a thickness, then interpolate linearly back to its grid.

    Parameters
    ----------
    image : ndarray, shape (D, H, W)
    axis : int
        Slice direction.
    slice_mm, spacing_mm : float
        Slice thickness and voxel size; a thickness not above the voxel size changes nothing.
    gap_mm : float, default=0
        Between slices; nothing is measured there.
    """
    if slice_mm <= spacing_mm:
        return image
    smooth = ndimage.uniform_filter1d(image, max(1, round(slice_mm / spacing_mm)), axis=axis, mode="nearest")
    count = max(2, int(image.shape[axis] * spacing_mm / (slice_mm + gap_mm)))
    centres = (np.arange(count) + 0.5) * image.shape[axis] / count - 0.5
    nearest = np.clip(np.round(centres).astype(int), 0, image.shape[axis] - 1)
    position = np.clip(np.interp(np.arange(image.shape[axis]), nearest, np.arange(count)), 0, count - 1)
    lower = np.minimum(position.astype(int), count - 2)
    weight = (position - lower).reshape([-1 if a == axis else 1 for a in range(3)])
    slices = np.take(smooth, nearest, axis=axis)
    return np.take(slices, lower, axis=axis) * (1 - weight) + np.take(slices, lower + 1, axis=axis) * weight
