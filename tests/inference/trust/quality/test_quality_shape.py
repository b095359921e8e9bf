"""Warnings about odd input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from anymri.data.geometry import Geometry
from anymri.data.nifti import Volume
from anymri.inference.trust.quality.shape import check_quality


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
    assert len(warnings) == 2
    assert warnings[0].startswith("T1-weighted shows a brain of")
    assert "cut off flat at its top: part of the brain is missing" in warnings[0]
    assert warnings[1].startswith("T1-weighted covers only")


@pytest.mark.parametrize(
    ("part", "end"),
    [
        (np.s_[:30], "bottom"),
        (np.s_[34:], "top"),
        (np.s_[:, :33], "back"),
        (np.s_[:, 33:], "front"),
        (np.s_[..., :37], "left"),
        (np.s_[..., 37:], "right"),
    ],
)
def test_half_a_brain_is_told_by_its_flat_end(part, end):
    half = volume()
    half.array[part] = 0
    warnings = check_quality({"flair": half})
    assert any(f"cut off flat at its {end}: part of the brain is missing" in warning for warning in warnings)


def test_no_side_is_named_where_the_file_names_none():
    half = volume()
    half.array[..., :37] = 0
    unknown = half._replace(geometry=replace(half.geometry, orientation_known=False))
    assert any("cut off flat at its end:" in warning for warning in check_quality({"flair": unknown}))


def test_a_slab_is_told_by_both_ends():
    slab = volume()
    slab.array[:26] = 0
    slab.array[34:] = 0
    warnings = check_quality({"t2": slab})
    assert any("x 20 mm" in warning and "bottom and top" in warning for warning in warnings)


def test_half_a_brain_cut_at_a_slant_is_told_by_its_shape():
    """The cut is 12 degrees off the axes, so no section is flat, but it is 0.45 times as wide as long."""
    half = volume(spacing=(2.3, 2.3, 2.3), shape=(66, 66, 66))
    row, column = np.meshgrid(*[np.arange(66) - 33] * 2, indexing="ij")
    half.array[:, column < 4 - row * np.tan(np.radians(12))] = 0
    assert any("part of the brain is missing" in warning for warning in check_quality({"t1": half}))


def test_an_abdomen_is_not_held_against_a_brain():
    part = volume()
    part.array[..., :37] = 0
    assert check_quality({"t1_in": part}) == []
