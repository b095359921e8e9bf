"""The report's tables as Markdown, LaTeX (booktabs) and CSV, with n everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anymri.benchmark.report.columns import Making, column_heads, column_makings, making_notes
from anymri.benchmark.report.further_metrics import further_sections
from anymri.benchmark.report.tables import (
    BASELINES,
    REGION_NAMES,
    Results,
    cells,
    column_order,
    dot_order,
    dots,
    modality_label,
    read_results,
    region_order,
    subset_order,
    synthesis_table,
    table3,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["dice_csv", "markdown_table", "synthesis_csv", "to_latex", "to_markdown"]

#: Columns of the completion table, with unit, and their digits.
MEASURES = {"psnr": ("PSNR (dB)", 2), "gain": ("gain (dB)", 2), "ssim": ("SSIM", 3), "mae": ("MAE (z)", 3)}
DOWNSTREAM = "Dice in per cent of a frozen segmenter on the completed studies"
SEEN = "**seen**: the model was trained on subjects of this cell; the number says nothing about new ones."


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A Markdown table with `left` left-aligned columns, the others right-aligned."""
    rule = ["---"] * left + ["---:"] * (len(head) - left)
    return "\n".join("| " + " | ".join(row) + " |" for row in [list(head), rule, *rows]) + "\n"


# --------------------------------------------------------------------------------------------------------------
# Markdown
# --------------------------------------------------------------------------------------------------------------


def to_markdown(results: Results | Sequence[Path], metric: str = "dice") -> str:
    """All tables as Markdown: the rows of the review's Table 3, completion, and how the columns were made.

    Parameters
    ----------
    results : Results or sequence of Path
    metric : str, default="dice"
        Of the first table.
    """
    results = results if isinstance(results, Results) else read_results(results)
    parts = [_dice_markdown(results, metric)] if column_order(results, metric) else []
    rows = _synthesis_rows(results)
    if rows:
        head = ["Sequence", "Method", *(title for title, _ in MEASURES.values()), "n subjects", "n images"]
        parts.append("Completion of missing sequences:\n\n" + markdown_table(head, rows, left=2))
    if column_order(results, "downstream_dice"):
        parts.append(f"{DOWNSTREAM}:\n\n{_dice_markdown(results, 'downstream_dice')}")
    for section in further_sections(results):
        parts.append(f"{section['title']}:\n\n{markdown_table(section['head'], section['rows'], left=2)}")
    return "\n".join([*parts, *(f"{note}\n" for note in making_notes(results))])


def _dice_markdown(results: Results, metric: str) -> str:
    table, counts, modalities = table3(results, metric), cells(results, metric), dot_order(results)
    names, makings = column_heads(results), column_makings(results)
    heads = [f"{REGION_NAMES.get(region, (region,))[0]} {names[column]}" for region, column in table.columns]
    lines = [
        "| " + " | ".join([*map(modality_label, modalities), *heads]) + " |",
        "|" + ":-:|" * len(modalities) + "--:|" * len(heads),
    ]
    for subset in table.index:
        first = ["**Mean**", *[""] * (len(modalities) - 1)] if subset == "mean" else dots(subset, modalities)
        row = [_cell_text(table, counts, subset, region, column) for region, column in table.columns]
        lines.append("| " + " | ".join([*first, *row]) + " |")
    if any(making.subjects for making in makings.values()):
        trained = [makings[column].trained_on for _, column in table.columns]
        lines.append("| " + " | ".join(["Training n", *[""] * (len(modalities) - 1), *trained]) + " |")
    if (counts["seen"] > 0).any():
        lines += ["", SEEN]
    return "\n".join(lines) + "\n"


def _cell_text(table: pd.DataFrame, counts: pd.DataFrame, subset: str, region: str, column: str) -> str:
    """``85.4 (n 10)``, with the number of subjects without the region and a mark if trained on."""
    value = table.loc[subset, (region, column)]
    if value != value:
        return "–"
    if subset == "mean":
        known = int(table[(region, column)].drop("mean").notna().sum())
        return f"**{value:.1f}**" + (f" (of {known} rows)" if known < len(table) - 1 else "")
    cell = counts.loc[(subset, region, column)]
    short = REGION_NAMES.get(region, (region, region))[0]
    free = f", {int(cell['empty'])} {short}-free" if region == "enhancing_tumor" or cell["empty"] else ""
    return f"{value:.1f} (n {int(cell['n'])}{free}{', seen' if cell['seen'] else ''})"


def _synthesis_rows(results: Results) -> list[list[str]]:
    """Rows of the completion table: sequence, method, measures, subjects, images (subjects times subsets)."""
    methods = dict(results.frame[["column", "method"]].drop_duplicates().itertuples(index=False, name=None))
    names, rows = column_heads(results), []
    for (target, column), row in synthesis_table(results).iterrows():
        label = names[column] + (" (baseline)" if methods[column] in BASELINES else "")
        label += " (seen)" if row["seen"] else ""
        values = ["" if key == "gain" and methods[column] in BASELINES else row[key] for key in MEASURES]
        texts = [
            value if value == "" else "–" if value != value else f"{value:.{digits}f}"
            for value, (_, digits) in zip(values, MEASURES.values(), strict=True)
        ]
        rows.append([modality_label(str(target)), label, *texts, str(int(row["subjects"])), str(int(row["pairs"]))])
    return rows


