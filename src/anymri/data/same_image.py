"""Same-image check of two files: copied, rescaled, cast to another type, cropped, padded or stored in another order.

Two acquisitions, even of one sequence, differ by their noise; with the best of scanners that is several per cent of
the spread of grey values, and T1-weighted images before and after contrast agent differ by more than half of it. What
is left between two copies after a straight line was fitted is rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anymri.types import UserError

if TYPE_CHECKING:  # reading a volume imports this module
    from anymri.data.nifti import Volume

__all__ = ["refuse_same", "same_content"]

Array = NDArray[Any]
Box = tuple[slice, ...]

#: Largest residual of copies: rms as a share of the standard deviation, and of the coarser of the two grey steps.
_NOISE, _STEP = 0.05, 0.4
#: Whatever the grey steps, a larger share is no rounding any more (two sequences of one brain: 0.3 and more).
_LARGEST = 0.2
#: Largest residual of all but one voxel in ten thousand: a region that differs makes another image.
_REGION = 0.25
#: Voxels that are compared first, and fewest that say anything.
_SAMPLE, _FEWEST = 50_000, 64
#: Share of the smaller image that has to lie within the larger.
_OVERLAP = 0.5
#: Largest difference of two grids that are parts of one, in voxels.
_OFF_GRID = 0.02


def refuse_same(volumes: Mapping[str, Volume]) -> None:
    """Refuse a study in which one image was given as two sequences.

    Parameters
    ----------
    volumes : mapping of str to Volume
        Modality code to image, as read; grids may differ.

    Raises
    ------
    UserError
        If two images are one.
    """
    for (code, one), (other_code, other) in combinations(volumes.items(), 2):
        how = same_content(one, other)
        if how is not None:
            raise UserError(
                f"{other.source}: given as {other_code} is {how} {one.source}, given as {code}; "
                "give every sequence its own file"
            )


def same_content(one: Volume, other: Volume) -> str | None:
    """How two volumes are one image; None if they are two.

    Parameters
    ----------
    one, other : Volume
        On any grids. Images on different grids are compared where these are parts of one grid, and by what is inside
        of their backgrounds; images that were resampled are not recognised.

    Returns
    -------
    str or None
        To be put before the name of `one`, e.g. ``"the same image as"``.
    """
    paths = [Path(volume.source) for volume in (one, other)]
    if all(path.is_file() for path in paths) and paths[0].samefile(paths[1]):
        return "the same image as"
    for first, second, how in _pairs(one, other):
        if first.size >= _FEWEST or first.shape == one.array.shape == other.array.shape:
            line = _fit(first, second)
            if line is not None:
                slope, intercept = line
                scaled = abs(slope - 1) > 1e-3 or abs(intercept) > 1e-3 * float(np.ptp(second))
                return f"the same image{how}{', rescaled,' if scaled else ''} as".replace(",,", ",")
    return None


def _pairs(one: Volume, other: Volume) -> Iterator[tuple[Array, Array, str]]:
    """Parts of two volumes, of one shape, that would be equal if they were one image."""
    if one.array.shape == other.array.shape:
        yield one.array, other.array, ""
    boxes = _common_boxes(one, other)
    if boxes is not None:
        yield one.array[boxes[0]], other.array[boxes[1]], ", cropped,"
    inner = [volume.array[_content_box(volume.array)] for volume in (one, other)]
    if inner[0].shape == inner[1].shape and any(part.shape != one.array.shape for part in inner):
        yield inner[0], inner[1], ", cropped or padded,"


def _common_boxes(one: Volume, other: Volume) -> tuple[Box, Box] | None:
    """Where two grids overlap, if they are parts of one grid and the overlap is a good share of the smaller."""
    step = np.linalg.inv(one.geometry.affine_dhw) @ other.geometry.affine_dhw
    offset = np.rint(step[:3, 3]).astype(int)
    if not np.allclose(step[:3, :3], np.eye(3), atol=1e-3) or np.abs(step[:3, 3] - offset).max() > _OFF_GRID:
        return None
    if not offset.any() and one.array.shape == other.array.shape:
        return None  # the whole grids were compared
    start = np.maximum(offset, 0)
    stop = np.minimum(one.array.shape, offset + other.array.shape)
    if np.any(stop <= start) or np.prod(stop - start) < _OVERLAP * min(one.array.size, other.array.size):
        return None
    return (
        tuple(slice(a, b) for a, b in zip(start, stop, strict=True)),
        tuple(slice(a, b) for a, b in zip(start - offset, stop - offset, strict=True)),
    )


def _content_box(array: Array) -> Box:
    """Smallest box around what differs from the background, which is the value of most corners."""
    ends = [slice(None, None, max(size - 1, 1)) for size in array.shape]
    background = np.median(array[tuple(ends)])
    filled = array != background
    box = []
    for axis, size in enumerate(array.shape):
        places = np.flatnonzero(filled.any(axis=tuple({0, 1, 2} - {axis})))
        box.append(slice(int(places[0]), int(places[-1]) + 1) if places.size else slice(0, size))
    return tuple(box)


def _fit(first: Array, second: Array) -> tuple[float, float] | None:
    """Slope and intercept of `second` over `first` if a straight line explains it but for rounding."""
    stride = max(1, round((first.size / _SAMPLE) ** (1 / 3)))
    for step in dict.fromkeys((stride, 1)):  # nearly all pairs are told apart by the sample
        line = _line(first[::step, ::step, ::step], second[::step, ::step, ::step])
        if line is None:
            return None
    return line


def _line(first: Array, second: Array) -> tuple[float, float] | None:
    x, y = first.ravel().astype(np.float64), second.ravel().astype(np.float64)
    if np.array_equal(x, y):
        return 1.0, 0.0
    x_corner, y_corner = (float(np.median(part.ravel()[[0, -1]])) for part in (first, second))
    inside = (x != x_corner) | (y != y_corner)
    # What a narrower type cut off lies on no line.
    inside &= (x < x.max()) & (y < y.max()) & (x > x.min()) & (y > y.min())
    x, y = x[inside], y[inside]
    if x.size < _FEWEST or x.std() == 0 or y.std() == 0:
        return None
    slope, intercept = np.polyfit(x, y, 1)
    residual = np.abs(y - slope * x - intercept)
    coarser = max(_grey_step(x) * abs(slope), _grey_step(y))
    spread = float(y.std())
    noise = min(max(_NOISE * spread, _STEP * coarser), _LARGEST * spread)
    if np.sqrt(np.mean(residual**2)) > noise or np.quantile(residual, 0.9999) > max(_REGION * spread, coarser):
        return None
    return float(slope), float(intercept)


def _grey_step(values: NDArray[np.float64]) -> float:
    """Typical distance of neighbouring grey values."""
    distinct = np.unique(values)
    return float(np.median(np.diff(distinct))) if distinct.size > 1 else 0.0
