"""The card of a run and the end of one: what is damaged is named and never passes as trained."""

import json

import pytest

from anymri.records import seal
from anymri.training.preparation import made_by_other_code, open_run_folder, prepare
from anymri.types import UserError


@pytest.fixture
def plan(make_config):
    return prepare(make_config(epochs=1))


@pytest.fixture
def run(plan, tmp_path):
    """A finished run, but for its training."""
    folder = tmp_path / "run"
    assert not open_run_folder(folder, plan, resume=True)
    plan.method.save(folder / "model.safetensors")
    assert open_run_folder(folder, plan, resume=True)
    return folder


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"training_subjects": ["p0"]}, "was changed or damaged"),
        ({"identity": None}, "identity = None does not fit"),
        ({"identity": "0" * 64}, "was changed or damaged"),
        ({"stages": {}}, "stages = {} does not fit"),
        ({"dropped_subjects": {"x": -1}}, r"dropped_subjects\.x = -1 does not fit"),
        ({"parameters": 10**30}, "parameters is no finite number"),
        ({"code": ["x" * 16]}, "code = .* does not fit"),
        ({"further": 1}, "unknown field further"),
        ({"format": 9}, "has format 9, made by a newer version"),
        ({"run": ...}, "run is missing"),
        ({"sha256": ...}, "sha256 is missing"),
    ],
)
def test_a_card_that_does_not_fit_is_named(run, plan, change, says):
    card = json.loads((run / "run.json").read_text(encoding="utf-8")) | change
    (run / "run.json").write_text(json.dumps({key: value for key, value in card.items() if value is not ...}))
    with pytest.raises(UserError, match=rf"run\.json: {says}.*"):
        open_run_folder(run, plan, resume=True)
    assert not made_by_other_code(run, "0" * 16)


@pytest.mark.parametrize("text", ["", "{", "[" * 3000, "null", "{}{}", "\x00"])
def test_a_card_that_is_no_record_is_named(run, plan, text):
    (run / "run.json").write_text(text)
    with pytest.raises(UserError, match=r"run\.json: is damaged .*train into a new folder"):
        open_run_folder(run, plan, resume=True)


def test_truncated_and_changed_weights_are_not_a_finished_run(run, plan):
    weights = run / "model.safetensors"
    content = weights.read_bytes()
    remedy = "delete it and train again: the run goes on from its last checkpoint"
    for length in (0, 7, 200, len(content) // 2, len(content) - 1):
        weights.write_bytes(content[:length])
        with pytest.raises(UserError, match=rf"model\.safetensors: not a readable weights file .*; {remedy}$"):
            open_run_folder(run, plan, resume=True)
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match=rf"model\.safetensors: was changed or damaged .*; {remedy}$"):
        open_run_folder(run, plan, resume=True)
    weights.unlink()
    assert not open_run_folder(run, plan, resume=True)


def test_a_card_of_an_older_version_is_read(run, plan):
    card = {key: value for key, value in plan.facts.items() if key != "code"}
    (run / "run.json").write_text(json.dumps(card))
    assert open_run_folder(run, plan, resume=True)
    (run / "run.json").write_text(json.dumps(seal({**card, "identity": "0" * 64})))
    with pytest.raises(UserError, match="holds another run"):
        open_run_folder(run, plan, resume=True)
