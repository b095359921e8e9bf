"""Overview of a batch: ``volumes.csv`` and ``index.html``, made from what the studies left, at any time anew."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from anymri.errors import UserError
from anymri.files import RefusedWrite, replace_text
from anymri.inference.batch.page import index_page
from anymri.inference.batch.table import read_rows, table_text
from anymri.locks import one_writer

__all__ = ["write_overview"]

#: How long to wait for another shard that is just writing the overview, in seconds.
_PATIENCE_S = 120.0


def write_overview(outs: Sequence[Path], out: Path) -> tuple[Path, Path]:
    """Write the table and the page of many results.

    Parameters
    ----------
    outs : sequence of Path
        See `anymri.inference.batch.table.read_rows`.
    out : Path
        Folder to write them to.

    Returns
    -------
    tuple of Path
        ``volumes.csv`` and ``index.html``.

    Raises
    ------
    UserError
        If there is no result, or the place cannot be written.
    """
    for place in outs:
        if not place.is_dir():
            raise UserError(
                f"{place}: {'is no folder' if place.exists() else 'does not exist'}; give a folder of results"
            )
    table, page = out / "volumes.csv", out / "index.html"
    with _in_turn(table):  # what is read while the place is ours holds all that others wrote before
        rows = read_rows(outs)
        replace_text(table, table_text(rows, out))
        replace_text(page, index_page(rows, out))
    return table, page


@contextmanager
def _in_turn(table: Path) -> Iterator[None]:
    """Lock the table, after others have done with it."""
    end = time.monotonic() + _PATIENCE_S
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(one_writer(table))
                break
            except RefusedWrite:
                raise
            except UserError:
                if time.monotonic() > end:
                    raise
        yield
