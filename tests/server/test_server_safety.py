"""Safety: hostile requests are refused and leave nothing; tokens hold owners apart; answers carry their policy."""

from __future__ import annotations

import hashlib
import logging
import resource

import pytest

pytest.importorskip("fastapi")
from hostile import hostile_requests
from serving import SMALL, files_below, serving, upload, write_phantom

from anymri.errors import UserError
from anymri.server.content import safe_path
from anymri.server.refusal import Refusal
from anymri.server.settings import ServerSettings, read_tokens

TOKENS = {"anna": "a" * 40, "ben": "b" * 40}
HASHED = {hashlib.sha256(token.encode()).hexdigest(): owner for owner, token in TOKENS.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_phantom(tmp_path_factory.mktemp("phantom"))


def test_hostile_requests_are_refused_and_leave_nothing(tmp_path, folder):
    with serving(tmp_path / "data") as client:
        sent = upload(client, folder, "t1").json()
        before = {name for name in files_below(tmp_path) if "sqlite3" not in name}
        image = (folder / "t1.nii.gz").read_bytes()
        tries = hostile_requests(image, sent["id"], sent["run"], SMALL.files, 20_000_000)
        assert len(tries) >= 80
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        wrong = []
        for one in tries:
            answer = client.request(one.method, one.path, **one.options)
            detail = answer.json().get("detail", "") if answer.content and "dicomweb" not in one.path else ""
            if not 400 <= answer.status_code < 500 or "\n" in detail or "<" in detail:
                wrong.append(f"{one.name}: {answer.status_code}")
        assert not wrong
        assert {name for name in files_below(tmp_path) if "sqlite3" not in name} == before
        assert len(client.get("/studies").json()["studies"]) == 1
        assert (
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 200_000
        )  # KB, the requests themselves among them


def test_tokens_hold_owners_apart(tmp_path, folder):
    anna, ben = ({"Authorization": f"Bearer {token}"} for token in TOKENS.values())
    with serving(tmp_path / "data", tokens=HASHED, host="0.0.0.0") as client:
        links = upload(client, folder, "t1", headers=anna).json()["links"]
        for headers in ({}, {"Authorization": "Bearer " + "c" * 40}, {"Authorization": f"Basic {TOKENS['anna']}"}):
            for path in ("/studies", links["self"], "/models", "/metrics", "/dicomweb/studies"):
                answer = client.get(path, headers=headers)
                assert answer.status_code == 401, path
                assert answer.headers["www-authenticate"] == "Bearer"
        assert client.get(links["self"], headers=anna).status_code == 200
        for path in (links["self"], links["run"], links["report"], f"{links['run']}/files/result.json"):
            assert client.get(path, headers=ben).status_code == 404
        assert client.delete(links["self"], headers=ben).status_code == 404
        assert client.post(links["runs"], headers=ben, json={}).status_code == 404
        assert client.get("/studies", headers=ben).json() == {"studies": []}
        assert client.get("/health").status_code == 200
        assert client.get("/openapi.json").status_code == 200


def test_answers_carry_their_policy(tmp_path):
    with serving(tmp_path / "data", names=("scanner.example",)) as client:
        for path in ("/health", "/studies/none", "/nothing"):
            headers = client.get(path).headers
            assert "script-src 'self'" in headers["content-security-policy"]
            assert "unsafe" not in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cache-control"] == "no-store"
            assert "set-cookie" not in headers
            assert "access-control-allow-origin" not in headers
        hosts = {"scanner.example": 200, "127.0.0.1:8000": 200, "[::1]:80": 200, "other.example": 403}
        for host, code in hosts.items():
            assert client.get("/health", headers={"host": host}).status_code == code
        own = {"host": "scanner.example", "origin": "https://scanner.example"}
        assert client.get("/health", headers=own).status_code == 200


def test_a_fault_is_told_by_its_number_and_logged_without_names(tmp_path, folder, monkeypatch, caplog):
    with serving(tmp_path / "data") as client:

        def fail(*_):
            raise RuntimeError("Smith^John 1950-01-01")

        monkeypatch.setattr(client.parts.store, "studies", fail)
        with caplog.at_level(logging.INFO):
            answer = client.get("/studies")
            client.get("/studies/Smith^John")
            upload(client, folder, "t1", model="Smith^John")
    assert answer.status_code == 500
    number = answer.json()["detail"].partition("number ")[2][:8]
    mine = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("anymri"))
    assert f"fault {number}: RuntimeError at" in mine
    assert "GET /studies/{study} 404" in mine
    assert "Smith" not in mine


def test_names_stay_inside_their_folder():
    assert str(safe_path("sub-01/anat/sub-01_T1w.nii.gz")) == "sub-01/anat/sub-01_T1w.nii.gz"
    assert str(safe_path("a\\b<c>'\n.nii")) == "a/b_c___.nii"
    assert safe_path(".DS_Store") is safe_path("__MACOSX/t1.nii") is safe_path("") is None
    for name in ("../a", "/a", "a/../../b", "C:/a", "a\0b", "x" * 3000, "a/" * 40 + "b"):
        with pytest.raises(Refusal):
            safe_path(name)


def test_tokens_are_read_and_refused(tmp_path):
    place = tmp_path / "tokens"
    place.write_text(f"# people\nanna: {'a' * 40}\n{'b' * 40}\n")
    place.chmod(0o600)
    tokens = read_tokens(place)
    assert tokens[hashlib.sha256(b"a" * 40).hexdigest()] == "anna"
    assert len(set(tokens.values())) == 2
    for content, mode, word in (("short", 0o600, "too short"), ("", 0o600, "no token"), ("a" * 40, 0o604, "chmod 600")):
        place.write_text(content)
        place.chmod(mode)
        with pytest.raises(UserError, match=word):
            read_tokens(place)
    with pytest.raises(UserError, match="--token-file"):
        ServerSettings(folder=tmp_path, host="0.0.0.0")
