"""Artifact repair: voxels and slices that no tissue can have made, replaced from their own neighbourhood.

Three kinds: values beyond an empty gap far outside all others (a hot voxel, a marker burnt in, the type's lowest
value), many voxels at the very end of the type's range amid ordinary ones (saturation), and slices much brighter or
darker than the slices on both sides. An image without them comes back as it is, bit for bit. Clipping would not do: a
cluster at the highest allowed value looks like a lesion.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Repaired", "repair"]

#: Distance from the median, in robust spreads, that no tissue reaches. Contrast-filled vessels in T1c, the brightest
#: there is, have about six times the median brightness; the spread is at least the median itself.
BRIGHTER_THAN_TISSUE = 8.0
#: The same on the dark side, where tissue ends at 0, one median away.
DARKER_THAN_TISSUE = 2.5
#: Factor by which an outlier is further from the median than anything below it; tissue fades without a gap.
GAP = 2.0
#: Largest share of an image's voxels that can be outliers; with more the spread is not known.
MAX_SHARE = 0.1
#: Share of voxels at the type's highest value from which on an image is saturated, if they are also twice as many as
#: those of the tenth of the range below.
MIN_SATURATED = 5e-4
#: Highest values of the whole-number types and of scanners' bit depths.
TYPE_ENDS = tuple(2**bits - 1 for bits in (8, 10, 12, 14, 15, 16, 31, 32))
#: Voxels from which on percentiles mean something; a head at 4 mm has as many.
MIN_VOXELS = 5000
#: Distinct values that a scan has at least; a drawing or a label map has fewer, and sharp edges of its own.
MIN_DISTINCT = 32
#: Brightness in relation to the slices on both sides from which on a slice is wrong. Slices acquired in turns differ by
#: up to a third.
SLICE_FACTOR = 1.5
#: Largest ratio of voxels of the two slices beside it (median), so that the edge of the head is no fault.
SLICE_AGREEMENT = 1.2
#: Slices in a row that can be wrong, and the share of the tissue of the fullest slice that a slice needs to be judged.
MAX_SLICES, MIN_SLICE_AREA = 3, 0.1
#: Share of replaced voxels from which on a person is told: 140 of a brain at 1 mm.
TOLD_SHARE = 1e-4


class Repaired(NamedTuple):
    """An image without artifacts, and what was done.

    Attributes
    ----------
    values : ndarray, shape (i, j, k)
        The array that was given, if nothing was replaced.
    notes : tuple of str
        A sentence for each kind of artifact that was noticeable.
    """

    values: NDArray[Any]
    notes: tuple[str, ...] = ()


def repair(values: NDArray[Any], raw: NDArray[Any] | None = None) -> Repaired:
    """Replace impossible voxels and slices by the nearest possible ones.

    Parameters
    ----------
    values : ndarray of float, shape (i, j, k)
        Finite; 0 is background.
    raw : ndarray, shape (i, j, k), or None
        As stored, before scaling; tells whether values end where the type does.
    """
    filled = values != 0
    inside = values[filled].astype(np.float64)
    if inside.size < MIN_VOXELS or np.unique(inside[:: max(1, inside.size // 10_000)]).size < MIN_DISTINCT:
        return Repaired(values)
    notes = []
    bad = np.zeros(values.shape, bool)
    ordinary = np.percentile(inside, (100 * MAX_SHARE, 50, 100 - 100 * MAX_SHARE))
    for sign, word in ((1, "brighter"), (-1, "darker")):
        found = _beyond_gap(inside, ordinary, sign)
        if found is None:
            continue
        limit, last = found
        hot = filled & (sign * values >= sign * limit)
        bad |= hot
        notes += _tell(
            hot, inside.size, f"are far {word} than all others (from {limit:.4g} on; the others end at {last:.4g})"
        )
    if raw is not None and raw.dtype.kind in "iu":
        hot = _saturated(values, raw, filled & ~bad)
        bad |= hot
        notes += _tell(
            hot, inside.size, f"have the highest value that the file can hold ({int(raw.max())}) amid ordinary ones"
        )
    if bad.any():
        values = _fill(values, bad)
    slices = _wrong_slices(values)
    for axis, first, count, factor in slices:
        bad = np.zeros(values.shape, bool)
        np.moveaxis(bad, axis, 0)[first : first + count] = True
        values = _fill(values, bad)
        which = f"slice {first + 1} is" if count == 1 else f"slices {first + 1} to {first + count} are"
        notes.append(
            f"along the {('first', 'second', 'third')[axis]} axis of the file {which} {factor:.2g} times as bright as "
            "the slices beside it, which were taken in its place; look at the image"
        )
    return Repaired(values, tuple(notes))


def _tell(hot: NDArray[np.bool_], total: int, what: str) -> list[str]:
    count = int(hot.sum())
    if count < TOLD_SHARE * total:
        return []
    return [
        f"{count} voxels ({100 * count / total:.2g} %) {what} and were replaced by their neighbours; look at the image"
    ]


def _beyond_gap(inside: NDArray[np.float64], ordinary: NDArray[np.float64], sign: int) -> tuple[float, float] | None:
    """Least outlier above (`sign` 1) or below (-1) an empty gap, and the last value before the gap.

    `ordinary`: the median between the ends of what may not be an outlier.
    """
    low, median, high = ordinary
    spread = max(high - median, median - low, abs(median))
    reach = spread * (BRIGHTER_THAN_TISSUE if sign > 0 else DARKER_THAN_TISSUE)
    if sign * ((inside.max() if sign > 0 else inside.min()) - median) < reach:
        return None
    distance = sign * (inside - median)
    start = sign * ((high if sign > 0 else low) - median)
    tail = np.sort(distance[distance >= start])
    gaps = np.flatnonzero((tail[1:] >= GAP * np.maximum(tail[:-1], spread / GAP)) & (tail[1:] >= reach))
    if not gaps.size:
        return None
    first = gaps[0]
    return float(median + sign * tail[first + 1]), float(median + sign * tail[first])


def _saturated(values: NDArray[Any], raw: NDArray[Any], filled: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Voxels at the end of the type's range whose neighbours are ordinary; none where they fade into bright ones."""
    from scipy import ndimage

    none = np.zeros(values.shape, bool)
    if int(raw.max()) not in TYPE_ENDS:
        return none
    hot = filled & (raw == raw.max())
    below = np.count_nonzero(values[filled & ~hot] >= 0.9 * values[hot].max()) if hot.any() else 0
    if not max(MIN_SATURATED * filled.sum(), 2 * below) <= hot.sum() <= MAX_SHARE * filled.sum():
        return none
    beside = ndimage.binary_dilation(hot) & ~hot & filled
    others = values[filled & ~hot]
    low, high = np.percentile(others, (5, 95))
    around = np.median(values[beside]) if beside.any() else low
    return hot if low <= around <= high else none


