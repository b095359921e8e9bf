"""Studies by STOW-RS: instances of one study become one, whatever requests they come in."""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from fastapi import Request
from starlette.requests import ClientDisconnect

from anymri.data.dicom.headers import read_dataset
from anymri.server.answers import NewRun
from anymri.server.intake import Intake, check_run
from anymri.server.multipart import Parts, boundary_of, pour
from anymri.server.places import new_identifier
from anymri.server.refusal import Refusal, refusal_of_disk
from anymri.server.store import Full
from anymri.server.upload import Room

__all__ = ["Answer", "Stow"]

#: Failure reasons of DICOM PS3.18, table I.2-2: cannot understand; does not match the study that was named.
NOT_UNDERSTOOD, OTHER_STUDY = 0xC000, 0xA900
#: What an instance must say of itself, and what puts it in order.
_TAGS: list[Any] = [
    "StudyInstanceUID", "SOPClassUID", "SOPInstanceUID", "SeriesNumber", "InstanceNumber", "TransferSyntaxUID",
]  # fmt: skip
_UID = re.compile(r"[0-9.]{1,64}")


class Answer(NamedTuple):
    """Answer to a request.

    Attributes
    ----------
    status : int
    content : dict
        DICOM JSON.
    """

    status: int
    content: dict[str, Any]


class _Instance(NamedTuple):
    """One part: where it lies, and what it says; `failure` is 0 if it is taken."""

    place: Path
    study: str
    sop_class: str
    sop_instance: str
    name: str
    failure: int


