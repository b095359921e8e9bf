"""Atomic files: written whole or not at all."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from anymri.errors import UserError

__all__ = ["find_leftovers", "make_folder", "remove_leftovers", "replace_file"]


def make_folder(folder: str | Path) -> Path:
    """Create a folder and its parents, if they are not there yet.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    UserError
        If a file is in the way or the place cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{folder}: a file is where the folder should be; choose another folder") from None
    except OSError as error:
        raise UserError(f"{folder}: cannot be created ({error.strerror}); choose another folder") from None
    return folder


@contextmanager
def replace_file(path: str | Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path`; it takes the name `path` only once everything is written.

    Parameters
    ----------
    path : path-like
        File to write; its folder must exist.

    Yields
    ------
    binary file
        Write the content here. If the block raises, nothing is left behind and an older `path` is kept.

    Raises
    ------
    UserError
        If the operating system refuses (disk full, no permission, no such folder).
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with _create_locked(temporary) as handle:
            yield handle
            handle.flush()
            temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        reason = error.strerror or str(error) or type(error).__name__
        raise UserError(f"{path}: cannot be written ({reason}); free some space or choose another folder") from None
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def find_leftovers(folder: str | Path) -> list[Path]:
    """Temporary files of `replace_file` in a folder whose process is gone (killed, or a power cut)."""
    return [path for path in sorted(Path(folder).glob(".*.part")) if path.is_file() and not _is_being_written(path)]


def remove_leftovers(folder: str | Path) -> list[Path]:
    """Remove what `find_leftovers` finds, and return it."""
    found = find_leftovers(folder)
    for path in found:
        path.unlink(missing_ok=True)
    return found


def _create_locked(path: Path) -> BinaryIO:
    """Open a new file and lock it until it is closed or the process ends, in whatever way.

    The lock says whether somebody still writes. The number of the process in the file's name cannot: a killed process
    keeps its number until its parent asks, another one may have it by now, and that of another machine on the same
    disk means nothing here.
    """
    while True:
        handle = open(path, "wb")  # noqa: SIM115 - the caller closes it
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle.fileno()).st_nlink:
            return handle
        handle.close()  # between the two lines, somebody took it for a leftover and removed it


def _is_being_written(path: Path) -> bool:
    """Whether somebody has the file locked; where that cannot be told, yes: what lives must not be removed."""
    try:
        with open(path, "r+b") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    return False
