"""Write a results page in Markdown: the fifteen rows, their means, each subject, and enhancing tumour one by one.

Usage: ``python tools/results_page.py OUT.md --title TITLE --preface FILE --column NAME=FOLDER/PATTERN ...``
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from anymri.benchmark.report.tables import TABLE3_DOTS, TABLE3_ORDER
from anymri.types import GLIOMA

SHORT = {"whole_tumor": "WT", "tumor_core": "TC", "enhancing_tumor": "ET"}
PAGE_NOTE = (
    "\n*Dice in per cent; an empty prediction of an empty reference counts 100. Made by `tools/results_page.py`.*\n"
)


def read(columns: list[str]) -> pd.DataFrame:
    """All tables with the column's name; one file may serve several columns."""
    frames = []
    for column in columns:
        name, _, pattern = column.partition("=")
        files = sorted(Path(pattern).parent.glob(Path(pattern).name))
        if not files:
            raise SystemExit(f"{pattern}: no such table")
        frames += [pd.read_parquet(file).assign(column=name) for file in files]
    frame = pd.concat(frames, ignore_index=True)
    return frame[~frame.method.isin(["copy_best_available", "linear_regression"])]


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def subsets_table(frame: pd.DataFrame, names: list[str], regions: list[str]) -> str:
    """The rows of the review's Table 3: mean over subjects, then plain means over rows."""
    mean = frame.groupby(["subset", "target", "column"], observed=True).value.mean()
    value = lambda subset, region, name: mean.get((subset, region, name), float("nan"))  # noqa: E731
    order = [GLIOMA.subset_name(GLIOMA.parse_subset(name)) for name in TABLE3_ORDER]
    header = [*(code.upper() for code in TABLE3_DOTS), *(f"{SHORT[r]} {name}" for r in regions for name in names)]
    rows = []
    for subset in order:
        dots = ["●" if code in subset.split("+") else "○" for code in TABLE3_DOTS]
        rows.append([*dots, *(f"{100 * value(subset, r, name):.1f}" for r in regions for name in names)])
    with_flair = [subset for subset in order if "flair" in subset.split("+")]
    for label, chosen in (("mean of 15", order), ("mean of 8 with FLAIR", with_flair)):
        means = [sum(value(s, r, name) for s in chosen) / len(chosen) for r in regions for name in names]
        rows.append([f"**{label}**", *[""] * (len(TABLE3_DOTS) - 1), *(f"**{100 * m:.1f}**" for m in means)])
    return markdown(header, rows)


def subjects_table(frame: pd.DataFrame, names: list[str], regions: list[str]) -> str:
    """Each subject's mean over its subsets."""
    mean = frame.groupby(["subject", "target", "column"], observed=True).value.mean()
    rows = []
    for subject in sorted(frame.subject.astype(str).unique()):
        cells = [f"{100 * mean.get((subject, r, name), float('nan')):.1f}" for r in regions for name in names]
        rows.append([subject, *cells])
    return markdown(["subject", *(f"{SHORT[r]} {name}" for r in regions for name in names)], rows)


def enhancing_table(frame: pd.DataFrame, names: list[str]) -> str:
    """Enhancing tumour, subject by subject: all sequences, the 8 subsets with T1c, the 7 without."""
    part = frame[frame.target == "enhancing_tumor"]
    has = part.subset.astype(str).str.split("+").map(lambda codes: "t1c" in codes)
    rows = []
    for subject in sorted(part.subject.astype(str).unique()):
        one = part[part.subject == subject]
        row = [subject, "yes" if bool(one.reference_empty.any()) else "no"]
        for name in names:
            mine, flag = one[one.column == name], has[one.index[one.column == name]]
            full = mine[mine.subset == "+".join(GLIOMA.modalities)].value.mean()
            row += [f"{100 * v:.1f}" for v in (full, mine[flag].value.mean(), mine[~flag].value.mean())]
        rows.append(row)
    header = ["subject", "no ET in reference"]
    header += [f"{name}: {what}" for name in names for what in ("all four", "with T1c", "without")]
    return markdown(header, rows)


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--title", required=True)
    parser.add_argument("--preface", type=Path, help="Markdown put under the title: data, command, seed, machine, date")
    parser.add_argument("--column", action="append", required=True, help="NAME=GLOB of results tables; repeatable")
    parser.add_argument("--enhancing", choices=["mean", "list"], default="mean", help="ET as a column or as a list")
    arguments = parser.parse_args()
    table = read(arguments.column)
    frame = table[table.metric == "dice"]
    names = [column.partition("=")[0] for column in arguments.column]
    regions = ["whole_tumor", "tumor_core"] + (["enhancing_tumor"] if arguments.enhancing == "mean" else [])
    text = [f"# {arguments.title}\n", arguments.preface.read_text(encoding="utf-8") if arguments.preface else ""]
    seen = frame[frame.seen_in_training].groupby("column", observed=True).subject.nunique()
    text += [f"**Seen in training:** {name}, {count} subjects.\n" for name, count in seen.items()]
    text += ["## By subset\n", f"n = {frame.subject.nunique()} subjects in every cell.\n"]
    text += [subsets_table(frame, names, regions), PAGE_NOTE, "## By subject\n", subjects_table(frame, names, regions)]
    text += ["\n## Enhancing tumour, one by one\n", enhancing_table(frame, names)]
    arguments.out.write_text("\n".join(text), encoding="utf-8")


if __name__ == "__main__":
    main()
