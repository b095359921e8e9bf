"""Verb volumes, and what `anymri predict --batch` says: many results in one table and one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anymri.cli.options import Json, say, writes
from anymri.errors import UserError

if TYPE_CHECKING:
    from anymri.inference.batch.run import BatchOutcome
    from anymri.inference.batch.table import StudyRow

__all__ = ["say_batch", "volumes"]

Folders = Annotated[
    list[Path], typer.Argument(help="Folders of batches or of results; shards in folders of their own are joined.")
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Where table and page go; default: the folder, if it is one.")
]


@writes("output")
def volumes(
    folders: Folders,
    output: Output = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print the table as it is in volumes.csv.")] = False,
    as_json: Json = False,
) -> None:
    """Make table and page of finished results (volumes.csv, index.html) anew, join those of several folders, print it.

    Example: anymri volumes shard1 shard2 shard3 -o all
    """
    from anymri.inference.batch.output import write_overview
    from anymri.inference.batch.table import read_rows, table_text

    if len(folders) > 1 and output is None:
        raise UserError(f"{len(folders)} folders: nothing says where their common table goes; give -o FOLDER")
    place = output or folders[0]
    if output is None and (place / "report.html").is_file():
        raise UserError(f"{place}: is the result of one study; give the folder above, or -o FOLDER")
    table, page = write_overview(folders, place)
    rows = read_rows(folders)
    if csv and not as_json:
        typer.echo(table_text(rows, place), nl=False)
        return
    values = {"table": table, "page": page, "studies": [row.values for row in rows]}
    say(as_json, values, "\n".join([*_lines(rows), f"wrote {table} and {page}"]))


def say_batch(outcome: BatchOutcome, *, as_json: bool) -> None:
    """Print what became of a batch.

    Raises
    ------
    typer.Exit
        With code 1 if a study failed.
    """
    counts = {"done": len(outcome.done), "finished before": len(outcome.kept), "failed": len(outcome.failed)}
    told = ", ".join(f"{count} {name}" for name, count in counts.items() if count or name == "done")
    facts = {"table": outcome.table, "page": outcome.page, "done": outcome.done, "kept": outcome.kept}
    text = f"{told}\nwrote {outcome.table} and {outcome.page}"
    say(as_json, facts | {"failed": outcome.failed}, text)
    if outcome.failed:
        raise typer.Exit(1)


def _lines(rows: list[StudyRow]) -> list[str]:
    """The table for the terminal: id, sequences, volumes, number of warnings."""
    from anymri.inference.batch.table import columns

    regions = [name for name in columns(rows) if name.endswith("_ml")]
    header = [
        "study",
        "sequences",
        *(name.removesuffix("_ml").replace("_", " ") + " (ml)" for name in regions),
        "warnings",
    ]
    cells = [header]
    for row in rows:
        if row.status == "done":
            volumes = [_number(row.values.get(name), name in row.values) for name in regions]
            cells.append([row.study, str(row.values["sequences"]), *volumes, str(len(row.warnings))])
    widths = [max(len(line[place]) for line in cells) for place in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    return [*lines, *(f"failed: {row.study}: {row.values['reason']}" for row in rows if row.status != "done")]


def _number(value: object, known: bool) -> str:
    if isinstance(value, (int, float)):
        return f"{value:.1f}"
    return "unknown" if known else "-"
