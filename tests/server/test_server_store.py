"""The store: a job is claimed once and ends once, whatever is killed, locked or asked again in between."""

from __future__ import annotations

import sqlite3
import threading

import pytest

pytest.importorskip("fastapi")
from anymri.errors import UserError
from anymri.server import store as store_module
from anymri.server.store import Busy, Full, Store

ASKED = {"model": "default", "subset": None, "completion": "auto", "formats": ["nifti"]}


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "anymri.sqlite3")
    yield store
    store.close()


def add(store, name, run=True, **options):
    options = {"size": 10, "keep_s": 60.0, "most_waiting": 100, **options}
    store.add_study(name, "", {}, request=ASKED if run else None, run=f"run-{name}" if run else None, **options)


def finish(store, job, error=None):
    return store.finish(job, error, seconds=2.0, kind="c", found=None if error else {})


def test_a_study_is_looked_at_before_it_is_run_and_each_job_ends_once(store):
    add(store, "a")
    add(store, "b")
    assert store.claim("run") is None
    looks = [store.claim("inspect", "run") for _ in range(2)]
    assert [(job.study, job.kind) for job in looks] == [("a", "inspect"), ("b", "inspect")]
    assert store.claim("inspect", "run") is None
    assert finish(store, looks[0]) is True
    assert finish(store, looks[0]) is False
    job = store.claim("inspect", "run")
    assert (job.kind, job.run) == ("run", "run-a")
    assert finish(store, job) is True
    assert store.usual_seconds("c") == 2.0
    assert finish(store, looks[1], "file: cannot be read; send another") is True
    assert store.claim("run") is None
    failed = store.study("b")["jobs"]
    assert [(row["status"], row["error"]) for row in failed] == [("failed", "file: cannot be read; send another")] * 2


def test_threads_never_get_the_same_job(store):
    for number in range(30):
        add(store, str(number), run=False)
    got, lock = [], threading.Lock()

    def take():
        while (job := store.claim("inspect")) is not None:
            with lock:
                got.append(job.number)

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == sorted(set(got))
    assert len(got) == 30


def test_a_job_whose_worker_died_is_tried_once_more_and_then_failed(store):
    add(store, "a", run=False)
    job = store.claim("inspect")
    assert store.give_back(job, "it was killed") is True
    again = store.claim("inspect")
    assert (again.number, again.attempt) == (job.number, 2)
    assert finish(store, job) is False  # the first attempt comes too late
    assert store.give_back(again, "it was killed") is False
    assert store.claim("inspect") is None
    assert [(row["status"], row["error"]) for row in store.study("a")["jobs"]] == [("failed", "it was killed")]


def test_what_was_under_way_when_the_server_was_killed_is_taken_up(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "INTERRUPTIONS", 3)
    place = tmp_path / "anymri.sqlite3"
    store = Store(place)
    add(store, "a", run=False)
    for _ in range(4):
        job = store.claim("inspect")
        assert job.attempt == 1
        store.close()
        store = Store(place)
        assert store.take_up() == 1
    assert store.claim("inspect") is None
    assert "the server ended each time" in store.study("a")["jobs"][0]["error"]
    store.close()


def test_a_locked_database_is_busy_and_comes_back(store, tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "PATIENCE_S", 0.05)
    store._link.execute("PRAGMA busy_timeout = 50")
    add(store, "a", run=False)
    other = sqlite3.connect(tmp_path / "anymri.sqlite3", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(Busy):
        store.claim("inspect")
    assert len(store.studies("", 10)) == 1  # reading goes on
    other.execute("ROLLBACK")
    other.close()
    assert store.claim("inspect") is not None


def test_the_limit_holds_and_nothing_is_left_of_what_was_refused(store):
    for number in range(3):
        add(store, str(number), most_waiting=3)
    with pytest.raises(Full):
        add(store, "more", most_waiting=3)
    with pytest.raises(Full):
        store.add_run("0", "other", ASKED, 3)
    assert store.known() == {"0", "1", "2"}
    assert len(store.study("0")["runs"]) == 1
    store.remove("0")
    assert store.add_run("0", "other", ASKED, 3) is False
    assert store.waiting() == 2
    assert store.counts() == {("inspect", "queued"): 2, ("run", "queued"): 2}


def test_another_owner_sees_nothing(store):
    store.add_study("a", "anna", {}, size=1, keep_s=60, most_waiting=9)
    assert store.study("a", "anna") is not None
    assert store.study("a", "ben") is None
    assert store.studies("ben", 9) == []


def test_a_damaged_or_newer_database_is_refused_in_one_line(tmp_path):
    place = tmp_path / "anymri.sqlite3"
    Store(place).close()
    with sqlite3.connect(place) as other:
        other.execute("PRAGMA user_version = 99")
    with pytest.raises(UserError, match="another version"):
        Store(place)
    for beside in tmp_path.iterdir():
        beside.unlink()
    place.write_bytes(b"no database at all" * 1000)
    with pytest.raises(UserError, match="is damaged"):
        Store(place)
