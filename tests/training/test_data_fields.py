"""What a method can ask of its data beyond images and label maps, each proven by a small method that needs it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import dummy_methods
import numpy as np
import pytest
import torch
from small_cohort import write_cache

from anymri import methods
from anymri.config import result_changing
from anymri.data.cache import Cache
from anymri.data.tables import ArrayKind, Tables, graph_kinds
from anymri.evaluation.seen import image_signatures
from anymri.protocol.weights_file import read_header
from anymri.training import preparation, train
from anymri.training.checkpoint import CheckpointStore
from anymri.training.log import read_log
from anymri.training.memory import StepMemory
from anymri.training.preparation import prepare
from anymri.types import GLIOMA, Stage, UserError


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


# ---------------------------------------------------------------------------------------------------------- hidden


def test_hidden_sequences_take_part_in_nothing(config, made, tmp_path, cache_folder, monkeypatch):
    hide = {"hide": {"p0": "t2+flair", "p2": 1.0}}
    run = train(config("small", ["p0", "p1", "p2"], hide), tmp_path / "run", progress=False)
    (batches,) = [method.seen for method in made]
    lacking = {name: codes.split("+") for name, codes in card(run)["hidden"].items()}
    assert lacking.keys() == {"p0", "p2"}
    assert lacking["p0"] == ["t2", "flair"]
    for batch in batches:
        for row, name in enumerate(batch.subject_ids):
            codes = set(GLIOMA.modalities) - set(lacking.get(name, ["t2"]))  # p1 has no T2
            assert batch.present[row].tolist() == [code in codes for code in GLIOMA.modalities]
            assert batch.statistics[row, ~batch.present[row]].isnan().all()
    facts = read_header(run / "model.safetensors").facts
    assert facts.hidden == card(run)["hidden"]
    cache = Cache(cache_folder)
    seen = {name: set(image_signatures(cache.entry(name))) & set(facts.training_images) for name in lacking}
    assert {name: len(images) for name, images in seen.items()} == {n: 4 - len(c) for n, c in lacking.items()}
    monkeypatch.setattr(dummy_methods.Small, "needs", "complete")
    with pytest.raises(UserError, match=r"no training subject left \(1 without t2\+flair"):
        train(config("small", ["p0", "p1"], {"hide": {"p0": "t2+flair"}}), tmp_path / "none", progress=False)


def test_a_run_without_transplants_keeps_its_identity(config, made):
    plain = config("small", ["p0", "p1"])
    with_lesions = replace(plain, training=replace(plain.training, transplants=0.5))
    assert "transplants" not in result_changing(plain)["training"]
    assert result_changing(with_lesions)["training"]["transplants"] == 0.5
    assert [loader.transplants for loader in prepare(with_lesions).loaders] == [0.5]


def test_a_run_that_hides_nothing_keeps_its_identity(config, made):
    plain, hiding = (config("small", ["p0", "p1"], data) for data in ({}, {"hide": {"p0": "t1"}}))
    assert "hide" not in result_changing(plain)["data"]
    assert result_changing(hiding)["data"]["hide"] == {"p0": "t1"}
    facts = [preparation.prepare(one).facts for one in (plain, hiding)]
    assert facts[0]["identity"] != facts[1]["identity"]
    assert "hidden" not in facts[0]


# -------------------------------------------------------------------------------------------------- site and class


@pytest.fixture
def told_cache(tmp_path):
    """p0 and p2 of one site, p1 of another, p3 of none; a validation subject's site comes first by the alphabet."""
    cache = Cache(write_cache(tmp_path / "told"))
    sites = {"p0": "Bern", "p1": "Ulm", "p2": "Bern", "p4": "Aachen"}
    classes = {"p0": "low", "p1": "high", "p3": "low"}
    for name in cache.subject_ids:
        cache.update_facts(name, {"site": sites.get(name, ""), "class_label": classes.get(name, "")})
    return cache.folder


