"""Memory at hand, and refusal of what would not fit into it."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from anymri.errors import UserError

__all__ = ["check_memory", "free_bytes"]


def free_bytes() -> int:
    """Memory that this process can still take: what the machine, a container and the limits of the process leave."""
    page = os.sysconf("SC_PAGE_SIZE")
    free = [os.sysconf("SC_PHYS_PAGES") * page]
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            free.append(int(line.split()[1]) * 1024)
    limit, used = (_lines(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))
    if limit and used and limit[0].isdigit():
        free.append(int(limit[0]) - int(used[0]))
    allowed, taken = resource.getrlimit(resource.RLIMIT_AS)[0], _lines("/proc/self/statm")
    if allowed != resource.RLIM_INFINITY:
        free.append(allowed - int(taken[0].split()[0]) * page if taken else allowed)
    return max(0, min(free))


def check_memory(source: str, needed: int) -> None:
    """Refuse what needs more memory than there is.

    Parameters
    ----------
    source : str
        For the message.
    needed : int
        Bytes.

    Raises
    ------
    UserError
        With both numbers.
    """
    free = free_bytes()
    if needed > free:
        raise UserError(
            f"{source}: needs about {needed / 2**30:.1f} GiB of memory, and {free / 2**30:.1f} GiB are free; "
            "close other programs, or crop or resample it"
        )


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
