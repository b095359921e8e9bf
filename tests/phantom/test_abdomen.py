"""The abdomen: organs of plausible size and side, contrast, determinism, the round trip through CHAOS."""

import json

import numpy as np
import pytest

from anymri.data.datasets import get_dataset
from anymri.data.nifti import read_image
from anymri.errors import UserError
from anymri.phantom.abdomen import draw_abdomen, generate_abdomens, make_abdomen


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
    generate_abdomens(tmp_path, 1, 2, 6.0, progress=False)
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


def test_duke_liver_reads_what_was_written(tmp_path):
    generate_abdomens(tmp_path, 2, 2, 6.0, layout="duke_liver", progress=False)
    images, label, _ = make_abdomen(2, 1, 6.0)
    subjects = get_dataset("duke_liver").index(tmp_path)
    assert [subject.subject_id for subject in subjects] == ["0001-1", "0001-2", "0002-1", "0002-2"]
    for subject, code in zip(subjects[2:], ("t1_in", "t1_out"), strict=True):
        read = read_image(subject.images[code])
        np.testing.assert_array_equal(read.array, images[code])
        np.testing.assert_array_equal(read_image(subject.label, "label").array, label == 1)
        np.testing.assert_allclose(read.geometry.spacing_mm, 6.0, atol=1e-6)


def test_what_was_drawn_is_recorded_and_workers_change_nothing(tmp_path):
    generate_abdomens(tmp_path / "one", 2, 3, 8.0, progress=False)
    generate_abdomens(tmp_path / "two", 2, 3, 8.0, workers=2, progress=False)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert files == sorted(
        path.relative_to(tmp_path / "two") for path in (tmp_path / "two").rglob("*") if path.is_file()
    )
    changed = [
        name for name in files if (tmp_path / "one" / name).read_bytes() != (tmp_path / "two" / name).read_bytes()
    ]
    assert changed == []
    record = json.loads((tmp_path / "one" / "provenance" / "1.json").read_text(encoding="utf-8"))
    assert record["anatomy"]["size"] == make_abdomen(3, 0, 8.0)[2]["anatomy"]["size"]
    assert set(record["protocols"]) == {"t1_in", "t1_out", "t2_spir"}


def test_a_layout_of_brains_is_refused(tmp_path):
    with pytest.raises(UserError, match="no place for an abdomen; choose chaos or duke_liver"):
        generate_abdomens(tmp_path / "new", 1, 0, layout="brats2023")
    assert not (tmp_path / "new").exists()
