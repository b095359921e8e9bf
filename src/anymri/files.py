"""Atomic files and folders: written whole or not at all."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from anymri.errors import UserError

__all__ = [
    "RefusedWrite", "draft_folder", "find_leftovers", "inside", "make_folder", "remove_leftovers", "replace_file",
    "replace_folder", "replace_text", "write_reason",
]  # fmt: skip


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


def inside(folder: str | Path, name: object) -> Path:
    """File of a folder by the name that another file says; nothing elsewhere on the disk can be meant.

    Parameters
    ----------
    folder : path-like
    name : object
        As it was read. The file need not be there.

    Returns
    -------
    Path

    Raises
    ------
    UserError
        If it is not a plain name (text without separators and control characters, not ``..``), or is that of a link
        that leads out of the folder.
    """
    plain = isinstance(name, str) and name.isprintable() and 0 < len(name.encode()) <= 255
    if plain and name not in (".", "..") and not {"/", "\\"} & set(str(name)):
        path = Path(folder, str(name))
        if Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
            return path
    raise UserError(f"{folder}: {name!r} is not the plain name of a file in this folder; make the folder anew")


class RefusedWrite(UserError):
    """A file or folder that the operating system does not let us write.

    Parameters
    ----------
    path : Path
    reason : str
        E.g. "No space left on device".
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"{self.path}: cannot be written ({self.reason}); free some space or choose another folder"


@contextmanager
def replace_file(
    path: str | Path, *, durable: bool = False, done: Callable[[str], None] = lambda step: None
) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path`; it takes the name `path` only once everything is written.

    Parameters
    ----------
    path : path-like
        File to write; its folder must exist.
    durable : bool, default=False
        Whether to wait for the disk, so that the file is whole even after a power cut.
    done : callable, optional
        Called after each of the steps "sync" (if durable), "name" and "sync folder" (if durable).

    Yields
    ------
    binary file
        Write the content here. If the block raises, nothing is left behind and an older `path` is kept. What a killed
        process left of the same file goes.

    Raises
    ------
    RefusedWrite
        If the operating system refuses (disk full, no permission, no such folder).
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        _remove_remains(path)
        with _create_locked(temporary) as handle:
            yield handle
            handle.flush()
            if durable:
                os.fsync(handle.fileno())
                done("sync")
            temporary.replace(path)
            done("name")
        if durable:
            _sync_folder(path.parent)
            done("sync folder")
    except OSError as error:
        raise RefusedWrite(path, write_reason(error)) from None
    finally:
        with suppress(OSError):
            temporary.unlink()


def replace_text(path: str | Path, text: str) -> None:
    """Write a text file (UTF-8, line ends as they are) by `replace_file`.

    Raises
    ------
    RefusedWrite
        If the operating system refuses.
    """
    with replace_file(path) as file:
        file.write(text.encode())


@contextmanager
def draft_folder(path: str | Path) -> Iterator[Path]:
    """Make a temporary folder beside `path` that is removed at the end of the block.

    Parameters
    ----------
    path : path-like
        File or folder that is being written; folders above it are created.

    Yields
    ------
    Path
        The empty folder. What a killed process left of the same path goes.

    Raises
    ------
    RefusedWrite
        If the operating system refuses, here or within the block.
    """
    path = Path(path)
    place = path.absolute()
    draft = make_folder(place.parent) / f".{place.name}.{os.getpid()}.part"
    try:
        _remove_remains(place)
        draft.mkdir()
        with _lock_folder(draft):
            yield draft
    except (OSError, RefusedWrite) as error:
        raise RefusedWrite(path, write_reason(error)) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def replace_folder(folder: str | Path) -> Iterator[Path]:
    """Make a temporary folder beside `folder`; it takes the name `folder` only once the block is through.

    Parameters
    ----------
    folder : path-like
        New, or there already: then it is kept until the new one is complete.

    Yields
    ------
    Path
        Write the content here. If the block raises, nothing is left behind.

    Raises
    ------
    RefusedWrite
        If the operating system refuses, here or within the block.
    """
    with draft_folder(folder) as draft:
        yield draft
        _put_in_place(draft, Path(folder).absolute())


def write_reason(error: OSError | RefusedWrite) -> str:
    """Why something was not written, in the words of the operating system."""
    reason = error.reason if isinstance(error, RefusedWrite) else error.strerror
    return reason or str(error) or type(error).__name__


def find_leftovers(folder: str | Path) -> list[Path]:
    """Temporary files of `replace_file` in a folder whose process is gone (killed, or a power cut)."""
    return [path for path in sorted(Path(folder).glob(".*.part")) if path.is_file() and not _is_being_written(path)]


def remove_leftovers(folder: str | Path) -> list[Path]:
    """Remove what `find_leftovers` finds, and return it."""
    found = find_leftovers(folder)
    for path in found:
        path.unlink(missing_ok=True)
    return found


def _remove_remains(path: Path) -> None:
    """Remove what killed processes left of their writing this very file or folder."""
    start, end = f".{path.name}.", ".part"
    names: list[str] = []
    with suppress(OSError), os.scandir(path.parent) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(start) and entry.name.endswith(end)]
    for name in names:
        left = path.with_name(name)
        if not name[len(start) : -len(end)].isdigit() or _is_being_written(left):
            continue
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _put_in_place(draft: Path, folder: Path) -> None:
    """Give the finished folder its name; an earlier one goes only once the new one is there."""
    if not folder.is_dir() or not any(folder.iterdir()):
        draft.replace(folder)
        return
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    folder.rename(aside)
    try:
        draft.rename(folder)
    except OSError:
        aside.rename(folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _sync_folder(folder: Path) -> None:
    """Ask the system to put a folder's names on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _lock_folder(folder: Path) -> Iterator[None]:
    """Lock a folder as `_create_locked` locks a file."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


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
    """Whether somebody has it locked; where that cannot be told, yes: what lives must not be removed."""
    try:
        handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    except OSError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False
