"""Where the voxels of another spacing lie, and by what."""

import numpy as np
import pytest

from anymri.data.geometry import Geometry
from anymri.data.lattice import NATIVE, Lattice, brain_box, brain_middle, choose_anchor


def ball(shape=(20, 24, 28), centre=(9, 11, 15), radius=6):
    grid = np.stack(np.meshgrid(*(np.arange(size) for size in shape), indexing="ij"))
    return ((grid - np.reshape(centre, (3, 1, 1, 1))) ** 2).sum(0) <= radius**2


def test_the_middle_halves_the_brain():
    assert brain_middle(ball()).tolist() == [9.5, 11.5, 15.5]  # of a voxel's centre
    half = np.zeros((4, 4, 4), bool)
    half[1:3, 1:3, 2:4] = True
    half[0, 0, 0] = True  # the ninth voxel: along each axis 4.5 of 9 lie before the middle
    assert brain_middle(half).tolist() == [1.875, 1.875, 2.875]
    assert brain_middle(np.zeros((3, 3, 3), bool)).tolist() == [0, 0, 0]


def test_the_middle_goes_along_with_the_brain_and_not_with_the_array():
    brain = ball()
    padded = np.pad(brain, [(3, 1), (0, 2), (5, 0)])
    assert (brain_middle(padded) - brain_middle(brain)).tolist() == [3, 0, 5]
    mirrored = brain_middle(brain[:, ::-1])
    assert mirrored[1] == 24 - brain_middle(brain)[1]


def test_a_stray_voxel_does_not_move_the_middle():
    brain = ball((40, 44, 48), (19, 21, 25), 12)
    stray = brain.copy()
    stray[0, 0, 0] = stray[-1, -1, -2] = True
    assert np.array_equal(brain_middle(stray), brain_middle(brain))
    assert not np.array_equal(brain_box(stray), brain_box(brain))


def test_one_odd_sequence_does_not_move_the_anchor():
    middles = np.array([[10, 10, 10], [10.125, 10, 10], [10, 10, 10], [3, 30, 10.5]])
    assert choose_anchor(middles) == (10, 10, 10)
    assert choose_anchor(middles[[3]]) == (3, 30, 10.5)
    assert choose_anchor(middles[[0, 3]]) == (3, 10, 10)  # the lower of two, axis by axis


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1), (1, -1, -1)])
def test_voxels_lie_by_the_anchor_and_cover_the_grid(signs):
    affine = np.diag([*signs, 1.0]) @ np.array([[0, 2, 0, 7], [1, 0, 0, -3], [0, 0, 1.5, 4], [0, 0, 0, 1]])
    native = Geometry(affine, (31, 40, 37))
    lattice = Lattice.around((17.375, 20, 12.125), (3.0, 2.5, 1.3), native.shape_dhw)
    shape = lattice.shape(native.shape_dhw)
    grid = lattice.grid(native, shape)
    assert grid.shape_dhw == shape
    assert grid.orientation == native.orientation
    np.testing.assert_allclose(grid.spacing_mm, np.array(native.spacing_mm) * (3, 2.5, 1.3))
    anchor = native.affine_dhw @ (*(np.array(lattice.anchor) - 0.5), 1)  # edges lie half a voxel before centres
    np.testing.assert_allclose(grid.affine_dhw @ (*(np.array(lattice.place) - 0.5), 1), anchor)
    ends = (
        np.linalg.inv(native.affine_dhw) @ grid.affine_dhw @ np.array([[*[-0.5] * 3, 1], [*np.array(shape) - 0.5, 1]]).T
    )
    assert (ends[:3, 0] > -0.5 - np.array(lattice.step)).all()
    assert (ends[:3, 0] <= -0.5 + 1e-9).all()
    assert (ends[:3, 1] >= np.array(native.shape_dhw) - 0.5 - 1e-9).all()
    assert (ends[:3, 1] < np.array(native.shape_dhw) - 0.5 + np.array(lattice.step)).all()
    assert NATIVE.grid(native, native.shape_dhw) is native


def test_what_a_box_touches():
    lattice = Lattice.around((6, 6, 6.5), (3, 3, 3), (12, 12, 12))
    assert lattice.cover(np.array([[3, 4, 3], [6, 7, 7]])).tolist() == [[1, 1, 1], [2, 3, 4]]
    assert lattice.shape((12, 12, 12)) == (4, 4, 5)


def test_an_axis_that_keeps_its_spacing_keeps_its_voxels():
    lattice = Lattice.around((6.375, 6.375, 6.375), (3, 1, 0.5), (12, 12, 12))
    assert (lattice.anchor, lattice.place) == ((6.375, 6, 6.375), (3, 6, 13))
