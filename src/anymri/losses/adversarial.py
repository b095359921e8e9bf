"""Adversarial losses on discriminator scores."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["deceive", "judge", "least_squares"]


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


def judge(discriminator: nn.Module, sources: Tensor, made: Tensor, real: Tensor) -> dict[str, Tensor]:
    """Least-squares terms of a discriminator that sees targets beside their sources.

    Parameters
    ----------
    discriminator : nn.Module
    sources, made, real : Tensor, shape (N, channels, *S)

    Returns
    -------
    dict of str to Tensor
        ``fake`` and ``real``.
    """
    pairs = {"fake": (made.detach(), 0.0), "real": (real, 1.0)}
    return {
        name: least_squares(discriminator(torch.cat([sources, image.to(sources)], dim=1)), label)
        for name, (image, label) in pairs.items()
    }


def deceive(discriminator: nn.Module, sources: Tensor, made: Tensor) -> Tensor:
    """Least-squares term of the generator whose targets such a discriminator sees; parameters as in `judge`."""
    return least_squares(discriminator(torch.cat([sources, made.to(sources)], dim=1)), 1.0)
