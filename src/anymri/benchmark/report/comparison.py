"""Figures that compare methods subject by subject: means with intervals, ranks, and one method against another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import combinations
from typing import TYPE_CHECKING

from anymri.benchmark.report.figures import LINES, open_svg, shorten, text
from anymri.benchmark.report.tables import (
    Results,
    column_order,
    region_order,
    region_title,
    subset_order,
)
from anymri.benchmark.statistics import Ranking, holm, mean_interval, paired_wilcoxon, rank_methods, subject_scores

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Compared",
    "comparable",
    "compared_scores",
    "interval_figure",
    "leading_pair",
    "rank_figure",
    "region_scores",
    "scatter_figure",
]

#: Two methods differ if Holm's corrected p is below.
ALPHA = 0.05


@dataclass(frozen=True)
class Compared:
    """The methods that are compared with each other, and on what.

    Parameters
    ----------
    columns : tuple of str
    subsets : tuple of str
        What all of them serve.
    left_out : dict of str to int
        Columns that serve fewer subsets, and how many.
    """

    columns: tuple[str, ...]
    subsets: tuple[str, ...]
    left_out: dict[str, int]


def comparable(results: Results) -> Compared:
    """Columns that serve every subset of the report; if fewer than two do, all columns on what they share.

    One network for one sequence would otherwise shrink the comparison of all others to that sequence.
    """
    frame = results.frame[results.frame["metric"] == "dice"]
    served = {
        str(column): {str(name) for name in part.unique()}
        for column, part in frame.groupby("column", observed=True)["subset"]
    }
    columns = [column for column in column_order(results) if column in served]
    every = set().union(*served.values())
    complete = [column for column in columns if served[column] == every]
    chosen = complete if len(complete) > 1 else columns
    shared = set.intersection(*(served[column] for column in chosen))
    left_out = {column: len(served[column]) for column in columns if column not in chosen}
    return Compared(tuple(chosen), tuple(name for name in subset_order(results) if name in shared), left_out)


def region_scores(results: Results, region: str, compared: Compared) -> pd.DataFrame:
    """Mean Dice over the subsets, subjects by columns, of the subjects that all compared columns have."""
    frame = results.frame
    part = frame[frame["column"].isin(compared.columns) & frame["subset"].isin(compared.subsets)]
    scores = subject_scores(part, "dice", region, by="column", subsets=compared.subsets)
    return scores.reindex(columns=[column for column in compared.columns if column in scores])


# --------------------------------------------------------------------------------------------------------------
# Means with intervals
# --------------------------------------------------------------------------------------------------------------


def interval_figure(scores: dict[str, pd.DataFrame]) -> str:
    """Mean Dice of every method with its 95 % bootstrap interval, one panel per region, the best method on top.

    Parameters
    ----------
    scores : dict of str to DataFrame
        `region_scores` by region.

    Returns
    -------
    str
        One ``<svg>`` element.
    """
    found = {
        region: {column: mean_interval(table[column].to_numpy()) for column in table}
        for region, table in scores.items()
    }
    means = {c: sum(part[c].mean for part in found.values()) / len(found) for c in next(iter(found.values()))}
    order = sorted(means, key=lambda column: -means[column])
    row, top, plot, words, left = 19, 44, 190, 122, 12 + 6 * min(26, max(map(len, order)))
    width, height = left + len(found) * (plot + words), top + row * len(order) + 12
    parts = [open_svg(width, height, "Mean Dice with 95 % bootstrap interval")]
    parts += [text((left - 8, top + (i + 0.7) * row), shorten(c, 26), 11, "end") for i, c in enumerate(order)]
    for p, (region, part) in enumerate(found.items()):
        x0 = left + p * (plot + words)
        ends = [(interval.low, interval.high) for interval in part.values() if interval.low == interval.low]
        low = int(10 * min((end[0] for end in ends), default=0.0)) * 10
        high = max(low + 10, min(100, (int(10 * max((end[1] for end in ends), default=1.0)) + 1) * 10))
        parts.append(text((x0, 16), region_title(region), 13, more=' font-weight="600"'))
        parts += _ticks(x0, plot, (low, high), (top - 6, top + row * len(order)))
        for i, column in enumerate(order):
            y, one = top + (i + 0.5) * row, part[column]
            place = lambda value: x0 + plot * (100 * value - low) / (high - low)  # noqa: B023, E731
            said = f"{100 * one.mean:.1f}"
            if one.low == one.low:
                said += f" ({100 * one.low:.1f} to {100 * one.high:.1f})"
                ends_x = f'x1="{place(one.low):.1f}" x2="{place(one.high):.1f}" y1="{y}" y2="{y}"'
                parts.append(f'<line {ends_x} stroke="{LINES[0]}" stroke-width="3" stroke-opacity="0.45"/>')
            tip = escape(f"{column}: {said}, n {one.n}")
            dot = f'<circle cx="{place(one.mean):.1f}" cy="{y}" r="3.6" fill="{LINES[0]}">'
            parts.append(f"{dot}<title>{tip}</title></circle>")
            parts.append(text((x0 + plot + 10, y + 3.5), said, 10))
    return "".join([*parts, "</svg>"])


def _ticks(x0: float, plot: float, limits: tuple[int, int], span: tuple[float, float]) -> list[str]:
    low, high = limits
    step = next(step for step in (5, 10, 20, 50) if (high - low) / step <= 5)
    parts = []
    for tick in range(-(-low // step) * step, high + 1, step):
        x = x0 + plot * (tick - low) / (high - low)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{span[0]}" y2="{span[1]}"/>')
        parts.append(text((x, span[0] - 4), str(tick), 10, "middle"))
    return parts


# --------------------------------------------------------------------------------------------------------------
# Ranks
# --------------------------------------------------------------------------------------------------------------


def rank_figure(scores: dict[str, pd.DataFrame]) -> str:
    """Critical-difference diagrams (Demšar 2006), one per region: mean ranks, and bars over what cannot be told apart.

    Thick bars join methods by Holm-corrected Wilcoxon tests, thin ones by Nemenyi's critical difference.

    Parameters
    ----------
    scores : dict of str to DataFrame
        `region_scores` by region, at least two methods and two subjects each.

    Returns
    -------
    str
        One ``<svg>`` element.
    """
    blocks = [(region_title(region), rank_methods(table), _alike(table)) for region, table in scores.items()]
    width, parts, y = 860, [], 0.0
    for title, ranking, alike in blocks:
        drawn, height = _rank_block(title, ranking, alike, width)
        parts.append(f'<g transform="translate(0 {y:.0f})">{drawn}</g>')
        y += height
    return open_svg(width, y, "Mean ranks and critical differences") + "".join(parts) + "</svg>"


def _alike(table: pd.DataFrame) -> list[tuple[str, ...]]:
    """Longest runs, in order of mean rank, of methods no two of which differ by Holm-corrected Wilcoxon tests."""
    names = list(rank_methods(table).ranks)
    pairs = list(combinations(names, 2))
    p = holm([paired_wilcoxon(table[a], table[b]) for a, b in pairs])
    differ = {pair for pair, value in zip(pairs, p, strict=True) if value < ALPHA}
    runs: list[tuple[str, ...]] = []
    reached = 0
    for start in range(len(names)):
        stop = start + 1
        while stop < len(names) and not any((name, names[stop]) in differ for name in names[start:stop]):
            stop += 1
        if stop > reached and stop - start > 1:
            runs.append(tuple(names[start:stop]))
            reached = stop
    return runs


def _rank_block(title: str, ranking: Ranking, alike: Sequence[tuple[str, ...]], width: int) -> tuple[str, float]:
    """One diagram and its height."""
    names, k = list(ranking.ranks), len(ranking.ranks)
    side, axis = 190, 62
    place = lambda rank: side + (width - 2 * side) * (rank - 1) / (k - 1)  # noqa: E731
    parts = [text((0, 16), title, 13, more=' font-weight="600"')]
    length = (width - 2 * side) * ranking.critical_difference / (k - 1)
    said = f"critical difference {ranking.critical_difference:.2f}, n {ranking.n}"
    if length < width - 2 * side:
        parts.append(_bar(side, side + length, 28, 1.4))
        parts += [
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="25" y2="31" stroke="currentColor"/>' for x in (side, side + length)
        ]
    else:
        said += " (longer than the axis)"
    parts.append(text((side, 20), said, 10.5))
    parts.append(_bar(side, width - side, axis, 1.2))
    for rank in range(1, k + 1):
        x = place(rank)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{axis - 5}" y2="{axis}" stroke="currentColor"/>')
        parts.append(text((x, axis - 9), str(rank), 10.5, "middle"))
    y = float(axis + 10)
    for runs, thickness, colour in ((alike, 4.0, LINES[0]), (ranking.groups, 1.6, LINES[1])):
        lanes: list[float] = []  # right end of the last bar of each line of bars
        for run in runs:
            x1, x2 = (place(ranking.ranks[name]) for name in (run[0], run[-1]))
            lane = next((i for i, end in enumerate(lanes) if end + 8 < x1), len(lanes))
            lanes[lane : lane + 1] = [x2]
            parts.append(_bar(x1 - 3, x2 + 3, y + lane * (thickness + 3.5), thickness, colour))
        y += len(lanes) * (thickness + 3.5) + 2
    y += 12
    half = (k + 1) // 2
    for i, name in enumerate(names):
        on_left = i < half
        depth = i if on_left else k - 1 - i
        x, line_y = place(ranking.ranks[name]), y + 17 * depth
        end = side - 8 if on_left else width - side + 8
        parts.append(
            f'<polyline points="{x:.1f},{axis} {x:.1f},{line_y:.1f} {end},{line_y:.1f}" fill="none" '
            'stroke="currentColor" stroke-opacity="0.55"/>'
        )
        label = f"{shorten(name, 22)} {ranking.ranks[name]:.1f}"
        parts.append(text((end - 4 if on_left else end + 4, line_y + 3.5), label, 10.5, "end" if on_left else "start"))
    return "".join(parts), y + 17 * half + 14


def _bar(x1: float, x2: float, y: float, thickness: float, colour: str = "currentColor") -> str:
    return f'<line x1="{x1:.1f}" x2="{x2:.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="{colour}" stroke-width="{thickness}"/>'


# --------------------------------------------------------------------------------------------------------------
# One method against another
# --------------------------------------------------------------------------------------------------------------


def scatter_figure(results: Results, scores: dict[str, pd.DataFrame], pair: tuple[str, str]) -> str:
    """Mean Dice of every subject by one method against another, one panel per region.

    Parameters
    ----------
    results : Results
        Says whose region is empty: those subjects are open circles.
    scores : dict of str to DataFrame
        `region_scores` by region.
    pair : tuple of str
        Columns along x and y.

    Returns
    -------
    str
        One ``<svg>`` element.
    """
    size, gap, left, top = 250, 62, 52, 30
    width, height = left + len(scores) * (size + gap) - gap + 10, top + size + 44
    parts = [open_svg(width, height, f"Dice of every subject: {pair[1]} against {pair[0]}")]
    dice = results.frame[results.frame["metric"] == "dice"]
    for p, (region, table) in enumerate(scores.items()):
        x0 = left + p * (size + gap)
        free = dice[(dice["target"] == region) & dice["reference_empty"]]
        empty = {str(subject) for subject in free["subject"].unique()}
        parts.append(text((x0, 16), f"{region_title(region)}, n {len(table)}", 13, more=' font-weight="600"'))
        parts += _square(x0, top, size, pair)
        for subject, x, y in zip(table.index, table[pair[0]], table[pair[1]], strict=True):
            name = str(subject[-1] if isinstance(subject, tuple) else subject)
            fill = "none" if name in empty else LINES[0]
            tip = escape(f"{name}: {100 * x:.1f}, {100 * y:.1f}" + (", nothing to find" if name in empty else ""))
            where = f'cx="{x0 + size * x:.1f}" cy="{top + size * (1 - y):.1f}"'
            look = f'r="3.4" fill="{fill}" fill-opacity="0.6" stroke="{LINES[0]}" stroke-width="1"'
            parts.append(f"<circle {where} {look}><title>{tip}</title></circle>")
    return "".join([*parts, "</svg>"])


def _square(x0: float, top: float, size: float, pair: tuple[str, str]) -> list[str]:
    """Grid, diagonal and names of the axes."""
    parts = []
    for tick in range(0, 101, 25):
        x, y = x0 + size * tick / 100, top + size * (1 - tick / 100)
        parts.append(f'<line class="grid" x1="{x0}" x2="{x0 + size}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{top + size}"/>')
        parts.append(text((x0 - 6, y + 3.5), str(tick), 10, "end"))
        parts.append(text((x, top + size + 15), str(tick), 10, "middle"))
    ends = f'x1="{x0}" y1="{top + size}" x2="{x0 + size}" y2="{top}"'
    parts.append(f'<line {ends} stroke="currentColor" stroke-opacity="0.5" stroke-dasharray="4 3"/>')
    parts.append(text((x0 + size / 2, top + size + 34), shorten(pair[0], 36), 11, "middle"))
    turn = f' transform="rotate(-90 {x0 - 34:.1f} {top + size / 2:.1f})"'
    parts.append(text((x0 - 34, top + size / 2), shorten(pair[1], 36), 11, "middle", turn))
    return parts


def leading_pair(scores: dict[str, pd.DataFrame]) -> tuple[str, str] | None:
    """The second-best and the best method by mean over regions, for the two axes; None with fewer than two."""
    tables = list(scores.values())
    if not tables or tables[0].shape[1] < 2:
        return None
    means = sum((table.mean() for table in tables[1:]), tables[0].mean())
    best, second = means.sort_values(ascending=False, kind="stable").index[:2]
    return str(second), str(best)


def compared_scores(results: Results, compared: Compared) -> dict[str, pd.DataFrame]:
    """`region_scores` of every region that all compared columns were scored on."""
    tables = {region: region_scores(results, region, compared) for region in region_order(results)}
    return {region: table for region, table in tables.items() if len(table) and table.shape[1] == len(compared.columns)}
