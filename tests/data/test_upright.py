"""Axes of grids that the header turns far: as the brain stands, a degree more or less."""

import nibabel as nib
import numpy as np
import pytest

from anymri.data.nifti import read_image, to_nibabel
from anymri.data.upright import settle_axes

SHAPE = (28, 36, 32)  # (i, j, k)
#: Half axes across, lengthwise and upright, in voxels of 5 mm, and how much narrower the front is.
AXES, EDGE_MM = (11.0, 14.5, 12.5), 5.0


def rotation(axis, degrees):
    angle, turn = np.radians(degrees), np.eye(4)
    i, j = (other for other in range(3) if other != axis)
    turn[i, i] = turn[j, j] = np.cos(angle)
    turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
    return turn


def head(round_=False):
    """An egg, pointed at the front and flat below, upright in its array; values mark every voxel."""
    grid = np.stack(np.meshgrid(*(np.arange(size) - size / 2 + 0.5 for size in SHAPE), indexing="ij"))
    width = np.reshape((12.0, 12.0, 12.0) if round_ else AXES, (3, 1, 1, 1))
    places = grid / width
    if not round_:
        places[0] *= 1 + 0.25 * places[1]
        places[2] *= 1 - 0.2 * places[2]
    values = np.arange(1, np.prod(SHAPE) + 1, dtype=np.float32).reshape(SHAPE)
    return np.where((places**2).sum(0) < 1, values, 0)


def volumes(degrees, axis=2, round_=False, second=False):
    affine = rotation(axis, degrees) @ np.diag([EDGE_MM, EDGE_MM, EDGE_MM, 1])
    first = {"flair": read_image(nib.Nifti1Image(head(round_), affine))}
    return first | ({"t1": read_image(nib.Nifti1Image(head(True) * 2, affine))} if second else {})


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("degrees", [44, 46, -44, -46])
def test_a_head_that_is_upright_in_its_array_is_read_upright(axis, degrees):
    found, notes = settle_axes(volumes(degrees, axis))
    np.testing.assert_array_equal(found["flair"].array, volumes(0)["flair"].array)
    assert len(notes) == 1
    assert "44 degrees" in notes[0] or "46 degrees" in notes[0]
    image = to_nibabel(found["flair"].array, found["flair"].geometry)
    np.testing.assert_array_equal(np.asarray(image.dataobj), head())  # and goes back to where it was
    np.testing.assert_allclose(image.affine, rotation(axis, degrees) @ np.diag([EDGE_MM] * 3 + [1]), atol=1e-5)


def test_a_clear_header_is_followed():
    for degrees in (0, 20, 90, 115):
        given = volumes(degrees)
        found, notes = settle_axes(given)
        assert notes == ()
        assert found["flair"] is given["flair"]


@pytest.mark.parametrize("options", [{"round_": True}, {"second": True}])
def test_where_a_sequence_does_not_tell_the_header_stays_and_a_note_says_so(options):
    given = volumes(46, **options)
    found, notes = settle_axes(given)
    assert all(found[code] is given[code] for code in given)
    assert "does not tell" in notes[0]
