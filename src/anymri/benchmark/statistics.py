"""Honest statistics of a benchmark: intervals over subjects, paired tests, rankings.

The unit is the subject: its value of a method is first averaged over subsets, folds and seeds, and methods are compared
on the subjects that all of them have. Every number comes with its n.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Comparison",
    "Interval",
    "Ranking",
    "bootstrap_means",
    "compare_pairs",
    "holm",
    "mean_interval",
    "paired_wilcoxon",
    "rank_methods",
    "subject_scores",
    "summarise",
]

Array = NDArray[np.float64]
#: Bootstrap samples of every interval.
RESAMPLES = 2000


# --------------------------------------------------------------------------------------------------------------
# Subjects
# --------------------------------------------------------------------------------------------------------------


def subject_scores(
    frame: pd.DataFrame,
    metric: str,
    target: str,
    *,
    by: str = "method",
    subsets: Sequence[str] | None = None,
    common: bool = True,
) -> pd.DataFrame:
    """One value per subject and method: the mean over its subsets.

    Parameters
    ----------
    frame : DataFrame
        Rows of `results.parquet`.
    metric, target : str
    by : str, default="method"
        Column that tells the methods apart.
    subsets : sequence of str or None, default=None
        Subsets to average; None = all that occur for this metric and target.
    common : bool, default=True
        Whether to keep only the subjects that every method scored on every subset. Otherwise a method's column holds
        the subjects that it scored on every subset, and NaN elsewhere.

    Returns
    -------
    DataFrame
        Subjects by methods. Folds and seeds of a subject and subset are averaged first. Undefined values (NaN) of
        the metric count as not scored. Data sets are told apart: subjects are indexed by data set and name.
    """
    rows = frame[(frame["metric"] == metric) & (frame["target"] == target)]
    wanted = sorted(rows["subset"].astype(str).unique()) if subsets is None else list(subsets)
    rows = rows[rows["subset"].isin(wanted)].dropna(subset=["value"])
    keys = [by, "dataset", "subject", "subset"] if "dataset" in rows else [by, "subject", "subset"]
    cells = rows.groupby(keys, observed=True)["value"].mean()
    table = cells.groupby(level=keys[:-1], observed=True).agg(["mean", "size"])
    full = table.loc[table["size"] == len(wanted), "mean"].unstack(by)
    methods = list(dict.fromkeys(rows[by].astype(str)))
    full = full.reindex(columns=methods)
    return full.dropna() if common else full


# --------------------------------------------------------------------------------------------------------------
# Intervals
# --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Interval:
    """Mean over subjects with its bootstrap interval.

    Parameters
    ----------
    mean, low, high : float
        `low` and `high` are NaN for fewer than two subjects.
    n : int
        Subjects.
    """

    mean: float
    low: float
    high: float
    n: int


def bootstrap_means(values: ArrayLike, resamples: int = RESAMPLES, seed: int = 0) -> Array:
    """Means of samples of subjects drawn with replacement.

    Parameters
    ----------
    values : array of float, shape (N, ...)
        Subjects first. The same subjects are drawn for all other axes, which keeps pairs together.
    resamples : int, default=2000
    seed : int, default=0

    Returns
    -------
    ndarray, shape (resamples, ...)
    """
    data = np.asarray(values, np.float64)
    n = len(data)
    drawn = np.random.default_rng(seed).integers(0, n, (resamples, n))
    # How often each subject was drawn: one matrix product instead of a copy of the data for each sample.
    weights = np.zeros((resamples, n))
    np.add.at(weights, (np.arange(resamples)[:, None], drawn), 1 / n)
    return np.tensordot(weights, data, axes=1)


def mean_interval(
    values: ArrayLike,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
    method: Literal["BCa", "percentile"] = "BCa",
) -> Interval:
    """Mean with a bootstrap interval over subjects.

    Parameters
    ----------
    values : array of float, shape (N,)
        One value per subject; NaN is left out.
    confidence : float, default=0.95
    resamples : int, default=2000
    seed : int, default=0
    method : {"BCa", "percentile"}, default="BCa"
        Bias-corrected and accelerated (Efron 1987), which follows the skew of Dice; or plain percentiles.

    Returns
    -------
    Interval
        Equal values give an interval of no width.
    """
    data = np.asarray(values, np.float64)
    data = data[~np.isnan(data)]
    n = len(data)
    if n == 0:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    mean = float(data.mean())
    if n == 1:
        return Interval(mean, float("nan"), float("nan"), 1)
    if np.ptp(data) == 0:
        return Interval(mean, mean, mean, n)
    means = bootstrap_means(data, resamples, seed)
    tails = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    if method == "BCa":
        tails = _bca_tails(data, means, tails)
    low, high = np.quantile(means, tails)
    return Interval(mean, float(low), float(high), n)


def _bca_tails(data: Array, means: Array, tails: Array) -> Array:
    """Quantiles of the bootstrap means that BCa takes instead of the nominal ones."""
    from scipy.stats import norm

    below = np.mean(means < data.mean()) + np.mean(means == data.mean()) / 2
    if not 0 < below < 1:
        return tails
    bias = norm.ppf(below)
    # The jackknife of a mean: leaving one out moves it against that subject's deviation.
    deviation = data - data.mean()
    acceleration = np.sum(deviation**3) / (6 * np.sum(deviation**2) ** 1.5)
    shifted = bias + norm.ppf(tails)
    return np.asarray(norm.cdf(bias + shifted / (1 - acceleration * shifted)))


def summarise(
    frame: pd.DataFrame,
    metric: str,
    target: str,
    *,
    by: str = "method",
    common: bool = True,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Mean and interval of every method: one row per subset and one, ``mean``, over all subsets.

    Parameters
    ----------
    frame, metric, target, by, common
        See `subject_scores`; with `common`, a row keeps the subjects that all methods scored in that subset, and the
        row ``mean`` those that all methods scored in all subsets.
    resamples, seed
        See `mean_interval`.

    Returns
    -------
    DataFrame
        Columns ``subset``, `by`, ``mean low high n``.
    """
    import pandas as pd

    rows = frame[(frame["metric"] == metric) & (frame["target"] == target)]
    subsets = list(dict.fromkeys(rows["subset"].astype(str)))
    found = []
    for name, chosen in [*((subset, [subset]) for subset in subsets), ("mean", subsets)]:
        scores = subject_scores(rows, metric, target, by=by, subsets=chosen, common=common)
        for method in scores:
            interval = mean_interval(scores[method].to_numpy(), resamples=resamples, seed=seed)
            found.append((name, method, interval.mean, interval.low, interval.high, interval.n))
    return pd.DataFrame(found, columns=["subset", by, "mean", "low", "high", "n"])


