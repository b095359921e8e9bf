"""The evaluator: who enters which row, what is scored, and that it goes on where it stopped."""

from __future__ import annotations

import json
import threading

import numpy as np
import pyarrow.parquet as parquet
import pytest

from anymri.evaluation import evaluate, metrics, results
from anymri.evaluation.baselines import BASELINES
from anymri.evaluation.evaluate import _ahead
from anymri.evaluation.pictures import rank_subjects
from anymri.evaluation.score_subject import predict_entry
from anymri.evaluation.seen import add_training_images, training_images
from anymri.evaluation.setup import Evaluation, EvaluationSettings
from anymri.inference.restore import Target, restore_probability
from anymri.methods import create, load, read_header
from anymri.protocol.facts import TrainingFacts
from anymri.types import GLIOMA, DataSpec, UserError

QUIET = {"progress": False, "pictures": False, "precision": "32"}


@pytest.fixture
def table(three, mean_method, tmp_path):
    return evaluate(mean_method, three.cache.folder, tmp_path / "results.parquet", **QUIET)


def test_table_has_its_columns_and_dictionary_encoded_text(table, tmp_path):
    stored = parquet.read_table(tmp_path / "results.parquet")
    assert tuple(stored.column_names) == results.COLUMNS
    for name in ("run", "subject", "subset", "target", "metric", "unit", "method", "protocol", "preset", "dataset"):
        assert str(stored.schema.field(name).type).startswith("dictionary"), name
    read, settings = results.read_table(tmp_path / "results.parquet")
    assert read.equals(table)
    assert settings["modalities"] == list(GLIOMA.modalities)
    assert len(settings["subsets"]) == 15
    assert settings["versions"].keys() == {"anymri", "numpy", "torch"}
    assert not (tmp_path / "results.parts").exists()


def test_a_subject_enters_only_rows_it_has_all_sequences_for(table, three):
    own = table[(table["metric"] == "dice") & (table["target"] == "whole_tumor")]
    complete, _, partial = three.names
    assert set(own.loc[own["subject"] == complete, "subset"]) == {"+".join(subset) for subset in GLIOMA.subsets()}
    assert set(own.loc[own["subject"] == partial, "subset"]) == {"t1", "flair", "t1+flair"}


