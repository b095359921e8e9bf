"""Statistics page: means with intervals, paired tests and ranks, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anymri.benchmark.report.columns import making_notes
from anymri.benchmark.report.comparison import Compared, comparable, region_scores
from anymri.benchmark.report.tables import (
    Results,
    column_order,
    modality_label,
    region_order,
    region_title,
    subset_order,
)
from anymri.benchmark.report.text_tables import markdown_table
from anymri.benchmark.statistics import (
    Comparison,
    Interval,
    compare_pairs,
    mean_interval,
    rank_methods,
    subject_scores,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["interval_text", "statistics_page"]

#: Up to so many methods all pairs are listed subset by subset; beyond, the pairs with the best method.
ALL_PAIRS = 5


@dataclass(frozen=True)
class _Unit:
    """Unit in which numbers are printed: Dice in per cent, or PSNR in dB."""

    factor: float
    digits: int

    def number(self, value: float, sign: str = "") -> str:
        return f"{self.factor * value:{sign}.{self.digits}f}"


PER_CENT, DECIBEL = _Unit(100.0, 1), _Unit(1.0, 2)


def interval_text(interval: Interval, unit: _Unit = PER_CENT, signed: bool = False) -> str:
    """``70.1 to 80.2``; what is missing where one subject or none gives no interval."""
    if interval.low != interval.low or interval.high != interval.high:
        return f"not computed: n = {interval.n}"
    sign = "+" if signed else ""
    return f"{unit.number(interval.low, sign)} to {unit.number(interval.high, sign)}"


def statistics_page(results: Results) -> str:
    """Means with bootstrap intervals, paired tests and ranks, as Markdown.

    Methods are compared on the subjects and subsets that all of them were scored on; a method that serves fewer
    subsets than the others is left out and named. Where subjects lack sequences, or methods serve different subsets,
    tests of every single subset follow, each on the subjects that both methods of a pair have. Intervals: 95 %,
    bootstrap over subjects. Tests: two-sided Wilcoxon signed-rank on each subject's mean over subsets, Holm-corrected
    over all pairs of a region. Ranks: Friedman, with Nemenyi's critical difference. Synthesised sequences are compared
    in the same way by PSNR.
    """
    text = [
        "# Statistics\n",
        (
            "Dice in per cent. Intervals: 95 %, bootstrap over subjects. Tests: two-sided Wilcoxon signed-rank on each "
            "subject's mean over subsets, Holm-corrected over the pairs of a region. Methods are compared on the "
            "subjects and subsets that all of them have.\n"
        ),
        *(f"{note}\n" for note in making_notes(results)),
    ]
    if column_order(results):
        compared = comparable(results)
        if compared.left_out:
            few = ", ".join(f"{name} ({count})" for name, count in compared.left_out.items())
            text.append(f"Not compared, because they serve fewer subsets: {few}.\n")
        for region in region_order(results):
            text += [f"## {region_title(region)}\n", *_region(results, region, compared)]
    for target in results.modalities:
        text += _completion(results, target)
    return "\n".join(text)


def _region(results: Results, region: str, compared: Compared) -> list[str]:
    shared = sorted(compared.subsets)
    if not shared:
        return ["No subset that all methods serve.\n", *_by_subset(results, region)]
    scores = region_scores(results, region, compared)
    head = f"{len(shared)} subsets that all methods serve: {', '.join(shared)}. n = {len(scores)} subjects.\n"
    text = [head, *_comparison(scores, PER_CENT)]
    if compared.left_out or _cohorts_differ(results, region, len(scores)):
        text += _by_subset(results, region)
    return text


def _comparison(scores: pd.DataFrame, unit: _Unit) -> list[str]:
    """Means, pairs and ranks on common subjects."""
    if not len(scores):
        return ["Not computed: no subject has all of these subsets by all methods.\n"]
    intervals = {str(name): mean_interval(scores[name].to_numpy()) for name in scores}
    ordered = sorted(intervals.items(), key=lambda item: -item[1].mean)
    rows = [[name, unit.number(one.mean), interval_text(one, unit), str(one.n)] for name, one in ordered]
    text = [markdown_table(["method", "mean", "95 % interval", "n"], rows)]
    if scores.shape[1] > 1:
        head = ["pair", "difference", "95 % interval", "n", "p", "p (Holm)"]
        text.append(markdown_table(head, [_pair(pair, unit) for pair in compare_pairs(scores)]))
        text.append(_ranks(scores))
    return text


def _pair(pair: Comparison, unit: _Unit) -> list[str]:
    tested = pair.n > 1 and pair.p == pair.p
    p = [f"{pair.p:.3g}", f"{pair.p_holm:.3g}"] if tested else [f"not computed: n = {pair.n}"] * 2
    mean = unit.number(pair.difference.mean, "+") if pair.n else "–"
    return [f"{pair.first} - {pair.second}", mean, interval_text(pair.difference, unit, True), str(pair.n), *p]


def _ranks(scores: pd.DataFrame) -> str:
    if len(scores) < 2:
        return f"Ranks not computed: n = {len(scores)}.\n"
    ranking = rank_methods(scores)
    listed = markdown_table(["method", "mean rank"], [[name, f"{rank:.2f}"] for name, rank in ranking.ranks.items()])
    alike = "; ".join(", ".join(group) for group in ranking.groups) or "none"
    friedman = f"p = {ranking.p:.3g}" if ranking.p == ranking.p else "not computed: two methods"
    return (
        f"{listed}\nFriedman {friedman}; critical difference {ranking.critical_difference:.2f} ranks "
        f"(n = {ranking.n}); cannot be told apart: {alike}.\n"
    )


# --------------------------------------------------------------------------------------------------------------
# Subset by subset
# --------------------------------------------------------------------------------------------------------------


def _cohorts_differ(results: Results, region: str, common: int) -> bool:
    """Whether a method was scored on more subjects for some subset than all methods have for all subsets."""
    frame = results.frame
    rows = frame[(frame["metric"] == "dice") & (frame["target"] == region)].dropna(subset=["value"])
    people = rows[["column", "subset", "dataset", "subject"]].drop_duplicates()
    return bool((people.groupby(["column", "subset"], observed=True).size() != common).any())


def _by_subset(results: Results, region: str) -> list[str]:
    """Paired tests of every single subset, on the subjects that both methods have."""
    frame, rows = results.frame, []
    for subset in subset_order(results):
        part = frame[frame["subset"] == subset]
        scores = subject_scores(part, "dice", region, by="column", subsets=[subset], common=False)
        for pair in _listed(scores, compare_pairs(scores)):
            rows.append([subset, *_pair(pair, PER_CENT)])
    if not rows:
        return []
    return [
        "Subset by subset, on the subjects that both methods of a pair have; Holm-corrected over the pairs of a subset"
        + ("" if len(column_order(results)) <= ALL_PAIRS else ", of which those with its best method are listed")
        + ":\n",
        markdown_table(["subset", "pair", "difference", "95 % interval", "n", "p", "p (Holm)"], rows, left=2),
    ]


def _listed(scores: pd.DataFrame, pairs: Sequence[Comparison]) -> Sequence[Comparison]:
    if scores.shape[1] <= ALL_PAIRS:
        return pairs
    best = str(scores.mean().idxmax())
    return [pair for pair in pairs if best in (pair.first, pair.second)]


# --------------------------------------------------------------------------------------------------------------
# Completion
# --------------------------------------------------------------------------------------------------------------


def _completion(results: Results, target: str) -> list[str]:
    """PSNR of one synthesised sequence by the methods that made it, on what all of them have."""
    frame = results.frame
    rows = frame[(frame["metric"] == "psnr") & (frame["target"] == target)]
    if rows.empty:
        return []
    made = rows.groupby("column", observed=True)["subset"].agg(lambda names: frozenset(map(str, names)))
    shared = sorted(frozenset.intersection(*made))
    title = f"## {modality_label(target)}, synthesised: PSNR in dB\n"
    if not shared:
        return [title, "No subset from which all methods made it.\n"]
    scores = subject_scores(rows, "psnr", target, by="column", subsets=shared)
    return [title, f"From {', '.join(shared)}. n = {len(scores)} subjects.\n", *_comparison(scores, DECIBEL)]
