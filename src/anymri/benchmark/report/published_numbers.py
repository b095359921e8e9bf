"""Published numbers beside ours, each protocol by itself and with its source; and the review's Table 4."""

from __future__ import annotations

from functools import cache
from typing import Any

from anymri.benchmark.report.tables import (
    REGION_NAMES,
    Results,
    cells,
    column_order,
    dot_order,
    dots,
    modality_label,
    region_order,
    subset_order,
    table3,
)

__all__ = ["published_groups", "single_sequence_table"]

MISSING = "–"


@cache
def _recipes() -> tuple[tuple[str, str, Any], ...]:
    from anymri.recipes import list_recipes, load_recipe

    return tuple((method, dataset, load_recipe(method, dataset)) for method, dataset in list_recipes())


def published_groups(results: Results) -> list[dict[str, Any]]:
    """What papers report of the methods of these results, grouped by source: a group is one protocol.

    Returns
    -------
    list of dict
        First the group of these results (``ours`` True), then one for every source, place and data set. ``title``,
        ``source``, ``regions``, ``rows`` (``method``, ``values``, ``note``); of papers also ``lines``: the subsets as
        printed, of all methods (``dots``, ``values``), with their ``heads``. Empty if no paper reports any of the
        methods.
    """
    methods = dict(results.frame[["column", "method"]].drop_duplicates().astype(str).itertuples(index=False, name=None))
    shown = {methods[column] for column in column_order(results)}
    groups: dict[tuple[str, str, str], dict[str, Any]] = {}
    for method, dataset, recipe in _recipes():
        for table in recipe.published if method in shown else ():
            if table.metric != "dice" or not set(table.targets) <= set(REGION_NAMES):
                continue
            data = "" if "BraTS" in table.place else _dataset_title(dataset)
            key = (table.source, table.place, data)
            title = f"{data}, {table.place}" if data else table.place[:1].upper() + table.place[1:]
            group = groups.setdefault(key, _group(title, table))
            if (method, table) not in group["tables"]:
                group["tables"].append((method, table))
    ours = _own_group(results)
    return [ours, *(_finish(group, results) for group in groups.values())] if groups and ours["rows"] else []


def _dataset_title(name: str) -> str:
    return f"BraTS {name[5:]}" if name.startswith("brats") else name


def _group(title: str, table: Any) -> dict[str, Any]:
    source = table.source + (f" (doi:{table.doi})" if table.doi else "")
    regions = [REGION_NAMES[target][0] for target in table.targets]
    return {"ours": False, "title": title, "source": source, "regions": regions, "tables": [], "targets": table.targets}


def _own_group(results: Results) -> dict[str, Any]:
    """Means of these results, with what they are means of."""
    frame = results.frame
    means, counts = table3(results), cells(results)
    regions = [region for region in region_order(results) if region in REGION_NAMES]
    rows = []
    for column in column_order(results):
        part = frame[frame["column"] == column]
        about = {key: ", ".join(sorted(map(str, part[key].unique()))) for key in ("preset", "protocol", "dataset")}
        known = sum(
            (subset, region, column) in counts.index for subset in subset_order(results) for region in regions[:1]
        )
        subjects = part[["dataset", "subject"]].drop_duplicates().shape[0]
        values = [_number(means.loc["mean", (region, column)], 1) for region in regions]
        note = f"{about['preset'] or 'no preset'}, {known} subsets, n {subjects}"
        rows.append({"method": column, "values": values, "note": note})
    data = ", ".join(sorted(map(str, frame["dataset"].unique())))
    protocol = ", ".join(sorted(map(str, frame["protocol"].unique())))
    return {
        "ours": True,
        "title": f"Scored here: {data}, protocol {protocol}",
        "source": "this report",
        "regions": [REGION_NAMES[region][0] for region in regions],
        "rows": rows,
        "lines": [],
        "heads": [],
    }


def _finish(group: dict[str, Any], results: Results) -> dict[str, Any]:
    rows, with_lines = [], []
    for method, table in group.pop("tables"):
        printed = table.printed_mean is not None
        values = table.printed_mean if printed else tuple(table.mean()[target] for target in table.targets)
        remark = "; ".join(table.discrepancies.values())
        how = "mean as printed" if printed else f"mean of its {len(table.rows)} rows"
        note = f"{how}; {remark}" if remark else how
        rows.append({"method": method, "values": [_number(value, 1) for value in values], "note": note})
        with_lines += [(method, table)] * bool(table.rows)
    used = {name for _, table in with_lines for name in table.rows}
    order = [name for name in subset_order(results) if name in used] + sorted(used - set(subset_order(results)))
    lines = [
        {
            "dots": dots(name, dot_order(results)),
            "values": [
                _number(table.rows[name][i], 1) if name in table.rows else MISSING
                for i in range(len(group["targets"]))
                for _, table in with_lines
            ],
        }
        for name in order
    ]
    heads = [{"region": region, "methods": [method for method, _ in with_lines]} for region in group["regions"]]
    return {**group, "rows": rows, "lines": lines, "heads": heads if lines else []}


def _number(value: float | None, digits: int) -> str:
    return MISSING if value is None or value != value else f"{float(value):.{digits}f}"


# --------------------------------------------------------------------------------------------------------------
# Table 4
# --------------------------------------------------------------------------------------------------------------


def single_sequence_table(results: Results) -> dict[str, Any]:
    """The layout of the review's Table 4: one sequence only, mean of the regions' Dice in per cent.

    Returns
    -------
    dict
        ``columns`` (names of the sequences and ``average``), ``rows`` (``method``, ``dedicated``: one network for each
        subset, ``cells`` with ``value`` and ``gap`` to the reference), ``reference`` (the baseline among the
        dedicated, or ""). Empty without a single-sequence subset.
    """
    wide, columns = table3(results).drop(index="mean"), column_order(results)
    codes = [code for code in dot_order(results) if code in wide.index]
    if not codes or not columns:
        return {}
    values = {
        column: [wide.loc[code].xs(column, level="method").mean(skipna=False) for code in codes] for column in columns
    }
    for column in columns:
        known = [value for value in values[column] if value == value]
        values[column].append(sum(known) / len(known) if len(known) == len(codes) else float("nan"))
    classes = {column: _class_of(results, column) for column in columns}
    dedicated = [column for column, cls in classes.items() if cls is not None and cls.subsets == "per-subset"]
    reference = next((column for column in dedicated if classes[column].info.family == "baseline"), "")
    rows = []
    for column in columns:
        shown = []
        for i, value in enumerate(values[column]):
            gap = value - values[reference][i] if reference and column != reference else float("nan")
            shown.append({"value": _number(value, 1), "gap": "" if gap != gap else f"{round(gap, 1) + 0.0:+.1f}"})
        if any(cell["value"] != MISSING for cell in shown):
            rows.append({"method": column, "dedicated": column in dedicated, "cells": shown})
    return {"columns": [*map(modality_label, codes), "average"], "rows": rows, "reference": reference}


def _class_of(results: Results, column: str) -> Any:
    """Class of a column's method; None if this installation does not know it."""
    from anymri.methods import get_method, list_methods

    method = str(results.frame.loc[results.frame["column"] == column, "method"].iloc[0])
    return get_method(method) if method in list_methods() else None
