"""Ellipsoids on a grid and places drawn by weight."""

import numpy as np
import pytest

from anymri.phantom.pathology.foci import Focus, draw_places, paint_foci, sphere_radius_mm
from anymri.phantom.settings import Grid

GRID = Grid(1.0, (10, 20, 30), (50, 60, 70))


def test_a_sphere_has_its_volume_and_its_place():
    radius = float(sphere_radius_mm(4.18879))
    assert radius == pytest.approx(10.0, rel=1e-5)
    score, nearest = paint_foci(GRID, [Focus(np.array([30.0, 40.5, 50.0]), np.full(3, radius))])
    inside = score < 1
    assert inside.sum() == pytest.approx(4189, rel=0.02)
    centre = np.argwhere(inside).mean(axis=0) + [10.5, 20.5, 30.5]
    np.testing.assert_allclose(centre, [30.0, 40.5, 50.0], atol=0.05)
    assert (nearest[inside] == 0).all()
    assert nearest[0, 0, 0] == -1
    assert np.isinf(score[0, 0, 0])


def test_axes_turn_an_ellipsoid():
    axes = np.array([[0.0, 0, 1], [0, 1, 0], [1, 0, 0]])  # the long half axis points along W
    score, _ = paint_foci(GRID, [Focus(np.array([30.0, 40.0, 50.0]), np.array([12.0, 4, 4]), axes)])
    extent = np.ptp(np.argwhere(score < 1), axis=0) + 1
    np.testing.assert_array_equal(extent, [8, 8, 24])


def test_the_nearest_focus_wins_by_relative_distance():
    foci = [Focus(np.array([30.0, 40.0, 45.0]), np.full(3, 8.0)), Focus(np.array([30.0, 40.0, 55.0]), np.full(3, 2.0))]
    _, nearest = paint_foci(GRID, foci)
    assert nearest[20, 20, 15] == 0
    assert nearest[20, 20, 25] == 1


def test_places_follow_the_weights():
    weight = np.zeros((3, 4, 5))
    weight[1, 2, 3], weight[2, 0, 0] = 3.0, 1.0
    places = draw_places(np.random.default_rng(0), weight, 4000)
    first = (places == [1, 2, 3]).all(axis=1)
    assert (first | (places == [2, 0, 0]).all(axis=1)).all()
    assert first.mean() == pytest.approx(0.75, abs=0.03)
