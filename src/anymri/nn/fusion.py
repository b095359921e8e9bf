"""Fusion of the available modalities' features: masked means and moments, and products of experts.

Absent features are dropped by `torch.where`, never by multiplication, so whatever they hold (NaN included)
reaches neither the result nor a gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["expert", "masked_mean", "masked_moments", "product_of_experts", "spread"]


def spread(row: Tensor, ndim: int) -> Tensor:
    """Append axes of length 1 to ``row`` until it has `ndim` axes."""
    return row.reshape(*row.shape, *([1] * (ndim - row.ndim)))


def _kept(features: list[Tensor], shown: Tensor) -> list[Tensor]:
    """Features with the rows that lack their modality set to 0."""
    if bool(shown.all()):
        return features
    masks = [spread(shown[:, i], features[i].ndim) for i in range(len(features))]
    return [torch.where(mask, feature, 0.0) for mask, feature in zip(masks, features, strict=True)]


def masked_mean(features: list[Tensor], shown: Tensor) -> Tensor:
    """Mean over the available modalities.

    Parameters
    ----------
    features : list of N Tensor, each of shape (B, C, *S)
    shown : Tensor of bool, shape (B, N)
        Which of the N each row has; at least one.

    Returns
    -------
    Tensor, shape (B, C, *S)
    """
    kept = _kept(features, shown)
    number = shown.sum(dim=1).to(kept[0].dtype)
    return sum(kept[1:], kept[0]) / spread(number, kept[0].ndim)


def masked_moments(features: list[Tensor], shown: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and population variance over the available modalities.

    Parameters
    ----------
    features : list of N Tensor, each of shape (B, C, *S)
    shown : Tensor of bool, shape (B, N)
        Which of the N each row has; at least one.

    Returns
    -------
    mean, variance : Tensor, shape (B, C, *S)
        With one modality the variance is exactly 0.
    """
    kept = _kept(features, shown)
    count = spread(shown.sum(dim=1), kept[0].ndim).to(kept[0].dtype)
    mean = sum(kept[1:], kept[0]) / count
    squares = _kept([(feature - mean) ** 2 for feature in kept], shown)
    return mean, sum(squares[1:], squares[0]) / count


def expert(mean: Tensor, log_variance: Tensor, eps: float = 1e-7) -> tuple[Tensor, Tensor]:
    """Precision of one Gaussian expert, ``1 / (variance + eps)``, and precision times mean."""
    precision = 1 / (log_variance.exp() + eps)
    return precision, precision * mean


def product_of_experts(experts: list[tuple[Tensor, Tensor]], shown: Tensor, eps: float = 1e-7) -> tuple[Tensor, Tensor]:
    """Product of the available Gaussian experts and the prior N(0, 1).

    Parameters
    ----------
    experts : list of N pairs of Tensor, each of shape (B, C, *S)
        From `expert`.
    shown : Tensor of bool, shape (B, N)
        Which experts each row has; none gives the prior.
    eps : float, default=1e-7
        Added to the variance before the logarithm.

    Returns
    -------
    mean, log_variance : Tensor, shape (B, C, *S)
    """
    total = torch.ones_like(experts[0][0])
    weighted = torch.zeros_like(experts[0][0])
    for i, (precision, precision_mean) in enumerate(experts):
        # A row that every expert reaches needs no selection; the result is the same bits.
        everywhere = bool(shown[:, i].all())
        mask = spread(shown[:, i], precision.ndim)
        total = total + (precision if everywhere else torch.where(mask, precision, 0.0))
        weighted = weighted + (precision_mean if everywhere else torch.where(mask, precision_mean, 0.0))
    variance = 1 / total
    return weighted * variance, (variance + eps).log()
