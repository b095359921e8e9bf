"""Input checks that warn but do not stop a prediction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from anymri.data.geometry import Geometry
from anymri.data.nifti import Volume
from anymri.data.raw.stripped import BRAIN_ML, NOT_BRAIN, filled_ml
from anymri.modalities import MODALITIES

__all__ = ["check_quality"]

Array = np.ndarray[Any, Any]
#: Names of the ends of the axes D, H, W.
ENDS = (("bottom", "top"), ("back", "front"), ("left", "right"))
#: Slices thicker than this hide small lesions, in mm.
THICK_MM = 3.0
#: A brain is cut off where its section this far (mm) from its end still has this share of the area of its largest one.
#: Of 15 real brains and phantoms it is at most 0.31, as of an ellipsoid (0.2); behind a cut it is 0.97 and more.
CUT_MM, CUT_SHARE = 6.0, 0.6
#: Smallest extent of a brain as a share of its largest; of the same brains at least 0.7, of half a brain about 0.45.
NARROW = 0.55
#: Share of the border of the volume that may be brain.
BORDER_SHARE = 0.02
#: Smallest share of the common brain that every sequence should cover.
COVERAGE = 0.9


def check_quality(volumes: Mapping[str, Volume]) -> list[str]:
    """Look for signs that a study is not what the models expect: skull-stripped, whole, aligned brain images.

    Parameters
    ----------
    volumes : mapping of str to Volume
        Modality code to image on one grid, background 0.

    Returns
    -------
    list of str
        One plain sentence for every oddity; empty if none was found. Only the sequences given are looked at.
    """
    warnings = []
    brains = {code: volume.array != 0 for code, volume in volumes.items()}
    union = np.logical_or.reduce(list(brains.values()))
    for code, volume in volumes.items():
        warnings += _check_one(code, volume, brains[code])
        share = float(brains[code].sum()) / max(1, int(union.sum()))
        if share < COVERAGE:
            warnings.append(
                f"{MODALITIES[code].long_name} covers only {share:.0%} of the brain that the sequences show together: "
                "cut off or not aligned."
            )
    return warnings


def _check_one(code: str, volume: Volume, brain: Array) -> list[str]:
    name = MODALITIES[code].long_name
    found = [] if code in NOT_BRAIN else _check_shape(name, volume.geometry, brain)
    spacing = volume.geometry.spacing_mm
    if max(spacing) > THICK_MM:
        found.append(f"{name} has slices {max(spacing):.1f} mm apart: small lesions may be missed.")
    faces = [np.take(brain, place, axis) for axis in range(3) for place in (0, -1)]
    # The lower end of the brain stem may leave the volume; more than that is a cut.
    share = sum(float(face.sum()) for face in faces[1:]) / sum(face.size for face in faces[1:])
    if share > BORDER_SHARE:
        found.append(f"{name} reaches the border of the volume ({share:.0%} of it): part of the brain may be missing.")
    return found


def _check_shape(name: str, geometry: Geometry, brain: Array) -> list[str]:
    """Size and outline of a brain."""
    found = []
    brain_ml = filled_ml(brain, geometry)
    if brain_ml > BRAIN_ML[1]:
        found.append(
            f"{name} has {brain_ml:.0f} ml of non-zero voxels, more than a brain: "
            "skull and background must be removed first."
        )
    elif brain_ml < BRAIN_ML[0]:
        found.append(f"{name} shows only {brain_ml:.0f} ml of brain: a child's, a partial or a cropped scan.")
    extents, cuts = _outline(geometry, brain)
    if cuts or min(extents) < NARROW * max(extents):
        size = " x ".join(f"{extent:.0f}" for extent in extents[::-1])
        where = f", cut off flat at its {' and '.join(cuts)}" if cuts else ""
        found.append(
            f"{name} shows a brain of {size} mm (across, lengthwise, upright){where}: part of the brain is missing, "
            "e.g. a half, or all but a slab."
        )
    return found


def _outline(geometry: Geometry, brain: Array) -> tuple[list[float], list[str]]:
    """Extents (D, H, W) of a brain in mm, and the ends at which it is cut off."""
    extents, cuts = [], []
    for axis, step in enumerate(geometry.spacing_mm):
        areas = brain.sum(axis=tuple(other for other in range(3) if other != axis), dtype=np.int64)
        filled = np.flatnonzero(areas > 0.01 * areas.max())
        extents.append(float(filled[-1] - filled[0] + 1) * step)
        inward = int(np.ceil(CUT_MM / step))
        for place, end in zip((filled[0] + inward, filled[-1] - inward), ENDS[axis], strict=True):
            if areas[np.clip(place, 0, len(areas) - 1)] > CUT_SHARE * areas.max():
                cuts.append(end if geometry.orientation_known else "end")
    return extents, cuts
