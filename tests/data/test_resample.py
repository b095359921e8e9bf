"""Resampling between grids over the same box."""

import numpy as np
import pytest
import torch

from anymri.data.geometry import Geometry
from anymri.data.resample import resample, resample_image, resample_label, resample_to

ODD = (31, 40, 37)  # does not divide evenly


def blob(shape, centre, radius, spacing=(1.0, 1.0, 1.0)):
    """Boolean ball; centre and radius in mm from the box's corner."""
    axes = [(np.arange(size) + 0.5) * step for size, step in zip(shape, spacing, strict=True)]
    distance = sum((grid - c) ** 2 for grid, c in zip(np.meshgrid(*axes, indexing="ij"), centre, strict=True))
    return distance <= radius**2


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def centroid(mask, spacing=(1.0, 1.0, 1.0)):
    return (np.argwhere(mask) + 0.5).mean(axis=0) * spacing


def test_grids_over_the_same_box_share_their_edges():
    geometry = Geometry(np.diag([-1.0, -1.0, 1.0, 1.0]), (240, 240, 155))
    grid = geometry.with_spacing((2, 2, 2))
    assert grid.shape_dhw == (78, 120, 120)
    np.testing.assert_allclose(grid.spacing_mm, (155 / 78, 2, 2))
    for corner in ((0, 0, 0), (1, 1, 1)):
        ends = [g.affine @ (*(np.array(corner) * g.shape - 0.5), 1) for g in (geometry, grid)]
        np.testing.assert_allclose(*ends, atol=1e-9)
    assert grid.with_shape((155, 240, 240)).matches(geometry, tolerance=1e-9)
    assert geometry.with_spacing((500, 1, 1)).shape_dhw == (1, 240, 240)


def test_a_label_goes_to_two_mm_and_back_without_shift():
    label = blob((64, 60, 57), (30.2, 31.7, 27.9), 14).astype(np.uint8)
    coarse = resample_label(label, (32, 30, 28))
    back = resample_label(coarse, label.shape)
    assert dice(back > 0, label > 0) >= 0.95
    assert np.abs(centroid(back) - centroid(label)).max() < 0.05
    assert np.abs(centroid(coarse, (2, 2, 57 / 28)) - centroid(label)).max() < 0.05


def test_a_probability_goes_to_two_mm_and_back_without_shift():
    mask = blob((64, 60, 57), (30.2, 31.7, 27.9), 14)
    coarse = resample_to(mask.astype(np.float32), (32, 30, 28))
    back = resample_to(coarse, mask.shape) >= 0.5
    assert dice(back, mask) >= 0.95
    assert np.abs(centroid(back) - centroid(mask)).max() < 0.05


def test_coarser_means_the_mean_of_what_is_covered():
    array = np.random.default_rng(0).normal(size=(6, 8, 4)).astype(np.float32)
    expected = array.reshape(3, 2, 4, 2, 2, 2).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(resample_to(array, (3, 4, 2)), expected, atol=1e-6)
    thirds = resample_to(np.arange(3, dtype=np.float32)[:, None, None], (2, 1, 1)).ravel()
    np.testing.assert_allclose(thirds, [(0 + 0.5 * 1) / 1.5, (0.5 * 1 + 2) / 1.5], rtol=1e-6)


def test_finer_means_torch_trilinear_interpolation():
    array = torch.randn(2, 5, 6, 7)
    expected = torch.nn.functional.interpolate(array[None], size=(9, 13, 14), mode="trilinear", align_corners=False)
    torch.testing.assert_close(resample_to(array, (9, 13, 14)), expected[0], atol=1e-5, rtol=0)


def test_mirrored_input_gives_mirrored_output():
    array = np.random.default_rng(0).normal(size=ODD).astype(np.float32)
    for shape in ((16, 20, 19), (45, 40, 50)):
        expected = resample_to(array, shape)[::-1, :, ::-1]
        np.testing.assert_allclose(resample_to(array[::-1, :, ::-1], shape), expected, atol=1e-5)


