"""Files of other heads, moved and mirrored files are noticed; what belongs together is not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from anymri.data.geometry import Geometry
from anymri.data.nifti import Volume
from anymri.inference.trust.same_head import check_same_head
from anymri.phantom import PhantomSettings, make_subject

SPACING_MM = 3.0


def study(index: int) -> dict[str, Volume]:
    subject = make_subject(3, index, PhantomSettings(spacing_mm=SPACING_MM, anatomy="varied", scanner="varied"))
    return {code: volume(array) for code, array in subject.images.items()}


def volume(array: np.ndarray) -> Volume:
    return Volume(array, Geometry(np.diag([SPACING_MM] * 3 + [1.0]), array.shape[::-1]), "image.nii.gz")


@pytest.fixture(scope="module")
def one() -> dict[str, Volume]:
    return study(0)


@pytest.fixture(scope="module")
def other() -> dict[str, Volume]:
    return study(2)


def test_files_of_one_head_fit(one, other):
    assert check_same_head(one) == []
    assert check_same_head(other) == []


def test_a_file_alone_is_not_judged(one):
    assert check_same_head({"t2": one["t2"]}) == []


@pytest.mark.parametrize("code", ["t1", "flair"])
def test_file_of_another_head_is_named(one, other, code):
    (sentence,) = check_same_head({**one, code: other[code]})
    assert sentence.startswith({"t1": "T1-weighted does not", "flair": "FLAIR does not"}[code])
    assert "0.33 is chance" in sentence


def test_two_files_of_two_heads(one, other):
    (sentence,) = check_same_head({"t1": one["t1"], "t2": other["t2"]})
    assert "does not show the same head" in sentence


def test_mirrored_file_is_told_from_another_head(one):
    (sentence,) = check_same_head({**one, "t2": volume(np.ascontiguousarray(one["t2"].array[:, :, ::-1]))})
    assert sentence.startswith("T2-weighted looks mirrored left to right")


def test_shift_is_measured(one):
    moved = volume(np.roll(one["t1"].array, 4, axis=1))
    (sentence,) = check_same_head({**one, "t1": moved})
    assert sentence.startswith("T1-weighted lies about 12 mm away from")


def test_turned_file(one):
    turned = ndimage.rotate(one["flair"].array, 15, (1, 2), reshape=False, order=0)
    (sentence,) = check_same_head({**one, "flair": volume(turned)})
    assert sentence.startswith("FLAIR ")


def test_noise_and_nothing_are_left_to_other_checks(one):
    noise = np.where(one["t1"].array != 0, np.random.default_rng(0).uniform(1, 9, one["t1"].array.shape), 0)
    assert check_same_head({**one, "t1": volume(noise.astype(np.float32))}) == []
    assert check_same_head({**one, "t1": volume(np.zeros_like(one["t1"].array))}) == []


def test_real_study_and_a_swapped_patient(shared_data):
    from anymri.data.nifti import read_image

    def read(case: str, code: str) -> Volume:
        return read_image(shared_data / "brats2021" / case / f"{code}.nii.gz")

    images = {code: read("BraTS2021_01479", code) for code in ("t1", "flair")}
    assert check_same_head(images) == []
    (sentence,) = check_same_head({**images, "flair": read("BraTS2021_01480", "flair")})
    assert "does not show the same head" in sentence
