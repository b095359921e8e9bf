"""A training that is told to stop, or loses its folder, says so in one line and keeps what it can."""

import os
import signal

import pytest

from anymri.stopping import Stopped, stop_signals
from anymri.training import loop, train
from anymri.training.checkpoint import CheckpointStore
from anymri.types import UserError


def at_epoch(monkeypatch, number, act):
    """Call `act` at the first step of an epoch."""
    step = loop._Loop._step

    def watched(self, stage, turns, place, *arguments):
        if self.epoch == number and place == 0:
            act()
        return step(self, stage, turns, place, *arguments)

    monkeypatch.setattr(loop._Loop, "_step", watched)


def test_a_signal_is_heeded_at_the_end_of_an_epoch_that_is_near(make_config, tmp_path, monkeypatch):
    monkeypatch.setattr("anymri.stopping.PATIENCE_S", 60.0)
    at_epoch(monkeypatch, 1, lambda: os.kill(os.getpid(), signal.SIGTERM))
    config = make_config(epochs=4, checkpoint_every=10)
    with pytest.raises(Stopped) as stop, stop_signals():
        train(config, tmp_path / "run", progress=False)
    kept = f"{tmp_path / 'run'}: the checkpoint after epoch 2 of 4 of stage train is kept"
    assert stop.value.kept == f"{kept}; the same command goes on from there"
    assert CheckpointStore(tmp_path / "run").read()["epoch"] == 2
    assert [path.name for path in tmp_path.rglob(".*")] == []
    monkeypatch.undo()
    train(config, tmp_path / "run", progress=False)
    assert (tmp_path / "run" / "model.safetensors").is_file()


def test_a_signal_before_the_first_checkpoint_keeps_nothing_and_says_no_word_of_one(make_config, tmp_path, monkeypatch):
    monkeypatch.setattr("anymri.stopping.PATIENCE_S", 0.0)

    def stop_and_wait():
        os.kill(os.getpid(), signal.SIGTERM)
        signal.sigtimedwait([], 10)  # the second signal, which patience sends, ends it here

    at_epoch(monkeypatch, 0, stop_and_wait)
    with pytest.raises(Stopped) as stop, stop_signals():
        train(make_config(), tmp_path / "run", progress=False)
    assert stop.value.kept == ""


def test_a_folder_that_is_renamed_in_the_midst_is_the_reason_given(make_config, tmp_path, monkeypatch):
    at_epoch(monkeypatch, 0, lambda: (tmp_path / "run").rename(tmp_path / "away"))
    with pytest.raises(UserError, match=r"run.checkpoint-a\.pt: cannot be written .*; its folder was moved or removed"):
        train(make_config(), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
