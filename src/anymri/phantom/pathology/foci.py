"""Many small lesions at once: where they sit and what each voxel is to the nearest of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from anymri.phantom.settings import Grid

__all__ = ["Focus", "draw_places", "paint_foci", "sphere_radius_mm"]


@dataclass(frozen=True)
class Focus:
    """An ellipsoid.

    Parameters
    ----------
    centre_mm : ndarray of float64, shape (3,)
        (D, H, W) from the start of the imaged volume.
    radii_mm : ndarray of float64, shape (3,)
        Half axes.
    axes : ndarray of float64, shape (3, 3)
        Direction of each half axis, one per row; by default D, H, W.
    """

    centre_mm: np.ndarray
    radii_mm: np.ndarray
    axes: np.ndarray = field(default_factory=lambda: np.eye(3))

    @property
    def radius_mm(self) -> float:
        """Radius of the sphere of the same volume."""
        return float(np.prod(self.radii_mm) ** (1 / 3))


def sphere_radius_mm(volume_ml: float | np.ndarray) -> float | np.ndarray:
    """Radius of a sphere."""
    return (np.asarray(volume_ml) * 1000 * 3 / (4 * np.pi)) ** (1 / 3)


def draw_places(generator: np.random.Generator, weight: np.ndarray, count: int) -> np.ndarray:
    """Draw voxels with replacement.

    Parameters
    ----------
    generator : numpy.random.Generator
    weight : ndarray of float64, shape (D, H, W)
        Relative probability, not negative.
    count : int

    Returns
    -------
    ndarray of int, shape (count, 3)
    """
    total = np.cumsum(weight.ravel())
    chosen = np.searchsorted(total, generator.uniform(size=count) * total[-1], side="right")
    return np.stack(np.unravel_index(np.minimum(chosen, total.size - 1), weight.shape), axis=1)


def paint_foci(grid: Grid, foci: Sequence[Focus], reach: float = 1.6) -> tuple[np.ndarray, np.ndarray]:
    """Distance of every voxel to the nearest focus, in units of its half axes.

    Parameters
    ----------
    grid : Grid
    foci : sequence of Focus
    reach : float
        How far from each to look; further away the distance is infinite.

    Returns
    -------
    score : ndarray of float64, shape (D, H, W)
        Below 1 inside.
    nearest : ndarray of int, shape (D, H, W)
        Number of the nearest focus; -1 out of reach of all.
    """
    score = np.full(grid.shape, np.inf)
    nearest = np.full(grid.shape, -1)
    axes_mm = [axis.ravel() for axis in grid.axes_mm()]
    for number, focus in enumerate(foci):
        extent = reach * focus.radii_mm.max() + grid.spacing_mm
        box = []
        for axis, middle in zip(axes_mm, focus.centre_mm, strict=True):
            low, high = np.searchsorted(axis, [middle - extent, middle + extent])
            box.append(slice(int(low), int(high)))
        offset = np.meshgrid(
            *(axis[part] - middle for axis, part, middle in zip(axes_mm, box, focus.centre_mm, strict=True)),
            indexing="ij",
        )
        scaled = np.tensordot(focus.axes / focus.radii_mm[:, None], np.stack(offset), axes=1)
        distance = np.sqrt((scaled**2).sum(axis=0))
        where = (box[0], box[1], box[2])
        closer = (distance < score[where]) & (distance < reach)
        score[where] = np.where(closer, distance, score[where])
        nearest[where] = np.where(closer, number, nearest[where])
    return score, nearest
