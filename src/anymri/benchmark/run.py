"""Run a benchmark's cells, one after the other or as Ray tasks; what is done stays done, what fails is told.

A folder of results holds ``plan.yaml`` (what was asked last), ``runs/`` (one folder per training), ``shared/``
(stages that runs share), ``results/`` (one table per cell), ``failed/`` (one text per failed cell), ``results.parquet``
(all tables in one), ``report.html`` and ``log.jsonl`` (when what began and ended, the only file with times in it).
"""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml
from pydantic import ConfigDict, NonNegativeFloat, NonNegativeInt

from anymri.benchmark.plan import BenchmarkPlan, Cell, run_path, table_path
from anymri.benchmark.state import describe_time, is_waiting, run_is_stale
from anymri.data.cache import Cache
from anymri.data.split import read_split
from anymri.errors import UserError
from anymri.files import make_folder, replace_text
from anymri.locks import one_writer, scratch_folder
from anymri.progress import progress_bar
from anymri.records import RECORD, read_lines
from anymri.stopping import same_signals, wait_in_steps
from anymri.zoo import open_model

__all__ = ["Outcome", "estimate_seconds", "find_problems", "run_cell", "run_cells"]

#: How often Ray starts a cell again whose worker was killed.
RETRIES = 2
#: Steps of the trial training that times are estimated from.
TRIAL_STEPS = 2


@dataclass(frozen=True)
class Outcome:
    """Outcome of a plan.

    Parameters
    ----------
    tables : list of Path
        Results of the finished cells, in the order of the plan.
    failed : dict of str to str
        Cell name to reason, one line.
    """

    tables: list[Path]
    failed: dict[str, str]


def run_cell(cell: Cell, out: Path) -> Path:
    """Train and score one cell; goes on where an earlier try stopped, and begins anew what other code did.

    Parameters
    ----------
    cell : Cell
    out : Path
        Folder of the benchmark.

    Returns
    -------
    Path
        The results table; of a cell that is only trained, its run folder.

    Raises
    ------
    UserError
        If the cell cannot be run, or a network of a system was not trained.
    """
    from anymri.training import train

    path, run = table_path(out, cell), run_path(out, cell)
    if is_waiting(cell, out):
        if cell.parts:
            _score(cell, [_trained(part, out) for part in cell.parts], path)
        else:
            fresh = run_is_stale(cell, out)
            train(cell.config, run, resume=not fresh, progress=False, shared=out / "shared")
            if cell.scored:
                _score(cell, [run], path)
    return path if cell.scored else run


def _trained(part: Cell, out: Path) -> Path:
    run = run_path(out, part)
    if not (run / "model.safetensors").is_file():
        raise UserError(f"{part.name}: was not trained; see its text in {out / 'failed'} and run the benchmark again")
    return run


def _score(cell: Cell, runs: Sequence[Path], path: Path, subjects: Sequence[str] | None = None) -> None:
    """Score a run; of a system, the run that completes and the run that segments."""
    from anymri.evaluation import evaluate
    from anymri.training.machine import torch_settings

    data, how, (run, *then) = cell.config.data, asdict(cell.evaluation), runs
    how["then"] = then[0] if then else None
    with torch_settings(cell.config.training):
        evaluate(run, data.cache, path, split=data.split, fold=data.fold, subjects=subjects, progress=False, **how)


def run_cells(
    plan: BenchmarkPlan,
    cells: list[Cell],
    out: Path,
    *,
    ray: bool = False,
    workers: int = 1,
    estimates: dict[str, float] | None = None,
    keep: bool = False,
    progress: bool = True,
) -> Outcome:
    """Run all cells that are not done, or that other code than today's did.

    Parameters
    ----------
    plan : BenchmarkPlan
    cells : list of Cell
    out : Path
        Folder of the benchmark; created if need be.
    ray : bool, default=False
        As Ray tasks: on this machine, or on the cluster that ``RAY_ADDRESS`` names. A cell whose worker is killed is
        started again, from its last checkpoint.
    workers : int, default=1
        Cells at a time on this machine, with Ray.
    estimates : dict of str to float or None, default=None
        Seconds of a cell by `Cell.kind`, for the time left.
    keep : bool, default=False
        Whether cells that other code did stay as they are; the report marks them.
    progress : bool, default=True

    Raises
    ------
    UserError
        If the folder cannot be used or Ray is asked for and missing.
    """
    with one_writer(out):
        return _run_cells(plan, cells, out, ray, workers, estimates or {}, keep, progress)


