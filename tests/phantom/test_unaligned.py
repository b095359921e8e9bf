"""Heads that are not stripped, and studies whose sequences are not aligned."""

import json

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from anymri.errors import UserError
from anymri.phantom import PhantomSettings, generate, make_subject
from anymri.phantom.unaligned import Placement, measure_slices

HEAD = PhantomSettings(spacing_mm=4.0, skull=True)


@pytest.fixture(scope="module")
def pair():
    return make_subject(3, 1, PhantomSettings(spacing_mm=4.0)), make_subject(3, 1, HEAD)


def test_the_brain_in_its_head_is_the_stripped_one(pair):
    stripped, head = pair
    np.testing.assert_array_equal(head.label, stripped.label)
    for code, image in stripped.images.items():
        np.testing.assert_array_equal(head.images[code][image > 0], image[image > 0])


def test_scalp_is_bright_and_bone_is_dark_around_the_brain(pair):
    stripped, head = pair
    brain = stripped.images["t1"] > 0
    depth_mm = ndimage.distance_transform_edt(~brain) * 4.0
    t1, level = head.images["t1"], float(stripped.images["t1"][brain].mean())
    assert t1[(depth_mm > 10) & (depth_mm < 14)].mean() > 0.7 * level  # fat
    assert np.median(t1[depth_mm > 40]) < 0.15 * level  # air
    assert t1[depth_mm > 40].std() > 0  # with noise
    volume_ml = ((ndimage.gaussian_filter(t1, 1) > 0.3 * level).sum()) * 0.064
    assert 1.2 < volume_ml / (brain.sum() * 0.064) < 2.6


def test_slices_average_and_keep_the_world():
    image = np.zeros((12, 10, 8))
    image[4:6, 3, 2] = 6.0
    for axis, position in ((0, 4.5), (1, 3.0), (2, 2.0)):
        slices, affine = measure_slices(image, Placement(axis, 4.0), 2.0)
        assert slices.shape[axis] == image.shape[axis] // 2
        assert slices.sum() * 2 == pytest.approx(image.sum())
        stored = np.transpose(slices, {0: (2, 1, 0), 1: (2, 0, 1), 2: (1, 0, 2)}[axis])
        centre = affine @ [*np.array(ndimage.center_of_mass(stored)), 1]
        from anymri.data.datasets.layout import native_grid

        place = np.array(native_grid(image.shape, (2.0,) * 3).affine_dhw @ [4.5, 3, 2, 1])
        place[:3] -= centre[:3]
        assert np.abs(place[:3]).max() <= 1.0 + 1e-9  # within half of a slice
        assert position >= 0


def test_the_recorded_matrix_says_where_the_anatomy_went(tmp_path):
    settings = PhantomSettings(spacing_mm=4.0, skull=True, unaligned=True, modalities=("t1", "t2", "flair"))
    folder = generate(tmp_path / "raw", 1, 8, settings, layout="folder", progress=False)
    record = json.loads((folder / "provenance" / "phantom-00000.json").read_text(encoding="utf-8"))
    assert record["placements"]["t1"]["shift_mm"] == [0.0, 0.0, 0.0]
    common = make_subject(8, 0, PhantomSettings(spacing_mm=4.0, skull=True, modalities=("t1", "t2", "flair")))
    seg = nib.load(folder / "phantom-00000" / "seg.nii.gz")
    for code in ("t1", "t2", "flair"):
        moved = nib.load(folder / "phantom-00000" / f"{code}.nii.gz")
        to_sequence = np.array(record["placements"][code]["anatomy_to_sequence"])
        # bring the sequence back onto the common grid with the truth and compare
        index = np.linalg.inv(moved.affine) @ to_sequence @ seg.affine
        back = ndimage.affine_transform(np.asarray(moved.dataobj, float), index, output_shape=seg.shape, order=1)
        still = ndimage.affine_transform(
            np.asarray(moved.dataobj, float), np.linalg.inv(moved.affine) @ seg.affine, output_shape=seg.shape, order=1
        )
        truth = common.images[code].transpose(2, 1, 0)[::-1, ::-1]
        score = np.corrcoef(back.ravel(), truth.ravel())[0, 1]
        assert score > 0.9
        if code != "t1":
            assert score > np.corrcoef(still.ravel(), truth.ravel())[0, 1] + 0.01


def test_unaligned_studies_are_raw_and_fill_a_folder(tmp_path):
    with pytest.raises(UserError, match="ask for both or neither"):
        PhantomSettings(unaligned=True)
    with pytest.raises(UserError, match="write unaligned studies as a folder"):
        generate(tmp_path / "out", 1, 1, PhantomSettings(skull=True, unaligned=True), progress=False)
