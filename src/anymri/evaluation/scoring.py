"""Scores of one prediction: which metrics, of which target, against which reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymri.data.study import Study
from anymri.evaluation import metrics
from anymri.evaluation.downstream import Segmenter, downstream_dice
from anymri.evaluation.metrics.calibration import brier, expected_calibration_error, review_dice
from anymri.evaluation.metrics.lesionwise import BRATS2023, LesionRule, lesionwise
from anymri.evaluation.metrics.qu_brats import binary_entropy, qu_brats
from anymri.types import DataSpec

__all__ = [
    "NSD_TOLERANCE_MM", "Score", "Synthesis", "score_classes", "score_downstream", "score_regions",
    "score_regions_in_full", "score_synthesis", "score_synthesis_by_place",
]  # fmt: skip

Array = NDArray[Any]
#: Tolerance of the normalised surface Dice, in its metric's name.
NSD_TOLERANCE_MM = 2.0


@dataclass(frozen=True)
class Score:
    """One value of the results table.

    Parameters
    ----------
    target : str
        Region, modality code or class.
    metric : str
    value : float
    unit : str
        ``"1"`` for ratios.
    reference_empty : bool, default=False
    """

    target: str
    metric: str
    value: float
    unit: str
    reference_empty: bool = False


def score_regions(
    predicted: Mapping[str, Array], label: Array, spec: DataSpec, spacing_mm: Sequence[float], hd95: bool = True
) -> list[Score]:
    """Segmentation scores of every region that was predicted.

    Parameters
    ----------
    predicted : dict of str to bool array, shape (D, H, W)
        From `anymri.inference.labels.regions`.
    label : int array, shape (D, H, W)
        Reference label map; predictions where it holds `spec.ignore` do not count.
    spec : DataSpec
        Of the reference.
    spacing_mm : sequence of float
    hd95 : bool, default=True
        Whether to measure surface distances, the slow part.
    """
    scores = []
    for region, inside in predicted.items():
        if region not in spec.regions:
            continue
        reference = np.isin(label, spec.region_values(region))
        inside = inside if spec.ignore is None else inside & (label != spec.ignore)
        empty = not reference.any()
        values = {
            "dice": (metrics.dice(inside, reference), "1"),
            "volume_error": (metrics.volume_ml(inside, spacing_mm) - metrics.volume_ml(reference, spacing_mm), "ml"),
            "relative_volume_error": (metrics.relative_volume_error(inside, reference), "1"),
        }
        if hd95:
            values["hd95"] = (metrics.hausdorff(inside, reference, spacing_mm), "mm")
        if region == "enhancing_tumor":
            values["dice_et_min500mm3"] = (metrics.dice_et_min500mm3(inside, reference, spacing_mm), "1")
        scores += [Score(region, name, value, unit, empty) for name, (value, unit) in values.items()]
    return scores


def score_regions_in_full(
    predicted: Mapping[str, Array],
    label: Array,
    spec: DataSpec,
    spacing_mm: Sequence[float],
    *,
    probability: Mapping[str, Array] | None = None,
    brain: Array | None = None,
    rule: LesionRule = BRATS2023["gli"],
) -> list[Score]:
    """Scores of every region that `score_regions` does not give already.

    Parameters
    ----------
    predicted : dict of str to bool array, shape (D, H, W)
        From `anymri.inference.labels.regions`.
    label : int array, shape (D, H, W)
        Reference label map.
    spec : DataSpec
        Of the reference.
    spacing_mm : sequence of float
    probability : dict of str to float array, shape (D, H, W), or None
        From `anymri.inference.labels.region_probability`; gives ``ece``, ``brier``, ``review_dice`` and
        QU-BraTS.
    brain : bool array, shape (D, H, W), or None
        Voxels that ``specificity``, ``ece`` and ``brier`` count; None = all. Take the brain of the sequences shown.
    rule : LesionRule, default=BRATS2023["gli"]

    Returns
    -------
    list of Score
        Metrics ``iou sensitivity precision specificity hd asd nsd_2mm lesion_dice lesion_f1 lesion_hd95`` and, with
        probabilities, ``ece brier review_dice qu_score qu_dice qu_ftp qu_ftn``. Empty cases: see
        ``docs/reference/metrics.md``.
    """
    scores: list[Score] = []
    inside = np.ones(np.shape(label), bool) if brain is None else np.asarray(brain, bool)
    counted = np.ones(1, bool) if spec.ignore is None else np.asarray(label) != spec.ignore
    inside = inside & counted
    for region, mask in predicted.items():
        if region not in spec.regions:
            continue
        reference = np.isin(label, spec.region_values(region))
        values = _mask_values(np.asarray(mask, bool) & counted, reference, spacing_mm, inside, rule)
        if probability is not None and region in probability:
            chance = np.clip(np.asarray(probability[region], np.float64), 0, 1)  # sums of softmax may pass 1 by 1e-7
            values["ece"] = (expected_calibration_error(chance, reference, inside), "1")
            values["brier"] = (brier(chance, reference, inside), "1")
            values["review_dice"] = (review_dice(chance * counted, reference), "1")
            unsure = qu_brats(np.asarray(mask, bool) & counted, reference, binary_entropy(chance), inside)
            values |= {f"qu_{name.removesuffix('_auc')}": (value, "1") for name, value in unsure._asdict().items()}
        empty = not reference.any()
        scores += [Score(region, name, value, unit, empty) for name, (value, unit) in values.items()]
    return scores


def _mask_values(
    mask: Array, reference: Array, spacing_mm: Sequence[float], inside: Array, rule: LesionRule
) -> dict[str, tuple[float, str]]:
    lesions = lesionwise(mask, reference, spacing_mm, rule)
    surface = metrics.normalised_surface_dice(mask, reference, spacing_mm, NSD_TOLERANCE_MM)
    return {
        "iou": (metrics.iou(mask, reference), "1"),
        "sensitivity": (metrics.sensitivity(mask, reference), "1"),
        "precision": (metrics.precision(mask, reference), "1"),
        "specificity": (metrics.specificity(mask[inside], reference[inside]), "1"),
        "hd": (metrics.hausdorff(mask, reference, spacing_mm, 100), "mm"),
        "asd": (metrics.average_surface_distance(mask, reference, spacing_mm), "mm"),
        f"nsd_{NSD_TOLERANCE_MM:g}mm": (surface, "1"),
        "lesion_dice": (lesions.dice, "1"),
        "lesion_f1": (lesions.f1, "1"),
        "lesion_hd95": (lesions.hd95, "mm"),
    }


class Synthesis:
    """The real sequences of one subject, to score synthesised ones against.

    Parameters
    ----------
    study : Study
    spec : DataSpec
    by_place : bool, default=False
        Whether to score the tumour and the brain outside it too, see `score_synthesis_by_place`.
    """

    def __init__(self, study: Study, spec: DataSpec, by_place: bool = False) -> None:
        self.spec, self.by_place = spec, by_place
        self.tumor: Array | None = None
        if study.label is not None and "whole_tumor" in spec.regions:
            self.tumor = np.isin(study.label, spec.region_values("whole_tumor"))
        channels = {spec.modalities[channel]: channel for channel in np.flatnonzero(study.present)}
        self.reference = {code: np.asarray(study.image[channel], np.float32) for code, channel in channels.items()}
        self.brain = {code: study.brain([channel]) for code, channel in channels.items()}
        self.range = {code: metrics.data_range(values, self.brain[code]) for code, values in self.reference.items()}

    def targets(self, subset: Sequence[str]) -> list[str]:
        """Sequences that exist but are not in the subset."""
        return [code for code in self.reference if code not in subset]

    def score(self, target: str, image: Array) -> list[Score]:
        """PSNR, SSIM and MAE of one synthesised sequence (D, H, W) within the real one's brain."""
        reference, inside, width = self.reference[target], self.brain[target], self.range[target]
        if self.by_place:
            return score_synthesis_by_place(target, image, reference, inside, self.tumor)
        return [
            Score(target, "psnr", metrics.psnr(image, reference, inside, width), "dB"),
            Score(target, "ssim", metrics.ssim(image, reference, inside, width), "1"),
            Score(target, "mae", metrics.mae(image, reference, inside), "z"),
        ]


