"""BraTS 2023 and later: folders like ``BraTS-GLI-00000-000`` with files ``-t1n -t1c -t2w -t2f -seg``.

Source: the challenge's data pages on synapse.org, github.com/hongweilibran/BraSyn for the names, and paths in public
code (2024: ``BraTS-GLI-02711-100``), looked up on 2026-11-27.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from anymri.data.datasets.info import DatasetInfo
from anymri.data.datasets.layout import FolderLayout
from anymri.types import GLIOMA, DataSpec, Subject

__all__ = ["INFOS", "LAYOUT", "index_brats2023", "write_brats2023", "write_brats2024"]

LAYOUT = FolderLayout(
    separator="-",
    suffixes={"t1": "t1n", "t1c": "t1c", "t2": "t2w", "flair": "t2f"},
    label_suffix="seg",
    label_values={1: 1, 2: 2, 3: 3},
    expected="folders like BraTS-GLI-00000-000 with files BraTS-GLI-00000-000-t1n.nii.gz (-t1n -t1c -t2w -t2f -seg)",
)

#: After treatment there is also the resection cavity (label 4).
POST_TREATMENT = DataSpec(
    labels={"ncr": 1, "edema": 2, "et": 3, "resection_cavity": 4},
    regions={**GLIOMA.regions, "resection_cavity": ("resection_cavity",)},
)
LAYOUT_2024 = replace(LAYOUT, label_values={1: 1, 2: 2, 3: 3, 4: 4})


def index_brats2023(root: Path | str) -> list[Subject]:
    """Find the subjects of a BraTS 2023 or 2024 folder; opens no image.

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


def write_brats2024(
    root: Path | str,
    subject_id: str,
    volumes: Mapping[str, np.ndarray],
    label: np.ndarray | None = None,
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Path:
    """Write one subject as `write_brats2023` does; label 4 is the resection cavity."""
    return LAYOUT_2024.write(root, subject_id, volumes, label, spacing_mm)


INFOS = (
    DatasetInfo(
        name="brats2023",
        title="BraTS 2023, pre-operative glioma and its sister challenges",
        spec=GLIOMA,
        index=index_brats2023,
        write=write_brats2023,
        label_values=LAYOUT.label_values,
        citation="Baid et al., The RSNA-ASNR-MICCAI BraTS 2021 Benchmark, arXiv:2107.02314, 2021; "
        "and the paper of the sub-challenge",
        licence="terms of the challenge",
        where="registration at synapse.org",
        traps=(
            "label 3 in files is enhancing tumour, not 4 as in the years before",
            "the last part of the id is the time point: BraTS-GLI-00005-000 and -001 are one patient",
        ),
    ),
    DatasetInfo(
        name="brats2024",
        title="BraTS 2024, glioma after treatment",
        spec=POST_TREATMENT,
        index=index_brats2023,
        write=write_brats2024,
        label_values=LAYOUT_2024.label_values,
        citation="de Verdier et al., The 2024 Brain Tumor Segmentation (BraTS) Challenge: Glioma Segmentation on "
        "Post-treatment MRI, arXiv:2405.18368, 2024",
        licence="terms of the challenge",
        where="registration at synapse.org",
        traps=(
            "label 4 is the resection cavity, part of no tumour region; in BraTS 2021 it is enhancing tumour",
            "a patient has up to several time points (the last part of the id)",
        ),
    ),
)
