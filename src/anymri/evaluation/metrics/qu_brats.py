"""Uncertainty metrics: the QU-BraTS score, which rewards being unsure where one is wrong, and only there."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["QuBrats", "binary_entropy", "qu_brats"]

Mask = NDArray[np.bool_]
#: Added to the counts that are divided by, as in the authors' program.
EPSILON = float(np.finfo(np.float32).eps)


class QuBrats(NamedTuple):
    """QU-BraTS score of one region.

    Attributes
    ----------
    score : float
        Mean of `dice_auc`, 1 - `ftp_auc` and 1 - `ftn_auc`.
    dice_auc : float
        Area under the Dice of the voxels that are kept, over the thresholds.
    ftp_auc, ftn_auc : float
        Areas under the shares of true positives and of true negatives that are filtered away as uncertain.
    """

    score: float
    dice_auc: float
    ftp_auc: float
    ftn_auc: float


def binary_entropy(probability: NDArray[Any]) -> NDArray[np.float64]:
    """Entropy of a region's probability at every voxel, in bits: 0 sure to 1 clueless."""
    p = np.clip(np.asarray(probability, np.float64), 0, 1)
    return np.clip(-(p * np.log2(np.maximum(p, 1e-12)) + (1 - p) * np.log2(np.maximum(1 - p, 1e-12))), 0, 1)


def qu_brats(
    prediction: Mask, reference: Mask, uncertainty: NDArray[Any], brain: Mask | None = None, points: int = 100
) -> QuBrats:
    """QU-BraTS score: Dice of what is left when uncertain voxels are filtered, against what is lost by it.

    Parameters
    ----------
    prediction, reference : ndarray of bool, shape (D, H, W)
    uncertainty : ndarray of float, shape (D, H, W)
        0 sure to 1 clueless (the authors' program takes it times 100).
    brain : ndarray of bool, shape (D, H, W), or None
        Voxels whose true positives and true negatives are counted; None = all. The Dice counts all voxels.
    points : int, default=100
        Steps of the threshold from 1 down to 0; a voxel above it is filtered.

    Returns
    -------
    QuBrats
        Each value within 0 and 1. Where nothing of prediction and reference is left, Dice is 1; where there are no
        true positives (or negatives) at all, none are filtered: 0.

    Raises
    ------
    ValueError
        If shapes differ, a mask is not boolean, or an uncertainty is outside [0, 1] or not a number.

    References
    ----------
    Mehta et al., QU-BraTS: MICCAI BraTS 2020 challenge on quantifying uncertainty in brain tumor segmentation, MELBA
    2022:026, section 3.
    """
    inside = np.ones(np.shape(prediction), bool) if brain is None else brain
    masks = [np.asarray(mask) for mask in (prediction, reference, inside)]
    uncertainty = np.asarray(uncertainty, np.float64)
    if any(mask.dtype != bool or mask.shape != uncertainty.shape for mask in masks):
        raise ValueError("prediction, reference and brain must be boolean and have the shape of the uncertainty")
    if uncertainty.size and not (uncertainty.min() >= 0 and uncertainty.max() <= 1):
        raise ValueError("an uncertainty is outside [0, 1] or not a number")
    found, real, counted = masks
    thresholds = np.arange(points + 1) / points  # not linspace: an uncertainty of 37 in 100 is 37 / 100

    def kept(mask: Mask) -> NDArray[np.float64]:
        """Voxels of a mask that are kept at each threshold."""
        return np.searchsorted(np.sort(uncertainty[mask]), thresholds, side="right").astype(np.float64)

    both, either = kept(found & real), kept(found) + kept(real)
    dice = np.where(either > 0, 2 * both / np.maximum(either, 1), 1.0)
    positives, negatives = found & real & counted, ~found & ~real & counted
    areas = [
        float(np.trapezoid(curve, thresholds))
        for curve in (
            dice,
            (positives.sum() - kept(positives)) / (positives.sum() + EPSILON),
            (negatives.sum() - kept(negatives)) / (negatives.sum() + EPSILON),
        )
    ]
    return QuBrats((areas[0] + 1 - areas[1] + 1 - areas[2]) / 3, *areas)
