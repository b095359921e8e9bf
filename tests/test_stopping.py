"""Signals end a command in one line that says what is kept."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from command_line import run

from anymri import stopping
from anymri.stopping import Stopped, asked_to_stop, deferred, same_signals, stop_if_asked, stop_signals, wait_in_steps


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_signal_ends_a_verb_in_one_line(monkeypatch, tmp_path, number, code):
    monkeypatch.chdir(tmp_path)
    default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    before = signal.signal(number, default)  # tests in the background may be started with it ignored, as by nohup
    monkeypatch.setattr("anymri.data.index.index_dataset", lambda *_: os.kill(os.getpid(), number))
    try:
        answer = run("index", ".", "-o", "deep/s.csv")
        after = signal.getsignal(number)
    finally:
        signal.signal(number, before)
    how = "interrupted" if number == signal.SIGINT else f"ended by {number.name}"
    assert answer == (code, "", f"anymri: {how}; nothing half-written is left; run the same command again\n")
    assert list(tmp_path.iterdir()) == []
    assert after is default


def test_a_signal_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with stop_signals():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_deferred_block_goes_on_to_where_it_can_stop():
    reached = []

    def work():
        with stop_signals(), deferred(lambda: "half"):
            stop_if_asked()
            os.kill(os.getpid(), signal.SIGTERM)
            reached.append(asked_to_stop())
            stop_if_asked()
            reached.append("beyond")

    with pytest.raises(Stopped) as stop:
        work()
    assert reached == [True]
    assert (stop.value.number, stop.value.kept) == (signal.SIGTERM, "half")
    assert not asked_to_stop()


@pytest.mark.parametrize("patience", [0.02, 60.0])
def test_a_deferred_block_is_not_waited_for_beyond_patience_or_a_second_signal(monkeypatch, patience):
    monkeypatch.setattr(stopping, "PATIENCE_S", patience)

    def work():
        with stop_signals(), deferred():
            os.kill(os.getpid(), signal.SIGTERM)
            if patience > 1:
                os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(30)

    begin, threads = time.monotonic(), threading.active_count()
    with pytest.raises(Stopped):
        work()
    assert time.monotonic() - begin < 20
    assert threading.active_count() == threads


def test_a_reader_that_has_seen_enough_is_no_fault():
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "anymri.cli", "--version"]
    try:
        done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


def test_signals_are_answered_as_before_whatever_a_library_puts_in():
    with stop_signals():
        with same_signals():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with pytest.raises(Stopped):
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_wait_in_steps_ends_with_what_it_waits_for_or_between_two_steps():
    steps = []

    def wait(seconds):
        steps.append(seconds)
        if len(steps) == 2:
            return ["first", "second"]
        if len(steps) == 4:
            os.kill(os.getpid(), signal.SIGTERM)
            steps.append("the step was not cut off")
        return []

    with stop_signals():
        assert wait_in_steps(wait) == "first"
        with pytest.raises(Stopped):
            wait_in_steps(wait)
    assert steps[-1] == "the step was not cut off"
