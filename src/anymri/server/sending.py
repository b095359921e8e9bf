"""Sending of results to a DICOMweb server by STOW-RS."""

from __future__ import annotations

import http.client
import logging
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from anymri.server.places import Places
from anymri.server.settings import ServerSettings
from anymri.server.store import Busy, Job, Store

__all__ = ["Sender", "send_instances"]

log = logging.getLogger("anymri.server")

#: Pauses before the attempts, in seconds.
PAUSES_S = (0.0, 5.0, 30.0)
#: How long the other server may be silent, in seconds.
SILENCE_S = 60.0
LOOK_S = 1.0
_STEP = 2**20


def send_instances(root: str, token: str | None, files: list[Path]) -> str | None:
    """Send DICOM files in one request.

    Parameters
    ----------
    root : str
        Of the DICOMweb server, e.g. ``http://localhost:8042/dicom-web``.
    token : str or None
        Bearer token.
    files : list of Path

    Returns
    -------
    str or None
        Why it failed; None if all were stored.
    """
    boundary = f"anymri-{secrets.token_hex(16)}"
    head = f"\r\n--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    tail = f"\r\n--{boundary}--\r\n".encode()
    length = sum(len(head) + path.stat().st_size for path in files) + len(tail)

    def body() -> Iterator[bytes]:
        for path in files:
            yield head
            with path.open("rb") as file:
                while part := file.read(_STEP):
                    yield part
        yield tail

    place = urlsplit(root)
    kind = http.client.HTTPSConnection if place.scheme == "https" else http.client.HTTPConnection
    headers = {
        "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
        "Content-Length": str(length),
        "Accept": "application/dicom+json",
    }
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    link = kind(place.netloc, timeout=SILENCE_S)
    try:
        link.request("POST", f"{place.path.rstrip('/')}/studies", body=body(), headers=headers)
        answer = link.getresponse()
        answer.read(2**20)
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
    finally:
        link.close()
    return None if answer.status == 200 else f"it answered {answer.status}"


class Sender(threading.Thread):
    """Sends what is queued for it, one result after the other.

    Parameters
    ----------
    settings : ServerSettings
    places : Places
    store : Store
    stopping : threading.Event
    """

    def __init__(self, settings: ServerSettings, places: Places, store: Store, stopping: threading.Event) -> None:
        super().__init__(name="anymri send", daemon=True)
        self._settings, self._places, self._store, self._stopping = settings, places, store, stopping

    def queue(self, job: Job) -> None:
        """Write down that the result of a run is to be sent, if it holds DICOM."""
        if job.kind == "run" and job.run is not None and self._files(job):
            self._store.queue_sending(job.study, job.run)

    def run(self) -> None:
        """Send until the server stops."""
        while not self._stopping.wait(LOOK_S):
            try:
                while not self._stopping.is_set() and (job := self._store.claim("send")) is not None:
                    self._send(job)
            except Busy:
                log.warning("the database cannot be used just now")

    def _files(self, job: Job) -> list[Path]:
        return sorted(self._places.result(job.study, job.run or "").rglob("*.dcm"))

    def _send(self, job: Job) -> None:
        started, why = time.monotonic(), "nothing to send"
        for pause in PAUSES_S:
            if self._stopping.wait(pause):
                return  # the next start takes it up
            try:
                told = send_instances(str(self._settings.send_to), self._settings.send_token, self._files(job))
            except OSError as error:  # removed meanwhile
                told = type(error).__name__
            if told is None:
                self._store.finish(job, None, seconds=time.monotonic() - started, kind="send", found=None)
                log.info("job %d (send): done", job.number)
                return
            why = told
        log.error("job %d (send): failed, %s", job.number, why)
        error_text = f"result: could not be sent on ({why}); ask who runs the server"
        self._store.finish(job, error_text, seconds=time.monotonic() - started, kind="send", found=None)
