"""Calibration, Brier score, classes and the review's equation (1) by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anymri.evaluation import metrics
from anymri.evaluation.metrics.calibration import brier, expected_calibration_error, reliability, review_dice
from anymri.evaluation.metrics.classification import auroc, balanced_accuracy, macro_auroc
from anymri.losses.review import review_dice_loss

PROBABILITY = np.array([0.0, 0.1, 0.3, 0.3, 0.9, 1.0])
REAL = np.array([False, False, True, False, True, True])


def test_calibration_error_by_hand():
    """Two bins: (0, 0, 0.1, 0.3, 0.3) with one in four positive, (0.9, 1.0) all positive."""
    count, confidence, frequency = reliability(PROBABILITY, REAL, bins=2)
    assert count.tolist() == [4, 2]
    assert confidence.tolist() == pytest.approx([0.175, 0.95])
    assert frequency.tolist() == pytest.approx([0.25, 1])
    expected = (4 * 0.075 + 2 * 0.05) / 6
    assert expected_calibration_error(PROBABILITY, REAL, bins=2) == pytest.approx(expected)


def test_bins_are_closed_above_and_empty_ones_do_not_count():
    count, confidence, _ = reliability(np.array([0.0, 0.5, 0.5000001, 1.0]), np.ones(4, bool), bins=2)
    assert count.tolist() == [2, 2]
    count, confidence, _ = reliability(np.array([0.05, 0.95]), np.array([False, True]), bins=10)
    assert np.isnan(confidence[1:-1]).all()
    assert expected_calibration_error(np.array([0.05, 0.95]), np.array([False, True]), bins=10) == pytest.approx(0.05)


def test_a_calibrated_forecast_has_no_error_and_a_sure_mistake_the_largest():
    probability = np.full(10, 0.3)
    assert expected_calibration_error(probability, np.arange(10) < 3) == pytest.approx(0)
    assert expected_calibration_error(np.ones(5), np.zeros(5, bool)) == 1
    assert brier(np.ones(5), np.zeros(5, bool)) == 1
    assert brier(REAL.astype(float), REAL) == 0


def test_only_voxels_inside_count():
    inside = np.array([False, False, True, True, True, True])
    assert brier(PROBABILITY, REAL, inside) == pytest.approx((0.49 + 0.09 + 0.01 + 0) / 4)
    assert expected_calibration_error(PROBABILITY, REAL, inside, 1) == pytest.approx(abs(2.5 / 4 - 3 / 4))
    nothing = np.zeros(6, bool)
    assert np.isnan(brier(PROBABILITY, REAL, nothing))
    assert np.isnan(expected_calibration_error(PROBABILITY, REAL, nothing))


@pytest.mark.parametrize("bad", [np.array([1.2, 0.5]), np.array([-0.1, 0.5]), np.array([np.nan, 0.5])])
def test_what_is_no_probability_is_refused(bad):
    with pytest.raises(ValueError, match="outside"):
        brier(bad, np.array([True, False]))
    with pytest.raises(ValueError, match="shape"):
        brier(np.array([0.5]), REAL)
    with pytest.raises(ValueError, match="boolean"):
        brier(PROBABILITY, REAL.astype(int))
    with pytest.raises(ValueError, match="bins"):
        reliability(PROBABILITY, REAL, bins=0)


# --------------------------------------------------------------------------------------------------- equation (1)


def test_equation_1_by_hand():
    """2 (0.3 + 0.9 + 1) / (0.01 + 0.09 + 0.09 + 0.81 + 1 + 3)."""
    assert review_dice(PROBABILITY, REAL, epsilon=0) == pytest.approx(4.4 / 5.0)
    assert review_dice(PROBABILITY, REAL, epsilon=1.0) == pytest.approx(4.4 / 6.0)


def test_equation_1_of_masks_is_dice_except_where_both_are_empty():
    rng = np.random.default_rng(0)
    for _ in range(20):
        p, r = rng.uniform(size=(2, 50)) < 0.3
        assert review_dice(p, r) == pytest.approx(metrics.dice(p, r))
    nothing = np.zeros(5, bool)
    assert review_dice(nothing, nothing) == 0
    assert metrics.dice(nothing, nothing) == 1


def test_the_loss_is_one_minus_the_score():
    torch.manual_seed(0)
    probability = torch.rand(2, 3, 4, 5, 6)
    target = (torch.rand(2, 3, 4, 5, 6) < 0.3).float()
    scores = [
        review_dice(probability[b, c].numpy(), target[b, c].numpy().astype(bool)) for b in range(2) for c in range(3)
    ]
    assert review_dice_loss(probability, target).item() == pytest.approx(1 - np.mean(scores), abs=1e-6)
    empty = torch.zeros(1, 1, 2, 2, 2)
    assert review_dice_loss(empty, empty).item() == 1
    assert review_dice_loss(target, target).item() == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="match"):
        review_dice_loss(probability, target[:1])


def test_minimising_the_loss_raises_the_overlap():
    target = (torch.arange(64).reshape(1, 1, 4, 4, 4) < 20).float()
    logits = torch.zeros(1, 1, 4, 4, 4, requires_grad=True)
    before = review_dice_loss(logits.sigmoid(), target)
    before.backward()
    after = review_dice_loss((logits - 10 * logits.grad).sigmoid(), target)
    assert after < before


# -------------------------------------------------------------------------------------------------------- classes


def test_auroc_by_hand():
    """Positive 0.8 and 0.4, negative 0.4, 0.1, 0.2: of six pairs five are in order and one is a tie."""
    score, positive = [0.8, 0.4, 0.4, 0.1, 0.2], np.array([True, True, False, False, False])
    assert auroc(score, positive) == pytest.approx(5.5 / 6)
    assert auroc(-np.array(score), positive) == pytest.approx(0.5 / 6)
    assert auroc([0.5] * 5, positive) == 0.5
    assert np.isnan(auroc([0.1, 0.2], np.array([True, True])))
    with pytest.raises(ValueError, match="boolean"):
        auroc([0.1, 0.2], [1, 0])
    with pytest.raises(ValueError, match="not a number"):
        auroc([np.nan, 0.2], [True, False])
    with pytest.raises(ValueError, match="one length"):
        auroc([0.2], [True, False])


def test_macro_auroc_leaves_out_classes_that_do_not_occur():
    probability = np.array([[0.7, 0.2, 0.1], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1]])
    assert macro_auroc(probability, [0, 1, 0]) == 1
    assert np.isnan(macro_auroc(probability, [0, 0, 0]))
    with pytest.raises(ValueError, match="do not fit"):
        macro_auroc(probability, [0, 1])


def test_balanced_accuracy_by_hand():
    """Three of four a and none of one b; c never occurs."""
    assert balanced_accuracy(["a", "a", "a", "c", "a"], ["a", "a", "a", "a", "b"]) == pytest.approx(0.375)
    assert np.isnan(balanced_accuracy([], []))
    with pytest.raises(ValueError, match="one length"):
        balanced_accuracy([1], [1, 2])
