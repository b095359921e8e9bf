"""Supervisor of the workers: gives them jobs, ends those that take too long or too much, and starts new ones."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

from anymri.server.describe import job_class
from anymri.server.places import Places
from anymri.server.settings import ServerSettings
from anymri.server.store import Busy, Job, Store
from anymri.server.work import serve_jobs

__all__ = ["Slot", "Supervisor"]

log = logging.getLogger("anymri.server")

#: How often a slot looks for jobs, and at its worker, in seconds.
LOOK_S, WATCH_S = 1.0, 0.1
#: How long a worker may take to start.
START_S = 300.0
End = Literal["ended", "removed", "stopped"]


class Worker:
    """One process that does jobs.

    Parameters
    ----------
    scratch : Path
    threads : int
    warm : tuple of str or None
        See `anymri.server.work.serve_jobs`.
    """

    def __init__(self, scratch: Path, threads: int, warm: tuple[str, str] | None) -> None:
        context = get_context("spawn")  # a child forked from a process with threads is not safe
        self.link, there = context.Pipe()
        self.process = context.Process(target=serve_jobs, args=(there, str(scratch), threads, warm), daemon=True)
        self.process.start()
        there.close()
        self.started, self.ready = time.monotonic(), False

    def memory(self) -> int:
        """Resident bytes; 0 where that cannot be told."""
        try:
            pages = int(Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()[1])
        except (OSError, ValueError, IndexError):
            return 0
        return pages * os.sysconf("SC_PAGE_SIZE")

    def answer(self, patience: float) -> tuple[Any, ...] | None:
        """What the worker says within so many seconds; None if nothing, or it is dead."""
        try:
            return self.link.recv() if self.link.poll(patience) else None
        except (EOFError, OSError):
            self.process.join(1.0)
            return None

    def end(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()
        self.process.join()
        self.link.close()


class Slot(threading.Thread):
    """A place for one worker, and the jobs it takes.

    Parameters
    ----------
    owner : Supervisor
    kinds : tuple of str
    warm : bool
        Whether to open the server's model before the first job.
    """

    def __init__(self, owner: Supervisor, kinds: tuple[str, ...], warm: bool) -> None:
        super().__init__(name=f"anymri {'+'.join(kinds)}", daemon=True)
        self.owner, self.kinds, self.warm = owner, kinds, warm
        self.worker: Worker | None = None

    @property
    def ready(self) -> bool:
        """Whether a worker waits for jobs or does one."""
        return self.worker is not None and self.worker.ready

    def run(self) -> None:
        """Take jobs until the supervisor stops."""
        owner = self.owner
        while not owner.stopping.is_set():
            try:
                if self._worker_is_ready() and (job := owner.store.claim(*self.kinds)) is not None:
                    self._do(job)
                    continue
            except Busy as error:
                log.warning("the database cannot be changed (%s)", error)
            except Exception as error:
                log.error("a slot failed: %s", type(error).__name__)
                self._drop()
            owner.wake.wait(LOOK_S)
            owner.wake.clear()
        self._drop()

    def _worker_is_ready(self) -> bool:
        """Start a worker where there is none, and hear whether it is ready."""
        settings = self.owner.settings
        if self.worker is not None and not self.worker.process.is_alive():
            self._drop()
        if self.worker is None:
            warm = (self.owner.model_place(settings.model), settings.device) if self.warm else None
            self.worker = Worker(self.owner.places.scratch, self.owner.threads, warm)
        if not self.worker.ready:
            self.worker.ready = self.worker.answer(LOOK_S) is not None
            if not self.worker.ready and time.monotonic() - self.worker.started > START_S:
                self._drop()
        return self.ready

    def _drop(self) -> None:
        if self.worker is not None:
            self.worker.end()
            self.worker = None

    def _do(self, job: Job) -> None:
        """Have one job done and write down what came of it."""
        owner, started = self.owner, time.monotonic()
        study = owner.store.study(job.study)
        if study is None or self.worker is None:
            return
        found = study["inspected"] or {}
        kind = job_class(job.kind, dicom=bool(found.get("dicom")), raw=bool(found.get("raw")))
        owner.begin(job)
        try:
            self.worker.link.send(owner.task(job, study))
            said, why = self._watch(job, started)
        except (BrokenPipeError, OSError):
            said, why = None, "the worker that had it ended before it began"
        finally:
            owner.over(job)
        seconds = time.monotonic() - started
        if said is not None:
            owner.ended(job, said, seconds, kind)
        elif why is not None:
            self._drop()
            again = owner.retry(
                lambda: owner.store.give_back(job, f"study: {why}; send less, or ask who runs the server")
            )
            log.warning("job %d (%s): %s; %s", job.number, job.kind, why, "once more" if again else "failed")
            owner.count(job.kind, "retried" if again else "failed", seconds)
        else:
            self._drop()

    def _watch(self, job: Job, started: float) -> tuple[tuple[Any, ...] | None, str | None]:
        """Answer of the worker, or why there is none; neither where the job is gone or the server stops."""
        worker, owner, limits = self.worker, self.owner, self.owner.settings.limits
        assert worker is not None
        while True:
            said = worker.answer(WATCH_S)
            if said is not None:
                return said, None
            if job.study in owner.removed:
                return None, None
            if owner.stopping.is_set() and time.monotonic() > owner.patience_ends:
                return None, None
            if not worker.process.is_alive():
                return None, f"the worker that had it was killed (exit code {worker.process.exitcode})"
            if time.monotonic() - started > limits.job_s:
                return None, f"it took more than {limits.job_s:.0f} s and was ended"
            if limits.job_bytes and worker.memory() > limits.job_bytes:
                return None, f"it took more than {limits.job_bytes / 2**30:.1f} GiB of memory and was ended"


class Supervisor:
    """All slots of a server.

    Parameters
    ----------
    settings : ServerSettings
    places : Places
    store : Store
    """

    def __init__(self, settings: ServerSettings, places: Places, store: Store) -> None:
        self.settings, self.places, self.store = settings, places, store
        self.wake, self.stopping = threading.Event(), threading.Event()
        self.patience_ends = 0.0
        self.removed: set[str] = set()
        self.count: Callable[[str, str, float], None] = lambda kind, status, seconds: None
        self.done: Callable[[Job], None] = lambda job: None
        self._begun: dict[int, float] = {}
        cores = len(os.sched_getaffinity(0))
        self.threads = settings.threads or max(1, cores // settings.workers)
        # Looking at a study takes seconds and waits for no prediction.
        self.slots = [Slot(self, ("inspect",), warm=False)]
        self.slots += [Slot(self, ("run",), warm=True) for _ in range(settings.workers)]

    @property
    def ready(self) -> bool:
        """Whether every slot has its worker."""
        return all(slot.ready for slot in self.slots)

    def start(self) -> None:
        """Take up what an earlier server left, and begin."""
        cut_off = self.store.take_up()
        if cut_off:
            log.info("%d jobs of an earlier start are taken up", cut_off)
        for slot in self.slots:
            slot.start()

    def stop(self, patience_s: float) -> None:
        """Take no more jobs; give those under way so many seconds, and leave the rest to the next start."""
        self.patience_ends = time.monotonic() + patience_s
        self.stopping.set()
        self.wake.set()
        for slot in self.slots:
            slot.join(patience_s + 10)

    def begin(self, job: Job) -> None:
        """Remember when a job began."""
        self._begun[job.number] = time.monotonic()

    def over(self, job: Job) -> None:
        """Forget it."""
        self._begun.pop(job.number, None)

    def elapsed(self, number: int) -> float | None:
        """Seconds since a job began; None if it is not under way."""
        begun = self._begun.get(number)
        return None if begun is None else time.monotonic() - begun

    def remove(self, study: str) -> None:
        """End what is under way for a study that was removed."""
        self.removed.add(study)
        self.wake.set()

    def model_place(self, name: str) -> str:
        """Weights of a model that may be asked for."""
        return self.settings.models.get(name, name)

    def task(self, job: Job, study: dict[str, Any]) -> dict[str, Any]:
        """What a worker is told of a job."""
        task: dict[str, Any] = {
            "kind": job.kind, "study": job.study, "upload": str(self.places.upload(job.study)),
            "images": str(self.places.images(job.study)), "told": study["upload"],
        }  # fmt: skip
        if job.run is not None:
            request = next(run["request"] for run in study["runs"] if run["id"] == job.run)
            task |= {key: request[key] for key in ("subset", "completion", "formats")}
            task |= {"model": self.model_place(request["model"]), "device": self.settings.device}
            task |= {"found": study["inspected"], "out": str(self.places.result(job.study, job.run))}
        return task

    def ended(self, job: Job, said: tuple[Any, ...], seconds: float, kind: str) -> None:
        """Write the end of a job down."""
        error, found = None, None
        if said[0] == "done":
            found = said[1]
        elif said[0] == "failed":
            error = said[1]
        else:
            log.error("job %d (%s): fault %s, %s", job.number, job.kind, said[1], said[2])
            error = f"study: a fault of the program (number {said[1]}); ask who runs the server"
        ended = self.retry(lambda: self.store.finish(job, error, seconds=seconds, kind=kind, found=found))
        if ended:
            log.info("job %d (%s): %s after %.1f s", job.number, job.kind, said[0], seconds)
            self.count(job.kind, "done" if error is None else "failed", seconds)
            if error is None:
                self.done(job)
        self.wake.set()

    def retry(self, change: Callable[[], bool]) -> bool:
        """Make a change of the store, however long another program has it locked."""
        while True:
            try:
                return change()
            except Busy as error:
                log.warning("the database cannot be changed (%s)", error)
                if self.stopping.wait(LOOK_S) and time.monotonic() > self.patience_ends:
                    return False