def score_synthesis(synthesis: Synthesis, image: Array, synthesised: Array, subset: Sequence[str]) -> list[Score]:
    """Scores of all sequences that a method filled in and that exist.

    Parameters
    ----------
    synthesis : Synthesis
    image : float array, shape (M, D, H, W)
    synthesised : bool array, shape (M,)
    subset : sequence of str
    """
    scores = []
    for target in synthesis.targets(subset):
        channel = synthesis.spec.index(target)
        if synthesised[channel]:
            scores += synthesis.score(target, np.asarray(image[channel]))
    return scores


def score_synthesis_by_place(
    target: str, image: Array, reference: Array, brain: Array, tumor: Array | None = None
) -> list[Score]:
    """MAE, NMSE, PSNR and SSIM of one synthesised sequence, in the brain, in the tumour and in the brain outside it.

    Parameters
    ----------
    target : str
        Modality code.
    image, reference : ndarray of float, shape (D, H, W)
        Synthesised and real, in z-scores.
    brain : ndarray of bool, shape (D, H, W)
        Of the real sequence.
    tumor : ndarray of bool, shape (D, H, W), or None, default=None
        Whole tumour; None = only the brain is scored.

    Returns
    -------
    list of Score
        Metrics ``mae nmse psnr ssim`` and, with a tumour, the same with ``_tumor`` and ``_outside``. A place without
        voxels gives no rows; `reference_empty` is True for all rows of a subject without tumour.

    Notes
    -----
    One data range for all places: p99.9 - p0.1 of the real sequence in its brain. The range of the tumour alone
    would make the PSNR of a small and even tumour worse than that of the brain at the same error.
    """
    width = metrics.data_range(reference, brain)
    # One map for all places: windows reach over a tumour's border, so that it is judged with its rim.
    similarity = metrics.ssim_map(image, reference, brain, width)
    places: dict[str, Array] = {"": np.asarray(brain)}
    empty = False
    if tumor is not None:
        places |= {"_tumor": np.asarray(brain & tumor), "_outside": np.asarray(brain & ~tumor)}
        empty = not tumor.any()
    scores = []
    for suffix, inside in places.items():
        if not inside.any():
            continue
        values = {
            "mae": (metrics.mae(image, reference, inside), "z"),
            "nmse": (metrics.nmse(image, reference, inside), "1"),
            "psnr": (metrics.psnr(image, reference, inside, width), "dB"),
            "ssim": (float(similarity[inside].mean()), "1"),
        }
        scores += [Score(target, name + suffix, value, unit, empty) for name, (value, unit) in values.items()]
    return scores


