"""What a method can ask of its data beyond images and label maps, each proven by a small method that needs it."""

from __future__ import annotations

import json
from pathlib import Path

import dummy_methods
import pytest

from anymri import methods
from anymri.training import preparation, train
from anymri.training.log import read_log
from anymri.types import UserError


@pytest.fixture
def made(monkeypatch):
    """The small methods are in the table while the test runs; what `train` makes of them, newest last."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    for cls in vars(dummy_methods).values():
        if isinstance(cls, type) and issubclass(cls, dummy_methods.Small):
            monkeypatch.setitem(methods.METHODS, cls.name, f"dummy_methods:{cls.__name__}")
    instances: list[dummy_methods.Small] = []
    create = methods.create

    def remember(*arguments, **config):
        instances.append(create(*arguments, **config))
        return instances[-1]

    monkeypatch.setattr(preparation, "create", remember)
    return instances


@pytest.fixture
def config(make_config, tmp_path):
    """Settings of a run on the given subjects, whatever sizes the method's stage has."""

    def build(name: str, subjects: list[str], data: dict | None = None, **training):
        split = tmp_path / f"{'-'.join(subjects)}.json"
        split.write_text(json.dumps({"folds": [{"train": subjects, "validation": []}]}))
        sizes = {"epochs": None, "steps_per_epoch": None, "batch_size": None, "patch": None}
        return make_config(name, data={"split": str(split), **(data or {})}, **(sizes | training))

    return build


def card(run: Path) -> dict:
    return json.loads((run / "run.json").read_text(encoding="utf-8"))


# ------------------------------------------------------------------------------------------------------ unlabelled


def test_unlabelled_subjects_train_where_a_method_says_that_it_uses_them(config, made, tmp_path):
    run = train(config("self_taught", ["p0", "p4"], steps_per_epoch=2), tmp_path / "run", progress=False)
    assert card(run)["training_subjects"] == ["p0", "p4"]
    assert card(run)["dropped_subjects"] == {}
    for batch in made[-1].seen:
        assert batch.labelled.tolist() == [name == "p0" for name in batch.subject_ids]
    terms = read_log(run)[1]["terms"]
    assert 0 < terms["cross_entropy"] < 3
    assert 0 < terms["entropy"] < 3


def test_unlabelled_subjects_are_left_out_with_the_reason_where_it_does_not(config, made, tmp_path):
    run = train(config("small", ["p0", "p4"]), tmp_path / "run", progress=False)
    assert card(run)["training_subjects"] == ["p0"]
    assert card(run)["dropped_subjects"] == {"without a label map": 1}
    assert all(batch.labelled.all() for batch in made[-1].seen)


def test_a_segmenter_is_not_trained_without_any_label_map(config, made, tmp_path):
    with pytest.raises(UserError, match="no training subject has a label map; self_taught needs some that have"):
        train(config("self_taught", ["p4"]), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
