"""Features of a prediction: what its expected Dice and the alarm go by, from the given sequences alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from anymri.data.study import Study
from anymri.inference.labels import region_probability, regions
from anymri.inference.subject import SubjectPrediction
from anymri.types import DataSpec

__all__ = ["RegionFeatures", "region_features", "sequence_features", "study_features"]

Array = np.ndarray[Any, Any]
#: Quantiles of the z-scores in a sequence's brain.
QUANTILES = {"low": 0.01, "quarter": 0.25, "middle": 0.5, "three_quarters": 0.75, "high": 0.99}
#: Added to a volume in ml before its logarithm is taken.
LEAST_ML = 0.1


class RegionFeatures(NamedTuple):
    """What a network's own probabilities say of one region.

    Attributes
    ----------
    marked_ml : float
        Volume of the mask.
    soft_dice : float
        Dice of the mask that is expected if every voxel is tumour with its own probability, 2 sum(p in mask) /
        (voxels of the mask + sum(p)); 0 for an empty mask.
    border_entropy : float
        Mean entropy, in bits, of the voxels on both sides of the mask's border; 0 for an empty mask.
    """

    marked_ml: float
    soft_dice: float
    border_entropy: float


def region_features(prediction: SubjectPrediction, voxel_ml: float, spec: DataSpec) -> dict[str, RegionFeatures]:
    """Features of every region.

    Parameters
    ----------
    prediction : SubjectPrediction
        With a head and probabilities.
    voxel_ml : float
        Volume of a voxel of the model's grid in ml.
    spec : DataSpec
    """
    head, probability = prediction.head, prediction.box_probability
    assert head is not None
    masks = regions(probability, head, spec)
    return {
        region: _one_region(np.clip(chance, 0, 1), masks[region], voxel_ml)
        for region, chance in region_probability(probability, head, spec).items()
    }


def _one_region(chance: Array, mask: Array, voxel_ml: float) -> RegionFeatures:
    marked = int(mask.sum())
    if not marked:
        return RegionFeatures(0.0, 0.0, 0.0)
    border = ndimage.binary_dilation(mask) & ~ndimage.binary_erosion(mask)
    p = chance[border].astype(np.float64)
    entropy = -(p * np.log2(np.maximum(p, 1e-12)) + (1 - p) * np.log2(np.maximum(1 - p, 1e-12)))
    inside, everywhere = chance[mask].sum(dtype=np.float64), chance.sum(dtype=np.float64)
    return RegionFeatures(marked * voxel_ml, float(2 * inside / (marked + everywhere)), float(entropy.mean()))


def sequence_features(study: Study, spec: DataSpec) -> dict[str, dict[str, float]]:
    """How every given sequence looks: quantiles of its z-scores, and its sharpness.

    Parameters
    ----------
    study : Study
        On the model's grid.
    spec : DataSpec

    Returns
    -------
    dict of str to dict of str to float
        Modality code to name to value; ``sharpness`` is the mean difference of neighbours.
    """
    found = {}
    for channel in np.flatnonzero(study.present):
        image = np.asarray(study.image[channel], np.float32)
        brain = study.brain([channel])
        values = np.quantile(image[brain], list(QUANTILES.values())) if brain.any() else np.zeros(len(QUANTILES))
        own = {name: float(value) for name, value in zip(QUANTILES, values, strict=True)}
        found[spec.modalities[channel]] = {**own, "sharpness": _sharpness(image, brain)}
    return found


def study_features(
    prediction: SubjectPrediction,
    study: Study,
    subset: tuple[str, ...],
    spec: DataSpec,
    sequences: Mapping[str, Mapping[str, float]] | None = None,
) -> dict[str, float]:
    """Features by which a study is compared with those of a calibration.

    Parameters
    ----------
    prediction : SubjectPrediction
    study : Study
        On the model's grid.
    subset : tuple of str
        Sequences that were given: nothing of any other is read.
    spec : DataSpec
    sequences : mapping or None, default=None
        What `sequence_features` gives, for many subsets of one study; None = computed here.

    Returns
    -------
    dict of str to float
        `sequence_features` of the subset; the volume of its brain; of the largest region its volume, border, expected
        overlap, the share of its largest part, and how bright it is in every sequence.
    """
    sequences = sequence_features(study, spec) if sequences is None else sequences
    channels = [spec.index(code) for code in subset]
    voxel_ml = float(np.prod(study.spacing_mm)) / 1000
    found = {f"{code}_{name}": value for code in subset for name, value in sequences[code].items()}
    found["brain_ml"] = float(study.brain(channels).sum()) * voxel_ml
    if prediction.box_probability is None or prediction.head is None or not spec.regions:
        return found
    largest = next(iter(spec.regions))
    mask = regions(prediction.box_probability, prediction.head, spec)[largest]
    chance = region_probability(prediction.box_probability, prediction.head, spec)[largest]
    own = _one_region(np.clip(chance, 0, 1), mask, voxel_ml)
    found["log_ml"] = float(np.log10(own.marked_ml + LEAST_ML))
    found["border_entropy"], found["soft_dice"] = own.border_entropy, own.soft_dice
    found["largest_part"] = _largest_part(mask)
    for code, channel in zip(subset, channels, strict=True):
        inside = np.asarray(study.image[channel][prediction.slices], np.float32)[mask]
        inside = inside[np.isfinite(inside) & (inside != 0)]
        found[f"{code}_marked"] = float(inside.mean(dtype=np.float64)) if inside.size else 0.0
    return found


def _largest_part(mask: Array) -> float:
    """Share of the mask that its largest connected part holds; 0 for an empty mask."""
    parts, count = ndimage.label(mask)
    return float(np.bincount(parts.ravel())[1:].max() / mask.sum()) if count else 0.0


def _sharpness(image: Array, brain: Array) -> float:
    """Mean absolute difference of neighbours along the three axes, both in the brain."""
    total, count = 0.0, 0
    for axis in range(3):
        here, there = np.moveaxis(image, axis, 0)[:-1], np.moveaxis(image, axis, 0)[1:]
        both = np.moveaxis(brain, axis, 0)[:-1] & np.moveaxis(brain, axis, 0)[1:]
        total += float(np.abs(here[both] - there[both]).sum(dtype=np.float64))
        count += int(both.sum())
    return total / max(count, 1)
