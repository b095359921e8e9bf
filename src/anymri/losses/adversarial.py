"""Losses between the scores of a discriminator and what it is told."""

from __future__ import annotations

from torch import Tensor

__all__ = ["least_squares"]


def least_squares(score: Tensor, label: Tensor | float) -> Tensor:
    """Mean squared distance of scores from a label (least-squares GAN).

    Parameters
    ----------
    score : Tensor
        Without sigmoid.
    label : Tensor or float
        1 for real, 0 for made; of a shape that expands to that of the scores.
    """
    return ((score.float() - label) ** 2).mean()
