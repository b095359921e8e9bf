"""Loss curves of runs: minutes add up, each term starts at 1, the same runs give the same bytes."""

from __future__ import annotations

import json
import math

import pytest
from command_line import refused, run

from anymri.training.loss_curves import draw_loss_curves, read_terms


@pytest.fixture
def runs(tmp_path):
    """A run whose second stage has another term, and one that was begun only."""
    rows = [{"event": "start", "run": "a"}]
    rows += [{"stage": "one", "epoch": e, "seconds": 30.0, "terms": {"dice": 0.8 / e, "nothing": 0.0}} for e in (1, 2)]
    rows += [{"stage": "two", "epoch": 1, "seconds": 60.0, "terms": {"dice": 0.2, "bce": 0.5}}]
    for name, log in (("a", rows), ("begun", rows[:1])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in log), encoding="utf-8")
    return tmp_path


def test_terms_and_minutes_of_a_run(runs):
    minutes, terms = read_terms(runs / "a")
    assert minutes == [0.5, 1.0, 2.0]
    assert terms["dice"] == [0.8, 0.4, 0.2]
    assert math.isnan(terms["bce"][0])
    assert terms["bce"][2] == 0.5
    assert all(math.isnan(value) for value in terms["nothing"])


def test_the_command_draws_a_panel_per_run(runs):
    drawing = runs / "curves.svg"
    answer = run("curves", f"first={runs / 'a'}", f"again={runs / 'a'}", "-o", drawing)
    assert (answer.code, answer.out) == (0, f"wrote {drawing}\n"), answer.err
    text = drawing.read_text(encoding="utf-8")
    assert "<!-- first -->" in text
    assert "<!-- again -->" in text
    assert "<!-- dice -->" in text
    assert "<!-- nothing -->" not in text, "a term that is 0 throughout has no curve"
    draw_loss_curves({"first": runs / "a", "again": runs / "a"}, runs / "twin.svg")
    assert (runs / "twin.svg").read_bytes() == drawing.read_bytes()


def test_mistakes_are_named(runs):
    refused(run("curves", runs / "begun", "-o", runs / "c.svg"), "begun", "no training log")
    refused(run("curves", runs / "a", "-o", runs / "c.docx"), "c.docx", "curves.svg")
    refused(run("curves", f"x={runs / 'a'}", f"x={runs / 'a'}"), "one name")
    assert not (runs / "c.svg").exists()
