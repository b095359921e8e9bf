"""What a benchmark leaves behind: one results table, the report, a table for papers, statistics, worth of sequences."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anymri.benchmark.report import build_report
from anymri.benchmark.report.comparison import comparable, region_scores
from anymri.benchmark.report.tables import (
    REGION_NAMES,
    Results,
    column_order,
    dot_order,
    dots,
    modality_label,
    read_results,
    region_order,
    table3,
)
from anymri.benchmark.statistics import compare_pairs, mean_interval, rank_methods
from anymri.benchmark.worth import NOTHING, expected_gain, sequence_worth, subset_values
from anymri.data.files import replace_file
from anymri.evaluation.results import join_tables
from anymri.types import UserError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["statistics_page", "to_latex", "worth_page", "write_outputs"]


def write_outputs(tables: Sequence[Path], out: Path, title: str = "") -> Path:
    """Write everything that follows from the finished cells.

    Parameters
    ----------
    tables : sequence of Path
        Results of the finished cells.
    out : Path
        Folder of the benchmark: gets ``results.parquet``, ``report.html`` (with ``.md``, ``.csv`` and ``.tex``),
        ``statistics.md`` and ``worth.md``. A ``cost.csv`` in it (see `anymri.benchmark.cost`) enters the report.
    title : str

    Returns
    -------
    Path
        The report.
    """
    join_tables(tables, out / "results.parquet")
    costs = out / "cost.csv"
    page = build_report(tables, out / "report.html", title=title or None, costs=costs if costs.is_file() else None)
    results = read_results(tables)
    if column_order(results):
        pages = {"report.tex": to_latex, "statistics.md": statistics_page, "worth.md": worth_page}
        for name, make in pages.items():
            with replace_file(out / name) as file:
                file.write(make(results).encode())
    return page


def _long_name(region: str) -> str:
    return REGION_NAMES.get(region, (region, region))[1]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A Markdown table with `left` left-aligned columns, the others right-aligned."""
    rule = ["---"] * left + ["---:"] * (len(head) - left)
    return "\n".join("| " + " | ".join(row) + " |" for row in [list(head), rule, *rows]) + "\n"


# --------------------------------------------------------------------------------------------------------------
# LaTeX
# --------------------------------------------------------------------------------------------------------------


def to_latex(results: Results) -> str:
    r"""The rows of the review's Table 3, one LaTeX table per region (package booktabs), Dice in per cent.

    The largest value of each row is bold; values that are equal as printed are all bold.
    """
    values, modalities = table3(results), dot_order(results)
    blocks = []
    for region in region_order(results):
        part = values[region]
        lines = [
            rf"\begin{{tabular}}{{{'c' * len(modalities)}{'r' * len(part.columns)}}}",
            r"\toprule",
            _latex_row([modality_label(code) for code in modalities], [_escape(name) for name in part.columns]),
            r"\midrule",
        ]
        for subset, row in part.iterrows():
            if subset == "mean":
                lines.append(r"\midrule")
                first = [rf"\multicolumn{{{len(modalities)}}}{{l}}{{Mean}}"]
            else:
                first = [{"●": r"$\bullet$", "○": r"$\circ$"}[dot] for dot in dots(str(subset), modalities)]
            lines.append(_latex_row(first, _bold_best(row.to_list())))
        lines += [r"\bottomrule", r"\end{tabular}"]
        blocks.append(f"% {_long_name(region)}, Dice in per cent\n" + "\n".join(lines) + "\n")
    return "\n".join(blocks)


def _latex_row(first: Sequence[str], rest: Sequence[str]) -> str:
    return " & ".join([*first, *rest]) + r" \\"


def _bold_best(values: Sequence[float]) -> list[str]:
    printed = ["--" if value != value else f"{value:.1f}" for value in values]
    best = max((float(text) for text in printed if text != "--"), default=None)
    return [rf"\textbf{{{text}}}" if text != "--" and float(text) == best else text for text in printed]


def _escape(text: str) -> str:
    for sign in "_%&#":
        text = text.replace(sign, "\\" + sign)
    return text


# --------------------------------------------------------------------------------------------------------------
# Statistics
# --------------------------------------------------------------------------------------------------------------


