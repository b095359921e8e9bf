"""Conformal bounds by hand, and what they promise on draws."""

from __future__ import annotations

import math

import numpy as np
import pytest

from anymri.inference.trust.conformal import controlled_threshold, highest_rank, upper_bound

THIRTEEN = [float(value) for value in range(1, 14)]


@pytest.mark.parametrize(("confidence", "bound"), [(0.5, 7), (0.8, 12), (0.9, 13), (0.95, math.inf)])
def test_of_thirteen_the_rank_is_fourteen_times_the_confidence_rounded_up(confidence, bound):
    assert upper_bound(THIRTEEN[::-1], confidence) == bound


def test_studies_with_an_infinite_score_count():
    assert upper_bound(THIRTEEN[:11], 0.8, absent=2) == math.inf
    assert upper_bound(THIRTEEN[:12], 0.8, absent=1) == 12


def test_too_few_give_the_largest_where_that_is_asked_for():
    assert highest_rank(THIRTEEN, 0.95) == 13
    assert highest_rank([], 0.95) == math.inf


def test_bounds_hold_as_often_as_they_say():
    draws = np.random.default_rng(0).exponential(size=(4000, 14))
    held = np.mean([row[-1] <= upper_bound(row[:-1], 0.8) for row in draws.tolist()])
    assert held == pytest.approx(12 / 14, abs=0.02)  # of 13 the promise of 0.8 is kept with 12 in 14


def test_the_threshold_counts_the_new_study_as_wholly_missed():
    """Of nine studies (9 m + 1) / 10 <= 0.2 needs m <= 1/9."""
    assert controlled_threshold([0.5, 0.3, 0.1], [0.3, 0.11, 0.0], 9, 0.2) == 0.3
    assert controlled_threshold([0.5, 0.3, 0.1], [0.3, 0.12, 0.0], 9, 0.2) == 0.1
    assert controlled_threshold([0.5, 0.3, 0.1], [0.0, 0.0, 0.0], 3, 0.2) is None
