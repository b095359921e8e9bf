"""Resampling between lattices of one native grid."""

import numpy as np
import pytest
import torch

from anymri.data.lattice import NATIVE, Lattice, brain_box
from anymri.data.resample import resample_image, resample_label, transfer

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


def lattice(step, anchor=(15.125, 20.0, 18.5), shape=ODD):
    return Lattice.around(anchor, (step,) * 3, shape)


def box(shape):
    return np.array([(0, 0, 0), shape])


def there(array, grid, shape=ODD):
    """Values at all voxels of a lattice that covers the native grid."""
    return transfer(array, NATIVE, (0, 0, 0), grid, box(grid.shape(shape)))


def test_a_label_goes_to_two_mm_and_back_without_shift():
    label = blob((64, 60, 57), (30.2, 31.7, 27.9), 14).astype(np.uint8)
    grid = lattice(2.0, (30.125, 31.75, 27.875), label.shape)
    coarse = resample_label(label, grid, grid.shape(label.shape))
    first = np.array(grid.anchor) - np.array(grid.place) * 2
    assert np.abs(centroid(coarse, (2, 2, 2)) + first - centroid(label)).max() < 0.1


def test_a_probability_goes_to_two_mm_and_back_without_shift():
    mask = blob((64, 60, 57), (30.2, 31.7, 27.9), 14)
    grid = lattice(2.0, (30.125, 31.75, 27.875), mask.shape)
    coarse = there(mask.astype(np.float32), grid, mask.shape)
    back = transfer(coarse, grid, (0, 0, 0), NATIVE, box(mask.shape)) >= 0.5
    assert dice(back, mask) >= 0.95
    assert np.abs(centroid(back) - centroid(mask)).max() < 0.05


def test_coarser_means_the_mean_of_what_is_covered():
    array = np.random.default_rng(0).normal(size=(6, 8, 4)).astype(np.float32)
    expected = array.reshape(3, 2, 4, 2, 2, 2).mean(axis=(1, 3, 5))
    twos = lattice(2.0, (4, 2, 2), array.shape)
    np.testing.assert_allclose(there(array, twos, array.shape), expected, atol=1e-6)
    halves = there(np.arange(3, dtype=np.float32)[:, None, None], Lattice(step=(1.5, 1, 1)), (3, 1, 1)).ravel()
    np.testing.assert_allclose(halves, [(0 + 0.5 * 1) / 1.5, (0.5 * 1 + 2) / 1.5], rtol=1e-6)


def test_finer_means_torch_trilinear_interpolation():
    array = torch.randn(2, 5, 6, 7)
    expected = torch.nn.functional.interpolate(array[None], size=(10, 12, 14), mode="trilinear", align_corners=False)
    found = transfer(array, NATIVE, (0, 0, 0), Lattice(step=(0.5, 0.5, 0.5)), box((10, 12, 14)))
    inner = (slice(None), *[slice(1, -1)] * 3)  # at the border torch goes on with the last value, here is nothing
    torch.testing.assert_close(found[inner], expected[0][inner], atol=1e-5, rtol=0)


@pytest.mark.parametrize("step", [1.9, 3.0, 0.7])
def test_empty_space_and_cropping_change_no_bit(step):
    brain = blob(ODD, (15, 20, 18), 9)
    image = np.random.default_rng(0).uniform(1, 2, ODD).astype(np.float32) * brain
    label = np.where(brain, np.random.default_rng(1).integers(0, 3, ODD), 0).astype(np.uint8)
    inner = (slice(4, 26), slice(8, 33), slice(6, 31))
    size = image[inner].shape
    first, again = lattice(step), lattice(step, np.array((15.125, 20.0, 18.5)) - (4, 8, 6), size)
    shape, less = first.shape(ODD), again.shape(size)
    whole = [*resample_image(image, brain, first, shape), resample_label(label, first, shape)]
    part = [*resample_image(image[inner], brain[inner], again, less), resample_label(label[inner], again, less)]
    for one, other in zip(whole, part, strict=True):
        assert one.any()
        assert np.array_equal(brain_box(one != 0) - first.place, brain_box(other != 0) - again.place)
        assert one[one != 0].tobytes() == other[other != 0].tobytes()


def test_the_edge_of_the_brain_is_not_darkened():
    brain = blob(ODD, (15, 20, 18), 12)
    image = np.where(brain, np.float32(100), np.float32(0))
    for step in (2.0, 0.6):
        grid = lattice(step)
        new, inside = resample_image(image, brain, grid, grid.shape(ODD))
        np.testing.assert_allclose(new[inside], 100, rtol=1e-5)
        assert (new[~inside] == 0).all()
        assert inside.sum() * step**3 == pytest.approx(brain.sum(), rel=0.05)
    poisoned = np.where(brain, image, np.nan)
    np.testing.assert_array_equal(resample_image(poisoned, brain, grid, grid.shape(ODD))[0], new)


def test_majority_keeps_the_outer_contour_where_labels_meet():
    """A cube of half a voxel of background and three labels: foreground, and the most frequent label."""
    label = np.array([[[0, 0], [0, 3]], [[3, 1], [0, 2]]], dtype=np.uint8)
    twos = Lattice(step=(2.0, 2.0, 2.0))
    assert resample_label(label, twos, (1, 1, 1)).item() == 3
    label[1, 1, 1] = 0
    assert resample_label(label, twos, (1, 1, 1)).item() == 0
    assert resample_label(np.zeros((4, 4, 4), np.uint8), twos, (2, 2, 2)).shape == (2, 2, 2)


@pytest.mark.parametrize("step", [2.0, 1.0, 0.6])
def test_labels_neither_appear_nor_change_volume_much(step):
    label = np.zeros(ODD, np.int16)
    label[blob(ODD, (15, 20, 18), 12)] = 2
    label[blob(ODD, (15, 20, 18), 6)] = 7
    grid = lattice(step)
    new = resample_label(label, grid, grid.shape(ODD))
    assert new.dtype == np.int16
    assert set(np.unique(new)) == {0, 2, 7}
    for value in (2, 7):
        assert (new == value).sum() * step**3 == pytest.approx((label == value).sum(), rel=0.06)


def test_channels_do_not_touch_each_other():
    array = torch.randn(3, 8, 9, 10)
    poisoned = array.clone()
    poisoned[1, 2, 3, 4] = torch.nan
    for step in (2.0, 0.6):
        grid = lattice(step, (4, 4, 5), (8, 9, 10))
        expected, result = there(array, grid, (8, 9, 10)), there(poisoned, grid, (8, 9, 10))
        assert torch.equal(result[[0, 2]], expected[[0, 2]])
        assert result[1].isnan().any()


def test_a_real_label_survives_two_mm(shared_data):
    from anymri.data.nifti import read_image

    label = read_image(shared_data / "brats2021" / "BraTS2021_01479" / "seg.nii.gz", "label")
    twos = Lattice.around((77.5, 99, 118), (2.0, 2.0, 2.0), label.array.shape)
    coarse = resample_label(label.array, twos, twos.shape(label.array.shape))
    for values, least in (((1, 2, 4), 0.95), ((4,), 0.85)):
        part = np.isin(coarse, values).astype(np.float32)
        back = transfer(part, twos, (0, 0, 0), NATIVE, box(label.array.shape)) >= 0.5
        assert dice(back, np.isin(label.array, values)) >= least
