"""BraTS 2013 and 2015: one folder per sequence, named by the archive that held them, with one ``.mha`` file each.

::

    BRATS2015_Training/HGG/brats_2013_pat0001_1/VSD.Brain.XX.O.MR_T1c.54514/VSD.Brain.XX.O.MR_T1c.54514.mha
    BRATS2015_Training/HGG/brats_2013_pat0001_1/VSD.Brain_3more.XX.O.OT.54517/VSD.Brain_3more.XX.O.OT.54517.mha
    BRATS-2/Image_Data/HG/0001/VSD.Brain.XX.O.MR_T1c/VSD.Brain.XX.O.MR_T1c.686.mha

Copies without the inner folders are read too. Source: file names in public code that reads the released archives,
looked up on 2026-11-27 (label maps of 2013: ``VSD.Brain_3more.XX.XX.OT``), and the subject lists of
github.com/cchen-cc/Robust-Mseg.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from anymri.data.datasets.info import BRATS_CITATION, DatasetInfo
from anymri.data.datasets.layout import FolderLayout
from anymri.types import GLIOMA, Subject

__all__ = ["INFOS", "LAYOUT", "index_brats2015", "write_brats2015"]

_NAMES = {"t1": "T1", "t1c": "T1c", "t2": "T2", "flair": "Flair"}

LAYOUT = FolderLayout(
    suffixes={code: f"VSD.*.MR_{name}*/VSD.*.MR_{name}.*" for code, name in _NAMES.items()},
    label_suffix="VSD.*.OT*/VSD.*.OT.*",
    label_values={1: 1, 2: 2, 3: 4},
    expected="folders like HGG/brats_2013_pat0001_1 with files VSD.Brain.XX.O.MR_T1c.54514.mha (T1 T1c T2 Flair OT)",
    extensions=(".mha", ".nii.gz", ".nii"),
    depth=3,
    group_separator="_",
    read_values={3: 1, 4: 3},
    written={
        code: f"VSD.Brain.XX.O.MR_{name}.{{number}}/VSD.Brain.XX.O.MR_{name}.{{number}}"
        for code, name in _NAMES.items()
    }
    | {"label": "VSD.Brain_3more.XX.O.OT.{number}/VSD.Brain_3more.XX.O.OT.{number}"},
)


def index_brats2015(root: Path | str) -> list[Subject]:
    """Find the subjects of a BraTS 2013 or 2015 folder; opens no image.

    Parameters
    ----------
    root : path-like
        Folder that holds ``HGG`` and ``LGG`` (2013: ``HG`` and ``LG``), or a folder above it.

    Returns
    -------
    list of Subject
        Sorted by id, ``<group>_<folder>``, as folder names repeat between the groups.

    Raises
    ------
    UserError
        If there is no such subject.
    """
    return [replace(subject, patient=_patient(subject.subject_id)) for subject in LAYOUT.index(root)]


def _patient(subject_id: str) -> str:
    """The part before the time point: ``HGG_brats_tcia_pat309`` of ``HGG_brats_tcia_pat309_0001``."""
    start, _, last = subject_id.rpartition("_")
    return start if "_pat" in start and last.isdigit() else subject_id


def write_brats2015(
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
        E.g. ``"HGG_brats_2013_pat0001_1"``; the text before the first ``_`` is the group's folder.
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


_TRAPS = (
    "label 3, the non-enhancing solid core, is read as ncr (1), as BraTS merged them in 2017; no region changes by it",
    "folder names repeat between HGG and LGG, so that ids carry the group",
)

INFOS = (
    DatasetInfo(
        name="brats2013",
        title="BraTS 2013, glioma (.mha)",
        spec=GLIOMA,
        index=index_brats2015,
        write=write_brats2015,
        label_values=LAYOUT.label_values,
        citation=BRATS_CITATION.partition(";")[0],
        licence="terms of the challenge",
        where="registration at the SICAS Medical Image Repository (smir.ch)",
        traps=_TRAPS,
    ),
    DatasetInfo(
        name="brats2015",
        title="BraTS 2015, glioma (.mha)",
        spec=GLIOMA,
        index=index_brats2015,
        write=write_brats2015,
        label_values=LAYOUT.label_values,
        citation=BRATS_CITATION,
        licence="terms of the challenge",
        where="registration at the SICAS Medical Image Repository (smir.ch)",
        traps=(
            *_TRAPS,
            "many subjects are time points of one patient (brats_tcia_pat309_0001, _0123): split by patient",
            "most label maps were fused from algorithms, not drawn by hand; the test part has no label maps",
        ),
    ),
)
