"""Tables of results: reading `results.parquet`, the layout of the review's Table 3, synthesis, provenance.

All numbers of the page are computed here; nothing else in the report averages anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anymri.evaluation.results import COLUMNS, read_table
from anymri.types import GLIOMA, DataSpec, UserError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "REGION_NAMES",
    "TABLE3_ORDER",
    "Results",
    "cells",
    "enhancing_summary",
    "provenance",
    "read_results",
    "region_title",
    "subset_order",
    "synthesis_table",
    "table3",
]

#: Rows of the review's Table 3, top to bottom (its dots stand for FLAIR, T1, T1c, T2).
TABLE3_ORDER = (
    "t2", "t1c", "t1", "flair", "t1c+t2", "t1+t1c", "t1+flair", "t1+t2", "t2+flair", "t1c+flair", "t1+t1c+flair",
    "t1+t2+flair", "t1c+t2+flair", "t1+t1c+t2", "t1+t1c+t2+flair",
)  # fmt: skip
#: Dot columns of the review's Table 3, left to right.
TABLE3_DOTS = ("flair", "t1", "t1c", "t2")

#: Short and long names of regions.
REGION_NAMES = {
    "whole_tumor": ("WT", "Whole tumour"),
    "tumor_core": ("TC", "Tumour core"),
    "enhancing_tumor": ("ET", "Enhancing tumour"),
}
#: Metric of what a frozen segmenter makes of completed studies.
DOWNSTREAM = "downstream_dice"
#: Columns of untrained baselines, which a model must beat, and of the real study, which no synthesis is expected to.
BASELINES = ("threshold", "copy_best_available", "linear_regression", "complete_study")


@dataclass(frozen=True)
class Results:
    """One or more results tables, read and joined.

    Parameters
    ----------
    frame : DataFrame
        The columns of `COLUMNS` and ``column``: the name of the table column a row belongs to.
    settings : list of dict
        What the evaluator stored beside each table (versions, modalities, subsets, pictures).
    paths : list of Path
    """

    frame: pd.DataFrame
    settings: list[dict[str, Any]] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities of the tables, in their one order."""
        for settings in self.settings:
            if settings.get("modalities"):
                return tuple(settings["modalities"])
        used = {code for subset in self.frame["subset"].unique() for code in str(subset).split("+")}
        if used <= set(GLIOMA.modalities):
            return GLIOMA.modalities
        return tuple(sorted(used))


def read_results(paths: Iterable[Path]) -> Results:
    """Read results tables and name the columns they belong to.

    Parameters
    ----------
    paths : iterable of Path
        Files that `anymri.evaluation.evaluate` wrote.

    Raises
    ------
    UserError
        If a file is missing, is not such a table, or two tables have different modalities.
    """
    import pandas as pd

    frames, files = [], [Path(path) for path in paths]
    settings: list[dict[str, Any]] = []
    for path in files:
        frame, stored = read_table(path)
        frames.append(frame)
        settings += stored.get("tables") or [stored]
    if not frames:
        raise UserError("report: no results table given; name at least one results.parquet")
    orders = {tuple(entry["modalities"]) for entry in settings if entry.get("modalities")}
    if len(orders) > 1:
        raise UserError(f"{files[-1]}: its modalities differ from those of the other tables; report them separately")
    text = [name for name in COLUMNS if name not in ("value", "reference_empty", "seen_in_training")]
    frame = pd.concat([one.astype(dict.fromkeys(text, str)) for one in frames], ignore_index=True)
    if frame.empty:
        raise UserError(f"{files[0]}: holds no results; evaluate at least one subject")
    frame = frame.drop_duplicates([name for name in COLUMNS if name != "value"], ignore_index=True)
    frame["column"] = _name_columns(frame)
    for name in [*text, "column"]:
        frame[name] = frame[name].astype("category")
    return Results(frame, settings, files)


def _name_columns(frame: pd.DataFrame) -> pd.Series:
    """Table column of every row: the method, and whatever else is needed to tell two columns apart.

    Folds, seeds and the networks of a system with one network per subset share a column. Runs that score the same
    subject and subset with the same fold and seed are different settings, whatever their names say, and get a column
    each.
    """
    keys = ["protocol", "dataset", "method", "preset", "run", "fold", "seed", "subject", "subset"]
    runs = frame[keys].drop_duplicates()
    clash = runs.groupby([key for key in keys if key != "run"])["run"].transform("nunique")
    clashing = set(runs.loc[clash > 1, ["method", "preset"]].itertuples(index=False, name=None))
    several = {name: frame.loc[frame["method"] == name, "preset"].nunique() > 1 for name in frame["method"].unique()}
    protocols, datasets = frame["protocol"].nunique() > 1, frame["dataset"].nunique() > 1

    def name(row: Any) -> str:
        parts = [row.preset] if several[row.method] and row.preset else []
        parts += [row.run] if (row.method, row.preset) in clashing else []
        parts += [row.protocol] if protocols else []
        parts += [row.dataset] if datasets else []
        return f"{row.method} ({', '.join(parts)})" if parts else str(row.method)

    columns = ["protocol", "dataset", "method", "preset", "run"]
    named = frame[columns].drop_duplicates()
    named["column"] = [name(row) for row in named.itertuples(index=False)]
    return frame[columns].merge(named, on=columns, how="left")["column"]


