"""Change of voxel size along (D, H, W), without any change of orientation.

Convention: two grids over the same box have the same outer *edges* (the faces of the first and last voxels), not
the same first and last voxel centres; output voxel ``i`` of ``n`` spans ``[i, i + 1] * N / n`` in input voxels. So
nothing shifts, a stack that does not divide evenly is stretched by less than half a voxel in all, and going there
and back ends on exactly the grid one came from. Along an axis that gets coarser every output voxel is the mean of
the volume it covers (this is the anti-aliasing); along an axis that gets finer values are interpolated linearly
between voxel centres and held constant beyond the outermost ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from anymri.data.geometry import Geometry

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Resampled", "resample", "resample_image", "resample_label", "resample_to"]

ArrayOrTensor = TypeVar("ArrayOrTensor", NDArray[Any], "Tensor")

#: Share of a voxel that brain (or any label) has to fill; the margin absorbs rounding, so that ties count as filled.
HALF = 0.5 - 1e-4


class Resampled(NamedTuple):
    """An array on its new grid.

    Attributes
    ----------
    array : ndarray, shape (..., D, H, W)
    brain : ndarray of bool, shape (D, H, W), or None
    geometry : Geometry
        The grid.
    """

    array: NDArray[Any]
    brain: NDArray[np.bool_] | None
    geometry: Geometry


def resample(
    array: NDArray[Any],
    brain: NDArray[np.bool_] | None,
    from_geometry: Geometry,
    to: Geometry | Sequence[float],
    order: int = 1,
) -> Resampled:
    """Bring an array to another spacing or another grid over the same box.

    Parameters
    ----------
    array : ndarray, shape (..., D, H, W)
    brain : ndarray of bool, shape (D, H, W), or None
        Where the image is defined; voxels outside then do not darken the rim. None: everywhere.
    from_geometry : Geometry
        Grid of `array`.
    to : Geometry or sequence of float
        Target grid, or spacing along (D, H, W) in mm.
    order : {0, 1}, default=1
        1 for intensities and probabilities, 0 for label maps.

    Returns
    -------
    Resampled

    Raises
    ------
    ValueError
        If the array is not on `from_geometry`, the target covers another box, or `order` is neither 0 nor 1.
    """
    target = to if isinstance(to, Geometry) else from_geometry.with_spacing(to)
    if array.shape[-3:] != from_geometry.shape_dhw:
        raise ValueError(f"array of shape {array.shape[-3:]} is not on the grid {from_geometry.shape_dhw}")
    if not from_geometry.with_shape(target.shape_dhw).matches(target):
        raise ValueError("the two grids do not cover the same box; only the voxel size can be changed")
    if order not in (0, 1):
        raise ValueError(f"order {order} is neither 0 (labels) nor 1 (values)")
    if order == 0:
        return Resampled(resample_label(array, target.shape_dhw), None, target)
    if brain is None:
        return Resampled(resample_to(array, target.shape_dhw), None, target)
    image, new_brain = resample_image(array, brain, target.shape_dhw)
    return Resampled(image, new_brain, target)


def resample_image(
    image: NDArray[np.float32], brain: NDArray[np.bool_], shape: Sequence[int]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Resample an image from its brain voxels only, so that background does not darken the brain's edge.

    Parameters
    ----------
    image : ndarray of float32, shape (D, H, W)
    brain : ndarray of bool, shape (D, H, W)
    shape : sequence of int
        New shape (D, H, W).

    Returns
    -------
    image : ndarray of float32
        New image; 0 outside the brain.
    brain : ndarray of bool
        Voxels at least half filled by brain.
    """
    if tuple(shape) == image.shape:
        return np.where(brain, image, np.float32(0)), brain
    share = resample_to(brain.astype(np.float32), shape)
    total = resample_to(np.where(brain, image, np.float32(0)), shape)
    inside = share >= HALF
    return np.divide(total, share, out=np.zeros_like(total), where=inside), inside


def resample_label(label: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    """Resample a label map by majority.

    A voxel is foreground if at least half of it is; it then gets the label with the largest share. Deciding on the
    foreground first keeps the outer contour in place where several labels meet.

    Parameters
    ----------
    label : ndarray of int, shape (D, H, W)
    shape : sequence of int
        New shape (D, H, W).
    """
    values = [value for value in np.unique(label) if value != 0]
    if tuple(shape) == label.shape or not values:
        return label.copy() if tuple(shape) == label.shape else np.zeros(tuple(shape), label.dtype)
    shares = np.stack([resample_to((label == value).astype(np.float32), shape) for value in values])
    winner = np.asarray(values, dtype=label.dtype)[shares.argmax(axis=0)]
    return np.where(shares.sum(axis=0) >= HALF, winner, label.dtype.type(0))


def resample_to(array: ArrayOrTensor, shape: Sequence[int]) -> ArrayOrTensor:
    """Resample the last three axes to another shape over the same box.

    Leading axes (channels) are independent of each other. A value that is not finite spreads along the axes
    through it, inside its own channel only.

    Parameters
    ----------
    array : ndarray or Tensor, shape (..., D, H, W)
        Floating point.
    shape : sequence of int
        New shape (D, H, W).

    Returns
    -------
    ndarray or Tensor of float32, shape (..., *shape)
        Of the kind that was given; on the same device.
    """
    import torch

    if isinstance(array, torch.Tensor):
        return _resample_tensor(array, shape)
    tensor = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
    return _resample_tensor(tensor, shape).numpy()


def _resample_tensor(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """Apply one small matrix per axis, those that shrink the array first."""
    import torch

    tensor = tensor.float()
    sizes = list(zip(range(-3, 0), tensor.shape[-3:], shape, strict=True))
    for axis, old, new in sorted(sizes, key=lambda size: size[2] / size[1]):
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


def _axis_weights(old: int, new: int) -> NDArray[np.float32]:
    """Weights (new, old) of the input voxels in each output voxel; every row sums to 1."""
    edges = np.arange(new + 1) * old / new
    if new < old:
        cells = np.arange(old)
        overlap = np.minimum(edges[1:, None], cells + 1) - np.maximum(edges[:-1, None], cells)
        weights = np.clip(overlap, 0, None)
    else:
        centre = np.clip((edges[1:] + edges[:-1]) / 2 - 0.5, 0, old - 1)
        weights = np.clip(1 - np.abs(centre[:, None] - np.arange(old)), 0, None)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
