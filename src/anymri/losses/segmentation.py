"""Segmentation losses. The field uses four soft Dice losses; each has its own name and none has flags.

All take probabilities (B, C, *S) and binary targets of the same shape, compute in float32 and give a scalar. Voxels
whose target is NaN (`anymri.types.DataSpec.ignore`, rows without a label map) do not count: neither in sums nor in
means. A batch without any voxel that counts gives a constant without gradient.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "binary_cross_entropy",
    "cross_entropy",
    "dice_nnunet",
    "dice_nnunet_per_row",
    "dice_plain",
    "dice_regions",
    "dice_regions_per_row",
    "dice_squared",
    "dice_squared_prediction",
    "level_weights",
    "mean_of_rows",
    "prepare",
]


def prepare(probability: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float32 and in the plain memory layout, 0 where the target is NaN.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if probability.shape != target.shape:
        raise ValueError(f"prediction {tuple(probability.shape)} does not match target {tuple(target.shape)}")
    p, g = probability.float().contiguous(), target.float().contiguous()
    ignored = g.isnan()
    return (p.masked_fill(ignored, 0), g.masked_fill(ignored, 0)) if ignored.any() else (p, g)


def mean_of_rows(values: Tensor, target: Tensor) -> Tensor:
    """Mean of one value per row and channel over the rows that have a label map.

    Parameters
    ----------
    values : Tensor, shape (B, C)
    target : Tensor, shape (B, C, *S)
        NaN throughout a row without a label map; if no row has one, the mean is over all.
    """
    labelled = ~target.isnan().flatten(1).all(dim=1)
    return values.mean() if labelled.all() or not labelled.any() else values[labelled].mean()


def dice_plain(probability: Tensor, target: Tensor) -> Tensor:
    """Dice loss with plain sums over the whole batch, all channels: ``1 - mean_c 2 S pg / (S p + S g + 1e-7)``.

    Parameters
    ----------
    probability, target : Tensor, shape (B, C, *S)

    Notes
    -----
    As used by RFNet and the methods built on its code. A channel absent from the target gives 1.
    """
    p, g = prepare(probability, target)
    axes = (0, *range(2, p.ndim))
    return 1 - (2 * (p * g).sum(axes) / (p.sum(axes) + g.sum(axes) + 1e-7)).mean()


def dice_regions(probability: Tensor, target: Tensor) -> Tensor:
    """Dice loss of overlapping regions: sums over the batch, every channel counted, smooth 1e-5.

    Parameters
    ----------
    probability, target : Tensor, shape (B, C, *S)
        Sigmoid channels, none of them background.

    Notes
    -----
    nnU-Net's loss for region-based training. A channel absent from the target gives 1 and next to no gradient.
    """
    p, g = prepare(probability, target)
    axes = (0, *range(2, p.ndim))
    return 1 - ((2 * (p * g).sum(axes) + 1e-5) / (p.sum(axes) + g.sum(axes) + 1e-5)).mean()


def dice_regions_per_row(probability: Tensor, target: Tensor, smooth: float = 2e-4) -> Tensor:
    """Dice loss of overlapping regions that sees each row's own volume: sums over one row, mean over rows and channels.

    Parameters
    ----------
    probability, target : Tensor, shape (B, C, *S)
        Sigmoid channels, none of them background.
    smooth : float, default=2e-4
        Share of the row's voxels that is added above and below: a region that a row lacks gives
        ``1 - smooth n / (S p + smooth n)``, so it has a gradient as long as something is painted there.

    Notes
    -----
    Ours. In sums over a batch a small region painted too large next to a large one costs next to nothing.
    """
    p, g = prepare(probability, target)
    axes = tuple(range(2, p.ndim))
    overlap, total = 2 * (p * g).sum(axes), p.sum(axes) + g.sum(axes)
    few = smooth * p[0, 0].numel()
    return 1 - mean_of_rows((overlap + few) / (total + few), target)


def dice_squared(probability: Tensor, target: Tensor) -> Tensor:
    """Dice loss with both sums squared, summed over the channels: ``S_c 1 - 2 S pg / (S p^2 + S g^2 + 1e-7)``.

    Parameters
    ----------
    probability, target : Tensor, shape (B, C, *S)
        The channels to count; give the foreground channels only where a paper leaves background out.

    Notes
    -----
    As used by ACN and SMU-Net; sums run over the whole batch.
    """
    p, g = prepare(probability, target)
    axes = (0, *range(2, p.ndim))
    return (1 - 2 * (p * g).sum(axes) / ((p * p).sum(axes) + (g * g).sum(axes) + 1e-7)).sum()


def dice_squared_prediction(probability: Tensor, target: Tensor) -> Tensor:
    """Dice loss with only the prediction squared: ``1 - mean (2 S pg + 1e-5) / (S p^2 + S g + 1e-5)``.

    Parameters
    ----------
    probability, target : Tensor, shape (B, C, *S)

    Notes
    -----
    As used by U-HeMIS and U-HVED: sums over voxels of one row, mean over rows and all channels.
    """
    p, g = prepare(probability, target)
    axes = tuple(range(2, p.ndim))
    return 1 - mean_of_rows((2 * (p * g).sum(axes) + 1e-5) / ((p * p).sum(axes) + g.sum(axes) + 1e-5), target)


def dice_nnunet(probability: Tensor, target: Tensor) -> Tensor:
    """Dice loss of nnU-Net's 3D configurations: sums over the batch, background (channel 0) left out, smooth 1e-5.

    Parameters
    ----------
    probability, target : Tensor, shape (B, C, *S)

    Notes
    -----
    nnU-Net minimises minus the Dice; 1 is added here, which changes no gradient. A channel absent from both
    gives 0.
    """
    p, g = prepare(probability[:, 1:], target[:, 1:])
    axes = (0, *range(2, p.ndim))
    overlap, total = 2 * (p * g).sum(axes), p.sum(axes) + g.sum(axes)
    return 1 - ((overlap + 1e-5) / (total + 1e-5)).mean()


def dice_nnunet_per_row(probability: Tensor, target: Tensor) -> Tensor:
    """Dice loss of nnU-Net's 3D full-resolution configuration: as `dice_nnunet`, with the sums of one row.

    Parameters
    ----------
    probability, target : Tensor, shape (B, C, *S)
        Background (channel 0) is left out.
    """
    p, g = prepare(probability[:, 1:], target[:, 1:])
    axes = tuple(range(2, p.ndim))
    overlap, total = 2 * (p * g).sum(axes), p.sum(axes) + g.sum(axes)
    return 1 - mean_of_rows((overlap + 1e-5) / (total + 1e-5), target)


def level_weights(count: int) -> list[float]:
    """``1, 1/2, 1/4, ...`` over their sum, for the `count` levels that a loss reads, finest first."""
    weights = [0.5**level for level in range(count)]
    return [weight / sum(weights) for weight in weights]


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of softmax channels, mean over voxels.

    Parameters
    ----------
    logits : Tensor, shape (B, C, *S)
    target : Tensor, shape (B, C, *S)
        One-hot, from `anymri.types.Head.target`.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    scores, onehot = prepare(logits, target)
    entropy = -(scores.log_softmax(dim=1) * onehot).sum(dim=1)
    counted = ~target[:, 0].isnan()
    return entropy.mean() if counted.all() else entropy.sum() / counted.sum().clamp_min(1)


def binary_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of sigmoid channels, mean over voxels and channels.

    Parameters
    ----------
    logits, target : Tensor, shape (B, C, *S)

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    counted = ~target.isnan()
    if counted.all():
        return F.binary_cross_entropy_with_logits(logits, target)
    scores, goal = prepare(logits, target)
    every = F.binary_cross_entropy_with_logits(scores, goal, reduction="none")
    return every.masked_fill(~counted, 0).sum() / counted.sum().clamp_min(1)
