"""Trivial completion: coefficients and choices against a fit on the stacked voxels."""

from __future__ import annotations

import numpy as np
import pytest

from anymri.evaluation import metrics
from anymri.evaluation.baselines import collect_moments, copy_best_available, fill_in, linear_regression
from anymri.types import GLIOMA


@pytest.fixture(scope="module")
def entries(three):
    return [three.cache.entry(name) for name in three.names]


@pytest.fixture(scope="module")
def moments(entries):
    return [collect_moments(entry, GLIOMA) for entry in entries]


@pytest.mark.parametrize(
    ("target", "subset"), [("flair", ("t1", "t2")), ("t1c", ("t1",)), ("t1", ("t1c", "t2", "flair"))]
)
def test_regression_equals_least_squares_on_all_training_voxels(entries, moments, target, subset):
    left, right = [], []
    for entry in entries[:2]:
        image = np.asarray(entry.image, np.float64)
        inside = image[GLIOMA.index(target)] != 0
        columns = [image[GLIOMA.index(code)][inside] for code in subset]
        left.append(np.stack([np.ones(inside.sum()), *columns], axis=1))
        right.append(image[GLIOMA.index(target)][inside])
    expected = np.linalg.lstsq(np.concatenate(left), np.concatenate(right), rcond=None)[0]
    found = linear_regression(moments[:2], GLIOMA, target, subset)
    assert list(found) == ["", *subset]
    np.testing.assert_allclose(list(found.values()), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("target", GLIOMA.modalities)
def test_the_copied_sequence_has_the_best_psnr_on_training_subjects(entries, moments, target):
    subset = tuple(code for code in GLIOMA.modalities if code != target)
    means = {}
    for code in subset:
        values = []
        for entry in entries[:2]:
            image = np.asarray(entry.image, np.float64)
            reference = image[GLIOMA.index(target)]
            inside = reference != 0
            width = metrics.data_range(reference, inside)
            values.append(metrics.psnr(image[GLIOMA.index(code)], reference, inside, width))
        means[code] = np.mean(values)
    assert copy_best_available(moments[:2], GLIOMA, target, subset) == max(means, key=means.get)


def test_subjects_that_lack_a_sequence_are_left_out_not_filled(moments):
    """The third subject has no T1c: it neither counts nor breaks the fit."""
    both = linear_regression(moments[:2], GLIOMA, "flair", ("t1", "t1c"))
    assert linear_regression(moments, GLIOMA, "flair", ("t1", "t1c")) == both
    assert linear_regression(moments, GLIOMA, "flair", ("t1",)) != linear_regression(
        moments[:2], GLIOMA, "flair", ("t1",)
    )
    assert linear_regression(moments[2:], GLIOMA, "t1c", ("t1",)) is None
    assert copy_best_available(moments[2:], GLIOMA, "flair", ("t1c", "t2")) is None
    assert copy_best_available(moments[2:], GLIOMA, "flair", ("t1c", "t1")) == "t1"


def test_filled_images(entries, moments):
    image = np.asarray(entries[0].image, np.float32)
    available = {"t1": image[0], "t2": image[2]}
    copied = fill_in("copy_best_available", moments[1:2], GLIOMA, "flair", available)
    assert any(np.array_equal(copied, values) for values in available.values())
    weights = linear_regression(moments[1:2], GLIOMA, "flair", ("t1", "t2"))
    made = fill_in("linear_regression", moments[1:2], GLIOMA, "flair", available)
    np.testing.assert_allclose(made, weights[""] + weights["t1"] * image[0] + weights["t2"] * image[2], rtol=1e-5)
    assert fill_in("linear_regression", [], GLIOMA, "flair", available) is None
