"""The HTTP interface: upload, look, run, correct, read, remove; the same bytes as the command."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from command_line import run

pytest.importorskip("fastapi")
from serving import do_jobs, files_below, serving, upload, write_phantom, zipped

from anymri.server import inspection
from anymri.server.summary import source_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_phantom(tmp_path_factory.mktemp("phantom"))


@pytest.fixture
def client(tmp_path):
    with serving(tmp_path / "data") as client:
        yield client


def result_of(client, answer):
    """Every file of the newest run, as it is downloaded."""
    found = client.get(answer.json()["links"]["self"]).json()
    assert found["status"] == "done", found
    return found, {file["name"]: client.get(file["href"]).content for file in found["runs"][-1]["files"]}


def test_a_run_gives_the_bytes_of_the_command(client, folder, tmp_path):
    answer = upload(client, folder, "t1", "flair", subset="flair", completion="never")
    assert answer.status_code == 202, answer.text
    assert do_jobs(client) == 2
    found, files = result_of(client, answer)
    given = ["--t1", folder / "t1.nii.gz", "--flair", folder / "flair.nii.gz", "--subset", "flair"]
    options = ["--completion", "never", "--save-probabilities", "-o", tmp_path / "out"]
    assert run("predict", *given, *options).code == 0
    assert files == files_below(tmp_path / "out")
    assert {"segmentation.nii.gz", "uncertainty.nii.gz", "report.html", "result.json"} <= set(files)
    images = [client.get(row["href"]).content for row in found["sequences"]]
    assert images == [(folder / f"{code}.nii.gz").read_bytes() for code in ("t1", "flair")]
    assert [row["quality"]["label"] for row in found["sequences"]] == ["doubtful"] * 2  # at 8 mm
    check_run(found["runs"][-1])
    report = client.get(answer.json()["links"]["report"])
    assert report.content == files["report.html"]
    policy = report.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'sha256-" in policy
    assert policy.endswith("sandbox allow-scripts")
    asked = client.post(answer.json()["links"]["runs"], json={"subset": ["t1"]})
    assert asked.status_code == 202
    again = client.get(answer.json()["links"]["self"]).json()
    assert (again["status"], again["runs"][-1]["id"]) == ("running", asked.json()["run"])


def check_run(told):
    """What pages show of a run."""
    assert told["first_line"]
    assert told["available"] == ["flair"]
    assert [row["region"] for row in told["regions"]] == ["whole_tumor", "tumor_core", "enhancing_tumor"]
    assert told["regions"][2]["volume_ml"] is None
    assert "T1c" in told["regions"][2]["unknown"]
    kinds = {file["name"]: file["kind"] for file in told["files"]}
    assert kinds["segmentation.nii.gz"] == "segmentation"
    assert kinds["probability_whole_tumor.nii.gz"] == "probability"
    assert (kinds["uncertainty.nii.gz"], kinds["report.html"]) == ("uncertainty", "report")


@pytest.fixture
def _quick(monkeypatch):
    """Leave out what images look like; other tests hold that."""
    monkeypatch.setattr(inspection, "_judge", lambda rows, used: [])
    monkeypatch.setattr(inspection, "_looks_like", lambda volume: None)
    monkeypatch.setattr(inspection, "_is_head", lambda row, volume: False)


@pytest.mark.usefixtures("_quick")
def test_a_zip_is_unpacked_and_looked_at(client, folder):
    names = {"t1": "t1.nii.gz", "flair": "sub/flair.nii.gz"}
    content = zipped({f"case/{name}": (folder / f"{code}.nii.gz").read_bytes() for code, name in names.items()})
    answer = client.post("/studies", files={"files": ("study.zip", content)}, data={"run": "false"})
    assert answer.status_code == 202, answer.text
    do_jobs(client)
    found = client.get(answer.json()["links"]["self"]).json()
    assert [(row["file"], row["modality"]) for row in found["sequences"]] == [
        ("t1.nii.gz", "t1"),
        ("sub/flair.nii.gz", None),
    ]
    assert found["status"] == "ready"
    assert any("1 image in it is not used" in warning for warning in found["warnings"])


@pytest.mark.usefixtures("_quick")
def test_only_looked_at_then_corrected_then_run(client, folder):
    names = {"t1": "first.nii.gz", "flair": "second.nii.gz"}
    files = [("files", (f"x/{name}", (folder / f"{code}.nii.gz").read_bytes())) for code, name in names.items()]
    answer = client.post("/studies", files=files, data={"run": "false"}).json()
    here = f"/studies/{answer['id']}"
    assert answer["run"] is None
    assert client.get(here).json()["status"] == "queued"
    assert client.post(f"{here}/runs", json={}).status_code == 202
    assert client.patch(f"{here}/sequences", json={"sequences": {"first.nii.gz": "t1"}}).status_code == 409
    do_jobs(client)
    found = client.get(here).json()
    assert found["status"] == "failed"
    assert "correct the labels" in found["error"]
    assert [row["modality"] for row in found["sequences"]] == [None, None]
    wrong = client.patch(f"{here}/sequences", json={"sequences": {"first.nii.gz": "t1", "second.nii.gz": "t1"}})
    assert wrong.status_code == 422
    assert "two files" in wrong.json()["detail"]
    labels = {"first.nii.gz": "t1", "second.nii.gz": "flair"}
    assert client.patch(f"{here}/sequences", json={"sequences": labels}).json()["status"] == "queued"
    do_jobs(client)
    assert client.post(f"{here}/runs", json={"subset": ["t2"]}).status_code == 422
    found = client.get(here).json()
    assert [row["modality"] for row in found["sequences"]] == ["t1", "flair"]
    sources = source_of(
        client.parts.places.upload(answer["id"]),
        client.parts.store.study(answer["id"])["upload"],
        client.parts.store.study(answer["id"])["inspected"],
        None,
        ("t1", "t1c", "t2", "flair"),
    )
    assert {code: path.rpartition("/")[2] for code, path in sources.files.items()} == names
    assert sources.subset == ("t1", "flair")


def test_what_is_removed_or_expired_is_gone(client, folder, tmp_path):
    answer = upload(client, folder, "t1", run="false").json()
    place = tmp_path / "data" / "studies" / answer["id"]
    assert place.is_dir()
    assert client.delete(answer["links"]["self"]).status_code == 204
    assert client.get(answer["links"]["self"]).status_code == client.delete(answer["links"]["self"]).status_code == 404
    assert not place.exists()
    assert do_jobs(client) == 0
    answer = upload(client, folder, "t1", run="false").json()
    with client.parts.store._change() as change:
        change.execute("UPDATE studies SET expires = 0")
    client.parts.sweep()
    assert client.get("/studies").json() == {"studies": []}
    assert list((tmp_path / "data" / "studies").iterdir()) == []


def test_the_same_key_gives_the_same_study(client, folder):
    key = {"Idempotency-Key": "4711"}
    first, second = (upload(client, folder, "t1", headers=key).json() for _ in range(2))
    assert first == second
    assert len(client.get("/studies").json()["studies"]) == 1


def test_a_study_that_cannot_be_read_fails_with_its_reason(client, folder, tmp_path):
    content = (folder / "t1.nii.gz").read_bytes()
    answer = client.post("/studies", files={"t1": ("t1.nii.gz", content[: len(content) // 2])}).json()
    do_jobs(client)
    found = client.get(answer["links"]["self"]).json()
    assert found["status"] == "failed"
    assert [row["status"] for row in found["runs"]] == ["failed"]
    assert "t1.nii.gz" in found["error"]
    assert "truncated" in found["error"]
    assert str(tmp_path) not in found["error"]
    assert client.get(answer["links"]["report"]).status_code == 409


def test_one_image_under_two_names_is_told_without_folders_of_the_server(client, folder, tmp_path):
    content = (folder / "t1.nii.gz").read_bytes()
    files = dict.fromkeys(("t1", "t2"), ("image.nii.gz", content))
    answer = client.post("/studies", files=files, data={"run": "false"}).json()
    do_jobs(client)
    text = client.get(answer["links"]["self"]).text
    assert "t2/image.nii.gz: given as t2 is the same image as t1/image.nii.gz" in text
    assert str(tmp_path) not in text


def test_beyond_the_queue_it_says_when_to_come_again(client, folder):
    codes = [upload(client, folder, "t1") for _ in range(7)]
    assert [answer.status_code for answer in codes] == [202] * 6 + [429]
    assert int(codes[-1].headers["retry-after"]) > 0
    again = client.post(f"{codes[0].json()['links']['runs']}", json={})
    assert again.status_code == 429


def test_quota_and_disk(tmp_path, folder):
    from dataclasses import replace

    from serving import SMALL

    for limits in (replace(SMALL, quota_bytes=1000), replace(SMALL, reserve_bytes=2**60)):
        with serving(tmp_path / "data", limits=limits) as client:
            answer = upload(client, folder, "t1")
            assert answer.status_code == 507
            assert "full" in answer.json()["detail"]
            assert client.get("/health").status_code == 200
            assert not list((tmp_path / "data" / "incoming").iterdir())


def test_the_server_tells_of_itself(client, folder):
    upload(client, folder, "t1")
    assert client.get("/models").json()["models"][0]["default"] is True
    assert client.get("/limits").json()["waiting"] == 6
    assert client.get("/ready").status_code == 503  # its workers are not there in this test
    metrics = client.get("/metrics").text
    assert 'anymri_jobs_in_store{kind="inspect",status="queued"} 1.0' in metrics
    assert 'anymri_requests_total{code="202",method="POST",route="/studies"} 1.0' in metrics
    document = client.get("/openapi.json").json()
    assert {"/studies", "/studies/{study}/runs", "/dicomweb/studies"} <= set(document["paths"])
    refused = document["paths"]["/studies"]["post"]["responses"]["422"]["content"]["application/json"]["schema"]
    assert refused["$ref"].endswith("/Failure")


def test_help_of_the_command_loads_no_framework():
    code = "import sys; import anymri.cli; print([m for m in ('fastapi', 'uvicorn', 'starlette') if m in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert told.stdout.strip() == "[]"