# --------------------------------------------------------------------------------------------------------------
# Paired tests
# --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """Two methods on their common subjects.

    Parameters
    ----------
    first, second : str
    n : int
        Subjects.
    difference : Interval
        Mean of first minus second.
    p : float
        Two-sided Wilcoxon signed-rank test.
    p_holm : float
        Corrected for all pairs that were compared together.
    """

    first: str
    second: str
    n: int
    difference: Interval
    p: float
    p_holm: float


def paired_wilcoxon(first: ArrayLike, second: ArrayLike) -> float:
    """Two-sided Wilcoxon signed-rank test of paired values.

    Parameters
    ----------
    first, second : array of float, shape (N,)

    Returns
    -------
    float
        p value. No difference anywhere: 1. No subject: NaN.

    Notes
    -----
    Zero differences, frequent where both methods are perfect on an empty region, are ranked with the others and then
    dropped (Pratt); scipy takes the exact distribution where it can.
    """
    from scipy.stats import wilcoxon

    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if not a.size:
        return float("nan")
    if np.array_equal(a, b):
        return 1.0
    return float(wilcoxon(a, b, zero_method="pratt").pvalue)


def holm(p_values: ArrayLike) -> Array:
    """Holm's step-down correction for several tests.

    Parameters
    ----------
    p_values : array of float, shape (N,)
        NaN is a test that was not made: it stays NaN and does not count.

    Returns
    -------
    ndarray, shape (N,)
        Corrected p values, at most 1, in the given order.
    """
    p = np.asarray(p_values, np.float64)
    corrected = np.full(p.shape, np.nan)
    made = np.flatnonzero(~np.isnan(p))
    order = made[np.argsort(p[made], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1)
    return corrected


def compare_pairs(
    scores: pd.DataFrame, reference: str | None = None, resamples: int = RESAMPLES, seed: int = 0
) -> list[Comparison]:
    """Test pairs of methods on the subjects that both have, Holm-corrected over the pairs.

    Parameters
    ----------
    scores : DataFrame
        Subjects by methods, from `subject_scores`.
    reference : str or None, default=None
        Compare every other method with this one; None = all pairs.
    resamples, seed
        See `mean_interval`.
    """
    names = list(scores.columns)
    pairs = list(combinations(names, 2))
    if reference is not None:
        pairs = [(name, reference) for name in names if name != reference]
    both = [scores[list(pair)].dropna() for pair in pairs]
    p = [paired_wilcoxon(table.iloc[:, 0], table.iloc[:, 1]) for table in both]
    return [
        Comparison(
            first,
            second,
            len(table),
            mean_interval((table[first] - table[second]).to_numpy(), resamples=resamples, seed=seed),
            single,
            float(corrected),
        )
        for (first, second), table, single, corrected in zip(pairs, both, p, holm(p), strict=True)
    ]


# --------------------------------------------------------------------------------------------------------------
# Ranking
# --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ranking:
    """Friedman test and Nemenyi's critical difference (Demšar 2006).

    Parameters
    ----------
    ranks : dict of str to float
        Mean rank of every method, the best (lowest) first.
    n : int
        Subjects.
    statistic, p : float
        Friedman's chi-square, corrected for ties; NaN for fewer than three methods or two subjects.
    critical_difference : float
        Two mean ranks that differ by less cannot be told apart.
    groups : tuple of tuple of str
        Longest runs of methods that cannot be told apart, for the bars of a diagram.
    """

    ranks: dict[str, float]
    n: int
    statistic: float
    p: float
    critical_difference: float
    groups: tuple[tuple[str, ...], ...]


def rank_methods(scores: pd.DataFrame, higher_is_better: bool = True, alpha: float = 0.05) -> Ranking:
    """Rank methods on their common subjects.

    Parameters
    ----------
    scores : DataFrame
        Subjects by methods; rows with a missing value are left out.
    higher_is_better : bool, default=True
    alpha : float, default=0.05

    Raises
    ------
    ValueError
        If there are fewer than two methods or no common subject.
    """
    from scipy.stats import friedmanchisquare, rankdata, studentized_range

    table = scores.dropna()
    n, k = table.shape
    if k < 2 or n < 1:
        raise ValueError(f"a ranking needs two methods and a subject that both scored, not {k} and {n}")
    values = table.to_numpy(np.float64)
    ranks = rankdata(-values if higher_is_better else values, axis=1).mean(axis=0)
    statistic, p = float("nan"), float("nan")
    if k > 2 and n > 1:
        if np.all(values == values[:, :1]):
            statistic, p = 0.0, 1.0
        else:
            found = friedmanchisquare(*values.T)
            statistic, p = float(found.statistic), float(found.pvalue)
    critical = float(studentized_range.ppf(1 - alpha, k, np.inf) / np.sqrt(2) * np.sqrt(k * (k + 1) / (6 * n)))
    order = np.argsort(ranks, kind="stable")
    ordered = {str(table.columns[i]): float(ranks[i]) for i in order}
    return Ranking(ordered, n, statistic, p, critical, _groups(ordered, critical))


def _groups(ranks: dict[str, float], critical: float) -> tuple[tuple[str, ...], ...]:
    """Longest runs within the critical difference, none inside another, none of one method."""
    names, values = list(ranks), list(ranks.values())
    groups: list[tuple[str, ...]] = []
    reached = 0
    for start in range(len(names)):
        stop = max(i for i in range(start, len(names)) if values[i] - values[start] < critical) + 1
        if stop > reached and stop - start > 1:
            groups.append(tuple(names[start:stop]))
            reached = stop
    return tuple(groups)
