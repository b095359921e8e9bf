"""Calibration on unseen studies: who counts, what is fitted, the record that predict finds beside the weights."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from command_line import run

from anymri.evaluation import metrics
from anymri.evaluation.calibrate import THRESHOLDS, Measured, compare, fit_calibration, fit_predictors, measure_studies
from anymri.evaluation.seen import image_signatures
from anymri.evaluation.setup import Evaluation, EvaluationSettings
from anymri.inference.sliding_window import WindowSettings
from anymri.inference.trust.calibration import read_calibration
from anymri.inference.trust.expected import expected_dice
from anymri.inference.trust.features import RegionFeatures
from anymri.protocol.facts import TrainingFacts
from anymri.records import write_record
from anymri.types import GLIOMA, UserError

SUBSETS = (("flair",), ("t1c", "flair"))


def prepare(method, studies, seen=()):
    """An evaluation of FLAIR whose network says that it has seen some subjects."""
    images = [name for subject in seen for name in image_signatures(studies.cache.entry(subject))]
    method.facts = replace(TrainingFacts(), training_images=tuple(images))
    settings = EvaluationSettings(outputs=("logits",), synthesis=False, windows=WindowSettings(precision="32"))
    work = Evaluation.prepare(method, studies.cache, settings, ["flair"])
    work.choose_subjects(None, 0, "test", None)
    return work


def test_each_study_is_measured_by_a_network_that_has_not_seen_it(three, mean_class):
    from anymri.methods import MethodConfig

    one, other = (mean_class(MethodConfig(preset="tiny"), GLIOMA).eval() for _ in range(2))
    first, second, third = three.names
    rows, left_out = measure_studies([prepare(one, three, [first, second]), prepare(other, three, [second, third])])
    assert [row.study for row in rows] == [first, third]
    assert left_out == [second]


def test_what_is_measured_are_dice_volumes_and_the_way_to_the_missed_part():
    label = np.zeros((1, 1, 10), int)
    label[..., 2:8] = 2
    mask = np.zeros(label.shape, bool)
    mask[..., 2:4] = True
    chance = np.where(mask, 0.9, 0.0)
    chance[..., 4] = 0.2
    found = compare({"whole_tumor": mask}, {"whole_tumor": chance}, label, GLIOMA, (1.0, 1.0, 2.0))
    assert found["dice"]["whole_tumor"] == metrics.dice(mask, label > 0)
    assert found["reference_ml"]["whole_tumor"] == pytest.approx(0.012)
    assert found["margin_mm"] == 8  # four voxels of 2 mm beyond the mask
    shares = dict(zip(THRESHOLDS, found["missed"], strict=True))
    assert shares[0.5] == pytest.approx(4 / 6)
    assert shares[0.001] == pytest.approx(3 / 6)
    assert (
        compare({"whole_tumor": ~mask & mask}, {"whole_tumor": chance}, label, GLIOMA, (1, 1, 1))["margin_mm"] == np.inf
    )


def made_up(n=40, noise=0.05, seed=0):
    """Studies whose Dice is 0.2 + 0.6 of the expected overlap, and 0.1 more with T1c."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(n):
        soft, shift = rng.uniform(0.4, 0.9), rng.normal(0, noise)
        for subset in SUBSETS:
            dice = 0.2 + 0.6 * soft + 0.1 * ("t1c" in subset) + shift
            features = {"brain_ml": float(rng.normal(1200, 100)), "soft_dice": soft}
            rows.append(
                Measured(
                    study=str(number),
                    subset=subset,
                    regions={"whole_tumor": RegionFeatures(10.0, soft, 0.5)},
                    features=features,
                    dice={"whole_tumor": dice},
                    reference_ml={"whole_tumor": 12.0},
                    marked_ml={"whole_tumor": 10.0},
                    margin_mm=float(number),
                    missed=np.zeros(len(THRESHOLDS)),
                )
            )
    return rows


def test_the_predictor_finds_overlap_and_sequence():
    found = fit_calibration(made_up(400, noise=0.0), GLIOMA, 0.8)
    constant, slope, t1, t1c, t2, flair = found.coefficients["whole_tumor"]
    assert slope == pytest.approx(0.6, abs=0.02)
    assert t1c == pytest.approx(0.1, abs=0.01)
    assert t1 == t2 == flair == 0  # the same in all rows
    assert constant == pytest.approx(0.2, abs=0.02)
    gain = found.subsets["flair"].gain["t1c"]["whole_tumor"]
    assert (gain.mean, gain.n) == (pytest.approx(0.1), 400)


def test_residuals_are_those_of_fits_without_the_study():
    """One study far off: its residual is that to a fit of the nine others."""
    rows = made_up(10, noise=0.0)
    rows[0] = replace(rows[0], dice={"whole_tumor": 0.0})
    cell = fit_calibration(rows, GLIOMA, 0.8).subsets["flair"].regions["whole_tumor"]
    coefficients, _ = fit_predictors(rows[2:], GLIOMA)
    soft = rows[0].regions["whole_tumor"].soft_dice
    given = [code == "flair" for code in GLIOMA.modalities]
    assert cell.residuals[0] == pytest.approx(-expected_dice(coefficients["whole_tumor"], soft, given), abs=1e-3)
    assert len(cell.residuals) == 10


def test_little_marked_counts_in_the_scores_but_not_in_the_residuals():
    rows = made_up(10)
    rows[0] = replace(rows[0], regions={"whole_tumor": RegionFeatures(0.2, 0.5, 0.5)}, dice={"whole_tumor": 0.0})
    rows[2] = replace(rows[2], reference_ml={"whole_tumor": 0.0}, missed=np.full(len(THRESHOLDS), np.nan))
    cell = fit_calibration(rows, GLIOMA, 0.8).subsets["flair"].regions["whole_tumor"]
    assert len(cell.residuals) == 9
    assert (cell.score.n, cell.score.without) == (9, 1)


def test_the_record_is_written_read_back_and_used_for_its_own_weights_only(three, mean_class, tmp_path, monkeypatch):
    from anymri.inference.predict import load

    record = fit_calibration(made_up(12), GLIOMA, 0.8)
    weights = tmp_path / "model.safetensors"
    answer = run("calibrate", "glioma_unet", "--data", three.cache.folder)
    assert answer.code == 2
    assert "-o" in answer.err
    source = load("glioma_unet")
    source.method.save(weights, source.method.facts)
    digest = load(weights).sha256
    write_record(tmp_path / "calibration.json", asdict(replace(record, weights_sha256=digest)))
    assert read_calibration(tmp_path / "calibration.json").subsets == record.subsets
    assert load(tmp_path).calibration is not None
    write_record(tmp_path / "calibration.json", asdict(record))
    other = load(tmp_path)
    assert other.calibration is None
    assert "belongs to other weights" in other.notes[0]
    values = json.loads((tmp_path / "calibration.json").read_text())
    values["confidence"] = 0.9
    (tmp_path / "calibration.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match=r"calibration.json: was changed or damaged"):
        load(tmp_path)
