"""Workers of a batch: this process, several, or Ray tasks; each yields what became of one study after the other."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from functools import partial
from multiprocessing import get_context
from typing import Any

from anymri.errors import UserError
from anymri.inference.batch.attempt import set_threads
from anymri.inference.batch.record import StudyRecord
from anymri.inference.batch.studies import BatchStudy
from anymri.stopping import same_signals, wait_in_steps, worker_pool

__all__ = ["run_here", "run_in_processes", "run_with_ray"]

#: What is done with one study.
Work = Callable[[BatchStudy], StudyRecord]
#: Study and its record, or None if the process that had it was killed each time.
Outcomes = Generator[tuple[BatchStudy, StudyRecord | None], None, None]
#: How often Ray starts a study again whose worker was killed.
_RETRIES = 1
#: Memory for objects that Ray tasks exchange, in bytes; records are small.
_OBJECT_STORE = 100 * 2**20


def run_here(studies: Sequence[BatchStudy], work: Work) -> Outcomes:
    """One study after the other in this process; one that kills it ends the batch."""
    for study in studies:
        yield study, work(study)


def run_in_processes(studies: Sequence[BatchStudy], work: Work, workers: int, threads: int) -> Outcomes:
    """Several studies at a time, each in a process that serves many.

    Those that were under way when a process was killed (most often because memory ran out) are tried once more, one at
    a time, after all others.

    Parameters
    ----------
    studies : sequence of BatchStudy
    work : callable
        Can be pickled.
    workers, threads : int
        Processes, and processor cores that they share; 0 = all.
    """
    waiting, suspects = deque(studies), deque[BatchStudy]()
    while waiting:
        with closing(_run_pool(waiting, work, workers, threads)) as outcomes:
            for study, record in outcomes:
                if record is None:
                    suspects.append(study)
                else:
                    yield study, record
    while suspects:
        with closing(_run_pool(deque([suspects.popleft()]), work, 1, threads)) as outcomes:
            yield from outcomes


def _run_pool(waiting: deque[BatchStudy], work: Work, workers: int, threads: int) -> Outcomes:
    """Run what is waiting until a process is killed; None stands for the studies that were under way then."""
    # A child forked from here would inherit torch's thread pool in an unusable state; the fork server has none.
    context = get_context("forkserver")
    context.set_forkserver_preload(["anymri.inference.batch.attempt"])
    running: dict[Future[StudyRecord], BatchStudy] = {}
    workers = min(workers, len(waiting))
    try:
        with worker_pool(workers, context, partial(set_threads, threads, workers)) as pool:
            while waiting or running:
                while waiting and len(running) < workers:
                    running[pool.submit(work, waiting[0])] = waiting[0]
                    waiting.popleft()
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    record = future.result()
                    yield running.pop(future), record
    except BrokenProcessPool:
        for study in running.values():
            yield study, None


def run_with_ray(studies: Sequence[BatchStudy], work: Work, workers: int, threads: int, device: str) -> Outcomes:
    """Several studies at a time as Ray tasks: on this machine, or on the cluster that ``RAY_ADDRESS`` names.

    Parameters
    ----------
    studies, work
        As of `run_in_processes`.
    workers : int
        Studies at a time on this machine; a cluster takes as many as it has room for.
    threads : int
        Processor cores of this machine that workers share, 0 = all; on a cluster those of one study, 0 = one.
    device : str
        That of the settings; a task asks for a GPU where there is one, unless it is ``cpu``.

    Raises
    ------
    UserError
        If Ray is not installed.
    """
    try:
        import ray
    except ImportError:
        raise UserError("--ray: Ray is not installed; pip install 'anymri[ray]', or leave --ray out") from None
    cluster = bool(os.environ.get("RAY_ADDRESS"))
    each = max(1, threads) if cluster else _share(threads, workers)
    here: dict[str, Any] = {} if cluster else {"num_cpus": workers * each, "object_store_memory": _OBJECT_STORE}
    try:
        with same_signals():
            ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False, **here)
        there = ray.cluster_resources()
        gpus = 0.0 if device == "cpu" else there.get("GPU", 0.0)
        at_a_time = max(1, int(gpus or there.get("CPU", 1.0) // each)) if cluster else workers
        share = min(1.0, gpus / at_a_time)
        task = ray.remote(num_cpus=each, num_gpus=share, max_retries=_RETRIES)(_work_with_threads)
        yield from _collect(ray, lambda study: task.remote(work, each, study), deque(studies), at_a_time)
    finally:
        ray.shutdown()


def _collect(ray: Any, start: Any, waiting: deque[BatchStudy], at_a_time: int) -> Outcomes:
    running: dict[Any, BatchStudy] = {}
    while waiting or running:
        while waiting and len(running) < at_a_time:
            study = waiting.popleft()
            running[start(study)] = study
        finished = wait_in_steps(lambda seconds: ray.wait(list(running), num_returns=1, timeout=seconds)[0])
        study = running.pop(finished)
        try:
            yield study, ray.get(finished)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.RayError:
            yield study, None


def _work_with_threads(work: Work, threads: int, study: BatchStudy) -> StudyRecord:
    set_threads(threads, 1)
    return work(study)


def _share(threads: int, workers: int) -> int:
    import torch

    return max(1, (threads or torch.get_num_threads()) // workers)
