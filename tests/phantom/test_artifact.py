"""Noise statistics, slices and smooth fields."""

import numpy as np
import pytest
from scipy import stats

from anymri.phantom.artifacts.acquisition import rician_noise
from anymri.phantom.artifacts.coverage import thick_slices
from anymri.phantom.noise import smooth_noise
from anymri.phantom.settings import Grid


@pytest.mark.parametrize("signal", [0.0, 1.5, 40.0])
def test_noise_is_rician(signal):
    sigma = 2.0
    sample = rician_noise(np.random.default_rng(3), np.full(20_000, signal), sigma)
    expected = stats.rice(signal / sigma, scale=sigma)
    assert stats.kstest(sample, expected.cdf).pvalue > 0.01
    # and the test can tell: a normal distribution of the same mean and spread is refused in air
    if signal == 0:
        assert stats.kstest(sample, stats.norm(sample.mean(), sample.std()).cdf).pvalue < 1e-6


def test_thin_slices_change_nothing_and_thick_ones_keep_a_ramp():
    ramp = np.arange(24.0)[:, None, None] * np.ones((1, 3, 2))
    assert thick_slices(ramp, 0, 2.0, 2.0) is ramp
    thick = thick_slices(ramp, 0, 6.0, 2.0)
    np.testing.assert_allclose(thick[3:-3], ramp[3:-3], atol=1e-9)
    alternating = np.where(np.arange(24) % 2, 1.0, -1.0)[:, None, None] * np.ones((1, 3, 2))
    assert np.abs(thick_slices(alternating, 0, 8.0, 2.0)).max() < 0.5
    np.testing.assert_allclose(thick_slices(alternating, 1, 4.0, 2.0), alternating, atol=1e-12)


def test_smooth_noise_has_unit_spread_and_belongs_to_space_not_to_voxels():
    coarse = smooth_noise(np.random.default_rng(0), Grid(3.0, (5, 5, 5), (35, 45, 45)), 9.0)
    assert 0.8 < coarse.std() < 1.2
    # voxel centres of the 3 mm grid are those of every third voxel, from the second, of the 1 mm grid
    fine = smooth_noise(np.random.default_rng(0), Grid(1.0, (15, 15, 15), (105, 135, 135)), 9.0)
    np.testing.assert_allclose(fine[1::3, 1::3, 1::3], coarse, atol=1e-10)