def test_scores_equal_those_computed_by_hand(table, three, mean_method):
    """Thresholding the mean of T1c and FLAIR, written out with numpy."""
    entry = three.cache.entry(three.names[0], ("t1c", "flair"))
    image = np.asarray(entry.image, np.float32)
    mean = (image[1] + image[3]) / 2
    label = np.asarray(entry.label)
    rows = table[(table["subject"] == three.names[0]) & (table["subset"] == "t1c+flair") & (table["method"] == "mean")]
    union = np.zeros(label.shape, bool)
    low, high = entry.boxes[[1, 3], 0].min(0), entry.boxes[[1, 3], 1].max(0)
    union[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    for region, level in (("whole_tumor", 0.5), ("tumor_core", 1.0), ("enhancing_tumor", 1.5)):
        predicted, reference = (mean > level) & union, np.isin(label, GLIOMA.region_values(region))
        values = rows[rows["target"] == region].set_index("metric")["value"]
        assert values["dice"] == pytest.approx(metrics.dice(predicted, reference), abs=1e-6)
        assert values["hd95"] == pytest.approx(metrics.hausdorff(predicted, reference, (2, 2, 2)), abs=1e-5)
        assert values["volume_error"] == pytest.approx((predicted.sum() - reference.sum()) * 8 / 1000)
    assert 0.3 < rows[rows["metric"] == "dice"]["value"].max() < 1


def test_enhancing_tumour_has_the_half_millilitre_rule_and_empty_references_are_marked(table, three):
    et = table[table["target"] == "enhancing_tumor"]
    assert set(et["metric"]) == {"dice", "dice_et_min500mm3", "hd95", "relative_volume_error", "volume_error"}
    assert "dice_et_min500mm3" not in set(table.loc[table["target"] == "whole_tumor", "metric"])
    empty = et.groupby("subject", observed=True)["reference_empty"].agg(["min", "max"])
    assert empty.loc[three.names[1]].all()
    assert not empty.loc[[three.names[0], three.names[2]]].any(axis=None)


def test_synthesis_is_scored_for_real_sequences_that_were_hidden(table, three, mean_method):
    psnr = table[(table["metric"] == "psnr") & (table["method"] == "mean")]
    assert not any(row.target in str(row.subset).split("+") for row in psnr.itertuples())
    partial = psnr[psnr["subject"] == three.names[2]]
    assert {(row.subset, row.target) for row in partial.itertuples()} == {("t1", "flair"), ("flair", "t1")}
    entry = three.cache.entry(three.names[0], ("t2",))
    image = np.asarray(entry.image, np.float32)
    row = psnr[(psnr["subject"] == three.names[0]) & (psnr["subset"] == "t2") & (psnr["target"] == "flair")]
    inside = image[3] != 0
    low, high = np.percentile(image[3][inside], (0.1, 99.9))
    # Outside T2's own brain box nothing is predicted: the value there is the mean, 0.
    error = np.square(np.where(inside, image[2], 0) - image[3])[inside].mean()
    assert row["value"].item() == pytest.approx(10 * np.log10((high - low) ** 2 / error), abs=1e-3)
    assert set(table.loc[table["metric"].isin(["psnr", "ssim", "mae"]), "unit"]) == {"dB", "1", "z"}


def test_baselines_stand_beside_the_method_with_the_same_pairs(table):
    pairs = {
        name: set(map(tuple, part[["subject", "subset", "target"]].astype(str).to_numpy()))
        for name, part in table[table["metric"] == "psnr"].groupby("method", observed=True)
    }
    assert set(pairs) == {"mean", *BASELINES}
    # The third subject alone has no complete neighbour problem here: two others hold all sequences.
    assert pairs["mean"] == pairs["copy_best_available"] == pairs["linear_regression"]


def test_baselines_never_see_the_subject_they_fill(three, mean_method, tmp_path, monkeypatch):
    from anymri.evaluation import score_subject

    used, collect = [], score_subject.collect_moments
    monkeypatch.setattr(
        score_subject, "collect_moments", lambda entry, spec: used.append(entry.subject_id) or collect(entry, spec)
    )
    options = {"subsets": ["flair"], "subjects": three.names[:1], **QUIET}
    evaluate(mean_method, three.cache.folder, tmp_path / "r.parquet", **options)
    assert sorted(used) == sorted(three.names[1:])


def test_choice_of_subsets_and_subjects(three, mean_method, tmp_path):
    some = evaluate(
        mean_method,
        three.cache.folder,
        tmp_path / "r.parquet",
        subsets=["flair+t1", "t2"],
        subjects=three.names[:1],
        **QUIET,
    )
    assert set(some["subset"]) == {"t1+flair", "t2"}
    assert set(some["subject"]) == {three.names[0]}


def test_outputs_and_hd95_can_be_left_out(three, mean_method, tmp_path):
    options = {"subsets": ["flair"], "subjects": three.names[:1], **QUIET}
    only = evaluate(mean_method, three.cache.folder, tmp_path / "a.parquet", outputs=("logits",), hd95=False, **options)
    assert "psnr" not in set(only["metric"])
    assert "hd95" not in set(only["metric"])
    assert "dice" in set(only["metric"])
    images = evaluate(mean_method, three.cache.folder, tmp_path / "b.parquet", outputs=("image",), **options)
    assert set(images["metric"]) == {"psnr", "ssim", "mae"}


def test_a_split_says_whom_to_score_and_whom_to_fit_baselines_on(three, mean_method, tmp_path):
    fold = {"train": three.names[1:], "validation": [], "test": three.names[:1]}
    path = tmp_path / "split.json"
    from anymri.data.split import Split, write_split

    write_split(path, Split(({name: tuple(ids) for name, ids in fold.items()},)))
    table = evaluate(mean_method, three.cache.folder, tmp_path / "r.parquet", split=path, subsets=["flair"], **QUIET)
    assert set(table["subject"]) == {three.names[0]}
    runs = {str(run) for run in table["run"].unique()}
    assert not any(run.endswith("-others") for run in runs)


def test_segmentation_can_be_scored_on_the_grid_of_the_files(three, mean_method, cache_maker, tmp_path):
    native = cache_maker(tmp_path / "native", three.studies, None)
    assert native.spacing_mm == (1.0, 1.0, 1.0)
    options = {**QUIET, "subsets": ["t1c+flair"], "subjects": three.names[:1]}
    table = evaluate(mean_method, three.cache.folder, tmp_path / "r.parquet", reference=native.folder, **options)
    assert set(table["protocol"]) == {"anymri-native"}
    own = table[(table["metric"] == "volume_error") & (table["target"] == "whole_tumor")]
    work = Evaluation.prepare(mean_method, three.cache, EvaluationSettings())
    entry, subset = three.cache.entry(three.names[0], ("t1c", "flair")), ("t1c", "flair")
    ((_, prediction),) = predict_entry(work, entry, [subset], ("logits",))
    label = three.studies[three.names[0]][1]
    source, target = (Target.of(cache.entry(three.names[0], subset), [1, 3]) for cache in (three.cache, native))
    restored = restore_probability(prediction.probability, mean_method.head, source, target)
    assert restored.shape[1:] == label.shape
    assert own["value"].item() == pytest.approx(((restored[0] > 0.5).sum() - (label > 0).sum()) / 1000)
    dice = table[(table["metric"] == "dice") & (table["target"] == "whole_tumor")]["value"].item()
    assert dice == pytest.approx(metrics.dice(restored[0] > 0.5, label > 0))
    coarse = evaluate(mean_method, three.cache.folder, tmp_path / "c.parquet", **options)
    assert coarse[coarse["metric"] == "psnr"]["value"].tolist() == table[table["metric"] == "psnr"]["value"].tolist()


# ------------------------------------------------------------------------------------------------------- resuming


def test_an_interrupted_evaluation_goes_on_and_gives_the_same_table(three, mean_method, tmp_path, monkeypatch):
    whole = evaluate(mean_method, three.cache.folder, tmp_path / "whole.parquet", **QUIET)
    real, calls = results.write_rows, []

    def breaks(path, rows):
        if calls:
            raise KeyboardInterrupt
        calls.append(path)
        real(path, rows)

    monkeypatch.setattr(results, "write_rows", breaks)
    with pytest.raises(KeyboardInterrupt):
        evaluate(mean_method, three.cache.folder, tmp_path / "broken.parquet", **QUIET)
    assert not (tmp_path / "broken.parquet").exists()
    assert (tmp_path / "broken.parts" / f"{three.names[0]}.parquet").exists()
    monkeypatch.setattr(results, "write_rows", lambda path, rows: (calls.append(path), real(path, rows)))
    again = evaluate(mean_method, three.cache.folder, tmp_path / "broken.parquet", **QUIET)
    assert [path.stem for path in calls] == three.names
    assert again.equals(whole)
    assert (tmp_path / "broken.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_finished_subjects_of_another_question_are_not_reused(three, mean_method, tmp_path):
    parts = tmp_path / "r.parts"
    parts.mkdir()
    (parts / "identity.txt").write_text("another model")
    (parts / f"{three.names[0]}.parquet").write_bytes(b"old rows")
    table = evaluate(mean_method, three.cache.folder, tmp_path / "r.parquet", subsets=["flair"], **QUIET)
    assert set(table["subject"]) == set(three.names)


def test_the_identity_knows_weights_and_question(three, mean_method):
    def identity(method, **asked):
        return Evaluation.prepare(method, three.cache, EvaluationSettings(**asked)).identity()

    first = identity(mean_method)
    assert identity(mean_method) == first
    assert identity(mean_method, hd95=False) != first
    mean_method.median_statistics.fill_(1.0)
    assert identity(mean_method) != first


# ------------------------------------------------------------------------------------------------- seen in training


def test_training_images_are_known_by_content_not_by_name(three, study_maker, cache_maker, mean_method, tmp_path):
    images, label = study_maker(1)
    renamed = {"Other-00009-000": ({"t2": images["t2"]}, label), "BraTS-GLI-00001-000": study_maker(7)}
    for subject, (arrays, mask) in renamed.items():
        from anymri.data.datasets.brats2023 import write_brats2023

        write_brats2023(tmp_path / "files", subject.replace("Other", "BraTS-GLI"), arrays, mask)
    cache = cache_maker(tmp_path, {}, None)  # another spacing as well
    mean_method.facts = TrainingFacts(training_images=tuple(training_images(three.cache, three.names[:1])))
    table = evaluate(mean_method, cache.folder, tmp_path / "r.parquet", subsets=["t2"], **QUIET)
    seen = table[table["method"] == "mean"].groupby("subject", observed=True)["seen_in_training"].max()
    assert seen.to_dict() == {"BraTS-GLI-00001-000": False, "BraTS-GLI-00009-000": True}


def test_without_signatures_an_equal_name_counts_as_seen(three, mean_method, tmp_path):
    mean_method.facts = TrainingFacts(training_subjects=three.names[:1])
    table = evaluate(mean_method, three.cache.folder, tmp_path / "r.parquet", subsets=["flair"], **QUIET)
    seen = table[table["method"] == "mean"].groupby("subject", observed=True)["seen_in_training"].max()
    assert seen.to_dict() == dict(zip(three.names, [True, False, False], strict=True))
    assert not table.loc[table["method"] != "mean", "seen_in_training"].any()


def test_an_equal_name_in_other_data_does_not_count(three, mean_method, tmp_path):
    def seen(**facts):
        mean_method.facts = TrainingFacts(training_subjects=three.names, **facts)
        return evaluate(
            mean_method, three.cache.folder, tmp_path / "r.parquet", subsets=["flair"], outputs=("logits",), **QUIET
        )["seen_in_training"].any()

    assert not seen(dataset_fingerprint="of another cache", run="mean-tiny-phantoms-fold0-1234")
    assert seen(dataset_fingerprint="at another spacing", run=f"mean-tiny-{three.cache.folder.parent.name}-fold0-1234")
    assert seen(dataset_fingerprint=three.cache.fingerprint())


def test_signatures_can_be_added_to_weights(three, tmp_path):
    unet = create("unet", preset="tiny")
    unet.save(tmp_path / "w.safetensors", TrainingFacts(training_subjects=tuple(three.names[:2]), run="a"))
    stored = add_training_images(tmp_path / "w.safetensors", three.cache)
    assert stored == training_images(three.cache, three.names[:2])
    assert len(stored) == 8
    facts = read_header(tmp_path / "w.safetensors").facts
    assert facts == TrainingFacts(training_subjects=tuple(three.names[:2]), run="a", training_images=tuple(stored))
    for key, value in load(tmp_path / "w.safetensors").state_dict().items():
        assert np.array_equal(value, unet.state_dict()[key], equal_nan=True)


# ---------------------------------------------------------------------------------------------------------- errors


def test_windows_overlap_as_asked_and_the_table_says_so(three, mean_method, tmp_path):
    from anymri.evaluation.results import read_table

    for overlap in (0.25, 0.5):
        evaluate(mean_method, three.cache.folder, tmp_path / "r.parquet", overlap=overlap, batch_size=2, **QUIET)
        settings = read_table(tmp_path / "r.parquet")[1]["settings"]
        assert (settings["overlap"], settings["batch_size"]) == (overlap, 2)
    for wrong in ({"overlap": 1.0}, {"overlap": -0.1}, {"batch_size": 0}):
        with pytest.raises(UserError, match="overlap"):
            evaluate(mean_method, three.cache.folder, tmp_path / "r.parquet", **wrong, **QUIET)


def test_windows_have_the_size_asked_for_and_the_table_says_so(three, mean_method, tmp_path):
    from anymri.evaluation.results import read_table

    whole = evaluate(mean_method, three.cache.folder, tmp_path / "w.parquet", **QUIET)
    small = evaluate(mean_method, three.cache.folder, tmp_path / "s.parquet", window=(8, 12, 8), **QUIET)
    assert list(read_table(tmp_path / "s.parquet")[1]["settings"]["window"]) == [8, 12, 8]
    assert np.allclose(whole.value, small.value, atol=1e-4, equal_nan=True)  # the method works voxel by voxel
    for wrong in ((8, 12), (8, 0, 8)):
        with pytest.raises(UserError, match="three sizes"):
            evaluate(mean_method, three.cache.folder, tmp_path / "r.parquet", window=wrong, **QUIET)


def test_mistakes_are_one_line_and_leave_nothing(three, mean_method, tmp_path):
    out = tmp_path / "r.parquet"

    def refuses(match, model=mean_method, cache=three.cache.folder, **options):
        with pytest.raises(UserError, match=match) as caught:
            evaluate(model, cache, out, **{**QUIET, **options})
        assert "\n" not in str(caught.value)
        assert list(tmp_path.iterdir()) == []

    refuses("'t9' is not one of", subsets=["t9"])
    refuses("nobody is not in this cache", subjects=["nobody"])
    refuses("is not a cache", cache=tmp_path.parent / "nowhere")
    refuses("unknown model", model="no such model")
    mean_method.facts = TrainingFacts(spacing_mm=(1.0, 1.0, 1.0))
    refuses("2x2x2 mm voxels, the model was trained at 1x1x1 mm")
    mean_method.facts = TrainingFacts()
    mean_method.spec = DataSpec(modalities=("t1", "t2"))
    refuses("the model takes t1, t2")


def test_a_folder_in_the_place_of_the_table_is_refused(three, mean_method, tmp_path):
    with pytest.raises(UserError, match="is a folder"):
        evaluate(mean_method, three.cache.folder, tmp_path, **QUIET)


# -------------------------------------------------------------------------------------------------------- pictures


def test_pictures_of_extremes_are_indexed_and_deterministic(three, mean_method, tmp_path):
    options = {**QUIET, "pictures": True, "subsets": ["flair", "t1", "t1+flair"]}
    evaluate(mean_method, three.cache.folder, tmp_path / "a.parquet", **options)
    evaluate(mean_method, three.cache.folder, tmp_path / "b.parquet", **options)
    index = json.loads((tmp_path / "a.pictures" / "index.json").read_text(encoding="utf-8"))
    assert [(entry["subset"], entry["rank"]) for entry in index["pictures"]] == [
        (subset, rank) for subset in ("t1+flair", "flair", "t1") for rank in ("best", "median", "worst")
    ]
    for entry in index["pictures"]:
        first, second = (tmp_path / f"{name}.pictures" / entry["file"] for name in "ab")
        assert first.read_bytes() == second.read_bytes()
        assert first.read_bytes().startswith(b"\x89PNG")


def test_ranks_follow_whole_tumour_dice_and_name_nobody_twice(table, three):
    own = table[(table["method"] == "mean") & (table["subset"] == "flair")]
    dice = own[(own["metric"] == "dice") & (own["target"] == "whole_tumor")].set_index("subject")["value"]
    ranks = rank_subjects(own)
    assert list(ranks) == ["best", "median", "worst"]
    assert [dice[name] for name in ranks.values()] == sorted(dice, reverse=True)
    assert list(rank_subjects(own[own["subject"].isin(three.names[:2])])) == ["best", "worst"]
    assert list(rank_subjects(own[own["subject"] == three.names[0]])) == ["best"]


def test_predictions_come_with_the_subset_that_was_asked(three, mean_method):
    work = Evaluation.prepare(mean_method, three.cache, EvaluationSettings())
    entry = three.cache.entry(three.names[0])
    found = dict(predict_entry(work, entry, [("t1",), ("flair",)], ("logits",)))
    assert list(found) == [("t1",), ("flair",)]
    assert not np.array_equal(found["t1",].probability, found["flair",].probability)


# ------------------------------------------------------------------------------------------------- one subject ahead


def test_the_next_item_is_made_while_the_last_is_used_always_by_the_same_thread():
    made, threads, second = [], set(), threading.Event()

    def items():
        for number in range(4):
            made.append(number)
            threads.add(threading.get_ident())
            if number == 1:
                second.set()
            yield number

    used = _ahead(items())
    assert next(used) == 0
    assert second.wait(10)
    assert list(used) == [1, 2, 3]
    assert made == [0, 1, 2, 3]
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_what_fails_ahead_fails_after_the_items_before_it():
    def items():
        yield 1
        raise UserError("the second")

    used = _ahead(items())
    assert next(used) == 1
    with pytest.raises(UserError, match="the second"):
        next(used)
