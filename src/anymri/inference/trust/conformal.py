"""Conformal bounds: quantiles of calibration scores that a new study exceeds no more often than is stated."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["controlled_threshold", "highest_rank", "upper_bound"]


def upper_bound(scores: Sequence[float], confidence: float, absent: int = 0) -> float:
    """Bound that the score of a new study stays below with at least this probability.

    Parameters
    ----------
    scores : sequence of float
        Of the calibration's studies.
    confidence : float
        In (0, 1).
    absent : int, default=0
        Studies whose score is infinite and not in `scores`.

    Returns
    -------
    float
        The k-th smallest score, k = ceil((n + 1) confidence) of n studies; infinite where there are too few.

    Notes
    -----
    If a new study and the n are exchangeable, its rank among all n + 1 is uniform, so that it lies at or below the
    k-th with probability k / (n + 1) or more [1]_.

    References
    ----------
    .. [1] Vovk, Gammerman, Shafer, Algorithmic Learning in a Random World, Springer 2005.
    """
    rank = math.ceil((len(scores) + absent + 1) * confidence - 1e-9)
    return math.inf if rank > len(scores) else sorted(scores)[max(rank, 1) - 1]


def highest_rank(scores: Sequence[float], confidence: float) -> float:
    """`upper_bound`, or the largest score where there are too few for the confidence: 1 in n + 1 then lies above."""
    return min(upper_bound(scores, confidence), max(scores, default=math.inf))


def controlled_threshold(
    thresholds: Sequence[float], mean_missed: Sequence[float] | NDArray[np.floating], n: int, share: float
) -> float | None:
    """Highest threshold at which the expected missed share of a new study is at most `share`.

    Parameters
    ----------
    thresholds : sequence of float
        From high to low.
    mean_missed : sequence of float
        Mean missed share of the calibration's studies at each; falls with the threshold.
    n : int
        Number of these studies.
    share : float

    Returns
    -------
    float or None
        None where even the lowest threshold does not promise it, e.g. because n is too small.

    Notes
    -----
    Conformal risk control [1]_: the loss of the new study is taken for the worst, (n mean + 1) / (n + 1) <= share.

    References
    ----------
    .. [1] Angelopoulos, Bates, Fisch, Lei, Schuster, Conformal risk control, ICLR 2024.
    """
    for threshold, missed in zip(thresholds, mean_missed, strict=True):
        if (n * float(missed) + 1) / (n + 1) <= share:
            return threshold
    return None