# --------------------------------------------------------------------------------------------------------------
# Order of rows and columns
# --------------------------------------------------------------------------------------------------------------


def subset_order(results: Results, metric: str = "dice") -> list[str]:
    """Names of the rows, in the order of the review's Table 3 for its four modalities, else by size.

    Parameters
    ----------
    results : Results
    metric : str, default="dice"
        Of the table. The complete study, which only a frozen segmenter is given, is a row of no other one.
    """
    metrics = results.frame["metric"].astype(str)
    frame = results.frame[(metrics == DOWNSTREAM) == (metric == DOWNSTREAM)]
    asked = {name for entry in results.settings for name in entry.get("subsets", [])}
    used = asked | {str(name) for name in frame["subset"].unique()}
    modalities = results.modalities
    if set(modalities) == set(TABLE3_DOTS):
        spec = GLIOMA
        canonical = {spec.subset_name(spec.parse_subset(name)): name for name in used}
        return [canonical[name] for name in TABLE3_ORDER if name in canonical]
    spec = DataSpec(modalities=modalities)
    return [name for subset in spec.subsets() if (name := "+".join(subset)) in used]


def dot_order(results: Results) -> tuple[str, ...]:
    """Modalities of the dot columns, left to right."""
    return TABLE3_DOTS if set(results.modalities) == set(TABLE3_DOTS) else results.modalities


def region_order(results: Results, metric: str = "dice") -> list[str]:
    """Regions that have values of a metric, from the largest to the smallest region."""
    found = set(results.frame.loc[results.frame["metric"] == metric, "target"].unique())
    return [name for name in REGION_NAMES if name in found] + sorted(found - set(REGION_NAMES))


def column_order(results: Results, metric: str = "dice") -> list[str]:
    """Names of the columns with values of a metric: baselines first, then by name."""
    frame = results.frame[results.frame["metric"] == metric]
    pairs = {(str(c), str(m)) for c, m in frame[["column", "method"]].drop_duplicates().itertuples(index=False)}
    return [column for column, _ in sorted(pairs, key=lambda pair: (pair[1] not in BASELINES, pair))]


# --------------------------------------------------------------------------------------------------------------
# Values
# --------------------------------------------------------------------------------------------------------------


def cells(results: Results, metric: str = "dice") -> pd.DataFrame:
    """Mean over subjects of every table cell.

    Parameters
    ----------
    results : Results
    metric : str, default="dice"

    Returns
    -------
    DataFrame
        Index (subset, target, column); columns ``mean`` (in the metric's unit), ``n`` (subjects), ``empty``
        (subjects whose reference is empty), ``seen`` (subjects a model of the cell was trained on). Repeats of one
        subject by several seeds are averaged first, so every subject weighs the same.
    """
    frame = results.frame[results.frame["metric"] == metric]
    keys = ["subset", "target", "column"]
    subjects = frame.groupby([*keys, "dataset", "subject"], observed=True).agg(
        value=("value", "mean"), empty=("reference_empty", "max"), seen=("seen_in_training", "max")
    )
    return subjects.groupby(level=keys, observed=True).agg(
        mean=("value", "mean"), n=("value", "count"), empty=("empty", "sum"), seen=("seen", "sum")
    )


def table3(results: Results | Sequence[Path], metric: str = "dice") -> pd.DataFrame:
    """Dice in per cent in the layout of the review's Table 3.

    Parameters
    ----------
    results : Results or sequence of Path
        Or the paths of results tables.
    metric : str, default="dice"

    Returns
    -------
    DataFrame
        Rows: subsets in the table's order, then ``mean``, the plain mean of the rows above it. Columns: (region,
        method column). NaN where no subject has the subset.
    """
    import pandas as pd

    results = results if isinstance(results, Results) else read_results(results)
    values = cells(results, metric)["mean"] * 100
    rows, columns = subset_order(results, metric), column_order(results, metric)
    regions = region_order(results, metric)
    wide = values.unstack(["target", "column"])
    wide = wide.reindex(index=rows, columns=pd.MultiIndex.from_product([regions, columns], names=["region", "method"]))
    wide.loc["mean"] = wide.mean()
    wide.index.name = "subset"
    return wide