def _run_cells(
    plan: BenchmarkPlan,
    cells: list[Cell],
    out: Path,
    ray: bool,
    workers: int,
    estimates: dict[str, float],
    keep: bool,
    progress: bool,
) -> Outcome:
    """`run_cells` in a folder that is locked."""
    for folder in ("runs", "results", "failed"):
        make_folder(out / folder)
    replace_text(out / "plan.yaml", yaml.safe_dump(json.loads(json.dumps(asdict(plan), default=str)), sort_keys=False))
    waiting = [cell for cell in cells if is_waiting(cell, out, keep)]
    run = _run_with_ray if ray else _run_here
    log = _Log(out / "log.jsonl")
    failed: dict[str, str] = {}
    with _progress(cells, len(cells) - len(waiting), estimates, progress) as done:
        for cell, seconds, problem in _in_turn(run, waiting, out, workers, log):
            note = out / "failed" / f"{cell.name}.txt"
            if problem is None:
                note.unlink(missing_ok=True)
            else:
                replace_text(note, problem)
                failed[cell.name] = problem.strip().splitlines()[-1]
            log.write(event="failed" if problem else "done", cell=cell.name, seconds=round(seconds, 1))
            done(cell, failed.get(cell.name))
    return Outcome([table_path(out, cell) for cell in cells if cell.scored and cell.name not in failed], failed)


Result = tuple[Cell, float, str | None]


def _in_turn(
    run: Callable[[list[Cell], Path, int, _Log], Iterator[Result]],
    cells: list[Cell],
    out: Path,
    workers: int,
    log: _Log,
) -> Iterator[Result]:
    """Run the cells that train, then the systems, which need what those have trained."""
    for group in ([cell for cell in cells if not cell.parts], [cell for cell in cells if cell.parts]):
        if group:
            yield from run(group, out, workers, log)


def _attempt(cell: Cell, out: Path) -> tuple[float, str | None]:
    """Seconds taken, and why the cell failed, if it did."""
    begin = time.monotonic()
    try:
        run_cell(cell, out)
    except UserError as error:
        return time.monotonic() - begin, str(error)
    except Exception:
        return time.monotonic() - begin, traceback.format_exc()
    return time.monotonic() - begin, None


def _run_here(cells: list[Cell], out: Path, workers: int, log: _Log) -> Iterator[Result]:
    for cell in cells:
        log.write(event="start", cell=cell.name)
        yield cell, *_attempt(cell, out)


def _run_with_ray(cells: list[Cell], out: Path, workers: int, log: _Log) -> Iterator[Result]:
    try:
        import ray
    except ImportError:
        raise UserError("--ray: Ray is not installed; pip install 'anymri[ray]', or leave --ray out") from None
    here = None if os.environ.get("RAY_ADDRESS") else workers
    try:
        with same_signals():
            ray.init(num_cpus=here, include_dashboard=False, log_to_driver=False, configure_logging=False)
        task = ray.remote(num_cpus=1, max_retries=RETRIES)(_attempt)
        running = {task.remote(cell, out.resolve()): cell for cell in cells}
        log.write(event="start", cells=len(running))
        while running:
            finished = wait_in_steps(lambda seconds: ray.wait(list(running), num_returns=1, timeout=seconds)[0])
            cell = running.pop(finished)
            try:
                yield cell, *ray.get(finished)
            except ray.exceptions.RayError as error:
                reason = str(error).strip().splitlines()[0]
                yield (
                    cell,
                    0.0,
                    f"{cell.name}: its worker was killed {RETRIES + 1} times ({reason}); give it more memory",
                )
    finally:
        ray.shutdown()


# --------------------------------------------------------------------------------------------------------------
# Time
# --------------------------------------------------------------------------------------------------------------


def find_problems(cells: list[Cell]) -> dict[str, str]:
    """Why cells cannot run, by `Cell.kind`: what training or scoring would refuse, found without doing either.

    Memory and disk are not tried.
    """
    problems: dict[str, str] = {}
    for cell in cells:
        if cell.kind not in problems:
            try:
                _check(cell)
            except UserError as error:
                problems[cell.kind] = f"{cell.method}: {error}"
    return problems


def _check(cell: Cell) -> None:
    from anymri.training.machine import choose_device
    from anymri.training.preparation import prepare

    choose_device(cell.config.training)
    prepare(cell.config)
    data, part = cell.config.data, cell.evaluation.part
    if data.split is not None and not read_split(data.split).part(part, data.fold):
        raise UserError(f"{data.split}: part {part} of fold {data.fold} is empty; score another")
    if cell.evaluation.reference is not None:
        Cache(cell.evaluation.reference)
    if cell.evaluation.downstream is not None:
        open_model(cell.evaluation.downstream)


