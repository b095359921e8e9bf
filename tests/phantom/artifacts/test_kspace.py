"""What each error of k-space does to an image, against hand computations."""

import numpy as np
import pytest

from anymri.phantom.artifacts.kspace import clip_samples, fold_over, ghost, join_poses, stripes, truncate, zipper


def point(value=1.0, shape=(4, 32, 24)):
    image = np.zeros(shape)
    image[1, 10, 7] = value
    return image


@pytest.mark.parametrize(("period", "places"), [(4, {10: 1.0, 18: 0.2, 2: 0.2}), (8, {10: 1.0, 14: 0.2, 6: 0.2})])
def test_ghosts_lie_a_fraction_of_the_field_of_view_away(period, places):
    spoiled = ghost(point(), axis=1, period=period, amplitude=0.4)
    expected = np.zeros((4, 32, 24))
    for row, value in places.items():
        expected[1, row, 7] = value
    np.testing.assert_allclose(spoiled, expected, atol=1e-12)


def test_a_spike_is_one_sample_of_k_space():
    flat = np.full((3, 32, 24), 5.0)
    hit = np.array([False, True, False])
    spoiled = stripes(flat, (0, 6, -3), 0.5, 0.0, hit, axis=0)
    np.testing.assert_array_equal(spoiled[[0, 2]], 5.0)
    samples = np.abs(np.fft.fft2(spoiled[1]))
    samples[0, 0] = 0
    # the magnitude of a real image holds the wave and its mirror image
    assert set(zip(*np.nonzero(samples > 0.9 * samples.max()), strict=True)) == {(6, 21), (26, 3)}
    assert spoiled[1].max() == pytest.approx(5.5, abs=1e-9)
    assert spoiled[1].min() == pytest.approx(4.5, abs=1e-2)


def test_zipper_hits_one_column_of_the_readout():
    spoiled = zipper(np.random.default_rng(0), np.zeros((20, 40, 30)), column=12, axis=2, amplitude=2.0)
    power = np.sqrt((spoiled**2).mean(axis=(0, 1)))
    assert power.argmax() == 12
    assert power[12] == pytest.approx(2.0, rel=0.05)
    assert power[[0, 25]].max() < 0.2


def test_truncation_overshoots_by_nine_per_cent_beside_an_edge():
    edge = np.zeros((1, 256, 4))
    edge[:, 64:192] = 1.0
    ringing = truncate(edge, (1, 2), 0.25)
    assert ringing.max() == pytest.approx(1.089, abs=0.01)  # Wilbraham-Gibbs constant
    np.testing.assert_allclose(truncate(edge, (1, 2), 1.0), edge, atol=1e-12)


def test_poses_share_out_the_lines_of_k_space():
    generator = np.random.default_rng(1)
    still, moved = generator.uniform(1, 2, (2, 3, 16, 8))
    np.testing.assert_allclose(join_poses([still, moved], np.zeros(16, int), 1), still, atol=1e-12)
    np.testing.assert_allclose(join_poses([still, moved], np.ones(16, int), 1), moved, atol=1e-12)
    middle = np.where(np.arange(16) == 8, 1, 0)  # index 8 of 16 is frequency 0
    mixed = join_poses([still, moved], middle, 1)
    np.testing.assert_allclose(np.fft.fft(mixed, axis=1)[:, 0].real, moved.sum(axis=1), rtol=1e-9)


def test_what_leaves_the_field_of_view_comes_in_on_the_other_side():
    image = np.arange(1.0, 11.0)[None, :, None] * np.ones((2, 1, 3))
    folded = fold_over(image, axis=1, start=3, stop=9)
    # values 1 2 3 | 4 5 6 7 8 9 | 10: the first three land at 7 8 9, the last one at 4
    np.testing.assert_array_equal(folded[0, :, 0], [0, 0, 0, 4 + 10, 5, 6, 7 + 1, 8 + 2, 9 + 3, 0])
    assert folded.sum() == image.sum()


def test_overflow_cuts_the_strongest_samples():
    generator = np.random.default_rng(2)
    image = 100 + generator.uniform(0, 10, (2, 32, 32))
    same, clipped = clip_samples(image, (1, 2), 1.0)
    np.testing.assert_allclose(same, image, rtol=1e-9)
    assert clipped == pytest.approx(0, abs=1e-12)
    washed, clipped = clip_samples(image, (1, 2), 0.5)
    # the mean is one sample of k-space: half of it is left, and nearly all energy was there
    np.testing.assert_allclose(washed.mean(axis=(1, 2)), image.mean(axis=(1, 2)) * 0.5, rtol=0.01)
    assert clipped == pytest.approx(0.75, abs=0.01)
    # fine detail is kept
    np.testing.assert_allclose(washed[0] - washed[0].mean(), image[0] - image[0].mean(), atol=0.1)
