"""Contrast enhancement between two T1 images of one head: vessels, sinuses, choroid plexus, some tumours."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anymri.data.appearance.brain_frame import blocks
from anymri.data.nifti import Volume

__all__ = ["SAME_CONTRAST", "enhancement"]

#: Voxel size of the compared copies, width of the local mean (standard deviation) and rim left out, in mm.
STEP_MM, LOCAL_MM, RIM_MM = 2.0, 12.0, 6.0
#: Enhancement of two images with the same contrast lies within this of 0; so does that of phantoms of 4 mm.
SAME_CONTRAST = 0.5
#: Least volume that both must show, in ml.
LEAST_ML = 100.0


def enhancement(plain: Volume, enhanced: Volume) -> float | None:
    """How far the brightest hundredth of the difference of two images lies further out than the darkest.

    Parameters
    ----------
    plain, enhanced : Volume
        T1 and T1c on one grid, brains with background 0.

    Returns
    -------
    float or None
        In interquartile ranges of the difference: 0 = alike, above 0 = `enhanced` has spots that `plain` lacks, below 0
        = the other way round; exchanging the images changes the sign. None where the images share too little.

    Notes
    -----
    Each image is taken minus its local mean, which removes bias fields, and in units of its own median deviation, which
    removes scale; nothing is fitted that treats the two differently.
    """
    spacing = plain.geometry.spacing_mm
    factor = [max(1, round(STEP_MM / size)) for size in spacing]
    step = [size * times for size, times in zip(spacing, factor, strict=True)]
    shown = (plain.array != 0) | (enhanced.array != 0)
    places = [np.flatnonzero(shown.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    if not len(places[0]):
        return None
    box = tuple(slice(int(part[0]), int(part[-1]) + 1) for part in places)
    small = [blocks(volume.array[box], factor) for volume in (plain, enhanced)]
    full = np.pad((small[0][1] > 0.9) & (small[1][1] > 0.9), 1)
    deep = ndimage.distance_transform_edt(full, sampling=step)[1:-1, 1:-1, 1:-1] > RIM_MM
    if deep.sum() * np.prod(step) < LEAST_ML * 1000:
        return None
    first, second = (_local(values, share, deep, step) for values, share in small)
    difference = second - first
    low, lower, middle, upper, high = np.percentile(difference, [1, 25, 50, 75, 99])
    return float((high + low - 2 * middle) / max(upper - lower, 1e-9))


def _local(values: NDArray[Any], share: NDArray[Any], deep: NDArray[np.bool_], step: list[float]) -> NDArray[Any]:
    """Deep voxels minus the local mean, in median deviations."""
    bottom, top = np.percentile(values[deep], [5, 95])
    middle = float(np.median(values[deep]))
    clipped = np.clip((values - middle) / max(float(top - bottom), 1e-9), -3, 6)
    inside = (share > 0.5).astype(np.float32)
    sigma = [LOCAL_MM / size for size in step]
    weight = ndimage.gaussian_filter(inside, sigma, truncate=2.5)
    mean = ndimage.gaussian_filter(clipped * inside, sigma, truncate=2.5) / np.maximum(weight, 1e-3)
    rest = (clipped - mean)[deep]
    return rest / max(float(np.median(np.abs(rest - np.median(rest)))), 1e-9)
