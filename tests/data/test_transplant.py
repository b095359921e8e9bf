from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from anymri.data.geometry import Geometry
from anymri.data.lattice import NATIVE, Lattice
from anymri.data.study import Study
from anymri.data.transplant import transplant

SHAPE = (10, 12, 14)
BRAIN = (slice(1, 9), slice(1, 11), slice(1, 13))


def study(value: float, lesion: tuple[slice, ...] | None, brain: tuple[slice, ...] = BRAIN) -> Study:
    image = np.zeros((2, *SHAPE), np.float16)
    image[:, *brain] = value
    label = np.zeros(SHAPE, np.uint8)
    if lesion is not None:
        image[:, *lesion] = 5 * value
        label[lesion] = 3
    boxes, statistics = np.zeros((2, 2, 3), np.int64), np.zeros((2, 8), np.float32)
    geometry = Geometry(np.eye(4), SHAPE[::-1])
    middles, lattice = np.zeros((2, 3)), NATIVE
    return Study(
        image, np.ones(2, bool), label, statistics, boxes, middles, (3.0,) * 3, geometry, lattice, "a", ignore=9
    )


def cube(*start: int) -> tuple[slice, ...]:
    return tuple(slice(first, first + 4) for first in start)


def without(given: Study, channel: int) -> Study:
    image, present = given.image.copy(), given.present.copy()
    image[channel], present[channel] = np.nan, False
    return given._replace(image=image, present=present)


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_lesion_comes_with_its_images_and_its_label(mirrored: bool) -> None:
    host, donor = study(1.0, cube(2, 2, 2)), study(2.0, cube(4, 6, 4))
    made = transplant(host, donor, mirrored)
    place = cube(4, 6, 6) if mirrored else cube(4, 6, 4)  # 14 - 4 - 4
    assert made.label is not None
    expected: NDArray[np.uint8] = np.array(host.label)
    expected[place] = 3
    np.testing.assert_array_equal(made.label, expected)
    middle = (slice(None), *(slice(part.start + 1, part.stop - 1) for part in place))
    assert (made.image[middle] > 8).all()  # the donor's lesion is 10, the host's brain 1
    np.testing.assert_array_equal(made.image[:, 1:3, 1:3, 1:3], host.image[:, 1:3, 1:3, 1:3])
    assert (host.label != made.label).sum() == 64  # the host itself stays as it was
    assert host.image.max() == 5


def test_background_stays_zero_absent_stays_nan_and_brain_does_not_become_zero() -> None:
    host = without(study(1.0, None, (slice(1, 9), slice(1, 8), slice(1, 13))), 1)
    donor = study(-1.0, cube(4, 6, 4))
    made = transplant(host, donor, False)
    assert np.isnan(made.image[1]).all()
    np.testing.assert_array_equal(made.image[0] == 0, host.image[0] == 0)
    assert made.label is not None
    assert set(np.argwhere(made.label)[:, 1]) == {6, 7}  # what lies beyond the host's brain is left out


def test_what_nobody_labelled_is_no_lesion() -> None:
    donor = study(2.0, cube(4, 6, 4))
    assert donor.label is not None
    unknown = donor._replace(label=np.where(donor.label == 3, 9, 0))
    made = transplant(study(1.0, None), unknown, False)
    np.testing.assert_array_equal(made.image, study(1.0, None).image)


@pytest.mark.parametrize("case", ["no label", "no label of the donor", "other shape", "a sequence less"])
def test_subjects_that_do_not_fit_are_left_alone(case: str) -> None:
    host, donor = study(1.0, None), study(2.0, cube(4, 6, 4))
    if case == "no label":
        host = host._replace(label=None)
    elif case == "no label of the donor":
        donor = donor._replace(label=None)
    elif case == "other shape":
        donor = donor._replace(geometry=Geometry(np.eye(4), (14, 12, 9)))
    else:
        donor = without(donor, 0)
    assert transplant(host, donor, False) is host


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_lesion_keeps_its_place_though_the_studies_voxels_hang_on_their_own_brains(mirrored: bool) -> None:
    """Voxels of two native ones; the donor's begin one native voxel later, in an array that is one shorter."""
    geometry = Geometry(np.eye(4), (28, 24, 20))
    host = study(1.0, None)._replace(geometry=geometry, lattice=Lattice(step=(2, 2, 2)))
    donor = study(2.0, cube(4, 6, 4))._replace(geometry=geometry)
    cut = {"image": donor.image[:, 1:, :, 1:], "label": donor.label[1:, :, 1:]}
    # Its array begins where the host's voxel 1 does, less than half a voxel before or after.
    donor = donor._replace(lattice=Lattice((1.75, 0, 1.75), (0, 0, 0), (2, 2, 2)), **cut)
    made = transplant(host, donor, mirrored)
    assert made.label is not None
    places = np.argwhere(made.label)
    first = (4, 6, 14 - 8 if mirrored else 4)
    assert np.abs(places.min(0) - first).max() <= (1 if mirrored else 0)
    assert len(places) == 64
