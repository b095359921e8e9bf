"""Lower bounds of the mutual information of two features, from a critic's scores.

All take scores (N, N): what a critic says of the first feature of sample i (row) and the second of sample j (column).
The diagonal holds joint pairs, all else pairs that do not belong together. They give a bound in nats, to be raised.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["BOUNDS", "Bound", "donsker_varadhan", "info_nce", "jensen_shannon"]

#: Names of the bounds.
Bound = Literal["donsker_varadhan", "info_nce", "jensen_shannon"]


def _split(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Scores of joint pairs (N,), and of the others (N (N - 1),).

    Raises
    ------
    ValueError
        If there are not at least two samples as often in rows as in columns.
    """
    count = len(scores)
    if scores.shape != (count, count) or count < 2:
        raise ValueError(f"scores of shape {tuple(scores.shape)} are not those of at least two samples")
    scores = scores.float()
    others = ~torch.eye(count, dtype=torch.bool, device=scores.device)
    return scores.diagonal(), scores[others]


def donsker_varadhan(scores: Tensor) -> Tensor:
    """``E_joint[T] - log E_marginal[e^T]``, the bound of MINE.

    Parameters
    ----------
    scores : Tensor, shape (N, N)

    Notes
    -----
    Its gradient on a batch is biased (the logarithm of a mean), and with few pairs its value exceeds the truth.
    """
    joint, marginal = _split(scores)
    return joint.mean() - (marginal.logsumexp(dim=0) - math.log(len(marginal)))


def jensen_shannon(scores: Tensor) -> Tensor:
    """``-E_joint[softplus(-T)] - E_marginal[softplus(T)]``, which rises with the information; at most 0.

    Parameters
    ----------
    scores : Tensor, shape (N, N)

    Notes
    -----
    Independent features give ``-2 log 2``; it bounds a divergence of Jensen and Shannon, not the information itself.
    """
    joint, marginal = _split(scores)
    return -F.softplus(-joint).mean() - F.softplus(marginal).mean()


def info_nce(scores: Tensor) -> Tensor:
    """``E_i[T_ii - log sum_j e^T_ij] + log N``, which never exceeds ``log N``.

    Parameters
    ----------
    scores : Tensor, shape (N, N)
    """
    _split(scores)
    return scores.float().log_softmax(dim=1).diagonal().mean() + math.log(len(scores))


#: Every bound by name.
BOUNDS: dict[Bound, Callable[[Tensor], Tensor]] = {
    "donsker_varadhan": donsker_varadhan,
    "info_nce": info_nce,
    "jensen_shannon": jensen_shannon,
}
