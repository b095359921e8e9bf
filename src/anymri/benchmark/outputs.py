"""Benchmark outputs: one results table, the report, statistics, worth of sequences."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from anymri.benchmark.report import build_report
from anymri.benchmark.report.statistics_page import interval_text, statistics_page
from anymri.benchmark.report.tables import (
    Results,
    column_order,
    modality_label,
    read_results,
    region_order,
    region_title,
)
from anymri.benchmark.report.text_tables import markdown_table
from anymri.benchmark.statistics import Interval
from anymri.benchmark.worth import NOTHING, expected_gain, sequence_worth, subset_values
from anymri.evaluation.results import join_tables
from anymri.files import replace_file
from anymri.types import UserError

__all__ = ["worth_page", "write_outputs"]


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
    pages = {"statistics.md": statistics_page, "worth.md": worth_page}
    for name, make in pages.items():
        if name == "statistics.md" or column_order(results):
            with replace_file(out / name) as file:
                file.write(make(results).encode())
    return page


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
        text.append(f"## {region_title(region)}\n")
        for column in column_order(results):
            try:
                table = subset_values(results.frame, results.modalities, method=column, target=region, by="column")
            except UserError as error:
                text.append(f"{column}: not computed; {str(error).partition(': ')[2]}\n")
                continue
            rows = [
                [modality_label(row.modality), _points(row.worth, row.low, row.high, row.n), _share(row.share)]
                for row in sequence_worth(table).itertuples()
            ]
            text += [f"### {column}, n = {len(table.subjects)}\n", markdown_table(["sequence", "worth", "share"], rows)]
            best = expected_gain(table)
            best = best[best["best"]]
            rows = [
                [
                    _given(row.given),
                    f"{100 * row.value:.1f}",
                    modality_label(row.acquire),
                    _points(row.gain, row.low, row.high, row.n),
                ]
                for row in best.itertuples()
            ]
            text.append(markdown_table(["there is", "Dice", "acquire", "gain"], rows))
    return "\n".join(text)


def _given(subset: str) -> str:
    return subset if subset == NOTHING else " + ".join(modality_label(code) for code in subset.split("+"))


def _points(value: float, low: float, high: float, n: int) -> str:
    return f"{100 * value:+.1f} ({interval_text(Interval(value, low, high, n), signed=True)})"


def _share(share: float) -> str:
    """Of what all sequences together add; there is none where they add nothing."""
    return f"{100 * share:.0f} %" if share == share else "not computed: together they add 0"
