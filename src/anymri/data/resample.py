"""Change of voxel size along (D, H, W), without any change of orientation.

Both grids are lattices (`anymri.data.lattice`) along the same axes. Along an axis that gets coarser every output voxel
is the mean of the volume it covers (this is the anti-aliasing); along an axis that gets finer values are interpolated
linearly between voxel centres. What lies outside the given voxels counts as 0. So a value depends on the voxels around
it and on where they lie to each other, never on how far the arrays go on: what is to be resampled is cut to its own box
first, and the sums, down to their rounding, are the same in an array with more or less empty space.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from anymri.data.lattice import NATIVE, Lattice, brain_box

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["resample_image", "resample_label", "transfer"]

ArrayOrTensor = TypeVar("ArrayOrTensor", NDArray[Any], "Tensor")
#: ``[start, stop)`` along (D, H, W), shape (2, 3).
Box = NDArray[np.int64]

#: Share of a voxel that brain (or any label) has to fill; the margin absorbs rounding, so that ties count as filled.
HALF = 0.5 - 1e-4


def resample_image(
    image: NDArray[np.float32], brain: NDArray[np.bool_], lattice: Lattice, shape: Sequence[int]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Resample an image from its brain voxels only, so that background does not darken the brain's edge.

    Parameters
    ----------
    image : ndarray of float32, shape (D, H, W)
        On the native grid.
    brain : ndarray of bool, shape (D, H, W)
    lattice : Lattice
    shape : sequence of int
        New shape (D, H, W).

    Returns
    -------
    image : ndarray of float32
        New image; 0 outside the brain.
    brain : ndarray of bool
        Voxels at least half filled by brain.
    """
    if lattice == NATIVE:
        return np.where(brain, image, np.float32(0)), brain
    found, inside = np.zeros(tuple(shape), np.float32), np.zeros(tuple(shape), bool)
    box = brain_box(brain)
    target = lattice.cover(box)
    part = brain[_slices(box)]
    share = transfer(part.astype(np.float32), NATIVE, box[0], lattice, target)
    total = transfer(np.where(part, image[_slices(box)], np.float32(0)), NATIVE, box[0], lattice, target)
    filled = share >= HALF
    found[_slices(target)] = np.divide(total, share, out=np.zeros_like(total), where=filled)
    inside[_slices(target)] = filled
    return found, inside


def resample_label(label: NDArray[Any], lattice: Lattice, shape: Sequence[int]) -> NDArray[Any]:
    """Resample a label map by majority.

    A voxel is foreground if at least half of it is; it then gets the label with the largest share. Deciding on the
    foreground first keeps the outer contour in place where several labels meet.

    Parameters
    ----------
    label : ndarray of int, shape (D, H, W)
        On the native grid.
    lattice : Lattice
    shape : sequence of int
        New shape (D, H, W).
    """
    if lattice == NATIVE:
        return label.copy()
    found = np.zeros(tuple(shape), label.dtype)
    values = [value for value in np.unique(label) if value != 0]
    if not values:
        return found
    box = brain_box(label != 0)
    target, part = lattice.cover(box), label[_slices(box)]
    shares = np.stack([transfer((part == v).astype(np.float32), NATIVE, box[0], lattice, target) for v in values])
    winner = np.asarray(values, dtype=label.dtype)[shares.argmax(axis=0)]
    found[_slices(target)] = np.where(shares.sum(axis=0) >= HALF, winner, label.dtype.type(0))
    return found


def transfer(
    values: ArrayOrTensor, source: Lattice, start: Sequence[int] | NDArray[np.int64], target: Lattice, box: Box
) -> ArrayOrTensor:
    """Values of one lattice at the voxels of another.

    Leading axes (channels) are independent of each other. A value that is not finite spreads along the axes
    through it, inside its own channel only.

    Parameters
    ----------
    values : ndarray or Tensor, shape (..., D, H, W)
        Floating point; everything around them counts as 0.
    source : Lattice
        Of `values`.
    start : sequence of int
        Voxel of `source` that is the first of `values`.
    target : Lattice
        Of the same native grid.
    box : ndarray of int, shape (2, 3)
        Voxels of `target` to fill, ``[start, stop)``.

    Returns
    -------
    ndarray or Tensor of float32, shape (..., *box)
        Of the kind that was given; on the same device.
    """
    import torch

    tensor = values if isinstance(values, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(values, np.float32))
    axes = []
    for axis in range(3):
        # In native voxels from the source's anchor on: numbers that no empty space changes.
        old = (int(start[axis]) - source.place[axis]) * source.step[axis]
        new = (target.anchor[axis] - source.anchor[axis]) + (int(box[0, axis]) - target.place[axis]) * target.step[axis]
        sizes = tensor.shape[axis - 3], int(box[1, axis] - box[0, axis])
        axes.append((axis - 3, (old, source.step[axis], sizes[0]), (new, target.step[axis], sizes[1])))
    moved = _multiply(tensor.float(), axes)
    return moved if isinstance(values, torch.Tensor) else moved.numpy()


def _slices(box: Box) -> tuple[slice, ...]:
    return tuple(slice(int(start), int(stop)) for start, stop in box.T)


#: First edge, length of a voxel and number of voxels along one axis.
Axis = tuple[float, float, int]


def _multiply(tensor: Tensor, axes: list[tuple[int, Axis, Axis]]) -> Tensor:
    """Apply one small matrix per axis, those that shrink the array first."""
    import torch

    for axis, old, new in sorted(axes, key=lambda one: one[2][2] / max(1, one[1][2])):
        if old == new:
            continue
        weights = torch.from_numpy(_axis_weights(old, new)).to(tensor.device)
        if axis == -1:
            tensor = tensor @ weights.T
        elif axis == -2:
            tensor = weights @ tensor
        else:
            tensor = (weights @ tensor.flatten(-2)).unflatten(-1, tensor.shape[-2:])
    return tensor


def _axis_weights(old: Axis, new: Axis) -> NDArray[np.float32]:
    """Weights (new, old) of the input voxels in each output voxel; a row sums to 1 where inputs cover the output."""
    (old_edge, old_step, old_size), (new_edge, new_step, new_size) = old, new
    starts = old_edge + np.arange(old_size) * old_step
    edges = (new_edge + np.arange(new_size) * new_step)[:, None]
    if new_step > old_step:
        overlap = np.minimum(edges + new_step, starts + old_step) - np.maximum(edges, starts)
        return (np.clip(overlap, 0, None) / new_step).astype(np.float32)
    apart = np.abs(edges + new_step / 2 - starts - old_step / 2) / old_step
    return np.clip(1 - apart, 0, None).astype(np.float32)
