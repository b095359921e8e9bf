"""Brain frame: small copies of brain images, placed in the frame of an average brain with voxels of 4 mm.

The frame is found from the brain's surface alone, so it is the same for every sequence. A brain that is cut off or has
a large tumour still fits within a few millimetres, which is enough for tissue averages.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["STEP_MM", "Small", "align", "blocks", "overlap", "shrink", "to_frame"]

#: Voxel size of the small copies and of the frame, in mm.
STEP_MM = 4.0
#: Rounds of fitting, and the move in voxels at which it stops.
ROUNDS, STILL = 10, 0.02

Array = NDArray[np.float32]
#: From voxels of the frame to those of a small copy, shape (3, 4).
Affine = NDArray[np.float64]


class Small(NamedTuple):
    """Small copy of a brain image, cropped to the brain.

    Attributes
    ----------
    values : ndarray of float32, shape (D, H, W)
        Mean of the brain's voxels in every block, 0 where there are none.
    share : ndarray of float32, shape (D, H, W)
        Share of the block that is brain.
    step_mm : ndarray of float64, shape (3,)
    """

    values: Array
    share: Array
    step_mm: NDArray[np.float64]


def blocks(array: NDArray[Any], factor: list[int]) -> tuple[Array, Array]:
    """Mean of the non-zero voxels in every block of voxels, and their share of the block.

    Parameters
    ----------
    array : ndarray, shape (D, H, W)
    factor : list of int
        Voxels of a block along each axis.
    """
    padding = [(0, -size % times) for size, times in zip(array.shape, factor, strict=True)]
    if any(extra for _, extra in padding):
        array = np.pad(array, padding)
    voxels = np.float32(np.prod(factor))
    share = _block_sums(array != 0, factor) / voxels
    return _block_sums(array, factor) / voxels / np.maximum(share, 1e-6), share


def _block_sums(array: NDArray[Any], factor: list[int]) -> Array:
    """Sum of every block: whole slices are added along one axis after the other, several times faster than a mean."""
    for axis, times in enumerate(factor):
        first = (slice(None),) * axis
        parts = [array[(*first, slice(start, None, times))] for start in range(times)]
        array = parts[0].astype(np.float32)
        for part in parts[1:]:
            array += part
    return array


def shrink(array: NDArray[Any], spacing_mm: tuple[float, ...]) -> Small | None:
    """Small copy of an image with background 0; None of an empty one.

    Parameters
    ----------
    array : ndarray, shape (D, H, W)
    spacing_mm : tuple of float
        Along (D, H, W).
    """
    inside = array != 0
    box = []
    for axis in range(3):
        places = np.flatnonzero(inside.any(axis=tuple(other for other in range(3) if other != axis)))
        if len(places) == 0:
            return None
        box.append(slice(int(places[0]), int(places[-1]) + 1))
    factor = [max(1, round(STEP_MM / size)) for size in spacing_mm]
    values, share = blocks(array[tuple(box)], factor)
    return Small(values, share, np.array([size * times for size, times in zip(spacing_mm, factor, strict=True)]))


def align(small: Small, average: Array) -> Affine:
    """Affine map that lays the average brain on a brain.

    Parameters
    ----------
    small : Small
    average : ndarray of float32, shape (D, H, W)
        Share of brain in the frame.

    Notes
    -----
    Start: equal centre and spread along each axis. Then Gauss-Newton steps of all twelve numbers that make the blurred
    brain agree with the blurred average within 12 mm of the average's surface.
    """
    goal, spread = _moments(average)
    centre, width = _moments(small.share)
    affine = np.zeros((3, 4))
    affine[:, :3] = np.diag(width / spread)
    affine[:, 3] = centre - affine[:, :3] @ goal
    margin = 3
    image = ndimage.gaussian_filter(np.pad(small.share, margin), 0.8)
    slopes = np.gradient(image)
    target = ndimage.gaussian_filter(average, 0.8)
    inside = average > 0.5
    surface = ndimage.binary_dilation(inside, iterations=3) & ~ndimage.binary_erosion(inside, iterations=3)
    places = np.argwhere(surface)[::3].astype(np.float64)  # a third of them says as much
    wanted = target[surface][::3]
    middle, size = places.mean(axis=0), float(np.abs(places - places.mean(axis=0)).max())
    rows = np.concatenate([(places - middle) / size, np.ones((len(places), 1))], axis=1)
    numbers = np.concatenate([affine[:, :3] * size, (affine[:, 3] + affine[:, :3] @ middle)[:, None]], axis=1)
    for _ in range(ROUNDS):
        points = (rows @ numbers.T + margin).T
        rest = wanted - ndimage.map_coordinates(image, points, order=1)
        slope = np.stack([ndimage.map_coordinates(part, points, order=1) for part in slopes], axis=1)
        jacobian = (slope[:, :, None] * rows[:, None, :]).reshape(len(rows), 12)
        normal = jacobian.T @ jacobian
        move = np.linalg.solve(normal + np.diag(1e-3 * np.diag(normal) + 1e-3), jacobian.T @ rest)
        numbers = numbers + move.reshape(3, 4)
        if np.abs(move).max() < STILL:
            break
    linear = numbers[:, :3] / size
    return np.concatenate([linear, (numbers[:, 3] - linear @ middle)[:, None]], axis=1)


def to_frame(small: Small, affine: Affine, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Values of a small copy in the frame, and the share of brain there.

    Parameters
    ----------
    small : Small
    affine : ndarray of float64, shape (3, 4)
    shape : tuple of int
        Of the frame.
    """
    share, product = (
        ndimage.affine_transform(part, affine[:, :3], affine[:, 3], shape, np.float32, order=1, prefilter=False)
        for part in (small.share, small.values * small.share)
    )
    return product / np.maximum(share, 1e-6), share


def overlap(share: Array, average: Array) -> float:
    """Dice of a brain in the frame with the average brain."""
    one, other = share > 0.5, average > 0.5
    return float(2 * (one & other).sum() / max(1, one.sum() + other.sum()))


def _moments(share: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centre of mass and standard deviation along each axis, in voxels."""
    total = float(share.sum(dtype=np.float64))
    centre, spread = np.zeros(3), np.zeros(3)
    for axis in range(3):
        profile = share.sum(axis=tuple(other for other in range(3) if other != axis), dtype=np.float64) / total
        place = np.arange(len(profile))
        centre[axis] = (profile * place).sum()
        spread[axis] = np.sqrt((profile * (place - centre[axis]) ** 2).sum()) + 1e-6
    return centre, spread
