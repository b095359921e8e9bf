"""Review arithmetic: the review's Tables 3 and 4 as printed, and what their own rows add up to.

The numbers are data, in ``recipes/review/``; nothing is read from the paper at run time. Run, it writes
``docs/results/review-arithmetic.md``; tests/test_review_arithmetic.py checks that the page is up to date.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar

import yaml
from pydantic import ConfigDict, TypeAdapter

from anymri.files import replace_file

__all__ = [
    "Check",
    "Table3",
    "Table4",
    "average_checks",
    "bold_checks",
    "full_set_checks",
    "load_table3",
    "load_table4",
    "mean_checks",
    "review_arithmetic",
    "single_sequence_checks",
    "write_review_arithmetic",
]

PAGE = Path(__file__).resolve().parents[1] / "docs" / "results" / "review-arithmetic.md"
#: Largest gap that rounding explains: the printed mean and, at worst, each of its rows are off by 0.05.
ROUNDING = 0.1 + 1e-9
REGION_TITLES = {"whole_tumor": "complete", "tumor_core": "core", "enhancing_tumor": "enhancing"}


@dataclass(frozen=True, kw_only=True)
class Table3:
    """Dice in per cent of 15 subsets, three regions and six methods.

    Parameters
    ----------
    source, doi, place, unit : str
    methods, regions : tuple of str
    titles : dict of str to str
        Names in print.
    rows : dict of str to dict of str to tuple of float
        Subset to region to the methods' values, in the paper's order of rows.
    printed_mean : dict of str to tuple of float
        Region to the methods' values of the mean row.
    bold : dict of str to tuple of tuple of str
        Subset or ``mean`` to the methods printed in bold, region by region.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    source: str
    doi: str
    place: str
    unit: str
    methods: tuple[str, ...]
    titles: dict[str, str]
    regions: tuple[str, ...]
    rows: dict[str, dict[str, tuple[float, ...]]]
    printed_mean: dict[str, tuple[float, ...]]
    bold: dict[str, tuple[tuple[str, ...], ...]]

    def value(self, subset: str, region: str, method: str) -> float:
        """One cell."""
        return self.rows[subset][region][self.methods.index(method)]


@dataclass(frozen=True, kw_only=True)
class Table4:
    """Dice in per cent with a single sequence, averaged over the three regions, of seven methods.

    Parameters
    ----------
    source, doi, place, unit : str
    columns : tuple of str
        Modality codes.
    titles : dict of str to str
    rows : dict of str to tuple of float
    printed_average : dict of str to float
    bold : dict of str to tuple of str
        Column or ``average`` to the methods printed in bold.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    source: str
    doi: str
    place: str
    unit: str
    columns: tuple[str, ...]
    titles: dict[str, str]
    rows: dict[str, tuple[float, ...]]
    printed_average: dict[str, float]
    bold: dict[str, tuple[str, ...]]


def _read(name: str) -> Any:
    return yaml.safe_load((resources.files("anymri") / "recipes" / "review" / name).read_text(encoding="utf-8"))


def load_table3() -> Table3:
    """Table 3 as printed."""
    return TypeAdapter(Table3).validate_python(_read("table3.yaml"))


def load_table4() -> Table4:
    """Table 4 as printed."""
    return TypeAdapter(Table4).validate_python(_read("table4.yaml"))


# --------------------------------------------------------------------------------------------------------------
# Arithmetic
# --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Check:
    """A printed number beside the same number computed from others in print.

    Parameters
    ----------
    method, place : str
    printed, computed : float
    """

    method: str
    place: str
    printed: float
    computed: float

    @property
    def agrees(self) -> bool:
        """Whether rounding explains the gap."""
        return abs(self.printed - self.computed) <= ROUNDING


def mean_checks(table: Table3) -> list[Check]:
    """Every printed mean of Table 3 beside the mean of its 15 rows."""
    return [
        Check(
            method,
            region,
            table.printed_mean[region][column],
            fmean(row[region][column] for row in table.rows.values()),
        )
        for region in table.regions
        for column, method in enumerate(table.methods)
    ]


def single_sequence_checks(three: Table3, four: Table4) -> list[Check]:
    """Every cell of Table 4 beside the mean of the three regions in Table 3's row of that single sequence."""
    return [
        Check(method, column, printed, fmean(three.value(column, region, method) for region in three.regions))
        for method, row in four.rows.items()
        if method in three.methods
        for column, printed in zip(four.columns, row, strict=True)
    ]


def average_checks(four: Table4) -> list[Check]:
    """Every printed average of Table 4 beside the mean of its own four cells."""
    return [Check(method, "average", four.printed_average[method], fmean(row)) for method, row in four.rows.items()]


def bold_checks(table: Table3) -> list[tuple[str, str, str, str]]:
    """Cells of Table 3 printed as the best that are not: subset, region, printed best, real best with their values."""
    wrong = []
    for subset, row in [*table.rows.items(), ("mean", table.printed_mean)]:
        for place, region in enumerate(table.regions):
            values = dict(zip(table.methods, row[region], strict=True))
            best = {method for method, value in values.items() if value == max(values.values())}
            bold = set(table.bold[subset][place])
            if bold != best:
                told, real = (
                    ", ".join(f"{table.titles[m]} {values[m]:g}" for m in table.methods if m in chosen)
                    for chosen in (bold, best)
                )
                wrong.append((subset, region, told, real))
    return wrong