def _wrong_slices(values: NDArray[Any]) -> list[tuple[int, int, int, float]]:
    """Axis, first slice, number of slices and brightness in relation to both sides, of slices unlike these."""
    found = []
    shown = values != 0
    tissue = float(values[shown].mean()) / 2  # parts air of a head that is not stripped from tissue
    bright = values > tissue
    filled = [np.flatnonzero(shown.any(axis=other)) for other in ((1, 2), (0, 2), (0, 1))]
    box = [slice(int(places[0]), int(places[-1]) + 1) for places in filled]
    for axis in range(3):
        planes = np.moveaxis(values, axis, 0)
        level: list[float] = np.asarray(planes.mean(axis=(1, 2)), np.float64).tolist()  # a list: thousands of looks
        least = MIN_SLICE_AREA * np.moveaxis(bright, axis, 0).sum(axis=(1, 2)).max()
        part = planes[:, *box[:axis], *box[axis + 1 :]]
        place = 1
        while place < len(planes) - 1:
            for count in range(1, min(MAX_SLICES, len(planes) - 1 - place) + 1):
                factor = _differ(part, level, place, count, tissue, least)
                if factor:
                    found.append((axis, place, count, factor))
                    place += count
                    break
            place += 1
    return found


def _differ(planes: NDArray[Any], level: list[float], place: int, count: int, tissue: float, least: float) -> float:
    """Brightness of slices in relation to both sides, if all are brighter, or all darker, than these, which agree.

    Compared voxel by voxel, where a side shows tissue: slices at the edge of a head differ as a whole. `least`: voxels
    that must be shared.
    """
    sides, between = (level[place - 1], level[place + count]), level[place : place + count]
    margin = math.sqrt(SLICE_FACTOR)  # the whole slice, background and all, changes less than its tissue
    if not (min(between) >= margin * max(sides) or margin * max(between) <= min(sides)):
        return 0.0
    one, other = planes[place - 1], planes[place + count]
    shared = (np.minimum(one, other) > 0) & (np.maximum(one, other) > tissue)
    if shared.sum() < max(least, 1) or tissue <= 0:
        return 0.0
    one, other = one[shared], other[shared]
    if np.median(np.maximum(one, other) / np.minimum(one, other)) > SLICE_AGREEMENT:
        return 0.0
    ratios = [float(np.median(plane[shared] / np.sqrt(one * other))) for plane in planes[place : place + count]]
    if min(ratios) >= SLICE_FACTOR or 0 < max(ratios) <= 1 / SLICE_FACTOR:
        return float(np.median(ratios))
    return 0.0


def _fill(values: NDArray[Any], bad: NDArray[np.bool_]) -> NDArray[Any]:
    """Values with every bad voxel taken from the nearest good one, be it tissue or background."""
    from scipy import ndimage

    places = np.argwhere(bad)
    # The nearest good voxel is never further away than the first one outside the box around all bad ones.
    box = tuple(slice(max(0, low - 1), high + 2) for low, high in zip(places.min(0), places.max(0), strict=True))
    nearest = ndimage.distance_transform_edt(bad[box], return_distances=False, return_indices=True)
    result = values.copy()
    result[box] = values[box][tuple(nearest)]
    return result
