"""What a weights file says of its training is validated when it is read."""

from __future__ import annotations

import json

import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from anymri.errors import UserError
from anymri.methods import create
from anymri.protocol.facts import TrainingFacts
from anymri.protocol.weights_file import read_header

FACTS = TrainingFacts(run="a", seed=0, spacing_mm=(2.0, 2.0, 2.0), window=(8, 8, 8), training_subjects=("p0",))


def test_facts_come_back_as_they_were():
    assert TrainingFacts.read(json.loads(json.dumps(FACTS.to_dict())), "x") == FACTS
    assert TrainingFacts().to_dict() == {}


def test_keys_of_other_versions_are_left_out():
    assert TrainingFacts.read({"run": "a", "of_tomorrow": 1}, "x") == TrainingFacts(run="a")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("spacing_mm", [2.0, 2.0]),
        ("spacing_mm", [2.0, 2.0, float("nan")]),
        ("spacing_mm", [2.0, 2.0, -1.0]),
        ("window", [8, 8, 0]),
        ("window", "8"),
        ("training_subjects", [{}]),
        ("seed", "one"),
        ("dropped_subjects", [[[[1]]]]),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name(tmp_path, key, value):
    path = tmp_path / "model.safetensors"
    create("threshold").save(path, FACTS)
    with safe_open(str(path), framework="pt") as file:
        texts, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, str(path), {**texts, "extra": json.dumps({**FACTS.to_dict(), key: value})})
    with pytest.raises(UserError, match=rf"model\.safetensors: {key}.* does not fit") as refused:
        read_header(path)
    assert "\n" not in str(refused.value)
