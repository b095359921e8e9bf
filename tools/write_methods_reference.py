"""Write what the methods say of themselves: the catalogue that `anymri methods` reads, docs/reference/methods.md and
its timeline; tests/methods checks all three.
"""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

from anymri.benchmark.report.figures import LINES, open_svg, standalone, text
from anymri.methods import CATALOGUE, METHODS, describe_methods
from anymri.methods._description import SHARED_DEVIATIONS

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE, TIMELINE = DOCS / "reference" / "methods.md", DOCS / "images" / "methods-timeline.svg"

HEAD = """# Methods

Written by `tools/write_methods_reference.py` from what each method says of itself (`anymri methods --json`), after
Table 1 of the review by Azad et al. (2025): families, what was new, what is weak.

![When each method was published, by family](../images/methods-timeline.svg)

*One network for* says whether one training serves every subset of sequences or each subset needs its own. *Parity* is
the largest difference to the authors' code in standard deviations of the logits ([how](parity.md)).
Every departure from paper and released code stands [below](#deviations).
"""

DEVIATIONS = """
## Deviations

Where each method departs from its paper and the released code, as `anymri methods NAME` prints it with all settings,
presets, stages and optimisers. "Released" is what the authors' code does, "theirs" what paper or code do.

All methods but the classical ones (`replica`, `threshold`): {shared}.
"""
#: Families in the order of the review; others follow by name.
FAMILIES = ("synthesis", "common latent space", "knowledge distillation", "mutual information", "baseline")


def catalogue() -> str:
    """Rows of the methods of this package as JSON, asked from their classes."""
    rows = [row for row in describe_methods(stored=False) if row["name"] in METHODS]
    return json.dumps(rows, indent=1, ensure_ascii=False) + "\n"


def methods() -> list[dict[str, Any]]:
    """The methods of this package by family and year."""
    rows = [row for row in describe_methods() if row["name"] in METHODS]
    return sorted(rows, key=lambda row: (_place(row["family"]), row["family"], row["year"], row["name"]))


def _place(family: str) -> int:
    return FAMILIES.index(family) if family in FAMILIES else len(FAMILIES)


def page() -> str:
    """The whole page."""
    rows = methods()
    families = list(dict.fromkeys(row["family"] for row in rows))
    tables = [_section(family, [row for row in rows if row["family"] == family]) for family in families]
    return "".join([HEAD, *tables, DEVIATIONS.format(shared="; ".join(SHARED_DEVIATIONS)), *map(_deviations, rows)])


def _deviations(row: dict[str, Any]) -> str:
    own = [text for text in row["deviations"] if text not in SHARED_DEVIATIONS]
    return "".join([f"\n### {row['name']}\n\n", *(f"- {text}\n" for text in own or ["none of its own"])])


def _section(family: str, rows: list[dict[str, Any]]) -> str:
    lines = [
        f"\n## {family[:1].upper()}{family[1:]}\n",
        "| Name | Year | What is new | Weakness | Task | One network for | Parameters | Parity | Reference |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        network = {"any": "all subsets", "per-subset": "one subset"}.get(row["subsets"], row["subsets"])
        sizes = ", ".join(f"{name} {_millions(size)}" for name, size in row["parameters"].items() if size) or "none"
        cells = [f"`{row['name']}`", str(row["year"]), row["novelty"], row["weakness"], row["task"], network, sizes]
        lines.append("| " + " | ".join([*cells, row["parity"], _reference(row)]) + " |")
    return "\n".join(lines) + "\n"


def _millions(size: int) -> str:
    return f"{size / 1e6:.1f} M" if size >= 1e6 else f"{size / 1e3:.0f} k"


def _reference(row: dict[str, Any]) -> str:
    links = [f"[doi](https://doi.org/{row['doi']})"] if row["doi"] else []
    links += [f"[arXiv](https://arxiv.org/abs/{row['arxiv']})"] if row["arxiv"] else []
    links += [f"[code]({row['code']})"] if row["code"] else []
    return row["reference"] + (f" ({', '.join(links)})" if links else "")


def timeline() -> str:
    """Years along x, a band for each family, names stacked within a year."""
    rows = [row for row in methods() if row["reference"] != "anymri"]
    families = list(dict.fromkeys(row["family"] for row in rows))
    first, last = min(row["year"] for row in rows), max(row["year"] for row in rows)
    left, top, column, line, pad = 185, 34, 112, 18, 9
    width = left + column * (last - first + 1) + 10
    parts, y = [], float(top)
    for j, family in enumerate(families):
        own = [row for row in rows if row["family"] == family]
        depth = max(sum(row["year"] == year for row in own) for year in range(first, last + 1))
        height = depth * line + 2 * pad
        parts.append(f'<line class="grid" x1="0" x2="{width}" y1="{y:.0f}" y2="{y:.0f}"/>')
        parts.append(text((8, y + height / 2 + 4), family, 12, more=' font-weight="600"'))
        for year in range(first, last + 1):
            x = left + column * (year - first)
            for i, row in enumerate(row for row in own if row["year"] == year):
                middle = y + pad + line * (i + 0.5)
                tip = escape(f"{row['title']}: {row['reference']}")
                colour = LINES[j % len(LINES)]
                dot = f'<circle cx="{x + 5}" cy="{middle:.1f}" r="4.5" fill="{colour}">'
                parts.append(f"{dot}<title>{tip}</title></circle>")
                name = "nnU-Net" if row["name"].startswith("nnunet") else row["title"]
                parts.append(text((x + 14, middle + 4), name, 12))
        y += height
    years = [text((left + column * (year - first), 20), str(year), 12) for year in range(first, last + 1)]
    return standalone("".join([open_svg(width, y + 6, "When each method was published"), *years, *parts, "</svg>"]))


if __name__ == "__main__":
    CATALOGUE.write_text(catalogue(), encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")
    TIMELINE.write_text(timeline(), encoding="utf-8")
