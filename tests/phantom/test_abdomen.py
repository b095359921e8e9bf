"""The abdomen: organs of plausible size and side, contrast, determinism, the round trip through CHAOS."""

import numpy as np
import pytest

from anymri.data.datasets import get_dataset
from anymri.data.nifti import read_image
from anymri.errors import UserError
from anymri.phantom.abdomen import draw_abdomen, make_abdomen, write_chaos_phantom


def test_organs_have_plausible_volumes_and_sides():
    for index in range(3):
        shares, label, _ = draw_abdomen(2, index, 5.0)
        millilitres = np.bincount(label.ravel(), minlength=5) * 0.125
        assert 1000 < millilitres[1] < 2200
        assert all(90 < millilitres[value] < 260 for value in (2, 3, 4))
        columns = [np.nonzero(label == value)[2].mean() for value in range(1, 5)]
        assert min(columns[0], columns[1]) > label.shape[2] / 2 > max(columns[2], columns[3])
        total = sum(shares.values())
        assert total.min() >= -1e-9
        assert total.max() <= 1 + 1e-9


def test_fat_is_bright_in_t1_and_suppressed_in_spir():
    images, label, _ = make_abdomen(2, 0, 5.0)
    shares, _, _ = draw_abdomen(2, 0, 5.0)
    fat, liver = shares["fat"] > 0.95, label == 1
    assert images["t1_in"][fat].mean() > 1.3 * images["t1_in"][liver].mean()
    assert images["t2_spir"][fat].mean() < images["t2_spir"][liver].mean()
    again, _, _ = make_abdomen(2, 0, 5.0)
    assert all(np.array_equal(again[code], image) for code, image in images.items())


def test_chaos_reads_what_was_written(tmp_path):
    write_chaos_phantom(tmp_path, 1, 2, 6.0)
    images, label, _ = make_abdomen(2, 0, 6.0)
    subjects = get_dataset("chaos").index(tmp_path)
    assert [tuple(subject.images) for subject in subjects] == [("t1_in", "t1_out"), ("t2_spir",)]
    for subject in subjects:
        for code, path in subject.images.items():
            np.testing.assert_array_equal(read_image(path).array, images[code])
        np.testing.assert_array_equal(read_image(subject.label, "label").array, label)


def test_an_impossible_voxel_size_is_refused():
    with pytest.raises(UserError, match="choose 1 to 8 mm"):
        draw_abdomen(1, 0, 0.5)
