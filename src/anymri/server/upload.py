"""Upload of a study as a form: its files on the disk, its fields, and what it is taken for."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from python_multipart.multipart import parse_options_header

from anymri.data.nifti import check_header
from anymri.errors import UserError
from anymri.modalities import MODALITIES
from anymri.server.archive import unpack
from anymri.server.content import START_BYTES, Kind, judge_content, safe_path, shown_name
from anymri.server.refusal import Refusal
from anymri.server.settings import Limits

__all__ = ["FIELDS", "FormUpload", "Room", "study_place"]

#: Form fields that are no files.
FIELDS = ("run", "model", "subset", "raw", "completion", "formats")
#: Longest value of one.
LONGEST_FIELD = 1024
#: Most images of a folder whose headers are looked at before the answer.
HEADERS = 50
#: Bytes after which the room on the disk is looked at again.
_LOOK = 2**26


class Room:
    """Room for one upload: its own limit, the quota and the disk.

    Parameters
    ----------
    folder : Path
        On the disk that is written.
    limits : Limits
    used_bytes : int
        By all studies before.
    """

    def __init__(self, folder: Path, limits: Limits, used_bytes: int) -> None:
        self._folder, self._limits, self._used = folder, limits, used_bytes
        self.sent = self.written = 0
        self._look_at = 0

    def receive(self, count: int) -> None:
        """Count bytes that came.

        Raises
        ------
        Refusal
            If they are more than one study may have.
        """
        self.sent += count
        if self.sent > self._limits.upload_bytes:
            most = self._limits.upload_bytes / 2**20
            raise Refusal(413, f"upload: is larger than {most:.0f} MiB; send one study, or fewer sequences at a time")

    def write(self, count: int) -> None:
        """Count bytes that are about to be written.

        Raises
        ------
        Refusal
            If the quota or the disk is full.
        """
        self.written += count
        if self._used + self.written > self._limits.quota_bytes:
            raise Refusal(507, "upload: the server's quota is full; delete studies, or wait until they expire")
        if self.written >= self._look_at:
            self._look_at = self.written + _LOOK
            if shutil.disk_usage(self._folder).free < self._limits.reserve_bytes + count:
                raise Refusal(507, "upload: the server's disk is full; delete studies, or ask who runs it")


class FormUpload:
    """Sink of a form's parts; see `anymri.server.multipart.PartSink`.

    Parameters
    ----------
    folder : Path
        Empty; takes ``study/`` for files by folder and ``fields/<code>/`` for those named by their sequence.
    limits : Limits
    room : Room
    """

    def __init__(self, folder: Path, limits: Limits, room: Room) -> None:
        self._folder, self._limits, self._room = folder, limits, room
        self.fields: dict[str, str] = {}
        self.named: dict[str, str] = {}
        self.count = self.ignored = 0
        self._archives: list[Path] = []
        self._put: Callable[[bytes], None] = self._drop
        self._field = self._shown = ""
        self._text = bytearray()
        self._start: bytes | None = None
        self._path: PurePosixPath | None = None
        self._file: BinaryIO | None = None

    # ------------------------------------------------------------------------------------------ parts

    def begin(self, headers: dict[str, str]) -> None:
        """Decide by its field what a part is.

        Raises
        ------
        Refusal
            If there is no such field, or its file name is not safe.
        """
        _, options = parse_options_header(headers.get("content-disposition", "").encode().decode("latin-1"))
        field = options.get(b"name", b"").decode("utf-8", "replace")
        name = options.get(b"filename")
        self._field, self._start, self._path, self._file = field, b"", None, None
        if name is None and field in FIELDS:
            if field in self.fields:
                raise Refusal(422, f"{field}: comes twice in the form; send it once")
            self._text, self._put = bytearray(), self._take_text
            return
        if name is None or (field != "files" and field not in MODALITIES):
            known = f"files, {', '.join(FIELDS)} or a sequence ({', '.join(MODALITIES)})"
            raise Refusal(422, f"{shown_name(field)}: no such field of the form, or no file in it; send {known}")
        if field in self.named:
            raise Refusal(422, f"{field}: comes twice in the form; send one file for each sequence")
        self._begin_file(field, name.decode("utf-8", "replace"))

    def _begin_file(self, field: str, name: str) -> None:
        self._shown = shown_name(name)
        self._path = safe_path(name)
        if field != "files":
            if self._path is None:
                raise Refusal(422, f"{field}: its file has no usable name; send it as {field}.nii.gz")
            self._path = PurePosixPath("fields", field, self._path.name)
        elif self._path is not None:
            self._path = PurePosixPath("study", self._path)
        if self.count + self.ignored >= self._limits.files:
            raise Refusal(413, f"upload: holds more than {self._limits.files} files; send one study at a time")
        self._put = self._drop if self._path is None else self._sniff

    def data(self, data: bytes) -> None:
        """Take more of the part."""
        self._put(data)

    def end(self) -> None:
        """Close the part.

        Raises
        ------
        Refusal
            If its file is not what it says.
        """
        if self._put == self._take_text:
            self.fields[self._field] = self._text.decode("utf-8", "replace").strip()
            return
        if self._put == self._sniff:  # shorter than what is looked at
            self._open()
        if self._file is not None:
            self._file.close()
            self._file = None
            self.count += 1
        else:
            self.ignored += 1

    def abort(self) -> None:
        """Close what is open after a refusal."""
        if self._file is not None:
            self._file.close()

    def _drop(self, data: bytes) -> None:
        """Pass over."""

    def _take_text(self, data: bytes) -> None:
        self._text += data
        if len(self._text) > LONGEST_FIELD:
            raise Refusal(422, f"{self._field}: is longer than {LONGEST_FIELD} bytes; shorten it")

    def _sniff(self, data: bytes) -> None:
        """Keep the first bytes until they tell what the file is."""
        self._start = (self._start or b"") + data
        if len(self._start) >= START_BYTES:
            self._open()

    def _open(self) -> None:
        """Open the place of a file whose first bytes are known, or pass it over."""
        assert self._path is not None
        start, self._start = self._start or b"", None
        kind: Kind = judge_content(self._path.name, start[:START_BYTES])
        if self._field != "files":
            if kind != "image":
                raise Refusal(415, f"{self._shown}: is no image file that is read; send .nii.gz, .nii, .mha or .nrrd")
            self.named[self._field] = self._path.as_posix()
        if kind == "ignored":
            self._put = self._drop
            return
        place = self._folder.joinpath(*self._path.parts)
        if kind == "archive":
            place = self._folder / f"archive-{len(self._archives)}.zip"
            self._archives.append(place)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            self._file = place.open("xb")
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise Refusal(422, f"{self._shown}: comes twice in the upload; send each file once") from None
        self._put = self._write
        self._write(start)

    def _write(self, data: bytes) -> None:
        assert self._file is not None
        self._room.write(len(data))
        self._file.write(data)

    # --------------------------------------------------------------------------------------- the whole

    def finish(self) -> dict[str, Any]:
        """Unpack archives and say what the upload is.

        Returns
        -------
        dict
            ``form`` (``fields`` or ``folder``), ``named`` (field to file), ``folder`` (of the study), ``ignored``,
            ``files``; paths relative to the folder.

        Raises
        ------
        Refusal
            If it is empty, mixes fields with a folder, or an archive is refused.
        """
        if self._archives and (len(self._archives) > 1 or self.count > 1):
            raise Refusal(422, "upload: holds an archive beside other files; send one archive, or the files alone")
        for place in self._archives:
            target = self._folder / "study"
            target.mkdir()
            kept, ignored, _ = unpack(place, target, self._limits, self._room.write)
            self.count, self.ignored = kept, self.ignored + ignored
            self._room.written -= place.stat().st_size
            place.unlink()
        if not self.count:
            raise Refusal(415, "upload: holds no image that is read; send NIfTI, DICOM, MHA or NRRD files or a zip")
        if self.named and (self._folder / "study").exists():
            raise Refusal(422, "upload: has files by sequence beside others; send one or the other")
        told: dict[str, Any] = {"files": self.count, "ignored": self.ignored, "named": self.named}
        self._check_headers()
        if self.named:
            return {**told, "form": "fields", "folder": None}
        return {**told, "form": "folder", "folder": study_place(self._folder / "study", self._folder)}

    def _check_headers(self) -> None:
        """Refuse images whose headers are no scan's: each that was named, and a folder in which none is one.

        Raises
        ------
        Refusal
            For the first of them.
        """
        named = [self._folder / path for path in self.named.values()]
        paths = named or [path for path in sorted(self._folder.rglob("*.nii*")) if path.is_file()]
        if not named and (len(paths) < self.count or len(paths) > HEADERS):
            return
        refused = []
        for path in paths:
            try:
                if ".nii" in path.name.lower():
                    check_header(path)
            except UserError as error:
                text = str(error).replace(str(path), shown_name(path.name))
                refused.append(Refusal(422, text.translate({ord("<"): "_", ord(">"): "_"})))
        if refused and (named or len(refused) == len(paths)):
            raise refused[0]


def study_place(folder: Path, root: Path) -> str:
    """The folder of a study: the only one in it, where no files lie beside it."""
    inner = list(folder.iterdir())
    if len(inner) == 1 and inner[0].is_dir():
        folder = inner[0]
    return folder.relative_to(root).as_posix()
