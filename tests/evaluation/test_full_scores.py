"""The long list of scores holds what the single metrics give, and the page of metrics names them all."""

from __future__ import annotations

import numpy as np
import pytest

from anymri.evaluation import metrics
from anymri.evaluation.metrics.calibration import brier, expected_calibration_error
from anymri.evaluation.metrics.lesionwise import lesionwise
from anymri.evaluation.scoring import score_regions, score_regions_in_full
from anymri.types import GLIOMA

SPACING = (2.0, 1.0, 1.0)


@pytest.fixture
def case():
    label = np.zeros((12, 14, 13), np.uint8)
    label[3:9, 3:10, 3:10] = 2
    label[5:7, 5:8, 5:8] = 1
    predicted = {
        "whole_tumor": np.roll(label > 0, 1, axis=2),
        "tumor_core": label == 1,
        "enhancing_tumor": np.zeros(label.shape, bool),
        "something_else": np.ones(label.shape, bool),
    }
    probability = {"whole_tumor": np.where(predicted["whole_tumor"], 0.8, 0.1)}
    brain = np.zeros(label.shape, bool)
    brain[1:11, 1:13, 1:12] = True
    return predicted, label, probability, brain


def test_values_are_those_of_the_metrics(case):
    predicted, label, probability, brain = case
    scores = score_regions_in_full(predicted, label, GLIOMA, SPACING, probability=probability, brain=brain)
    found = {(s.target, s.metric): s.value for s in scores}
    mask, reference = predicted["whole_tumor"], label > 0
    assert found["whole_tumor", "iou"] == metrics.iou(mask, reference)
    assert found["whole_tumor", "hd"] == metrics.hausdorff(mask, reference, SPACING, 100) == 1
    assert found["whole_tumor", "asd"] == metrics.average_surface_distance(mask, reference, SPACING)
    assert found["whole_tumor", "nsd_2mm"] == 1
    assert found["whole_tumor", "lesion_dice"] == lesionwise(mask, reference, SPACING).dice
    assert found["whole_tumor", "ece"] == expected_calibration_error(probability["whole_tumor"], reference, brain)
    assert found["whole_tumor", "brier"] == brier(probability["whole_tumor"], reference, brain)
    assert found["whole_tumor", "specificity"] == metrics.specificity(mask[brain], reference[brain])
    assert found["tumor_core", "sensitivity"] == found["tumor_core", "precision"] == 1
    assert ("tumor_core", "ece") not in found
    assert {s.target for s in scores} == set(GLIOMA.regions)
    empty = [s for s in scores if s.target == "enhancing_tumor"]
    assert all(s.reference_empty for s in empty)
    assert all(s.value == (0 if s.unit == "mm" else 1) for s in empty)


def test_no_metric_is_given_twice_and_every_one_is_documented(case, repository):
    predicted, label, probability, brain = case
    long = score_regions_in_full(predicted, label, GLIOMA, SPACING, probability=probability, brain=brain)
    short = score_regions(predicted, label, GLIOMA, SPACING)
    names = {s.metric for s in long}, {s.metric for s in short}
    assert not names[0] & names[1]
    page = (repository / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
    assert not [name for name in names[0] | names[1] if f"`{name}`" not in page]
