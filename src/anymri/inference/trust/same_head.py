"""Same-head check of a stripped study's files: their anatomy must fit better than its mirror image.

Two sequences of one head have their edges in the same places and directions, whatever their contrast. How well edges
of two heads fit in a common space depends on the space and on the sharpness of the images; but then one fits the
mirror image of the other just as well. So the mirror image is the yardstick: nothing has to be known of the images.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anymri.data.appearance.brain_frame import blocks
from anymri.data.nifti import Volume
from anymri.modalities import MODALITIES
from anymri.threads import map_parts

__all__ = ["Fit", "check_same_head", "compare_heads"]

Array = NDArray[np.float32]

#: Voxel size of the copies that are compared, in mm.
STEP_MM = 2.0
#: What of the distance to a perfect fit the true fit must gain over that with the mirror image. Heads that do not
#: belong together gain 0 to 0.05 on average, give or take 0.03 (phantoms, any two sequences); files of one head 0.5.
GAIN = 0.12
#: A fit that two heads do not reach; brains that are nearly their own mirror image (averages) gain little but fit.
CERTAIN = 0.65
#: An image whose edges fit those of its own mirror image no better than this (1/3 by chance) shows noise, no brain, and
#: is not compared.
SYMMETRY = 0.345
#: Depth from which edges count, in mm: the rim that stripping left is the same in all files.
RIM_MM = 6.0
#: Shifts that are tried where a file does not fit, in mm.
REACH_MM = 24.0
#: Least number of voxels that both files must show, for a judgement: 100 ml.
LEAST_ML = 100.0


class _Edges(NamedTuple):
    direction: Array  # (3, D, H, W): gradient over its own size plus that of noise
    deep: NDArray[np.bool_]
    step_mm: tuple[float, ...]


class Fit(NamedTuple):
    """How the edges of two files fit.

    Attributes
    ----------
    fit, mirrored : float
        Mean squared cosine between the directions of edges, with the other as it is and mirrored left to right; 1/3
        for unrelated directions, 1 for equal ones.
    gain : float
        ``(fit - mirrored) / (1 - min(fit, mirrored))``: above 0 for one head, below 0 for a mirrored one.
    """

    fit: float
    mirrored: float
    gain: float


def compare_heads(volumes: Mapping[str, Volume]) -> dict[tuple[str, str], Fit]:
    """Fit of every pair of files that can be judged.

    Parameters
    ----------
    volumes : mapping of str to Volume
        Brains on one grid, background 0.
    """
    return _compare(_all_edges(volumes))


def check_same_head(volumes: Mapping[str, Volume]) -> list[str]:
    """Sentences on files that do not show the head that the others show, or show it elsewhere.

    Parameters
    ----------
    volumes : mapping of str to Volume
        Brains on one grid, background 0.

    Returns
    -------
    list of str
        Empty where all fit, or nothing can be said.
    """
    edges = _all_edges(volumes)
    pairs = _compare(edges)
    bad = {pair: fit for pair, fit in pairs.items() if (fit.gain < GAIN and max(fit[:2]) < CERTAIN) or fit.gain < -GAIN}
    found = []
    while bad:
        # The file in most of the pairs that do not fit; of two alike the one that fits worse.
        odd = max(edges, key=lambda code: (sum(code in pair for pair in bad), -_mean_gain(pairs, code)))
        others = [code for code in edges if any({code, odd} == set(pair) for pair in bad)]
        found.append(_describe(odd, others, edges, pairs))
        bad = {pair: fit for pair, fit in bad.items() if odd not in pair}
        del edges[odd]
    return found


def _all_edges(volumes: Mapping[str, Volume]) -> dict[str, _Edges]:
    if len(volumes) < 2:
        return {}
    shown = np.logical_or.reduce([volume.array != 0 for volume in volumes.values()])
    box = tuple(
        slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 0)
        for places in (np.flatnonzero(shown.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1)))
    )
    found = map_parts(lambda _, volume: _edges(volume.array[box], volume.geometry.spacing_mm), volumes)
    return {code: edges for code, edges in found.items() if edges is not None and _shows_brain(edges)}


def _shows_brain(edges: _Edges) -> bool:
    symmetry = _agreement(edges, _mirror(edges))
    return symmetry is not None and symmetry > SYMMETRY


def _compare(edges: Mapping[str, _Edges]) -> dict[tuple[str, str], Fit]:
    mirrored = {code: _mirror(part) for code, part in edges.items()}
    pairs = {}
    for one, other in combinations(edges, 2):
        plain = _agreement(edges[one], edges[other])
        turned = _agreement(edges[one], mirrored[other])
        if plain is None or turned is None:
            continue
        pairs[one, other] = Fit(plain, turned, _gain(plain, turned))
    return pairs


def _gain(plain: float, turned: float) -> float:
    return (plain - turned) / (1 - min(plain, turned) + 1e-6)


def _edges(array: Array, spacing_mm: tuple[float, ...]) -> _Edges | None:
    """Directions of the edges inside a brain; None without a brain."""
    if 0 in array.shape:
        return None
    factor = [max(1, round(STEP_MM / size)) for size in spacing_mm]
    values, share = blocks(array, factor)
    step = tuple(size * times for size, times in zip(spacing_mm, factor, strict=True))
    if min(share.shape) < 2:
        return None
    inside = share > 0.5
    deep = ndimage.distance_transform_edt(np.pad(share > 0.9, 1), sampling=step)[1:-1, 1:-1, 1:-1] > RIM_MM
    if not inside.any() or deep.sum() * np.prod(step) < LEAST_ML * 1000:
        return None
    low, high = np.percentile(values[deep], [2, 98])
    if high <= low:
        return None
    scaled = np.clip((values - low) / (high - low), -0.2, 1.2) * inside
    sigma = [STEP_MM / size for size in step]
    weight = ndimage.gaussian_filter(inside.astype(np.float32), sigma, truncate=3)
    smooth = ndimage.gaussian_filter(scaled.astype(np.float32), sigma, truncate=3) / np.maximum(weight, 1e-3)
    gradient = np.stack(np.gradient(smooth, *step))
    size = (gradient**2).sum(axis=0)
    return _Edges((gradient / np.sqrt(size + np.median(size[deep]) + 1e-12)).astype(np.float32), deep, step)


def _mirror(edges: _Edges) -> _Edges:
    """The same, mirrored left to right about the middle of its brain."""
    middle = float(np.nonzero(edges.deep)[2].mean())
    shift = round(2 * middle) - (edges.deep.shape[2] - 1)
    direction = (
        np.roll(edges.direction[..., ::-1], shift, axis=3) * np.array([1, 1, -1], np.float32)[:, None, None, None]
    )
    return edges._replace(direction=direction, deep=np.roll(edges.deep[..., ::-1], shift, axis=2))


def _agreement(one: _Edges, other: _Edges) -> float | None:
    """Mean squared cosine where both have edges, weighted by their strength; None where they hardly overlap."""
    both = one.deep & other.deep
    if both.sum() * np.prod(one.step_mm) < LEAST_ML * 1000:
        return None
    first, second = one.direction[:, both], other.direction[:, both]
    strength = np.einsum("ij,ij->j", first, first) * np.einsum("ij,ij->j", second, second)
    return float((np.einsum("ij,ij->j", first, second) ** 2).sum() / (strength.sum() + 1e-12))


def _mean_gain(pairs: Mapping[tuple[str, str], Fit], code: str) -> float:
    gains = [fit.gain for pair, fit in pairs.items() if code in pair]
    return sum(gains) / max(1, len(gains))


def _describe(odd: str, others: list[str], edges: Mapping[str, _Edges], pairs: Mapping[tuple[str, str], Fit]) -> str:
    """One sentence on a file that does not fit others."""
    fits = [pairs.get((odd, code)) or pairs[code, odd] for code in others]
    plain, turned = (float(np.mean([fit[place] for fit in fits])) for place in (0, 1))
    name, rest = MODALITIES[odd].long_name, " and ".join(MODALITIES[code].long_name for code in others)
    numbers = f"edges agree {plain:.2f}, with its mirror image {turned:.2f}; 0.33 is chance, 1 perfect"
    moved, fit = _find_shift(edges[others[0]], edges[odd])
    yardstick = _find_shift(edges[others[0]], _mirror(edges[odd]))[1]
    if _gain(fit, yardstick) < -GAIN:
        return (
            f"{name} looks mirrored left to right against {rest} (edges agree {fit:.2f}, mirrored {yardstick:.2f}): "
            "lesions may be put on the wrong side; check its orientation."
        )
    if _gain(fit, yardstick) > GAIN:
        return (
            f"{name} lies about {moved:.0f} mm away from {rest} (edges agree {plain:.2f} here, {fit:.2f} there): "
            "align the files, or use --raw on the scanner's images."
        )
    return (
        f"{name} does not show the same head in the same position as {rest} ({numbers}): "
        "files of different people or dates, or not aligned."
    )


def _find_shift(fixed: _Edges, moving: _Edges) -> tuple[float, float]:
    """Shift within `REACH_MM` at which a file fits best, in mm, and the fit there.

    The squared cosine is a sum of products of the six elements of each file's structure tensor, so that its sum over
    the voxels for all shifts at once is a sum of six correlations.
    """
    shape = [size + round(REACH_MM / step) for size, step in zip(fixed.deep.shape, fixed.step_mm, strict=True)]
    total, strength = np.zeros(shape), np.zeros(shape)
    for row, column in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)):
        parts = [
            np.fft.rfftn(part.direction[row] * part.direction[column] * part.deep, shape, (0, 1, 2))
            for part in (fixed, moving)
        ]
        total += (1 if row == column else 2) * np.fft.irfftn(parts[0].conj() * parts[1], shape, (0, 1, 2))
    parts = [np.fft.rfftn((part.direction**2).sum(axis=0) * part.deep, shape, (0, 1, 2)) for part in (fixed, moving)]
    strength = np.fft.irfftn(parts[0].conj() * parts[1], shape, (0, 1, 2))
    steps = np.meshgrid(
        *[np.fft.fftfreq(size, 1 / size) * mm for size, mm in zip(shape, fixed.step_mm, strict=True)], indexing="ij"
    )
    distance = np.sqrt(sum(step**2 for step in steps))
    fit = np.where((distance <= REACH_MM) & (strength > 0.3 * strength.max()), total / np.maximum(strength, 1e-9), 0)
    best = np.unravel_index(fit.argmax(), fit.shape)
    return float(distance[best]), float(fit[best])
