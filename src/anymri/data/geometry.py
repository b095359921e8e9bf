"""The voxel grid of an image file and its relation to the program's (D, H, W) axes.

Axis 0 (D) runs from inferior to superior, axis 1 (H) from posterior to anterior, axis 2 (W) from left to right. Of
an oblique grid the nearest permutation and mirroring of its axes is taken, where two are about equally near the one
that `anymri.data.upright` chooses; nothing is interpolated.
"""

from __future__ import annotations

from dataclasses import dataclass, field
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
    turn : ndarray of float64, shape (3, 3), or None, default=None
        Rotation of the world by multiples of 90 degrees after which the nearest axes are those to read along; None =
        no turn. The affine stays the header's.
    """

    affine: NDArray[np.float64]
    shape: tuple[int, int, int]
    header: Any = field(default=None, repr=False)
    orientation_known: bool = True
    turn: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "affine", np.asarray(self.affine, dtype=np.float64))
        object.__setattr__(self, "shape", tuple(int(size) for size in self.shape))

    @property
    def oriented(self) -> NDArray[np.float64]:
        """Affine whose nearest axes are read along, shape (4, 4)."""
        if self.turn is None:
            return self.affine
        world = np.eye(4)
        world[:3, :3] = self.turn
        return world @ self.affine

    @property
    def axes_dhw(self) -> tuple[int, int, int]:
        """Native axis that becomes D, H and W."""
        axes = np.argsort(io_orientation(self.oriented)[:, 0])
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
    def forward_dhw(self) -> tuple[bool, bool, bool]:
        """Whether the native axis grows as D, H and W do."""
        signs = io_orientation(self.oriented)[:, 1]
        d, h, w = self.axes_dhw
        return bool(signs[d] > 0), bool(signs[h] > 0), bool(signs[w] > 0)

    @property
    def affine_dhw(self) -> NDArray[np.float64]:
        """Index (d, h, w) to world position in mm, shape (4, 4)."""
        step = np.zeros((4, 4))
        step[3, 3] = 1
        for row, (axis, forward) in enumerate(zip(self.axes_dhw, self.forward_dhw, strict=True)):
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
    signs = io_orientation(geometry.oriented)[:, 1]
    leading = array.ndim - 3
    back = np.argsort(geometry.axes_dhw)
    array = array.transpose(*range(leading), *(leading + int(axis) for axis in back))
    return np.flip(array, tuple(leading + axis for axis in range(3) if signs[axis] < 0))
