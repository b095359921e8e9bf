"""Worth of each sequence: Shapley values over the table of all subsets, and the gain of acquiring one more.

The value of a set of sequences is the mean Dice that a method reaches with it. With nothing at all a method can only
predict nothing: v(nothing) is the Dice of an empty prediction, 0, or 1 for a subject without the region.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import factorial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from anymri.benchmark.statistics import RESAMPLES, mean_interval
from anymri.types import UserError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["NOTHING", "SubsetValues", "expected_gain", "sequence_worth", "shapley_values", "subset_values"]

#: Name of the empty subset in the tables of this module.
NOTHING = "(nothing)"
#: Metrics for which the value of an empty prediction is known: 0, or 1 where the reference is empty too.
OVERLAPS = ("dice", "iou", "dice_et_min500mm3")

Array = NDArray[np.float64]


def shapley_values(values: Mapping[frozenset[str], float | Array], players: Sequence[str]) -> dict[str, float | Array]:
    """Shapley value of every player: its gain, averaged over all orders in which the players may come.

    Parameters
    ----------
    values : dict of frozenset of str to float or ndarray
        Value of every set of players, the empty one too; arrays are worked through element by element.
    players : sequence of str

    Returns
    -------
    dict of str to float or ndarray
        They sum to the value of all minus that of none.

    Raises
    ------
    ValueError
        If a set is missing.
    """
    m = len(players)
    result: dict[str, float | Array] = {}
    for player in players:
        others = [other for other in players if other != player]
        total: float | Array = 0.0
        for size in range(m):
            weight = factorial(size) * factorial(m - size - 1) / factorial(m)
            for chosen in combinations(others, size):
                before = frozenset(chosen)
                missing = [one for one in (before, before | {player}) if one not in values]
                if missing:
                    raise ValueError(f"no value for the set {sorted(missing[0]) or 'of nothing'}")
                total = total + weight * (values[before | {player}] - values[before])
        result[player] = total
    return result


@dataclass(frozen=True)
class SubsetValues:
    """Value of every subset for every subject.

    Parameters
    ----------
    modalities : tuple of str
    subjects : tuple of str
        Those that have every subset.
    values : dict of frozenset of str to ndarray, shape (N,)
        The empty set too.
    """

    modalities: tuple[str, ...]
    subjects: tuple[str, ...]
    values: dict[frozenset[str], Array]


def subset_values(
    frame: pd.DataFrame,
    modalities: Sequence[str],
    *,
    method: str,
    target: str,
    metric: str = "dice",
    by: str = "method",
) -> SubsetValues:
    """Read the value of every subset from a results table.

    Parameters
    ----------
    frame : DataFrame
        Rows of `results.parquet`.
    modalities : sequence of str
        All sequences, in the order of the specification.
    method, target : str
        What to read; `method` is a value of the column `by`.
    metric : {"dice", "iou", "dice_et_min500mm3"}, default="dice"
    by : str, default="method"

    Raises
    ------
    UserError
        If no subject has all subsets, or the metric has no value for an empty prediction.
    """
    if metric not in OVERLAPS:
        raise UserError(f"worth: the value of no sequence is not known for {metric}; use one of {', '.join(OVERLAPS)}")
    rows = frame[(frame["metric"] == metric) & (frame["target"] == target) & (frame[by] == method)]
    keys = ["dataset", "subject"] if "dataset" in rows else ["subject"]
    wide = rows.groupby([*keys, "subset"], observed=True)["value"].mean().unstack("subset")
    names = {
        "+".join(subset): frozenset(subset)
        for size in range(1, len(modalities) + 1)
        for subset in combinations(modalities, size)
    }
    absent = [name for name in names if name not in wide]
    if absent:
        raise UserError(f"worth: {method} has no results for {absent[0]}; evaluate all {len(names)} subsets")
    wide = wide[list(names)].dropna()
    if wide.empty:
        raise UserError(f"worth: no subject of {method} has results for all {len(names)} subsets; evaluate more")
    # Folds and seeds of one subject share the reference, so any row tells whether it is empty.
    empty = rows.groupby(keys, observed=True)["reference_empty"].first().loc[wide.index]
    values = {names[name]: wide[name].to_numpy(np.float64) for name in names}
    values[frozenset()] = empty.to_numpy(np.float64)
    subjects = tuple(str(name[-1]) if isinstance(name, tuple) else str(name) for name in wide.index)
    return SubsetValues(tuple(modalities), subjects, values)


def sequence_worth(table: SubsetValues, resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
    """Shapley value of every sequence, with bootstrap intervals over subjects.

    Parameters
    ----------
    table : SubsetValues
    resamples, seed
        See `anymri.benchmark.statistics.mean_interval`.

    Returns
    -------
    DataFrame
        Columns ``modality worth low high n share``. The worths sum to v(all) - v(nothing); `share` is a worth over
        that sum (NaN if the sum is 0).

    Notes
    -----
    The Shapley value is linear in the table, so that of the means is the mean of the subjects' own.
    """
    import pandas as pd

    own = shapley_values(table.values, table.modalities)
    total = float(np.mean(table.values[frozenset(table.modalities)] - table.values[frozenset()]))
    rows = []
    for modality in table.modalities:
        found = mean_interval(own[modality], resamples=resamples, seed=seed)
        share = found.mean / total if total else float("nan")
        rows.append((modality, found.mean, found.low, found.high, found.n, share))
    return pd.DataFrame(rows, columns=["modality", "worth", "low", "high", "n", "share"])


def expected_gain(
    table: SubsetValues, given: Sequence[str] | None = None, resamples: int = RESAMPLES, seed: int = 0
) -> pd.DataFrame:
    """What one more sequence adds, given what is there.

    Parameters
    ----------
    table : SubsetValues
    given : sequence of str or None, default=None
        What is there; None = every subset, also nothing, in turn.
    resamples, seed
        See `anymri.benchmark.statistics.mean_interval`.

    Returns
    -------
    DataFrame
        Columns ``given acquire value gain low high n best``: `value` is the mean with what is there, `gain` the mean
        paired difference that acquiring the sequence makes, `best` marks the largest gain of each subset.

    Raises
    ------
    UserError
        If a given sequence is unknown.
    """
    import pandas as pd

    unknown = [code for code in given or () if code not in table.modalities]
    if unknown:
        raise UserError(f"worth: {unknown[0]!r} is not one of {', '.join(table.modalities)}; name what is there")
    sizes = range(len(table.modalities))
    sets = [frozenset(s) for size in sizes for s in combinations(table.modalities, size)]
    rows = []
    for before in sets if given is None else [frozenset(given)]:
        name = "+".join(code for code in table.modalities if code in before) or NOTHING
        for modality in (code for code in table.modalities if code not in before):
            gain = table.values[before | {modality}] - table.values[before]
            found = mean_interval(gain, resamples=resamples, seed=seed)
            value = float(table.values[before].mean())
            rows.append((name, modality, value, found.mean, found.low, found.high, found.n))
    result = pd.DataFrame(rows, columns=["given", "acquire", "value", "gain", "low", "high", "n"])
    result["best"] = result["gain"] == result.groupby("given")["gain"].transform("max")
    return result
