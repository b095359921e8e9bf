"""BraTS 2023 and later: folders like ``BraTS-GLI-00000-000`` with files ``-t1n -t1c -t2w -t2f -seg``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from anymri.data.datasets.layout import FolderLayout
from anymri.types import Subject

__all__ = ["LAYOUT", "index_brats2023", "write_brats2023"]

LAYOUT = FolderLayout(
    separator="-",
    suffixes={"t1": "t1n", "t1c": "t1c", "t2": "t2w", "flair": "t2f"},
    label_suffix="seg",
    label_values={1: 1, 2: 2, 3: 3},
    expected="folders like BraTS-GLI-00000-000 with files BraTS-GLI-00000-000-t1n.nii.gz (-t1n -t1c -t2w -t2f -seg)",
)


def index_brats2023(root: Path | str) -> list[Subject]:
    """Find the subjects of a BraTS 2023 folder; opens no image.

    Parameters
    ----------
    root : path-like
        Folder of subject folders, or one subject's folder.

    Returns
    -------
    list of Subject
        Sorted by id. The patient is the id without its last part, the time point.

    Raises
    ------
    UserError
        If there is no such subject.
    """
    return LAYOUT.index(root, _describe)


def _describe(subject_id: str) -> tuple[str, str]:
    match = re.fullmatch(r"(.+)-\d{3}", subject_id)
    return (match.group(1) if match else subject_id), ""


def write_brats2023(
    root: Path | str,
    subject_id: str,
    volumes: Mapping[str, np.ndarray],
    label: np.ndarray | None = None,
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Path:
    """Write one subject in this layout; see `FolderLayout.write`.

    Parameters
    ----------
    root : path-like
    subject_id : str
        E.g. ``"BraTS-GLI-00000-000"``.
    volumes : dict of str to ndarray, shape (D, H, W)
    label : ndarray of int, shape (D, H, W), or None
        1 ncr, 2 edema, 3 et.
    spacing_mm : tuple of float
        Voxel size along D, H, W.

    Returns
    -------
    Path
        The subject's folder.
    """
    return LAYOUT.write(root, subject_id, volumes, label, spacing_mm)
