"""The QU-BraTS score on cases counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from anymri.evaluation.metrics.qu_brats import qu_brats

FOUND = np.array([True, True, False, False])
REAL = np.array([True, False, False, True])


def test_four_voxels_by_hand():
    """One true positive (sure), one false positive (unsure), one true negative (half sure), one miss (unsure).

    Thresholds 0, 1/2, 1. Kept at 0: the true positive: Dice 1; of the true negatives all are filtered. At 1/2: the
    true negative too: Dice 1. At 1 all four: Dice 2/4. Areas by trapezia of width 1/2: Dice (1 + 1) / 4 + (1 + .5) / 4,
    true positives 0, true negatives (1 + 0) / 4 + 0.
    """
    found = qu_brats(FOUND, REAL, np.array([0.0, 0.9, 0.5, 0.9]), points=2)
    assert found.dice_auc == pytest.approx(0.875)
    assert found.ftp_auc == pytest.approx(0)
    assert found.ftn_auc == pytest.approx(0.25)
    assert found.score == pytest.approx((0.875 + 1 + 0.75) / 3)


def test_sure_everywhere_is_the_plain_dice_and_filters_nothing():
    found = qu_brats(FOUND, REAL, np.zeros(4))
    assert found == pytest.approx((2.5 / 3, 0.5, 0, 0))


def test_clueless_everywhere_loses_all_but_at_the_highest_threshold():
    """Dice is 1 where nothing is left, at 100 of 101 thresholds; the last trapezium of width 1/100 leads to 1/2."""
    found = qu_brats(FOUND, REAL, np.ones(4))
    assert found.dice_auc == pytest.approx(0.99 + 0.01 * 0.75)
    assert found.ftp_auc == found.ftn_auc == pytest.approx(0.99 + 0.01 * 0.5)


def test_only_the_brain_loses_positives_and_negatives_but_dice_counts_all():
    unsure = np.array([0.0, 0.9, 0.5, 0.9])
    brain = np.array([False, True, False, True])
    found = qu_brats(FOUND, REAL, unsure, brain, points=2)
    assert found.dice_auc == pytest.approx(0.875)
    assert found.ftp_auc == found.ftn_auc == 0  # none in the brain: none filtered


def test_what_is_no_uncertainty_is_refused():
    with pytest.raises(ValueError, match="outside"):
        qu_brats(FOUND, REAL, np.array([0, 0, 0, 100]))
    with pytest.raises(ValueError, match="boolean"):
        qu_brats(FOUND, REAL.astype(int), np.zeros(4))