def test_a_method_learns_of_each_site_from_its_own_subjects(config, made, tmp_path, told_cache):
    settings = {"cache": str(told_cache)}
    run = train(config("site_levels", ["p0", "p2", "p3"], settings), tmp_path / "run", progress=False)
    levels = methods.load(run / "model.safetensors").levels
    assert levels[1] != 0  # Bern
    assert (levels[[0, 2]] == 0).all()  # Aachen and Ulm: nobody here
    numbers = {"p0": 1, "p2": 1, "p3": -1}
    for batch in made[0].seen:
        assert batch.site.tolist() == [numbers[name] for name in batch.subject_ids]
        assert batch.class_label.tolist() == [-1] * len(batch.subject_ids)  # not named in uses
    assert card(run)["site"] == {"names": ["Aachen", "Bern", "Ulm"], "subjects": {"p0": "Bern", "p2": "Bern"}}
    assert read_header(run / "model.safetensors").facts.site_names == ("Aachen", "Bern", "Ulm")


def test_a_method_learns_the_class_of_a_study(config, made, tmp_path, told_cache):
    settings = {"cache": str(told_cache)}
    run = train(config("classifier", ["p0", "p1", "p2"], settings, epochs=8, lr=0.1), tmp_path / "run", progress=False)
    numbers = {"p0": 1, "p1": 0, "p2": -1}
    for batch in made[0].seen:
        assert batch.class_label.tolist() == [numbers[name] for name in batch.subject_ids]
    errors = [row["terms"]["class"] for row in read_log(run)[1:]]
    assert errors[-1] < 0.6 * errors[0]
    facts = read_header(run / "model.safetensors").facts
    assert facts.class_label_names == ("high", "low")
    assert facts.site_names is None


def test_a_mended_class_is_another_run_for_a_method_that_uses_it_and_for_no_other(config, made, told_cache):
    def identities():
        runs = [
            config(name, ["p0", "p1"], {"cache": str(told_cache)}) for name in ("classifier", "site_levels", "small")
        ]
        return [preparation.prepare(one).facts["identity"] for one in runs]

    before = identities()
    Cache(told_cache).update_facts("p0", {"site": "Bern", "class_label": "high"})
    assert [a == b for a, b in zip(before, identities(), strict=True)] == [False, True, True]


