"""Lesion-wise metrics in the style of BraTS 2023: every lesion counts the same, however large it is.

The rules are those of the challenge's public evaluation program (rachitsaluja/BraTS-2023-Metrics):

1. the reference is dilated; pieces of it that the dilation joins are one lesion; its voxels stay as they were;
2. pieces of the prediction that touch a dilated lesion belong to it (a piece may belong to several);
3. a lesion's score compares its own voxels with all the pieces that belong to it;
4. lesions of at most `ignore_mm3` are left out of the mean; a piece that touches only such a lesion is no error;
5. a piece that touches no lesion is a false positive, however small, and counts as a lesion with the worst score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anymri.evaluation.metrics import segmentation as metrics

__all__ = ["BRATS2023", "Lesion", "LesionRule", "LesionScores", "lesionwise"]

Mask = NDArray[np.bool_]
Labels = NDArray[np.int32]


@dataclass(frozen=True)
class LesionRule:
    """Constants of one challenge.

    Parameters
    ----------
    dilation_mm : float
        How far a lesion reaches for joining and matching. The program counts voxels of its 1 mm grid; here as many
        steps are taken as come closest, at least one.
    ignore_mm3 : float
        Lesions of at most this volume are not scored.
    """

    dilation_mm: float
    ignore_mm3: float

    def steps(self, spacing_mm: Sequence[float]) -> int:
        """Dilation steps on a grid, from the geometric mean of its spacing."""
        return max(1, round(self.dilation_mm / float(np.prod(spacing_mm)) ** (1 / len(spacing_mm))))


#: Constants of the 2023 challenges: glioma, sub-Saharan Africa, meningioma, paediatric, metastases.
BRATS2023 = {
    "gli": LesionRule(3.0, 50.0),
    "ssa": LesionRule(3.0, 50.0),
    "men": LesionRule(1.0, 50.0),
    "ped": LesionRule(3.0, 50.0),
    "met": LesionRule(1.0, 2.0),
}


@dataclass(frozen=True)
class Lesion:
    """One lesion of the reference.

    Parameters
    ----------
    volume_mm3 : float
    found : bool
        Whether a piece of the prediction touches it.
    scored : bool
        Whether it is larger than the rule's `ignore_mm3`.
    dice : float
        0 where not found.
    hd95 : float
        In mm; the penalty where not found, NaN where not measured.
    """

    volume_mm3: float
    found: bool
    scored: bool
    dice: float
    hd95: float


@dataclass(frozen=True)
class LesionScores:
    """Scores of one image.

    Parameters
    ----------
    dice : float
        Sum of the scored lesions' Dice over their number plus that of false positives. Neither: 1.
    hd95 : float
        In mm, each false positive counting the penalty. Neither: 0. NaN where not measured.
    f1 : float
        2 TP / (2 TP + FP + FN) of lesions. None of the three: 1.
    found, missed, false_positives : int
        TP and FN among the scored lesions; FP among pieces of the prediction.
    lesions : tuple of Lesion
        All lesions of the reference, also those too small to be scored.
    """

    dice: float
    hd95: float
    f1: float
    found: int
    missed: int
    false_positives: int
    lesions: tuple[Lesion, ...]


def lesionwise(
    prediction: Mask,
    reference: Mask,
    spacing_mm: Sequence[float],
    rule: LesionRule = BRATS2023["gli"],
    *,
    hd95: bool = True,
    penalty_mm: float | None = None,
) -> LesionScores:
    """Score a mask lesion by lesion.

    Parameters
    ----------
    prediction, reference : ndarray of bool, shape (D, H, W)
    spacing_mm : sequence of float
        Voxel size along each axis.
    rule : LesionRule, default=BRATS2023["gli"]
    hd95 : bool, default=True
        Whether to measure distances, the slow part.
    penalty_mm : float or None, default=None
        Distance of a missed or invented lesion. None = the image's diagonal, as in
        `anymri.evaluation.metrics.hausdorff`; the program of 2023 takes 374 for every image.

    Returns
    -------
    LesionScores
        Both masks empty: Dice and F1 1, HD95 0. Only the prediction empty: 0, 0 and the penalty, unless all lesions
        are too small to be scored. Only the reference empty: 0, 0 and the penalty.

    Raises
    ------
    ValueError
        If shapes differ, an array is not boolean, or the spacing does not fit.
    """
    metrics.dice(prediction, reference)  # checks shapes and types
    if len(spacing_mm) != reference.ndim or any(not value > 0 for value in spacing_mm):
        raise ValueError(f"spacing_mm {tuple(spacing_mm)} must be {reference.ndim} positive numbers, one per axis")
    penalty = penalty_mm
    if penalty is None:
        penalty = float(np.linalg.norm(np.asarray(reference.shape, float) * np.asarray(spacing_mm, float)))
    steps = rule.steps(spacing_mm)
    either = prediction | reference
    if either.any():  # nothing happens far from both masks
        box = metrics.bounding_box(either, margin=steps + 1)
        prediction, reference = prediction[box], reference[box]
    matched, pieces, count = _match(prediction, reference, steps)
    lesions = tuple(
        _score_lesion(lesion, np.isin(pieces, touching), len(touching) > 0, spacing_mm, rule, penalty if hd95 else None)
        for lesion, touching in matched
    )
    touched = {int(piece) for _, touching in matched for piece in touching}
    return _summarise(lesions, count - len(touched), penalty if hd95 else None)


def _match(prediction: Mask, reference: Mask, steps: int) -> tuple[list[tuple[Mask, Labels]], Labels, int]:
    """Lesions of the reference with the pieces of the prediction that touch them, all pieces, and their number."""
    from scipy.ndimage import binary_dilation, find_objects, generate_binary_structure, label

    everything = generate_binary_structure(reference.ndim, reference.ndim)  # joined by a face, an edge or a corner
    reach = generate_binary_structure(reference.ndim, 2)  # by a face or an edge
    pieces, count = label(prediction, everything)
    dilated = binary_dilation(reference, reach, steps) if reference.any() else reference
    joined, _ = label(dilated, everything)
    matched = []
    for number, box in enumerate(find_objects(joined), 1):
        # The program dilates each lesion again to find what touches it; that gives this piece of `joined` once more.
        inside = joined[box] == number
        lesion = np.zeros_like(reference)
        lesion[box] = inside & reference[box]
        touching = np.unique(pieces[box][inside])
        matched.append((lesion, touching[touching > 0]))
    return matched, pieces, int(count)


def _score_lesion(
    lesion: Mask,
    predicted: Mask,
    found: bool,
    spacing_mm: Sequence[float],
    rule: LesionRule,
    penalty: float | None,
) -> Lesion:
    volume = metrics.volume_ml(lesion, spacing_mm) * 1000
    scored = volume > rule.ignore_mm3
    distance = float("nan")
    if penalty is not None:
        distance = metrics.hausdorff(predicted, lesion, spacing_mm) if found else penalty
    return Lesion(volume, found, scored, metrics.dice(predicted, lesion) if found else 0.0, distance)


def _summarise(lesions: tuple[Lesion, ...], false_positives: int, penalty: float | None) -> LesionScores:
    scored = [lesion for lesion in lesions if lesion.scored]
    found = sum(lesion.found for lesion in scored)
    missed = len(scored) - found
    total = len(scored) + false_positives
    dice = sum(lesion.dice for lesion in scored) / total if total else 1.0
    distance = float("nan")
    if penalty is not None:
        far = sum(lesion.hd95 for lesion in scored) + false_positives * penalty
        distance = far / total if total else 0.0
    f1 = 2 * found / (2 * found + false_positives + missed) if total else 1.0
    return LesionScores(dice, distance, f1, found, missed, false_positives, lesions)
