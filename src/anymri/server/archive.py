"""Zip archives of an upload: unpacked file by file within limits, or refused."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from anymri.data.dicom.headers import PLAUSIBLE_BYTES, PLAUSIBLE_RATIO
from anymri.server.content import START_BYTES, judge_content, safe_path, shown_name
from anymri.server.refusal import Refusal
from anymri.server.settings import Limits

__all__ = ["unpack"]

#: Bytes that are unpacked at a time.
_STEP = 2**20
#: Most bytes of an entry in the directory of an archive: its fields and a name.
_ENTRY_BYTES = 2048


def unpack(path: Path, target: Path, limits: Limits, check_room: Callable[[int], None]) -> tuple[int, int, int]:
    """Unpack the images, DICOM files and texts of a zip archive.

    Parameters
    ----------
    path : Path
    target : Path
        Folder that exists; what is refused half-way is left in it for the caller to remove.
    limits : Limits
    check_room : callable
        Told every number of bytes before they are written; raises where there is no room.

    Returns
    -------
    int
        Files that were unpacked.
    int
        Files that were passed over.
    int
        Bytes written.

    Raises
    ------
    Refusal
        If it is damaged or encrypted, unpacks to too much, or holds links, archives, pickles or names that lead out.
    """
    try:
        _check_directory(path, limits)
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            _check_entries(entries, path.stat().st_size, limits)
            most = min(limits.unpacked_bytes, max(PLAUSIBLE_BYTES, PLAUSIBLE_RATIO * path.stat().st_size))
            kept = ignored = written = 0
            for entry in entries:
                size = _unpack_one(archive, entry, target, most - written, check_room)
                kept, ignored, written = kept + (size is not None), ignored + (size is None), written + (size or 0)
            return kept, ignored, written
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, UnicodeError):
        raise Refusal(422, "archive: is damaged, encrypted or packed in an unusual way; pack the study again") from None


def _check_directory(path: Path, limits: Limits) -> None:
    """Refuse an archive with a huge directory before that is read into memory."""
    find_end: Any = zipfile._EndRecData  # type: ignore[attr-defined]
    with path.open("rb") as file:
        end = find_end(file)
    if end is None:
        raise zipfile.BadZipFile
    count, size = end[4], end[5]  # of entries, and bytes of the directory
    if count > 4 * limits.files or size > 4 * limits.files * _ENTRY_BYTES:
        raise Refusal(413, f"archive: holds more than {limits.files} files; send one study at a time")


def _check_entries(entries: list[zipfile.ZipInfo], packed: int, limits: Limits) -> None:
    if len(entries) > limits.files:
        raise Refusal(413, f"archive: holds {len(entries)} files; at most {limits.files} are taken, send one study")
    promised = sum(entry.file_size for entry in entries)
    if promised > min(limits.unpacked_bytes, max(PLAUSIBLE_BYTES, PLAUSIBLE_RATIO * packed)):
        raise Refusal(413, "archive: unpacks to more than is plausible or taken; send the files themselves")
    for entry in entries:
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise Refusal(422, f"{shown_name(entry.filename)}: is a link or device in the archive; pack plain files")
        if entry.flag_bits & 1:
            raise Refusal(422, f"{shown_name(entry.filename)}: is encrypted; pack the study without a password")


def _unpack_one(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, most: int, check_room: Callable[[int], None]
) -> int | None:
    """Unpack one file; its size, or None if it is passed over."""
    inner = safe_path(entry.filename)
    if inner is None:
        return None
    with archive.open(entry) as source:
        start = source.read(START_BYTES)
        kind = judge_content(inner.name, start)
        if kind == "archive":
            raise Refusal(415, f"{shown_name(entry.filename)}: is an archive in an archive; unpack it first")
        if kind == "ignored":
            return None
        place = target.joinpath(*inner.parts)
        written = 0
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("xb") as file:  # never over another file of the archive
                part = start
                while part:
                    written += len(part)
                    if written > most:
                        raise Refusal(413, "archive: unpacks to more than is plausible; send the files themselves")
                    check_room(len(part))
                    file.write(part)
                    part = source.read(_STEP)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise Refusal(422, f"{shown_name(entry.filename)}: comes twice in the archive; pack it again") from None
    return written
