"""Calibration metrics: calibration error, Brier score, and the soft Dice of the review's equation (1)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["brier", "expected_calibration_error", "reliability", "review_dice"]

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]


def _checked(probability: Array, reference: Mask, inside: Mask | None) -> tuple[Array, Array]:
    """Both as flat float64 arrays of the voxels inside.

    Raises
    ------
    ValueError
        If shapes differ, the reference is not boolean, or a probability is outside [0, 1] or not a number.
    """
    probability, reference = np.asarray(probability), np.asarray(reference)
    if probability.shape != reference.shape or (inside is not None and np.shape(inside) != reference.shape):
        raise ValueError(f"probability {probability.shape} and reference {reference.shape} differ in shape")
    if reference.dtype != bool:
        raise ValueError(f"the reference must be boolean, not {reference.dtype}")
    chosen = slice(None) if inside is None else np.asarray(inside, bool)
    p, r = probability[chosen].ravel().astype(np.float64), reference[chosen].ravel().astype(np.float64)
    if p.size and not (p.min() >= 0 and p.max() <= 1):
        raise ValueError("a probability is outside [0, 1] or not a number")
    return p, r


def reliability(
    probability: Array, reference: Mask, inside: Mask | None = None, bins: int = 15
) -> tuple[NDArray[np.int64], Array, Array]:
    """Points of a reliability diagram.

    Parameters
    ----------
    probability : ndarray of float, shape (D, H, W)
        Of the positive class, e.g. a region.
    reference : ndarray of bool, shape (D, H, W)
    inside : ndarray of bool, shape (D, H, W), or None
        Voxels to count, usually the brain: far background is certain and right, and would hide everything else.
    bins : int, default=15
        Bins of equal width over [0, 1]; bin i holds (i / bins, (i + 1) / bins], the first one also 0.

    Returns
    -------
    count : int array, shape (bins,)
    confidence : float array, shape (bins,)
        Mean probability in the bin; NaN in an empty one.
    frequency : float array, shape (bins,)
        Share of positive voxels in the bin; NaN in an empty one.
    """
    if bins < 1:
        raise ValueError(f"bins is {bins}; at least one is needed")
    p, r = _checked(probability, reference, inside)
    place = np.clip(np.ceil(p * bins).astype(np.int64) - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(place, p, bins) / count
        frequency = np.bincount(place, r, bins) / count
    return count, confidence, frequency


def expected_calibration_error(
    probability: Array, reference: Mask, inside: Mask | None = None, bins: int = 15
) -> float:
    """Expected calibration error of a binary probability: mean gap of confidence and frequency, weighed by voxels.

    Parameters
    ----------
    probability : ndarray of float, shape (D, H, W)
    reference : ndarray of bool, shape (D, H, W)
    inside : ndarray of bool, shape (D, H, W), or None
    bins : int, default=15

    Returns
    -------
    float
        In [0, 1]; 0 is calibrated. No voxel inside: NaN. An empty reference needs no rule: every probability above
        0 is then overconfident.

    Notes
    -----
    Of the positive class, not of the winning class as in multi-class reports, so that regions that overlap can be
    scored and a rare class is not hidden by a well-known background.
    """
    count, confidence, frequency = reliability(probability, reference, inside, bins)
    total = int(count.sum())
    return float(np.nansum(count * np.abs(confidence - frequency)) / total) if total else float("nan")


def brier(probability: Array, reference: Mask, inside: Mask | None = None) -> float:
    """Brier score, mean (p - y)^2 over voxels; no voxel inside: NaN.

    Parameters
    ----------
    probability : ndarray of float, shape (D, H, W)
    reference : ndarray of bool, shape (D, H, W)
    inside : ndarray of bool, shape (D, H, W), or None
    """
    p, r = _checked(probability, reference, inside)
    return float(np.square(p - r).mean()) if p.size else float("nan")


def review_dice(probability: Array, reference: Mask, epsilon: float = 1e-7) -> float:
    """Soft Dice as printed in the review's equation (1): ``2 S pg / (S p^2 + S g^2 + epsilon)``.

    Parameters
    ----------
    probability : ndarray of float or bool, shape (D, H, W)
        In [0, 1]; a boolean mask is allowed, and then the sums of squares are plain counts.
    reference : ndarray of bool, shape (D, H, W)
    epsilon : float, default=1e-7
        The paper gives no value.

    Returns
    -------
    float
        In [0, 1]. Both empty: **0**, because epsilon stands in the denominator alone; `metrics.dice` gives 1 there.

    References
    ----------
    Azad et al., Addressing missing modality challenges in MRI images, Computational Visual Media 11(2), 2025, eq. (1).
    """
    p, r = _checked(probability, reference, None)
    return float(2 * (p @ r) / (p @ p + r @ r + epsilon))
