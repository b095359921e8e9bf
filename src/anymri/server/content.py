"""Content of an upload: safe names, and what each file may be, told by its name and first bytes."""

from __future__ import annotations

import re
import struct
from pathlib import PurePosixPath
from typing import Literal

from anymri.data.datasets.spellings import image_ending
from anymri.server.refusal import Refusal

__all__ = ["START_BYTES", "Kind", "judge_content", "safe_path", "shown_name"]

Kind = Literal["image", "dicom", "text", "archive", "ignored"]

#: First bytes by which a file is judged.
START_BYTES = 352
#: Longest name of a file with its folders, longest part, and most folders.
LONGEST_NAME, LONGEST_PART, DEEPEST = 1024, 120, 12
_DICOM_ENDINGS = (".dcm", ".dicom", ".ima")
#: Voxels that lie beside a header of their own.
_BESIDE = (".raw", ".zraw", ".raw.gz")
_TEXTS = (".json", ".tsv")
_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar", ".zst", ".jar")
#: First bytes of archives: zip, gzip, bzip2, xz, 7z, rar, zstandard.
_PACKED = (b"PK\3\4", b"PK\5\6", b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"Rar!", b"\x28\xb5\x2f\xfd")


def shown_name(name: str) -> str:
    """A name as messages repeat it: short, printable, in one line."""
    plain = "".join(letter if letter.isprintable() and letter not in "<>&\"'`" else "_" for letter in name[:80])
    return plain + ("..." if len(name) > 80 else "") or "file"


def safe_path(name: str) -> PurePosixPath | None:
    """Path made of a name that came with an upload: of few letters, inside its folder.

    Parameters
    ----------
    name : str

    Returns
    -------
    PurePosixPath or None
        None for hidden files and what operating systems leave in folders.

    Raises
    ------
    Refusal
        If the name is too long or leads out of its folder.
    """
    if len(name.encode("utf-8", "replace")) > LONGEST_NAME:
        raise Refusal(422, f"{shown_name(name)}: the name is too long; shorten it to {LONGEST_NAME} bytes")
    unified = name.replace("\\", "/")
    parts = [part for part in unified.split("/") if part not in ("", ".")]
    if unified.startswith("/") or ".." in parts or re.match(r"[A-Za-z]:", unified) or "\0" in unified:
        raise Refusal(422, f"{shown_name(name)}: the name leads out of the study; send names relative to its folder")
    if len(parts) > DEEPEST:
        raise Refusal(422, f"{shown_name(name)}: lies in more than {DEEPEST} folders; send the study's own folder")
    if not parts or any(part.startswith((".", "__MACOSX")) for part in parts):
        return None
    plain = [re.sub(r"[^\w. -]", "_", part, flags=re.ASCII)[-LONGEST_PART:].strip() for part in parts]
    return PurePosixPath(*(part.lstrip(".") or "_" for part in plain))


def judge_content(name: str, start: bytes) -> Kind:
    """What a file is.

    Parameters
    ----------
    name : str
    start : bytes
        Its first `START_BYTES`.

    Returns
    -------
    {"image", "dicom", "text", "archive", "ignored"}
        ``ignored``: nothing that is read, and nothing that does harm.

    Raises
    ------
    Refusal
        If it is a pickle, an archive of another kind than zip, or not what its name says.
    """
    lower, shown = name.lower(), shown_name(name)
    if start[:1] == b"\x80" and start[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        raise Refusal(415, f"{shown}: is a pickle, which can run code; send images")
    if ending := image_ending(lower):
        if not _fits(ending, start):
            raise Refusal(415, f"{shown}: is no {ending} file by its first bytes; convert or download it again")
        return "image"
    if start[128:132] == b"DICM":
        return "dicom"
    if lower.endswith(".zip"):
        if not start.startswith(_PACKED[:2]):
            raise Refusal(415, f"{shown}: is no zip archive by its first bytes; pack the study again")
        return "archive"
    if lower.endswith(_BESIDE):
        return "image"
    if lower.endswith(_ARCHIVES) or start.startswith(_PACKED):
        raise Refusal(415, f"{shown}: is packed in a way that is not read; send a zip archive or the files")
    if lower.endswith(_DICOM_ENDINGS) or start[:2] in (b"\x08\0", b"\2\0"):
        return "dicom"
    if lower.endswith(_TEXTS) and b"\0" not in start:
        return "text"
    return "ignored"


def _fits(ending: str, start: bytes) -> bool:
    """Whether a file begins as its ending says."""
    if ending == ".nii.gz":
        return start.startswith(b"\x1f\x8b")
    if ending == ".nii":
        sizes = struct.unpack("<i", start[:4]) + struct.unpack(">i", start[:4]) if len(start) >= 4 else ()
        return bool({348, 540} & set(sizes))
    if ending in (".nrrd", ".nhdr"):
        return start.startswith(b"NRRD")
    return bool(re.match(rb"[\x20-\x7e]+[ \t]*=", start))