def test_the_edge_of_the_brain_is_not_darkened():
    brain = blob(ODD, (15, 20, 18), 12)
    image = np.where(brain, np.float32(100), np.float32(0))
    for shape in ((16, 20, 19), (50, 60, 55)):
        new, inside = resample_image(image, brain, shape)
        np.testing.assert_allclose(new[inside], 100, rtol=1e-5)
        assert (new[~inside] == 0).all()
        assert inside.mean() == pytest.approx(brain.mean(), rel=0.05)
    poisoned = np.where(brain, image, np.nan)
    np.testing.assert_array_equal(resample_image(poisoned, brain, shape)[0], new)


def test_majority_keeps_the_outer_contour_where_labels_meet():
    """A cube of half a voxel of background and three labels: foreground, and the most frequent label."""
    label = np.array([[[0, 0], [0, 3]], [[3, 1], [0, 2]]], dtype=np.uint8)
    assert resample_label(label, (1, 1, 1)).item() == 3
    label[1, 1, 1] = 0
    assert resample_label(label, (1, 1, 1)).item() == 0
    assert resample_label(np.zeros((4, 4, 4), np.uint8), (2, 2, 3)).shape == (2, 2, 3)


@pytest.mark.parametrize("shape", [(16, 20, 18), (31, 40, 37), (50, 60, 70)])
def test_labels_neither_appear_nor_change_volume_much(shape):
    label = np.zeros(ODD, np.int16)
    label[blob(ODD, (15, 20, 18), 12)] = 2
    label[blob(ODD, (15, 20, 18), 6)] = 7
    new = resample_label(label, shape)
    assert new.dtype == np.int16
    assert set(np.unique(new)) == {0, 2, 7}
    for value in (2, 7):
        assert (new == value).mean() == pytest.approx((label == value).mean(), rel=0.06)


def test_channels_do_not_touch_each_other():
    array = torch.randn(3, 8, 9, 10)
    poisoned = array.clone()
    poisoned[1, 2, 3, 4] = torch.nan
    for shape in ((4, 5, 6), (12, 13, 14)):
        expected, result = resample_to(array, shape), resample_to(poisoned, shape)
        assert torch.equal(result[[0, 2]], expected[[0, 2]])
        assert result[1].isnan().any()


def test_resample_takes_geometries_and_refuses_other_boxes():
    geometry = Geometry(np.diag([-1.0, 1, 1, 1]), ODD[::-1])
    brain = blob(ODD, (15, 20, 18), 12)
    image = np.random.default_rng(0).uniform(1, 2, ODD).astype(np.float32) * brain
    coarse = resample(image, brain, geometry, (2, 2, 2))
    assert coarse.array.shape == coarse.geometry.shape_dhw == (16, 20, 19)
    assert coarse.brain is not None
    back = resample(coarse.array, None, coarse.geometry, geometry)
    assert back.array.shape == ODD
    label = resample(brain.astype(np.uint8), None, geometry, coarse.geometry, order=0)
    np.testing.assert_array_equal(label.array > 0, coarse.brain)
    shifted = Geometry(geometry.affine + np.array([[0, 0, 0, 1]] + [[0] * 4] * 3), geometry.shape)
    with pytest.raises(ValueError, match="same box"):
        resample(image, brain, geometry, shifted)
    with pytest.raises(ValueError, match="not on the grid"):
        resample(image[1:], None, geometry, (2, 2, 2))
    with pytest.raises(ValueError, match="order"):
        resample(image, None, geometry, (2, 2, 2), order=3)


def test_a_real_label_survives_two_mm(shared_data):
    from anymri.data.nifti import read_image

    label = read_image(shared_data / "brats2021" / "BraTS2021_01479" / "seg.nii.gz", "label")
    grid = label.geometry.with_spacing((2, 2, 2))
    back = resample_label(resample_label(label.array, grid.shape_dhw), label.array.shape)
    assert dice(back > 0, label.array > 0) >= 0.95
    assert dice(back == 4, label.array == 4) >= 0.85
