"""Agreement measures: how each sequence of a study fits the other sequences that are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from anymri.data.appearance.brain_frame import blocks
from anymri.data.geometry import Geometry
from anymri.data.nifti import Volume
from anymri.inference.trust.quality.measures import STEP_MM
from anymri.inference.trust.same_head import Fit, compare_heads

__all__ = ["AGREEMENT", "best_agreement", "measure_agreement"]

#: Names of the measures.
AGREEMENT = ("gain", "fit", "overlap", "centre")


def measure_agreement(volumes: Mapping[str, Volume]) -> dict[str, dict[str, float]]:
    """Measures of every sequence that can be compared with another one.

    Parameters
    ----------
    volumes : mapping of str to Volume
        Brains on one grid, background 0.

    Returns
    -------
    dict of str to dict of str to float
        By modality code the best that any other sequence gives: ``gain`` and ``fit`` of the edges
        (`anymri.inference.trust.same_head.Fit`), ``overlap`` of the brains (Dice), distance of their ``centre`` in mm.
    """
    small = small_study(volumes)
    pairs: dict[tuple[str, str], dict[str, float]] = {}
    for (one, other), fit in compare_heads(small).items():
        masks = small[one].array != 0, small[other].array != 0
        pairs[one, other] = pair_agreement(fit, *masks, small[one].geometry.spacing_mm)
    return {
        code: best_agreement([values for pair, values in pairs.items() if code in pair])
        for code in volumes
        if any(code in pair for pair in pairs)
    }


def small_study(volumes: Mapping[str, Volume]) -> dict[str, Volume]:
    """Copies with voxels of about 3 mm, cropped to what all sequences show together.

    Parameters
    ----------
    volumes : mapping of str to Volume
        Brains on one grid, background 0.
    """
    shown = np.logical_or.reduce([volume.array != 0 for volume in volumes.values()])
    if not shown.any():
        return {}
    ends = [np.flatnonzero(shown.any(axis=other))[[0, -1]] for other in ((1, 2), (0, 2), (0, 1))]
    box = tuple(slice(int(first), int(last) + 1) for first, last in ends)
    small = {}
    for code, volume in volumes.items():
        spacing = volume.geometry.spacing_mm
        factor = [max(1, round(STEP_MM / size)) for size in spacing]
        values, share = blocks(volume.array[box], factor)
        values = np.where(share >= 0.5, values, 0).astype(np.float32)
        steps = [size * times for size, times in zip(spacing, factor, strict=True)]
        affine = np.diag([*steps[::-1], 1.0])
        shape = (values.shape[2], values.shape[1], values.shape[0])
        small[code] = Volume(values, Geometry(affine, shape), volume.source)
    return small


def pair_agreement(fit: Fit, one: np.ndarray, other: np.ndarray, steps_mm: Sequence[float]) -> dict[str, float]:
    """Measures of two sequences.

    Parameters
    ----------
    fit : Fit
    one, other : ndarray of bool, shape (D, H, W)
        Brains.
    steps_mm : list of float
    """
    overlap = 2 * float((one & other).sum()) / max(1, int(one.sum()) + int(other.sum()))
    distance = 0.0
    for axis, step in enumerate(steps_mm):
        rest = tuple(other_axis for other_axis in range(3) if other_axis != axis)
        middles = [float(np.average(np.arange(mask.shape[axis]), weights=mask.sum(axis=rest))) for mask in (one, other)]
        distance += ((middles[0] - middles[1]) * step) ** 2
    return {"gain": fit.gain, "fit": max(fit[:2]), "overlap": overlap, "centre": float(np.sqrt(distance))}


def best_agreement(pairs: list[dict[str, float]]) -> dict[str, float]:
    """The best of several pairs: a sequence that fits one other is in place, whatever lies elsewhere."""
    return {name: (min if name == "centre" else max)(values[name] for values in pairs) for name in AGREEMENT}
