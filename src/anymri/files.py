"""Atomic files and folders: written whole or not at all.

Every temporary file and folder is called ``.NAME.TOKEN.part`` (``.old`` for the one that is being replaced), where
TOKEN is eight random hexadecimal digits, and is locked by its writer. The lock alone says whether it is still being
written: numbers of processes are used again, clocks are set back.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from anymri.errors import UserError

__all__ = [
    "RefusedWrite", "draft_folder", "find_leftovers", "inside", "make_folder", "open_abandoned", "remove_abandoned",
    "remove_leftovers", "replace_file", "replace_folder", "replace_text", "short_name", "take_lock", "why_no_file",
    "write_reason", "write_remedy",
]  # fmt: skip

#: Names of temporary files and folders; earlier versions had the number of the process for the token.
TEMPORARY = re.compile(r"\.(?P<name>.+)\.([0-9a-f]{8}|\d+)\.(part|old)", re.DOTALL)
#: What to do about a refusal of the operating system.
REMEDIES = {
    errno.ENOSPC: "free some space or choose another folder",
    errno.EDQUOT: "your share of the disk is used up; free some space or choose another folder",
    errno.EFBIG: "free some space, raise the limit on file sizes (ulimit -f) or choose another folder",
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS), "choose a folder that you may write to, or change its permissions"
    ),
    **dict.fromkeys(
        (errno.ENOENT, errno.ENOTDIR, errno.ESTALE),
        "its folder was moved or removed meanwhile; put it back and run the same command again, or choose another",
    ),
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: "too many files are open; raise the limit (ulimit -n)",
    errno.EIO: "the disk reports a fault; check it, or choose another",
}


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
        raise UserError(f"{folder}: cannot be created ({write_reason(error)}); {write_remedy(error)}") from None
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
    remedy : str
        See `write_remedy`.
    """

    def __init__(self, path: Path, reason: str, remedy: str = REMEDIES[errno.ENOSPC]) -> None:
        super().__init__(path, reason, remedy)
        self.path, self.reason, self.remedy = path, reason, remedy

    def __str__(self) -> str:
        return f"{self.path}: cannot be written ({self.reason}); {self.remedy}"


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
    temporary = _temporary(path, "part")
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
        raise RefusedWrite(path, write_reason(error), write_remedy(error)) from None
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
    make_folder(place.parent)
    draft = _temporary(place, "part")
    try:
        _remove_remains(place)
        with _make_locked(draft):
            yield draft
    except (OSError, RefusedWrite) as error:
        raise RefusedWrite(path, write_reason(error), write_remedy(error)) from None
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


def write_remedy(error: OSError | RefusedWrite) -> str:
    """What to do about something that was not written."""
    if isinstance(error, RefusedWrite):
        return error.remedy
    return REMEDIES.get(error.errno or 0, "choose another folder")


def find_leftovers(folder: str | Path) -> list[Path]:
    """Temporary files and folders in a folder whose process is gone (killed, or a power cut)."""
    return [path for path in _temporaries(Path(folder)) if not _is_being_written(path)]


def remove_leftovers(folder: str | Path) -> list[Path]:
    """Remove what `find_leftovers` finds, and return it; a folder that was being replaced gets its name back."""
    return [path for path in _temporaries(Path(folder)) if remove_abandoned(path)]


def short_name(name: str) -> str:
    """Name as it stands in those of temporary files, which must not get too long themselves."""
    return name if len(os.fsencode(name)) <= 200 else hashlib.sha256(os.fsencode(name)).hexdigest()[:32]


def take_lock(handle: int, path: Path, *, wait: bool = True) -> bool:
    """Lock an open file or folder until it is closed or the process ends, in whatever way.

    Returns
    -------
    bool
        False if somebody else has it, or has removed it meanwhile; True also on a file system without locks.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        pass
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False


def _temporary(path: Path, ending: str) -> Path:
    return path.with_name(f".{short_name(path.name)}.{secrets.token_hex(4)}.{ending}")


def _names(folder: Path) -> list[str]:
    """Names in a folder, in their order; none if it cannot be read."""
    with suppress(OSError):
        return sorted(os.listdir(folder))
    return []


def _temporaries(folder: Path) -> list[Path]:
    return [folder / name for name in _names(folder) if TEMPORARY.fullmatch(name)]


def _remove_remains(path: Path) -> None:
    """Remove what killed processes left of their writing this very file or folder."""
    for left in _temporaries(path.parent):
        match = TEMPORARY.fullmatch(left.name)
        if match is not None and match["name"] == short_name(path.name):
            remove_abandoned(left)


def remove_abandoned(path: Path) -> bool:
    """Remove a temporary that nobody has locked; where that cannot be told it stays."""
    handle = open_abandoned(path)
    if handle is None:
        return False
    try:  # still locked, so that nobody begins to write it meanwhile
        match = TEMPORARY.fullmatch(path.name)
        if path.suffix == ".old" and match is not None and not os.path.lexists(path.with_name(match["name"])):
            path.rename(path.with_name(match["name"]))  # killed before the new one had the name
        elif path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        return True
    except OSError:  # not ours to remove
        return False
    finally:
        os.close(handle)


def _put_in_place(draft: Path, folder: Path) -> None:
    """Give the finished folder its name; an earlier one goes only once the new one is there."""
    if not folder.is_dir() or not any(folder.iterdir()):
        draft.replace(folder)
        return
    aside = _temporary(folder, "old")
    handle = os.open(folder, os.O_RDONLY)
    try:
        take_lock(handle, folder)
        folder.rename(aside)
        try:
            draft.rename(folder)
        except OSError:
            aside.rename(folder)
            raise
        shutil.rmtree(aside, ignore_errors=True)
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    """Ask the system to put a folder's names on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _make_locked(folder: Path) -> Iterator[None]:
    """Make a folder and lock it as `_create_locked` locks a file."""
    while True:
        folder.mkdir()
        handle = os.open(folder, os.O_RDONLY)
        if take_lock(handle, folder):
            break
        os.close(handle)
    try:
        yield
    finally:
        os.close(handle)


def _create_locked(path: Path) -> BinaryIO:
    """Open a new file and lock it until it is closed or the process ends, in whatever way."""
    while True:
        handle = open(path, "wb")  # noqa: SIM115 - the caller closes it
        if take_lock(handle.fileno(), path):
            return handle
        handle.close()  # between the two lines, somebody took it for a leftover and removed it


def _is_being_written(path: Path) -> bool:
    """Whether somebody has it locked; where that cannot be told, yes: what lives must not be removed."""
    handle = open_abandoned(path)
    if handle is not None:
        os.close(handle)
    return handle is None


def open_abandoned(path: Path) -> int | None:
    """Open and lock what nobody else has locked; None if somebody has, or it cannot be told."""
    try:
        handle = os.open(path, (os.O_RDONLY if path.is_dir() else os.O_RDWR) | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def why_no_file(path: Path) -> str:
    """Why what lies at a path is neither a file nor a folder, e.g. a pipe; ``""`` where it is one of them."""
    if path.is_file() or path.is_dir():
        return ""
    return "it is no plain file" if path.exists() else "it is a link to a file that is not there"
