"""Classification metrics of whole subjects: area under the ROC curve and balanced accuracy."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["auroc", "balanced_accuracy", "macro_auroc"]


def auroc(score: ArrayLike, positive: ArrayLike) -> float:
    """Area under the ROC curve: chance that a positive subject scores above a negative one, ties counting half.

    Parameters
    ----------
    score : array of float, shape (N,)
        Higher means more likely positive; any monotone scale.
    positive : array of bool, shape (N,)

    Returns
    -------
    float
        In [0, 1]. No positive or no negative subject: NaN, as there is no pair to order.

    Raises
    ------
    ValueError
        If the shapes differ, `positive` is not boolean, or a score is not a number.
    """
    from scipy.stats import rankdata

    values, truth = np.asarray(score, np.float64), np.asarray(positive)
    if values.shape != truth.shape or values.ndim != 1:
        raise ValueError(f"scores {values.shape} and classes {truth.shape} must be two lists of one length")
    if truth.dtype != bool:
        raise ValueError(f"classes must be boolean, not {truth.dtype}")
    if np.isnan(values).any():
        raise ValueError("a score is not a number")
    n, m = int(truth.sum()), int((~truth).sum())
    if n == 0 or m == 0:
        return float("nan")
    return float((rankdata(values)[truth].sum() - n * (n + 1) / 2) / (n * m))


def macro_auroc(probability: ArrayLike, truth: ArrayLike) -> float:
    """Mean over the classes of each class's `auroc` against the rest.

    Parameters
    ----------
    probability : array of float, shape (N, K)
    truth : array of int, shape (N,)
        Class numbers.

    Returns
    -------
    float
        Classes without a subject, or with every subject, are left out; none left: NaN.
    """
    values, classes = np.asarray(probability, np.float64), np.asarray(truth)
    if values.ndim != 2 or classes.shape != values.shape[:1]:
        raise ValueError(f"probabilities {values.shape} and classes {classes.shape} do not fit")
    areas = [auroc(values[:, k], classes == k) for k in range(values.shape[1])]
    areas = [area for area in areas if not np.isnan(area)]
    return float(np.mean(areas)) if areas else float("nan")


def balanced_accuracy(predicted: ArrayLike, truth: ArrayLike) -> float:
    """Mean over the classes of the share of their subjects that were recognised.

    Parameters
    ----------
    predicted, truth : array of int or str, shape (N,)

    Returns
    -------
    float
        In [0, 1]. Only classes that occur in `truth` count; a predicted class that never occurs is an error of the
        others. No subject: NaN.
    """
    guess, real = np.asarray(predicted), np.asarray(truth)
    if guess.shape != real.shape or real.ndim != 1:
        raise ValueError(f"predictions {guess.shape} and classes {real.shape} must be two lists of one length")
    if not real.size:
        return float("nan")
    return float(np.mean([(guess[real == name] == name).mean() for name in np.unique(real)]))
