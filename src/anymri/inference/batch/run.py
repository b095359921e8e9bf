"""Run of a batch: what is finished stays, one bad study stops no other, and at the end stand a table and a page."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import active_children
from pathlib import Path

from anymri.errors import UserError
from anymri.files import make_folder, open_abandoned
from anymri.inference.batch.attempt import attempt, failed_record, write_failure
from anymri.inference.batch.output import write_overview
from anymri.inference.batch.record import BatchFolder, wanted_record, what_changed
from anymri.inference.batch.studies import BatchStudy, list_studies, take_shard
from anymri.inference.batch.workers import Outcomes, run_here, run_in_processes, run_with_ray
from anymri.inference.device import find_device
from anymri.inference.one_study import PredictSettings
from anymri.inference.output.bids import join_bids
from anymri.inference.predict import Model, load
from anymri.locks import one_writer, sweep
from anymri.progress import progress_bar
from anymri.stopping import Stopped

__all__ = ["BatchOutcome", "parse_shard", "predict_batch"]

#: Why a study failed whose process was killed twice.
_KILLED = (
    "the process that had it was killed twice, most likely because memory ran out; free some, or use fewer workers"
)
#: Brain masks that serve every study; others are the file of one.
_MASKS = ("auto", "template", "hd-bet", "synthstrip", "none")


@dataclass(kw_only=True)
class BatchOutcome:
    """What became of a batch.

    Parameters
    ----------
    table, page : Path
        ``volumes.csv`` and ``index.html``, over all studies of the folder.
    done, kept : list of str
        Studies that were done now, and those that were finished before.
    failed : dict of str to str
        Study to reason, one line.
    """

    table: Path = Path()
    page: Path = Path()
    done: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def parse_shard(text: str) -> tuple[int, int]:
    """Numbers of ``i/n``.

    Raises
    ------
    UserError
        If it is not of that form, or i is not one of 1 to n.
    """
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise UserError(f"--shard {text[:40]}: not a part of a whole; write e.g. --shard 1/4, up to --shard 4/4")
    return int(match[1]), int(match[2])


def predict_batch(
    given: Path | str,
    out: Path | str,
    settings: PredictSettings,
    *,
    workers: int = 1,
    threads: int = 0,
    shard: tuple[int, int] = (1, 1),
    ray: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    say: Callable[[str], None] = lambda text: None,
) -> BatchOutcome:
    """Predict many studies; those that are finished, with the same files, model and settings, are not done again.

    Parameters
    ----------
    given : path-like
        See `anymri.inference.batch.studies.list_studies`.
    out : path-like
        Folder of the batch, new or that of an earlier run: ``studies/<study>/`` (what `anymri predict` writes of one),
        ``thumbnails/``, ``records/`` (what became of each), ``volumes.csv`` and ``index.html``.
    settings : PredictSettings
    workers : int, default=1
        Processes; 0 = this one, where a study that kills it ends the batch.
    threads : int, default=0
        Processor cores that the workers share; 0 = all.
    shard : tuple of int, default=(1, 1)
        Which part of how many; it follows from the ids of the studies alone.
    ray : bool, default=False
        As Ray tasks.
    overwrite : bool, default=False
        Whether to do finished studies again.
    progress : bool, default=True
    say : callable, optional
        Told in a line each what is kept, what is done again and why, and what fails.

    Returns
    -------
    BatchOutcome

    Raises
    ------
    UserError
        If there is no study, the model cannot be opened, or the folder cannot be used or written.
    Stopped
        If a signal came; says what is kept.
    """
    if settings.brain_mask not in _MASKS:
        raise UserError(
            f"--brain-mask {settings.brain_mask}: is the mask of one study; choose one of {', '.join(_MASKS)}"
        )
    folder = BatchFolder(Path(out).resolve())
    _check_place(folder.path, Path(out))
    listed = list_studies(given, out, say)
    studies = take_shard(listed, *shard)
    model = load(settings.model, "cpu")
    if not ray:
        find_device(settings.device)
    outcome = BatchOutcome()
    with _only_writer(folder, Path(out), shard):
        for place in (folder.records, folder.path / "studies", folder.path / "thumbnails"):
            make_folder(place)
            sweep(place)
        _tell_of_others(listed, folder, Path(given), say)
        try:
            waiting = _waiting(studies, folder, settings, model, overwrite, outcome, say)
            work = partial(attempt, out=folder.path, settings=settings)
            if ray:
                outcomes = run_with_ray(waiting, work, workers, threads, settings.device)
            elif workers:
                outcomes = run_in_processes(waiting, work, workers, threads)
            else:
                outcomes = run_here(waiting, work)
            _take_in(outcomes, folder, outcome, (len(studies), progress, say))
        except Stopped as stop:
            finished = len(outcome.kept) + len(outcome.done)
            stop.kept = (
                f"{finished} of {len(studies)} studies are finished and kept; the same command does the others, "
                f"`anymri volumes {out}` makes the table of what is there"
            )
            raise
        finally:
            for child in active_children():
                child.join(1)
            sweep(folder.path / "studies")
        outcome.table, outcome.page = write_overview([folder.path], Path(out))
        if "bids" in settings.outputs:
            _join_bids(folder, say)
    outcome.failed = dict(sorted(outcome.failed.items()))
    return outcome


def _join_bids(folder: BatchFolder, say: Callable[[str], None]) -> None:
    """Join the BIDS derivatives of all studies that are there into one data set; a clash of names is told."""
    try:
        join_bids(sorted((folder.path / "studies").iterdir()), folder.path)
    except UserError as error:
        say(str(error))


def _check_place(out: Path, named: Path) -> None:
    """Refuse a folder that holds something else than a batch."""
    if out.is_dir() and not (out / "records").is_dir() and any(not p.name.startswith(".") for p in out.iterdir()):
        raise UserError(f"{named}: holds other files than those of a batch; choose another folder")


@contextmanager
def _only_writer(folder: BatchFolder, named: Path, shard: tuple[int, int]) -> Iterator[None]:
    """Lock a shard of a folder; other shards of the same whole may work beside it, nobody else.

    Raises
    ------
    UserError
        If another process does the same shard, or divides the studies otherwise.
    """
    number, of = shard
    make_folder(folder.path)
    with one_writer(folder.path / f"shard-{number}-of-{of}"):
        for lock in sorted(folder.path.glob(".shard-*-of-*.anymri-lock")):
            match = re.fullmatch(r"\.shard-\d+-of-(\d+)\.anymri-lock", lock.name)
            if match is not None and int(match[1]) != of and _is_held(lock):
                raise UserError(
                    f"{named}: another batch of {match[1]} shard(s) is writing there; wait for it, or choose another "
                    "folder"
                )
        yield


def _is_held(lock: Path) -> bool:
    handle = open_abandoned(lock)
    if handle is None:
        return lock.exists()
    os.close(handle)
    return False


def _tell_of_others(listed: Sequence[BatchStudy], folder: BatchFolder, given: Path, say: Callable[[str], None]) -> None:
    """Say which studies of earlier runs are no longer asked for: nobody's result is removed unasked."""
    others = sorted({path.stem for path in folder.records.glob("*.json")} - {study.name for study in listed})
    if others:
        told = ", ".join(others[:5]) + (" ..." if len(others) > 5 else "")
        say(
            f"{len(others)} of an earlier run and not in {given.name} any more: {told}; they stay in the table "
            "(remove their records/ID.json to drop them)"
        )


