"""Progress bars on standard error: the one place that draws them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Bar", "progress_bar"]


class Bar:
    """A running bar; see `progress_bar`."""

    def __init__(self, progress: Any, task: Any, shown: bool) -> None:
        self._progress, self._task, self._shown = progress, task, shown

    def advance(self, title: str | None = None, note: str | None = None) -> None:
        """One step more; new texts replace the old ones."""
        changes = {key: text for key, text in (("description", title), ("note", note)) if text is not None}
        self._progress.update(self._task, advance=1, **changes)

    def say(self, text: str) -> None:
        """Print a line above the bar; nothing if bars are not shown."""
        if self._shown:
            self._progress.console.print(text, highlight=False, markup=False)


@contextmanager
def progress_bar(
    title: str,
    total: int,
    shown: bool,
    *,
    done: int = 0,
    note: str = "",
    time_left: bool = True,
    transient: bool = True,
) -> Iterator[Bar]:
    """Show a bar on standard error while the block runs; standard output is left to results.

    Parameters
    ----------
    title : str
    total, done : int
        Steps in all, and those already behind.
    shown : bool
        False draws nothing.
    note : str, default=""
        Text behind the count.
    time_left : bool, default=True
        Whether to estimate the remaining time from the pace of the steps.
    transient : bool, default=True
        Whether the bar vanishes at the end.

    Yields
    ------
    Bar
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    texts = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}")]
    columns: list[Any] = [*texts, *([TimeRemainingColumn()] if time_left else [])]
    console = Console(stderr=True)
    with Progress(*columns, console=console, refresh_per_second=4, transient=transient, disable=not shown) as progress:
        yield Bar(progress, progress.add_task(title, total=total, completed=done, note=note), shown)