def score_downstream(segmenter: Segmenter, completed: Array, label: Array, spec: DataSpec) -> list[Score]:
    """``downstream_dice`` of every region that a frozen segmenter finds in a completed study.

    Parameters
    ----------
    segmenter : callable
        Completed study to boolean regions by name, each of the shape of `label`.
    completed : float array, shape (M, D, H, W)
    label : int array, shape (D, H, W)
        Reference label map.
    spec : DataSpec
        Of the reference.
    """
    values = {region: spec.region_values(region) for region in spec.regions}
    found = downstream_dice(segmenter, completed, label, values, spec.ignore)
    return [
        Score(region, "downstream_dice", value, "1", not np.isin(label, values[region]).any())
        for region, value in found.items()
    ]


def score_classes(probability: Sequence[float], names: Sequence[str], truth: str) -> list[Score]:
    """Scores of one subject's classification; the values of a cohort follow from them.

    Parameters
    ----------
    probability : sequence of float, length K
    names : sequence of str, length K
        Of the classes, in the order of `probability`.
    truth : str
        One of `names`.

    Returns
    -------
    list of Score
        ``class_probability`` of every class, `reference_empty` where it is not the subject's, and ``class_correct`` of
        the subject's class: 1 where it is the first of the most probable, else 0.
    """
    scores = [
        Score(name, "class_probability", float(value), "1", name != truth)
        for name, value in zip(names, probability, strict=True)
    ]
    recognised = names[int(np.argmax(probability))] == truth
    return [*scores, Score(truth, "class_correct", float(recognised), "1")]
