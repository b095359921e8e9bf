"""The voxel grid of an image file and its relation to the program's (D, H, W) axes.

Axis 0 (D) runs from inferior to superior, axis 1 (H) from posterior to anterior, axis 2 (W) from left to right. Of
an oblique grid the nearest permutation and mirroring of its axes is taken; nothing is interpolated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.orientations import aff2axcodes, io_orientation
from numpy.typing import NDArray

__all__ = ["Geometry", "from_native", "to_native"]


@dataclass(frozen=True, eq=False)
class Geometry:
    """Native voxel grid of an image.

    Parameters
    ----------
    affine : ndarray of float64, shape (4, 4)
        Native voxel index (i, j, k) to world position in mm, RAS+ (NIfTI convention).
    shape : tuple of int
        Native shape (i, j, k).
    header : nibabel header or None, default=None
        Header of the file it came from; written files take over its forms, codes and units exactly.
    orientation_known : bool, default=True
        Whether the file says how its axes lie in the patient. If not, the affine is a guess, and nobody may name a
        side of the image left or right.
    """

    affine: NDArray[np.float64]
    shape: tuple[int, int, int]
    header: Any = field(default=None, repr=False)
    orientation_known: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "affine", np.asarray(self.affine, dtype=np.float64))
        object.__setattr__(self, "shape", tuple(int(size) for size in self.shape))

    @property
    def axes_dhw(self) -> tuple[int, int, int]:
        """Native axis that becomes D, H and W."""
        axes = np.argsort(io_orientation(self.affine)[:, 0])
        return int(axes[2]), int(axes[1]), int(axes[0])

    @property
    def orientation(self) -> str:
        """Direction in which each native axis grows, e.g. ``"LPS"``."""
        return "".join(aff2axcodes(self.affine))

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size in mm along (D, H, W)."""
        sizes = voxel_sizes(self.affine)
        d, h, w = self.axes_dhw
        return float(sizes[d]), float(sizes[h]), float(sizes[w])

    @property
    def shape_dhw(self) -> tuple[int, int, int]:
        """Shape (D, H, W)."""
        d, h, w = self.axes_dhw
        return self.shape[d], self.shape[h], self.shape[w]

    @property
    def affine_dhw(self) -> NDArray[np.float64]:
        """Index (d, h, w) to world position in mm, shape (4, 4)."""
        orientation = io_orientation(self.affine)
        step = np.zeros((4, 4))
        step[3, 3] = 1
        for row, axis in enumerate(self.axes_dhw):
            forward = orientation[axis, 1] > 0
            step[axis, row] = 1 if forward else -1
            step[axis, 3] = 0 if forward else self.shape[axis] - 1
        return self.affine @ step

    def matches(self, other: Geometry, tolerance: float = 1e-3) -> bool:
        """Whether two grids have their voxels, within `tolerance` (mm), at the same places in the world.

        The order in which a file stores its axes, and their directions, do not matter: arrays (D, H, W) of the two
        lie voxel on voxel.
        """
        if self.shape_dhw != other.shape_dhw:
            return False
        return bool(np.allclose(self.affine_dhw, other.affine_dhw, rtol=0, atol=tolerance))

    def with_shape(self, shape_dhw: Sequence[int]) -> Geometry:
        """Grid of another shape over the same box: the outer edges of the first and last voxels coincide.

        Parameters
        ----------
        shape_dhw : sequence of int
            New shape (D, H, W).
        """
        shape = list(self.shape)
        for axis, size in zip(self.axes_dhw, shape_dhw, strict=True):
            shape[axis] = int(size)
        factor = np.array(self.shape) / np.array(shape)
        scale = np.diag([*factor, 1.0])
        scale[:3, 3] = (factor - 1) / 2  # centre of the new first voxel, in old voxels
        grid = Geometry(self.affine @ scale, (shape[0], shape[1], shape[2]))
        return replace(grid, orientation_known=self.orientation_known)

    def with_spacing(self, spacing_mm: Sequence[float]) -> Geometry:
        """Grid over the same box with the whole number of voxels that comes nearest to a spacing.

        Parameters
        ----------
        spacing_mm : sequence of float
            Wanted spacing along (D, H, W). The spacing reached differs by less than half a voxel over the whole
            axis (155 voxels of 1 mm at 2 mm become 78 of 1.987 mm).
        """
        pairs = zip(self.shape_dhw, self.spacing_mm, spacing_mm, strict=True)
        return self.with_shape([max(1, int(size * old / new + 0.5)) for size, old, new in pairs])


def from_native(array: NDArray[Any], affine: NDArray[np.float64]) -> NDArray[Any]:
    """Bring a native array (..., i, j, k) to (..., D, H, W); a view, nothing is copied.

    Parameters
    ----------
    array : ndarray, shape (..., i, j, k)
    affine : ndarray, shape (4, 4)
        Native voxel index to world mm.
    """
    geometry = Geometry(affine, array.shape[-3:])
    signs = io_orientation(geometry.affine)[:, 1]
    leading = array.ndim - 3
    array = np.flip(array, tuple(leading + axis for axis in range(3) if signs[axis] < 0))
    return array.transpose(*range(leading), *(leading + axis for axis in geometry.axes_dhw))


def to_native(array: NDArray[Any], geometry: Geometry) -> NDArray[Any]:
    """Bring an array (..., D, H, W) back to native order (..., i, j, k); a view, the inverse of `from_native`.

    Raises
    ------
    ValueError
        If the array is not on the grid of `geometry`.
    """
    if array.shape[-3:] != geometry.shape_dhw:
        raise ValueError(f"array of shape {array.shape[-3:]} is not on the grid {geometry.shape_dhw}")
    signs = io_orientation(geometry.affine)[:, 1]
    leading = array.ndim - 3
    back = np.argsort(geometry.axes_dhw)
    array = array.transpose(*range(leading), *(leading + int(axis) for axis in back))
    return np.flip(array, tuple(leading + axis for axis in range(3) if signs[axis] < 0))
