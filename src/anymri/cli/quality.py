"""Verb quality: which sequences of a study or cohort are usable, without predicting."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anymri.cli.options import Json, Quiet, say, writes
from anymri.errors import UserError

if TYPE_CHECKING:
    from anymri.inference.trust.quality.cohort import Judged


@writes("output")
def quality(
    studies: Annotated[
        Path, typer.Argument(help="A study, a folder of studies, a BIDS data set, or a table of `anymri index`.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="HTML page to write.")] = Path("quality.html"),
    dataset: Annotated[
        str | None, typer.Option("--dataset", "-d", help="Layout, see `anymri datasets`; default: found out.")
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="The images are as the scanner made them: heads.")] = False,
    session: Annotated[
        str | None, typer.Option("--session", "--study", help="Which of several sessions or DICOM studies.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier page.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Judge the quality of every sequence: motion, noise, ghosting, coverage and more, each from 0 to 1.

    Nothing is predicted. The page shows every sequence with its numbers, the most doubtful first.

    Example: anymri quality cohort -o quality.html
    """
    from anymri.data.raw.study import RawOptions
    from anymri.files import replace_text
    from anymri.inference.output.quality_page import quality_page
    from anymri.inference.trust.quality.cohort import find_studies, judge_studies, order_by_doubt
    from anymri.progress import progress_bar

    if output.exists() and not overwrite:
        raise UserError(f"{output}: exists; choose another file or pass --overwrite")
    found = find_studies(studies, dataset, session)
    judged = []
    with progress_bar("quality", len(found), not (quiet or as_json)) as bar:
        for study in judge_studies(found, studies, RawOptions() if raw else None, session):
            judged.append(study)
            bar.advance()
    if all(study.quality is None for study in judged):
        more = f" ({len(judged)} studies, none could be read)" if len(judged) > 1 else ""
        raise UserError(f"{judged[0].error}{more}")
    judged = order_by_doubt(judged)
    replace_text(output, quality_page(judged, studies.resolve().name))
    if as_json:
        say(True, {"page": output, "studies": {study.name: _facts(study) for study in judged}}, "")
        return
    _print_table(judged)
    typer.echo(f"wrote {output}")


def _facts(study: Judged) -> dict[str, Any]:
    if study.quality is None:
        return {"error": study.error}
    facts = study.quality.facts()
    sequences = {code: {**row, "picture": None} for code, row in facts["sequences"].items()}
    return {"sequences": sequences, "warnings": study.quality.sentences}


def _print_table(judged: list[Judged]) -> None:
    """Table of all sequences; below it what else was noticed."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from anymri.inference.trust.quality import ARTIFACTS
    from anymri.modalities import MODALITIES

    table = Table("study", "sequence", "verdict", "strongest artifacts, 0 to 1", box=None, pad_edge=False)
    for study in judged:
        if study.quality is None:
            table.add_row(Text(study.name), "", Text("not read", "red"), Text(study.error))
            continue
        for row in study.quality.rows():
            found = study.quality.sequences[row["code"]]
            values = sorted(((v, k) for k, v in found.severity.items() if v is not None), reverse=True)[:3]
            style = {"usable": "", "doubtful": "yellow", "unusable": "red"}[found.verdict]
            numbers = ", ".join(f"{ARTIFACTS[name]} {value:.2f}" for value, name in values) or "not judged"
            table.add_row(
                Text(study.name), MODALITIES[row["code"]].short_name, Text(found.verdict, style), Text(numbers)
            )
    Console(highlight=False).print(table)
    for study in judged:
        for sentence in study.quality.remarks if study.quality else []:
            typer.echo(f"warning: {study.name}: {sentence}", err=True)
