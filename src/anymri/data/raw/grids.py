"""Sampling of one grid on another through a world matrix: the one place where raw studies are interpolated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anymri.data.geometry import Geometry

__all__ = ["covered", "one_thread", "sample", "upright_grid", "world_box"]

#: World matrix, shape (4, 4).
Matrix = NDArray[np.floating[Any]]


@contextmanager
def one_thread() -> Iterator[None]:
    """SimpleITK with one thread: sums over several differ in their last digits from run to run."""
    import SimpleITK as sitk

    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def sample(
    array: NDArray[Any],
    geometry: Geometry,
    target: Geometry,
    target_to_source: Matrix | None = None,
    *,
    order: int = 1,
    smooth: bool = True,
    outside: float = 0.0,
) -> NDArray[np.float32]:
    """Values of an array at the voxels of another grid.

    Parameters
    ----------
    array : ndarray, shape (D, H, W)
    geometry : Geometry
        Grid of `array`.
    target : Geometry
        Grid to fill.
    target_to_source : ndarray of float64, shape (4, 4), or None
        World position of the target to world position of the source; None = the same.
    order : int, default=1
        Of the spline; 1 = linear.
    smooth : bool, default=True
        Whether to blur first along axes where the target is coarser, against aliasing.
    outside : float, default=0.0
        Value where the source does not reach.

    Returns
    -------
    ndarray of float32, shape (D, H, W) of the target
    """
    world = np.eye(4) if target_to_source is None else target_to_source
    index = np.linalg.inv(geometry.affine_dhw) @ world @ target.affine_dhw
    values = np.asarray(array, np.float32)
    if smooth:
        # How many source voxels one step of the target spans along each source axis.
        steps = np.abs(index[:3, :3]).max(axis=1)
        sigmas = [0.35 * np.sqrt(max(0.0, step**2 - 1)) for step in steps]
        if max(sigmas) > 0.1:
            values = ndimage.gaussian_filter(values, sigmas, mode="nearest", truncate=3)
    return ndimage.affine_transform(
        values, index[:3, :3], index[:3, 3], target.shape_dhw, np.float32, order, "constant", outside, order > 1
    )


def covered(geometry: Geometry, target: Geometry, target_to_source: Matrix | None = None) -> NDArray[np.bool_]:
    """Voxels of a grid whose centres lie inside the slab of another grid.

    Parameters
    ----------
    geometry : Geometry
        Of the image that covers.
    target : Geometry
    target_to_source : ndarray of float64, shape (4, 4), or None

    Returns
    -------
    ndarray of bool, shape (D, H, W) of the target
    """
    world = np.eye(4) if target_to_source is None else target_to_source
    index = np.linalg.inv(geometry.affine_dhw) @ world @ target.affine_dhw
    axes = [np.arange(size, dtype=np.float32) for size in target.shape_dhw]
    inside = np.ones(target.shape_dhw, bool)
    for row, size in enumerate(geometry.shape_dhw):
        place = np.float32(index[row, 3]) + sum(
            np.float32(index[row, axis]) * axes[axis].reshape([-1 if axis == other else 1 for other in range(3)])
            for axis in range(3)
        )
        inside &= (place >= -0.5) & (place <= size - 0.5)
    return inside


def upright_grid(
    low_mm: Sequence[float] | NDArray[np.float64], high_mm: Sequence[float] | NDArray[np.float64], spacing_mm: float
) -> Geometry:
    """Grid along the world's axes that covers a box.

    Parameters
    ----------
    low_mm, high_mm : sequence of float
        Corners (x, y, z) of the box, RAS+; centres of the first voxel and of the last or the one before.
    spacing_mm : float
    """
    low, high = np.asarray(low_mm, float), np.asarray(high_mm, float)
    shape = np.maximum(2, np.floor((high - low) / spacing_mm + 1.0001).astype(int))
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = low
    return Geometry(affine, (int(shape[0]), int(shape[1]), int(shape[2])))


def world_box(geometry: Geometry) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lowest and highest world position (x, y, z) of a grid's corners."""
    corners = np.stack(np.meshgrid(*[(0, size - 1) for size in geometry.shape], indexing="ij"), -1).reshape(-1, 3)
    places = corners @ geometry.affine[:3, :3].T + geometry.affine[:3, 3]
    return places.min(axis=0), places.max(axis=0)