def statistics_page(results: Results) -> str:
    """Means with bootstrap intervals, paired tests and ranks, as Markdown.

    Methods are compared on the subjects and subsets that all of them were scored on; a method that serves fewer
    subsets than the others is left out and named. Intervals: 95 %, bootstrap over
    subjects. Tests: two-sided Wilcoxon signed-rank on each subject's mean over subsets, Holm-corrected over all pairs
    of a region. Ranks: Friedman, with Nemenyi's critical difference.
    """
    text = [
        "# Statistics\n",
        (
            "Dice in per cent. Intervals: 95 %, bootstrap over subjects. Tests: two-sided Wilcoxon signed-rank on each "
            "subject's mean over subsets, Holm-corrected over the pairs of a region. Methods are compared on the "
            "subjects and subsets that all of them have.\n"
        ),
    ]
    compared = comparable(results)
    shared = sorted(compared.subsets)
    if compared.left_out:
        few = ", ".join(f"{name} ({count})" for name, count in compared.left_out.items())
        text.append(f"Not compared, because they serve fewer subsets: {few}.\n")
    for region in region_order(results):
        text.append(f"## {_long_name(region)}\n")
        if not shared:
            text.append("No subset that all methods serve.\n")
            continue
        scores = region_scores(results, region, compared)
        text.append(f"{len(shared)} subsets that all methods serve: {', '.join(shared)}. n = {len(scores)} subjects.\n")
        intervals = {str(name): mean_interval(scores[name].to_numpy()) for name in scores}
        rows = [
            [name, f"{100 * one.mean:.1f}", f"{100 * one.low:.1f} to {100 * one.high:.1f}"]
            for name, one in sorted(intervals.items(), key=lambda item: -item[1].mean)
        ]
        text.append(_table(["method", "mean", "95 % interval"], rows))
        if scores.shape[1] > 1 and len(scores) > 0:
            text += [_pairs(scores), _ranks(scores)]
    return "\n".join(text)


def _pairs(scores: pd.DataFrame) -> str:
    rows = [
        [
            f"{pair.first} - {pair.second}",
            f"{100 * pair.difference.mean:+.1f}",
            f"{100 * pair.difference.low:+.1f} to {100 * pair.difference.high:+.1f}",
            str(pair.n),
            f"{pair.p:.3g}",
            f"{pair.p_holm:.3g}",
        ]
        for pair in compare_pairs(scores)
    ]
    return _table(["pair", "difference", "95 % interval", "n", "p", "p (Holm)"], rows)


def _ranks(scores: pd.DataFrame) -> str:
    ranking = rank_methods(scores)
    listed = _table(["method", "mean rank"], [[name, f"{rank:.2f}"] for name, rank in ranking.ranks.items()])
    alike = "; ".join(", ".join(group) for group in ranking.groups) or "none"
    return (
        f"{listed}\nFriedman p = {ranking.p:.3g}; critical difference {ranking.critical_difference:.2f} ranks "
        f"(n = {ranking.n}); cannot be told apart: {alike}.\n"
    )


# --------------------------------------------------------------------------------------------------------------
# Worth of sequences
# --------------------------------------------------------------------------------------------------------------


def worth_page(results: Results) -> str:
    """Shapley value of every sequence, and what acquiring one more adds, per region and method, as Markdown."""
    text = [
        "# What is each sequence worth?\n",
        (
            "Shapley values: a sequence's share of the mean Dice (per cent points) that all sequences together reach "
            "over nothing (an empty prediction). Gains: mean paired difference that one more sequence makes. Brackets: "
            "95 % bootstrap interval over subjects.\n"
        ),
    ]
    for region in region_order(results):
        text.append(f"## {_long_name(region)}\n")
        for column in column_order(results):
            try:
                table = subset_values(results.frame, results.modalities, method=column, target=region, by="column")
            except UserError as error:
                text.append(f"{column}: not computed; {str(error).partition(': ')[2]}\n")
                continue
            rows = [
                [modality_label(row.modality), _points(row.worth, row.low, row.high), f"{100 * row.share:.0f} %"]
                for row in sequence_worth(table).itertuples()
            ]
            text += [f"### {column}, n = {len(table.subjects)}\n", _table(["sequence", "worth", "share"], rows)]
            best = expected_gain(table)
            best = best[best["best"]]
            rows = [
                [
                    _given(row.given),
                    f"{100 * row.value:.1f}",
                    modality_label(row.acquire),
                    _points(row.gain, row.low, row.high),
                ]
                for row in best.itertuples()
            ]
            text.append(_table(["there is", "Dice", "acquire", "gain"], rows))
    return "\n".join(text)


def _given(subset: str) -> str:
    return subset if subset == NOTHING else " + ".join(modality_label(code) for code in subset.split("+"))


def _points(value: float, low: float, high: float) -> str:
    return f"{100 * value:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
