"""Intervals, tests and rankings against scipy and against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from anymri.benchmark.statistics import (
    bootstrap_means,
    compare_pairs,
    holm,
    mean_interval,
    paired_wilcoxon,
    rank_methods,
    subject_scores,
    summarise,
)

DICE = np.clip(np.random.default_rng(3).beta(6, 2, 40), 0, 1)


# ------------------------------------------------------------------------------------------------------- intervals


@pytest.mark.parametrize("method", ["BCa", "percentile"])
def test_intervals_agree_with_scipy(method):
    theirs = stats.bootstrap((DICE,), np.mean, n_resamples=20000, method=method, rng=1).confidence_interval
    ours = mean_interval(DICE, resamples=20000, method=method)
    width = theirs.high - theirs.low
    assert ours.mean == pytest.approx(DICE.mean())
    assert ours.low == pytest.approx(theirs.low, abs=0.03 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.03 * width)
    assert ours.n == 40


def test_bca_quantiles_equal_scipys_on_the_same_samples():
    """Fed with our own bootstrap means, scipy's correction moves to the same quantiles."""
    from anymri.benchmark.statistics import _bca_tails

    skewed = np.random.default_rng(0).exponential(size=25)
    means = bootstrap_means(skewed, 4000, seed=5)
    tails = _bca_tails(skewed, means, np.array([0.025, 0.975]))
    leave_one_out = np.array([np.delete(skewed, i).mean() for i in range(25)])
    pull = leave_one_out.mean() - leave_one_out
    a = (pull**3).sum() / (6 * ((pull**2).sum()) ** 1.5)
    z0 = stats.norm.ppf((means < skewed.mean()).mean())
    for tail, z in zip(tails, stats.norm.ppf([0.025, 0.975]), strict=True):
        assert tail == pytest.approx(stats.norm.cdf(z0 + (z0 + z) / (1 - a * (z0 + z))), abs=1e-9)
    assert tails[0] > 0.025
    assert tails[1] > 0.975


def test_intervals_repeat_and_depend_on_the_seed():
    assert mean_interval(DICE) == mean_interval(DICE)
    assert mean_interval(DICE, seed=1) != mean_interval(DICE)


def test_small_and_constant_samples():
    assert mean_interval([0.5, 0.5, 0.5]) == mean_interval([0.5, np.nan, 0.5, 0.5])
    same = mean_interval([0.5, 0.5, 0.5])
    assert (same.low, same.mean, same.high, same.n) == (0.5, 0.5, 0.5, 3)
    one = mean_interval([0.7])
    assert (one.mean, one.n) == (0.7, 1)
    assert np.isnan([one.low, one.high]).all()
    assert mean_interval([]).n == 0
    assert np.isnan(mean_interval([np.nan]).mean)


def test_the_same_subjects_are_drawn_for_all_columns():
    pair = np.stack([DICE, DICE - 0.1], axis=1)
    drawn = bootstrap_means(pair, 200)
    assert np.allclose(drawn[:, 0] - drawn[:, 1], 0.1)
    assert drawn[:, 0].std() > 0


# ----------------------------------------------------------------------------------------------------------- tests


def test_wilcoxon_agrees_with_scipy_and_with_all_sign_patterns():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=9), rng.normal(0.5, size=9)
    assert paired_wilcoxon(a, b) == pytest.approx(stats.wilcoxon(a, b, zero_method="pratt").pvalue)
    # The definition: how many of the 2^9 sign patterns have a rank sum as extreme?
    ranks = stats.rankdata(np.abs(a - b))
    seen = (ranks * np.sign(a - b)).sum()
    signs = np.array(np.meshgrid(*[(-1, 1)] * 9)).reshape(9, -1)
    assert paired_wilcoxon(a, b) == pytest.approx((np.abs(ranks @ signs) >= abs(seen) - 1e-9).mean())


def test_wilcoxon_of_equal_and_of_no_values():
    assert paired_wilcoxon(DICE, DICE) == 1
    assert np.isnan(paired_wilcoxon([], []))
    assert paired_wilcoxon(DICE + np.arange(1, 41) / 100, DICE) < 1e-6


def test_zero_differences_are_ranked_and_then_dropped():
    """Two zeros take ranks 1 and 2, so the others keep 3 to 8: 14 of the 64 sign patterns are as extreme.

    Ranked among themselves, 1 to 6, it would be 10 of 64.
    """
    difference = np.array([0, 0, -0.1, -0.2, 0.3, 0.4, 0.5, 0.6])
    assert paired_wilcoxon(difference, np.zeros(8)) == pytest.approx(14 / 64)


def test_holm_by_hand():
    """Sorted 0.01, 0.02, 0.03, 0.2: times 4, 3, 2, 1 gives 0.04, 0.06, 0.06, 0.2; steps never go down."""
    assert holm([0.03, 0.01, 0.2, 0.02]).tolist() == pytest.approx([0.06, 0.04, 0.2, 0.06])
    assert holm([0.9, 0.8]).tolist() == [1, 1]
    assert holm([0.04]).tolist() == [0.04]
    assert holm([]).tolist() == []
    with_gap = holm([0.01, np.nan, 0.02])
    assert with_gap[[0, 2]].tolist() == pytest.approx([0.02, 0.02])
    assert np.isnan(with_gap[1])