def _waiting(
    studies: Sequence[BatchStudy],
    folder: BatchFolder,
    settings: PredictSettings,
    model: Model,
    overwrite: bool,
    outcome: BatchOutcome,
    say: Callable[[str], None],
) -> list[BatchStudy]:
    """Studies that have to be done; the finished ones are put down as kept."""
    waiting, again = [], {}
    for study in studies:
        record = None if overwrite else folder.read(study.name)
        try:
            changed = record and what_changed(record, wanted_record(study, settings, model), folder, study.name)
        except UserError:  # will be told when it is tried
            changed = None
        if changed == "":
            outcome.kept.append(study.name)
            continue
        if changed:
            again[study.name] = changed
        waiting.append(study)
    if outcome.kept:
        say(f"{len(outcome.kept)} of {len(studies)} studies are finished and kept")
    if again:
        told = [f"{name} ({reason})" for name, reason in list(again.items())[:5]]
        more = f" and {len(again) - 5} more" if len(again) > 5 else ""
        what = "study is" if len(again) == 1 else "studies are"
        say(f"{len(again)} finished {what} done again: {', '.join(told)}{more}")
    return waiting


def _take_in(
    outcomes: Outcomes,
    folder: BatchFolder,
    outcome: BatchOutcome,
    shown: tuple[int, bool, Callable[[str], None]],
) -> None:
    """Put down what becomes of each study, as it comes."""
    total, progress, say = shown
    with closing(outcomes), progress_bar("studies", total, progress, done=len(outcome.kept)) as bar:
        for study, record in outcomes:
            if record is None:
                record = failed_record(study, _KILLED)
                write_failure(folder, record)
            if record.status == "done":
                outcome.done.append(study.name)
            else:
                outcome.failed[study.name] = record.reason
                (bar.say if progress else say)(f"failed: {study.name}: {record.reason}")
            bar.advance(note=f"{len(outcome.failed)} failed" if outcome.failed else None)