def estimate_seconds(cells: list[Cell], out: Path, say: Callable[[str], None] = lambda _: None) -> dict[str, float]:
    """Seconds of a cell by `Cell.kind`, from two training steps per stage and one scored subject of each kind.

    Kinds of which a cell is done are read from the log. A kind that cannot be tried is NaN; the run itself will say
    why. Trials are written to a temporary folder.
    """
    known = _measured(cells, out)
    for cell in cells:
        if cell.kind not in known:
            say(f"timing {cell.method}")
            known[cell.kind] = _try_out(cell)
    return known


def _measured(cells: list[Cell], out: Path) -> dict[str, float]:
    rows = _Log(out / "log.jsonl").read()
    seconds = {row.get("cell"): row.get("seconds", 0.0) for row in rows if row["event"] == "done"}
    return {cell.kind: seconds[cell.name] for cell in cells if cell.name in seconds}


def _try_out(cell: Cell) -> float:
    data, how = cell.config.data, replace(cell.evaluation, pictures=False)
    try:
        subjects: Sequence[str] = Cache(data.cache).subject_ids
        if data.split is not None:
            subjects = read_split(data.split).part(how.part, data.fold)
        with scratch_folder() as folder:
            parts = enumerate(cell.parts or [cell])
            tried = [_try_training(part, folder / f"run{number}") for number, part in parts]
            trained = 0.0 if cell.parts else tried[0][1]
            if not cell.scored:
                return trained
            begin = time.monotonic()
            runs = [run for run, _ in tried]
            _score(replace(cell, evaluation=how), runs, folder / "trial.parquet", subjects[:1])
            return trained + (time.monotonic() - begin) * len(subjects)
    except Exception:  # the run itself will say what is wrong
        return float("nan")


def _try_training(cell: Cell, out: Path) -> tuple[Path, float]:
    """A run of a few steps, and the seconds that the whole training would take."""
    from anymri.training import train
    from anymri.training.log import read_log
    from anymri.training.preparation import prepare

    short = replace(cell.config.training, epochs=1, steps_per_epoch=TRIAL_STEPS, accumulate=1, validate_every=0)
    plan = prepare(cell.config)
    begin = time.monotonic()
    run = train(replace(cell.config, training=short), out, progress=False)
    if not plan.loaders:
        return run, time.monotonic() - begin
    rows = {row.get("stage"): row for row in read_log(run)}
    pairs = list(zip(plan.stages, plan.loaders, strict=True))
    seconds = [
        rows[stage.name]["seconds"] / TRIAL_STEPS * loader.steps_per_epoch * stage.epochs for stage, loader in pairs
    ]
    return run, sum(seconds)


# --------------------------------------------------------------------------------------------------------------
# Files and progress
# --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _LogRow:
    """A line of a benchmark's ``log.jsonl``."""

    __pydantic_config__: ClassVar[ConfigDict] = RECORD

    time: str
    event: Literal["start", "done", "failed"]
    cell: str | None = None
    cells: NonNegativeInt | None = None
    seconds: NonNegativeFloat | None = None


class _Log:
    """Lines of JSON, each with the time it was written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, **row: Any) -> None:
        line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S"), **row}) + "\n"
        with self.path.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read() != b"\n":  # a kill cut the last line off
                    line = "\n" + line
            file.write(line.encode())

    def read(self) -> list[dict[str, Any]]:
        """All whole lines; a line cut off by a kill is left out."""
        return read_lines(self.path, _LogRow, "remove the line or the file") if self.path.exists() else []


@contextmanager
def _progress(
    cells: list[Cell], finished: int, estimates: dict[str, float], shown: bool
) -> Iterator[Callable[[Cell, str | None], None]]:
    """Bar over cells on standard error, with the time left by the estimates, corrected by what cells really took."""
    begin, expected_done = time.monotonic(), 0.0
    left = sum(estimates.get(cell.kind, float("nan")) for cell in cells[finished:])
    note = describe_time(left) + " left"
    with progress_bar(
        "benchmark", len(cells), shown, done=finished, note=note, time_left=False, transient=False
    ) as bar:

        def done(cell: Cell, problem: str | None) -> None:
            nonlocal expected_done, left
            expected = estimates.get(cell.kind, float("nan"))
            expected_done, left = expected_done + expected, left - expected
            pace = (time.monotonic() - begin) / expected_done if expected_done else float("nan")
            bar.advance(note=describe_time(left * pace) + " left")
            if problem:
                bar.say(f"failed: {cell.name}: {problem}")

        yield done
