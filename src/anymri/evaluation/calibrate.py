"""Calibration of a model: what it reaches on studies it has not seen, from every subset of sequences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anymri.data.cache import Cache
from anymri.evaluation.metrics import dice
from anymri.evaluation.score_subject import open_case, predict_entry
from anymri.evaluation.setup import Evaluation, EvaluationSettings, Subset
from anymri.inference.labels import region_probability, regions
from anymri.inference.sliding_window import Precision, WindowSettings
from anymri.inference.trust.calibration import Calibration, CellCalibration, Gain, SubsetCalibration
from anymri.inference.trust.expected import distance, expected_dice
from anymri.inference.trust.features import RegionFeatures, region_features, sequence_features, study_features
from anymri.progress import progress_bar
from anymri.types import DataSpec, UserError
from anymri.zoo import weights_sha256
from anymri.zoo.card import REGION_ML, RegionScore

__all__ = ["Measured", "calibrate", "compare", "fit_calibration", "fit_predictors", "measure_studies"]

#: Thresholds of the cautious mask, from the usual one down to nothing.
THRESHOLDS = tuple(round(float(value), 4) for value in np.geomspace(0.5, 0.001, 40))
MARGIN_SHARE, MISSED_SHARE = 0.95, 0.2
#: Groups of studies, each left out of a fit once; of so many studies or fewer every study is a group.
FOLDS = 20
#: Ridge penalty of the predictor, in studies' rows.
PENALTY = 10.0
#: Decimals of numbers in the record.
DECIMALS = 4


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One study from one subset of sequences.

    Parameters
    ----------
    study : str
    subset : tuple of str
    regions : dict of str to RegionFeatures
    features : dict of str to float
        See `anymri.inference.trust.features.study_features`.
    dice, reference_ml, marked_ml : dict of str to float
        By region, on the grid of the truth.
    margin_mm : float
        Distance from the mask of the largest region that holds `MARGIN_SHARE` of the true one; infinite without a
        mask, NaN without a true region.
    missed : ndarray of float, shape (T,)
        Share of the true largest region below each threshold; NaN without a true region.
    """

    study: str
    subset: Subset
    regions: dict[str, RegionFeatures]
    features: dict[str, float]
    dice: dict[str, float]
    reference_ml: dict[str, float]
    marked_ml: dict[str, float]
    margin_mm: float
    missed: NDArray[np.floating]


def calibrate(
    model: Path | str,
    cache: Path | str,
    *,
    fold_models: Sequence[Path | str] = (),
    reference: Path | str | None = None,
    split: Path | None = None,
    fold: int = 0,
    part: str = "validation",
    confidence: float = 0.8,
    measured_on: str | None = None,
    precision: Precision = "auto",
    device: str = "auto",
    progress: bool = True,
) -> tuple[Calibration, list[str]]:
    """Measure a model on studies it has not seen.

    Parameters
    ----------
    model : path-like or str
        Bundled model, weights file or run folder that the calibration is for.
    cache : path-like
        Studies with label maps.
    fold_models : sequence of path-like or str, default=()
        Networks of the same recipe, each trained on a part of the studies: every study is predicted by the first of
        them that has not seen it (cross-conformal). None = the model itself predicts.
    reference : path-like or None, default=None
        A second cache of the same files at their own spacing: Dice and margin are measured there.
    split : Path or None, default=None
        Split file; None = every study of the cache.
    fold : int, default=0
    part : {"train", "validation", "test"}, default="validation"
    confidence : float, default=0.8
    measured_on : str or None, default=None
        Which studies, in words; None = their number and the cache's name.
    precision, device
        As of `anymri.evaluation.evaluate`.
    progress : bool, default=True

    Returns
    -------
    calibration : Calibration
    left_out : list of str
        Studies that every network had seen, or without a label map.

    Raises
    ------
    UserError
        If model, cache or split do not fit, or no unseen study with a label map is left.
    """
    if not 0.5 <= confidence < 1:
        raise UserError(f"--confidence {confidence}: give a probability from 0.5 to below 1")
    settings = EvaluationSettings(
        outputs=("logits",), windows=WindowSettings(precision=precision), device=device, synthesis=False
    )
    places = list(fold_models) or [model]
    networks = [Evaluation.prepare(place, cache, settings) for place in places]
    for work in networks:
        work.reference = None if reference is None else Cache(reference)
        work.choose_subjects(split, fold, part, None)
    if networks[0].method.head is None:
        raise UserError(f"{model}: does not segment; only a model that does can be calibrated")
    rows, left_out = measure_studies(networks, progress)
    if not rows:
        raise UserError(
            f"{cache}: every study with a label map was seen in training; calibrate on others, or give --fold-model"
        )
    record = fit_calibration(rows, networks[0].method.spec, confidence)
    named = measured_on or f"{record.studies} studies of {networks[0].dataset}"
    digests = list(dict.fromkeys(weights_sha256(place) for place in places))
    name = str(model) if isinstance(model, str) else model.name
    return replace(record, weights_sha256=weights_sha256(model), model=name, measured_on=named, by=digests), left_out