# --------------------------------------------------------------------------------------------------------------
# LaTeX
# --------------------------------------------------------------------------------------------------------------


def to_latex(results: Results) -> str:
    r"""The rows of the review's Table 3, one LaTeX table per region (package booktabs), Dice in per cent; completion.

    The largest value of each row is bold; values that are equal as printed are all bold. The last column is the number
    of subjects of the row; a cell with fewer says its own in small type.
    """
    values, counts, heads = table3(results), cells(results), column_heads(results)
    makings = column_makings(results)
    blocks = [
        f"% {REGION_NAMES.get(region, (region, region))[1]}, Dice in per cent; n: subjects\n"
        + _dice_latex(values[region], counts.xs(region, level="target"), dot_order(results), heads, makings)
        for region in region_order(results)
    ]
    rows = _synthesis_rows(results)
    if rows:
        titles = ["Sequence", "Method", *(title for title, _ in MEASURES.values()), "$n$ subjects", "$n$ images"]
        lines = [r"\begin{tabular}{llrrrrrr}", r"\toprule", _latex_row(titles, []), r"\midrule"]
        lines += [_latex_row([_escape(text) for text in row], []) for row in rows]
        blocks.append("% Completion of missing sequences\n" + _close(lines))
    notes = "".join(f"% {note}\n" for note in making_notes(results))
    return "\n".join([*blocks, *([notes] if notes else [])])


def _dice_latex(
    part: pd.DataFrame,
    counts: pd.DataFrame,
    modalities: Sequence[str],
    heads: dict[str, str],
    makings: dict[str, Making],
) -> str:
    titles = [*(_escape(heads[name]) for name in part.columns), "$n$"]
    label = rf"\multicolumn{{{len(modalities)}}}{{l}}"
    lines = [
        rf"\begin{{tabular}}{{{'c' * len(modalities)}{'r' * len(titles)}}}",
        r"\toprule",
        _latex_row([modality_label(code) for code in modalities], titles),
        r"\midrule",
    ]
    for subset, row in part.iterrows():
        if subset == "mean":
            lines += [r"\midrule", _latex_row([label + "{Mean}"], [*_bold_best(row.to_list()), ""])]
            continue
        first = [{"●": r"$\bullet$", "○": r"$\circ$"}[dot] for dot in dots(str(subset), modalities)]
        n = [int(counts["n"].get((subset, column), 0)) for column in part.columns]
        fewer = [rf" {{\scriptsize ({one})}}" if 0 < one < max(n) else "" for one in n]
        texts = [text + small for text, small in zip(_bold_best(row.to_list()), fewer, strict=True)]
        lines.append(_latex_row(first, [*texts, str(max(n))]))
    if any(makings[column].subjects for column in part.columns):
        trained = [makings[column].trained_on.replace("–", "--") for column in part.columns]
        lines.append(_latex_row([label + "{Training $n$}"], [*trained, ""]))
    return _close(lines)


def _close(lines: list[str]) -> str:
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _latex_row(first: Sequence[str], rest: Sequence[str]) -> str:
    return " & ".join([*first, *rest]) + r" \\"


def _bold_best(values: Sequence[float]) -> list[str]:
    printed = ["--" if value != value else f"{value:.1f}" for value in values]
    best = max((float(text) for text in printed if text != "--"), default=None)
    return [rf"\textbf{{{text}}}" if text != "--" and float(text) == best else text for text in printed]


def _escape(text: str) -> str:
    for sign in "_%&#":
        text = text.replace(sign, "\\" + sign)
    return text.replace("–", "--")


# --------------------------------------------------------------------------------------------------------------
# CSV
# --------------------------------------------------------------------------------------------------------------


def dice_csv(results: Results) -> str:
    """The Dice table in long form, for a spreadsheet: one line per subset, region and method."""
    counts = cells(results).reset_index()
    order = {subset: i for i, subset in enumerate(subset_order(results))}
    counts = counts.sort_values(
        ["target", "column", "subset"], key=lambda c: c.astype(str).map(order) if c.name == "subset" else c
    )
    counts["mean"] = counts["mean"].round(6)
    named = {"target": "region", "column": "method", "mean": "dice", "n": "subjects", "empty": "region_free_subjects"}
    return _csv(results, counts.rename(columns={**named, "seen": "seen_in_training"}))


def synthesis_csv(results: Results) -> str:
    """The completion table: one line per sequence and method."""
    table = synthesis_table(results).reset_index().round(6)
    named = {"target": "sequence", "column": "method", "gain": "psnr_gain", "pairs": "images", "seen": "seen_images"}
    return _csv(results, table.rename(columns=named))


def _csv(results: Results, table: pd.DataFrame) -> str:
    """With what is known of the making of each column."""
    makings = column_makings(results)
    columns = table["method"].astype(str)
    table["training_subjects"] = [makings[name].trained_on.replace("–", "") for name in columns]
    table["training_dropped"] = [makings[name].dropped for name in columns]
    table["code"] = [makings[name].code for name in columns]
    return str(table.to_csv(index=False, lineterminator="\n"))