def test_what_a_method_uses_must_be_known_of_some_subject(config, made, tmp_path, told_cache):
    with pytest.raises(
        UserError, match=r"no training subject has a site, which site_levels uses; fill the column site"
    ):
        train(config("site_levels", ["p3"], {"cache": str(told_cache)}), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


# -------------------------------------------------------------------------------------------------------- unpaired


def test_a_stage_can_train_on_sequences_of_different_subjects(config, made, tmp_path):
    subjects = ["p0", "p1", "p2", "p4"]
    run = train(config("one_by_one", subjects), tmp_path / "run", progress=False)
    assert len(made[0].seen) == 2 * 6 * 3
    for batch, again in zip(made[0].seen[::2], made[0].seen[1::2], strict=True):
        for row in range(2):
            numbers = batch.identity[row, batch.present[row]].tolist()
            assert row in numbers
            assert len(set(numbers)) == len(numbers) >= 3  # p1 has no T2: nobody may be left for it
            assert batch.labelled[row] == (batch.subject_ids[row] != "p4")
        assert again.subject_ids[:2] == batch.subject_ids[:2]
        assert not torch.equal(again.image.nan_to_num(), batch.image.nan_to_num())
    errors = [row["terms"]["cross_entropy"] for row in read_log(run)[1:]]
    assert errors[-1] < errors[0]
    twice = train(config("one_by_one", subjects), tmp_path / "twice", progress=False)
    assert (twice / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()


def test_unpaired_stages_need_a_patch_and_two_subjects(config, made, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="unpaired rows need two subjects, p0 is alone"):
        preparation.prepare(config("one_by_one", ["p0"]))
    whole = methods.Preset((Stage("only", 1, 1, None, "all", unpaired=True),))
    monkeypatch.setattr(methods.get_method("one_by_one"), "presets", {"tiny": whole})
    with pytest.raises(UserError, match=r"stage only mixes sequences of different subjects; set training\.patch"):
        preparation.prepare(config("one_by_one", ["p0", "p2"]))


def test_memory_of_a_step_is_told_of_every_one_of_them(made):
    for cls in vars(dummy_methods).values():
        if isinstance(cls, type) and issubclass(cls, dummy_methods.Small):
            method = cls(cls.Config(preset="tiny"), GLIOMA)
            assert cls.classical or StepMemory(method, method.presets["tiny"].stages[0]).gib((16, 16, 16), 2) > 0


# --------------------------------------------------------------------------------------------- vectors and graphs


@pytest.fixture
def table_cache(tmp_path):
    """p0 and p1 have a vector and a graph, p2 has none."""
    folder = write_cache(tmp_path / "tables_too")
    kinds = {"clinical": ArrayKind("float32", (2,)), **graph_kinds("functional", 1, 1)}
    tables = Tables.create(folder / "tables", kinds)
    for number in range(2):
        arrays = {
            "clinical": np.array([number, 1 - 3 * number], np.float32),
            "functional.nodes": np.full((3, 1), number + 1, np.float32),
            "functional.edges": np.array([[0, 1], [1, 2]]),
            "functional.edge_features": np.ones((2, 1), np.float32),
        }
        tables.write(f"p{number}", arrays)
    return folder


def test_a_method_learns_from_a_vector_and_a_graph_of_each_subject(config, made, tmp_path, table_cache):
    settings = {"cache": str(table_cache)}
    chosen = config("vector_reader", ["p0", "p1", "p2"], settings, epochs=8, lr=0.1)
    run = train(chosen, tmp_path / "run", progress=False)
    errors = [row["terms"]["error"] for row in read_log(run)[1:]]
    assert errors[-1] < 0.3 * errors[0]
    for batch in made[0].seen:
        for name, arrays in zip(batch.subject_ids, batch.arrays, strict=True):
            assert ("clinical" in arrays) == (name != "p2")
    untold = train(config("small", ["p0", "p1"], settings), tmp_path / "untold", progress=False)
    assert all(arrays == {} for batch in made[-1].seen for arrays in batch.arrays)
    assert "tables" not in card(untold)
    before = card(run)["identity"]
    Tables(table_cache / "tables").write("p2", {"clinical": np.zeros(2, np.float32)})
    assert preparation.prepare(chosen).facts["identity"] != before
    assert preparation.prepare(config("small", ["p0", "p1"], settings)).facts["identity"] == card(untold)["identity"]


def test_a_classical_method_fits_the_vectors_of_its_subjects(config, made, tmp_path, table_cache):
    run = train(
        config("vector_mean", ["p0", "p1", "p2"], {"cache": str(table_cache)}), tmp_path / "run", progress=False
    )
    assert methods.load(run / "model.safetensors").mean.tolist() == [0.5, -0.5]


def test_a_method_that_uses_tables_needs_some(config, made):
    with pytest.raises(UserError, match="tables: has no training subject, which vector_reader needs"):
        preparation.prepare(config("vector_reader", ["p0", "p1"]))


# ---------------------------------------------------------------------------------------------------------- resume


@pytest.mark.parametrize("name", ["self_taught", "one_by_one", "vector_reader"])
def test_a_run_that_died_ends_as_if_unbroken(config, made, tmp_path, table_cache, monkeypatch, name):
    settings = {"cache": str(table_cache), "hide": {"*": 0.5}}
    chosen = config(name, ["p0", "p1", "p4"][: 2 + (name != "vector_reader")], settings, epochs=3)
    whole = train(chosen, tmp_path / "whole", progress=False)
    steps, write = len(made[-1].seen), CheckpointStore.write

    def write_and_die(self, state):
        write(self, state)
        raise KeyboardInterrupt

    monkeypatch.setattr(CheckpointStore, "write", write_and_die)
    with pytest.raises(KeyboardInterrupt):
        train(chosen, tmp_path / "broken", progress=False)
    monkeypatch.setattr(CheckpointStore, "write", write)
    broken = train(chosen, tmp_path / "broken", progress=False)
    assert 0 < len(made[-1].seen) < steps
    assert (broken / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
