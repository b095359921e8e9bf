"""Voxels and slices that no tissue can have made are replaced; everything else stays bit for bit."""

import numpy as np
import pytest
from scipy import ndimage

from anymri.data.artifacts import repair
from anymri.data.values import image_values

SHAPE = (40, 44, 36)


def brain(seed=0):
    """A stripped brain of int16 values around 500 with a lesion of 1100 and a vessel of up to 3000."""
    generator = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, size) for size in SHAPE), indexing="ij"))
    inside = (grid**2).sum(0) < 0.7
    values = 500 + 20 * ndimage.gaussian_filter(generator.standard_normal(SHAPE), 1) / 0.15
    values += 600 * np.exp(-((grid - 0.2) ** 2).sum(0) / 0.03)
    values += 2500 * np.exp(-(grid[0] ** 2 + (grid[1] + 0.3) ** 2) / 0.01)
    return np.where(inside, np.clip(values, 1, None), 0).astype(np.int16)


def contaminated(kind, value):
    """The brain with a voxel, 1 % of its voxels or a slice at one value."""
    array, generator = brain(), np.random.default_rng(1)
    places = np.argwhere(array)
    count = len(places) // 100
    if kind == "voxel":
        places = places[1000:1001]
    elif kind == "random":
        places = places[generator.choice(len(places), count, replace=False)]
    elif kind == "anywhere":
        places = np.argwhere(np.ones(SHAPE, bool))[generator.choice(array.size, array.size // 100, replace=False)]
    elif kind == "cluster":
        places = places[np.argsort(((places - places[len(places) // 3]) ** 2).sum(1))[:count]]
    else:
        places = places[places[:, 2] == 15]
    array[tuple(places.T)] = value
    return array, len(places)


def test_a_clean_image_stays_as_it_is():
    values = brain().astype(np.float32)
    assert repair(values, brain()) == (values, ())
    assert repair(values)[0] is values


@pytest.mark.parametrize("value", [32767, -32768])
@pytest.mark.parametrize("kind", ["voxel", "random", "anywhere", "cluster", "slice"])
def test_impossible_values_give_way_to_their_neighbours(kind, value):
    array, count = contaminated(kind, value)
    values, notes = image_values("a", array)
    clean = brain().astype(np.float32)
    tissue = clean[clean != 0]
    read = values[values != 0]
    assert abs(read.mean() - tissue.mean()) < 0.02 * tissue.std()
    assert abs(read.std() / tissue.std() - 1) < 0.02
    assert np.abs(values - clean).max() < 3000
    assert (values != clean).sum() <= count
    assert (np.mean((values == 0) == (clean == 0))) > 0.998
    if kind == "voxel":
        assert notes == ()
    else:
        assert [f"{count} voxels" in note for note in notes] == [True]


def test_the_end_of_the_type_amid_ordinary_values_is_saturation():
    """In 8 bits no gap tells 255 from the brightest tissue."""
    clean = np.rint(brain() * (240 / brain().max())).astype(np.uint8)
    array, count = contaminated("random", 32767)
    hot = array == 32767
    values, notes = image_values("a", np.where(hot, np.uint8(255), clean))
    assert values.max() <= 240
    assert str(count) in notes[0]
    bright = np.where(clean > 100, np.uint8(255), clean)  # vessels that are cut off at the end of the range
    values, notes = image_values("a", bright)
    np.testing.assert_array_equal(values, bright)
    assert notes == ()


@pytest.mark.parametrize("factor", [0.3, 2, 5])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slice_unlike_both_sides_gives_way_to_them(factor, axis):
    clean = brain().astype(np.float32)
    array = clean.copy()
    np.moveaxis(array, axis, 0)[14] *= factor
    values, notes = repair(array)
    np.testing.assert_array_equal(np.delete(values, 14, axis), np.delete(clean, 14, axis))
    assert np.abs(values - clean).mean() < np.abs(array - clean).mean() / 3
    assert ["slice 15" in note for note in notes] == [True]


def test_slices_that_grow_brighter_step_by_step_stay():
    ramp = np.linspace(0.2, 3, SHAPE[2], dtype=np.float32)
    array = brain() * ramp
    assert repair(array)[0] is array


def test_a_drawing_without_noise_stays():
    array = np.zeros(SHAPE, np.float32)
    array[5:35, 5:35, 5:30], array[10:13, 10:13, 10:13] = 100, 5000
    assert repair(array)[0] is array
