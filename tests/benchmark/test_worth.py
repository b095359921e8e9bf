"""Shapley values add up, are fair in cases solved by hand; the gain of one more is the paired difference."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pandas as pd
import pytest

from anymri.benchmark.worth import NOTHING, expected_gain, sequence_worth, shapley_values, subset_values
from anymri.errors import UserError
from anymri.types import GLIOMA

PLAYERS = GLIOMA.modalities
SETS = [frozenset(s) for size in range(5) for s in combinations(PLAYERS, size)]


def made_up(values, subjects=("p",), empty=(), metric="dice"):
    """Results of one method; `values` maps subject and subset name to Dice."""
    rows = [
        ("u", "made-up", subject, GLIOMA.subset_name(subset), "enhancing_tumor", metric,
         values(subject, frozenset(subset)), subject in empty)
        for subject in subjects
        for subset in GLIOMA.subsets()
    ]  # fmt: skip
    columns = ["method", "dataset", "subject", "subset", "target", "metric", "value", "reference_empty"]
    return pd.DataFrame(rows, columns=columns).astype({"subset": "category", "subject": "category"})


def read(frame, **changes):
    return subset_values(frame, PLAYERS, **{"method": "u", "target": "enhancing_tumor", **changes})


def test_a_game_solved_by_hand():
    """v(a) = 0.1, v(b) = 0.4, v(ab) = 0.9: a gains 0.1 first and 0.5 second, b 0.4 and 0.8."""
    values = {frozenset(): 0.0, frozenset("a"): 0.1, frozenset("b"): 0.4, frozenset("ab"): 0.9}
    assert shapley_values(values, "ab") == pytest.approx({"a": 0.3, "b": 0.6})


def test_values_sum_to_all_minus_nothing():
    rng = np.random.default_rng(0)
    for _ in range(50):
        values = {one: float(rng.uniform()) for one in SETS}
        worth = shapley_values(values, PLAYERS)
        assert abs(sum(worth.values()) - (values[frozenset(PLAYERS)] - values[frozenset()])) < 1e-9


def test_values_equal_the_mean_over_all_orders():
    rng = np.random.default_rng(1)
    values = {one: float(rng.uniform()) for one in SETS}
    gains = {player: [] for player in PLAYERS}
    for order in permutations(PLAYERS):
        for place, player in enumerate(order):
            gains[player].append(values[frozenset(order[: place + 1])] - values[frozenset(order[:place])])
    assert shapley_values(values, PLAYERS) == pytest.approx({p: np.mean(g) for p, g in gains.items()})


def test_useless_and_interchangeable_sequences():
    values = {one: 0.8 * ("t1c" in one) + 0.1 * (("t2" in one) or ("flair" in one)) for one in SETS}
    worth = shapley_values(values, PLAYERS)
    assert worth == pytest.approx({"t1": 0, "t1c": 0.8, "t2": 0.05, "flair": 0.05})


def test_a_missing_set_is_named():
    values = {one: 0.0 for one in SETS if one != frozenset({"t1", "t2"})}
    with pytest.raises(ValueError, match=r"\['t1', 't2'\]"):
        shapley_values(values, PLAYERS)


def test_nothing_scores_0_or_1_where_there_is_nothing_to_find():
    table = read(made_up(lambda s, one: 1.0 if s == "q" else len(one) / 4, ("p", "q"), empty=("q",)))
    assert table.subjects == ("p", "q")
    assert table.values[frozenset()].tolist() == [0, 1]
    worth = sequence_worth(table, resamples=100)
    # p: every sequence is worth 0.25; q: nothing can be gained.
    assert worth["worth"].tolist() == pytest.approx([0.125] * 4)
    assert worth["share"].tolist() == pytest.approx([0.25] * 4)
    assert worth["n"].tolist() == [2] * 4


def test_worths_of_a_table_sum_and_have_intervals():
    rng = np.random.default_rng(2)
    noise = {(s, one): rng.uniform(0, 0.1) for s in range(20) for one in SETS}
    subjects = tuple(str(i) for i in range(20))
    frame = made_up(lambda s, one: 0.5 * ("t1c" in one) + 0.05 * len(one) + noise[int(s), one], subjects)
    table = read(frame)
    worth = sequence_worth(table, resamples=500)
    total = table.values[frozenset(PLAYERS)].mean() - table.values[frozenset()].mean()
    assert abs(worth["worth"].sum() - total) < 1e-9
    assert worth["share"].sum() == pytest.approx(1)
    best = worth.loc[worth["worth"].idxmax()]
    assert best["modality"] == "t1c"
    assert best["low"] < best["worth"] < best["high"]
    assert best["low"] > worth.loc[worth["modality"] != "t1c", "high"].max()


def test_the_gain_of_one_more_is_the_paired_difference():
    frame = made_up(lambda s, one: {"p": 0.1, "q": 0.3}[s] * len(one) + 0.2 * ("flair" in one), ("p", "q"))
    gains = expected_gain(read(frame), ["t1"], resamples=100).set_index("acquire")
    assert list(gains.index) == ["t1c", "t2", "flair"]
    assert gains.loc["t1c", "gain"] == pytest.approx(0.2)
    assert gains.loc["flair", "gain"] == pytest.approx(0.4)
    assert gains["value"].tolist() == pytest.approx([0.2] * 3)
    assert gains["best"].tolist() == [False, False, True]
    every = expected_gain(read(frame), resamples=20)
    assert len(every) == 4 * 2**3  # of 16 sets, each sequence is absent from half
    assert every["given"].iloc[0] == NOTHING
    assert every.groupby("given")["best"].any().all()


def test_subjects_without_all_subsets_do_not_count():
    frame = made_up(lambda s, one: len(one) / 4, ("p", "q"))
    frame = frame[~((frame["subject"] == "q") & (frame["subset"] == "t1"))]
    assert read(frame).subjects == ("p",)


def test_mistakes_are_told_plainly():
    frame = made_up(lambda s, one: 0.5)
    with pytest.raises(UserError, match=r"worth: u has no results for t1c\+t2"):
        read(frame[frame["subset"] != "t1c+t2"].astype({"subset": str}))
    with pytest.raises(UserError, match="value of no sequence is not known for hd95"):
        read(made_up(lambda s, one: 3.0, metric="hd95"), metric="hd95")
    with pytest.raises(UserError, match="'pd' is not one of"):
        expected_gain(read(frame), ["pd"])
    two = pd.concat([frame[frame["subset"] != "t1"], frame[frame["subset"] == "t1"].assign(subject="other")])
    with pytest.raises(UserError, match="no subject of u"):
        read(two)
