import errno
import fcntl
import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from anymri.files import find_leftovers, remove_leftovers, replace_file
from anymri.types import UserError

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
    assert [path.name for path in left] == [f".a.npy.{process.pid}.part"]
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
