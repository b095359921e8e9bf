"""Working lattice: voxels of exactly the asked spacing, placed by the brain that is given and nothing else.

An array's extent is an accident of how a file was stored, so no voxel is placed by it. Along each axis the *middle* of
a sequence is the place up to which half of its brain lies: empty space around cannot move it, a stray bright voxel
hardly can, and if the study is resampled or shifted by part of a voxel it goes along. It is rounded to eighths of a
native voxel, so that sequences whose brains differ by a few voxels nearly always share it. The anchor of a study is the
middle of its sequences (see `choose_anchor`), and a voxel of the lattice begins there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anymri.data.geometry import Geometry

__all__ = ["NATIVE", "Lattice", "brain_box", "brain_middle", "choose_anchor"]

Voxel = tuple[int, int, int]
Place = tuple[float, float, float]
#: Middles are rounded to this part of a voxel.
PARTS = 8
#: Part of a voxel that rounding may move an edge by.
ROUNDING = 1e-6


class Lattice(NamedTuple):
    """Lattice of voxels along the axes (D, H, W) of a native grid; the default is that of the grid itself.

    Attributes
    ----------
    anchor : tuple of float
        Place in native voxels, counted from the outer edge of the first one.
    place : tuple of int
        Voxel of the lattice that begins at `anchor`.
    step : tuple of float
        Native voxels from one voxel of the lattice to the next.
    """

    anchor: Place = (0.0, 0.0, 0.0)
    place: Voxel = (0, 0, 0)
    step: Place = (1.0, 1.0, 1.0)

    @classmethod
    def around(cls, anchor: Sequence[float], step: Sequence[float], native_shape: Sequence[int]) -> Lattice:
        """Lattice whose voxel 0 is the last to begin no later than the native grid.

        Parameters
        ----------
        anchor : sequence of float
        step : sequence of float
        native_shape : sequence of int
            (D, H, W); the lattice covers it from voxel 0 on, see `shape`.
        """
        # Along an axis that keeps its spacing nothing is interpolated.
        anchor = [np.floor(value) if size == 1 else value for value, size in zip(anchor, step, strict=True)]
        place = np.ceil(np.array(anchor) / step - ROUNDING).astype(int)
        return cls(_place(anchor), _voxel(place), _place(step))

    def shape(self, native_shape: Sequence[int]) -> Voxel:
        """Fewest voxels (D, H, W) from voxel 0 on that cover a native grid."""
        return _voxel(self.cover(np.array([[0, 0, 0], native_shape]))[1])

    def cover(self, box: NDArray[Any]) -> NDArray[np.int64]:
        """Voxels that a box on the native grid touches; both are ``[start, stop)``, shape (2, 3)."""
        start, stop = (box - np.array(self.anchor)) / self.step
        edges = np.stack([np.floor(start + ROUNDING), np.ceil(stop - ROUNDING)])
        return edges.astype(np.int64) + np.array(self.place)

    def grid(self, native: Geometry, shape: Sequence[int]) -> Geometry:
        """Where voxels 0 to `shape` (D, H, W) lie in the world, in the orientation of the native grid."""
        if self == NATIVE and tuple(shape) == native.shape_dhw:
            return native
        scale, sizes = np.eye(4), list(native.shape)
        axes = zip(native.axes_dhw, native.forward_dhw, self.anchor, self.place, self.step, shape, strict=True)
        for axis, forward, anchor, place, step, size in axes:
            first = anchor - place * step  # outer edge of voxel 0, in native voxels from the first one's edge on
            edge = first if forward else native.shape[axis] - first - size * step
            scale[axis, axis], scale[axis, 3], sizes[axis] = step, edge + step / 2 - 0.5, int(size)
        return replace(native, affine=native.affine @ scale, shape=_voxel(sizes), header=None)


NATIVE = Lattice()


def brain_box(brain: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Bounding box of a mask (D, H, W), shape (2, 3), ``[start, stop)``; all 0 for an empty one."""
    box = np.zeros((2, 3), np.int64)
    for axis in range(3):
        filled = np.flatnonzero(brain.any(axis=tuple(other for other in range(3) if other != axis)))
        if filled.size:
            box[:, axis] = filled[0], filled[-1] + 1
    return box


def brain_middle(brain: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Place (3,) up to which, along each axis, half of a mask (D, H, W) lies, in voxels; 0 of an empty one."""
    middle = np.zeros(3)
    for axis in range(3):
        count = brain.sum(axis=tuple(other for other in range(3) if other != axis), dtype=np.int64)
        total = count.cumsum()
        if total[-1]:
            voxel = int(np.searchsorted(2 * total, total[-1]))
            share = 1 - (total[voxel] - total[-1] / 2) / count[voxel]
            middle[axis] = voxel + np.round(share * PARTS) / PARTS
    return middle


def choose_anchor(middles: NDArray[np.float64]) -> Place:
    """Median (D, H, W) of the middles (N, 3) of the sequences that are given, the lower one of two."""
    return _place(np.sort(np.asarray(middles), axis=0)[(len(middles) - 1) // 2])


def _voxel(values: Sequence[int] | NDArray[np.int64]) -> Voxel:
    d, h, w = (int(value) for value in values)
    return d, h, w


def _place(values: Sequence[float] | NDArray[np.float64]) -> Place:
    d, h, w = (float(value) for value in values)
    return d, h, w
