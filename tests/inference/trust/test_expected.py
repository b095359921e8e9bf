"""What a calibration says of one study: interval, alarm, features that nothing absent reaches."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from anymri.data.study import Study
from anymri.inference.subject import SubjectPrediction
from anymri.inference.trust.calibration import Calibration, CellCalibration, Gain, SubsetCalibration
from anymri.inference.trust.expected import alarm, distance, expected_dice, interval, trust_in_study, withhold
from anymri.inference.trust.features import region_features, study_features
from anymri.inference.trust.measured import best_addition, first_sentences, measured_summary, trust_line
from anymri.inference.trust.told import trust_sentences
from anymri.types import GLIOMA, STATISTICS, Head
from anymri.zoo import RegionScore

SHAPE = (12, 14, 16)
HEAD = Head(kind="sigmoid", channels=("wt", "tc", "et"))
SCORE = RegionScore(mean=0.7, median=0.75, n=9)


@pytest.fixture
def study():
    image = np.full((4, *SHAPE), np.nan, np.float32)
    image[3] = 0
    image[3, 2:10, 2:12, 2:14] = np.random.default_rng(0).normal(size=(8, 10, 12)).astype(np.float32)
    return Study.from_arrays(image, np.zeros((4, len(STATISTICS)), np.float32))._replace(spacing_mm=(10.0, 10.0, 10.0))


def predict(value=0.9):
    probability = torch.zeros((3, *SHAPE))
    probability[:, 4:7, 4:8, 4:9] = value
    return SubjectPrediction(
        shape=SHAPE, start=(0, 0, 0), stop=SHAPE, head=HEAD, box_probability=probability, box_image=None,
        synthesised=torch.zeros(4, dtype=torch.bool), class_probability=None,
    )  # fmt: skip


def calibration(features, limit=3.0, residuals=(-0.2, -0.1, -0.1, 0, 0, 0, 0.1, 0.1, 0.1)):
    cell = CellCalibration(score=SCORE, residuals=list(residuals))
    subset = SubsetCalibration(
        studies=9,
        regions=dict.fromkeys(GLIOMA.regions, cell),
        gain={"t1c": {"enhancing_tumor": Gain(mean=0.4, error=0.1, n=9)}},
        margins_mm=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0],
        no_margin=0,
        missed=[0.3, 0.0],
        features={name: [value, 1.0] for name, value in features.items()},
        distances=[limit] * 9,
    )
    return Calibration(
        weights_sha256="0" * 64, model="m", measured_on="nine", studies=9, by=[], confidence=0.8, margin_share=0.95,
        missed_share=0.2, thresholds=[0.5, 0.1], subsets={"flair": subset},
        coefficients={region: [0.1, 0.5, 0.0, 0.0, 0.0, 0.1] for region in GLIOMA.regions},
    )  # fmt: skip


def test_each_end_of_the_interval_is_wrong_with_half_of_what_is_left():
    residuals = [-0.4, *[0.0] * 17, 0.1, 0.3]  # of twenty the 19th of 21 at 0.9
    assert interval(0.5, residuals, 0.8) == pytest.approx((0.5, 0.6))
    assert interval(0.5, [-0.4, -0.3, *[0.0] * 18], 0.8) == pytest.approx((0.2, 0.5))
    assert interval(0.9, [-0.1] * 9 + [0.3] * 9, 0.8) == pytest.approx((0.8, 1.0))
    assert interval(0.5, [0.0] * 8, 0.8) is None


def test_expected_dice_adds_what_was_given_and_stays_a_dice():
    assert expected_dice([0.1, 0.5, 0.2, 0.3], 0.8, [True, False]) == pytest.approx(0.7)
    assert expected_dice([0.1, 0.5, 0.2, 0.3], 2.0, [True, True]) == 1


def test_expected_overlap_by_hand():
    found = region_features(predict(), 1.0, GLIOMA)["whole_tumor"]
    assert found.marked_ml == 60
    assert found.soft_dice == pytest.approx(2 * 54 / (60 + 54))
    lower = predict(0.4)
    assert region_features(lower, 1.0, GLIOMA)["whole_tumor"] == (0, 0, 0)


def test_a_study_like_the_others_gets_numbers(study):
    prediction = predict()
    found = trust_in_study(
        calibration(study_features(prediction, study, ("flair",), GLIOMA)), prediction, study, ("flair",), GLIOMA
    )
    point = 0.1 + 0.5 * 108 / 114 + 0.1
    assert not found["alarm"]["raised"]
    assert found["expected"]["whole_tumor"] == pytest.approx(
        {"dice": point, "low": point - 0.2, "high": point + 0.1, "confidence": 0.8, "n": 9}
    )
    assert found["margin"] == {"mm": 8.0, "share": 0.95, "confidence": 0.8, "n": 9}
    assert found["cautious"]["threshold"] == 0.1
    assert found["cautious"]["volume_ml"] == pytest.approx(60)


def test_an_unlike_study_gets_no_number_and_says_in_what(study):
    prediction = predict()
    usual = study_features(prediction, study, ("flair",), GLIOMA)
    known = calibration(usual | {"flair_sharpness": usual["flair_sharpness"] + 20})
    found = trust_in_study(known, prediction, study, ("flair",), GLIOMA)
    assert found["alarm"]["raised"]
    assert found["alarm"]["differs_in"] == ["flair_sharpness"]
    assert found["expected"] == {}
    assert found["margin"] is found["cautious"] is None


def test_a_study_whose_images_contradict_each_other_is_promised_nothing(study):
    prediction = predict()
    known = calibration(study_features(prediction, study, ("flair",), GLIOMA))
    trust = {"measured": measured_summary(known, GLIOMA, ("flair",))}
    trust |= trust_in_study(known, prediction, study, ("flair",), GLIOMA)
    assert withhold(trust, []) == trust
    assert trust["expected"]
    held = withhold(trust, ["T1 shows another head."])
    assert held["expected"] == {}
    assert held["margin"] is held["cautious"] is None
    assert first_sentences(held, GLIOMA, ("flair",))[0] == "T1 shows another head."
    assert trust_line(held, "whole_tumor").startswith("not known")
    assert best_addition(held) == []
    assert "No expected Dice" in trust_sentences(held, GLIOMA)[0]
    uncalibrated = withhold({"measured": None}, ["T1 shows another head."])
    assert first_sentences(uncalibrated, GLIOMA, ("flair",)) == ["T1 shows another head."]


def test_too_few_studies_or_an_unknown_subset_promise_nothing(study):
    prediction = predict()
    usual = study_features(prediction, study, ("flair",), GLIOMA)
    few = trust_in_study(calibration(usual, residuals=(0.0,) * 8), prediction, study, ("flair",), GLIOMA)
    assert few["expected"] == {}
    assert trust_in_study(calibration(usual), prediction, study, ("t1", "flair"), GLIOMA) == {}


def test_too_little_marked_has_no_expected_dice(study):
    lower = predict(0.4)
    usual = study_features(lower, study, ("flair",), GLIOMA)
    found = trust_in_study(calibration(usual), lower, study, ("flair",), GLIOMA)
    assert found["expected"] == {}
    assert found["margin"] is None


def test_distance_is_that_of_the_worse_of_images_and_marked_region():
    usual = {"brain_ml": [0.0, 1.0], "t1_low": [0.0, 2.0], "log_ml": [1.0, 0.5], "t1_marked": [0.0, 1.0]}
    values = {"brain_ml": 0.0, "t1_low": 2.0, "log_ml": 2.0, "t1_marked": 0.0}
    assert distance(values, usual) == pytest.approx(math.sqrt((4 + 0) / 2))
    limits = SubsetCalibration(
        studies=3, regions={}, gain={}, margins_mm=[], no_margin=0, missed=[], features=usual, distances=[1.0, 1.4, 1.2]
    )
    assert alarm(values, limits)["raised"]
    assert alarm(values, limits)["limit"] == 1.4


def test_nothing_absent_reaches_the_features(study):
    prediction = predict()
    other = study._replace(image=study.image.copy(), present=np.array([True, False, False, True]))
    other.image[0] = 7.0
    one, two = (study_features(prediction, each, ("flair",), GLIOMA) for each in (study, other))
    assert one == two
