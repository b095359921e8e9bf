"""Intake of studies: an upload lies whole on the disk and is written down before it is answered."""

from __future__ import annotations

import asyncio
import re
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Request
from starlette.requests import ClientDisconnect

from anymri.errors import UserError
from anymri.server.answers import Accepted, NewRun
from anymri.server.multipart import Parts, boundary_of, pour
from anymri.server.places import Places, new_identifier
from anymri.server.refusal import Refusal, refusal_of_disk
from anymri.server.settings import ServerSettings
from anymri.server.store import Full, Store
from anymri.server.upload import FIELDS, FormUpload, Room

__all__ = ["Intake", "accepted", "check_run"]

#: Longest idempotency key.
LONGEST_KEY = 128
#: How long to tell a client to wait where no time is known, in seconds.
RETRY_S = 15
_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")


class Intake:
    """What takes uploads.

    Parameters
    ----------
    settings : ServerSettings
    places : Places
    store : Store
    """

    def __init__(self, settings: ServerSettings, places: Places, store: Store) -> None:
        self.settings, self.places, self.store = settings, places, store
        self.stopping = False
        self._uploads = 0

    async def check_queue(self) -> None:
        """Refuse work where too much waits.

        Raises
        ------
        Refusal
            429, or 503 while the server stops.
        """
        if self.stopping:
            raise Refusal(503, "server: is stopping; come again in a minute", {"Retry-After": "60"})
        if await asyncio.to_thread(self.store.waiting) >= self.settings.limits.waiting:
            raise await asyncio.to_thread(self.queue_is_full)

    def queue_is_full(self) -> Refusal:
        """Refusal with the time that one more study takes."""
        seconds = min(600, round((self.store.usual_seconds("run brain") or RETRY_S) / self.settings.workers) + 1)
        most = self.settings.limits.waiting
        text = f"server: {most} studies are waiting; come again in {seconds} s"
        return Refusal(429, text, {"Retry-After": str(seconds)})

    @asynccontextmanager
    async def one_upload(self) -> AsyncIterator[None]:
        """Count an upload that is under way.

        Raises
        ------
        Refusal
            429 if there are too many.
        """
        if self._uploads >= self.settings.limits.uploads:
            raise Refusal(429, "server: too many uploads at a time; come again in 5 s", {"Retry-After": "5"})
        self._uploads += 1
        try:
            yield
        finally:
            self._uploads -= 1

    def room(self, request: Request) -> Room:
        """Room for an upload, by the length it announces.

        Raises
        ------
        Refusal
            If there is none.
        """
        room = Room(self.places.incoming, self.settings.limits, self.store.used_bytes())
        length = request.headers.get("content-length", "")
        if length.isdigit() and len(length) < 20:
            room.receive(int(length))
            room.write(int(length))
        return Room(self.places.incoming, self.settings.limits, self.store.used_bytes())

    async def take_form(self, request: Request, owner: str) -> Accepted:
        """Take a study that is sent as a form.

        Raises
        ------
        Refusal
            If it is not taken; nothing of it is left then.
        """
        boundary = boundary_of(request, "multipart/form-data")
        key = request.headers.get("idempotency-key")
        if key is not None and not (key.isprintable() and 0 < len(key) <= LONGEST_KEY):
            raise Refusal(400, f"Idempotency-Key: is no text of 1 to {LONGEST_KEY} letters; draw one at random")
        if key is not None and (earlier := await asyncio.to_thread(self._earlier, owner, key)) is not None:
            return earlier
        await self.check_queue()
        room = await asyncio.to_thread(self.room, request)
        study = new_identifier()
        draft = self.places.incoming / study
        async with self.one_upload():
            upload = FormUpload(draft / "upload", self.settings.limits, room)
            try:
                await asyncio.to_thread((draft / "upload").mkdir, parents=True)
                most = self.settings.limits.files + len(FIELDS)
                await pour(request, Parts(boundary, upload, most), self.settings.limits, room.receive)
                return await asyncio.to_thread(self._write_down, upload, study, owner, key, room.written)
            except ClientDisconnect:
                raise Refusal(400, "upload: was broken off; send it again") from None
            except OSError as error:
                raise refusal_of_disk(error) or error from None
            finally:
                upload.abort()
                await asyncio.to_thread(shutil.rmtree, draft, ignore_errors=True)

    def _write_down(self, upload: FormUpload, study: str, owner: str, key: str | None, size: int) -> Accepted:
        """Give a complete upload its place and its job."""
        told = upload.finish()
        wanted, request = _read_fields(upload.fields, self.settings, told)
        run = new_identifier() if wanted else None
        place = self.places.study(study)
        (self.places.incoming / study).rename(place)
        try:
            self.store.add_study(
                study, owner, told, size=size, keep_s=self.settings.limits.keep_s, key=key,
                request=request if wanted else None, run=run, most_waiting=self.settings.limits.waiting,
            )  # fmt: skip
        except BaseException as error:
            self.places.remove(study)
            earlier = None
            if isinstance(error, Full):
                raise self.queue_is_full() from None
            if isinstance(error, sqlite3.IntegrityError) and key is not None:  # the same request, a moment earlier
                earlier = self._earlier(owner, key)
            if earlier is None:
                raise
            return earlier
        return accepted(study, run, self.settings.root_path)

    def _earlier(self, owner: str, key: str) -> Accepted | None:
        """Answer to the same request before."""
        study = self.store.by_key(owner, key)
        row = None if study is None else self.store.study(study, owner)
        if row is None:
            return None
        run = row["runs"][0]["id"] if row["runs"] else None
        return accepted(row["id"], run, self.settings.root_path)


