"""Figures of the report as inline SVG: no script, no font or file from elsewhere, readable in light and dark.

Colours of text and lines come from the page's style sheet (``currentColor`` and custom properties); only data carry
a colour of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from anymri.benchmark.report.tables import (
    REGION_NAMES,
    Results,
    column_order,
    modality_label,
    region_order,
    subset_order,
    table3,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LINES", "PAGE_WIDTH", "curve_figure", "heat_map", "line_style", "open_svg", "shorten", "standalone", "text"]

#: Lightness ramp of one hue, from 0 to 100 per cent Dice; ends differ in lightness, so it prints in grey as well.
RAMP = ((247, 251, 255), (198, 219, 239), (107, 174, 214), (33, 113, 181), (8, 48, 107))
#: Line colours that stay apart for colour-blind readers and on both backgrounds; dashes come after the eighth.
LINES = ("#0077bb", "#ee7733", "#009988", "#cc3311", "#aa4499", "#999933", "#33bbee", "#888888")

#: Width of the page's column in pixels.
PAGE_WIDTH = 1190


def ramp_colour(share: float) -> tuple[str, str]:
    """Fill and text colour of a value in [0, 1]."""
    place = min(max(share, 0.0), 1.0) * (len(RAMP) - 1)
    index = min(int(place), len(RAMP) - 2)
    rest = place - index
    mixed = [round(a + (b - a) * rest) for a, b in zip(RAMP[index], RAMP[index + 1], strict=True)]
    # Relative luminance of the fill: above this, black text has more contrast than white.
    linear = [(value / 255 + 0.055) ** 2.4 / 1.055**2.4 for value in mixed]
    light = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] > 0.18
    return "#" + "".join(f"{value:02x}" for value in mixed), "#000000" if light else "#ffffff"


def shorten(text: str, length: int) -> str:
    """Text of at most `length` characters, cut off visibly."""
    return text if len(text) <= length else text[: length - 1] + "…"


def text(place: tuple[float, float], content: str, size: float = 11.0, anchor: str = "start", more: str = "") -> str:
    """One escaped ``<text>`` element."""
    where = f'x="{place[0]:.1f}" y="{place[1]:.1f}"'
    return f'<text {where} font-size="{size:g}" text-anchor="{anchor}"{more}>{escape(content)}</text>'


def heat_map(results: Results) -> str:
    """Dice of every subset (rows) and method (columns), one panel per region.

    Returns
    -------
    str
        One ``<svg>`` element if the panels fit side by side, else one per row of panels, which a printed page can keep
        whole.
    """
    table = table3(results)
    rows, columns, regions = subset_order(results), column_order(results), region_order(results)
    cell_w, cell_h, gap = (48 if len(columns) <= 8 else 36), 20, 26
    left, top = 118, 26 + 6 * min(max((len(name) for name in columns), default=4), 24)
    panel, block = cell_w * len(columns), top + cell_h * len(rows) + 14
    # Panels stand side by side as long as the page is wide enough, else below each other.
    beside = max(1, min(len(regions), (PAGE_WIDTH - left) // (panel + gap)))
    tail = 5 * min(max(len(columns[-1]), 4), 24)
    width = left + beside * (panel + gap) + tail
    parts: list[str] = []
    for p, region in enumerate(regions):
        x0, y0 = left + p % beside * (panel + gap), 0
        if p % beside == 0:
            parts += ["</svg>"] if p else []
            parts.append(open_svg(width, block, "Dice of every subset and method, per cent"))
        title = REGION_NAMES.get(region, (region, region))[1]
        parts.append(f'<text x="{x0}" y="{y0 + 14}" font-size="13" font-weight="600">{escape(title)}</text>')
        parts += _row_labels(rows, (left - 8, y0 + top), cell_h) if p % beside == 0 else []
        for j, column in enumerate(columns):
            place = f"translate({x0 + (j + 0.5) * cell_w + 3:.1f} {y0 + top - 6}) rotate(-50)"
            parts.append(f'<text transform="{place}" font-size="10.5">{escape(shorten(column, 26))}</text>')
            parts += _heat_column(table, (region, column), rows, (x0 + j * cell_w, y0 + top), (cell_w, cell_h))
    return "".join([*parts, "</svg>"])


def _row_labels(rows: Sequence[str], origin: tuple[float, float], height: int) -> list[str]:
    labels = ["+".join(modality_label(code) for code in subset.split("+")) for subset in rows]
    style = 'text-anchor="end" font-size="10.5"'
    return [
        f'<text x="{origin[0]}" y="{origin[1] + (i + 0.7) * height:.1f}" {style}>{escape(label)}</text>'
        for i, label in enumerate(labels)
    ]


def _heat_column(
    table: pd.DataFrame,
    key: tuple[str, str],
    rows: Sequence[str],
    origin: tuple[float, float],
    size: tuple[int, int],
) -> list[str]:
    parts = []
    for i, subset in enumerate(rows):
        value = table[key].get(subset, float("nan")) if key in table.columns else float("nan")
        y = origin[1] + i * size[1]
        box = f'<rect x="{origin[0]:.1f}" y="{y:.1f}" width="{size[0] - 1}" height="{size[1] - 1}" rx="2"'
        if value != value:
            parts.append(f'{box} fill="none" stroke="currentColor" stroke-opacity="0.25"/>')
            continue
        fill, ink = ramp_colour(value / 100)
        tip = escape(f"{key[1]}, {subset}: {value:.1f}")
        parts.append(f'{box} fill="{fill}"><title>{tip}</title></rect>')
        place = f'x="{origin[0] + size[0] / 2:.1f}" y="{y + size[1] * 0.68:.1f}"'
        parts.append(f'<text {place} text-anchor="middle" font-size="10.5" style="fill:{ink}">{value:.0f}</text>')
    return parts


def curve_figure(results: Results) -> str:
    """Mean Dice against the number of missing sequences, one panel per region, one line per method.

    Returns
    -------
    str
        One ``<svg>`` element. A point is the mean over all subsets of that size, each weighing the same.
    """
    table = table3(results).drop(index="mean")
    missing = len(results.modalities) - 1 - table.index.str.count(r"\+")
    by_missing = table.groupby(missing).mean()
    counts = [int(count) for count in by_missing.index]
    columns, regions = column_order(results), region_order(results)
    plot_w, plot_h, gap, left, top = 250, 190, 46, 40, 30
    legend = 18 * ((len(columns) + 2) // 3) + 10
    width, height = left + len(regions) * (plot_w + gap), top + plot_h + 46 + legend
    parts = [open_svg(width, height, "Mean Dice against the number of missing sequences")]
    for p, region in enumerate(regions):
        x0 = left + p * (plot_w + gap)
        title = escape(REGION_NAMES.get(region, (region, region))[1])
        parts.append(f'<text x="{x0}" y="16" font-size="13" font-weight="600">{title}</text>')
        parts += _axes((x0, top), (plot_w, plot_h), counts)
        for j, column in enumerate(columns):
            if (region, column) in by_missing.columns:
                parts += _line(by_missing[(region, column)], (x0, top), (plot_w, plot_h), counts, j, column)
    for j, column in enumerate(columns):
        x, y = left + (j % 3) * (width - left) / 3, top + plot_h + 54 + 18 * (j // 3)
        parts.append(f'<line x1="{x:.0f}" y1="{y}" x2="{x + 24:.0f}" y2="{y}" {line_style(j)}/>')
        parts.append(f'<text x="{x + 30:.0f}" y="{y + 4}" font-size="11.5">{escape(shorten(column, 44))}</text>')
    return "".join([*parts, "</svg>"])


def line_style(index: int) -> str:
    """Colour and dashes of the line of one method, by its place in `column_order`."""
    dash = ("", ' stroke-dasharray="6 3"', ' stroke-dasharray="2 3"')[index // len(LINES) % 3]
    return f'fill="none" stroke="{LINES[index % len(LINES)]}" stroke-width="2.2"{dash}'


def _axes(origin: tuple[int, int], size: tuple[int, int], sizes: Sequence[int]) -> list[str]:
    parts = []
    for tick in (0, 20, 40, 60, 80, 100):
        y = origin[1] + size[1] * (1 - tick / 100)
        parts.append(f'<line class="grid" x1="{origin[0]}" x2="{origin[0] + size[0]}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{origin[0] - 6}" y="{y + 4:.1f}" text-anchor="end" font-size="10.5">{tick}</text>')
    for place, count in enumerate(sizes):
        x, y = _x(origin, size, place, len(sizes)), origin[1] + size[1] + 16
        parts.append(f'<text x="{x:.1f}" y="{y}" text-anchor="middle" font-size="10.5">{count}</text>')
    x, y = origin[0] + size[0] / 2, origin[1] + size[1] + 32
    parts.append(f'<text x="{x:.0f}" y="{y}" text-anchor="middle" font-size="10.5">missing sequences</text>')
    return parts


def _x(origin: tuple[int, int], size: tuple[int, int], place: int, count: int) -> float:
    return origin[0] + size[0] * (0.08 + 0.84 * (place / (count - 1) if count > 1 else 0.5))


def _line(
    values: pd.Series, origin: tuple[int, int], size: tuple[int, int], sizes: Sequence[int], index: int, column: str
) -> list[str]:
    points = [
        (_x(origin, size, place, len(sizes)), origin[1] + size[1] * (1 - float(values[count]) / 100), count)
        for place, count in enumerate(sizes)
        if values.get(count) == values.get(count)
    ]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
    parts = [f'<polyline points="{path}" {line_style(index)}/>']
    for x, y, count in points:
        tip = escape(f"{column}, {count} missing: {float(values[count]):.1f}")
        colour = LINES[index % len(LINES)]
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2" fill="{colour}"><title>{tip}</title></circle>')
    return parts


def open_svg(width: float, height: float, label: str) -> str:
    """Start of a figure with its size and what it shows, for those who cannot see it."""
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" role="img" '
        f'aria-label="{escape(label)}" font-family="inherit">'
    )


#: What the page's style sheet gives a figure.
STANDALONE = (
    "svg{font-family:system-ui,'Segoe UI',Roboto,'Liberation Sans',sans-serif;color:#1a2530;background:#fff}"
    "text{fill:#1a2530}.grid{stroke:#d5dde3}.soft{fill:#5a6872}"
    "@media(prefers-color-scheme:dark){svg{color:#e4eaee;background:#12181d}text{fill:#e4eaee}.grid{stroke:#34414b}"
    ".soft{fill:#9dabb5}}"
)


def standalone(figure: str) -> str:
    """A figure of the page as an SVG file of its own, light or dark as the reader's system."""
    return (
        figure.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace(
            ">", f"><style>{STANDALONE}</style>", 1
        )
        + "\n"
    )
