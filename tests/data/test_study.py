"""What a study knows of its grid and of the brain of some of its sequences."""

from __future__ import annotations

import numpy as np
import pytest

from anymri.data.geometry import Geometry
from anymri.data.lattice import NATIVE as NATIVE_LATTICE
from anymri.data.lattice import Lattice
from anymri.data.study import Study

NATIVE = Geometry(np.diag([2.0, 2, 3, 1]), (8, 6, 4))  # (W, H, D)


def make_study(shape: tuple[int, int, int] = (4, 6, 8), lattice: Lattice = NATIVE_LATTICE) -> Study:
    """Sequences 0 and 1 with brains of their own, 2 absent."""
    image = np.zeros((3, *shape), np.float16)
    image[0, 0, 1], image[1, 1, 2], image[2] = 1, -1, np.nan
    return Study(
        image=image,
        present=np.array([True, True, False]),
        label=None,
        statistics=np.zeros((3, 8), np.float32),
        boxes=np.zeros((3, 2, 3), np.int64),
        middles=np.zeros((3, 3)),
        spacing_mm=(3, 2, 2),
        geometry=NATIVE,
        lattice=lattice,
    )


@pytest.mark.parametrize("channels", [[0, 1], [1, 0, 2], np.array([True, True, False])])
def test_a_brain_is_where_one_of_the_sequences_has_a_value(channels):
    expected = np.zeros((4, 6, 8), bool)
    expected[0, 1] = expected[1, 2] = True
    np.testing.assert_array_equal(make_study().brain(channels), expected)


def test_another_sequence_adds_nothing_to_a_brain_and_an_absent_one_has_none():
    study = make_study()
    assert study.brain([0]).sum() == study.brain([0, 2]).sum() == 8
    assert not study.brain([2]).any()
    assert not study.brain([]).any()


def test_a_study_of_bare_arrays_knows_what_is_there_and_where():
    image = np.asarray(make_study().image, np.float32)
    study = Study.from_arrays(image, np.zeros((3, 8), np.float32))
    assert study.present.tolist() == [True, True, False]
    assert study.boxes.tolist() == [[[0, 1, 0], [1, 2, 8]], [[1, 2, 0], [2, 3, 8]], [[0, 0, 0], [0, 0, 0]]]
    assert study.grid is study.geometry
    assert study.geometry.shape_dhw == (4, 6, 8)


def test_the_grid_is_that_of_the_image():
    assert make_study().grid is NATIVE
    np.testing.assert_array_equal(make_study().affine @ (1, 1, 1, 1), (2, 2, 3, 1))
    halved = make_study((2, 3, 4), Lattice(step=(2, 2, 2)))
    assert halved.grid.spacing_mm == (6, 4, 4)
    np.testing.assert_array_equal(halved.affine @ (0, 0, 0, 1), (1, 1, 1.5, 1))  # middle of the first eight voxels
