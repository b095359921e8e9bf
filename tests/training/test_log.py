"""The log, its picture and the progress bar."""

import json
import struct

import pytest
import torch

from anymri.errors import UserError
from anymri.training import log as log_module
from anymri.training.log import ProgressBar, RunLog, draw_progress, read_log


def row(epoch: int, **more) -> dict:
    return {
        "stage": "s",
        "epoch": epoch,
        "step": 5 * epoch,
        "lr": {"main": 0.1},
        "loss": 1 / epoch,
        "terms": {"dice": 0.5},
        **more,
    }


def test_what_came_after_the_last_checkpoint_is_cut_off(tmp_path):
    log = RunLog(tmp_path)
    log.write(row(1))
    length = log.position()
    log.write(row(2))
    log.close()
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"half')
    assert [r["epoch"] for r in read_log(tmp_path)] == [1, 2]  # a half-written line is left out
    log = RunLog(tmp_path, length)
    log.write(row(2, again=True))
    log.close()
    assert [(r["epoch"], r.get("again")) for r in read_log(tmp_path)] == [(1, None), (2, True)]


def test_a_log_shorter_than_the_checkpoint_says_is_not_stretched(tmp_path):
    RunLog(tmp_path, 500).close()
    assert (tmp_path / "log.jsonl").read_bytes() == b""


def test_every_line_is_strict_json(tmp_path):
    log = RunLog(tmp_path)
    log.write({"a": float("nan"), "b": {"c": float("inf"), "d": 1.5}})
    log.close()
    line = (tmp_path / "log.jsonl").read_text(encoding="utf-8")
    assert json.loads(line, parse_constant=lambda name: 1 / 0) == {"a": None, "b": {"c": None, "d": 1.5}}


def test_numbers_reach_tensorboard_by_path(tmp_path, monkeypatch):
    class Board:
        def __init__(self):
            self.seen = {}

        def add_scalar(self, name, value, step):
            self.seen[name] = (value, step)

        def close(self):
            self.seen["closed"] = True

    board = Board()
    monkeypatch.setattr(log_module, "_open_tensorboard", lambda folder: board)
    log = RunLog(tmp_path)
    log.write({"event": "start", "parameters": 3})
    log.write(row(2, validation={"t1": {"whole_tumor": 0.7}}))
    log.close()
    assert board.seen["validation/t1/whole_tumor"] == (0.7, 10)
    assert board.seen["terms/dice"] == (0.5, 10)
    assert "parameters" not in board.seen
    assert board.seen["closed"]


def test_the_picture_shows_loss_alone_or_with_dice(tmp_path):
    draw_progress(tmp_path)
    assert not list(tmp_path.iterdir())  # nothing to draw yet
    log = RunLog(tmp_path)
    log.write({"event": "start"})
    log.write(row(1))
    draw_progress(tmp_path)
    narrow = size(tmp_path / "progress.png")
    log.write(row(2, validation={"t1": {"whole_tumor": 0.7}, "t1+t2": {"whole_tumor": None}}))
    log.write({**row(3), "loss": None})
    log.close()
    draw_progress(tmp_path)
    wide = size(tmp_path / "progress.png")
    assert wide[0] > 1.5 * narrow[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.jsonl", "progress.png"]


def size(png):
    return struct.unpack(">II", png.read_bytes()[16:24])


def test_the_bar_is_silent_when_it_is_told_to_be(capsys):
    with ProgressBar("title", 3, 1, visible=False) as bar:
        bar.advance("title", torch.tensor(0.5))
        bar.say("something")
    out, err = capsys.readouterr()
    assert out.strip() == ""
    assert err.strip() == ""


def test_the_bar_tells_loss_and_remarks(capsys):
    with ProgressBar("title", 3, 2, visible=True) as bar:
        bar.say_dropped({"without t2": 4})
        bar.advance("title 1/1", torch.tensor(0.51234))
    out, err = capsys.readouterr()
    assert out == ""  # standard output is for results
    assert "4 training subjects left out: without t2" in err
    assert "0.5123" in err
    assert "3/3" in err


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"epoch": 1, "terms": {"dice": NaN}, "seconds": 1}', r"terms\.dice is no finite number"),
        ('{"epoch": "1"}', "epoch = '1' does not fit"),
        ('{"epoch": 1, "seconds": 1e400}', "seconds is no finite number"),
        ('{"epoch": 1, "validation": {"t1": 3}}', r"validation\.t1 = 3 does not fit"),
        ("[" * 3000, "nested without end"),
        ("5", "no JSON object"),
    ],
)
def test_a_damaged_line_is_named(tmp_path, line, says):
    (tmp_path / "log.jsonl").write_text(json.dumps(row(1)) + "\n" + line + "\n")
    with pytest.raises(UserError, match=rf"log\.jsonl, line 2: .*{says}"):
        draw_progress(tmp_path)
