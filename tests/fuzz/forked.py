"""Child process of one damaged input: its end is seen from outside, whatever it is.

The parent has imported everything; a child is a copy of it, so that thousands of inputs do not each pay for the import
of torch. What the child does to itself (an abort, an exit, endless work, all the memory) stays its own.
"""

from __future__ import annotations

import os
import pickle
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

from anymri.types import UserError

#: Seconds and bytes of growth after which an input has hung or taken the memory.
SECONDS, GROWTH = 20.0, 2 * 2**30
#: Seconds of the wall clock that a working child gets for each of the processor's: others may use the machine, too.
PATIENCE = 20


class Ending(NamedTuple):
    """How a child ended.

    Attributes
    ----------
    how : str
        ``returned``, ``refused``, ``traceback``, ``abort``, ``hang`` or ``memory``.
    text : str
        The refusal, the traceback or the signal.
    value : object
        What the work returned.
    """

    how: str
    text: str = ""
    value: Any = None


def in_child(work: Callable[[], Any], seconds: float = SECONDS, growth: int = GROWTH) -> Ending:
    """Do some work in a copy of this process and say how that ended."""
    receive, send = os.pipe()
    before = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(receive)
        _work(work, send, growth)
    os.close(send)
    content, over = _read(receive, child, before, seconds)
    os.close(receive)
    if over:
        os.kill(child, signal.SIGKILL)
    _, status, used = os.wait4(child, 0)
    if over:
        return Ending("hang", f"ran past {seconds:g} s")
    if os.WIFSIGNALED(status):
        return Ending("abort", f"ended by {signal.Signals(os.WTERMSIG(status)).name}")
    if not content:
        return Ending("abort", f"left with exit code {os.WEXITSTATUS(status)}")
    ending = Ending(*pickle.loads(content))
    grown = used.ru_maxrss * 1024 - _resident()
    return Ending("memory", f"grew by {grown / 2**30:.1f} GiB; {ending.text}") if grown > growth else ending


def in_process(work: Callable[[], Any], growth: int = GROWTH) -> Ending:
    """Do some work here, with a bound on the memory, and say how that ended."""
    taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()  # noqa: SIM115
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + growth + 2**30, hard))  # not all that is reserved is used
    try:
        return Ending("returned", "", work())
    except UserError as error:
        return Ending("refused", str(error))
    except MemoryError:
        return Ending("memory", traceback.format_exc())
    except (Exception, SystemExit):
        return Ending("traceback", traceback.format_exc())
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _work(work: Callable[[], Any], send: int, growth: int) -> None:
    """Never returns."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    ending = in_process(work, growth)
    try:
        content = pickle.dumps(tuple(ending))
    except Exception:
        content = pickle.dumps(("traceback", traceback.format_exc()))
    with os.fdopen(send, "wb") as pipe:
        pipe.write(content)
    sys.stderr.flush()
    os._exit(0)


def _read(pipe: int, child: int, begin: float, seconds: float) -> tuple[bytes, bool]:
    """Everything that comes through a pipe, and whether the child had to be given up.

    It is given up after so many seconds of the processor, or so many in which it did nothing.
    """
    parts: list[bytes] = []
    used, active = 0.0, begin
    while used < seconds and time.monotonic() - active < seconds and time.monotonic() - begin < PATIENCE * seconds:
        if select.select([pipe], [], [], 0.5)[0]:
            if not (part := os.read(pipe, 2**16)):
                return b"".join(parts), False
            parts.append(part)
        fields = open(f"/proc/{child}/stat").read().rpartition(")")[2].split()  # noqa: SIM115
        now = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        if now > used or fields[0] in "RD":
            used, active = now, time.monotonic()
    return b"".join(parts), True


def _resident() -> int:
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
