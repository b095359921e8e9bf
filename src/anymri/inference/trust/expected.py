"""Expected Dice of a study's regions with interval, margin, cautious mask and alarm, by a calibration."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymri.data.study import Study
from anymri.inference.labels import region_probability
from anymri.inference.subject import SubjectPrediction
from anymri.inference.trust.calibration import Calibration, SubsetCalibration
from anymri.inference.trust.conformal import controlled_threshold, highest_rank, upper_bound
from anymri.inference.trust.features import RegionFeatures, region_features, study_features
from anymri.types import DataSpec
from anymri.zoo.card import REGION_ML

__all__ = ["alarm", "distance", "expected_dice", "interval", "trust_in_study"]

#: Share of ordinary studies that may raise the alarm, where the calibration has enough to promise it.
FALSE_ALARMS = 0.05
#: Features of the marked region; all others are of the images.
MARKING = ("log_ml", "border_entropy", "soft_dice", "largest_part", "_marked")
#: A feature is named where it lies so many standard deviations from the calibration's mean.
FAR = 3.0


def expected_dice(coefficients: Sequence[float], soft_dice: float, given: Sequence[bool]) -> float:
    """Dice that a linear predictor expects: constant, `soft_dice`, one for each sequence given; within 0 and 1."""
    constant, slope, *sequences = coefficients
    value = constant + slope * soft_dice + sum(one for one, is_given in zip(sequences, given, strict=True) if is_given)
    return min(max(value, 0.0), 1.0)


def interval(expected: float, residuals: Sequence[float], confidence: float) -> tuple[float, float] | None:
    """Interval of the true Dice.

    Parameters
    ----------
    expected : float
    residuals : sequence of float
        True minus expected Dice in the calibration.
    confidence : float
        Of the interval; each end is wrong with at most half of what is left.

    Returns
    -------
    tuple of float or None
        Lower and upper end, within 0 and 1; None where the calibration has too few studies for this confidence.
    """
    each = (1 + confidence) / 2
    above, below = upper_bound(residuals, each), upper_bound([-value for value in residuals], each)
    if math.isinf(above) or math.isinf(below):
        return None
    return min(max(expected - below, 0.0), 1.0), min(max(expected + above, 0.0), 1.0)


def distance(values: Mapping[str, float], usual: Mapping[str, Sequence[float]]) -> float:
    """How far features lie from the calibration's, in standard deviations.

    Parameters
    ----------
    values : mapping of str to float
        See `anymri.inference.trust.features.study_features`.
    usual : mapping of str to (mean, standard deviation)

    Returns
    -------
    float
        Root mean square over the features of the images or over those of the marked region, whichever is larger.
    """
    deviations = {name: _deviation(values[name], usual[name]) for name in usual if name in values}
    groups: tuple[list[float], list[float]] = ([], [])
    for name, value in deviations.items():
        groups[name.endswith(MARKING)].append(value)
    return max(float(np.sqrt(np.mean(np.square(group)))) for group in groups if group)


def _deviation(value: float, usual: Sequence[float]) -> float:
    return (value - usual[0]) / max(usual[1], 1e-6)


def alarm(values: Mapping[str, float], subset: SubsetCalibration) -> dict[str, Any]:
    """Whether a study is unlike those of the calibration.

    Returns
    -------
    dict
        ``raised``; ``distance``; ``limit``, that an ordinary study exceeds in 1 of 20, or in 1 of n + 1 where n is
        smaller; ``differs_in``, the features that differ most, the largest first.
    """
    found = distance(values, subset.features)
    limit = highest_rank(subset.distances, 1 - FALSE_ALARMS)
    far = {name: abs(_deviation(values[name], usual)) for name, usual in subset.features.items() if name in values}
    named = sorted((name for name in far if far[name] > FAR), key=far.__getitem__, reverse=True)
    return {"raised": found > limit, "distance": found, "limit": limit, "differs_in": named[:5]}


def trust_in_study(
    calibration: Calibration,
    prediction: SubjectPrediction,
    study: Study,
    subset: tuple[str, ...],
    spec: DataSpec,
) -> dict[str, Any]:
    """What a calibration says of one study.

    Parameters
    ----------
    calibration : Calibration
    prediction : SubjectPrediction
    study : Study
        On the model's grid.
    subset : tuple of str
        Sequences that were given.
    spec : DataSpec

    Returns
    -------
    dict
        ``expected``: region to ``dice``, ``low``, ``high``, ``confidence`` and ``n``; a region is left out where less
        than 0.5 ml is marked or too few studies were measured. ``alarm``: see `alarm`. ``margin`` and ``cautious``:
        of the largest region. ``gain``: missing sequence to region to what it added. If the alarm is raised, all but
        it and the gain are left empty. Empty for a subset that was not measured.
    """
    known = calibration.subsets.get(spec.subset_name(subset))
    if known is None or prediction.head is None or prediction.box_probability is None:
        return {}
    raised = alarm(study_features(prediction, study, subset, spec), known)
    found: dict[str, Any] = {"alarm": raised, "expected": {}, "margin": None, "cautious": None}
    found["gain"] = {
        code: {region: asdict(gain) for region, gain in regions.items()} for code, regions in known.gain.items()
    }
    if raised["raised"]:
        return found
    voxel_ml = float(np.prod(study.spacing_mm)) / 1000
    features = region_features(prediction, voxel_ml, spec)
    given = [code in subset for code in spec.modalities]
    for region, values in features.items():
        if values.marked_ml >= REGION_ML and region in known.regions:
            entry = _expected(calibration, known, region, values, given)
            found["expected"] |= {} if entry is None else {region: entry}
    largest = next(iter(features))
    if features[largest].marked_ml >= REGION_ML:
        found["margin"] = _margin(calibration, known)
    chance = region_probability(prediction.box_probability, prediction.head, spec)[largest]
    found["cautious"] = _cautious(calibration, known, chance, voxel_ml)
    return found


def withhold(trust: Mapping[str, Any], contradictions: Sequence[str]) -> dict[str, Any]:
    """Trust without its promises where the study is not what they are made for: one head, each image under its name.

    Parameters
    ----------
    trust : mapping
        With what `trust_in_study` gives, if the model is calibrated.
    contradictions : sequence of str
        Sentences on images that contradict their names or each other.

    Returns
    -------
    dict
        With ``contradictions`` in place of expected Dice, margin and cautious threshold, if there are any.
    """
    if not contradictions:
        return dict(trust)
    empty: dict[str, Any] = {"expected": {}, "margin": None, "cautious": None} if "alarm" in trust else {}
    return {**trust, **empty, "contradictions": list(contradictions)}


def _expected(
    calibration: Calibration, known: SubsetCalibration, region: str, values: RegionFeatures, given: Sequence[bool]
) -> dict[str, Any] | None:
    residuals = known.regions[region].residuals
    point = expected_dice(calibration.coefficients[region], values.soft_dice, given)
    ends = interval(point, residuals, calibration.confidence)
    if ends is None:
        return None
    low, high = ends
    return {
        "dice": min(max(point, low), high),
        "low": low,
        "high": high,
        "confidence": calibration.confidence,
        "n": len(residuals),
    }


def _margin(calibration: Calibration, known: SubsetCalibration) -> dict[str, Any] | None:
    mm = upper_bound(known.margins_mm, calibration.confidence, known.no_margin)
    if math.isinf(mm):
        return None
    n = len(known.margins_mm) + known.no_margin
    return {"mm": mm, "share": calibration.margin_share, "confidence": calibration.confidence, "n": n}


def _cautious(
    calibration: Calibration, known: SubsetCalibration, chance: NDArray[Any], voxel_ml: float
) -> dict[str, Any] | None:
    n = len(known.margins_mm) + known.no_margin
    threshold = controlled_threshold(calibration.thresholds, known.missed, n, calibration.missed_share)
    if threshold is None:
        return None
    volume = float((chance >= threshold).sum()) * voxel_ml
    return {"threshold": threshold, "missed_share": calibration.missed_share, "volume_ml": volume, "n": n}
