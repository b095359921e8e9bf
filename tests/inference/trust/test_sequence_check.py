"""Images under a wrong name are noticed, those under the right one are not; what cannot be told is not judged."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy import ndimage

from anymri.data.geometry import Geometry
from anymri.data.nifti import Volume, read_image
from anymri.inference.trust import sequence_check
from anymri.inference.trust.sequence_check import check_sequences, refuse_wrong_labels
from anymri.phantom import PhantomSettings, make_subject
from anymri.types import UserError

SPACING_MM = 4.0


@pytest.fixture(autouse=True, scope="module")
def _judged_once():
    """An image is judged once, under whatever names it comes: judges are told the image and its voxels' size alone."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("judge_appearance", "why_no_image"):
            patch.setattr(sequence_check, name, once(getattr(sequence_check, name)))
        yield


def once(judge):
    known = {}

    def judged(array, spacing_mm):
        key = id(array), tuple(spacing_mm)
        if key not in known:
            known[key] = array, judge(array, spacing_mm)  # keeping the array keeps its id from being used again
        return known[key][1]

    return judged


def volume(array: np.ndarray, name: str = "image.nii.gz") -> Volume:
    return Volume(array.astype(np.float32), Geometry(np.diag([SPACING_MM] * 3 + [1.0]), array.shape[::-1]), name)


@pytest.fixture(scope="module")
def study() -> dict[str, Volume]:
    subject = make_subject(99, 3, PhantomSettings(spacing_mm=SPACING_MM, anatomy="varied"))
    return {code: volume(array, f"{code}.nii.gz") for code, array in subject.images.items()}


def test_right_labels_raise_nothing(study):
    found = check_sequences(study)
    assert found.sentences == {}
    assert {code: part["looks_like"] for code, part in found.record.items()} == {
        "t1": "t1", "t1c": "t1", "t2": "t2", "flair": "flair",
    }  # fmt: skip


@pytest.mark.parametrize(("one", "other"), list(combinations(("t1", "t1c", "t2", "flair"), 2)))
def test_swapped_pair_is_noticed_in_both(study, one, other):
    found = check_sequences({**study, one: study[other], other: study[one]})
    assert {one, other} <= found.sentences.keys()
    assert "swap them back" in found.sentences[one]


@pytest.mark.parametrize(
    ("image", "name"),
    [("t1", "t2"), ("t1", "flair"), ("t1c", "t2"), ("t1c", "flair"), ("t2", "t1"), ("t2", "flair"), ("flair", "t1"),
     ("flair", "t2"), ("t2", "t1c"), ("flair", "t1c")],
)  # fmt: skip
def test_wrong_name_alone_is_noticed(study, image, name):
    assert list(check_sequences({name: study[image]}).sentences) == [name]


def test_scale_and_offset_do_not_matter(study):
    moved = volume(np.where(study["t2"].array != 0, study["t2"].array * 0.01 - 3, 0))
    assert check_sequences({"t2": moved}).sentences == {}
    assert check_sequences({"t1": moved}).sentences.keys() == {"t1"}


def test_inverted_grey_values(study):
    array = study["t1"].array
    inverted = volume(np.where(array != 0, array.max() + 1 - array, 0))
    assert check_sequences({"t1": inverted}).sentences.keys() == {"t1"}


@pytest.mark.parametrize(
    ("what", "says"),
    [("ct", "Hounsfield"), ("labels", "map of labels"), ("share", "tissue shares"), ("noise", "no anatomy"),
     ("ellipsoid", "no anatomy")],
)  # fmt: skip
def test_what_is_no_brain_image(study, what, says):
    generator = np.random.default_rng(0)
    array = study["t1"].array
    brain = array != 0
    d, h, w = np.indices(array.shape)
    made = {
        "ct": np.where(brain, generator.normal(35, 5, array.shape), -1000),
        "labels": np.where(brain, 1 + (ndimage.gaussian_filter(array, 1) > np.median(array[brain])), 0),
        "share": np.where(brain, 1 / (1 + np.exp(-(array - np.median(array[brain])) / (0.02 * array.max()))), 0),
        "noise": np.where(brain, generator.uniform(100, 200, array.shape), 0),
        "ellipsoid": np.where(
            ((d - 18) / 15) ** 2 + ((h - 28) / 20) ** 2 + ((w - 30) / 16) ** 2 < 1,
            generator.normal(300, 9, array.shape),
            0,
        ),
    }[what]
    (sentence,) = check_sequences({"t1": volume(made)}).sentences.values()
    assert says in sentence


def test_slab_is_not_judged(study):
    array = study["t2"].array.copy()
    array[:16] = 0
    array[24:] = 0
    found = check_sequences({"t1": volume(array)})
    assert found.sentences == {}
    assert found.record["t1"]["looks_like"] is None


def test_other_sequences_are_passed_over(study):
    assert check_sequences({"swi": study["t2"]}).record == {}


def test_a_t1_named_t1c_beside_itself_shows_no_enhancement(study, monkeypatch):
    array = study["t1"].array
    again = np.where(array != 0, 1.3 * array + np.random.default_rng(0).normal(0, 0.02 * array.max(), array.shape), 0)
    images = {"t1": study["t1"], "t1c": volume(again)}
    assert check_sequences(images).sentences == {}, "voxels of 4 mm show no vessels"
    monkeypatch.setattr(sequence_check, "FINE_MM", SPACING_MM)
    found = check_sequences(images)
    assert list(found.sentences) == ["t1c"]
    assert "shows nothing that enhances" in found.sentences["t1c"]
    assert abs(found.record["t1c"]["enhancement"]) < 0.5


def test_strict_refuses_in_one_line(study):
    images = {"flair": study["t2"]}
    with pytest.raises(UserError, match=r"^t2.nii.gz: given as FLAIR, does not look like FLAIR but like T2"):
        refuse_wrong_labels(check_sequences(images), images)
    refuse_wrong_labels(check_sequences(study), study)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["BraTS2021_01478", "BraTS2021_01482"])
def test_real_glioma_and_its_swaps(shared_data, case):
    codes = ("t1", "t1c", "t2", "flair")
    images = {code: read_image(shared_data / "brats2021" / case / f"{code}.nii.gz") for code in codes}
    assert check_sequences(images).sentences == {}
    for one, other in (("t1", "t2"), ("t1c", "flair"), ("t2", "flair"), ("t1", "t1c")):
        found = check_sequences({**images, one: images[other], other: images[one]})
        assert {one, other} <= found.sentences.keys()
