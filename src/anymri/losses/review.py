"""Review Dice loss: equation (1) of the review by Azad et al. (2025)."""

from __future__ import annotations

from torch import Tensor

from anymri.losses.segmentation import mean_of_rows, prepare

__all__ = ["review_dice_loss"]


def review_dice_loss(probability: Tensor, target: Tensor, epsilon: float = 1e-7) -> Tensor:
    """One minus the review's equation (1), mean over rows and channels: ``1 - 2 S pg / (S p^2 + S g^2 + epsilon)``.

    Parameters
    ----------
    probability, target : Tensor, shape (B, C, *S)
    epsilon : float, default=1e-7
        The paper gives no value.

    Returns
    -------
    Tensor
        Scalar in [0, 1].

    Raises
    ------
    ValueError
        If the shapes differ.

    Notes
    -----
    The paper calls the overlap itself ``L_Dice``; minimised as printed it would drive the overlap to zero, so one
    minus it is taken. A channel absent from both gives 1, not 0: epsilon stands in the denominator alone. The same
    number as a score is `anymri.evaluation.metrics.calibration.review_dice`.

    References
    ----------
    Azad et al., Addressing missing modality challenges in MRI images, Computational Visual Media 11(2), 2025, eq. (1).
    """
    p, g = prepare(probability, target)
    axes = tuple(range(2, p.ndim))
    overlap = 2 * (p * g).sum(axes) / ((p * p).sum(axes) + (g * g).sum(axes) + epsilon)
    return 1 - mean_of_rows(overlap, target)