def measure_studies(networks: Sequence[Evaluation], progress: bool = False) -> tuple[list[Measured], list[str]]:
    """Rows of all chosen studies, each by the first network that has not seen it, and the ids of those left out."""
    rows: list[Measured] = []
    left_out = []
    subjects = networks[0].subjects
    with progress_bar("calibrate", len(subjects), progress) as bar:
        for subject in subjects:
            whole = networks[0].cache.entry(subject)
            unseen = [work for work in networks if not work.was_seen(whole, work.networks)]
            if unseen and whole.label is not None:
                rows += _measure_study(unseen[0], subject)
            else:
                left_out.append(subject)
            bar.advance()
    return rows, left_out


def _measure_study(work: Evaluation, subject: str) -> Iterator[Measured]:
    work.cache.verify(subject)
    for study, subsets in work.cache.entries(subject, work.subsets_of(subject)):
        case = open_case(work, study)
        sequences = sequence_features(study, work.spec)
        voxel_ml = float(np.prod(study.spacing_mm)) / 1000
        for subset, prediction in predict_entry(work, study, subsets, ("logits",)):
            channels = [work.spec.index(code) for code in subset]
            probability = case.on_truth(prediction.probability, prediction.head, channels)
            assert prediction.head is not None
            yield Measured(
                study=subject,
                subset=subset,
                regions=region_features(prediction, voxel_ml, work.method.spec),
                features=study_features(prediction, study, subset, work.method.spec, sequences),
                **compare(
                    regions(probability, prediction.head, work.method.spec),
                    region_probability(probability, prediction.head, work.method.spec),
                    case.label,
                    work.spec,
                    case.truth.spacing_mm,
                ),
            )


def compare(
    masks: Mapping[str, NDArray[np.bool_]],
    chances: Mapping[str, NDArray[Any]],
    label: NDArray[Any],
    spec: DataSpec,
    spacing_mm: Sequence[float],
) -> dict[str, Any]:
    """The fields of `Measured` that need the truth: Dice and volumes by region, margin and missed shares."""
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    counted = np.ones(label.shape, bool) if spec.ignore is None else label != spec.ignore
    truth = {region: np.isin(label, spec.region_values(region)) for region in masks}
    largest = next(iter(masks))
    return {
        "dice": {region: dice(mask & counted, truth[region]) for region, mask in masks.items()},
        "reference_ml": {region: float(real.sum()) * voxel_ml for region, real in truth.items()},
        "marked_ml": {region: float((mask & counted).sum()) * voxel_ml for region, mask in masks.items()},
        "margin_mm": _margin_mm(masks[largest], truth[largest], spacing_mm),
        "missed": _missed(chances[largest][truth[largest]]),
    }


