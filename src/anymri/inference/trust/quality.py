"""Plain checks of what was handed in: things that do not stop a prediction but make it less trustworthy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from anymri.data.nifti import Volume
from anymri.modalities import MODALITIES

__all__ = ["check_quality"]

Array = np.ndarray[Any, Any]
#: Plausible brain volume of an adult head without skull, in ml.
BRAIN_ML = (600.0, 2200.0)
#: Slices thicker than this hide small lesions, in mm.
THICK_MM = 3.0
#: Share of the border of the volume that may be brain.
BORDER_SHARE = 0.02
#: Smallest share of the common brain that every sequence should cover.
COVERAGE = 0.9
#: A largest value this many times the 99.9th percentile is an outlier.
OUTLIER = 5.0


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
        warnings += _check_one(MODALITIES[code].long_name, volume, brains[code])
        share = float(brains[code].sum()) / max(1, int(union.sum()))
        if share < COVERAGE:
            warnings.append(
                f"{MODALITIES[code].long_name} covers only {share:.0%} of the brain that the sequences show together: "
                "cut off or not aligned."
            )
    return warnings


def _check_one(name: str, volume: Volume, brain: Array) -> list[str]:
    found = []
    spacing = volume.geometry.spacing_mm
    brain_ml = float(brain.sum()) * float(np.prod(spacing)) / 1000
    if brain_ml > BRAIN_ML[1]:
        found.append(
            f"{name} has {brain_ml:.0f} ml of non-zero voxels, more than a brain: "
            "skull and background must be removed first."
        )
    elif brain_ml < BRAIN_ML[0]:
        found.append(f"{name} shows only {brain_ml:.0f} ml of brain: a child's, a partial or a cropped scan.")
    if max(spacing) > THICK_MM:
        found.append(f"{name} has slices {max(spacing):.1f} mm apart: small lesions may be missed.")
    faces = [np.take(brain, place, axis) for axis in range(3) for place in (0, -1)]
    # The lower end of the brain stem may leave the volume; more than that is a cut.
    share = sum(float(face.sum()) for face in faces[1:]) / sum(face.size for face in faces[1:])
    if share > BORDER_SHARE:
        found.append(f"{name} reaches the border of the volume ({share:.0%} of it): part of the brain may be missing.")
    values = volume.array[brain]
    values = values[:: max(1, values.size // 500_000)]
    high = float(np.percentile(values, 99.9))
    if high > 0 and float(volume.array.max()) > OUTLIER * high:
        found.append(f"{name} has single voxels far brighter than everything else: check it for artefacts.")
    return found
