"""State of a plan: what is done, by the code that is here now or by other code, and how long the rest takes.

What other code made is marked or made anew, never passed off as new.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Literal

from anymri.benchmark.origin import origin
from anymri.benchmark.plan import Cell, run_path, table_path
from anymri.evaluation.results import parts_folder, read_settings
from anymri.methods import get_method
from anymri.training.code import training_code
from anymri.training.preparation import made_by_other_code
from anymri.types import UserError

__all__ = [
    "CellState",
    "cell_state",
    "describe_cells",
    "describe_time",
    "is_waiting",
    "run_is_stale",
]

CellState = Literal["waiting", "begun", "done", "training", "scoring"]

#: Why a cell is made anew, for people.
ANEW = {
    "begun": "their training was begun by other code",
    "training": "other code trained them",
    "scoring": "other code scored them",
}


def cell_state(cell: Cell, out: Path) -> CellState:
    """Whether a cell is done.

    Returns
    -------
    {"waiting", "begun", "done", "training", "scoring"}
        ``begun``: waiting, and other code than today's began its training. ``training`` or ``scoring``: there are
        results, and other code did that. Results without recorded code count as done.
    """
    if not cell.scored:
        finished, stale = (run_path(out, cell) / "model.safetensors").is_file(), run_is_stale(cell, out)
        return ("training" if stale else "done") if finished else ("begun" if stale else "waiting")
    try:
        found = origin(read_settings(table_path(out, cell)))
    except UserError:  # not there, or damaged
        return "begun" if not cell.parts and run_is_stale(cell, out) else "waiting"
    if found == "training":
        return "training"
    # Killed between the table and the end of its scoring, by whatever code: the pictures are not whole.
    if parts_folder(table_path(out, cell)).is_dir():
        return "waiting"
    return "scoring" if found == "scoring" else "done"


def is_waiting(cell: Cell, out: Path, keep: bool = False) -> bool:
    """Whether a cell is to be run; with `keep`, results stay whatever code made them."""
    return cell_state(cell, out) not in (("done", "training", "scoring") if keep else ("done",))


def run_is_stale(cell: Cell, out: Path) -> bool:
    """Whether other code began or finished the training of a cell."""
    return made_by_other_code(run_path(out, cell), training_code(get_method(cell.config.method.name)))


def describe_cells(
    cells: list[Cell], out: Path, seconds: dict[str, float], workers: int = 1, keep: bool = False
) -> str:
    """The plan for people: a line a kind of cell, how many are done, how long the others will take, what is made anew.

    Parameters
    ----------
    cells : list of Cell
    out : Path
        Folder of the benchmark.
    seconds : dict of str to float
        Of one cell, by `Cell.kind`; empty = say nothing of time.
    workers : int, default=1
        Cells at a time.
    keep : bool, default=False
        See `is_waiting`.
    """
    kinds: dict[str, list[Cell]] = {}
    for cell in cells:
        kinds.setdefault(cell.kind, []).append(cell)
    lines, left = [], 0.0
    for kind, members in kinds.items():
        method = members[0].config.method
        waiting = sum(is_waiting(cell, out, keep) for cell in members)
        each = seconds.get(kind, float("nan"))
        left += waiting * each if waiting else 0.0
        settings = ", ".join(f"{key}={value}" for key, value in method.config.items() if key != "subset")
        name = f"{members[0].method} {method.preset}" + (f" ({settings})" if settings else "")
        name += "" if members[0].scored else ", trained for others"
        cells_told = f"{len(members)} cell{'s' if len(members) != 1 else ''}"
        took = f", {describe_time(each)} each" if seconds else ""
        lines.append(f"{name}: {cells_told}, {len(members) - waiting} done{took}")
        for state, count in sorted(Counter(cell_state(cell, out) for cell in members).items()):
            if state in ANEW:
                what = "kept" if keep and state != "begun" else "made anew"
                lines.append(f"  {count} {what}: {ANEW[state]} ({method.name} or what it uses changed)")
    lines.append(f"in all {len(cells)} cells" + (f"; {describe_time(left / workers)} left" if seconds else ""))
    return "\n".join(lines)


def describe_time(seconds: float) -> str:
    """E.g. ``about 3 h 20 min``; ``unknown time`` where it is not a number."""
    if not math.isfinite(seconds):
        return "unknown time"
    minutes = max(1, round(seconds / 60))
    return f"about {minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"about {minutes} min"
