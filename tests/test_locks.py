"""One writer per output: refused in one line, let go by a kill, told by the lock alone, and nothing left behind."""

import errno
import fcntl
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from command_line import refused, run

from anymri import locks
from anymri.cli import app
from anymri.errors import UserError
from anymri.files import RefusedWrite, replace_folder
from anymri.locks import one_writer, scratch_folder

HOLDER = """
import sys, time
from anymri.files import draft_folder, replace_file
from anymri.locks import one_writer, scratch_folder
out = sys.argv[1]
file, folders = replace_file(out + "/inner/file"), [draft_folder(out + "/sub"), draft_folder(out)]
with one_writer(out), file, folders[0], folders[1], scratch_folder():
    print("held", flush=True)
    time.sleep(60)
"""
#: Every verb with an output, and what it needs to come as far as its lock.
VERBS = {
    "phantom": ["OUT"], "index": [".", "-o", "OUT"], "split": ["s.csv", "-o", "OUT"], "cost": ["run", "-o", "OUT"],
    "preprocess": ["s.csv", "-o", "OUT"], "plan": ["s.csv", "-o", "OUT"], "prepare": [".", "-o", "OUT"],
    "train": ["run.yaml", "-o", "OUT"], "curves": ["run", "-o", "OUT"], "demo": ["-o", "OUT"],
    "evaluate": ["run", "--data", "cache", "-o", "OUT"], "protocols": ["run", "--data", "cache", "-o", "OUT"],
    "predict": ["study", "-o", "OUT"], "report": ["results.parquet", "-o", "OUT"],
    "import-weights": ["rfnet", "theirs.pth", "-o", "OUT"], "new-method": ["my_net", "--package", "OUT"],
    "calibrate": ["run", "--data", "cache", "-o", "OUT"], "quality": ["study", "-o", "OUT"],
    "volumes": ["batch", "-o", "OUT"], "serve": ["-o", "OUT"],
}  # fmt: skip


@pytest.fixture(autouse=True)
def _at_once(monkeypatch, tmp_path):
    monkeypatch.setattr(locks, "WAIT_S", 0.0)
    monkeypatch.setattr(locks.tempfile, "tempdir", str(tmp_path))


