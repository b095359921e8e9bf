"""BraTS 2017 to 2021: folders like ``BraTS2021_00000`` with files ``_t1 _t1ce _t2 _flair _seg``.

The years 2017 to 2019 group them in folders ``HGG`` and ``LGG``. In files, label 4 is the enhancing tumour.
Source: the challenge's data pages, real cases of 2021, and paths in public code for the other years, looked up on
2026-11-27 (``W39_1998.09.19_Segm.nii`` of 2020).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from anymri.data.datasets.info import BRATS_CITATION, DatasetInfo
from anymri.data.datasets.layout import FolderLayout
from anymri.types import GLIOMA, Subject

__all__ = ["INFOS", "LAYOUT", "index_brats2021", "write_brats2021"]

LAYOUT = FolderLayout(
    separator="_",
    suffixes={"t1": "t1", "t1c": "t1ce", "t2": "t2", "flair": "flair"},
    label_suffix="seg",
    label_values={1: 1, 2: 2, 3: 4},
    expected="folders like BraTS2021_00000 with files BraTS2021_00000_t1.nii.gz (_t1 _t1ce _t2 _flair _seg)",
)


def index_brats2021(root: Path | str) -> list[Subject]:
    """Find the subjects of a BraTS 2017, 2018, 2019, 2020 or 2021 folder; opens no image.

    Parameters
    ----------
    root : path-like
        Folder of subject folders, possibly grouped in ``HGG`` and ``LGG``, or one subject's folder.

    Returns
    -------
    list of Subject
        Sorted by id. The site is known for 2017 to 2019, whose ids name it (``Brats18_CBICA_AAB_1``).

    Raises
    ------
    UserError
        If there is no such subject.

    Notes
    -----
    One label map of BraTS 2020 was released under another name (``..._Segm.nii``); it is found too.
    """
    return [_with_misnamed_label(subject) for subject in LAYOUT.index(root, _describe)]


def _describe(subject_id: str) -> tuple[str, str]:
    match = re.match(r"brats1[789]_([a-z]*\d*)_", subject_id, flags=re.IGNORECASE)
    return subject_id, (match.group(1) if match else "")


def _with_misnamed_label(subject: Subject) -> Subject:
    if subject.label is not None:
        return subject
    folder = next(iter(subject.images.values())).parent
    candidates = sorted(folder.glob("*_Segm.nii*"))
    return replace(subject, label=candidates[0]) if len(candidates) == 1 else subject


def write_brats2021(
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
        E.g. ``"BraTS2021_00000"``.
    volumes : dict of str to ndarray, shape (D, H, W)
    label : ndarray of int, shape (D, H, W), or None
        Ours: 1 ncr, 2 edema, 3 et; et is stored as 4.
    spacing_mm : tuple of float
        Voxel size along D, H, W.

    Returns
    -------
    Path
        The subject's folder.
    """
    return LAYOUT.write(root, subject_id, volumes, label, spacing_mm)


_REGISTRATION = "registration at the challenge (CBICA, University of Pennsylvania)"
_YEARS = {
    "2017": (_REGISTRATION, ()),
    "2018": (_REGISTRATION, ("the labelled part holds the same 285 subjects as 2017",)),
    "2019": (_REGISTRATION, ("name_mapping.csv links the years",)),
    "2020": (
        _REGISTRATION,
        ("the label map of subject 355 has another name (..._Segm.nii); it is found", "ids do not tell the grade"),
    ),
    "2021": (
        "The Cancer Imaging Archive, doi:10.7937/jc8x-9874",
        ("holds most subjects of earlier years under new ids: do not test a model of one year on another",),
    ),
}

INFOS = tuple(
    DatasetInfo(
        name=f"brats{year}",
        title=f"BraTS {year}, pre-operative glioma",
        spec=GLIOMA,
        index=index_brats2021,
        write=write_brats2021,
        label_values=LAYOUT.label_values,
        citation="Baid et al., The RSNA-ASNR-MICCAI BraTS 2021 Benchmark, arXiv:2107.02314, 2021; " + BRATS_CITATION
        if year == "2021"
        else BRATS_CITATION,
        licence="CC BY 4.0 (training part)" if year == "2021" else "terms of the challenge",
        where=where,
        traps=("label 4 in files is enhancing tumour (3 here); 3 does not occur", *traps),
    )
    for year, (where, traps) in _YEARS.items()
)