class _Sink:
    """Takes the parts of a request; see `anymri.server.multipart.PartSink`."""

    def __init__(self, folder: Path, room: Room, wanted: str | None) -> None:
        self._folder, self._room, self._wanted = folder, room, wanted
        self._file: BinaryIO | None = None
        self._place = folder
        self.instances: list[_Instance] = []

    def begin(self, headers: dict[str, str]) -> None:
        """A part begins, whatever it says that it is."""
        self._place = self._folder / f"{len(self.instances):06d}"
        self._file = self._place.open("xb")

    def data(self, data: bytes) -> None:
        """More of it."""
        assert self._file is not None
        self._room.write(len(data))
        self._file.write(data)

    def end(self) -> None:
        """Read what the instance says of itself."""
        self.abort()
        self.instances.append(self._read())

    def abort(self) -> None:
        """Close what is open."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _read(self) -> _Instance:
        try:
            with self._place.open("rb") as file:
                if file.read(132)[128:] != b"DICM":
                    raise ValueError
                file.seek(0)
                dataset = read_dataset(file, stop_before_pixels=True, specific_tags=_TAGS)
            told = [str(getattr(dataset, name, "")) for name in _TAGS[:3]]
            if not all(map(_UID.fullmatch, told)):
                raise ValueError
            order = "-".join(f"{_number(getattr(dataset, name, 0)):06d}" for name in ("SeriesNumber", "InstanceNumber"))
        except Exception:  # whatever a damaged header raises
            return _Instance(self._place, "", "", "", "", NOT_UNDERSTOOD)
        name = f"{order}-{hashlib.sha256(told[2].encode()).hexdigest()[:16]}.dcm"
        failure = OTHER_STUDY if self._wanted not in (None, told[0]) else 0
        return _Instance(self._place, told[0], told[1], told[2], name, failure)


def _number(value: Any) -> int:
    """A number of a header for a file name; 0 where it is none."""
    text = str(value)
    return int(text) if text.isdecimal() and text.isascii() and len(text) <= 6 else 0


class Stow:
    """What takes instances, and closes studies once nothing more comes.

    Parameters
    ----------
    intake : Intake
    """

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._settings, self._places, self._store = intake.settings, intake.places, intake.store
        self._lock = threading.Lock()
        self._last: dict[str, float] = {}

    async def take(self, request: Request, owner: str, wanted: str | None) -> Answer:
        """Take the instances of a request.

        Parameters
        ----------
        request : Request
        owner : str
        wanted : str or None
            Identifier of the study that the path names.

        Raises
        ------
        Refusal
            If the request as a whole is not taken.
        """
        boundary = boundary_of(request, "multipart/related")
        if wanted is not None and not _UID.fullmatch(wanted):
            raise Refusal(404, "study: is no identifier of a DICOM study; send to /dicomweb/studies")
        if self._intake.stopping:
            await self._intake.check_queue()
        room = await asyncio.to_thread(self._intake.room, request)
        draft = self._places.incoming / new_identifier()
        limits = self._settings.limits
        async with self._intake.one_upload():
            sink = _Sink(draft, room, wanted)
            try:
                await asyncio.to_thread(draft.mkdir)
                await pour(request, Parts(boundary, sink, limits.files), limits, room.receive)
                return await asyncio.to_thread(self._write_down, sink.instances, owner)
            except ClientDisconnect:
                raise Refusal(400, "upload: was broken off; send it again") from None
            except OSError as error:
                raise refusal_of_disk(error) or error from None
            finally:
                sink.abort()
                await asyncio.to_thread(shutil.rmtree, draft, ignore_errors=True)

    def close_settled(self) -> bool:
        """Queue studies to which nothing has come for a while; True if there was one."""
        now, closed = time.monotonic(), False
        with self._lock:
            for study in self._store.receiving():
                if now - self._last.setdefault(study, now) >= self._settings.settle_s:
                    self._store.close_receiving(study)
                    self._last.pop(study, None)
                    closed = True
        return closed

    def _write_down(self, instances: list[_Instance], owner: str) -> Answer:
        """Give instances their places in studies, and answer."""
        groups: dict[str, list[_Instance]] = {}
        for instance in instances:
            if not instance.failure:
                groups.setdefault(instance.study, []).append(instance)
        studies = {}
        with self._lock:
            for uid, group in groups.items():
                studies[uid] = self._add(uid, group, owner)
        return self._answer(instances, studies)

    def _add(self, uid: str, group: list[_Instance], owner: str) -> str:
        """Add instances to the open study of their identifier, or to a new one."""
        digest = hashlib.sha256(uid.encode()).hexdigest()
        open_ones = self._store.receiving(owner, digest)
        study = open_ones[0] if open_ones else new_identifier()
        size = sum(instance.place.stat().st_size for instance in group)
        target = self._places.upload(study) / "study"
        if open_ones and len(list(target.iterdir())) + len(group) > self._settings.limits.files:
            raise Refusal(413, f"study: would have more than {self._settings.limits.files} files; send its MR series")
        target.mkdir(parents=True, exist_ok=True)
        for instance in group:
            instance.place.replace(target / instance.name)  # one that is sent again is the same
        if open_ones:
            self._store.add_instances(study, size, len(group))
        else:
            self._create(study, owner, digest, size, len(group))
        self._last[study] = time.monotonic()
        return study

    def _create(self, study: str, owner: str, digest: str, size: int, count: int) -> None:
        formats = ["nifti", "dicom-seg"] if _can_write_dicom() else ["nifti"]
        wanted = NewRun(model=self._settings.model, formats=formats)
        told = {
            "form": "folder", "folder": "study", "named": {}, "files": count, "ignored": 0, "raw": "auto", "labels": {},
        }  # fmt: skip
        limits = self._settings.limits
        try:
            self._store.add_study(
                study, owner, told, size=size, keep_s=limits.keep_s, receiving=True, uid=digest,
                request=check_run(wanted, self._settings), run=new_identifier(), most_waiting=limits.waiting,
            )  # fmt: skip
        except BaseException as error:
            self._places.remove(study)
            if isinstance(error, Full):
                raise self._intake.queue_is_full() from None
            raise

    def _answer(self, instances: list[_Instance], studies: dict[str, str]) -> Answer:
        stored, failed = [], []
        root = self._settings.root_path
        for instance in instances:
            row: dict[str, Any] = {}
            if instance.sop_instance:
                row["00081150"] = {"vr": "UI", "Value": [instance.sop_class]}
                row["00081155"] = {"vr": "UI", "Value": [instance.sop_instance]}
            if instance.failure:
                failed.append({**row, "00081197": {"vr": "US", "Value": [instance.failure]}})
            else:
                stored.append({**row, "00081190": {"vr": "UR", "Value": [f"{root}/studies/{studies[instance.study]}"]}})
        content: dict[str, Any] = {}
        if len(studies) == 1:
            content["00081190"] = {"vr": "UR", "Value": [f"{root}/studies/{next(iter(studies.values()))}"]}
        if stored:
            content["00081199"] = {"vr": "SQ", "Value": stored}
        if failed:
            content["00081198"] = {"vr": "SQ", "Value": failed}
        return Answer(409 if not stored else 202 if failed else 200, content)


def _can_write_dicom() -> bool:
    from anymri.errors import UserError
    from anymri.inference.output.formats import check_outputs

    try:
        check_outputs(("dicom-seg",))
    except UserError:
        return False
    return True