@contextmanager
def held_elsewhere(output):
    """A lock that another thread of this process has."""
    held, done = threading.Event(), threading.Event()

    def hold():
        with one_writer(output):
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(60)
    try:
        yield
    finally:
        done.set()
        thread.join()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_second_process_is_refused_and_a_kill_lets_go_and_leaves_nothing(tmp_path):
    place, scratch = tmp_path / "place", tmp_path / "scratch"
    (place / "out" / "inner").mkdir(parents=True)
    (place / "link").symlink_to("out")
    scratch.mkdir()
    locks.tempfile.tempdir = str(scratch)
    command = [sys.executable, "-c", HOLDER, str(place / "out")]
    environment = {**os.environ, "TMPDIR": str(scratch)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout.readline() == b"held\n"
        for name in (place / "out", place / "out" / ".." / "out", place / "link"):
            with pytest.raises(UserError) as error, one_writer(name):
                pass
            told = f"{name}: process {process.pid} (Python) is writing there; wait for it or end it, or choose"
            assert str(error.value) == f"{told} another output"
        with one_writer(place / "other"):  # sweeps, but nothing that lives
            pass
        left = list(place.rglob(".*"))
        assert len(left) == 4, left
        assert len(names(scratch)) == 1
        process.kill()
    for path in (*place.rglob(".*"), *scratch.iterdir()):
        os.utime(path, (2**33, 2**33))  # dated in the future: the clock was set back since
    with one_writer(place / "other"):  # not the output itself, but a neighbour
        pass
    assert names(place) == ["link", "out"]
    assert names(place / "out") == ["inner"]
    assert names(place / "out" / "inner") == names(scratch) == []


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_with_an_output_takes_its_lock(tmp_path, monkeypatch, verb):
    monkeypatch.chdir(tmp_path)
    arguments = [text.replace("OUT", "taken") for text in VERBS[verb]]
    with held_elsewhere(tmp_path / "taken"):
        line = refused(run(verb, *arguments), "taken: process", "is writing there")
    assert f"process {os.getpid()} (" in line
    assert names(tmp_path) == []


def test_no_verb_with_an_output_is_forgotten():
    import inspect

    outputs = {"output", "out", "package", "markdown"}
    with_output = {
        (command.name or command.callback.__name__).replace("_", "-")
        for command in app.registered_commands
        if outputs & set(inspect.signature(command.callback).parameters)
    }
    assert with_output == {*VERBS, "benchmark"}  # benchmark locks after it has read its plan


def test_a_thread_locks_again_what_it_has_and_another_may_not(tmp_path):
    with one_writer(tmp_path / "a"):
        with one_writer(tmp_path / "a", tmp_path / "b"):
            pass
        assert names(tmp_path) == [".a.anymri-lock"]
    taken = pytest.raises(UserError, match="is writing there")
    with held_elsewhere(tmp_path / "a"), one_writer(tmp_path / "b"), taken, one_writer(tmp_path / "a"):
        pass
    assert names(tmp_path) == []


def test_a_lock_file_alone_means_nothing(tmp_path):
    (tmp_path / ".a.anymri-lock").write_text(f"{os.getpid()} {os.uname().nodename} anymri phantom")
    with one_writer(tmp_path / "a"):
        pass
    assert names(tmp_path) == []


def test_where_there_are_no_locks_it_says_so_and_goes_on(tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with one_writer(tmp_path / "a"), one_writer(tmp_path / "b"):
        pass
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert "a: is on a file system without locks (No locks available); do not start a second command" in said[0]
    assert names(tmp_path) == []


def test_a_folder_that_may_not_be_written_beside_is_locked_within(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path and real(path, mode))
    with one_writer(tmp_path / "a"):
        assert names(tmp_path / "a") == [".anymri-lock"]
        with pytest.raises(UserError, match="is writing there"), held_elsewhere_here(tmp_path / "a"):
            pass
    assert names(tmp_path / "a") == []
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with one_writer(tmp_path / "a"):  # a finished run on a read-only disk is no mistake
        assert names(tmp_path / "a") == []


@contextmanager
def held_elsewhere_here(output):
    """Try a lock in another thread and raise here what that raised."""
    problem = []

    def attempt():
        try:
            with one_writer(output):
                pass
        except UserError as error:
            problem.append(error)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    if problem:
        raise problem[0]
    yield


def test_folders_made_for_an_output_go_again_if_nothing_was_written(tmp_path):
    with one_writer(tmp_path / "b" / "c" / "out"):
        pass
    assert names(tmp_path) == []
    with one_writer(tmp_path / "b" / "c" / "out"):
        (tmp_path / "b" / "c" / "out").touch()
    assert names(tmp_path / "b" / "c") == ["out"]


def test_a_place_that_cannot_be_is_refused_before_any_work(tmp_path):
    for length in (201, 255):  # temporary names are kept short
        with one_writer(tmp_path / ("x" * length)), replace_folder(tmp_path / ("x" * length)):
            pass
        assert names(tmp_path) == ["x" * length]
        (tmp_path / ("x" * length)).rmdir()
    refusal = pytest.raises(RefusedWrite, match=r"File name too long\); choose a shorter name")
    with refusal, one_writer(tmp_path / ("x" * 256)):
        pass
    assert names(tmp_path) == []


def test_a_folder_whose_replacement_was_killed_gets_its_name_back(tmp_path):
    (tmp_path / ".a.0123abcd.old").mkdir()
    (tmp_path / ".a.0123abcd.old" / "earlier").touch()
    (tmp_path / ".b.0123abcd.old").mkdir()
    (tmp_path / "b").mkdir()
    with one_writer(tmp_path / "c"):
        pass
    assert names(tmp_path) == ["a", "b"]
    assert names(tmp_path / "a") == ["earlier"]


def test_scratch_is_for_this_user_alone_and_goes(tmp_path):
    with scratch_folder() as folder:
        (folder / "a").touch()
        assert folder.stat().st_mode & 0o777 == 0o700
        with scratch_folder() as other:  # which sweeps, but not what lives
            assert other != folder
        assert names(folder) == ["a"]
    assert names(tmp_path) == []
