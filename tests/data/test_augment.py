from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from anymri.data import augment
from anymri.data.augment import AUGMENTATIONS, Crop, standard, strong, whole_brain
from anymri.data.geometry import Geometry
from anymri.data.study import Study

SHAPE = (30, 32, 34)
MIDDLE = (np.array(SHAPE) - 1) / 2


def ball(radius: float, shape: tuple[int, ...] = SHAPE) -> NDArray[np.bool_]:
    place = np.indices(shape) - (np.array(shape).reshape(3, 1, 1, 1) - 1) / 2
    return (place**2).sum(axis=0) < radius**2


def make_entry(
    image: NDArray[np.floating], label: NDArray[np.integer] | None = None, spacing: tuple[float, ...] = (1.0, 1.0, 1.0)
) -> Study:
    present = ~np.isnan(image).all(axis=(1, 2, 3))
    boxes = np.zeros((len(image), 2, 3), np.int64)
    label = None if label is None else label.astype(np.uint8)
    geometry = Geometry(np.eye(4), image.shape[:0:-1])
    middles = np.zeros((len(image), 3))
    return Study(
        image,
        present,
        label,
        np.zeros((len(image), 8)),
        boxes,
        middles,
        spacing,
        geometry,
        subject_id="a",  # type: ignore[arg-type]
    )


def make_crop(image: NDArray[np.floating], label: NDArray[np.integer] | None = None, **options: tuple) -> Crop:
    return Crop(make_entry(image, label, **options), np.zeros(3, np.int64), np.array(image.shape[1:]))


def brain_images() -> NDArray[np.float32]:
    """Four modalities: two on one brain mask, one on a smaller mask, one absent."""
    random = np.random.default_rng(0)
    image = random.normal(size=(4, *SHAPE)).astype(np.float16).astype(np.float32)
    image[image == 0] = 0.5
    image[:2] *= ball(13)
    image[2] *= ball(11)
    image[3] = np.nan
    return image


class Fixed:
    """Random numbers that are what the test says: angles in degrees, then the scale."""

    def __init__(self, angles: tuple[float, float, float], scale: float) -> None:
        self.values = [np.array(angles), scale]

    def uniform(self, low: float, high: float, size: int | None = None) -> object:
        return self.values.pop(0)


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("seed", range(12))
def test_background_stays_zero_brain_does_not_become_zero_absent_stays_nan(name: str, seed: int) -> None:
    image = brain_images()
    label = ball(4).astype(np.uint8) * 3
    crop = make_crop(image, label)
    AUGMENTATIONS[name](crop, np.random.default_rng(seed))
    assert crop.image[3].isnan().all()
    assert crop.image[:3].isfinite().all()
    outside = torch.from_numpy(~ball(16.5))  # scaled by at most 1 / 0.85
    inside = torch.from_numpy(ball(8))
    assert (crop.image[:3][:, outside] == 0).all()
    assert (crop.image[:3][:, inside] != 0).all()
    assert crop.label is not None
    assert set(crop.label.unique().tolist()) == {0, 3}
    assert (crop.image[0][crop.label > 0] != 0).all()


def test_none_changes_nothing() -> None:
    image = brain_images()
    crop = make_crop(image)
    AUGMENTATIONS["none"](crop, np.random.default_rng(0))
    np.testing.assert_array_equal(crop.image.numpy(), image)
    assert crop.flipped == [False] * 3


@pytest.mark.parametrize(("name", "axes"), [("mirror", (0, 1, 2)), ("left_right", (2,))])
def test_a_mirror_changes_no_intensity(name: str, axes: tuple[int, ...]) -> None:
    image, label = brain_images(), np.random.default_rng(1).integers(0, 4, SHAPE)
    flips = []
    for seed in range(100):
        crop = make_crop(image, label)
        AUGMENTATIONS[name](crop, np.random.default_rng(seed))
        turned = [axis - 3 for axis in range(3) if crop.flipped[axis]]
        assert crop.label is not None
        np.testing.assert_array_equal(crop.image.flip(turned).numpy(), image)
        np.testing.assert_array_equal(crop.label.flip(turned).numpy(), label)
        flips.append(crop.flipped)
    share = np.mean(flips, axis=0)
    assert [axis for axis in range(3) if share[axis]] == list(axes)
    assert np.abs(share[list(axes)] - 0.5).max() < 0.2


