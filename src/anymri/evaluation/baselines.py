"""Synthesis baselines: two trivial ways to fill in a missing sequence, which every method must beat.

*Copy the best available*: the available sequence that was most like the target on the training subjects.
*Linear regression*: voxel by voxel from the available sequences to the target, fitted on the brain voxels of the
training subjects. Both need only the second moments of the voxels, collected once per subject.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anymri.evaluation.metrics import data_range
from anymri.types import DataSpec

if TYPE_CHECKING:
    from anymri.data.study import Study

__all__ = ["BASELINES", "Moments", "collect_moments", "copy_best_available", "linear_regression"]

Array = NDArray[Any]
#: Names in the results table.
BASELINES = ("copy_best_available", "linear_regression")


@dataclass(frozen=True)
class Moments:
    """Second moments of one subject's voxels, within the brain of each target.

    Parameters
    ----------
    gram : dict of str to float64 array, shape (M + 1, M + 1)
        Of each present target: sums of products of (1, sequence 1, ..., sequence M) over the target's brain voxels;
        NaN in rows and columns of absent sequences.
    data_range : dict of str to float
        Of each present target, see `anymri.evaluation.metrics.data_range`.
    """

    gram: dict[str, Array]
    data_range: dict[str, float]


def collect_moments(study: Study, spec: DataSpec) -> Moments:
    """Moments of one cached subject."""
    image = np.asarray(study.image)
    grams, ranges = {}, {}
    for channel in np.flatnonzero(study.present):
        target = spec.modalities[channel]
        inside = study.brain([channel])
        voxels = image[:, inside].astype(np.float64)
        rows = np.concatenate([np.ones((1, voxels.shape[1])), voxels])
        grams[target] = rows @ rows.T
        ranges[target] = data_range(image[channel], inside)
    return Moments(grams, ranges)


def copy_best_available(training: Iterable[Moments], spec: DataSpec, target: str, subset: Sequence[str]) -> str | None:
    """Available sequence with the best mean PSNR against the target on the training subjects.

    Parameters
    ----------
    training : iterable of Moments
    spec : DataSpec
    target : str
    subset : sequence of str
        What is available.

    Returns
    -------
    str or None
        Modality code; None if no training subject has the target and a sequence of the subset.
    """
    t = spec.index(target) + 1
    found: dict[str, list[float]] = {code: [] for code in subset}
    for moments in training:
        gram = moments.gram.get(target)
        if gram is None:
            continue
        for code in subset:
            s = spec.index(code) + 1
            error = (gram[t, t] - 2 * gram[t, s] + gram[s, s]) / gram[0, 0]
            if np.isfinite(error):
                found[code].append(10 * float(np.log10(moments.data_range[target] ** 2 / max(error, 1e-12))))
    means = {code: float(np.mean(values)) for code, values in found.items() if values}
    return max(means, key=lambda code: means[code]) if means else None


def linear_regression(
    training: Iterable[Moments], spec: DataSpec, target: str, subset: Sequence[str]
) -> dict[str, float] | None:
    """Least-squares coefficients of the available sequences for the target.

    Returns
    -------
    dict of str to float or None
        By modality code, and the intercept under ``""``. Every training voxel weighs the same. None if no training
        subject has the target and the whole subset.
    """
    t, columns = spec.index(target) + 1, [0, *(spec.index(code) + 1 for code in subset)]
    total = np.zeros((len(columns), len(columns)))
    right = np.zeros(len(columns))
    used = False
    for moments in training:
        gram = moments.gram.get(target)
        if gram is None or not np.isfinite(gram[np.ix_([*columns, t], [*columns, t])]).all():
            continue
        total += gram[np.ix_(columns, columns)]
        right += gram[columns, t]
        used = True
    if not used:
        return None
    solution = np.linalg.lstsq(total, right, rcond=None)[0]
    return dict(zip(("", *subset), solution.tolist(), strict=True))


def fill_in(
    name: str, training: Sequence[Moments], spec: DataSpec, target: str, available: Mapping[str, Array]
) -> Array | None:
    """Image (D, H, W) that a baseline puts in place of the target.

    Parameters
    ----------
    name : {"copy_best_available", "linear_regression"}
    training : sequence of Moments
    spec : DataSpec
    target : str
    available : dict of str to float array, shape (D, H, W)
        The subset, in the order of the specification.

    Returns
    -------
    ndarray or None
        None where the training subjects do not allow it.
    """
    subset = tuple(available)
    if name == "copy_best_available":
        source = copy_best_available(training, spec, target, subset)
        return None if source is None else available[source]
    weights = linear_regression(training, spec, target, subset)
    if weights is None:
        return None
    filled = np.full(available[subset[0]].shape, weights[""])
    for code in subset:
        filled += weights[code] * available[code]
    return filled
