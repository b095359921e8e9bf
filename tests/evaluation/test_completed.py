"""Segmenters of completed studies: downstream Dice beside a model, and two methods as one system; nothing leaks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from command_line import run

from anymri.data.cache import Cache
from anymri.evaluation import evaluate, metrics, results
from anymri.evaluation.baselines import BASELINES
from anymri.evaluation.downstream import FrozenSegmenter, complete_study
from anymri.methods import create
from anymri.protocol.facts import TrainingFacts
from anymri.protocol.weights_file import weights_digest
from anymri.types import GLIOMA, DataSpec, UserError

OPTIONS = {"progress": False, "pictures": False, "precision": "32"}
SUBSETS = ["t2", "t1+flair", "t1+t1c+t2+flair"]
WHOLE = GLIOMA.region_values("whole_tumor")


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    """The threshold baseline as it starts: whole tumour where FLAIR is above 1.5."""
    path = tmp_path_factory.mktemp("segmenter") / "threshold.safetensors"
    create("threshold").save(path, TrainingFacts(run="threshold-run", training_images=()))
    return path


@pytest.fixture
def table(three, mean_method, segmenter, tmp_path):
    return evaluate(
        mean_method, three.cache.folder, tmp_path / "r.parquet", subsets=SUBSETS, downstream=segmenter, **OPTIONS
    )


def dice(table, subject, subset, method, metric="downstream_dice", target="whole_tumor"):
    rows = table[(table["subject"] == subject) & (table["subset"] == subset) & (table["method"] == method)]
    return rows[(rows["metric"] == metric) & (rows["target"] == target)]["value"].item()


def test_downstream_dice_by_hand(table, three):
    """From T2 alone FLAIR is a copy of T2 within T2's brain; with FLAIR shown it is FLAIR."""
    by_hand = []
    for subset, shown in ((("t2",), "t2"), (("t1", "flair"), "flair")):
        study = three.cache.entry(three.names[0], subset)
        found = np.asarray(study.image[GLIOMA.index(shown)], np.float32) > 1.5
        by_hand.append(metrics.dice(found, np.isin(study.label, WHOLE)))
        assert dice(table, three.names[0], "+".join(subset), "mean") == pytest.approx(by_hand[-1])
    assert by_hand[0] != pytest.approx(by_hand[1])


def test_the_complete_real_study_is_the_ceiling(table, three):
    full = GLIOMA.subset_name(GLIOMA.modalities)
    rows = table[table["method"] == "complete_study"]
    assert set(rows["subject"]) == set(three.names[:2]), "the third subject lacks sequences"
    assert set(rows["metric"]) == {"downstream_dice"}
    assert set(rows["subset"]) == {full}
    for subject in three.names[:2]:
        assert dice(table, subject, full, "complete_study") == dice(table, subject, full, "mean")


def test_baselines_are_held_against_it_too(table, three):
    study, other = three.cache.entry(three.names[0], ("t2",)), three.names[1]
    image, reference = np.asarray(study.image, np.float32), np.isin(study.label, WHOLE)
    copied = dice(table, three.names[0], "t2", "copy_best_available")
    assert copied == pytest.approx(metrics.dice(image[GLIOMA.index("t2")] > 1.5, reference))
    for method in ("mean", *BASELINES):
        rows = table[(table["method"] == method) & (table["metric"] == "downstream_dice")]
        assert set(zip(rows["subject"], rows["subset"], strict=True)) >= {(name, "t2") for name in three.names[:2]}
    empty = table[(table["subject"] == other) & (table["target"] == "enhancing_tumor")]
    assert empty[empty["metric"] == "downstream_dice"]["reference_empty"].all()


def test_the_table_says_which_segmenter(table, tmp_path):
    _, settings = results.read_table(tmp_path / "r.parquet")
    told = settings["downstream"]
    assert (told["run"], told["method"]) == ("threshold-run", "threshold")
    assert told["weights"] == weights_digest(create("threshold"))
    assert told["weights"] != settings["weights"]
    assert settings["then"] is None


def test_studies_that_the_segmenter_was_trained_on_are_marked(three, mean_method, tmp_path):
    from anymri.evaluation.seen import training_images

    path = tmp_path / "seen.safetensors"
    create("threshold").save(path, TrainingFacts(training_images=tuple(training_images(three.cache, three.names[:1]))))
    table = evaluate(
        mean_method, three.cache.folder, tmp_path / "r.parquet", subsets=["t2"], downstream=path, **OPTIONS
    )
    seen = table.groupby(["subject", "metric"], observed=True)["seen_in_training"].agg(["min", "max"])
    assert seen.loc[(three.names[0], "downstream_dice")].all()
    assert not seen.loc[(three.names[0], "dice")].any()
    assert not seen.loc[(three.names[1], "downstream_dice")].any()


