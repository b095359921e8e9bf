"""The tool that puts measured numbers into a model card, on a table made by hand."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pandas as pd
import pytest

from anymri.evaluation.results import COLUMNS, write_table
from anymri.zoo import RegionScore
from anymri.zoo.card import read_card_file

TOOL = Path(__file__).resolve().parents[1] / "tools" / "model_card.py"
CARD = """---
name: first
method: unet
summary: 'A model: tiny'
modalities: [t1, t1c, t2, flair]
data: nothing
seed: 1
command: none
licence: none
limits: none
numbers: {}
---

# First

Prose that stays.
"""


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("model_card", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows(subject, region, dice, reference_ml, predicted_ml, subset="flair", seen=False):
    """The metrics the card needs, as the evaluator writes them."""
    error = predicted_ml - reference_ml
    relative = error / reference_ml if reference_ml else (0.0 if predicted_ml == 0 else float("nan"))
    fixed = dict.fromkeys(COLUMNS, "") | {
        "method": "unet", "fold": 0, "seed": 0, "subject": subject, "subset": subset, "target": region,
        "reference_empty": reference_ml == 0, "seen_in_training": seen,
    }  # fmt: skip
    values = {"dice": dice, "volume_error": error, "relative_volume_error": relative, "hd95": 3.0}
    return [{**fixed, "metric": metric, "value": value} for metric, value in values.items()]


def study(subject, dice, et_dice, et_ml, et_predicted_ml, **options):
    return [
        *rows(subject, "whole_tumor", dice, 50.0, 40.0, **options),
        *rows(subject, "tumor_core", dice, 20.0, 20.0, subset="t1"),
        *rows(subject, "tumor_core", dice, 20.0, 30.0, **options),
        *rows(subject, "enhancing_tumor", et_dice, et_ml, et_predicted_ml, **options),
    ]


TABLE = [
    *study("a", 0.9, 0.4, 5.0, 4.0),
    *study("b", 0.5, 0.2, 3.0, 9.0),
    *study("c", 0.7, 1.0, 0.0, 0.0),  # empty against empty is no success of the region
    *study("d", 0.6, 0.0, 0.3, 7.0),  # a trace of 0.3 ml is none
    *study("e", 1.0, 1.0, 5.0, 5.0, seen=True),
]


def test_means_count_the_cases_that_have_the_region(tool):
    found = tool.summarise([pd.DataFrame(TABLE)], "unet")["flair"]
    assert found["whole_tumor"] == RegionScore(mean=0.675, median=0.65, n=4)
    assert found["tumor_core"].n == 4
    assert found["enhancing_tumor"] == RegionScore(mean=0.3, median=0.3, n=2, without=2, left_empty=1, false_ml=3.5)


def test_several_tables_are_one(tool):
    parts = [pd.DataFrame(TABLE[:32]), pd.DataFrame(TABLE[32:])]
    assert tool.summarise(parts, "unet") == tool.summarise([pd.DataFrame(TABLE)], "unet")


def test_a_table_of_seen_subjects_alone_is_refused(tool):
    with pytest.raises(SystemExit, match="unseen"):
        tool.summarise([pd.DataFrame(study("e", 1.0, 1.0, 5.0, 5.0, seen=True)[:4])], "unet")


def test_the_card_is_rewritten_and_its_prose_stays(tool, tmp_path, monkeypatch):
    (tmp_path / "first.md").write_text(CARD)
    write_table(tmp_path / "results.parquet", TABLE, {})
    command = ["model_card.py", str(tmp_path / "first.md"), str(tmp_path / "results.parquet"), "--measured-on", "four"]
    monkeypatch.setattr(sys, "argv", command)
    tool.main()
    card = read_card_file(tmp_path / "first.md")
    assert card.summary == "A model: tiny"
    assert card.text == "# First\n\nProse that stays."
    assert card.numbers["measured_on"] == "four"
    assert card.measured("flair")["enhancing_tumor"].left_empty == 1
    before = (tmp_path / "first.md").read_bytes()
    tool.main()
    assert (tmp_path / "first.md").read_bytes() == before
