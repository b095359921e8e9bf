"""Quality measures: numbers of one brain image in which artifacts show, whatever its units, grid and padding.

Every measure uses the brain of its own image alone. Values are taken relative to the image's own spread, on a copy with
voxels of about 3 mm, the grid of the bundled models: a factor, empty layers and a finer grid change nothing but what
goes with them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from anymri.data.appearance.brain_frame import blocks

__all__ = ["Brain", "measure_brain", "small_brain"]

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: Voxel size of the copy that is measured, in mm.
STEP_MM = 3.0
#: Distances over which values are compared, in mm.
LAGS_MM = (3.0, 6.0, 9.0, 12.0, 18.0)
#: Least volume to be measured, in ml.
LEAST_ML = 100.0
#: Shift from which a repeated image may be told from smooth anatomy, in mm.
REPEATED_MM = 20.0
#: Where air lies below the brain, as shares of the brain's box (from below, from behind, from the left).
AIR = ((0.18, 0.82, 0.5), (0.15, 0.44, 0.12), (0.15, 0.44, 0.88))


class Brain(NamedTuple):
    """Small copy of a brain image, cropped to the brain.

    Attributes
    ----------
    values : ndarray of float32, shape (D, H, W)
        0 at the 2nd and 1 at the 98th percentile of the brain; 0 outside.
    inside, deep : ndarray of bool, shape (D, H, W)
        The brain, and the brain without its outermost voxels.
    level : ndarray of float32, shape (D, H, W)
        Values over their median, at least 0.05, for what multiplies an image.
    areas : list of ndarray
        Share of brain of every slice of the original, along each axis, relative to the largest.
    extents_mm : tuple of float
    steps_mm : tuple of float
    """

    values: Array
    inside: Mask
    deep: Mask
    level: Array
    areas: list[NDArray[np.float64]]
    extents_mm: tuple[float, ...]
    steps_mm: tuple[float, ...]


def small_brain(array: NDArray[Any], spacing_mm: tuple[float, ...]) -> Brain | None:
    """Copy that `measure_brain` takes; None where there is too little brain, or no contrast in it.

    Parameters
    ----------
    array : ndarray, shape (D, H, W)
        Background 0.
    spacing_mm : tuple of float
        Along (D, H, W).
    """
    shown = array != 0
    areas = [shown.sum(axis=other, dtype=np.int64) for other in ((1, 2), (0, 2), (0, 1))]
    if areas[0].sum() * np.prod(spacing_mm) < LEAST_ML * 1000:
        return None
    ends = [np.flatnonzero(area)[[0, -1]] for area in areas]
    box = tuple(slice(int(first), int(last) + 1) for first, last in ends)
    factor = [max(1, round(STEP_MM / size)) for size in spacing_mm]
    values, share = blocks(array[box], factor)
    steps = [size * times for size, times in zip(spacing_mm, factor, strict=True)]
    finer = [max(1, round(size / STEP_MM - 0.1)) for size in steps]  # thick slices, as other programs interpolate them
    if max(finer) > 1:
        values, share = (
            ndimage.zoom(part, finer, order=1, mode="nearest", grid_mode=True) for part in (values * share, share)
        )
        values = values / np.maximum(share, 1e-6)
        steps = [size / times for size, times in zip(steps, finer, strict=True)]
    inside = share > 0.5
    deep = ndimage.binary_erosion(np.pad(inside, 1))[1:-1, 1:-1, 1:-1]
    if deep.sum() * np.prod(steps) < LEAST_ML * 500:
        return None
    low, middle, high = (float(value) for value in np.percentile(values[deep], [2, 50, 98]))
    if high <= low:
        return None
    scaled = np.where(inside, np.clip((values - low) / (high - low), -1, 4), 0).astype(np.float32)
    level = np.where(inside, np.clip(values / (abs(middle) or 1.0), 0.05, 20), 1).astype(np.float32)
    profiles = [area[part] / area.max() for area, part in zip(areas, box, strict=True)]
    extents = tuple(len(profile) * size for profile, size in zip(profiles, spacing_mm, strict=True))
    return Brain(scaled, inside, deep, level, profiles, extents, tuple(steps))


def measure_brain(brain: Brain) -> dict[str, float]:
    """All measures of one image by name.

    Parameters
    ----------
    brain : Brain
    """
    fine = _high_pass(brain, 5.0)
    return {
        **_differences(brain),
        **_noise(brain),
        **_slices(brain),
        **_outline(brain),
        **_brightness(brain),
        **_evenness(brain),
        **_repeats(brain, fine),
        **_waves(brain, fine),
        **_air(brain),
    }


def _smooth(part: Array, weight: Array, sigma_mm: float, brain: Brain) -> Array:
    """Local mean over the brain."""
    sigma = [sigma_mm / size for size in brain.steps_mm]
    share = ndimage.gaussian_filter(weight, sigma, truncate=2.5)
    return ndimage.gaussian_filter(part * weight, sigma, truncate=2.5) / np.maximum(share, 1e-3)


def _high_pass(brain: Brain, sigma_mm: float) -> Array:
    rest = np.clip(brain.values - _smooth(brain.values, brain.inside.astype(np.float32), sigma_mm, brain), -1, 1)
    return np.where(brain.deep, rest, 0).astype(np.float32)


def _spread(name: str, values: list[float]) -> dict[str, float]:
    """Mean over the axes, and how far the largest and the smallest lie from the mean of the other two."""
    low, middle, high = sorted(values)
    return {
        f"{name} mean": (low + middle + high) / 3,
        f"{name} most": high - (low + middle) / 2,
        f"{name} least": low - (middle + high) / 2,
    }


def _differences(brain: Brain) -> dict[str, float]:
    """Differences of values some way apart: blur, ripples, noise, and whether they have a direction."""
    found: dict[str, float] = {}
    for lag in LAGS_MM:
        squares, medians = [], []
        for axis in range(3):
            step = max(1, round(lag / brain.steps_mm[axis]))
            rows, seen = np.moveaxis(brain.values, axis, 0), np.moveaxis(brain.deep, axis, 0)
            both = seen[step:] & seen[:-step]
            change = np.abs((rows[step:] - rows[:-step])[both]) if both.any() else np.zeros(1, np.float32)
            squares.append(float(np.log(np.mean(np.minimum(change, 1) ** 2) + 1e-5)))
            medians.append(float(np.log(np.median(change) + 1e-3)))
        found |= _spread(f"difference {lag:g}", squares) | _spread(f"median difference {lag:g}", medians)
    return found


def _noise(brain: Brain) -> dict[str, float]:
    """Mixed differences in each plane: what has no direction and no neighbour."""
    sizes = []
    for first, second in ((0, 1), (0, 2), (1, 2)):
        mixed = np.diff(np.diff(brain.values, axis=first), axis=second)
        inner = tuple(slice(1, None) if axis in (first, second) else slice(None) for axis in range(3))
        sizes.append(float(np.log(np.median(np.abs(mixed[brain.deep[inner]])) + 1e-3)))
    return {"noise least": min(sizes), "noise most": max(sizes)}


def _slices(brain: Brain) -> dict[str, float]:
    """Slices and lines that differ from their neighbours."""
    jumps: list[float] = []
    steady: list[float] = []
    lines: list[float] = []
    for axis in range(3):
        rows, seen = np.moveaxis(brain.values, axis, 0), np.moveaxis(brain.deep, axis, 0)
        area = seen.sum(axis=(1, 2))
        large = np.flatnonzero(area > 0.25 * area.max())
        rows, seen = rows[large[0] : large[-1] + 1], seen[large[0] : large[-1] + 1]
        if len(rows) < 5:
            jumps, steady, lines = [*jumps, 0.0], [*steady, 0.0], [*lines, 0.0]
            continue
        counts = np.maximum(seen.sum(axis=(1, 2)), 1)
        means = (rows * seen).sum(axis=(1, 2)) / counts
        bend = np.abs(means[1:-1] - (means[:-2] + means[2:]) / 2)
        jumps.append(float(np.log(bend.max() + 1e-3)))
        steady.append(float(np.log(np.median(bend) + 1e-3)))
        rest = np.abs(rows[1:-1] - (rows[:-2] + rows[2:]) / 2) * seen[1:-1]
        energy = rest.sum(axis=(1, 2)) / counts[1:-1]
        lines.append(float(np.log(energy.max() / max(float(np.median(energy)), 1e-6) + 1e-3)))
    return {
        "slice jump most": max(jumps),
        "slice jump steady": max(steady),
        "line most": max(lines),
        "line spread": max(lines) - sorted(lines)[1],
    }


def _outline(brain: Brain) -> dict[str, float]:
    """Ends that are cut off flat, gaps between slices, and proportions."""
    ends, both, gaps = [], [], []
    for profile, extent in zip(brain.areas, brain.extents_mm, strict=True):
        inward = min(len(profile) - 1, round(6.0 * len(profile) / extent))
        first, last = float(profile[inward]), float(profile[-1 - inward])
        ends += [first, last]
        both.append(min(first, last))
        filled = np.minimum(np.maximum.accumulate(profile), np.maximum.accumulate(profile[::-1])[::-1])
        gaps.append(float((filled - profile).sum() / filled.sum()))
    low, middle, high = sorted(brain.extents_mm)
    return {
        "end most": max(ends),
        "end second": sorted(ends)[-2],
        "both ends most": max(both),
        "gap": float(np.log(max(gaps) + 3e-3)),
        "narrow": low / high,
        "middle extent": middle / high,
        "size": float(np.log(max(high, 1.0))),
    }


def _brightness(brain: Brain) -> dict[str, float]:
    """Where values lie, and how they change with depth."""
    values = brain.values[brain.deep]
    found = {
        f"brightness {place:g}": float(value)
        for place, value in zip(
            (0.5, 10, 25, 50, 75, 90, 99.5, 99.9),
            np.percentile(values, [0.5, 10, 25, 50, 75, 90, 99.5, 99.9]),
            strict=True,
        )
    }
    dark = np.percentile(brain.level[brain.deep], [1, 5, 10])
    found |= {f"level {place}": float(value) for place, value in zip((1, 5, 10), dark, strict=True)}
    depth = ndimage.distance_transform_edt(np.pad(brain.inside, 1), sampling=brain.steps_mm)[1:-1, 1:-1, 1:-1]
    shells = [brain.inside & (depth > low) & (depth <= high) for low, high in ((0, 5), (5, 12), (12, 22), (22, 99))]
    means = [float(brain.values[shell].mean()) if shell.any() else 0.5 for shell in shells]
    found |= {f"depth {number}": means[number] - means[2] for number in (0, 1, 3)}
    return found


def _evenness(brain: Brain) -> dict[str, float]:
    """Slow changes of brightness and of contrast over the brain."""
    weight = brain.inside.astype(np.float32)
    slow = _smooth(np.log(brain.level), weight, 16.0, brain)[brain.deep]
    plain_field = _smooth(brain.values, weight, 16.0, brain)
    plain = plain_field[brain.deep]
    fine = np.abs(_high_pass(brain, 7.0))
    contrast = np.log(_smooth(fine, brain.deep.astype(np.float32), 16.0, brain)[brain.deep] + 1e-3)
    places = np.argwhere(brain.deep) * np.array(brain.steps_mm)
    places = (places - places.mean(axis=0)) / 50.0
    slopes = np.abs(np.linalg.lstsq(places, slow - slow.mean(), rcond=None)[0])
    found = {f"slow {axis}": float(slope) for axis, slope in zip(("up", "front", "side"), slopes, strict=True)}
    middle = float(np.nonzero(brain.inside)[2].mean())
    move = round(2 * middle) - (brain.inside.shape[2] - 1)
    turned = np.roll(plain_field[..., ::-1], move, axis=2)
    shared = brain.deep & np.roll(brain.deep[..., ::-1], move, axis=2)
    sides = float(np.sqrt(np.mean((plain_field - turned)[shared] ** 2))) if shared.any() else 0.0
    return found | {
        "slow spread": float(np.log(slow.std() + 1e-3)),
        "slow range": float(np.diff(np.percentile(slow, [3, 97]))[0]),
        "slow plain": float(np.log(plain.std() + 1e-3)),
        "slow contrast": float(np.log(contrast.std() + 1e-3)),
        "sides": float(np.log(sides + 1e-3)),
    }


def _repeats(brain: Brain, fine: Array) -> dict[str, float]:
    """Whether the image, or the outline of the head, comes again some way off along an axis."""
    own: list[float] = []
    outline: list[float] = []
    for axis in range(3):
        size = brain.inside.shape[axis]
        least = max(2, round(REPEATED_MM / brain.steps_mm[axis]))
        if size <= 2 * least:
            own, outline = [*own, 0.0], [*outline, 0.0]
            continue
        length = fft.next_fast_len(2 * size, real=True)
        deep = brain.deep.astype(np.float32)
        slope = np.gradient(fine, axis=axis).astype(np.float32) * deep
        edge = np.gradient(ndimage.uniform_filter1d(brain.inside.astype(np.float32), 3, axis=axis), axis=axis)
        parts = [fft.rfft(part, length, axis=axis) for part in (fine, slope, edge, deep)]
        pairs = [(0, 0), (1, 2)]
        weight = fft.irfft(_sum(parts[3].conj() * parts[3], axis), length)
        shifts = np.r_[least : size - 1]
        shifts = shifts[weight[shifts] > 0.2 * weight[0]]
        for result, (first, second) in zip((own, outline), pairs, strict=True):
            total = fft.irfft(_sum(parts[first].conj() * parts[second], axis), length)
            scale = np.sqrt(float((fine**2 if first == 0 else slope**2).sum()))
            scale *= np.sqrt(float((fine**2 if second == 0 else edge**2).sum())) or 1.0
            both_ways = np.abs(np.concatenate([total[shifts], total[-shifts]])) / max(scale, 1e-9)
            result.append(float(np.log(both_ways.max() + 1e-3)) if len(both_ways) else 0.0)
    return {
        "repeat most": max(own),
        "repeat spread": max(own) - sorted(own)[1],
        "outline most": max(outline),
        "outline spread": max(outline) - sorted(outline)[1],
    }


def _sum(product: NDArray[Any], axis: int) -> NDArray[Any]:
    total: NDArray[Any] = product.sum(axis=tuple(other for other in range(3) if other != axis))
    return total


def _waves(brain: Brain, fine: Array) -> dict[str, float]:
    """Waves of one frequency over slices: strongest sample of k-space against those around it."""
    peaks = []
    for axis in range(3):
        plane = tuple(other for other in range(3) if other != axis)
        power = (np.abs(fft.rfft2(fine, axes=plane)) ** 2).mean(axis=axis)
        around = ndimage.median_filter(power, 7, mode="wrap")
        ratio = np.log((power + 1e-9) / (around + 1e-3 * power.mean() + 1e-9))
        ratio[:4, :4] = ratio[-3:, :4] = 0
        peaks.append(float(ratio.max()))
    return {"wave most": max(peaks), "wave spread": max(peaks) - sorted(peaks)[1]}


def _air(brain: Brain) -> dict[str, float]:
    """Brightness and brain that are left where air lies below the brain."""
    local = _smooth(brain.values, brain.inside.astype(np.float32), 5.0, brain)
    typical = float(np.median(brain.values[brain.deep]))
    axes = [
        (np.arange(size) + 0.5).reshape([-1 if axis == k else 1 for k in range(3)])
        for axis, size in enumerate(brain.inside.shape)
    ]
    darkest, brightest, left = [], [], []
    for place in AIR:
        distance = sum(
            ((axis - share * size) * step) ** 2
            for axis, share, size, step in zip(axes, place, brain.inside.shape, brain.steps_mm, strict=True)
        )
        near = np.asarray(distance < 24.0**2)
        inside = near & brain.inside
        left.append(float(inside.sum() / max(1, near.sum())))
        values = local[inside] - typical if inside.any() else np.zeros(1)
        darkest.append(float(np.percentile(values, 3)))
        brightest.append(float(np.percentile(values, 97)))
    return {
        "air front dark": darkest[0],
        "air front bright": brightest[0],
        "air front left": left[0],
        "air sides dark": (darkest[1] + darkest[2]) / 2,
        "air sides bright": (brightest[1] + brightest[2]) / 2,
        "air sides left": (left[1] + left[2]) / 2,
    }
