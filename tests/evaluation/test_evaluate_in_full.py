"""Evaluation with all metrics: regions, probabilities, places of synthesis, classes; and what none of them may see."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from command_line import refused, run

from anymri.data.cache import Cache
from anymri.evaluation import evaluate
from anymri.evaluation.baselines import BASELINES
from anymri.evaluation.metrics.calibration import brier
from anymri.evaluation.scoring import score_classes, score_synthesis_by_place
from anymri.methods import MethodConfig
from anymri.protocol.facts import TrainingFacts
from anymri.records import write_record
from anymri.types import GLIOMA, UserError

OPTIONS = {"progress": False, "pictures": False, "precision": "32", "subsets": ["flair", "t1+t2"]}
FULL = {
    "iou", "sensitivity", "precision", "specificity", "hd", "asd", "nsd_2mm", "lesion_dice", "lesion_f1", "lesion_hd95",
    "ece", "brier", "review_dice", "qu_score", "qu_dice", "qu_ftp", "qu_ftn",
}  # fmt: skip


@pytest.fixture(scope="module")
def tables(three, mean_class, tmp_path_factory):
    """The same method and subject with the standard and with all metrics."""
    method, folder = mean_class(MethodConfig(preset="tiny"), GLIOMA).eval(), tmp_path_factory.mktemp("full")
    options = {"subjects": three.names[:1], **OPTIONS}
    return {
        metrics: evaluate(method, three.cache.folder, folder / f"{metrics}.parquet", metrics=metrics, **options)
        for metrics in ("standard", "full")
    }


def value(table, subset, target, metric, method="mean"):
    rows = table[(table["method"] == method) & (table["subset"] == subset) & (table["target"] == target)]
    return rows[rows["metric"] == metric]["value"].item()


def test_full_adds_metrics_and_changes_none(tables):
    standard, full = (
        table.astype({"subset": str, "target": str, "metric": str, "method": str}).set_index(
            ["method", "subset", "target", "metric"]
        )["value"]
        for table in (tables["standard"], tables["full"])
    )
    shared = full.reindex(standard.index)
    assert shared.notna().all()
    exact = standard.index.get_level_values("metric") != "ssim"  # one map for all places adds in another order
    assert (shared[exact] == standard[exact]).all()
    assert np.allclose(shared, standard, atol=1e-6)
    extra = set(full.index.get_level_values("metric")) - set(standard.index.get_level_values("metric"))
    places = {f"{name}{place}" for name in ("psnr", "ssim", "mae", "nmse") for place in ("_tumor", "_outside")}
    assert extra == FULL | places | {"nmse"}


def test_only_the_brain_of_what_is_shown_counts(tables, three):
    """The Brier score of every region within FLAIR's own brain, written out."""
    study = three.cache.entry(three.names[0], ("flair",))
    image = np.asarray(study.image, np.float32)
    shown = image[GLIOMA.index("flair")]
    brain = shown != 0
    assert (brain != (image != 0).any(0)).any(), "the other sequences show more"
    probability = 1 / (1 + np.exp(-4 * (shown - 0.5)))
    reference = np.isin(study.label, GLIOMA.region_values("whole_tumor"))
    assert value(tables["full"], "flair", "whole_tumor", "brier") == pytest.approx(brier(probability, reference, brain))
    assert brier(probability, reference, (image != 0).any(0)) != pytest.approx(brier(probability, reference, brain))


@pytest.mark.parametrize("method", ["mean", *BASELINES])
def test_synthesis_is_scored_by_place_for_method_and_baselines(tables, method):
    found = [value(tables["full"], "flair", "t2", name, method) for name in ("mae", "mae_tumor", "mae_outside")]
    assert min(found[1:]) < found[0] < max(found[1:]), "the brain is its tumour and the rest"


