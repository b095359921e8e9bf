"""Write a leaderboard of finished runs: one Markdown page with provenance and one figure.

Usage: ``python tools/leaderboard.py BENCH... -o docs/results/leaderboard-phantom40.md --preface FILE``. Give benchmark
folders (``results/*.parquet`` in them are taken), run folders or results tables. Training times are read from
``log.jsonl`` of run folders.
"""

from __future__ import annotations

import argparse
import json
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
from anymri.benchmark.statistics import mean_interval
from anymri.errors import UserError

#: The row that every table must have: what no trained network may score below.
FLOOR = "threshold"


def find_tables(places: list[Path]) -> list[Path]:
    """Results tables of files, run folders and benchmark folders."""
    found: list[Path] = []
    for place in places:
        if place.is_file():
            found.append(place)
            continue
        own = sorted((place / "results").glob("*.parquet")) or sorted(place.glob("results.parquet"))
        if not own:
            raise UserError(f"{place}: no results table in it; give a results.parquet or the folder of a benchmark")
        found += own
    return found


def read_trainings(places: list[Path]) -> dict[str, tuple[float, float]]:
    """Wall-clock seconds and number of parameters of each training, by the name of its run.

    Seconds are those of the epochs that count: an epoch that was begun again after a break is in the log twice.
    """
    logs = [log for place in places if place.is_dir() for log in [*place.glob("runs/*/log.jsonl"), place / "log.jsonl"]]
    found = {}
    for log in logs:
        run, parameters, epochs = "", float("nan"), {}
        for line in log.read_text(encoding="utf-8").splitlines() if log.is_file() else ():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            run, parameters = row.get("run", run), row.get("parameters", parameters)
            if "seconds" in row and "epoch" in row:
                epochs[row.get("stage"), row["epoch"]] = float(row["seconds"])
        if run:
            found[str(run)] = (sum(epochs.values()) if epochs else float("nan"), float(parameters))
    return found


def choose_subsets(results: Results, subsets: list[str]) -> Results:
    """Only the rows of these subsets, so that systems of one network a subset stand beside the others.

    Raises
    ------
    UserError
        If one is not in the tables.
    """
    frame = results.frame
    for subset in subsets:
        if subset not in set(frame["subset"]):
            raise UserError(f"--subsets {subset}: no such rows in these tables; write e.g. flair,t1c+flair")
    return replace(results, frame=frame[frame["subset"].isin(subsets)].reset_index(drop=True))


def markdown(head: list[str], rows: list[list[str]], left: int = 1) -> str:
    """A Markdown table whose first `left` columns are left-aligned."""
    rule = ["---"] * left + ["---:"] * (len(head) - left)
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, rule, *rows]) + "\n"


def number(value: float, form: str = "{:.1f}") -> str:
    """A number, or a dash where it is not known."""
    return form.format(value) if value == value else "–"


def short(region: str) -> str:
    """Short name of a region."""
    return REGION_NAMES.get(region, (region, region))[0]


def ranking_table(results: Results, trainings: dict[str, tuple[float, float]]) -> str:
    """A row a method, the best mean first: means with intervals, subjects, seeds, parameters, training time."""
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
            shown.append(number(means[(region, column)]) + span)
        seconds, sizes = zip(*(trainings.get(run, (nan, nan)) for run in runs), strict=True)
        total = sum(means[(region, column)] for region in regions)
        row = [
            f"`{column}`",
            *shown,
            str(part["subset"].nunique()),
            str(part[["dataset", "subject"]].drop_duplicates().shape[0]),
            ", ".join(sorted(map(str, part["seed"].unique()))),
            number(sum(sizes) / len(sizes) / 1e3, "{:.0f} k"),
            number(sum(seconds) / 60),
        ]
        rows.append((column not in compared.columns, -total, row))
    head = ["method", *(f"{short(region)} mean (95 %)" for region in regions), "subsets", "n", "seeds", "parameters"]
    ordered = [row for _, _, row in sorted(rows, key=lambda item: item[:2])]
    note = "".join(
        f"\n`{column}` serves {count} subsets: its means are over those, so it stands last and without interval.\n"
        for column, count in compared.left_out.items()
    )
    return markdown([*head, "training (min)"], ordered) + note


