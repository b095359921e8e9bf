"""Warnings about odd input."""

from __future__ import annotations

import numpy as np
import pytest

from anymri.data.geometry import Geometry
from anymri.data.nifti import Volume
from anymri.inference.trust.quality import check_quality


def volume(spacing=(2.3, 2.3, 2.5), shape=(60, 66, 75), seed=0):
    """A ball of brain (about 1.2 l) with plausible intensities; `spacing` is (i, j, k)."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, size) for size in shape], indexing="ij"))
    values = np.random.default_rng(seed).normal(500, 50, shape)
    array = np.where((grid**2).sum(0) < 0.7, values, 0).astype(np.float32)
    return Volume(array, Geometry(np.diag([*spacing, 1.0]), shape[::-1]), "test")


def test_a_plain_study_gives_no_warning():
    assert check_quality({"t1": volume(), "t2": volume()}) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda: volume(spacing=(2.3, 2.3, 6.0)), "slices 6.0 mm apart"),
        (lambda: volume(spacing=(1.0, 1.0, 1.0)), "ml of brain"),
    ],
)
def test_size_and_spacing(change, words):
    assert any(words in warning for warning in check_quality({"flair": change()}))


def test_skull_and_background():
    full = volume()
    full.array[:] = np.random.default_rng(1).normal(500, 50, full.array.shape)
    full.array[:2] = 0
    warnings = check_quality({"t1": full})
    assert any("skull" in warning for warning in warnings)
    assert any("border" in warning for warning in warnings)


def test_one_sequence_cut_off():
    cut = volume()
    cut.array[40:] = 0
    warnings = check_quality({"t1": cut, "flair": volume()})
    assert len(warnings) == 1
    assert warnings[0].startswith("T1-weighted covers only")


def test_outliers():
    spot = volume()
    spot.array[20, 20, 20] = 30000
    assert any("brighter" in warning for warning in check_quality({"t2": spot}))
