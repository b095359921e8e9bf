"""Bias field correction (N4)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anymri.data.geometry import Geometry
from anymri.data.raw.grids import one_thread, sample, upright_grid, world_box

__all__ = ["correct_bias", "foreground"]

#: Voxel size on which the field is estimated, in mm; it is smooth over centimetres.
SHRUNK_MM = 4.0
#: Iterations at each of N4's resolutions.
ITERATIONS = (30, 20, 10)


def foreground(image: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Voxels that are head (or brain), not air: brighter than Otsu's threshold of the darker half of the histogram.

    Parameters
    ----------
    image : ndarray of float32, shape (D, H, W)
    """
    from skimage.filters import threshold_otsu

    top = float(np.percentile(image, 99.5))
    clipped = np.clip(image, 0, max(top, 1e-6))
    bright = float(threshold_otsu(clipped, nbins=128))
    # Bright fluid or fat would pull one threshold up until tissue counts as air.
    return image > 0.5 * bright


@one_thread()
def correct_bias(array: NDArray[np.float32], geometry: Geometry) -> tuple[NDArray[np.float32], float]:
    """Divide an image by its estimated bias field.

    Parameters
    ----------
    array : ndarray of float32, shape (D, H, W)
    geometry : Geometry

    Returns
    -------
    corrected : ndarray of float32, shape (D, H, W)
        0 stays 0.
    strength : float
        Standard deviation of the field's logarithm inside the head.

    Notes
    -----
    N4 (Tustison et al., IEEE TMI 29(6), 2010) of SimpleITK, estimated on a grid of 4 mm with one thread, so that it
    repeats. The field is linear between the voxels of that grid.
    """
    import SimpleITK as sitk

    low, high = world_box(geometry)
    grid = upright_grid(low, high, SHRUNK_MM)
    small = np.maximum(sample(array, geometry, grid), 0)
    inside = foreground(small)
    if inside.sum() < 1000:
        return array, 0.0
    image = sitk.GetImageFromArray(small + np.float32(1e-3) * small.max())
    region = sitk.GetImageFromArray(inside.astype(np.uint8))
    for part in (image, region):
        part.SetSpacing([SHRUNK_MM] * 3)
    filtered = sitk.N4BiasFieldCorrectionImageFilter()
    filtered.SetMaximumNumberOfIterations(list(ITERATIONS))
    filtered.Execute(image, region)
    field = sitk.GetArrayFromImage(filtered.GetLogBiasFieldAsImage(image)).astype(np.float32)
    field -= field[inside].mean()
    full = sample(field, grid, geometry, smooth=False)
    return (array * np.exp(-full)).astype(np.float32), float(field[inside].std())
