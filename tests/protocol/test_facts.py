"""What a weights file says of its training is validated when it is read."""

from __future__ import annotations

import json

import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from anymri.errors import UserError
from anymri.methods import create, load
from anymri.protocol.facts import TrainingFacts
from anymri.protocol.weights_file import check_weights, read_header

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
    with pytest.raises(UserError, match=rf"model\.safetensors: {key}.* (does not fit|is no finite number)") as refused:
        read_header(path)
    assert "\n" not in str(refused.value)


def flip(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def test_a_changed_weight_or_fact_is_noticed_and_a_truncated_file_named(tmp_path):
    path = tmp_path / "model.safetensors"
    create("threshold").save(path, FACTS)
    content = path.read_bytes()
    check_weights(path)
    header = 8 + int.from_bytes(content[:8], "little")
    for changed in (
        flip(content, header + 3),
        flip(content, len(content) - 1),
        content.replace(b'\\"run\\":\\"a\\"'.replace(b":", b": "), b'\\"run\\": \\"b\\"'),
    ):
        assert changed != content
        path.write_bytes(changed)
        with pytest.raises(UserError, match=r"model\.safetensors: was changed or damaged .*sha256"):
            load(path)
    for length in (0, 5, 100, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(UserError, match=r"model\.safetensors: not a readable weights file"):
            load(path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sha256": None}, "sha256 is missing"),
        ({"spec": None}, "spec is missing"),
        ({"of_tomorrow": "1"}, "unknown field of_tomorrow"),
        ({"format": "anymri-3"}, "made by a newer version"),
        ({"config": "[1]"}, "config is damaged"),
        ({"config": '{"a": NaN}'}, "a is no finite number"),
        ({"extra": "[" * 3000}, "nested without end"),
        ({"spec": "{"}, "is damaged"),
        ({"spec": '{"modalities": ["t1"], "labels": {"a": 1}, "regions": {"b": ["c"]}}'}, "spec: region 'b' uses"),
        ({"spec": '{"modalities": ["t1"], "labels": {"a": null}, "regions": {}}'}, "spec: labels.a = None"),
        ({"spec": '{"modalities": ["t1"], "labels": {}, "regions": {}, "x": 1}'}, "spec: unknown field x"),
    ],
)
def test_metadata_that_do_not_fit_are_named(tmp_path, change, says):
    path = tmp_path / "model.safetensors"
    create("threshold").save(path, FACTS)
    with safe_open(str(path), framework="pt") as file:
        texts, tensors = file.metadata() | change, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, str(path), {key: value for key, value in texts.items() if value is not None})
    with pytest.raises(UserError, match=rf"model\.safetensors: .*{says}"):
        read_header(path)
