"""Subject page: named columns in the fifteen rows, subject by subject, and enhancing tumour one by one, as Markdown.

For the few real studies of one's own, where a mean hides more than it says; `anymri report --markdown --column`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anymri.benchmark.report.tables import REGION_NAMES, TABLE3_DOTS, TABLE3_ORDER
from anymri.benchmark.report.text_tables import markdown_table
from anymri.errors import UserError
from anymri.evaluation.baselines import BASELINES
from anymri.evaluation.results import read_table
from anymri.files import replace_file
from anymri.types import GLIOMA

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["read_columns", "subject_page", "write_subject_page"]

PAGE_NOTE = (
    "\n*Dice in per cent; an empty prediction of an empty reference counts 100. "
    "Made by `anymri report --markdown --column`.*\n"
)


def read_columns(columns: Sequence[str]) -> pd.DataFrame:
    """Dice of all tables, each row with the name of its column.

    Parameters
    ----------
    columns : sequence of str
        ``NAME=TABLES``, the tables a file name or a pattern such as ``work/fold*.parquet``; one file may serve several
        columns.

    Raises
    ------
    UserError
        If there is no such table, or its sequences are not T1, T1c, T2 and FLAIR.
    """
    import pandas as pd

    frames = []
    for column in columns:
        name, sign, pattern = column.partition("=")
        if not name or not sign or not pattern:
            raise UserError(f"--column {column}: not of the form NAME=TABLES; write e.g. --column unet='fold*.parquet'")
        files = sorted(Path(pattern).parent.glob(Path(pattern).name))
        if not files:
            raise UserError(f"--column {column}: no such table; give a results.parquet or a pattern of several")
        for file in files:
            frame, settings = read_table(file)
            if set(settings.get("modalities", GLIOMA.modalities)) != set(GLIOMA.modalities):
                raise UserError(f"{file}: is not of T1, T1c, T2 and FLAIR; leave --column out for the page of any data")
            frames.append(frame.assign(column=name))
    table = pd.concat(frames, ignore_index=True)
    return table[(table["metric"] == "dice") & ~table["method"].isin(BASELINES)]


def _subsets_table(frame: pd.DataFrame, names: Sequence[str], regions: Sequence[str]) -> str:
    """The rows of the review's Table 3: mean over subjects, then plain means over rows."""
    mean = frame.groupby(["subset", "target", "column"], observed=True).value.mean()
    value = lambda subset, region, name: mean.get((subset, region, name), float("nan"))  # noqa: E731
    order = [GLIOMA.subset_name(GLIOMA.parse_subset(name)) for name in TABLE3_ORDER]
    header = [
        *(code.upper() for code in TABLE3_DOTS),
        *(f"{REGION_NAMES[r][0]} {name}" for r in regions for name in names),
    ]
    rows = []
    for subset in order:
        dots = ["●" if code in subset.split("+") else "○" for code in TABLE3_DOTS]
        rows.append([*dots, *(f"{100 * value(subset, r, name):.1f}" for r in regions for name in names)])
    with_flair = [subset for subset in order if "flair" in subset.split("+")]
    for label, chosen in (("mean of 15", order), ("mean of 8 with FLAIR", with_flair)):
        means = [sum(value(s, r, name) for s in chosen) / len(chosen) for r in regions for name in names]
        rows.append([f"**{label}**", *[""] * (len(TABLE3_DOTS) - 1), *(f"**{100 * m:.1f}**" for m in means)])
    return markdown_table(header, rows, left=len(header))


def _subjects_table(frame: pd.DataFrame, names: Sequence[str], regions: Sequence[str]) -> str:
    """Each subject's mean over its subsets."""
    mean = frame.groupby(["subject", "target", "column"], observed=True).value.mean()
    rows = []
    for subject in sorted(frame.subject.astype(str).unique()):
        cells = [f"{100 * mean.get((subject, r, name), float('nan')):.1f}" for r in regions for name in names]
        rows.append([subject, *cells])
    header = ["subject", *(f"{REGION_NAMES[r][0]} {name}" for r in regions for name in names)]
    return markdown_table(header, rows, left=len(header))


def _enhancing_table(frame: pd.DataFrame, names: Sequence[str]) -> str:
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
    return markdown_table(header, rows, left=len(header))


def subject_page(
    frame: pd.DataFrame, regions: Sequence[str] | None = None, *, title: str = "Results", preface: str = ""
) -> str:
    """The whole page as Markdown.

    Parameters
    ----------
    frame : DataFrame
        From `read_columns`.
    regions : sequence of str or None, default=None
        Columns of the tables by subset and by subject; None = all three. Enhancing tumour always has its list.
    title : str, default="Results"
    preface : str, default=""
        Markdown under the title: data, command, seed, machine, date.

    Raises
    ------
    UserError
        If a region is unknown.
    """
    regions = tuple(REGION_NAMES) if regions is None else regions
    for region in regions:
        if region not in REGION_NAMES:
            raise UserError(f"--region {region}: unknown; choose of {', '.join(REGION_NAMES)}")
    names = list(dict.fromkeys(frame["column"]))
    text = [f"# {title}\n", preface]
    seen = frame[frame.seen_in_training].groupby("column", observed=True).subject.nunique()
    text += [f"**Seen in training:** {name}, {count} subjects.\n" for name, count in seen.items()]
    text += ["## By subset\n", f"n = {frame.subject.nunique()} subjects in every cell.\n"]
    text += [_subsets_table(frame, names, regions), PAGE_NOTE]
    text += ["## By subject\n", _subjects_table(frame, names, regions)]
    text += ["\n## Enhancing tumour, one by one\n", _enhancing_table(frame, names)]
    return "\n".join(text)


def write_subject_page(
    columns: Sequence[str],
    out: Path,
    *,
    regions: Sequence[str] | None = None,
    title: str = "Results",
    preface: str = "",
) -> Path:
    """Write `subject_page` of `read_columns`, whole or not at all; gives `out`."""
    content = subject_page(read_columns(columns), regions, title=title, preface=preface)
    out.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(out) as file:
        file.write(content.encode())
    return out