def subset_table(results: Results, region: str) -> str:
    """The fifteen rows of one region."""
    wide, counts, columns = table3(results)[region], cells(results), column_order(results)
    rows = []
    for subset in filter(set(results.frame["subset"]).__contains__, subset_order(results)):
        values = [number(wide.loc[subset, column]) for column in columns]
        n = sorted({int(counts.loc[(subset, region, c), "n"]) for c in columns if (subset, region, c) in counts.index})
        rows.append([*dots(subset, dot_order(results)), *values, "-".join(map(str, n))])
    head = [*map(modality_label, dot_order(results)), *(f"`{column}`" for column in columns), "n"]
    return markdown(head, rows, len(dot_order(results)))


def provenance_table(results: Results, trainings: dict[str, tuple[float, float]]) -> str:
    """A row a run."""
    rows = []
    for entry in provenance(results):
        versions = ", ".join(f"{name} {value}" for name, value in sorted(entry["versions"].items()))
        how = ", ".join(f"{name} {value}" for name, value in sorted(entry["settings"].items()))
        row = [f"`{entry['run']}`", entry["preset"], str(entry["fold"]), str(entry["seed"]), str(entry["subjects"])]
        time = number(trainings.get(str(entry["run"]), (nan, nan))[0] / 60)
        rows.append([*row, str(entry["seen"]), time, entry["fingerprint"], versions, how])
    head = ["run", "preset", "fold", "seed", "n", "seen in training", "training (min)", "data", "versions", "scored"]
    return markdown(head, rows, 2)


def page(results: Results, trainings: dict[str, tuple[float, float]], title: str, preface: str, figure: str) -> str:
    """The whole page.

    Raises
    ------
    UserError
        If the floor is missing.
    """
    if not (results.frame["method"] == FLOOR).any():
        raise UserError(f"leaderboard: no results of {FLOOR!r}, a row of every table; evaluate it on the same data")
    stamps = sorted({str(entry["stamp"]) for entry in results.settings if entry.get("stamp")})
    text = [f"# {title}\n", *(f"**{stamp}**\n" for stamp in stamps), preface]
    text += [
        "Mean Dice in per cent over subsets and subjects; an empty prediction of an empty reference counts 100.",
        "Intervals: 95 % bootstrap over the subjects that all methods have. A seed is one training. Training times are",
        "wall-clock minutes from the runs' logs, summed over stages, seeds and, where one network serves one subset,",
        "networks. Made by `tools/leaderboard.py`.\n",
        ranking_table(results, trainings),
        f"\n![Means with intervals]({figure})\n",
    ]
    for region in region_order(results):
        text += [f"## {REGION_NAMES.get(region, ('', region))[1]}\n", subset_table(results, region)]
    text += ["## Runs\n", provenance_table(results, trainings)]
    return "\n".join(text)


def main() -> None:
    """Write the page and its figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("places", nargs="+", type=Path, help="benchmark folders, run folders or results tables")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/results/leaderboard-phantom40.md"))
    parser.add_argument("--title", default="Leaderboard on phantom40")
    parser.add_argument("--subsets", help="rows to compare, e.g. flair,t1c+flair; default: all")
    parser.add_argument("--preface", type=Path, help="Markdown under the title: data, command, machine, date")
    arguments = parser.parse_args()
    try:
        results = read_results(find_tables(arguments.places))
        if arguments.subsets:
            results = choose_subsets(results, arguments.subsets.split(","))
        preface = arguments.preface.read_text(encoding="utf-8") if arguments.preface else ""
        drawing = arguments.output.with_suffix(".svg")
        content = page(results, read_trainings(arguments.places), arguments.title, preface, drawing.name)
    except UserError as error:
        raise SystemExit(str(error)) from None
    scores = compared_scores(results, comparable(results))
    drawing.write_text(standalone(interval_figure(scores)), encoding="utf-8")
    arguments.output.write_text(content, encoding="utf-8")
    print(f"wrote {arguments.output} and {drawing.name}")


if __name__ == "__main__":
    main()
