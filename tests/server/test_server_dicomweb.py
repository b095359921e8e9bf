"""DICOMweb: instances by STOW-RS become one study; results go on to a DICOMweb server on loopback."""

from __future__ import annotations

import io
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import numpy as np
import pydicom
import pytest

pytest.importorskip("fastapi")
from serving import phantom, serving

from anymri.data.formats import write_dicom
from anymri.data.geometry import Geometry
from anymri.server import sending
from anymri.server.places import new_identifier

KIND = 'multipart/related; type="application/dicom"; boundary=b'


@pytest.fixture(scope="module")
def slices(tmp_path_factory):
    """Files of a series."""
    array = phantom()["t1"]
    folder = tmp_path_factory.mktemp("dicom")
    geometry = Geometry(np.diag([8.0, 8.0, 8.0, 1.0]), array.shape[::-1])
    write_dicom(folder, (array * 1000 / array.max()).astype(np.int16), geometry, "patient 1")
    return [path.read_bytes() for path in sorted(folder.iterdir())]


def stow(client, *parts, path="/dicomweb/studies", **headers):
    body = b"".join(b"\r\n--b\r\nContent-Type: application/dicom\r\n\r\n" + part for part in parts) + b"\r\n--b--\r\n"
    return client.post(path, content=body, headers={"content-type": KIND, **headers})


def study_of(content):
    return pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True).StudyInstanceUID


def test_instances_of_several_requests_become_one_study(tmp_path, slices):
    with serving(tmp_path / "data", settle_s=3600.0) as client:
        first = stow(client, *slices[:3])
        assert first.status_code == 200
        assert first.headers["content-type"] == "application/dicom+json"
        stored = first.json()["00081199"]["Value"]
        told = [row["00081155"]["Value"][0] for row in stored]
        assert told == [pydicom.dcmread(io.BytesIO(part)).SOPInstanceUID for part in slices[:3]]
        here = first.json()["00081190"]["Value"][0]
        second = stow(client, *slices[2:], path=f"/dicomweb/studies/{study_of(slices[0])}")
        assert second.json()["00081190"]["Value"] == [here]
        found = client.get(here).json()
        assert (found["status"], len(found["runs"])) == ("receiving", 1)
        assert client.parts.store.claim("inspect") is None
        place = client.parts.places.upload(found["id"]) / "study"
        assert [path.read_bytes() for path in sorted(place.iterdir())] == slices
        assert not [path for path in place.iterdir() if study_of(slices[0]) in path.name]
        assert client.parts.stow.close_settled() is False
        client.parts.stow._last[found["id"]] -= 7200
        assert client.parts.stow.close_settled() is True
        assert client.get(here).json()["status"] == "queued"
        assert client.parts.store.claim("inspect").study == found["id"]
        late = stow(client, slices[0]).json()
        assert late["00081190"]["Value"] != [here]


def test_what_is_not_stored_is_told(tmp_path, slices):
    with serving(tmp_path / "data", settle_s=3600.0) as client:
        mixed = stow(client, slices[0], b"no DICOM")
        assert mixed.status_code == 202
        assert [row["00081197"]["Value"] for row in mixed.json()["00081198"]["Value"]] == [[0xC000]]
        other = stow(client, slices[0], path="/dicomweb/studies/1.2.3")
        assert other.status_code == 409
        assert [row["00081197"]["Value"] for row in other.json()["00081198"]["Value"]] == [[0xA900]]
        assert len(client.get("/studies").json()["studies"]) == 1


@contextmanager
def archive(answers):
    """A DICOMweb server that keeps what it is sent and gives these answers, one after the other."""
    kept = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            kept.append((self.path, self.headers["authorization"], self.headers["content-type"], body))
            self.send_response(answers.pop(0))
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/dicom-web/", kept
    finally:
        server.shutdown()
        server.server_close()


def finished_run(client, slices):
    """A study whose run left two DICOM files."""
    study, run = new_identifier(), new_identifier()
    store = client.parts.store
    asked = {"model": "default", "subset": None, "completion": "auto", "formats": ["dicom-seg"]}
    store.add_study(study, "", {}, size=1, keep_s=60, request=asked, run=run, most_waiting=9)
    place = client.parts.places.result(study, run)
    place.mkdir(parents=True)
    for number, content in enumerate(slices[:2]):
        (place / f"{number}.dcm").write_bytes(content)
    for kind in ("inspect", "run"):
        client.parts.supervisor.ended(store.claim(kind), ("done", {"files": [], "sequences": []}), 1.0, "run dicom")
    return f"/studies/{study}/runs/{run}"


def sent(client, here):
    end = time.monotonic() + 20
    while (found := client.get(here).json())["sent"] == "pending" and time.monotonic() < end:
        time.sleep(0.02)
    return found["sent"]


def test_results_are_sent_on_and_what_is_refused_is_tried_again(tmp_path, slices, monkeypatch):
    monkeypatch.setattr(sending, "LOOK_S", 0.02)
    monkeypatch.setattr(sending, "PAUSES_S", (0.0, 0.01))
    with (
        archive([503, 200, 500, 500]) as (root, kept),
        serving(tmp_path / "data", send_to=root, send_token="secret") as client,
    ):
        assert sent(client, finished_run(client, slices)) == "sent"
        assert [(path, token) for path, token, _, _ in kept] == [("/dicom-web/studies", "Bearer secret")] * 2
        _, _, kind, body = kept[-1]
        boundary = kind.partition("boundary=")[2].encode()
        parts = [part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for part in body.split(b"--" + boundary)[1:-1]]
        assert parts == slices[:2]
        assert sent(client, finished_run(client, slices)) == "failed"
