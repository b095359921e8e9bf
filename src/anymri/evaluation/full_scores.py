"""All segmentation metrics beyond the usual ones, for a report in full: slower than `anymri.evaluation.scoring`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymri.evaluation import metrics
from anymri.evaluation.calibration import brier, expected_calibration_error, review_dice
from anymri.evaluation.lesionwise import BRATS2023, LesionRule, lesionwise
from anymri.evaluation.scoring import Score
from anymri.types import DataSpec

__all__ = ["NSD_TOLERANCE_MM", "score_regions_in_full"]

Array = NDArray[Any]
#: Tolerance of the normalised surface Dice, in its metric's name.
NSD_TOLERANCE_MM = 2.0


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
    """Scores of every region that `anymri.evaluation.scoring.score_regions` does not give already.

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
        From `anymri.inference.labels.region_probability`; gives ``ece``, ``brier`` and ``review_dice``.
    brain : bool array, shape (D, H, W), or None
        Voxels that ``specificity``, ``ece`` and ``brier`` count; None = all. Take the brain of the sequences shown.
    rule : LesionRule, default=BRATS2023["gli"]

    Returns
    -------
    list of Score
        Metrics ``iou sensitivity precision specificity hd asd nsd_2mm lesion_dice lesion_f1 lesion_hd95`` and, with
        probabilities, ``ece brier review_dice``. Empty cases: see ``docs/reference/metrics.md``.
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
