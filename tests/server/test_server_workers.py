"""Workers: one that is killed, hangs or takes too much memory costs its own job, and says so."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

pytest.importorskip("fastapi")
import fake_worker
from serving import SMALL, serving

from anymri.server import supervisor as supervisor_module
from anymri.server.places import new_identifier

ASKED = {"model": "default", "subset": ["t1"], "completion": "auto", "formats": ["nifti"]}


@pytest.fixture(autouse=True)
def _fake(monkeypatch):
    monkeypatch.setattr(supervisor_module, "serve_jobs", fake_worker.serve_jobs)
    monkeypatch.setattr(supervisor_module, "LOOK_S", 0.05)


def add(client, **asked):
    study, run = new_identifier(), new_identifier()
    client.parts.places.upload(study).mkdir(parents=True)
    client.parts.store.add_study(
        study, "", {}, size=1, keep_s=60, request={**ASKED, **asked}, run=run, most_waiting=99
    )  # fmt: skip
    client.parts.supervisor.wake.set()
    return study


def ended(client, study, seconds=20.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = client.get(f"/studies/{study}").json()
        if found["status"] in ("done", "failed"):
            return found
        time.sleep(0.05)
    raise AssertionError(found)


def test_a_worker_that_is_killed_once_is_replaced_and_its_job_done(tmp_path):
    with serving(tmp_path / "data", workers=True) as client:
        first, second = add(client, completion="always"), add(client)
        assert ended(client, first)["status"] == ended(client, second)["status"] == "done"
        assert client.get("/ready").status_code == 200
        assert 'anymri_jobs_total{end="retried",kind="run"} 1.0' in client.get("/metrics").text


def test_one_that_hangs_or_takes_too_much_fails_with_its_reason(tmp_path):
    limits = replace(SMALL, job_s=0.6, job_bytes=150_000_000)
    with serving(tmp_path / "data", workers=True, limits=limits) as client:
        hanging = add(client, completion="never", subset=["hang"])
        assert "it took more than 1 s and was ended" in ended(client, hanging)["error"]
    with serving(tmp_path / "data", workers=True, limits=replace(limits, job_s=30.0)) as client:
        greedy = add(client, completion="never")
        assert "GiB of memory and was ended" in ended(client, greedy)["error"]
        assert ended(client, add(client))["status"] == "done"


def test_removing_a_study_ends_its_job_and_the_next_start_goes_on(tmp_path, monkeypatch):
    from anymri.server import app as app_module

    monkeypatch.setattr(app_module, "PATIENCE_S", 0.1)
    with serving(tmp_path / "data", workers=True) as client:
        hanging = add(client, completion="never", subset=["hang"])
        while client.get(f"/studies/{hanging}").json()["status"] != "running":
            time.sleep(0.02)
        assert client.delete(f"/studies/{hanging}").status_code == 204
        assert ended(client, add(client))["status"] == "done"
        cut_off = add(client, completion="never", subset=["hang"])
        while client.get(f"/studies/{cut_off}").json()["status"] != "running":
            time.sleep(0.02)
        time.sleep(0.3)
    with serving(tmp_path / "data") as client:
        job = client.parts.store.claim("run")
        assert (job.study, job.attempt) == (cut_off, 1)
