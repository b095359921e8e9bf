"""MSSEG 2016: ``Center_01/Patient_01/Preprocessed_Data/FLAIR_preprocessed.nii.gz`` and ``Masks/Consensus.nii.gz``.

Source: the data page of the challenge (shanoir.irisa.fr) and file names in public code that reads it, looked up on
2026-11-27. ``Raw_Data`` and the seven experts' own masks (``Masks/ManualSegmentation_1..7``) are not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from anymri.data.datasets.info import DatasetInfo, lesion_spec
from anymri.data.datasets.layout import FolderLayout
from anymri.types import Subject

__all__ = ["INFOS", "LAYOUT", "index_msseg2016", "write_msseg2016"]

_NAMES = {"t1": "T1", "t1c": "GADO", "t2": "T2", "flair": "FLAIR", "pd": "DP"}

LAYOUT = FolderLayout(
    suffixes={code: f"Preprocessed_Data/{name}_preprocessed" for code, name in _NAMES.items()},
    label_suffix="Masks/Consensus",
    label_values={},
    expected="folders Center_01/Patient_01/ with Preprocessed_Data/FLAIR_preprocessed.nii.gz (T1 GADO T2 FLAIR DP)",
    depth=4,
    group_separator="-",
)


def index_msseg2016(root: Path | str) -> list[Subject]:
    """Find the subjects of MSSEG 2016; opens no image.

    Parameters
    ----------
    root : path-like
        Folder of the centres, or one above it.

    Returns
    -------
    list of Subject
        Sorted by id, ``Center_01-Patient_01``; the site is the centre, the label map the consensus of the experts.

    Raises
    ------
    UserError
        If there is no such subject.
    """
    return LAYOUT.index(root, lambda subject_id: (subject_id, subject_id.partition("-")[0]))


def write_msseg2016(
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
        E.g. ``"Center_01-Patient_01"``; the text before the first ``-`` is the centre's folder.
    volumes : dict of str to ndarray, shape (D, H, W)
    label : ndarray of int, shape (D, H, W), or None
        1 lesion.
    spacing_mm : tuple of float
        Voxel size along D, H, W.

    Returns
    -------
    Path
        The subject's folder.
    """
    return LAYOUT.write(root, subject_id, volumes, label, spacing_mm)


INFOS = (
    DatasetInfo(
        name="msseg2016",
        title="MSSEG 2016, multiple sclerosis lesions",
        spec=lesion_spec("t1", "t1c", "t2", "flair", "pd"),
        index=index_msseg2016,
        write=write_msseg2016,
        citation="Commowick et al., Multiple sclerosis lesions segmentation from multiple experts: The MICCAI 2016 "
        "challenge dataset, NeuroImage 244:118589, 2021",
        licence="research use, terms of the challenge",
        where="registration at shanoir.irisa.fr",
        traps=(
            "DP is proton density, GADO is T1 after contrast agent",
            "the label map is the consensus of seven experts (LOP STAPLE); single experts differ widely",
            "one test patient has no lesion in the consensus",
        ),
    ),
)