def test_places_are_those_of_the_label(tables, three):
    study = three.cache.entry(three.names[0], ("flair",))
    image = np.asarray(study.image, np.float32)
    real, made = image[GLIOMA.index("t2")], image[GLIOMA.index("flair")]
    low, high = study.boxes[GLIOMA.index("flair")]
    inside = np.zeros(real.shape, bool)
    inside[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    scores = score_synthesis_by_place("t2", np.where(inside, made, 0), real, real != 0, np.asarray(study.label) > 0)
    for score in scores:
        assert value(tables["full"], "flair", "t2", score.metric) == pytest.approx(score.value, abs=1e-5), score.metric


# ------------------------------------------------------------------------------------------------------------ classes


def test_scores_of_one_subject_by_hand():
    found = [
        (s.target, s.metric, s.value, s.reference_empty) for s in score_classes([0.2, 0.5, 0.3], ["a", "b", "c"], "c")
    ]
    assert found == [
        ("a", "class_probability", 0.2, True),
        ("b", "class_probability", 0.5, True),
        ("c", "class_probability", 0.3, False),
        ("c", "class_correct", 0.0, False),
    ]


@pytest.fixture
def classified(three, mean_method, tmp_path, monkeypatch):
    """A cache in which two of three subjects have a class, and a method that tells the class by what it is shown."""
    folder = tmp_path / "classes"
    shutil.copytree(three.cache.folder, folder)
    for name, label in zip(three.names, ("high", "low"), strict=False):
        path = folder / f"{name}.json"
        write_record(path, {**json.loads(path.read_text()), "class_label": label})
    decode = type(mean_method).decode

    def with_class(self, features, available, *rest):
        logits = torch.stack([available.sum(1).float(), torch.full((len(available),), 2.0)], dim=1)
        return decode(self, features, available, *rest)._replace(class_logits=logits)

    monkeypatch.setattr(type(mean_method), "decode", with_class)
    monkeypatch.setattr(type(mean_method), "outputs", ("logits", "image", "class_logits"))
    mean_method.facts = TrainingFacts(class_label_names=("high", "low"))
    return Cache(folder), mean_method


def test_class_logits_are_scored_where_the_data_have_classes(classified, three, tmp_path):
    cache, method = classified
    table = evaluate(method, cache.folder, tmp_path / "r.parquet", outputs=("class_logits",), **OPTIONS)
    assert set(table["metric"]) == {"class_probability", "class_correct"}
    assert set(table["subject"]) == set(three.names[:2]), "the third has no class"
    odds = 1 / (1 + np.exp(2 - 1))  # one sequence shown: logits 1 and 2
    first = table[(table["subject"] == three.names[0]) & (table["subset"] == "flair")].set_index("metric")
    assert first.loc["class_probability", "value"].tolist() == pytest.approx([odds, 1 - odds])
    assert first.loc["class_probability", "reference_empty"].tolist() == [False, True]
    assert (first.loc["class_correct", "value"], first.loc["class_correct", "target"]) == (0.0, "high")


def test_a_class_that_the_model_does_not_know_is_not_scored(classified, three, tmp_path):
    cache, method = classified
    method.facts = TrainingFacts(class_label_names=("low", "other"))
    table = evaluate(method, cache.folder, tmp_path / "r.parquet", outputs=("class_logits",), **OPTIONS)
    assert set(table["subject"]) == {three.names[1]}
    method.facts = TrainingFacts()
    with pytest.raises(UserError, match="nothing to score"):
        evaluate(method, cache.folder, tmp_path / "s.parquet", outputs=("class_logits",), **OPTIONS)


def test_an_unknown_choice_is_refused(three, mean_method, tmp_path):
    with pytest.raises(UserError, match="metrics best: unknown; choose standard or full"):
        evaluate(mean_method, three.cache.folder, tmp_path / "r.parquet", metrics="best", **OPTIONS)
    refused(run("evaluate", "default", "--data", three.cache.folder, "--metrics", "best"), "--metrics best")
