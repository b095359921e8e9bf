"""Upright axes of a far-turned grid: along which of them the head stands, told by the brain and not by a degree.

An oblique grid is read along the nearest permutation of its axes. Near 45 degrees two are about equally near, and one
degree more in the header would turn what a network sees by 90. There the brain decides: it is nearly its own mirror
image from left to right, and longer from back to front than from bottom to top.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import permutations, product

import numpy as np
from nibabel.orientations import io_orientation
from numpy.typing import NDArray

from anymri.data.geometry import from_native, to_native
from anymri.data.lattice import brain_box
from anymri.data.nifti import Volume

__all__ = ["settle_axes", "turn_volume"]

#: Turn in degrees beyond which the header alone does not choose the axes, and up to which it may be followed.
FAR, REACH = 35.0, 60.0
#: Least lead of one way of laying the brain over the next. Of thirteen gliomas the right one leads by 0.14 and more.
LEAD = 0.05


def settle_axes(volumes: Mapping[str, Volume]) -> tuple[dict[str, Volume], tuple[str, ...]]:
    """Read the sequences of a study along the axes that their brains stand along, where the header turns them far.

    Parameters
    ----------
    volumes : mapping of str to Volume
        Modality code to skull-stripped image, all on one grid.

    Returns
    -------
    dict of str to Volume
        The same where the header turns the grid by less than 35 degrees, or where one of the sequences does not tell;
        then the header's nearest axes stay.
    tuple of str
        What was decided, for warnings; empty where there was nothing to decide.
    """
    first = next(iter(volumes.values())).geometry
    turns = _turns(first.affine)
    if len(turns) < 2:
        return dict(volumes), ()
    degrees = f"{_residual(first.affine, np.eye(3)):.0f} degrees"
    chosen = {code: _choose(volume, turns) for code, volume in volumes.items()}
    turn = next(iter(chosen.values()))
    if turn is None or not all(other is not None and np.array_equal(turn, other) for other in chosen.values()):
        note = (
            f"the header turns the image by {degrees} against its axes, and the brain does not tell along which it "
            "stands; the nearest ones were taken, and if they are wrong so is the result: resample it upright"
        )
        return dict(volumes), (note,)
    note = f"the header turns the image by {degrees} against its axes; it was read as the brain stands upright in it"
    return {code: turn_volume(volume, turn) for code, volume in volumes.items()}, (note,)


def turn_volume(volume: Volume, turn: NDArray[np.float64]) -> Volume:
    """The same volume, read along the axes that are nearest after a turn of the world, shape (3, 3)."""
    geometry = replace(volume.geometry, turn=turn)
    native = to_native(volume.array, volume.geometry)
    return volume._replace(array=np.ascontiguousarray(from_native(native, geometry.oriented)), geometry=geometry)


def _turns(affine: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Rotations by multiples of 90 degrees that the header may mean; the identity alone where it is clear."""
    if _residual(affine, np.eye(3)) <= FAR:
        return [np.eye(3)]
    turns = []
    for order, signs in product(permutations(range(3)), product((1.0, -1.0), repeat=3)):
        turn = np.zeros((3, 3))
        turn[range(3), order] = signs
        if np.linalg.det(turn) > 0 and _residual(affine, turn) <= REACH:
            turns.append(turn)
    return turns


def _residual(affine: NDArray[np.float64], turn: NDArray[np.float64]) -> float:
    """Degrees between the header's axes and those that are read after a turn of the world."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    orientation, nearest = io_orientation(affine), np.zeros((3, 3))
    nearest[orientation[:, 0].astype(int), range(3)] = orientation[:, 1]
    cosine = (np.trace(axes @ (turn @ nearest).T) - 1) / 2
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def _choose(volume: Volume, turns: list[NDArray[np.float64]]) -> NDArray[np.float64] | None:
    """The turn after which a brain looks most upright; None if another comes close."""
    scores = [_uprightness(turn_volume(volume, turn)) for turn in turns]
    order = np.argsort(scores)
    return turns[order[-1]] if scores[order[-1]] - scores[order[-2]] >= LEAD else None


def _uprightness(volume: Volume) -> float:
    """Twice the agreement with the mirror image left to right, and half the log ratio of length to height."""
    brain = volume.array != 0
    box = brain_box(brain)
    brain = brain[tuple(slice(int(start), int(stop)) for start, stop in box.T)]
    lengths = []
    for axis, step in enumerate(volume.geometry.spacing_mm):
        count = brain.sum(axis=tuple(other for other in range(3) if other != axis))
        place = np.arange(len(count)) * step
        middle = (count * place).sum() / count.sum()
        lengths.append(np.sqrt((count * (place - middle) ** 2).sum() / count.sum()) + 1e-6)
    mirrored = float((brain & brain[:, :, ::-1]).sum() / brain.sum())
    return 2 * mirrored + 0.5 * float(np.log(lengths[1] / lengths[0]))
