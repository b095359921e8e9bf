import errno
import fcntl
import os
import pickle
import re
import signal
import stat
import subprocess
import sys
from contextlib import suppress

import pytest

from anymri.files import (
    RefusedWrite,
    draft_folder,
    find_leftovers,
    inside,
    remove_leftovers,
    replace_file,
    replace_folder,
    replace_text,
)
from anymri.types import UserError

FOLDER_WRITER = """
import sys, time
from anymri.files import replace_folder
with replace_folder(sys.argv[1]) as draft:
    (draft / "half").write_bytes(b"half")
    print("open", flush=True)
    time.sleep(60)
"""

WRITER = """
import sys, time
from anymri.files import replace_file
with replace_file(sys.argv[1]) as handle:
    handle.write(b"half")
    handle.flush()
    print("open", flush=True)
    time.sleep(60)
"""


def test_the_file_of_a_killed_process_is_a_leftover_even_before_its_parent_asks(tmp_path):
    command = [sys.executable, "-c", WRITER, str(tmp_path / "a.npy")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"open\n"
        assert find_leftovers(tmp_path) == []
        os.kill(process.pid, signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, but its number is still taken
        os.kill(process.pid, 0)
        left = find_leftovers(tmp_path)
    assert len(left) == 1
    assert re.fullmatch(r"\.a\.npy\.[0-9a-f]{8}\.part", left[0].name)
    assert remove_leftovers(tmp_path) == left
    assert list(tmp_path.iterdir()) == []


def test_a_number_that_another_process_has_by_now_does_not_keep_a_leftover(tmp_path):
    (tmp_path / f".a.npy.{os.getpid()}.part").write_bytes(b"half")
    (tmp_path / ".a.part").mkdir()
    assert len(remove_leftovers(tmp_path)) == 1
    assert [path.name for path in tmp_path.iterdir()] == [".a.part"]


def test_a_file_is_whole_or_the_old_one(tmp_path):
    path = tmp_path / "a"
    for content in (b"one", b"two"):
        with replace_file(path) as handle:
            handle.write(content)
        assert path.read_bytes() == content
    with suppress(RuntimeError), replace_file(path) as handle:
        handle.write(b"three")
        raise RuntimeError
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"two"]
    with pytest.raises(UserError, match="cannot be written"), replace_file(tmp_path / "gone" / "a"):
        pass


def test_where_locks_are_unknown_nothing_is_taken_for_a_leftover(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    (tmp_path / ".a.npy.1.part").write_bytes(b"half")
    assert find_leftovers(tmp_path) == []
    with replace_file(tmp_path / "b") as handle:
        handle.write(b"whole")
    assert (tmp_path / "b").read_bytes() == b"whole"


@pytest.mark.parametrize("text", ["one\n", "zwei \u00e4\r\n"])
def test_text_is_written_as_it_is(tmp_path, text):
    replace_text(tmp_path / "a.txt", text)
    assert (tmp_path / "a.txt").read_bytes() == text.encode()


def test_writing_again_removes_what_killed_processes_left_of_the_same_path(tmp_path):
    mine = [f".a.npy.{number}.part" for number in (1, 22)]
    others = [".a.npy.notes.part", ".a.npy.b.3.part", ".b.npy.1.part", "a.npy.1.part"]
    for name in (*mine, *others):
        (tmp_path / name).write_bytes(b"half")
    replace_text(tmp_path / "a.npy", "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["a.npy", *others])


@pytest.mark.parametrize(("script", "write"), [(WRITER, replace_text), (FOLDER_WRITER, None)], ids=["file", "folder"])
def test_what_another_process_is_writing_stays_until_it_is_killed(tmp_path, script, write):
    def write_again():
        if write is not None:
            write(tmp_path / "a", "whole")
        else:
            with replace_folder(tmp_path / "a"):
                pass

    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "a")], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"open\n"
        write_again()
        names = sorted(path.name for path in tmp_path.iterdir())
        assert len(names) == 2
        assert re.fullmatch(r"\.a\.[0-9a-f]{8}\.part", names[0])
        process.kill()
    write_again()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_folder_is_whole_or_the_old_one(tmp_path):
    folder = tmp_path / "above" / "a"
    for content in ("one", "two"):
        with replace_folder(folder) as draft:
            (draft / content).touch()
        assert [path.name for path in folder.iterdir()] == [content]
    with suppress(RuntimeError), replace_folder(folder) as draft:
        (draft / "three").touch()
        raise RuntimeError
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == [
        "above",
        "above/a",
        "above/a/two",
    ]


def test_a_refused_write_within_a_folder_names_the_folder_and_the_reason(tmp_path):
    with pytest.raises(RefusedWrite) as refused, replace_folder(tmp_path / "a") as draft:
        replace_text(draft / "gone" / "b", "text")
    message = (
        f"{tmp_path / 'a'}: cannot be written (No such file or directory); its folder was moved or removed meanwhile; "
        "put it back and run the same command again, or choose another"
    )
    assert str(refused.value) == message
    assert str(pickle.loads(pickle.dumps(refused.value))) == message  # from a worker process
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="a file is where"), draft_folder(tmp_path / "file" / "b"):
        pass
    with pytest.raises(RefusedWrite, match="Not a directory"):
        replace_text(tmp_path / "file" / "b", "text")


def test_a_durable_file_is_synced_before_and_after_it_gets_its_name(tmp_path, monkeypatch):
    path, seen = tmp_path / "a", []
    real = os.fsync

    def sync(handle):
        seen.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        real(handle)

    monkeypatch.setattr(os, "fsync", sync)
    with replace_file(path, durable=True, done=lambda step: seen.append((step, path.exists()))) as handle:
        handle.write(b"content")
    assert seen == ["file", ("sync", False), ("name", True), "folder", ("sync folder", True)]
    replace_text(path, "plain")
    assert len(seen) == 5


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "/etc/passwd", "../b", "a/b", "a/../../b", "a\\b", "a\nb", "a\0b", "\ud800", "x" * 256, None, 3],
)
def test_only_plain_names_are_files_of_a_folder(tmp_path, name):
    with pytest.raises(UserError, match="is not the plain name of a file in this folder") as error:
        inside(tmp_path, name)
    assert "\n" not in str(error.value)


def test_a_link_may_not_lead_out_of_its_folder(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "own").write_text("own")
    (tmp_path / "other").write_text("other")
    (folder / "to own").symlink_to("own")
    (folder / "out").symlink_to("../other")
    (folder / "loop").symlink_to("loop")
    (tmp_path / "alias").symlink_to(folder)
    for name in ("own", "to own", "not there", "..a", "grün (2).png", "loop"):
        assert inside(folder, name) == folder / name
        assert inside(tmp_path / "alias", name) == tmp_path / "alias" / name
    with pytest.raises(UserError, match=r"'out' is not the plain name"):
        inside(folder, "out")
