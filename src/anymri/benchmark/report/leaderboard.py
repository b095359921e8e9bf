"""Leaderboard: finished runs as one Markdown page with provenance and one figure; `anymri report --markdown`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import nan
from pathlib import Path

from anymri.benchmark.report.comparison import comparable, compared_scores, interval_figure
from anymri.benchmark.report.figures import standalone
from anymri.benchmark.report.tables import (
    REGION_NAMES,
    Results,
    cells,
    column_order,
    dot_order,
    dots,
    modality_label,
    provenance,
    read_results,
    region_order,
    subset_order,
    table3,
)
from anymri.benchmark.report.text_tables import markdown_table
from anymri.benchmark.statistics import mean_interval
from anymri.errors import UserError
from anymri.files import replace_text
from anymri.training.log import read_log

__all__ = ["choose_subsets", "find_tables", "leaderboard_page", "read_trainings", "write_leaderboard"]


def find_tables(places: Sequence[Path]) -> list[Path]:
    """Results tables of files, run folders and benchmark folders.

    Raises
    ------
    UserError
        If a folder holds none.
    """
    found: list[Path] = []
    for place in places:
        if not place.is_dir():
            found.append(place)
            continue
        own = sorted((place / "results").glob("*.parquet")) or sorted(place.glob("results.parquet"))
        if not own:
            raise UserError(f"{place}: no results table in it; give a results.parquet or the folder of a benchmark")
        found += own
    return found


def read_trainings(places: Sequence[Path]) -> dict[str, tuple[float, float]]:
    """Wall-clock seconds and number of parameters of each training, by the name of its run.

    Seconds are those of the epochs that count: an epoch that was begun again after a break is in the log twice.

    Raises
    ------
    UserError
        If a log is damaged.
    """
    folders = [run for place in places if place.is_dir() for run in [*place.glob("runs/*"), place]]
    found = {}
    for folder in folders:
        run, parameters, epochs = "", float("nan"), {}
        for row in read_log(folder):
            run, parameters = row.get("run", run), row.get("parameters", parameters)
            if "seconds" in row and "epoch" in row:
                epochs[row.get("stage"), row["epoch"]] = float(row["seconds"])
        if run:
            found[str(run)] = (sum(epochs.values()) if epochs else float("nan"), float(parameters))
    return found


def choose_subsets(results: Results, subsets: Sequence[str]) -> Results:
    """Only the rows of these subsets, so that systems of one network per subset stand beside the others.

    Raises
    ------
    UserError
        If one is not in the tables.
    """
    frame = results.frame
    for subset in subsets:
        if subset not in set(frame["subset"]):
            raise UserError(f"--subset {subset}: no such rows in these tables; write e.g. --subset t1c+flair")
    return replace(results, frame=frame[frame["subset"].isin(subsets)].reset_index(drop=True))


def _training(trainings: dict[str, tuple[float, float]], run: str) -> tuple[float, float]:
    """Seconds and parameters of a run; of a system of two networks, whose run is named ``first+second``, their sums."""
    if run in trainings:
        return trainings[run]
    parts = [trainings.get(part, (nan, nan)) for part in run.split("+")]
    return sum(seconds for seconds, _ in parts), sum(size for _, size in parts)


def _number(value: float, form: str = "{:.1f}") -> str:
    """A number, or a dash where it is not known."""
    return form.format(value) if value == value else "–"


def _short(region: str) -> str:
    """Short name of a region."""
    return REGION_NAMES.get(region, (region, region))[0]


def _ranking_table(results: Results, trainings: dict[str, tuple[float, float]]) -> str:
    """One row per method, the best mean first: means with intervals, subjects, seeds, parameters, training time."""
    frame, regions = results.frame[results.frame["metric"] == "dice"], region_order(results)
    compared = comparable(results)
    scores = compared_scores(results, compared)
    means = table3(results).loc["mean"]
    rows = []
    for column in column_order(results):
        part = frame[frame["column"] == column]
        runs = sorted(map(str, part["run"].unique()))
        shown = []
        for region in regions:
            interval = mean_interval(scores[region][column].to_numpy()) if column in compared.columns else None
            span = "" if interval is None else f" ({100 * interval.low:.1f} to {100 * interval.high:.1f})"
            shown.append(_number(means[(region, column)]) + span)
        seconds, sizes = zip(*(_training(trainings, run) for run in runs), strict=True)
        total = sum(means[(region, column)] for region in regions)
        row = [
            f"`{column}`",
            *shown,
            str(part["subset"].nunique()),
            str(part[["dataset", "subject"]].drop_duplicates().shape[0]),
            ", ".join(sorted(map(str, part["seed"].unique()))),
            _number(sum(sizes) / len(sizes) / 1e3, "{:.0f} k"),
            _number(sum(seconds) / 60),
        ]
        rows.append((column not in compared.columns, -total, row))
    head = ["method", *(f"{_short(region)} mean (95 %)" for region in regions), "subsets", "n", "seeds", "parameters"]
    ordered = [row for _, _, row in sorted(rows, key=lambda item: item[:2])]
    note = "".join(
        f"\n`{column}` serves {count} subsets: its means are over those, so it stands last and without interval.\n"
        for column, count in compared.left_out.items()
    )
    return markdown_table([*head, "training (min)"], ordered) + note


def _subset_table(results: Results, region: str) -> str:
    """The fifteen rows of one region."""
    wide, counts, columns = table3(results)[region], cells(results), column_order(results)
    rows = []
    for subset in filter(set(results.frame["subset"]).__contains__, subset_order(results)):
        values = [_number(wide.loc[subset, column]) for column in columns]
        n = sorted({int(counts.loc[(subset, region, c), "n"]) for c in columns if (subset, region, c) in counts.index})
        rows.append([*dots(subset, dot_order(results)), *values, "-".join(map(str, n))])
    head = [*map(modality_label, dot_order(results)), *(f"`{column}`" for column in columns), "n"]
    return markdown_table(head, rows, len(dot_order(results)))


def _provenance_table(results: Results, trainings: dict[str, tuple[float, float]]) -> str:
    """One row per run."""
    rows = []
    for entry in provenance(results):
        versions = ", ".join(f"{name} {value}" for name, value in sorted(entry["versions"].items()))
        how = ", ".join(f"{name} {value}" for name, value in sorted(entry["settings"].items()))
        row = [f"`{entry['run']}`", entry["preset"], str(entry["fold"]), str(entry["seed"]), str(entry["subjects"])]
        time = _number(_training(trainings, str(entry["run"]))[0] / 60)
        rows.append([*row, str(entry["seen"]), time, entry["fingerprint"], versions, how])
    head = ["run", "preset", "fold", "seed", "n", "seen in training", "training (min)", "data", "versions", "scored"]
    return markdown_table(head, rows, 2)


def leaderboard_page(
    results: Results,
    trainings: dict[str, tuple[float, float]],
    figure: str,
    *,
    title: str = "Leaderboard",
    preface: str = "",
    floor: str | None = None,
) -> str:
    """The whole page as Markdown.

    Parameters
    ----------
    results : Results
    trainings : dict of str to tuple of float
        Seconds and parameters of each run, from `read_trainings`.
    figure : str
        Where the page finds its figure of means with intervals.
    title : str, default="Leaderboard"
    preface : str, default=""
        Markdown under the title: data, command, machine, date.
    floor : str or None, default=None
        Method that must be among the rows: what no trained network may score below.

    Raises
    ------
    UserError
        If the floor is missing.
    """
    if floor is not None and not (results.frame["method"] == floor).any():
        raise UserError(f"--floor {floor}: no results of it in these tables; evaluate it on the same data")
    stamps = sorted({str(entry["stamp"]) for entry in results.settings if entry.get("stamp")})
    text = [f"# {title}\n", *(f"**{stamp}**\n" for stamp in stamps), preface]
    text += [
        "Mean Dice in per cent over subsets and subjects; an empty prediction of an empty reference counts 100.",
        "Intervals: 95 % bootstrap over the subjects that all methods have. A seed is one training. Training times are",
        "wall-clock minutes from the runs' logs, summed over stages, seeds and, where one network serves one subset,",
        "networks. Made by `anymri report --markdown`.\n",
        _ranking_table(results, trainings),
        f"\n![Means with intervals]({figure})\n",
    ]
    for region in region_order(results):
        text += [f"## {REGION_NAMES.get(region, ('', region))[1]}\n", _subset_table(results, region)]
    text += ["## Runs\n", _provenance_table(results, trainings)]
    return "\n".join(text)


def write_leaderboard(
    places: Sequence[Path],
    out: Path,
    *,
    title: str = "Leaderboard",
    preface: str = "",
    floor: str | None = None,
    subsets: Sequence[str] = (),
) -> Path:
    """Write the page, and its figure beside it as ``.svg``.

    Parameters
    ----------
    places : sequence of Path
        Benchmark folders, run folders or results tables.
    out : Path
    title, preface, floor
        See `leaderboard_page`.
    subsets : sequence of str, default=()
        Rows to compare; empty = all.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    UserError
        If a table cannot be read, a subset or the floor is not in them, or nothing was segmented.
    """
    results = read_results(find_tables(places))
    if not column_order(results):
        raise UserError(f"{out}: no Dice in these tables; give results of methods that segment")
    if subsets:
        results = choose_subsets(results, subsets)
    drawing = out.with_suffix(".svg")
    trainings = read_trainings(places)
    content = leaderboard_page(results, trainings, drawing.name, title=title, preface=preface, floor=floor)
    out.parent.mkdir(parents=True, exist_ok=True)
    scores = compared_scores(results, comparable(results))
    for path, text in ((drawing, standalone(interval_figure(scores))), (out, content)):
        replace_text(path, text)
    return out