def enhancing_summary(results: Results, region: str = "enhancing_tumor", modality: str = "t1c") -> list[dict[str, Any]]:
    """Mean Dice of one region over the subsets with and without a modality, for each column.

    Returns
    -------
    list of dict
        ``column``, ``with`` and ``without`` (in per cent), ``difference``, ``count_with``, ``count_without``
        (subsets), ``min500_with``, ``min500_without`` (of `dice_et_min500mm3`; None where not measured).
    """
    rows = []
    tables = {name: table3(results, name) for name in ("dice", "dice_et_min500mm3") if _has(results, name)}
    for column in column_order(results):
        row: dict[str, Any] = {"column": column}
        for name, table in tables.items():
            if (region, column) not in table.columns:
                continue
            values = table[(region, column)].drop("mean").dropna()
            inside = [modality in str(subset).split("+") for subset in values.index]
            outside = [not shown for shown in inside]
            prefix = "" if name == "dice" else "min500_"
            row[f"{prefix}with"] = _mean_or_none(values[inside])
            row[f"{prefix}without"] = _mean_or_none(values[outside])
            row |= {"count_with": sum(inside), "count_without": sum(outside)} if name == "dice" else {}
        if row.get("with") is not None and row.get("without") is not None:
            row["difference"] = row["with"] - row["without"]
        if "count_with" in row:
            rows.append(row)
    return rows


def _has(results: Results, metric: str) -> bool:
    return bool((results.frame["metric"] == metric).any())


def _mean_or_none(values: pd.Series) -> float | None:
    return float(values.mean()) if len(values) else None


def synthesis_table(results: Results) -> pd.DataFrame:
    """PSNR, SSIM and MAE of the synthesised modalities against the trivial baselines.

    Returns
    -------
    DataFrame
        Index (target, column), columns ``psnr``, ``ssim``, ``mae`` (means over subjects and subsets without the
        target), ``pairs`` (how many), ``subjects``, ``gain`` (PSNR above the better baseline, dB) and ``seen``. Empty
        when nothing was synthesised. Within a target only (subject, subset) pairs that every column has are averaged.
    """
    import pandas as pd

    frame = results.frame[results.frame["metric"].isin(["psnr", "ssim", "mae"])]
    if frame.empty:
        return pd.DataFrame(columns=["psnr", "ssim", "mae", "pairs", "subjects", "gain", "seen"])
    pair = ["target", "dataset", "subject", "subset"]
    wide = frame.pivot_table(index=[*pair, "column"], columns="metric", values="value", aggfunc="mean", observed=True)
    wide = wide.reindex(columns=["psnr", "ssim", "mae"])
    wide["seen"] = frame.groupby([*pair, "column"], observed=True)["seen_in_training"].max()
    counts = wide.groupby(level=pair, observed=True).size()
    all_columns = wide.reset_index().groupby("target", observed=True)["column"].nunique()
    complete = counts == all_columns.reindex(counts.index.get_level_values("target")).to_numpy()
    kept = wide[complete.reindex(wide.index.droplevel("column")).to_numpy()]
    groups = kept.groupby(level=["target", "column"], observed=True)
    table = groups[["psnr", "ssim", "mae"]].mean()
    table["pairs"], table["seen"] = groups.size(), groups["seen"].sum().astype(int)
    people = kept.reset_index()[["target", "column", "dataset", "subject"]].drop_duplicates()
    table["subjects"] = people.groupby(["target", "column"], observed=True).size()
    names = dict(results.frame[["column", "method"]].drop_duplicates().itertuples(index=False, name=None))
    trivial = [names[column] in BASELINES for column in table.index.get_level_values("column")]
    best = table.loc[trivial, "psnr"].groupby(level="target", observed=True).max()
    table["gain"] = table["psnr"] - best.reindex(table.index.get_level_values("target")).to_numpy()
    order = {code: i for i, code in enumerate(results.modalities)}
    ranked = sorted(table.index, key=lambda key: (order.get(key[0], 99), names[key[1]] not in BASELINES, key[1]))
    return table.loc[ranked]


def provenance(results: Results) -> list[dict[str, Any]]:
    """One entry per run: who it is, what it was scored on and with which versions. No host, path or clock."""
    keys = ["column", "method", "preset", "run", "protocol", "dataset", "fold", "seed"]
    entries = []
    for values, part in results.frame.groupby(keys, observed=True):
        entry: dict[str, Any] = dict(zip(keys, values, strict=True))
        seen = part.groupby("subject", observed=True)["seen_in_training"].max()
        entry |= {"subjects": len(seen), "seen": int(seen.sum())}
        stored = next(
            (s for s in results.settings if s.get("run") == entry["run"] and s.get("fold") == _number(entry["fold"])),
            {},
        )
        entry["versions"] = stored.get("versions", {})
        entry["fingerprint"] = stored.get("dataset_fingerprint", "")
        entry["settings"] = stored.get("settings", {})
        entries.append(entry)
    return entries


def _number(text: str) -> int | str:
    return int(text) if text.lstrip("-").isdigit() else text


# --------------------------------------------------------------------------------------------------------------
# Text
# --------------------------------------------------------------------------------------------------------------


def region_title(region: str) -> str:
    """Long name of a region for people: ``Whole tumour``."""
    return REGION_NAMES.get(region, (region, region))[1]


def modality_label(code: str) -> str:
    """Short name of a modality for people: ``T1c``, ``FLAIR`` ..."""
    return "T1c" if code == "t1c" else code.upper().replace("_", " ")


def dots(subset: str, modalities: Sequence[str]) -> list[str]:
    """Filled and open dots of a subset."""
    shown = subset.split("+")
    return ["●" if code in shown else "○" for code in modalities]
