"""Cohort fingerprint: spacings, sizes, sequences and labels before preprocessing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymri.data.missingness import missingness
from anymri.data.nifti import read_image
from anymri.types import Subject, UserError

__all__ = ["Fingerprint", "take_fingerprint"]

#: Subjects opened at most, evenly spread over the table.
OPENED = 20


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """Facts of a cohort that a plan rests on; lengths along (D, H, W).

    Parameters
    ----------
    counts : dict of str to int
        Of `anymri.data.missingness.missingness`.
    opened : int
        Subjects whose first sequence was read.
    unreadable : dict of str to str
        Subjects that could not be, and why.
    spacing_mm : tuple of float
        Median over the subjects.
    finest_spacing_mm : tuple of float
        10th percentile.
    brain_mm : tuple of float
        Median extent of the voxels that are not 0.
    """

    counts: dict[str, int]
    opened: int
    unreadable: dict[str, str]
    spacing_mm: tuple[float, float, float]
    finest_spacing_mm: tuple[float, float, float]
    brain_mm: tuple[float, float, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form."""
        return asdict(self)


def take_fingerprint(subjects: Sequence[Subject]) -> Fingerprint:
    """Open one sequence of at most twenty subjects and measure its grid and its brain.

    Parameters
    ----------
    subjects : sequence of Subject

    Raises
    ------
    UserError
        If there is no subject or none of those opened can be read.
    """
    if not subjects:
        raise UserError("no subject to plan for; run anymri index on the data folder")
    chosen = np.unique(np.linspace(0, len(subjects) - 1, OPENED).round().astype(int))
    rows: list[NDArray[np.float64]] = []
    unreadable: dict[str, str] = {}
    for subject in (subjects[index] for index in chosen):
        try:
            rows.append(_measure(subject))
        except UserError as error:
            unreadable[subject.subject_id] = str(error)
    if not rows:
        raise UserError(f"no subject can be read, e.g. {next(iter(unreadable.values()))}")
    spacings, brains = np.stack(rows, axis=1)
    return Fingerprint(
        counts=missingness(subjects),
        opened=len(rows),
        unreadable=unreadable,
        spacing_mm=_rounded(np.median(spacings, axis=0)),
        finest_spacing_mm=_rounded(np.percentile(spacings, 10, axis=0)),
        brain_mm=_rounded(np.median(brains, axis=0)),
    )


def _measure(subject: Subject) -> NDArray[np.float64]:
    """Spacing and extent of the brain, shape (2, 3), of a subject's first sequence."""
    volume = read_image(next(iter(subject.images.values())))
    inside = np.isfinite(volume.array) & (volume.array != 0)
    extent = []
    for axis in range(3):
        filled = np.flatnonzero(inside.any(axis=tuple(other for other in range(3) if other != axis)))
        extent.append(filled[-1] + 1 - filled[0])
    spacing = np.array(volume.geometry.spacing_mm)
    return np.stack([spacing, np.array(extent) * spacing])


def _rounded(values: NDArray[np.float64]) -> tuple[float, float, float]:
    first, second, third = (round(float(value), 3) for value in values)
    return first, second, third
