"""Bundled weights, cards, and foreign checkpoints."""

from __future__ import annotations

import pytest
import torch
from command_line import run

import anymri.zoo as zoo
from anymri.methods import create, get_method
from anymri.protocol.facts import TrainingFacts
from anymri.types import GLIOMA, UserError

CARD = """---
name: {name}
method: u_hemis
summary: A tiny test model
modalities: [t1, t1c, t2, flair]
data: nothing
seed: 1
command: anymri train none.yaml -o none
licence: CC-BY-4.0
limits: Of no use.
numbers:
  measured_on: seven held-out cases
  by_subset:
    flair: {{whole_tumor: {{mean: 0.7, median: 0.75, n: 7}}}}
---
# Test model
"""


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A zoo of two models of which `second` is the default."""
    folder = tmp_path / "weights"
    folder.mkdir()
    for number, name in enumerate(["first", "second"]):
        torch.manual_seed(number)
        create("u_hemis", preset="tiny").save(folder / f"{name}.safetensors", TrainingFacts(spacing_mm=(2.0, 2.0, 2.0)))
        (folder / f"{name}.md").write_text(CARD.format(name=name))
    (folder / "default.txt").write_text("second\n")
    monkeypatch.setattr(zoo, "WEIGHTS", folder)
    return folder


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_models_are_listed_with_the_default_first(weights):
    cards = zoo.list_models()
    assert [card.name for card in cards] == ["second", "first"]
    values = cards[0].to_dict()
    assert values["default"] is True
    assert values["summary"] == "A tiny test model"
    assert cards[1].to_dict()["default"] is False
    assert cards[0].text == "# Test model"
    assert zoo.find_card("default").name == "second"
    assert zoo.find_card("first").measured("flair")["whole_tumor"].median == 0.75
    assert zoo.find_card("first").measured("t1") == {}


def test_a_model_opens_by_alias_name_file_and_run_folder(weights, tmp_path):
    second = zoo.open_model("second")
    assert same(zoo.open_model("default"), second)
    assert not same(zoo.open_model("first"), second)
    assert same(zoo.open_model(weights / "second.safetensors"), second)
    run = tmp_path / "run"
    run.mkdir()
    with pytest.raises(UserError, match="no model"):
        zoo.open_model(run)
    (weights / "first.safetensors").rename(run / "model.safetensors")
    assert zoo.open_model(run).facts == TrainingFacts(spacing_mm=(2.0, 2.0, 2.0))
    assert not second.training


def test_a_folder_of_runs_opens_as_the_family_of_their_networks(tmp_path):
    def train(name, subset, method="nnunet_per_subset", **extra):
        (tmp_path / "runs" / name).mkdir(parents=True, exist_ok=True)
        facts = {"spacing_mm": [2.0, 2.0, 2.0], "window": [48] * 3, "fold": 0, "training_subjects": [name], **extra}
        network = create(method, preset="tiny", **({} if subset is None else {"subset": subset}))
        network.save(tmp_path / "runs" / name / "model.safetensors", TrainingFacts.read(facts, name))
        return network

    runs, flair = tmp_path / "runs", train("one", "flair")
    assert same(zoo.open_model(runs), flair), "a single run below is opened as itself"
    train("two", "t1c+flair")
    (runs / "unfinished").mkdir()
    family = zoo.open_model(runs)
    assert family.subsets == ("flair", "t1c+flair")
    assert same(family.every[0], flair)
    assert family.facts.run == "runs"
    assert family.facts.spacing_mm == (2.0, 2.0, 2.0)
    assert family.facts.training_subjects == ("one", "two")
    assert zoo.weights_paths(runs) == [runs / name / "model.safetensors" for name in ("one", "two")]
    for name, facts, problem in (
        ("twin", {"subset": "flair"}, "two models serve flair; name a folder with one network for each"),
        ("wide", {"subset": "t2", "window": [32] * 3}, "one and wide differ in window"),
        ("other", {"subset": "t2", "fold": 1}, "one and other differ in fold"),
        ("alien", {"subset": "t2", "method": "acn"}, "per-subset models must share method"),
        ("every", {"subset": None, "method": "u_hemis"}, "every serves every subset by itself"),
    ):
        train(name, **facts)
        with pytest.raises(UserError, match=problem):
            zoo.open_model(runs)
        (runs / name / "model.safetensors").unlink()


def test_an_unknown_model_lists_the_known_ones(weights):
    with pytest.raises(UserError, match=r"unknown model 'third'; known: default, first, second"):
        zoo.open_model("third")
    with pytest.raises(UserError, match="known: default, first, second"):
        zoo.find_card("../zoo")
    assert zoo.get_card(weights / "first.safetensors") is None


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "no front matter",
        "---\nname: first\n---\n",
        CARD.format(name="other"),
        CARD.format(name="first").replace("median", "middle"),
        CARD.format(name="first").replace("{mean: 0.7, median: 0.75, n: 7}", "0.7"),
    ],
)
def test_a_bad_card_is_refused(weights, damage):
    (weights / "first.md").write_text(damage)
    with pytest.raises(UserError, match=r"first\.md"):
        zoo.list_models()


def test_a_card_is_printed_as_a_table(weights):
    text = (weights / "first.md").read_text()
    without = "{mean: null, median: null, n: 0, without: 7, left_empty: 2, false_ml: 1.5}"
    text = text.replace("n: 7}}", f"n: 7}}, enhancing_tumor: {without}}}")
    (weights / "first.md").write_text(text)
    lines = zoo.card_text(zoo.find_card("first")).splitlines()
    assert lines[0] == "first"
    assert "Dice, median (mean), on seven held-out cases" in lines
    assert ["flair", "0.75", "(0.70)", "not", "measured"] in [line.split() for line in lines]
    assert ["cases", "7", "0"] in [line.split() for line in lines]
    assert "7 further cases with less than 0.5 ml of enhancing_tumor" in lines
    assert ["flair", "2", "of", "7", "1.5"] in [line.split() for line in lines]
    assert lines[-1] == "# Test model"


def test_the_command_prints_the_table_or_json():
    table = run("models", "--card", "default").out
    assert "Dice, median (mean), on" in table
    assert table.count(" (0.") >= 45, "fifteen subsets by three regions"
    facts = run("models", "--card", "default", "--json").json
    assert facts["default"] is True
    assert facts["numbers"]["by_subset"]["t1"]["whole_tumor"]["n"] >= 6


def test_the_bundled_cards_have_median_and_n_of_every_subset():
    for card in zoo.list_models():
        for subset in GLIOMA.subsets():
            scores = card.measured(GLIOMA.subset_name(subset))
            assert list(scores) == list(GLIOMA.regions)
            for score in scores.values():
                assert score.n >= 6
                assert 0 <= score.median <= 1
                assert score.n + score.without == scores["whole_tumor"].n + scores["whole_tumor"].without


def test_weights_without_a_card_are_refused(weights):
    (weights / "first.md").unlink()
    with pytest.raises(UserError, match="no model card"):
        zoo.list_models()


def test_the_shipped_models_open():
    for card in zoo.list_models():
        method = zoo.open_model(card.name)
        assert method.name == card.method
        assert method.spec.modalities == card.modalities
        for value in (card.data, card.command, card.licence, card.limits, card.numbers):
            assert value
        assert {"spacing_mm", "window"} <= set(method.facts.to_dict())


def test_foreign_weights_go_through_the_methods_own_mapping(monkeypatch):
    cls = get_method("u_hemis")
    with pytest.raises(UserError, match="cannot import foreign weights"):
        zoo.import_checkpoint("u_hemis", {})

    def mapping(state_dict, source="official"):
        method = create("u_hemis", preset="tiny")
        method.load_state_dict({key.removeprefix(source + "."): value for key, value in state_dict.items()})
        return method

    monkeypatch.setattr(cls, "import_state_dict", staticmethod(mapping), raising=False)
    original = create("u_hemis", preset="tiny")
    foreign = {"official." + key: value for key, value in original.state_dict().items()}
    imported = zoo.import_checkpoint("u_hemis", foreign)
    assert same(imported, original)
    assert not imported.training
    foreign.popitem()
    with pytest.raises(UserError, match="do not fit"):
        zoo.import_checkpoint("u_hemis", foreign)
    with pytest.raises(UserError, match="unknown method"):
        zoo.import_checkpoint("nobody", foreign)
