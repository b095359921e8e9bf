"""One subject in memory: shapes, labels, determinism, what is refused."""

import numpy as np
import pytest

from anymri.errors import UserError
from anymri.phantom import PhantomSettings, checksum, make_subject
from anymri.phantom.settings import MODALITIES, Grid

COARSE = PhantomSettings(spacing_mm=4.0)


@pytest.fixture(scope="module")
def subjects():
    return [make_subject(5, index, COARSE) for index in range(6)]


def test_grid_follows_brats():
    assert Grid.whole(1.0).shape == (155, 240, 240)
    assert Grid.whole(2.0).shape == (78, 120, 120)


def test_images_are_whole_numbers_inside_one_brain(subjects):
    for subject in subjects:
        assert tuple(subject.images) == MODALITIES
        brain = subject.images["t1"] > 0
        for image in subject.images.values():
            assert image.dtype == np.float32
            assert image.shape == (39, 60, 60)
            np.testing.assert_array_equal(image > 0, brain)
            np.testing.assert_array_equal(image, np.rint(image))
            assert image.max() <= 32767
        assert 900 < brain.sum() * 0.064 < 2200  # ml


def test_labels_lie_in_the_brain_and_have_the_drawn_size(subjects):
    for subject in subjects:
        assert subject.label.dtype == np.uint8
        assert set(np.unique(subject.label)) <= {0, 1, 2, 3}
        assert not subject.label[subject.images["t1"] == 0].any()
        drawn = subject.parameters["pathology"]
        core_ml = np.isin(subject.label, (1, 3)).sum() * 0.064
        assert core_ml == pytest.approx(drawn["core_ml"], rel=0.02, abs=0.2)
        assert (subject.label > 0).sum() * 0.064 <= drawn["whole_ml"] * 1.02 + 0.2
        assert (drawn["kind"] == "none") == (not (subject.label == 3).any())


def test_share_without_enhancement_is_a_setting():
    for share in (0, 1):
        settings = PhantomSettings(spacing_mm=4.0, et_free_share=share)
        enhancing = [bool((make_subject(1, index, settings).label == 3).any()) for index in range(4)]
        assert enhancing == [not share] * 4


def test_enhancing_tumour_is_bright_in_t1c_only(subjects):
    for subject in subjects:
        et, others = subject.label == 3, np.isin(subject.label, (1, 2))
        if et.sum() < 20:
            continue
        contrast = {}
        for code, image in subject.images.items():
            spread = image[image > 0].std()
            contrast[code] = (image[et].mean() - image[others].mean()) / spread
        assert contrast["t1c"] > 0.8
        assert contrast["t1c"] > contrast["t1"] + 0.8


def test_left_is_left():
    # the front of the head points to higher H, the top to higher D: cerebellum low and behind, so the lowest brain
    # slice lies behind the middle of the widest one
    subject = make_subject(5, 0, COARSE)
    brain = subject.images["t1"] > 0
    widest = int(np.argmax(brain.sum((1, 2))))
    lowest = int(np.nonzero(brain.sum((1, 2)) > 30)[0][0])
    assert np.nonzero(brain[lowest])[0].mean() < np.nonzero(brain[widest])[0].mean()


def test_a_subject_is_a_pure_function_of_seed_and_index(subjects):
    assert checksum(make_subject(5, 2, COARSE)) == checksum(subjects[2])
    assert len({checksum(subject) for subject in subjects}) == len(subjects)
    assert checksum(make_subject(6, 2, COARSE)) != checksum(subjects[2])


def test_contrast_does_not_redraw_anatomy_or_pathology(subjects):
    other = make_subject(5, 1, PhantomSettings(spacing_mm=4.0, contrast="random"))
    assert other.parameters["pathology"]["kind"] == subjects[1].parameters["pathology"]["kind"]
    assert not np.array_equal(other.images["t1"], subjects[1].images["t1"])


def test_healthy_subjects_have_no_label():
    subject = make_subject(5, 0, PhantomSettings(spacing_mm=4.0, pathology="none"))
    assert not subject.label.any()
    assert subject.images["flair"].max() > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spacing_mm": 0}, "spacing 0 mm is not possible"),
        ({"spacing_mm": -1.0}, "spacing"),
        ({"spacing_mm": float("nan")}, "spacing"),
        ({"pathology": "flu"}, "unknown pathology 'flu'"),
        ({"contrast": "nice"}, "unknown contrast 'nice'"),
        ({"et_free_share": 1.5}, "et_free_share is 1.5"),
    ],
)
def test_bad_settings_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        PhantomSettings(**change)


@pytest.mark.parametrize(("seed", "index"), [(-1, 0), (0, -1), (1.5, 0), (True, 0), ("1", 0)])
def test_bad_seeds_are_refused(seed, index):
    with pytest.raises(UserError, match="choose a whole number"):
        make_subject(seed, index, COARSE)


def test_artifacts_change_what_they_are_asked_to_and_say_so(subjects):
    clean = subjects[0]
    same = make_subject(5, 0, PhantomSettings(spacing_mm=4.0, artifacts={"motion": 0.0, "t2:spike": 0}))
    assert checksum(same) == checksum(clean)
    settings = PhantomSettings(
        spacing_mm=4.0, artifacts={"missing_slices": 0.5, "flair:missing_slices": 0, "t2:ghosting": 1}
    )
    spoiled = make_subject(5, 0, settings)
    np.testing.assert_array_equal(spoiled.images["flair"], clean.images["flair"])
    np.testing.assert_array_equal(spoiled.label, clean.label)
    flags = {code: {name for name, flag in row.items() if flag} for code, row in spoiled.parameters["flags"].items()}
    lost, both = {"missing_slices"}, {"missing_slices", "ghosting"}
    assert flags == {"t1": lost, "t1c": lost, "t2": both, "flair": set()}
    record = spoiled.parameters["imposed"]["t1"]["missing_slices"]
    dark = np.take(spoiled.images["t1"], record["slices"], axis=record["axis"])
    assert not dark.any()
    assert np.take(clean.images["t1"], record["slices"], axis=record["axis"]).any()


def test_random_artifacts_come_at_the_asked_rate():
    settings = PhantomSettings(spacing_mm=8.0, artifact_rate=0.5)
    flags = [
        sum(row.values())
        for index in range(12)
        for row in make_subject(1, index, settings).parameters["flags"].values()
    ]
    assert set(flags) == {0, 1}
    assert 14 <= sum(flags) <= 34  # of 48


@pytest.mark.parametrize(
    ("artifacts", "message"),
    [
        ({"blur": 0.5}, "unknown artifact 'blur'"),
        ({"t9:motion": 0.5}, "'t9:motion' names an unknown sequence; choose from t1, t1c, t2, flair"),
        ({"motion": -0.1}, "the strength of motion is -0.1"),
        ({"phase_cancellation": 0.5}, "phase_cancellation needs fat in the picture"),
    ],
)
def test_impossible_artifacts_are_refused(artifacts, message):
    with pytest.raises(UserError, match=message):
        make_subject(1, 0, PhantomSettings(spacing_mm=8.0, artifacts=artifacts))
