"""A server inside the test's own process: its requests, and its jobs done without worker processes."""

from __future__ import annotations

import functools
import io
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from fastapi.testclient import TestClient

from anymri.data.datasets import get_dataset
from anymri.phantom import PhantomSettings, make_subject
from anymri.server import app as app_module
from anymri.server.settings import Limits, ServerSettings
from anymri.server.work import _answer

#: Limits small enough to be reached.
SMALL = Limits(
    upload_bytes=4_000_000, unpacked_bytes=6_000_000, files=40, waiting=6, reserve_bytes=0, pause_s=5.0, uploads=4
)


@functools.cache
def phantom():
    """Sequences of one small patient, by modality."""
    return dict(make_subject(5, 1, PhantomSettings(spacing_mm=8.0)).images)


def write_phantom(folder: Path, name: str = "case") -> Path:
    """A folder of one study in plain names."""
    return get_dataset("folder").write(folder, name, phantom(), None, (8.0, 8.0, 8.0))


def zipped(files: dict[str, bytes]) -> bytes:
    """An archive in memory."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@contextmanager
def serving(folder: Path, *, workers: bool = False, **settings):
    """A client of a server on `folder`; without workers its jobs are done by `do_jobs`."""
    settings = {"limits": SMALL, "settle_s": 0.2, **settings}
    app = app_module.create_app(ServerSettings(folder=folder, **settings))
    parts = app.state.parts
    if not workers:
        parts.supervisor.start = lambda: parts.store.take_up()
        parts.supervisor.stop = lambda patience_s: parts.supervisor.stopping.set()
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        client.parts = parts
        yield client


def do_jobs(client, most: int = 20) -> int:
    """Do what is queued, as a worker does; the number of jobs."""
    supervisor, store = client.parts.supervisor, client.parts.store
    for number in range(most):
        job = store.claim("inspect", "run")
        if job is None:
            return number
        task = supervisor.task(job, store.study(job.study))
        supervisor.ended(job, _answer(task, client.parts.places.root), 1.0, "run brain")
    return most


def upload(client, folder: Path, *codes: str, headers=None, **fields):
    """Send sequences of a folder as fields."""
    files = {code: (f"{code}.nii.gz", (folder / f"{code}.nii.gz").read_bytes()) for code in codes}
    return client.post("/studies", files=files, data=fields, headers=headers)


def files_below(folder: Path) -> dict[str, bytes]:
    """Name to content of everything below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def noise(seed: int, size: int) -> bytes:
    """Bytes that cannot be packed."""
    return np.random.default_rng(seed).bytes(size)
