"""Co-training losses between a full and a missing path (ACN, SMU-Net, MMCFormer)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from anymri.moved import hand_on

__all__ = ["consistency", "ramp_up", "discriminator_bce"]


def ramp_up(progress: float, length: float, height: float = 10.0) -> float:
    """Weight ``height * exp(-5 (1 - min(progress, length) / length)^2)`` of the consistency.

    Parameters
    ----------
    progress, length : float
        In one unit, e.g. both epochs or both shares of the stage; `length` 0 gives `height`.
    height : float, default=10.0
        Published value of ACN and its successors.
    """
    rest = 1.0 - min(max(progress, 0.0), length) / length if length else 0.0
    return height * math.exp(-5.0 * rest * rest)


def consistency(first: Tensor, second: Tensor) -> Tensor:
    """Sum over channels of the mean squared difference of two (B, C, *S); both get gradients."""
    difference = (first.float() - second.float()) ** 2
    return difference.mean(dim=[0, *range(2, difference.ndim)]).sum()


def discriminator_bce(scores: Tensor, label: float) -> Tensor:
    """Binary cross-entropy of a discriminator's scores (any shape, before the sigmoid) against one label."""
    return F.binary_cross_entropy_with_logits(scores.float(), torch.full_like(scores, label, dtype=torch.float32))


__getattr__ = hand_on(__name__)
