"""Verdicts on a raw study's preparation: refusals, and sentences for people, each with its figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymri.data.geometry import Geometry
from anymri.data.nifti import Volume
from anymri.data.raw.grids import Matrix, covered, sample
from anymri.data.raw.registration import HEAD_RANK, Working
from anymri.data.raw.stripped import BRAIN_ML, SKULL_SHARE, SMALLEST_ML, filled_ml, skull_share
from anymri.data.raw.success import GOOD_FIT, LEAST_FIT, dice, match_sharpness, template_brain
from anymri.modalities import MODALITIES
from anymri.types import UserError

__all__ = [
    "brain_on",
    "check_head",
    "judge_coregistration",
    "judge_mask",
    "judge_slices",
    "judge_template",
    "stripped_sequences",
]

#: Overlap of brain mask and registered average brain below which one of them is wrong.
MASK_DICE = 0.8
#: Movement of a head inside one examination, in a coil, is smaller.
MOVED_DEGREES, MOVED_MM = 10.0, 20.0
#: Least `match_sharpness` of two sequences of one head: five real pairs, two of them with large oedema, reach 3.4 to
#: 6.6, two pairs of different heads 1.2 and 1.5; this is the middle between the two.
SHARPNESS = 2.3
#: Slices thicker than this hide small lesions, in mm.
THICK_MM = 3.0


def stripped_sequences(volumes: Mapping[str, Volume]) -> tuple[str, ...]:
    """Sequences that show a brain without skull: of a brain's size, 0 around it, no skull in it.

    Parameters
    ----------
    volumes : mapping of str to Volume
    """
    found = []
    for code, volume in volumes.items():
        size_ml = filled_ml(volume.array != 0, volume.geometry)
        of_a_brain = BRAIN_ML[0] <= size_ml <= BRAIN_ML[1] and not (volume.array != 0).all()
        if of_a_brain and skull_share(volume.array, volume.geometry) <= SKULL_SHARE:
            found.append(code)
    return tuple(found)


def check_head(volume: Volume, image: Working) -> None:
    """Refuse an image in which nothing of a head's size is brighter than the background.

    Parameters
    ----------
    volume : Volume
    image : Working

    Raises
    ------
    UserError
        If less than `anymri.data.raw.stripped.SMALLEST_ML` is.
    """
    bright_ml = filled_ml(image.array >= HEAD_RANK, image.geometry)
    if bright_ml < SMALLEST_ML:
        raise UserError(
            f"{volume.source}: shows no head, only {bright_ml:.0f} ml are brighter than the background; check the "
            "image and the voxel size in its header"
        )


def judge_template(volume: Volume, name: str, facts: Mapping[str, Any]) -> list[str]:
    """Doubts about the place of the average brain in the reference.

    Parameters
    ----------
    volume : Volume
    name : str
        Of the sequence, for people.
    facts : mapping
        Of `anymri.data.raw.orientation.register_any_way_up`.

    Raises
    ------
    UserError
        If no brain was found.
    """
    fit = float(facts["tissue_fit"])
    if fit < LEAST_FIT:
        raise UserError(
            f"{volume.source}: no brain was found in it, the average brain explains {fit:.0%} of its grey values (10 % "
            "to 50 % in a head); check that it shows a whole head, or give --brain-mask FILE with --skip template"
        )
    notes = []
    if fit < GOOD_FIT:
        notes.append(
            f"{name} hardly fits the average brain, which explains {fit:.0%} of its grey values (10 % to 50 % in a "
            "head): the brain mask may be wrong, look at raw/check.png."
        )
    if "turned" in facts:
        notes.append(
            f"{name}: by its header the head lies {facts['turned']}. It was turned upright; the header's orientation "
            "seems wrong, and left and right may be exchanged."
        )
    return notes


def judge_mask(
    volume: Volume, name: str, mask: NDArray[np.bool_], grid: Geometry, grid_to_reference: Matrix, mni: Matrix | None
) -> tuple[list[str], dict[str, float]]:
    """Doubts about the brain mask, and the figures.

    Parameters
    ----------
    volume : Volume
        The reference.
    name : str
    mask : ndarray of bool, shape (D, H, W)
        On `grid`.
    grid : Geometry
    grid_to_reference : ndarray of float64, shape (4, 4)
    mni : ndarray of float64, shape (4, 4), or None
        Average brain to reference, where it was registered.

    Raises
    ------
    UserError
        If there is hardly any brain.
    """
    brain_ml = filled_ml(mask, grid)
    if brain_ml < SMALLEST_ML:
        raise UserError(
            f"{volume.source}: only {brain_ml:.0f} ml of brain were found in it; check that it shows a whole head, or "
            "give a mask of your own (--brain-mask FILE)"
        )
    if mni is None:
        return [], {}
    seen = covered(volume.geometry, grid, grid_to_reference)
    expected = template_brain(grid, np.linalg.inv(mni) @ grid_to_reference) & seen
    overlap = dice(mask & seen, expected)
    facts = {"expected_ml": round(filled_ml(expected, grid), 1), "dice_with_average_brain": round(overlap, 4)}
    if overlap >= MASK_DICE:
        return [], facts
    note = (
        f"{name}: the brain that was found ({brain_ml:.0f} ml) and the average brain fitted to this head "
        f"({facts['expected_ml']:.0f} ml) overlap only with a Dice of {overlap:.2f} (usual: above 0.9): the brain mask "
        "may be wrong, look at raw/check.png."
    )
    return [note], facts


def judge_coregistration(
    small: Mapping[str, Working],
    reference: str,
    to_reference: Mapping[str, Matrix],
    facts: dict[str, Any],
    brain: NDArray[np.bool_],
) -> list[str]:
    """Doubts whether the sequences show one head in one place.

    Parameters
    ----------
    small : mapping of str to Working
    reference : str
    to_reference : mapping of str to ndarray, shape (4, 4)
        World position of the reference to that of each sequence.
    facts : dict
        Of `anymri.data.raw.registration.register_rigid`, by sequence, a text where it was skipped; they get the
        figure ``match_sharpness`` (None where the two hardly overlap).
    brain : ndarray of bool, shape (D, H, W)
        On the grid of ``small[reference]``.
    """
    notes = []
    for code, image in small.items():
        if code == reference:
            continue
        names = MODALITIES[code].long_name, MODALITIES[reference].long_name
        sharpness = match_sharpness(small[reference], image, to_reference[code], brain)
        moved = facts.get(code)
        if isinstance(moved, dict):
            moved["match_sharpness"] = None if np.isnan(sharpness) else sharpness
        if np.isnan(sharpness):
            notes.append(f"{names[0]} and {names[1]} hardly show the same part of the brain: they cannot be compared.")
        elif sharpness < SHARPNESS:
            notes.append(
                f"{names[0]} does not match {names[1]}: aligned they share only {sharpness:.1f} times what they share "
                f"4 mm apart (one head: 3 to 7 times). Two persons, no head, or a failed alignment; look at "
                "raw/check.png."
            )
        if isinstance(moved, dict) and (
            moved["rotation_degrees"] > MOVED_DEGREES or moved["translation_mm"] > MOVED_MM
        ):
            notes.append(
                f"{names[0]} had to be turned by {moved['rotation_degrees']:.0f} degrees and shifted by "
                f"{moved['translation_mm']:.0f} mm to lie on {names[1]}: not from one examination, or aligned wrongly."
            )
    return notes


def judge_slices(native: Mapping[str, Geometry]) -> list[str]:
    """A sentence for every sequence with thick slices on the scanner's grid.

    Parameters
    ----------
    native : mapping of str to Geometry
    """
    return [
        f"{MODALITIES[code].long_name} has slices {max(geometry.spacing_mm):.1f} mm apart: small lesions may be missed."
        for code, geometry in native.items()
        if max(geometry.spacing_mm) > THICK_MM + 0.05
    ]


def brain_on(image: Working, mask: NDArray[np.bool_], grid: Geometry, grid_to_reference: Matrix) -> NDArray[np.bool_]:
    """The brain mask on the grid of a small image of the reference.

    Parameters
    ----------
    image : Working
    mask : ndarray of bool, shape (D, H, W)
        On `grid`.
    grid : Geometry
    grid_to_reference : ndarray of float64, shape (4, 4)
    """
    matrix = np.linalg.inv(grid_to_reference)
    return sample(mask.astype(np.float32), grid, image.geometry, matrix, smooth=False) > 0.5