def accepted(study: str, run: str | None, root: str) -> Accepted:
    """Answer to a study or run that was written down."""
    here = f"{root}/studies/{study}"
    links = {"self": here, "runs": f"{here}/runs", "report": f"{here}/report"}
    if run is not None:
        links["run"] = f"{here}/runs/{run}"
    return Accepted(id=study, run=run, links=links)


def _read_fields(fields: dict[str, str], settings: ServerSettings, told: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
    """Whether to run, and what; what concerns the upload goes into `told`."""
    run, raw = fields.get("run", "true").lower(), fields.get("raw", "auto").lower()
    if run not in (*_TRUE, *_FALSE):
        raise Refusal(422, "run: is neither true nor false; send one of them")
    if raw not in ("auto", "yes", "no"):
        raise Refusal(422, "raw: is unknown; send auto, yes or no")
    told["raw"] = raw
    subset = [part.strip() for part in fields.get("subset", "").replace(",", "+").split("+") if part.strip()]
    completion: Any = fields.get("completion", "auto")
    if completion not in ("auto", "always", "never"):
        raise Refusal(422, "completion: is unknown; send auto, always or never")
    formats = [part.strip() for part in fields.get("formats", "nifti").split(",") if part.strip()]
    wanted = NewRun.model_construct(
        model=fields.get("model") or "default", subset=subset or None, completion=completion, formats=formats
    )
    return run in _TRUE, check_run(wanted, settings)


def check_run(wanted: NewRun, settings: ServerSettings) -> dict[str, Any]:
    """What is asked for, checked against what there is.

    Raises
    ------
    Refusal
        422 if there is no such model, sequence or format.
    """
    from anymri.inference.output.formats import check_outputs
    from anymri.modalities import MODALITIES
    from anymri.server.content import shown_name
    from anymri.zoo import get_card

    if wanted.model not in settings.models and (
        not re.fullmatch(r"[\w.-]{1,128}", wanted.model) or get_card(wanted.model) is None
    ):
        raise Refusal(422, f"model {shown_name(wanted.model)}: is not on this server; choose one of GET /models")
    unknown = [code for code in wanted.subset or [] if code not in MODALITIES]
    if unknown or wanted.subset == []:
        shown = shown_name(unknown[0]) if unknown else "empty"
        raise Refusal(422, f"subset: {shown} is no sequence; choose of {', '.join(MODALITIES)}")
    try:
        formats = check_outputs(wanted.formats)
    except UserError as error:
        raise Refusal(422, shown_line(str(error).replace("--outputs", "formats"))) from None
    return {**wanted.model_dump(), "formats": list(formats)}


def shown_line(text: str) -> str:
    """A message with nothing that could be read as HTML."""
    return "".join(letter if letter.isprintable() and letter not in "<>" else "_" for letter in text[:400])