def _margin_mm(mask: NDArray[np.bool_], real: NDArray[np.bool_], spacing_mm: Sequence[float]) -> float:
    if not real.any():
        return float("nan")
    if not mask.any():
        return float("inf")
    box = ndimage.find_objects((mask | real).astype(np.uint8))[0]
    away = ndimage.distance_transform_edt(~mask[box], sampling=spacing_mm)[real[box]]
    return float(np.quantile(away, MARGIN_SHARE, method="inverted_cdf"))


def _missed(chance: NDArray[Any]) -> NDArray[np.floating]:
    """Share of the values below each threshold."""
    if not chance.size:
        return np.full(len(THRESHOLDS), np.nan)
    return np.searchsorted(np.sort(chance), np.asarray(THRESHOLDS, chance.dtype), side="left") / chance.size


# --------------------------------------------------------------------------------------------------------------
# Fit
# --------------------------------------------------------------------------------------------------------------


def fit_calibration(rows: Sequence[Measured], spec: DataSpec, confidence: float) -> Calibration:
    """Fit the predictor of the Dice and collect the scores of every subset and region.

    Parameters
    ----------
    rows : sequence of Measured
    spec : DataSpec
    confidence : float

    Returns
    -------
    Calibration
        Of weights and studies without a name.
    """
    region_names = list(rows[0].dice)
    coefficients, residuals = fit_predictors(rows, spec)
    subsets = {}
    for subset in spec.subsets():
        own = [row for row in rows if row.subset == subset]
        if own:
            cells = {region: _cell(own, region, residuals[region].get(subset, [])) for region in region_names}
            subsets[spec.subset_name(subset)] = _subset(own, rows, cells, spec)
    return Calibration(
        weights_sha256="0" * 64,
        model="",
        measured_on="",
        studies=len({row.study for row in rows}),
        by=[],
        confidence=confidence,
        margin_share=MARGIN_SHARE,
        missed_share=MISSED_SHARE,
        thresholds=list(THRESHOLDS),
        coefficients=coefficients,
        subsets=subsets,
    )


def _is_marked(row: Measured, region: str) -> bool:
    return row.regions[region].marked_ml >= REGION_ML


def _given(row: Measured, spec: DataSpec) -> list[bool]:
    return [code in row.subset for code in spec.modalities]


def fit_predictors(
    rows: Sequence[Measured], spec: DataSpec
) -> tuple[dict[str, list[float]], dict[str, dict[Subset, list[float]]]]:
    """Fit the predictor of each region's Dice, and find what each study deviates from a fit without it.

    Returns
    -------
    coefficients : dict of str to list of float
        See `Calibration`.
    residuals : dict of str to dict of Subset to list of float
        Region to subset to the sorted residuals of the rows in which the region is marked.
    """
    names = list(dict.fromkeys(row.study for row in rows))
    group = {name: number % FOLDS for number, name in enumerate(names)}
    coefficients, residuals = {}, {}
    for region in rows[0].dice:
        marked = [row for row in rows if _is_marked(row, region)]
        values = np.array([[row.regions[region].soft_dice, *_given(row, spec)] for row in marked], np.float64)
        target = np.array([row.dice[region] for row in marked])
        groups = np.array([group[row.study] for row in marked])
        coefficients[region] = _fit(values, target, spec)
        found: dict[Subset, list[float]] = {}
        for number in np.unique(groups):
            fitted = _fit(values[groups != number], target[groups != number], spec)
            for place in np.flatnonzero(groups == number):
                expected = expected_dice(fitted, values[place, 0], (values[place, 1:] > 0).tolist())
                found.setdefault(marked[place].subset, []).append(float(target[place] - expected))
        residuals[region] = {key: sorted(round(value, DECIMALS) for value in own) for key, own in found.items()}
    return coefficients, residuals