def test_the_command_scores_both(three, segmenter, tmp_path):
    torch.manual_seed(0)
    model, out = tmp_path / "model.safetensors", tmp_path / "r.parquet"
    create("u_hved", widths=[2, 4]).save(model, TrainingFacts(window=(16, 16, 16)))
    answer = run(
        "evaluate", model, "--data", three.cache.folder, "-o", out, "--subset", "t1", "--metrics", "full",
        "--downstream", segmenter, "--precision", "32", "-q",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    table, settings = results.read_table(out)
    own = table[table["method"] == "u_hved"]
    assert {"dice", "lesion_dice", "brier", "psnr_tumor", "downstream_dice"} <= set(own["metric"])
    assert (settings["metrics"], settings["downstream"]["run"]) == ("full", "threshold-run")


# ------------------------------------------------------------------------------------------ two methods, one system


@pytest.fixture
def image_only(mean_method, mean_class, monkeypatch):
    monkeypatch.setattr(mean_class, "outputs", ("image",))
    monkeypatch.setattr(mean_class, "head", None)
    return mean_method


def test_a_completing_method_and_a_segmenter_are_one_system(three, image_only, segmenter, table, tmp_path):
    found = evaluate(
        image_only, three.cache.folder, tmp_path / "then.parquet", subsets=SUBSETS, then=segmenter, **OPTIONS
    )
    own = found[~found["method"].isin(BASELINES)]
    assert set(own["method"]) == {"mean+threshold"}
    assert set(own["run"]) == {"mean+threshold-run"}
    assert set(own["metric"]) >= {"dice", "hd95", "psnr"}
    for subset in ("t2", "t1+flair"):
        whole = dice(found, three.names[0], subset, "mean+threshold", "dice")
        assert whole == dice(table, three.names[0], subset, "mean"), "as its downstream Dice"
    _, settings = results.read_table(tmp_path / "then.parquet")
    assert (settings["method"], settings["run"]) == ("mean+threshold", "mean+threshold-run")
    assert settings["then"]["method"] == "threshold"


def test_full_metrics_of_a_system(three, image_only, segmenter, tmp_path):
    options = {"subsets": ["t2"], "subjects": three.names[:1], "metrics": "full", **OPTIONS}
    found = evaluate(image_only, three.cache.folder, tmp_path / "then.parquet", then=segmenter, **options)
    assert {"brier", "lesion_f1", "psnr_tumor"} <= set(found[found["method"] == "mean+threshold"]["metric"])


def test_scores_are_on_the_grid_of_the_reference(three, image_only, segmenter, tmp_path):
    from anymri.data.preprocess import preprocess

    native = tmp_path / "native"
    preprocess(three.cache.folder.parent / "subjects.csv", native, spacing_mm=None, progress=False)
    more = {"subsets": ["t2"], "subjects": three.names[:1], **OPTIONS}
    cache = three.cache.folder
    coarse, fine = (
        evaluate(
            image_only, cache, tmp_path / f"{i}.parquet", then=segmenter, downstream=segmenter, reference=r, **more
        )
        for i, r in enumerate((None, native))
    )
    values = [dice(table, three.names[0], "t2", "mean+threshold", "dice") for table in (coarse, fine)]
    assert values[0] != values[1]
    assert values == [dice(table, three.names[0], "t2", "mean+threshold") for table in (coarse, fine)]


# -------------------------------------------------------------------------------------------------------- nothing leaks


@pytest.mark.parametrize("poison", [np.nan, 1e30, 0.0])
@pytest.mark.parametrize("part", ["downstream", "then"])
def test_absent_real_sequences_leave_no_trace(three, image_only, segmenter, tmp_path, monkeypatch, poison, part):
    """What the subject's own hidden sequences hold, and their statistics and boxes, changes no bit of a row."""
    options = {"subsets": ["t1+t2"], "subjects": three.names[:1], "synthesis": False, **OPTIONS}
    whole = evaluate(image_only, three.cache.folder, tmp_path / "a.parquet", **{part: segmenter}, **options)
    entry, hidden = Cache.entry, [GLIOMA.index("t1c"), GLIOMA.index("flair")]

    def poisoned(self, subject_id, subset=None):
        study = entry(self, subject_id, subset)
        if subject_id != three.names[0]:
            return study
        image, statistics = np.array(study.image, np.float32), study.statistics.copy()
        boxes, present = study.boxes.copy(), study.present.copy()
        middles = study.middles.copy()
        image[hidden], statistics[hidden], boxes[hidden], middles[hidden] = poison, poison, 0, 3
        present[hidden] = False
        return study._replace(image=image, statistics=statistics, boxes=boxes, middles=middles, present=present)

    monkeypatch.setattr(Cache, "entry", poisoned)
    monkeypatch.setattr(Cache, "verify", lambda self, subject_id: None)
    probability, given = FrozenSegmenter.probability, []
    monkeypatch.setattr(FrozenSegmenter, "probability", lambda *inputs: given.append(inputs) or probability(*inputs))
    left = evaluate(image_only, three.cache.folder, tmp_path / "b.parquet", **{part: segmenter}, **options)
    chosen = [table[table["method"] != "complete_study"].drop(columns="seen_in_training") for table in (whole, left)]
    first, second = (
        table.astype(dict.fromkeys(table.select_dtypes("category"), str)).reset_index(drop=True) for table in chosen
    )
    assert len(first) >= 3
    assert first.equals(second)
    _, completed, statistics = given[0]
    assert np.isfinite(completed).all()
    assert (abs(completed) < 100).all()
    assert np.isnan(statistics[hidden]).all(), "the segmenter's own medians are taken"
    assert np.isfinite(np.delete(statistics, hidden, 0)).all()


def test_only_what_is_shown_or_made_is_in_a_completed_study(three):
    study = three.cache.entry(three.names[0])
    image = np.asarray(study.image, np.float32)
    brain = image[0] != 0
    made = {code: np.full(brain.shape, 7.0) for code in ("t1c", "t2", "flair")}
    completed = complete_study(study, ("t1",), made, GLIOMA)
    assert np.array_equal(completed[0], image[0])
    assert (completed[1:, brain] == 7).all()
    assert not completed[1:, ~brain].any(), "background stays background"
    del made["t2"]
    assert complete_study(study, ("t1",), made, GLIOMA) is None


# ------------------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize("part", ["downstream", "then"])
def test_segmenters_that_do_not_fit_are_refused(three, mean_method, segmenter, tmp_path, part):
    def refuse(model, words, method=mean_method, **options):
        with pytest.raises(UserError, match=words) as caught:
            evaluate(method, three.cache.folder, tmp_path / "r.parquet", **{part: model}, **OPTIONS, **options)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "r.parquet").exists()

    def weights(name, method, **extra):
        method.save(tmp_path / name, TrainingFacts.read(extra, name))
        return tmp_path / name

    two = DataSpec(modalities=("t1", "t2"))
    refuse(weights("two.safetensors", create("threshold", spec=two)), "takes t1, t2, the data have t1, t1c")
    spaced = weights("spaced.safetensors", create("threshold"), spacing_mm=[1, 1, 1])
    refuse(spaced, "trained at 1x1x1 mm, the data have 2x2x2 mm")
    refuse(weights("gan.safetensors", create("mm_gan")), "segments none of")
    refuse(weights("one.safetensors", create("nnunet_per_subset", subset="t2")), "serves t2, not complete studies")
    refuse(segmenter, "completes no sequences", method=create("unet").eval())
    refuse(segmenter, "add image", outputs=("logits",))
    own = create("u_hved").eval()
    refuse(weights("own.safetensors", own), "the very model", method=own)


def test_a_system_needs_every_sequence(three, image_only, mean_class, segmenter, tmp_path, monkeypatch):
    decode = mean_class.decode

    def one_only(self, features, available, *rest):
        found = decode(self, features, available, *rest)
        only = found.synthesised.clone()
        only[:, GLIOMA.index("t2")] = False
        return found._replace(synthesised=only)

    monkeypatch.setattr(mean_class, "decode", one_only)
    options = {"subsets": ["flair"], "subjects": three.names[:1], **OPTIONS}
    with pytest.raises(UserError, match="not every missing sequence is made from flair"):
        evaluate(image_only, three.cache.folder, tmp_path / "r.parquet", then=segmenter, **options)
    table = evaluate(image_only, three.cache.folder, tmp_path / "s.parquet", downstream=segmenter, **options)
    rows = table[table["metric"] == "downstream_dice"]
    assert set(rows["method"]) == {*BASELINES, "complete_study"}, "no row for what is not complete"
