"""MS Lesion Segmentation Grand Challenge 2008 (MSGC): ``CHB_train_Case01/CHB_train_Case01_FLAIR.nhdr`` with ``.raw``.

Source: the folder listing in the description of MSseg08 of github.com/openmedlab, looked up on 2026-11-27, and the
challenge's page (ia.unc.edu/MSseg). The second rater's maps of the UNC cases (``UNC_train_lesion_byCHB``) are not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from anymri.data.datasets.info import DatasetInfo, lesion_spec
from anymri.data.datasets.layout import FolderLayout
from anymri.types import Subject

__all__ = ["INFOS", "LAYOUT", "index_msgc2008", "write_msgc2008"]

LAYOUT = FolderLayout(
    separator="_",
    suffixes={"t1": "T1", "t2": "T2", "flair": "FLAIR", "md": "MD"},
    label_suffix="lesion",
    label_values={},
    expected="folders like CHB_train_Case01 with files CHB_train_Case01_T1.nhdr (T1 T2 FLAIR MD lesion)",
    extensions=(".nhdr", ".nrrd", ".nii.gz", ".nii"),
)


def index_msgc2008(root: Path | str) -> list[Subject]:
    """Find the subjects of the 2008 challenge; opens no image.

    Parameters
    ----------
    root : path-like
        Folder of the parts (``CHB_train_Part1``), or one part.

    Returns
    -------
    list of Subject
        Sorted by id; the site is the hospital, ``CHB`` or ``UNC``.

    Raises
    ------
    UserError
        If there is no such subject.
    """
    return LAYOUT.index(root, lambda subject_id: (subject_id, subject_id.partition("_")[0]))


def write_msgc2008(
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
        E.g. ``"CHB_train_Case01"``.
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
        name="msgc2008",
        title="MSGC 2008, multiple sclerosis lesions",
        spec=lesion_spec("t1", "t2", "flair", "md"),
        index=index_msgc2008,
        write=write_msgc2008,
        citation="Styner et al., 3D Segmentation in the Clinic: A Grand Challenge II: MS lesion segmentation, "
        "MIDAS Journal, 2008",
        licence="research use, terms of the challenge",
        where="registration at www.ia.unc.edu/MSseg",
        traps=(
            "whole heads, all resampled to 0.5 mm: the slices behind them were thicker",
            "the two hospitals' raters disagree; their cases are different populations",
        ),
    ),
)
