"""Voxels: scale factors, background, NaN, casts, label maps."""

import nibabel as nib
import numpy as np
import pytest

from anymri.data.nifti import read_image
from anymri.data.values import MAX_LABEL, image_values, label_values
from anymri.types import UserError

SHAPE = (14, 12, 10)


def image(seed=0):
    """Positive values in a box with a border of 0."""
    array = np.zeros(SHAPE, np.float32)
    array[2:-2, 2:-2, 2:-2] = np.random.default_rng(seed).uniform(50, 100, (10, 8, 6))
    return array


@pytest.mark.parametrize("dtype", [np.uint8, np.int16])
@pytest.mark.parametrize("lowest", [0.0, -30.0])
def test_background_that_scaling_moved_off_zero_is_zero_again(tmp_path, dtype, lowest):
    array = image()
    array[3:5, 3, 3] = lowest  # makes nibabel choose an intercept
    stored = nib.Nifti1Image(array, np.eye(4))
    stored.set_data_dtype(dtype)
    stored.to_filename(tmp_path / "a.nii.gz")
    resaved = nib.Nifti1Image(nib.load(tmp_path / "a.nii.gz").get_fdata(dtype=np.float32), np.eye(4))
    resaved.to_filename(tmp_path / "b.nii.gz")
    for source in (tmp_path / "a.nii.gz", nib.load(tmp_path / "a.nii.gz"), tmp_path / "b.nii.gz"):
        read = read_image(source).array.transpose(2, 1, 0)
        assert (read[array == 0] == 0).all()
        assert (read[array > 0] > 0).all()


def test_floats_with_an_intercept_have_their_background_at_zero():
    read, _ = image_values("a", image(), 2.0, -0.003)
    np.testing.assert_array_equal(read == 0, image() == 0)
    np.testing.assert_allclose(read[read != 0], 2 * image()[read != 0] - 0.003, rtol=1e-6)


def test_a_constant_background_far_from_zero_stays():
    assert (image_values("a", image() - 40)[0] != 0).all()


def test_nan_around_the_image_is_background_and_inside_it_is_refused():
    array = image()
    array[array == 0] = np.nan
    np.testing.assert_array_equal(image_values("a", array)[0], image())
    array[:1], array[5, 5, 4:6] = 0, np.nan
    with pytest.raises(UserError, match="a: 2 values inside the image are NaN"):
        image_values("a", array)
    array = image()
    array[:, 5] = np.nan
    with pytest.raises(UserError, match=f"{SHAPE[0] * SHAPE[2]} values inside the image are NaN"):
        image_values("a", array)


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinity_is_refused_wherever_it_is(value):
    array = image()
    array[0, 0, :2] = value
    with pytest.raises(UserError, match="2 values are infinite"):
        image_values("a", array)


@pytest.mark.parametrize(
    ("factor", "word"), [(1e36, "too large"), (1e300, "too large"), (1e-36, "small"), (1e-60, "small")]
)
def test_what_single_precision_does_not_hold_is_refused_after_the_cast(factor, word):
    with pytest.raises(UserError, match=word):
        image_values("a", image().astype(np.float64) * factor)
    with pytest.raises(UserError, match=word):
        image_values("a", np.round(image()).astype(np.int16), factor)


def test_labels_that_a_scale_factor_or_a_float_rounded_are_whole_numbers():
    label = np.zeros(SHAPE)
    label[3:6], label[6:8], label[8:10] = 1, 2, 4
    for stored, slope in ((np.uint8, 4 / 255), (np.int16, 4 / 32767)):
        raw = np.rint(label / slope).astype(stored)
        np.testing.assert_array_equal(label_values("a", raw, slope), label)
    np.testing.assert_array_equal(label_values("a", (label * 0.9999999).astype(np.float32)), label)
    np.testing.assert_array_equal(label_values("a", label - 0.003), label)
    for wrong in (label * 0.9, label - 1, np.where(label == 2, 1.5, label)):
        with pytest.raises(UserError, match="not a label map"):
            label_values("a", wrong)


@pytest.mark.parametrize(
    ("value", "dtype"), [(255, np.int16), (32767, np.int16), (32768, np.int32), (MAX_LABEL, np.int32)]
)
def test_labels_have_as_many_bits_as_they_need(value, dtype):
    label = np.zeros(SHAPE, np.int64)
    label[3:6] = value
    for raw in (label, label.astype(np.float64)):
        read = label_values("a", raw)
        assert read.dtype == dtype
        assert set(np.unique(read)) == {0, value}
    with pytest.raises(UserError, match="not a label map"):
        label_values("a", label + (MAX_LABEL + 1))
