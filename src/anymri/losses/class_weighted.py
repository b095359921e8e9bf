"""Class-weighted cross-entropy, weights inverse to class frequency."""

from __future__ import annotations

import torch
from torch import Tensor

from anymri.losses.segmentation import dice_plain, prepare

__all__ = ["cross_entropy_and_dice", "weighted_cross_entropy"]


def weighted_cross_entropy(probability: Tensor, target: Tensor, floor: float = 0.005) -> Tensor:
    """Mean over voxels of ``-sum_c (1 - share_c) g_c log(max(p_c, floor))``.

    Parameters
    ----------
    probability : Tensor, shape (B, C, *S)
        Softmax probabilities.
    target : Tensor, shape (B, C, *S)
        One-hot.
    floor : float, default=0.005
        Probabilities below it count as this, and get no gradient.

    Notes
    -----
    As used by RobustSeg, RFNet and the methods built on their code. ``share_c`` is the share of class c among the
    voxels of one row; RobustSeg takes it over the batch, which its batches of one row do not tell apart.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    p, g = prepare(probability, target)
    count = g.sum(tuple(range(2, g.ndim)), keepdim=True)
    weight = 1 - count / count.sum(dim=1, keepdim=True).clamp_min(1)
    # One logarithm per voxel, of its own class.
    entropy = -((weight * g).sum(dim=1) * (p * g).sum(dim=1).clamp(floor, 1).log())
    counted = ~target[:, 0].isnan()
    return entropy.mean() if counted.all() else entropy.sum() / counted.sum().clamp_min(1)


def cross_entropy_and_dice(name: str, probabilities: list[Tensor], targets: list[Tensor]) -> dict[str, Tensor]:
    """Sum over predictions of `weighted_cross_entropy`, and of `dice_plain`: the pair of RFNet and its successors.

    Parameters
    ----------
    name : str
        Beginning of the terms' names.
    probabilities, targets : list of Tensor, each of shape (B, C, *S)

    Returns
    -------
    dict of str to Tensor
        ``<name>_cross_entropy`` and ``<name>_dice``.
    """
    pairs = list(zip(probabilities, targets, strict=True))
    return {
        f"{name}_cross_entropy": torch.stack([weighted_cross_entropy(p, g) for p, g in pairs]).sum(),
        f"{name}_dice": torch.stack([dice_plain(p, g) for p, g in pairs]).sum(),
    }
