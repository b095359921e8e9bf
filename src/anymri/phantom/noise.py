"""Smooth random fields for shapes, textures and artifacts.

A field belongs to the imaged volume, not to a voxel grid: the same generator state gives the same field at 1 mm
and at 2 mm.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from anymri.phantom.settings import FIELD_OF_VIEW_MM, Grid

__all__ = ["smooth_noise"]

#: Standard deviation of a cubic B-spline expansion of white noise in three dimensions, mean over positions.
_BSPLINE_STD = (151 / 315) ** 1.5


def _weights(positions: np.ndarray, points: int) -> sparse.csr_matrix:
    """Cubic B-spline weights of `points` control points at `positions` (in control point units), one row each."""
    base = np.floor(positions).astype(int)
    t = positions - base
    values = np.stack(
        [(1 - t) ** 3 / 6, (3 * t**3 - 6 * t**2 + 4) / 6, (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6, t**3 / 6], axis=1
    )
    rows = np.repeat(np.arange(len(positions)), 4)
    columns = (base[:, None] + np.arange(4)).ravel()
    return sparse.csr_matrix((values.ravel(), (rows, columns)), shape=(len(positions), points))


def smooth_noise(generator: np.random.Generator, grid: Grid, scale_mm: float) -> np.ndarray:
    """Draw a smooth Gaussian field.

    Parameters
    ----------
    generator : numpy.random.Generator
    grid : Grid
        Where to evaluate the field.
    scale_mm : float
        Distance of the random control points: structures are about one to two times as wide.

    Returns
    -------
    ndarray of float64, shape (D, H, W)
        Mean 0, standard deviation about 1 (over draws).

    Notes
    -----
    A cubic B-spline through white noise. Sparse products keep the order of summation fixed, so that the result does
    not depend on the number of threads.
    """
    points = [int(np.ceil(size / scale_mm)) + 4 for size in FIELD_OF_VIEW_MM]
    field = generator.standard_normal(points)
    for axis in range(3):
        positions = grid.axes_mm()[axis].ravel() / scale_mm
        field = np.moveaxis(field, axis, 0)
        rest = field.shape[1:]
        field = _weights(positions, points[axis]) @ field.reshape(points[axis], -1)
        field = np.moveaxis(field.reshape(-1, *rest), 0, axis)
    return np.ascontiguousarray(field) / _BSPLINE_STD