def test_whole_brain_leaves_brains_upright_and_changes_lesion_contrast() -> None:
    flips, differences = [], []
    lesion = ball(4)
    for seed in range(60):
        crop = make_crop(np.ones((1, *SHAPE), np.float32) * ball(13), lesion)
        whole_brain(crop, np.random.default_rng(seed))
        flips.append(crop.flipped)
        image = crop.image[0].numpy()
        middle, rim = image[ball(2)], image[ball(11) & ~ball(8)]
        differences.append(float(np.median(middle) - np.median(rim)))
    assert not np.array(flips)[:, :2].any()
    assert 0.3 < np.mean(flips, axis=0)[2] < 0.7
    assert min(differences) < -0.2
    assert max(differences) > 0.2
    assert np.mean(np.abs(differences) < 0.05) > 0.25  # half of the images keep the contrast they have


def test_standard_is_a_mirror_and_a_line_for_each_modality() -> None:
    image, label = brain_images(), np.random.default_rng(1).integers(0, 4, SHAPE)
    flips, lines = [], []
    for seed in range(200):
        crop = make_crop(image, label)
        standard(crop, np.random.default_rng(seed))
        axes = [axis - 3 for axis in range(3) if crop.flipped[axis]]
        flips.append(crop.flipped)
        back = crop.image.flip(axes).numpy()
        assert crop.label is not None
        np.testing.assert_array_equal(crop.label.flip(axes).numpy(), label)
        for channel in range(3):
            brain = image[channel] != 0
            np.testing.assert_array_equal(back[channel] != 0, brain)
            slope, shift = np.polyfit(image[channel][brain][:500], back[channel][brain][:500], 1)
            np.testing.assert_allclose(back[channel][brain], slope * image[channel][brain] + shift, atol=1e-3)
            lines.append((slope, shift))
    assert np.abs(np.mean(flips, axis=0) - 0.5).max() < 0.13
    slopes, shifts = np.array(lines).T
    assert slopes.min() == pytest.approx(0.9, abs=0.01)
    assert slopes.max() == pytest.approx(1.1, abs=0.01)
    assert np.abs(shifts).max() == pytest.approx(0.1, abs=0.01)
    assert len(set(slopes)) == 600, "modalities must not share their factor"


def test_a_brain_voxel_that_would_become_zero_is_kept() -> None:
    channel = np.array([[[0.0, 1.0, 2.0]]], np.float32)
    augment._write_brain(channel, channel - 1, channel != 0)
    assert channel[0, 0, 0] == 0
    assert 0 < channel[0, 0, 1] < 1e-3
    assert channel[0, 0, 2] == 1


def test_what_an_absent_modality_holds_does_not_matter() -> None:
    for seed in range(10):
        crops = []
        for filling in (np.nan, 5.0):
            image = brain_images()
            present = make_entry(image).present
            image[3] = filling
            crop = Crop(make_entry(image)._replace(present=present), np.zeros(3, np.int64), np.array(SHAPE))
            strong(crop, np.random.default_rng(seed))
            crops.append(crop.image)
        assert torch.equal(crops[0][:3], crops[1][:3])
        assert crops[1][3].isnan().all()


@pytest.mark.parametrize(
    ("probability", "change"), augment._CHANGES, ids=lambda value: getattr(value, "__name__", None)
)
def test_changes_of_one_modality(probability: float, change: object) -> None:
    channel, brain = brain_images()[0], ball(13)
    assert 0 < probability < 0.5
    results = []
    for seed in range(5):
        given = channel.copy()
        value = change(given, brain, np.random.default_rng(seed))  # type: ignore[operator]
        np.testing.assert_array_equal(given, channel)
        assert value.dtype == np.float32
        assert np.isfinite(value[brain]).all()
        assert not np.allclose(value[brain], channel[brain], atol=1e-3)
        assert np.corrcoef(value[brain], channel[brain])[0, 1] > 0.3
        results.append(value[brain])
    assert len({float(result.sum()) for result in results}) == 5


@pytest.mark.parametrize("change", [augment._blur, augment._lower_resolution])
def test_smoothing_does_not_darken_the_edge_of_the_brain(change: object) -> None:
    brain = ball(13)
    flat = np.where(brain, np.float32(3), np.float32(0))
    for seed in range(5):
        value = change(flat, brain, np.random.default_rng(seed))  # type: ignore[operator]
        np.testing.assert_allclose(value[brain], 3, rtol=1e-4)


def test_blur_is_a_gaussian() -> None:
    from scipy.ndimage import gaussian_filter

    volume = np.random.default_rng(0).normal(size=(20, 20, 20)).astype(np.float32)
    random = np.random.default_rng(3)
    sigma = np.random.default_rng(3).uniform(0.5, 1.0)
    ours = augment._blur(volume, np.ones_like(volume, bool), random)
    reference = gaussian_filter(volume, sigma, mode="constant", radius=2)
    np.testing.assert_allclose(ours[3:-3, 3:-3, 3:-3], reference[3:-3, 3:-3, 3:-3], atol=1e-4)


