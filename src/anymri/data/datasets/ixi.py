"""IXI: ``IXI-T1/IXI002-Guys-0828-T1.nii.gz``, healthy people, no label maps.

Source: brain-development.org/ixi-dataset and file names in public code that reads it, looked up on 2026-11-27.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from anymri.data.datasets.folder import index_patterns
from anymri.data.datasets.info import DatasetInfo, unlabelled_spec
from anymri.data.datasets.layout import check_root, check_subject_id, make_arrays, write_files
from anymri.types import Subject, UserError

__all__ = ["INFOS", "index_ixi", "write_ixi"]

_NAMES = {"t1": "T1", "t2": "T2", "pd": "PD"}


def index_ixi(root: Path | str) -> list[Subject]:
    """Find the subjects of IXI; opens no image.

    Parameters
    ----------
    root : path-like
        Folder that holds all files, or folders ``IXI-T1``, ``IXI-T2``, ``IXI-PD`` of them.

    Returns
    -------
    list of Subject
        Sorted by id, e.g. ``IXI002-Guys-0828``; the patient is ``IXI002``, the site ``Guys``, ``HH`` or ``IOP``.

    Raises
    ------
    UserError
        If there is no such subject.
    """
    root = check_root(root)
    found = index_patterns(root, {code: f"**/{{subject}}-{name}.nii.gz" for code, name in _NAMES.items()})
    if not found:
        raise UserError(f"{root}: no subject found; expected files like IXI-T1/IXI002-Guys-0828-T1.nii.gz (T1 T2 PD)")
    parts = [(subject, [*subject.subject_id.split("-"), ""]) for subject in found]
    return [replace(subject, patient=names[0], site=names[1]) for subject, names in parts]


def write_ixi(
    root: Path | str,
    subject_id: str,
    volumes: Mapping[str, np.ndarray],
    label: np.ndarray | None = None,
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Path:
    """Write one subject, each sequence into the folder of its kind.

    Parameters
    ----------
    root : path-like
    subject_id : str
        E.g. ``"IXI002-Guys-0828"``.
    volumes : dict of str to ndarray, shape (D, H, W)
    label : ndarray of int, shape (D, H, W), or None
        Must be None: there is no place for label maps.
    spacing_mm : tuple of float
        Voxel size along D, H, W.

    Returns
    -------
    Path
        `root`; subjects share its folders.

    Raises
    ------
    ValueError
        If there is a label map or a value cannot be stored.
    """
    check_subject_id(subject_id)
    if label is not None:
        raise ValueError("IXI has no label maps; leave the label out")
    arrays = make_arrays(volumes, None, _NAMES, {})
    files = {f"IXI-{_NAMES[code]}/{subject_id}-{_NAMES[code]}.nii.gz": array for code, array in arrays.items()}
    write_files(Path(root), files, spacing_mm)
    return Path(root)


INFOS = (
    DatasetInfo(
        name="ixi",
        title="IXI, healthy people",
        spec=unlabelled_spec("t1", "t2", "pd"),
        index=index_ixi,
        write=write_ixi,
        citation="IXI dataset, Imperial College London, brain-development.org",
        licence="CC BY-SA 3.0",
        where="brain-development.org/ixi-dataset",
        traps=(
            "T1 has another grid than T2 and PD and is stored in another orientation: register before use",
            "whole heads; about 600 subjects, some of whom lack a sequence",
            "field strength differs by site: Guys 1.5 T, HH 3 T, IOP 1.5 T",
        ),
    ),
)
