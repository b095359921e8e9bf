"""Lesion-wise scores by hand, and against the published rules written out voxel by voxel."""

from __future__ import annotations

import numpy as np
import pytest
from by_hand import lesion_dice

from anymri.evaluation import metrics
from anymri.evaluation.metrics.lesionwise import BRATS2023, LesionRule, lesionwise

SHAPE = (40, 40, 40)
UNIT = (1.0, 1.0, 1.0)
DIAGONAL = 40 * np.sqrt(3)


def cubes(*corners, edge=4, shape=SHAPE):
    found = np.zeros(shape, bool)
    for d, h, w in corners:
        found[d : d + edge, h : h + edge, w : w + edge] = True
    return found


def test_empty_cases():
    nothing, one = cubes(), cubes((5, 5, 5))
    both = lesionwise(nothing, nothing, UNIT)
    assert (both.dice, both.hd95, both.f1) == (1, 0, 1)
    invented = lesionwise(one, nothing, UNIT)
    assert (invented.dice, invented.f1, invented.false_positives) == (0, 0, 1)
    assert invented.hd95 == pytest.approx(DIAGONAL)
    missed = lesionwise(nothing, one, UNIT)
    assert (missed.dice, missed.f1, missed.missed) == (0, 0, 1)
    assert missed.hd95 == pytest.approx(DIAGONAL)
    same = lesionwise(one, one, UNIT)
    assert (same.dice, same.hd95, same.f1, same.found) == (1, 0, 1, 1)


def test_every_lesion_counts_the_same():
    """One large lesion found exactly, one small one missed: Dice over voxels hides it, lesion-wise Dice is 1/2."""
    reference = cubes((20, 20, 20), edge=12) | cubes((2, 2, 2))
    prediction = cubes((20, 20, 20), edge=12)
    found = lesionwise(prediction, reference, UNIT)
    assert metrics.dice(prediction, reference) > 0.98
    assert found.dice == 0.5
    assert found.f1 == pytest.approx(2 / 3)
    assert found.hd95 == pytest.approx(DIAGONAL / 2)
    assert sorted(lesion.volume_mm3 for lesion in found.lesions) == [64, 1728]


def test_an_invented_piece_is_a_lesion_with_the_worst_score_however_small():
    reference = cubes((20, 20, 20), edge=8)
    prediction = reference.copy()
    prediction[2, 2, 2] = True
    found = lesionwise(prediction, reference, UNIT, penalty_mm=374)
    assert found.dice == 0.5
    assert found.false_positives == 1
    assert found.f1 == pytest.approx(2 / 3)
    assert found.hd95 == 374 / 2


def test_lesions_of_50_mm3_are_ignored_and_51_are_not():
    """Fifty voxels are ignored, found or not; what touches them is no false positive."""
    small = np.zeros(SHAPE, bool)
    small[4:9, 4:9, 4:6] = True
    assert small.sum() == 50
    large = cubes((20, 20, 20), edge=6)
    assert lesionwise(large, large | small, UNIT).dice == 1
    partly = small.copy()
    partly[4] = False
    assert lesionwise(large | partly, large | small, UNIT).dice == 1
    more = small.copy()
    more[9, 4, 4] = True
    assert lesionwise(large, large | more, UNIT).dice == 0.5
    assert lesionwise(np.zeros(SHAPE, bool), small, UNIT).dice == 1
    # The same voxels at 2 mm are 400 mm3.
    assert lesionwise(large, large | small, (2, 2, 2)).dice == 0.5
    assert lesionwise(large, large | small, UNIT, BRATS2023["met"]).dice == 0.5


def test_pieces_of_the_reference_six_voxels_apart_are_one_lesion():
    """Dilated by three voxels each, pieces with a gap of six touch; with a gap of eight they do not."""
    near, far = cubes((4, 4, 4), (14, 4, 4)), cubes((4, 4, 4), (16, 4, 4))
    assert len(lesionwise(near, near, UNIT).lesions) == 1
    assert len(lesionwise(far, far, UNIT).lesions) == 2
    # Half of the joined lesion found: 2 * 64 / (64 + 128).
    assert lesionwise(cubes((4, 4, 4)), near, UNIT).dice == pytest.approx(2 / 3)
    assert lesionwise(cubes((4, 4, 4)), near, UNIT, BRATS2023["men"]).dice == 0.5


def test_a_prediction_within_three_voxels_belongs_to_the_lesion():
    reference = cubes((10, 10, 10))
    beside = cubes((10, 10, 16))  # two voxels away
    touching = lesionwise(beside, reference, UNIT)
    assert (touching.dice, touching.found, touching.false_positives) == (0, 1, 0)
    assert touching.hd95 < 10
    away = lesionwise(cubes((10, 10, 20)), reference, UNIT)
    assert (away.found, away.missed, away.false_positives) == (0, 1, 1)


def test_one_piece_over_two_lesions_counts_for_both():
    reference = cubes((4, 4, 4), (20, 4, 4))
    bridge = np.zeros(SHAPE, bool)
    bridge[4:24, 4:8, 4:8] = True
    found = lesionwise(bridge, reference, UNIT)
    assert (found.found, found.false_positives) == (2, 0)
    assert found.dice == pytest.approx(2 * 64 / (64 + 320))


def test_dilation_steps_follow_the_spacing():
    assert LesionRule(3.0, 50).steps(UNIT) == 3
    assert LesionRule(3.0, 50).steps((2, 2, 2)) == 2
    assert LesionRule(3.0, 50).steps((5, 5, 5)) == 1


@pytest.mark.parametrize("seed", range(12))
def test_random_lesions_follow_the_published_rules(seed):
    rng = np.random.default_rng(seed)
    shape = (16, 18, 17)
    masks = []
    for _ in range(2):
        mask = np.zeros(shape, bool)
        for _ in range(rng.integers(1, 4)):
            d, h, w = rng.integers(0, 13, size=3)
            a, b, c = rng.integers(1, 6, size=3)
            mask[d : d + a, h : h + b, w : w + c] = True
        masks.append(mask)
    found = lesionwise(*masks, UNIT, LesionRule(1.0 if seed % 2 else 2.0, 20), hd95=False)
    dice, invented = lesion_dice(*masks, steps=1 if seed % 2 else 2, ignore=20)
    assert found.dice == pytest.approx(dice)
    assert found.false_positives == invented
    assert np.isnan(found.hd95)


def test_mistakes_are_refused():
    with pytest.raises(ValueError, match="spacing_mm"):
        lesionwise(cubes(), cubes(), (1, 1))
    with pytest.raises(ValueError, match="boolean"):
        lesionwise(cubes().astype(int), cubes(), UNIT)