def _fit(values: NDArray[np.float64], target: NDArray[np.float64], spec: DataSpec) -> list[float]:
    """Ridge regression of the Dice on expected overlap and the sequences given; zeros without rows."""
    if not len(target):
        return [0.0] * (2 + len(spec.modalities))
    middle, spread = values.mean(axis=0), values.std(axis=0)
    spread[spread < 1e-9] = 1.0
    scaled = (values - middle) / spread
    slopes = np.linalg.solve(scaled.T @ scaled + PENALTY * np.eye(scaled.shape[1]), scaled.T @ (target - target.mean()))
    slopes = slopes / spread
    return [float(value) for value in (target.mean() - middle @ slopes, *slopes)]


def _cell(rows: Sequence[Measured], region: str, residuals: list[float]) -> CellCalibration:
    with_region = [row for row in rows if row.reference_ml[region] >= REGION_ML]
    without = [row for row in rows if row.reference_ml[region] < REGION_ML]
    values, false = [row.dice[region] for row in with_region], [row.marked_ml[region] for row in without]
    score = RegionScore(
        mean=round(float(np.mean(values)), 3) if values else None,
        median=round(float(np.median(values)), 3) if values else None,
        n=len(values),
        without=len(false),
        left_empty=sum(value < REGION_ML for value in false),
        false_ml=round(float(np.median(false)), 1) if false else None,
    )
    return CellCalibration(score=score, residuals=residuals)


def _subset(
    own: Sequence[Measured], rows: Sequence[Measured], cells: dict[str, CellCalibration], spec: DataSpec
) -> SubsetCalibration:
    with_region = [row for row in own if np.isfinite(row.missed).all()]
    margins = [row.margin_mm for row in with_region]
    missed = np.mean([row.missed for row in with_region], axis=0) if with_region else np.ones(len(THRESHOLDS))
    every = [row.features for row in own]
    apart = [distance(one, _usual([*every[:i], *every[i + 1 :]])) for i, one in enumerate(every)] if every[1:] else []
    return SubsetCalibration(
        studies=len(own),
        regions=cells,
        gain=_gains(own, rows, spec),
        margins_mm=sorted(round(value, 2) for value in margins if np.isfinite(value)),
        no_margin=sum(bool(np.isinf(value)) for value in margins),
        missed=[round(float(value), DECIMALS + 2) for value in missed],
        features={name: [float(f"{value:.6g}") for value in pair] for name, pair in _usual(every).items()},
        distances=sorted(round(value, DECIMALS) for value in apart),
    )


def _usual(features: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """Mean and standard deviation of every feature."""
    table = np.array([list(one.values()) for one in features], np.float64)
    spread = table.std(axis=0, ddof=1 if len(table) > 1 else 0)
    return {
        name: [float(mean), float(deviation)]
        for name, mean, deviation in zip(features[0], table.mean(axis=0), spread, strict=True)
    }


def _gains(own: Sequence[Measured], rows: Sequence[Measured], spec: DataSpec) -> dict[str, dict[str, Gain]]:
    """What each missing sequence adds to the Dice of the same studies that have the region."""
    subset = own[0].subset
    found: dict[str, dict[str, Gain]] = {}
    for code in spec.modalities:
        if code in subset:
            continue
        wider = {row.study: row for row in rows if row.subset == spec.parse_subset((*subset, code))}
        for region in own[0].dice:
            differences = [
                wider[row.study].dice[region] - row.dice[region]
                for row in own
                if row.study in wider and row.reference_ml[region] >= REGION_ML
            ]
            if n := len(differences):
                error = float(np.std(differences, ddof=1) / np.sqrt(n)) if n > 1 else None
                rounded = None if error is None else round(error, DECIMALS)
                mean = round(float(np.mean(differences)), DECIMALS)
                found.setdefault(code, {})[region] = Gain(mean=mean, error=rounded, n=n)
    return found
