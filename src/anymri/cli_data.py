"""Verbs of the command that prepare data: keep a cache in order, plan a training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anymri.cli_options import Json, say
from anymri.errors import UserError


def cache(
    folder: Annotated[Path, typer.Argument(help="Folder written by `anymri preprocess`.")],
    clean: Annotated[bool, typer.Option("--clean", help="Remove what is damaged, unfinished or not listed.")] = False,
    subjects: Annotated[
        Path | None, typer.Option("--subjects", help="Table of subjects; others in the cache count as not listed.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare every byte of a cache with its checksums, and clean it; not while it is being written.

    Example: anymri cache cache --clean --subjects subjects.csv
    """
    from anymri.data.cleaning import check_cache, clean_cache
    from anymri.data.index import read_subjects

    listed = None if subjects is None else [s.subject_id for s in read_subjects(subjects, check_files=False)]
    state = (clean_cache if clean else check_cache)(folder, listed)
    for reason in state.damaged.values():
        typer.echo(f"damaged: {reason}", err=True)
    values = {
        "subjects": state.subjects, "bytes": state.bytes, "damaged": state.damaged, "not_listed": state.unknown,
        "leftovers": [path.name for path in state.leftovers], "removed": clean,
    }  # fmt: skip
    say(
        as_json,
        values,
        f"{state.subjects} whole, {len(state.damaged)} damaged, {len(state.unknown)} not listed, "
        f"{len(state.leftovers)} left-over files{' (all of these removed)' if clean else ''}: "
        f"{folder}, {state.bytes / 2**20:.0f} MiB",
    )
    if state.damaged and not clean:
        raise UserError(f"{folder}: {len(state.damaged)} subjects are damaged; remove them with --clean and preprocess")