def full_set_checks(table: Table3, margin: float = 2.0) -> list[tuple[str, str, float, str, float]]:
    """Methods whose full set scores far below one of its own three-sequence subsets.

    Returns
    -------
    list of tuple
        Method, region, value of the full set, the best three-sequence subset, its value.
    """
    full = max(table.rows, key=lambda subset: subset.count("+"))
    threes = [subset for subset in table.rows if subset.count("+") == full.count("+") - 1]
    found = []
    for method in table.methods:
        for region in table.regions:
            best = max(threes, key=lambda subset: table.value(subset, region, method))
            whole, part = table.value(full, region, method), table.value(best, region, method)
            if part - whole > margin:
                found.append((method, region, whole, best, part))
    return found


# --------------------------------------------------------------------------------------------------------------
# The page
# --------------------------------------------------------------------------------------------------------------


def review_arithmetic() -> str:
    """The page ``docs/results/review-arithmetic.md`` as Markdown."""
    three, four = load_table3(), load_table4()
    means, cells, averages = mean_checks(three), single_sequence_checks(three, four), average_checks(four)
    wrong = [
        *((f"{three.place}, mean of {REGION_TITLES[c.place]}", c) for c in means if not c.agrees),
        *((f"{four.place}, {c.place}", c) for c in cells if not c.agrees),
        *((f"{four.place}, average of its own cells", c) for c in averages if not c.agrees),
    ]
    titles = {**three.titles, **four.titles}
    lines = [
        "# The review's own arithmetic",
        "",
        f"{three.source} (doi:{three.doi})",
        "prints the field's comparison on BraTS 2018. Its tables are kept as printed in `recipes/review/` and",
        "recomputed here from their own rows; `python tools/review_arithmetic.py` writes this page.",
        "",
        "## What does not add up",
        "",
        "Gaps of up to 0.1 are rounding (rows and means are printed with one decimal) and not listed.",
        "",
        "| Where | Method | printed | computed | gap |",
        "|---|---|---:|---:|---:|",
        *(
            f"| {place} | {titles[c.method]} | {c.printed:.1f} | {c.computed:.2f} | {c.printed - c.computed:+.2f} |"
            for place, c in wrong
        ),
        "",
        *_average_note(cells, four),
        *_full_set_lines(three),
        *_bold_lines(three),
        *_all_means(three, means),
        *_all_cells(four, cells, averages),
    ]
    return "\n".join(lines) + "\n"


def _average_note(cells: list[Check], four: Table4) -> list[str]:
    """What Table 4's averages are if the cells that disagree with Table 3 are replaced."""
    lines = []
    for method in dict.fromkeys(check.method for check in cells if not check.agrees):
        mean = fmean(check.computed for check in cells if check.method == method)
        printed = four.printed_average[method]
        lines.append(
            f"With all four cells taken from Table 3, the average of {four.titles[method]} is {mean:.2f}; "
            f"printed is {printed:.1f}."
        )
    return [*lines, ""] if lines else []


def _full_set_lines(three: Table3) -> list[str]:
    lines = ["## Less with all four sequences than with three", ""]
    for method, region, whole, best, part in full_set_checks(three):
        lines.append(
            f"- {three.titles[method]}, {REGION_TITLES[region]}: {whole:.1f} with all four, {part:.1f} with {best}. "
            "Rows may be permuted or mistyped; only the means are safe to quote."
        )
    return [*lines, ""]


def _bold_lines(three: Table3) -> list[str]:
    lines = [
        "## Printed as the best, but not the largest of its row",
        "",
        "| Row | Region | bold | largest |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {subset} | {REGION_TITLES[region]} | {told} | {real} |" for subset, region, told, real in bold_checks(three)
    ]
    return [*lines, ""]


def _all_means(three: Table3, means: list[Check]) -> list[str]:
    head = " | ".join(three.titles[method] for method in three.methods)
    lines = [
        "## Table 3: all means, printed / computed",
        "",
        f"| Region | {head} |",
        "|---|" + "---:|" * len(three.methods),
    ]
    for region in three.regions:
        row = [f"{c.printed:.1f} / {c.computed:.2f}" for c in means if c.place == region]
        lines.append(f"| {REGION_TITLES[region]} | {' | '.join(row)} |")
    return [*lines, ""]


def _all_cells(four: Table4, cells: list[Check], averages: list[Check]) -> list[str]:
    columns = [*four.columns, "average"]
    lines = [
        "## Table 4: all cells, printed / computed",
        "",
        "Cells are computed from Table 3, the average from the printed cells of this table.",
        "",
        f"| Method | {' | '.join(columns)} |",
        "|---|" + "---:|" * len(columns),
    ]
    found = {(c.method, c.place): c for c in [*cells, *averages]}
    for method, row in four.rows.items():
        texts = []
        for column, printed in zip(columns, [*row, four.printed_average[method]], strict=True):
            check = found.get((method, column))
            texts.append(f"{printed:.1f}" + (f" / {check.computed:.2f}" if check else ""))
        lines.append(f"| {four.titles[method]} | {' | '.join(texts)} |")
    return lines


def write_review_arithmetic(path: Path) -> None:
    """Write the page, whole or not at all."""
    with replace_file(path) as file:
        file.write(review_arithmetic().encode())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", nargs="?", type=Path, default=PAGE)
    write_review_arithmetic(parser.parse_args().page)
