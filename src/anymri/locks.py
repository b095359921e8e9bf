"""Locks: one writer per output; what a killed one left is swept away by the next.

The lock of the output ``NAME`` is the file ``.NAME.anymri-lock`` beside it, locked by the operating system, which lets
go when the process ends, in whatever way. That the file is there, how old it is and what it holds decide nothing.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from anymri.errors import UserError
from anymri.files import (
    RefusedWrite,
    make_folder,
    open_abandoned,
    remove_abandoned,
    remove_leftovers,
    short_name,
    take_lock,
    write_reason,
    write_remedy,
)

__all__ = ["one_writer", "scratch_folder", "sweep"]

#: End of the names of lock files.
LOCK = ".anymri-lock"
#: How long to wait for a process that is just ending, in seconds.
WAIT_S = 1.0
#: Start of the names of scratch folders.
SCRATCH = "anymri-scratch-"
#: Outputs that this process writes, with process and thread: a verb and the functions that it calls share a lock.
_held: dict[Path, tuple[int, int]] = {}


@contextmanager
def one_writer(*outputs: str | Path) -> Iterator[None]:
    """Lock outputs, files or folders, there or not, against every other writer, and sweep up what a killed one left.

    Parameters
    ----------
    *outputs : path-like
        Folders above them are created. Links are followed, so that two names of one place are one output. The thread
        that holds an output may lock it again.

    Raises
    ------
    UserError
        If another process or thread writes there, or the place cannot be written. On a file system without locks
        standard error says so, and nothing is refused.
    """
    with ExitStack() as stack:
        for output in outputs:
            stack.enter_context(_one(Path(output)))
        yield


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Make a folder in the system's place for temporary ones, readable by this user alone.

    Yields
    ------
    Path
        The empty folder; it is removed at the end of the block, and that of a killed process by the next writer.

    Raises
    ------
    RefusedWrite
        If the operating system refuses to make it.
    """
    _sweep_scratch()
    while True:
        try:
            folder = Path(tempfile.mkdtemp(prefix=SCRATCH))
        except OSError as error:
            raise RefusedWrite(Path(tempfile.gettempdir()), write_reason(error), write_remedy(error)) from None
        handle = os.open(folder, os.O_RDONLY)
        if take_lock(handle, folder):
            break
        os.close(handle)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def sweep(folder: Path) -> None:
    """Remove what writers that are gone left in a folder: temporaries, locks, and both within the outputs of these.

    Parameters
    ----------
    folder : Path
        Folders in it are looked into only where a lock says that their writer did not come to its end.
    """
    remove_leftovers(folder)
    for lock in sorted(folder.glob(f".*{LOCK}")):
        handle = open_abandoned(lock)
        if handle is not None:
            _sweep_within(folder / lock.name[1 : -len(LOCK)])
            with suppress(OSError):
                lock.unlink()
            os.close(handle)


@contextmanager
def _one(output: Path) -> Iterator[None]:
    """Lock one output; folders made for it go again if nothing was written."""
    made = [folder for folder in output.parents if not os.path.exists(folder)]  # noqa: PTH110 - Path.exists raises where a name is too long
    make_folder(output.parent)
    place = Path(os.path.realpath(output))
    me = (os.getpid(), threading.get_ident())
    if _held.get(place) == me:
        yield
        return
    try:
        with _locked(output, place):
            _held[place] = me
            try:
                yield
            finally:
                del _held[place]
    finally:
        for folder in made:
            with suppress(OSError):  # not empty
                folder.rmdir()


@contextmanager
def _locked(output: Path, place: Path) -> Iterator[None]:
    """Hold the lock file of a place while the block runs."""
    try:
        with suppress(FileNotFoundError):
            place.lstat()  # refuses a name that is too long
        lock = _lock_path(place)
        handle = None if lock is None else _take(output, lock)
    except OSError as error:
        raise RefusedWrite(output, write_reason(error), write_remedy(error)) from None
    if lock is None or handle is None:  # whoever writes will be told; a run that is finished needs no writing
        yield
        return
    try:
        if os.fstat(handle).st_size:  # its last holder did not come to its end
            _sweep_within(place)
        sweep(place.parent)
        _sweep_scratch()
        try:
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()} {os.uname().nodename} {_command()}".encode(), 0)
        except OSError as error:
            raise RefusedWrite(output, write_reason(error), write_remedy(error)) from None
        yield
    finally:
        with suppress(OSError):
            lock.unlink()
        os.close(handle)


def _lock_path(place: Path) -> Path | None:
    """Lock file of a place: beside it, in it where beside is another disk or not writable, or None."""
    beside = place.parent / f".{short_name(place.name)}{LOCK}"
    if not place.is_dir() or (os.access(place.parent, os.W_OK) and not os.path.ismount(place)):
        return beside
    return place / LOCK if os.access(place, os.W_OK) else None


def _take(output: Path, lock: Path) -> int:
    """Open and lock a lock file.

    Raises
    ------
    UserError
        If somebody else has it.
    """
    end = time.monotonic() + WAIT_S
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(handle)
            if time.monotonic() > end:
                os.close(handle)
                raise UserError(
                    f"{output}: {holder} is writing there; wait for it or end it, or choose another output"
                ) from None
        except OSError as error:
            print(
                f"anymri: {output}: is on a file system without locks ({write_reason(error)}); "
                "do not start a second command that writes there",
                file=sys.stderr,
            )
            return handle
        else:
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), lock.lstat()):
                    return handle
        os.close(handle)  # busy, or removed by the one who had it
        time.sleep(0.02)


def _holder(handle: int) -> str:
    """Who has a lock, as far as the file tells."""
    told = re.fullmatch(r"(\d{1,10}) (\S{1,64}) ([\w .-]{1,64})", os.pread(handle, 200, 0).decode(errors="replace"))
    if told is None:
        return "another process"
    process, host, command = told.groups()
    return f"process {process}{'' if host == os.uname().nodename else f' on {host}'} ({command})"


def _command() -> str:
    """What runs here, for people."""
    name = Path(sys.argv[0]).name if sys.argv and sys.argv[0] else ""
    return f"anymri {sys.argv[1]}" if name in ("anymri", "__main__.py") and len(sys.argv) > 1 else "Python"


def _sweep_within(place: Path) -> None:
    """`sweep` every folder of an output."""
    if place.is_dir():
        for folder, _, _ in os.walk(place):
            sweep(Path(folder))


def _sweep_scratch() -> None:
    """Remove the scratch folders of this user that nobody has locked."""
    place = Path(tempfile.gettempdir())
    for folder in sorted(place.glob(f"{SCRATCH}*")):
        with suppress(OSError):
            if folder.lstat().st_uid == os.getuid():
                remove_abandoned(folder)
