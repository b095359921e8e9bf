"""Files that are either whole or not there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from anymri.types import UserError

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
        with open(temporary, "wb") as handle:
            yield handle
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
    found = []
    for path in sorted(Path(folder).glob(".*.part")):
        match = re.fullmatch(r"\..+\.(\d+)\.part", path.name)
        if match and not _is_running(int(match[1])):
            found.append(path)
    return found


def remove_leftovers(folder: str | Path) -> list[Path]:
    """Remove what `find_leftovers` finds, and return it."""
    found = find_leftovers(folder)
    for path in found:
        path.unlink(missing_ok=True)
    return found


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        return True
    return True
