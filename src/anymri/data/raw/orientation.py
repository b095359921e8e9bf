"""Registration to the average brain when the header turns or mirrors the head.

The usual starts look for a head that is roughly upright. Where they find no brain, all 24 ways of laying a box are
tried; a head and its mirror image look alike, so these also find axes that run backwards.
"""

from __future__ import annotations

from itertools import permutations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymri.data.geometry import Geometry, from_native
from anymri.data.raw.grids import Matrix
from anymri.data.raw.registration import Working, register_template, rough_match
from anymri.data.raw.success import GOOD_FIT, LEAST_FIT, tissue_fit

__all__ = ["describe_turn", "register_any_way_up", "turn"]

#: How many of the other orientations are registered in full, best at first sight first, until one shows a brain well.
TRIED = 3
#: Ends of the world's axes, negative first.
ENDS = (("left", "right"), ("back", "front"), ("bottom", "top"))


def register_any_way_up(image: Working) -> tuple[Matrix, dict[str, Any]]:
    """Affine map from the average brain to a head, however the header has laid it.

    Parameters
    ----------
    image : Working

    Returns
    -------
    mni_to_image : ndarray of float64, shape (4, 4)
    facts : dict
        Of `register_template`, with ``tissue_fit``; ``turned``, a text, only where the usual starts fitted badly
        and a turn by 90 or 180 degrees fits better.
    """
    found, facts = register_template(image)
    facts["tissue_fit"] = tissue_fit(image, found)
    if facts["tissue_fit"] >= GOOD_FIT or image.slab:  # a slab shows too little to be told upside down
        return found, facts
    turns = _turns()
    match = [rough_match(turn(image, matrix)) for matrix in turns]
    for number in np.argsort(match)[::-1][:TRIED]:
        matrix = np.eye(4)
        matrix[:3, :3] = turns[number]
        other, other_facts = register_template(turn(image, turns[number]))
        back = np.linalg.inv(matrix) @ other
        fit = tissue_fit(image, back)
        if fit >= max(LEAST_FIT, facts["tissue_fit"]):
            found, facts = back, {**other_facts, "tissue_fit": fit, "turned": describe_turn(turns[number])}
        if facts["tissue_fit"] >= GOOD_FIT:
            break
    return found, facts


def turn(image: Working, matrix: NDArray[np.float64]) -> Working:
    """The same image with its world turned about the origin; no value changes.

    Parameters
    ----------
    image : Working
    matrix : ndarray of float64, shape (3, 3)
        Rotation by multiples of 90 degrees.
    """
    world = np.eye(4)
    world[:3, :3] = matrix
    geometry = Geometry(world @ image.geometry.affine, image.geometry.shape)
    array = np.ascontiguousarray(from_native(image.array.transpose(2, 1, 0), geometry.affine))
    # The grid again along the world's axes, as an upright grid is.
    upright = Geometry(geometry.affine_dhw[:, [2, 1, 0, 3]], (array.shape[2], array.shape[1], array.shape[0]))
    return Working(array, upright, image.slab)


def describe_turn(matrix: NDArray[np.float64]) -> str:
    """Where the face and the crown point by the header, for people.

    Parameters
    ----------
    matrix : ndarray of float64, shape (3, 3)
        From the header's world to the head's.
    """
    degrees = np.degrees(np.arccos(np.clip((np.trace(matrix) - 1) / 2, -1, 1)))
    ends = []
    for axis in (1, 2):
        direction = matrix.T[:, axis]
        place = int(np.abs(direction).argmax())
        ends.append(ENDS[place][int(direction[place] > 0)])
    return f"turned by {degrees:.0f} degrees: the face points to its {ends[0]}, the crown to its {ends[1]}"


def _turns() -> list[NDArray[np.float64]]:
    """The 23 rotations by multiples of 90 degrees about the axes that are not the identity."""
    turns = []
    for order in permutations(range(3)):
        for signs in product((1.0, -1.0), repeat=3):
            matrix = np.zeros((3, 3))
            matrix[range(3), order] = signs
            if np.linalg.det(matrix) > 0 and not np.array_equal(matrix, np.eye(3)):
                turns.append(matrix)
    return turns