def test_pairs_use_the_subjects_both_have():
    rng = np.random.default_rng(1)
    base = rng.uniform(0.5, 0.9, 12)
    scores = pd.DataFrame({"good": base + 0.05 + rng.normal(0, 0.01, 12), "base": base, "few": base})
    scores.loc[:6, "few"] = np.nan
    found = {(c.first, c.second): c for c in compare_pairs(scores)}
    assert found["good", "base"].n == 12
    assert found["good", "few"].n == found["base", "few"].n == 5
    assert found["good", "base"].difference.mean == pytest.approx((scores["good"] - base).mean())
    assert found["good", "base"].difference.low > 0
    assert found["base", "few"].p == 1
    p = [c.p for c in found.values()]
    assert [c.p_holm for c in found.values()] == pytest.approx(holm(p).tolist())
    assert [(c.first, c.second) for c in compare_pairs(scores, "base")] == [("good", "base"), ("few", "base")]


# --------------------------------------------------------------------------------------------------------- ranking


def test_ranks_and_critical_difference_by_hand():
    """Three methods, four subjects: a always first, b second, c third; q(0.05, 3) = 2.343 as in Demšar's table."""
    scores = pd.DataFrame({"c": [0.1, 0.2, 0.3, 0.1], "a": [0.9, 0.8, 0.7, 0.9], "b": [0.5, 0.5, 0.5, 0.5]})
    ranking = rank_methods(scores)
    assert ranking.ranks == {"a": 1.0, "b": 2.0, "c": 3.0}
    assert list(ranking.ranks) == ["a", "b", "c"]
    assert ranking.statistic == pytest.approx(8.0)  # 12 / (n k (k + 1)) * sum of squared rank sums - 3 n (k + 1)
    assert ranking.p == pytest.approx(stats.chi2.sf(8, 2))
    assert ranking.critical_difference == pytest.approx(2.343 * np.sqrt(3 * 4 / (6 * 4)), abs=1e-3)
    assert ranking.groups == (("a", "b"), ("b", "c"))
    assert ranking.n == 4
    assert list(rank_methods(scores, higher_is_better=False).ranks) == ["c", "b", "a"]


@pytest.mark.parametrize(("k", "q"), [(2, 1.960), (5, 2.728), (10, 3.164)])
def test_critical_differences_follow_demsars_table(k, q):
    scores = pd.DataFrame(np.random.default_rng(0).normal(size=(30, k)))
    assert rank_methods(scores).critical_difference == pytest.approx(q * np.sqrt(k * (k + 1) / 180), abs=1e-3)


def test_ties_share_a_rank_and_missing_rows_are_left_out():
    scores = pd.DataFrame({"a": [1.0, 0.9, np.nan], "b": [1.0, 0.8, 0.5], "c": [0.2, 0.1, 0.9]})
    ranking = rank_methods(scores)
    assert ranking.n == 2
    assert ranking.ranks == {"a": 1.25, "b": 1.75, "c": 3.0}
    same = rank_methods(pd.DataFrame({"a": [1.0, 1.0], "b": [1.0, 1.0], "c": [1.0, 1.0]}))
    assert (same.statistic, same.p) == (0, 1)
    assert same.groups == (("a", "b", "c"),)
    two = rank_methods(scores[["a", "b"]])
    assert np.isnan(two.p)
    with pytest.raises(ValueError, match="two methods"):
        rank_methods(scores[["a"]])


# ------------------------------------------------------------------------------------------------------- the table


def results(rows):
    frame = pd.DataFrame(rows, columns=["method", "subject", "subset", "fold", "seed", "value"])
    frame = frame.assign(dataset="made-up", metric="dice", target="whole_tumor")
    for column in ("method", "subject", "subset", "dataset", "metric", "target"):
        frame[column] = frame[column].astype("category")
    return frame


ROWS = [
    ("u", "p", "t1", 0, 0, 0.2),
    ("u", "p", "t1", 0, 1, 0.4),  # a second seed: the cell is 0.3
    ("u", "p", "t1c", 0, 0, 0.7),
    ("u", "q", "t1", 1, 0, 0.5),
    ("u", "q", "t1c", 1, 0, 0.9),
    ("u", "r", "t1", 1, 0, 1.0),  # lacks t1c
    ("v", "p", "t1", 0, 0, 0.1),
    ("v", "p", "t1c", 0, 0, 0.3),
    ("v", "q", "t1", 1, 0, 0.6),
    ("v", "q", "t1c", 1, 0, np.nan),
]


def test_only_subjects_that_all_methods_scored_on_all_subsets():
    scores = subject_scores(results(ROWS), "dice", "whole_tumor")
    assert scores.to_dict() == {"u": {("made-up", "p"): 0.5}, "v": {("made-up", "p"): pytest.approx(0.2)}}
    own = subject_scores(results(ROWS), "dice", "whole_tumor", common=False)
    assert own["u"].dropna().tolist() == pytest.approx([0.5, 0.7])
    single = subject_scores(results(ROWS), "dice", "whole_tumor", subsets=["t1"])
    assert single["u"].tolist() == pytest.approx([0.3, 0.5])


def test_summary_has_a_row_a_subset_and_a_mean_with_its_n():
    table = summarise(results(ROWS), "dice", "whole_tumor", resamples=100).set_index(["subset", "method"])
    assert table.loc[("t1", "u"), "mean"] == pytest.approx(0.4)
    assert table.loc[("t1", "u"), "n"] == 2
    assert table.loc[("t1c", "v"), "n"] == 1
    assert table.loc[("mean", "v"), "mean"] == pytest.approx(0.2)
    loose = summarise(results(ROWS), "dice", "whole_tumor", common=False, resamples=100).set_index(["subset", "method"])
    assert loose.loc[("t1", "u"), "n"] == 3
