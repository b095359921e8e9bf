"""Uncertainty of a prediction by the model's own probabilities; none of it is calibrated."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from anymri.inference.labels import region_probability, regions
from anymri.types import GLIOMA, DataSpec, Head

__all__ = ["entropy", "sample_agreement", "trust_summary"]

Array = np.ndarray[Any, Any]
#: A voxel whose region probability lies strictly between these is counted as uncertain.
UNCERTAIN = (0.25, 0.75)


def entropy(probability: Any, head: Head) -> Array:
    """Entropy of the averaged probability at every voxel, as a share of the largest possible.

    Parameters
    ----------
    probability : array or Tensor of float, shape (C, *S)
    head : Head

    Returns
    -------
    float32 array, shape (*S)
        0 = certain, 1 = all channels alike (softmax) or every channel at 0.5 (sigmoid).
    """
    values = np.asarray(probability.cpu() if hasattr(probability, "cpu") else probability, dtype=np.float32)
    if head.kind == "softmax":
        return (_minus_p_log_p(values).sum(axis=0) / np.log(len(values))).astype(np.float32)
    return ((_minus_p_log_p(values) + _minus_p_log_p(1 - values)).mean(axis=0) / np.log(2)).astype(np.float32)


def sample_agreement(samples: Sequence[Any], head: Head, spec: DataSpec = GLIOMA) -> dict[str, float]:
    """Mean Dice between the segmentations of all pairs of samples.

    Parameters
    ----------
    samples : sequence of array or Tensor, shape (C, *S)
        Probabilities of at least two samples of the same study.
    head : Head
    spec : DataSpec

    Raises
    ------
    ValueError
        If there are fewer than two samples.
    """
    if len(samples) < 2:
        raise ValueError(f"{len(samples)} sample cannot agree; draw at least two")
    found = [regions(sample, head, spec) for sample in samples]
    result = {}
    for region in found[0]:
        pairs = []
        for one, other in combinations(found, 2):
            total = int(one[region].sum()) + int(other[region].sum())
            pairs.append(1.0 if total == 0 else 2 * int((one[region] & other[region]).sum()) / total)
        result[region] = float(np.mean(pairs))
    return result


def trust_summary(
    probability: Any, head: Head, voxel_ml: float, spec: DataSpec = GLIOMA
) -> dict[str, dict[str, float]]:
    """Uncertain volume and mean certainty of every region.

    Parameters
    ----------
    probability : array or Tensor of float, shape (C, *S)
    head : Head
    voxel_ml : float
        Volume of a voxel in ml.
    spec : DataSpec

    Returns
    -------
    dict of str to dict
        By region: ``uncertain_ml``, the volume where the region's probability is between 0.25
        and 0.75; ``mean_probability`` inside the segmented region (NaN if it is empty).
    """
    found = regions(probability, head, spec)
    summary = {}
    for region, chance in region_probability(probability, head, spec).items():
        inside = chance[found[region]]
        uncertain = int(((chance > UNCERTAIN[0]) & (chance < UNCERTAIN[1])).sum())
        summary[region] = {
            "uncertain_ml": uncertain * voxel_ml,
            "mean_probability": float(inside.mean(dtype=np.float64)) if inside.size else float("nan"),
        }
    return summary


def _minus_p_log_p(p: Array) -> Array:
    return -p * np.log(np.clip(p, 1e-12, None))
