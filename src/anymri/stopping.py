"""Stopping: a signal ends a command in one line that says what is kept, and its worker processes with it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import active_children, parent_process
from multiprocessing.connection import wait
from multiprocessing.context import BaseContext
from types import FrameType
from typing import Any, TypeVar

__all__ = [
    "Stopped", "asked_to_stop", "deferred", "same_signals", "stop_if_asked", "stop_signals", "wait_in_steps",
    "worker_pool",
]  # fmt: skip

#: Signals that ask a process to end: Ctrl-C, `kill` and a terminal that was closed.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: How long a `deferred` block may go on after a signal, in seconds.
PATIENCE_S = 1.5
#: How long `wait_in_steps` waits before it looks for a signal, in seconds.
STEP_S = 0.2

Thing = TypeVar("Thing")


class Stopped(BaseException):
    """The end that a signal asked for; like `KeyboardInterrupt` no `Exception`, so that nothing takes it for a failure.

    Parameters
    ----------
    number : int
        Of the signal.
    kept : str, default=""
        What of the work is kept, and how to go on.
    """

    def __init__(self, number: int, kept: str = "") -> None:
        super().__init__(number, kept)
        self.number, self.kept = number, kept


class _State:
    """Whether a block of this process is deferring signals, which one has come, and what sends it again."""

    deferring = False
    came: int | None = None
    timer: threading.Timer | None = None


@contextmanager
def stop_signals() -> Iterator[None]:
    """Raise `Stopped` in the block when a signal asks the process to end; ignored signals stay so (``nohup``)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _on_signal)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def same_signals() -> Iterator[None]:
    """Put the answers to signals back at the end of the block, after a library (Ray) has put in its own."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def deferred(kept: Callable[[], str] = str) -> Iterator[None]:
    """Let the block go on for `PATIENCE_S` after a first signal, to come to a place where it can stop well.

    It calls `stop_if_asked` there. A second signal stops at once.

    Parameters
    ----------
    kept : callable
        Gives the words for what is kept then.
    """
    _State.deferring, _State.came = True, None
    try:
        yield
        stop_if_asked()
    except Stopped as stop:
        stop.kept = kept()
        raise
    finally:
        if _State.timer is not None:
            _State.timer.cancel()
            _State.timer.join()
        _State.deferring, _State.came, _State.timer = False, None, None


def wait_in_steps(wait: Callable[[float], Sequence[Thing]]) -> Thing:
    """Wait for the first of several things in a library (Ray) that makes a fault of its own of a signal that raises.

    Parameters
    ----------
    wait : callable
        Waits for at most so many seconds, and gives what is there by then.

    Raises
    ------
    Stopped
        Between two calls, if a signal came.
    """
    with deferred():
        while True:
            found = wait(STEP_S)
            stop_if_asked()
            if found:
                return found[0]


def asked_to_stop() -> bool:
    """Whether a signal has come in a `deferred` block."""
    return _State.came is not None


def stop_if_asked() -> None:
    """End a `deferred` block if a signal has asked for it.

    Raises
    ------
    Stopped
    """
    if _State.came is not None:
        raise Stopped(_State.came)


def _on_signal(number: int, frame: FrameType | None) -> None:
    if not _State.deferring or _State.came is not None:
        raise Stopped(number)
    _State.came = number
    _State.timer = threading.Timer(PATIENCE_S, os.kill, (os.getpid(), number))
    _State.timer.daemon = True
    _State.timer.start()


@contextmanager
def worker_pool(workers: int, context: BaseContext, prepare: Any = None) -> Iterator[ProcessPoolExecutor]:
    """Processes that end with the block and with their parent, in whatever way it ends.

    Parameters
    ----------
    workers : int
    context : multiprocessing context
        ``spawn`` or ``forkserver``.
    prepare : callable or None, default=None
        Called first in each process.

    Yields
    ------
    ProcessPoolExecutor
        If the block raises, work that is waiting or under way is dropped.
    """
    others = set(active_children())
    pool = ProcessPoolExecutor(workers, context, _start_worker, (prepare,))
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in set(active_children()) - others:
            child.terminate()
        raise
    pool.shutdown()


def _start_worker(prepare: Any) -> None:
    """Leave Ctrl-C to the parent, and watch it: a parent that was killed ends nobody."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()
    if prepare is not None:
        prepare()
