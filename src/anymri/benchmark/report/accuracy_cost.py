"""Accuracy against cost: every method as a point, and the front of those that no other beats in both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from itertools import product
from typing import TYPE_CHECKING, Any

from anymri.benchmark.report.figures import LINES, open_svg, shorten, text
from anymri.benchmark.report.tables import BASELINES, Results, column_order, table3

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["cost_figure", "cost_points", "pareto_front"]

#: Measure of cost to the title of its panel.
MEASURES = {"parameters": "parameters (millions)", "seconds": "seconds per window", "peak_mb": "peak memory (MiB)"}
WIDTH, HEIGHT, GAP, LEFT, TOP = 300, 300, 74, 46, 32


def cost_points(results: Results, costs: pd.DataFrame | None = None) -> pd.DataFrame:
    """Accuracy and cost of every column.

    Parameters
    ----------
    results : Results
        What the evaluator stored beside each table says how many parameters a run has.
    costs : DataFrame or None, default=None
        From `anymri.benchmark.cost.read_costs`; its runs are matched by name.

    Returns
    -------
    DataFrame
        Indexed by column: ``dice`` (per cent, mean of the rows and regions of the table), ``parameters`` (millions),
        ``seconds`` (encoding and decoding one window, mean over subsets) and ``peak_mb`` (largest), NaN where not
        known. Several networks of one column are averaged: a study goes through one of them.
    """
    import pandas as pd

    wide = table3(results).loc["mean"]
    pairs = results.frame[["column", "run"]].drop_duplicates().astype(str)
    stored = {str(entry.get("run")): float(entry["parameters"]) for entry in _every(results) if "parameters" in entry}
    pairs["parameters"] = pairs["run"].map(stored)
    pairs["seconds"] = pairs["peak_mb"] = float("nan")
    if costs is not None:
        costs = costs.assign(seconds=costs["encode_s"] + costs["decode_s"], run=costs["run"].astype(str))
        by_run = costs.groupby("run").agg({"parameters": "first", "seconds": "mean", "peak_mb": "max"})
        pairs["parameters"] = pairs["run"].map(by_run["parameters"]).fillna(pairs["parameters"])
        for name in ("seconds", "peak_mb"):
            pairs[name] = pairs["run"].map(by_run[name])
    points = pairs.groupby("column")[["parameters", "seconds", "peak_mb"]].mean()
    points["parameters"] /= 1e6
    points.insert(0, "dice", wide.groupby(level="method", observed=True).mean().reindex(points.index))
    order = [column for column in column_order(results) if column in points.index]
    return pd.DataFrame(points.loc[order])


def _every(results: Results) -> list[dict[str, Any]]:
    """What is stored beside each table, also of tables that were joined to one."""
    return [entry for settings in results.settings for entry in [settings, *settings.get("tables", [])]]


def pareto_front(points: pd.DataFrame, measure: str) -> list[str]:
    """Columns that no other column beats in accuracy at the same cost or less, the cheapest first."""
    known = points[["dice", measure]].dropna().sort_values([measure, "dice"], ascending=[True, False], kind="stable")
    front, best = [], -math.inf
    for column, dice in known["dice"].items():
        if dice > best:
            front.append(str(column))
            best = dice
    return front


def cost_figure(points: pd.DataFrame, methods: dict[str, str]) -> str:
    """Mean Dice against each known measure of cost; empty if none is known of two columns.

    Parameters
    ----------
    points : DataFrame
        From `cost_points`.
    methods : dict of str to str
        Method of every column; baselines are drawn as open circles.
    """
    shown = [name for name in MEASURES if (points[name] > 0).sum() > 1]
    if not shown:
        return ""
    width = LEFT + len(shown) * (WIDTH + GAP) - GAP + 60
    parts = [open_svg(width, TOP + HEIGHT + 44, "Mean Dice against cost")]
    for p, name in enumerate(shown):
        parts += _panel(points[points[name] > 0], name, LEFT + p * (WIDTH + GAP), methods)
    return "".join([*parts, "</svg>"])


def _panel(points: pd.DataFrame, name: str, x0: float, methods: dict[str, str]) -> list[str]:
    exponents = [math.log10(value) for value in points[name]]
    span = max(max(exponents) - min(exponents), 0.3)
    first, last = min(exponents) - 0.08 * span, max(exponents) + 0.22 * span
    low = 10 * math.floor(points["dice"].min() / 10 - 0.2)
    high = min(100, 10 * math.ceil(points["dice"].max() / 10 + 0.2))
    place = lambda cost, dice: (  # noqa: E731
        x0 + WIDTH * (math.log10(cost) - first) / (last - first),
        TOP + HEIGHT * (1 - (dice - low) / (high - low)),
    )
    parts = [text((x0, 16), MEASURES[name], 13, more=' font-weight="600"')]
    step = 5 if high - low <= 30 else 10
    for tick in range(low, high + 1, step):
        y = place(points[name].iloc[0], tick)[1]
        parts.append(f'<line class="grid" x1="{x0}" x2="{x0 + WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(text((x0 - 6, y + 3.5), str(tick), 10, "end"))
    for value in _log_ticks(first, last):
        x = place(value, low)[0]
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{TOP + HEIGHT}"/>')
        parts.append(text((x, TOP + HEIGHT + 15), f"{value:g}", 10, "middle"))
    front = pareto_front(points, name)
    corners = [place(points.loc[column, name], points.loc[column, "dice"]) for column in front]
    path = " ".join(
        f"{x:.1f},{y:.1f}" + (f" {corners[i + 1][0]:.1f},{y:.1f}" if i + 1 < len(corners) else "")
        for i, (x, y) in enumerate(corners)
    )
    parts.append(f'<polyline points="{path}" fill="none" stroke="{LINES[1]}" stroke-width="1.6" stroke-opacity="0.8"/>')
    dots = {str(c): place(points.loc[c, name], points.loc[c, "dice"]) for c in points.index}
    for column, (x, y) in dots.items():
        tip = escape(f"{column}: {points.loc[column, name]:.3g}, Dice {points.loc[column, 'dice']:.1f}")
        colour = LINES[1] if column in front else LINES[0]
        fill = "none" if methods.get(column) in BASELINES else colour
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.2" fill="{fill}" stroke="{colour}" stroke-width="1.6">'
            f"<title>{tip}</title></circle>"
        )
    first_named = sorted(dots, key=lambda column: (column not in front, methods.get(column) not in BASELINES))
    return parts + _labels({c: dots[c] for c in first_named}, (x0, TOP, x0 + WIDTH + 62, TOP + HEIGHT))


def _log_ticks(first: float, last: float) -> list[float]:
    """1, 2, 5 times powers of ten within the axis; fewer where it is long, more where it is short."""
    factors = tuple(range(1, 10)) if last - first < 0.6 else (1, 2, 5) if last - first < 2 else (1,)
    powers = range(math.floor(first) - 1, math.ceil(last) + 1)
    return [f * 10.0**power for power in powers for f in factors if first <= math.log10(f * 10.0**power) <= last]


def _labels(dots: dict[str, tuple[float, float]], frame: tuple[float, float, float, float]) -> list[str]:
    """Names beside the points, where they cover neither a point nor a name; without room, the tip alone tells."""
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in dots.values()]
    parts = []
    for column, (x, y) in dots.items():
        name = shorten(column, 22)
        long = 5.7 * len(name)
        for away, up, side in product((8, 16), (3.5, -6, 13, -14, 21, -22), (1, -1)):
            near, far = x + side * away, x + side * (away + long)
            box = (min(near, far), y + up - 8, max(near, far), y + up + 2)
            inside = box[0] > frame[0] and box[2] < frame[2] and box[1] > frame[1] and box[3] < frame[3]
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                parts.append(text((near, y + up), name, 10, "start" if side > 0 else "end", more=' class="halo"'))
                break
    return parts


def _overlap(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
