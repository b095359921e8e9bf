"""Field of air in tissue and what it does to signal."""

import numpy as np
import pytest

from anymri.phantom.artifacts.field import dephase, displace, find_cavities, opposed_phase, shift, sphere_field_ppm
from anymri.phantom.settings import Grid


def test_field_of_a_sphere_is_that_of_a_dipole():
    axes = [
        np.array([-20.0, 0.0, 20.0]).reshape(-1, 1, 1),
        np.array([0.0, 20.0]).reshape(1, -1, 1),
        np.zeros((1, 1, 1)),
    ]
    field = sphere_field_ppm(axes, np.zeros(3), 10.0)
    # 9.4 ppm / 3 x (1 / 2)^3 = 0.39 ppm: twice that along the main field, minus that across it
    assert field[0, 0, 0] == pytest.approx(2 * 9.4 / 24, abs=1e-9)
    assert field[2, 0, 0] == field[0, 0, 0]
    assert field[1, 1, 0] == pytest.approx(-9.4 / 24, abs=1e-9)
    assert field[1, 0, 0] == 0  # inside


def test_displacement_moves_signal_and_keeps_its_sum():
    image = np.zeros((2, 3, 40))
    image[1, 2, 10:14] = 3.0
    for voxels, place in ((0.0, 11.5), (5.0, 16.5), (-2.5, 9.0)):
        moved = displace(image, np.full(image.shape, voxels), 2)
        assert moved.sum() == pytest.approx(image.sum(), abs=1e-9)
        assert (moved[1, 2] * np.arange(40)).sum() / 12 == pytest.approx(place, abs=1e-9)
    ramp = 0.5 * (np.arange(40.0) - 20)[None, None] * np.ones((2, 3, 1))  # stretched by half
    stretched = displace(np.ones((2, 3, 40)), ramp, 2)
    np.testing.assert_allclose(stretched[..., 8:32], 1 / 1.5, rtol=0.02)
    squeezed = displace(np.ones((2, 3, 40)), -ramp, 2)
    np.testing.assert_allclose(squeezed[..., 13:27], 2.0, rtol=0.02)


def test_a_whole_turn_of_phase_across_a_voxel_cancels_its_signal():
    field_hz = 50.0 * np.arange(6.0)[:, None, None] * np.ones((1, 2, 2))
    image = np.full((6, 2, 2), 7.0)
    np.testing.assert_allclose(dephase(image, field_hz, 0.02), 0, atol=1e-9)  # 50 Hz x 20 ms = 1 turn
    np.testing.assert_allclose(dephase(image, field_hz, 0.01), 7 * 2 / np.pi, rtol=1e-9)
    np.testing.assert_array_equal(dephase(image, np.zeros((6, 2, 2)), 0.02), image)


def test_equal_parts_of_water_and_fat_cancel_when_opposed():
    water, fat = np.array([1.0, 0.5, 0.0]), np.array([0.0, 0.5, 1.0])
    np.testing.assert_allclose(opposed_phase(water, fat, np.pi), [1.0, 0.0, 1.0], atol=1e-12)
    np.testing.assert_allclose(opposed_phase(water, fat, 0.0), 1.0, atol=1e-12)
    np.testing.assert_allclose(opposed_phase(water, fat, np.pi / 2), [1.0, np.sqrt(0.5), 1.0], atol=1e-12)


def test_shift_moves_towards_higher_numbers_and_brings_in_zeros():
    image = np.arange(1.0, 6.0)[None, None] * np.ones((2, 2, 1))
    np.testing.assert_allclose(shift(image, 2.0, 2)[0, 0], [0, 0, 1, 2, 3])
    np.testing.assert_allclose(shift(image, -0.5, 2)[0, 0, :4], [1.5, 2.5, 3.5, 4.5])


def test_cavities_are_found_by_their_coordinates():
    grid = Grid(2.0, (10, 0, 5), (60, 100, 90))
    z, y, x = np.broadcast_arrays(*grid.axes_mm())
    mni = np.stack([z - 100, y - 100, x - 100.0])  # MNI origin at 100 mm
    centre, radius_mm = find_cavities(mni, grid)["ethmoid sinus"]
    np.testing.assert_allclose(centre, [64.0, 144.0, 100.0], atol=3.0)
    assert radius_mm == 14.0