def test_contrast_and_gamma_keep_what_they_promise() -> None:
    channel, brain = brain_images()[0], ball(13)
    inside = channel[brain]
    for seed in range(8):
        value = augment._change_gamma(channel, brain, np.random.default_rng(seed))[brain]
        assert value.mean() == pytest.approx(inside.mean(), abs=1e-3)
        assert value.std() == pytest.approx(inside.std(), rel=1e-3)
        order = np.argsort(inside)
        assert (np.diff(value[order]) >= -1e-4).all(), "the order of intensities must not change"
        value = augment._change_contrast(channel, brain, np.random.default_rng(seed))[brain]
        assert value.min() >= inside.min()
        assert value.max() <= inside.max()


# -------------------------------------------------------------------------------------------- rotation and scaling


def test_no_turn_and_no_scale_is_the_identity() -> None:
    image, label = brain_images(), np.random.default_rng(1).integers(0, 4, SHAPE)
    crop = Crop(make_entry(image, label), np.array([4, -2, 5]), np.array([16, 20, 24]))
    before, label_before = crop.image.clone(), crop.label
    augment._turn_and_scale(crop, Fixed((0, 0, 0), 1.0))  # type: ignore[arg-type]
    torch.testing.assert_close(crop.image, before, equal_nan=True, atol=1e-4, rtol=1e-4)
    assert crop.label is not None
    assert label_before is not None
    assert torch.equal(crop.label, label_before)


@pytest.mark.parametrize("axis", range(3))
def test_a_quarter_turn(axis: int) -> None:
    image = brain_images()[:, :30, :30, :30]
    label = np.random.default_rng(1).integers(0, 4, image.shape[1:])
    crop = make_crop(image, label)
    angles = [0.0, 0.0, 0.0]
    angles[axis] = 90.0
    augment._turn_and_scale(crop, Fixed(tuple(angles), 1.0))  # type: ignore[arg-type]
    plane = tuple(other for other in range(3) if other != axis)
    turned = {sign: np.rot90(label, sign, plane) for sign in (1, -1)}
    fits = [sign for sign, expected in turned.items() if np.array_equal(crop.label, expected)]
    assert len(fits) == 1
    expected = np.rot90(image, fits[0], tuple(other + 1 for other in plane))
    np.testing.assert_allclose(crop.image[:3].numpy(), expected[:3], atol=1e-4)


def test_turning_happens_in_millimetres() -> None:
    """Linear interpolation repeats a linear image exactly, so the sampled places can be read from the values."""
    spacing = np.array([3.0, 1.0, 0.5])
    place_mm = np.indices(SHAPE) * spacing.reshape(3, 1, 1, 1)
    crop = make_crop((place_mm + 1).astype(np.float32), spacing=tuple(spacing))
    angles, scale = (10.0, -7.0, 15.0), 0.9
    augment._turn_and_scale(crop, Fixed(angles, scale))  # type: ignore[arg-type]
    middle_mm = MIDDLE * spacing
    rotation = augment._rotation(np.deg2rad(np.array(angles)))
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    offset = place_mm - middle_mm.reshape(3, 1, 1, 1)
    expected = np.einsum("ij,jdhw->idhw", rotation / scale, offset) + middle_mm.reshape(3, 1, 1, 1)
    inside = ((expected > 0) & (expected < ((np.array(SHAPE) - 1) * spacing).reshape(3, 1, 1, 1))).all(axis=0)
    assert inside.mean() > 0.3
    np.testing.assert_allclose(crop.image.numpy()[:, inside], expected[:, inside] + 1, atol=2e-3)


def test_a_turned_crop_holds_what_lies_around_it() -> None:
    image = np.ones((1, *SHAPE), np.float32)
    for seed in range(5):
        crop = Crop(make_entry(image), np.array([9, 10, 11]), np.array([10, 10, 10]))
        augment._turn_and_scale(crop, np.random.default_rng(seed))
        assert (crop.image == 1).all(), "padding came in although the volume goes on"


def test_scale_makes_things_larger() -> None:
    sizes = []
    for scale in (0.85, 1.0, 1.15):
        crop = make_crop(ball(9).astype(np.float32)[None], ball(9))
        augment._turn_and_scale(crop, Fixed((5, 5, 5), scale))  # type: ignore[arg-type]
        assert crop.label is not None
        sizes.append((int((crop.image != 0).sum()), int(crop.label.sum())))
    volume = int(ball(9).sum())
    for (brain, label), scale in zip(sizes, (0.85, 1.0, 1.15), strict=True):
        assert brain == pytest.approx(volume * scale**3, rel=0.05)
        assert label == pytest.approx(volume * scale**3, rel=0.05)
