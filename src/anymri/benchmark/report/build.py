"""The report page: one HTML file that needs nothing else, plus its tables as Markdown and CSV."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anymri import __version__
from anymri.benchmark.cost import read_costs
from anymri.benchmark.report.accuracy_cost import cost_figure, cost_points
from anymri.benchmark.report.columns import OTHER_CODE, column_makings, making_notes
from anymri.benchmark.report.comparison import (
    comparable,
    compared_scores,
    interval_figure,
    leading_pair,
    rank_figure,
    scatter_figure,
)
from anymri.benchmark.report.figures import curve_figure, heat_map
from anymri.benchmark.report.further_metrics import further_sections
from anymri.benchmark.report.published_numbers import published_groups, single_sequence_table
from anymri.benchmark.report.tables import (
    BASELINES,
    REGION_NAMES,
    Results,
    cells,
    column_order,
    dot_order,
    dots,
    enhancing_summary,
    modality_label,
    provenance,
    read_results,
    region_order,
    subset_order,
    synthesis_table,
    table3,
)
from anymri.benchmark.report.text_tables import dice_csv, synthesis_csv, to_latex, to_markdown
from anymri.evaluation.table_records import Picture, Pictures
from anymri.files import inside, replace_text
from anymri.locks import one_writer
from anymri.records import read_record
from anymri.types import UserError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["build_report"]

#: Bytes of pictures (encoded) that a page may hold; more stay beside their results table.
PICTURE_BUDGET = 3_600_000
#: First bytes of the pictures that a page may hold, and their MIME types.
PICTURE_TYPES = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"<svg": "image/svg+xml"}
#: Up to so many methods the regions stand side by side, as in the review; beyond, one table per region, with so many
#: methods at most, so that it fits on a printed page.
METHODS_SIDE_BY_SIDE, METHODS_PER_TABLE = 5, 8


def build_report(results: Sequence[Path], out: Path, title: str | None = None, costs: Path | None = None) -> Path:
    """Write one self-contained HTML page of results tables, and its tables as ``.md``, ``.tex`` and ``.csv`` beside it.

    Completion of missing sequences has a table of its own, ``.synthesis.csv``.

    Parameters
    ----------
    results : sequence of Path
        Tables of `anymri.evaluation.evaluate`; runs of one method and preset that differ in fold or seed only are
        pooled.
    out : Path
        The page, e.g. ``report.html``.
    title : str or None, default=None
    costs : Path or None, default=None
        ``cost.csv`` of `anymri.benchmark.cost`: seconds and memory for the figure of accuracy against cost. Without
        it, that figure shows the number of parameters alone, which results tables hold.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    UserError
        If a table cannot be read or `out` is a folder.
    """
    out = Path(out)
    if out.is_dir():
        raise UserError(f"{out}: is a folder; name a file, e.g. {out / 'report.html'}")
    read = read_results(results)
    measured = None if costs is None else read_costs(costs)
    with one_writer(out):
        _write_pages(out, read, title, measured)
    return out


def _write_pages(out: Path, read: Results, title: str | None, measured: pd.DataFrame | None) -> None:
    """Write the page, and the tables beside it."""
    replace_text(out, _render(read, title or "anymri: every subset of sequences", measured))
    has_dice, has_synthesis = bool(column_order(read)), not synthesis_table(read).empty
    if has_dice or has_synthesis:
        replace_text(out.with_suffix(".md"), to_markdown(read))
        replace_text(out.with_suffix(".tex"), to_latex(read))
    if has_dice:
        replace_text(out.with_suffix(".csv"), dice_csv(read))
    if has_synthesis:
        replace_text(out.with_suffix(".synthesis.csv"), synthesis_csv(read))


def _render(results: Results, title: str, costs: pd.DataFrame | None) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("anymri.benchmark.report", "templates")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.get_template("report.html.j2").render(_content(results, title, costs))


def _content(results: Results, title: str, costs: pd.DataFrame | None) -> dict[str, Any]:
    columns, regions = column_order(results), region_order(results)
    pictures, legend, notes = _pictures(results)
    entries = provenance(results)
    return {
        "title": title,
        "version": __version__,
        "summary": _summary(results),
        "seen_note": _seen_note(results),
        "stamps": sorted({str(entry["stamp"]) for entry in results.settings if entry.get("stamp")}),
        "notes": notes,
        "making": making_notes(results),
        "tables": _tables(results) if columns else [],
        "highlights": len(columns) > 1,
        "has_et": "enhancing_tumor" in regions,
        "dots": [modality_label(code) for code in dot_order(results)],
        "heat_map": heat_map(results) if columns else "",
        "curves": curve_figure(results) if columns else "",
        "comparison": _comparison(results) if columns else None,
        "cost": cost_figure(cost_points(results, costs), _methods(results)) if columns else "",
        "single": single_sequence_table(results) if columns else {},
        "published": published_groups(results) if columns else [],
        "enhancing": _enhancing(results) if "enhancing_tumor" in regions and "t1c" in results.modalities else [],
        "synthesis": _synthesis(results),
        "downstream": _tables(results, "downstream_dice") if column_order(results, "downstream_dice") else [],
        "further": further_sections(results),
        "pictures": pictures,
        "legend": legend,
        "provenance": [{**entry, "details": _details(entry)} for entry in entries],
        "sources": ", ".join(path.name for path in results.paths),
    }


def _methods(results: Results) -> dict[str, str]:
    """Method of every column."""
    pairs = results.frame[["column", "method"]].drop_duplicates().astype(str)
    return dict(pairs.itertuples(index=False, name=None))


def _comparison(results: Results) -> dict[str, Any] | None:
    """Figures of methods against each other, and on what they were compared."""
    compared = comparable(results)
    scores = compared_scores(results, compared)
    if not scores:
        return None
    ranked = {region: table for region, table in scores.items() if len(table) > 1 and table.shape[1] > 1}
    pair = leading_pair(scores)
    return {
        "subsets": len(compared.subsets),
        "left_out": [f"{column} ({count})" for column, count in compared.left_out.items()],
        "intervals": interval_figure(scores),
        "ranks": "".join(rank_figure({region: table}) for region, table in ranked.items()),
        "pair": pair,
        "scatter": scatter_figure(results, scores, pair) if pair else "",
    }


def _summary(results: Results) -> str:
    frame = results.frame
    subjects = frame[["dataset", "subject"]].drop_duplicates().shape[0]
    datasets = ", ".join(sorted(str(name) for name in frame["dataset"].unique()))
    count, methods = len(subset_order(results)), len(column_order(results))
    plural = "" if methods == 1 else "s"
    return f"{methods} method{plural}, {count} subsets of sequences, {subjects} subjects of {datasets}."


def _seen_by_column(results: Results) -> dict[str, tuple[int, int]]:
    """Of each column: subjects its models were trained on, and all subjects."""
    frame = results.frame
    per = frame.groupby(["column", "dataset", "subject"], observed=True)["seen_in_training"].max()
    groups = per.groupby(level="column", observed=True)
    return {str(name): (int(part.sum()), len(part)) for name, part in groups}


def _seen_note(results: Results) -> str:
    seen = {name: counts for name, counts in _seen_by_column(results).items() if counts[0]}
    if not seen:
        return ""
    listed = "; ".join(f"{name}: {count} of {total} subjects" for name, (count, total) in sorted(seen.items()))
    return (
        f"{listed}. Numbers and pictures with this stamp show what a model remembers, not how it does on new studies."
    )


# --------------------------------------------------------------------------------------------------------------
# Tables
# --------------------------------------------------------------------------------------------------------------


def _tables(results: Results, metric: str = "dice") -> list[dict[str, Any]]:
    """The table of a Dice; several where it would be too wide."""
    columns, regions = column_order(results, metric), region_order(results, metric)
    wide, counts, seen = table3(results, metric), cells(results, metric), _seen_by_column(results)
    methods, makings = _methods(results), column_makings(results)
    heads = [
        {
            "name": name,
            "baseline": methods[name] in BASELINES,
            "seen": seen.get(name, (0, 0))[0] > 0,
            "code": makings[name].code if makings[name].code == OTHER_CODE else "",
            "trained": makings[name].trained_on if makings[name].subjects else "",
            "dropped": makings[name].dropped,
        }
        for name in columns
    ]
    every = {
        (str(subset), region): _row_cells(wide, counts, str(subset), region, columns)
        for subset in wide.index
        for region in regions
    }
    tables = []
    for group, part in _groups(regions, len(columns)):
        titles = [{"title": REGION_NAMES.get(region, ("", region))[1], "columns": heads[part]} for region in group]
        rows = []
        for subset in map(str, wide.index):
            row = [cell | {"first": i == 0} for region in group for i, cell in enumerate(every[subset, region][part])]
            shown = [] if subset == "mean" else dots(subset, dot_order(results))
            rows.append({"mean": subset == "mean", "dots": shown, "cells": row})
        tables.append(
            {
                "regions": titles,
                "rows": rows,
                "title": titles[0]["title"] if len(group) < len(regions) else "",
                "trained": any(head["trained"] for head in heads[part]),
            }
        )
    return tables


def _groups(regions: list[str], methods: int) -> list[tuple[list[str], slice]]:
    """Regions and columns of each table."""
    if methods <= METHODS_SIDE_BY_SIDE:
        return [(regions, slice(None))]
    each = -(-methods // -(-methods // METHODS_PER_TABLE))  # as many in each table, but for the last
    return [([region], slice(start, start + each)) for region in regions for start in range(0, methods, each)]


def _row_cells(
    wide: pd.DataFrame, counts: pd.DataFrame, subset: str, region: str, columns: list[str]
) -> list[dict[str, Any]]:
    values = wide.loc[subset, region].reindex(columns)
    # A cell with subjects seen in training takes no part in the comparison.
    fair = values.copy()
    row = []
    for column in columns:
        value, key = float(values[column]), (subset, region, column)
        cell: dict[str, Any] = {"value": None, "note": "", "seen": "", "best": False}
        if value == value:
            cell["value"] = f"{value:.1f}"
        if value == value and subset == "mean":
            known, rows = int(wide[(region, column)].drop("mean").notna().sum()), len(wide) - 1
            cell["note"] = f"of {known} rows" if known < rows else ""
        elif value == value:
            count = counts.loc[key]
            cell["note"] = _cell_note(region, int(count["n"]), int(count["empty"]))
            if count["seen"]:
                cell["seen"] = f"the model was trained on {int(count['seen'])} of these {int(count['n'])} subjects"
                fair[column] = float("nan")
        row.append(cell)
    if len(columns) > 1 and subset != "mean" and fair.notna().any():
        best = f"{fair.max():.1f}"
        for cell, column in zip(row, columns, strict=True):
            cell["best"] = fair[column] == fair[column] and cell["value"] == best
    return row


def _cell_note(region: str, n: int, empty: int) -> str:
    short = REGION_NAMES.get(region, (region, region))[0]
    return f"n {n}, {empty} {short}-free" if region == "enhancing_tumor" or empty else f"n {n}"


def _text(value: float | None, digits: int = 1) -> str:
    return "–" if value is None or value != value else f"{value:.{digits}f}"


def _enhancing(results: Results) -> list[dict[str, Any]]:
    seen = _seen_by_column(results)
    rows = []
    for row in enhancing_summary(results):
        numbers = {
            name: _text(row.get(name)) for name in ("with", "without", "difference", "min500_with", "min500_without")
        }
        rows.append({**row, **numbers, "seen": seen[row["column"]][0] > 0})
    return rows


def _synthesis(results: Results) -> list[dict[str, Any]]:
    methods, makings = _methods(results), column_makings(results)
    rows = []
    for (target, column), row in synthesis_table(results).iterrows():
        baseline = methods[column] in BASELINES
        rows.append(
            {
                "target": modality_label(str(target)),
                "column": column,
                "baseline": baseline,
                "psnr": _text(row["psnr"], 2),
                "gain": "" if baseline else _text(row["gain"], 2),
                "ssim": _text(row["ssim"], 3),
                "mae": _text(row["mae"], 3),
                "pairs": int(row["pairs"]),
                "subjects": int(row["subjects"]),
                "code": makings[column].code if makings[column].code == OTHER_CODE else "",
                "seen": int(row["seen"]) > 0,
            }
        )
    return rows


def _details(entry: dict[str, Any]) -> str:
    parts = [f"{name} {value}" for name, value in sorted(entry["versions"].items())]
    parts += [f"{name} {_plain(value)}" for name, value in sorted(entry["settings"].items())]
    return ", ".join(parts)


def _plain(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, list) else str(value)


# --------------------------------------------------------------------------------------------------------------
# Pictures
# --------------------------------------------------------------------------------------------------------------


def _pictures(results: Results) -> tuple[list[dict[str, Any]], str, list[str]]:
    """Pictures that the evaluator stored beside each table, in groups of one method and subset."""
    keys = ["run", "protocol", "dataset", "method"]
    columns = results.frame[[*keys, "column"]].drop_duplicates()
    names = {tuple(row[:-1]): row[-1] for row in columns.itertuples(index=False, name=None)}
    groups: list[dict[str, Any]] = []
    legend, used, left_out = "", 0, 0
    for path in results.paths:
        folder = path.with_name(path.stem + ".pictures")
        if not folder.is_dir():
            continue
        index = read_record(folder / "index.json", Pictures, "evaluate again")
        legend = legend or index.legend
        grouped: dict[str, list[Picture]] = {}
        for entry in index.pictures:
            grouped.setdefault(entry.subset, []).append(entry)
        for subset, entries in grouped.items():
            files = [inside(folder, entry.file) for entry in entries]
            size = sum(file.stat().st_size for file in files if file.is_file()) * 4 // 3
            if used + size > PICTURE_BUDGET:
                left_out += len(entries)
                continue
            used += size
            column = names.get(tuple(getattr(entries[0], key) for key in keys), entries[0].method)
            shown = [_picture(entry, file) for entry, file in zip(entries, files, strict=True) if file.is_file()]
            label = " + ".join(modality_label(code) for code in subset.split("+"))
            groups.append({"title": f"{column}, from {label}", "pictures": shown})
    notes = (
        [f"{left_out} pictures are not on this page to keep it small; they lie beside the tables."] if left_out else []
    )
    return groups, legend, notes


def _picture(entry: Picture, file: Path) -> dict[str, Any]:
    content = file.read_bytes()
    mime = next((mime for start, mime in PICTURE_TYPES.items() if content.startswith(start)), None)
    if mime is None:
        raise UserError(f"{file}: is no PNG, JPEG or SVG picture; evaluate again")
    if entry.sha256 not in (None, hashlib.sha256(content).hexdigest()):
        raise UserError(f"{file}: was changed or damaged (sha256 does not fit); evaluate again")
    scores = ", ".join(
        f"{REGION_NAMES.get(region, (region, region))[0]} {'undefined' if value is None else f'{100 * value:.1f}'}"
        for region, value in entry.dice.items()
    )
    return {
        "data": f"data:{mime};base64," + base64.b64encode(content).decode("ascii"),
        "rank": entry.rank,
        "caption": f"{entry.subject}: {scores}",
        "alt": f"{entry.rank} subject {entry.subject} from {entry.subset}",
        "seen": entry.seen_in_training,
    }
