"""Finite numbers: find NaN and infinity in weights and outputs, which otherwise read as "nothing found"."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from anymri.types import Prediction

__all__ = ["find_non_finite", "has_finite_logits", "is_finite"]


def is_finite(values: Tensor) -> Tensor:
    """Whether a tensor holds neither NaN nor infinity; a bool of shape () on its device."""
    if not values.numel():
        return torch.ones((), dtype=torch.bool, device=values.device)
    return torch.stack(values.aminmax()).isfinite().all()  # both are NaN if one value is; far cheaper than one by one


def find_non_finite(tensors: Mapping[str, Tensor], fresh: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors that hold NaN or infinity.

    Parameters
    ----------
    tensors : dict of str to Tensor
    fresh : dict of str to Tensor
        Buffers of the untrained network. A value that is not finite there already is so by design (statistics nobody
        set, a mask) and may stay.
    """
    return [name for name, values in tensors.items() if not is_finite(values) and _is_new(values, fresh.get(name))]


def _is_new(values: Tensor, fresh: Tensor | None) -> bool:
    """Whether a value that is not finite is another one in the fresh buffer."""
    if fresh is None or fresh.shape != values.shape:
        return True
    fresh = fresh.to(values)
    return bool((~values.isfinite() & (values != fresh) & ~(values.isnan() & fresh.isnan())).any())


def has_finite_logits(prediction: Prediction, row: int, available: Tensor) -> Tensor:
    """Whether all logits of one row are finite, those of the whole study too.

    Probabilities do not tell: a sigmoid makes a sure voxel of infinity.

    Parameters
    ----------
    prediction : Prediction
    row : int
    available : Tensor of bool, shape (M,)
        What the row shows; which names a method gives to other channels does not count.

    Returns
    -------
    Tensor of bool, shape ()
    """
    parts = [values[row] for values in (prediction.logits, prediction.class_logits) if values is not None]
    if prediction.modality_logits is not None:
        parts.append(prediction.modality_logits[row][available.to(prediction.modality_logits.device)])
    return torch.stack([is_finite(part) for part in parts]).all() if parts else is_finite(available[:0])
