"""ISLES 2015: sub-acute stroke lesions (SISS) and the penumbra of acute strokes (SPES).

One folder per subject, named by a number, with one folder per sequence and one uncompressed NIfTI file in it::

    SISS2015_Training/1/VSD.Brain.XX.O.MR_DWI.70613/VSD.Brain.XX.O.MR_DWI.70613.nii     also Flair T1 T2; OT = label map
    SPES2015_Training/1/VSD.Brain.XX.O.MR_Tmax.12345/VSD.Brain.XX.O.MR_Tmax.12345.nii   also CBF CBV DWI T1c T2 TTP

Source: Maier et al. 2017 (below), and paths in public code of participants, looked up on 2026-11-27. They do not
agree on the name of the label map of SPES: it is taken from a name with ``penumbralabel`` or ``.OT.``. A complete
listing of the release was not found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from anymri.data.datasets.info import DatasetInfo, lesion_spec
from anymri.data.datasets.layout import FolderLayout
from anymri.types import DataSpec, Subject

__all__ = ["INFOS", "index_isles2015_siss", "index_isles2015_spes", "write_isles2015_siss", "write_isles2015_spes"]


def _layout(names: Mapping[str, str]) -> FolderLayout:
    written = {
        code: f"VSD.Brain.XX.O.MR_{name}.{{number}}/VSD.Brain.XX.O.MR_{name}.{{number}}" for code, name in names.items()
    }
    return FolderLayout(
        suffixes={code: f"VSD.*.MR_{name}*/VSD.*.MR_{name}.*" for code, name in names.items()},
        label_suffix="VSD.*.OT*/VSD.*.OT.*",
        label_values={},
        expected=f"numbered folders with files VSD.Brain.XX.O.MR_<name>.<number>.nii ({' '.join(names.values())}; OT)",
        extensions=(".nii", ".nii.gz"),
        written=written | {"label": "VSD.Brain.XX.O.OT.{number}/VSD.Brain.XX.O.OT.{number}"},
    )


SISS = _layout({"t1": "T1", "t2": "T2", "flair": "Flair", "dwi": "DWI"})
SPES = _layout({"t1c": "T1c", "t2": "T2", "dwi": "DWI", "cbf": "CBF", "cbv": "CBV", "ttp": "TTP", "tmax": "Tmax"})


def index_isles2015_siss(root: Path | str) -> list[Subject]:
    """Find the subjects of the sub-acute part; opens no image.

    Parameters
    ----------
    root : path-like
        ``SISS2015_Training`` or a folder above it.

    Returns
    -------
    list of Subject
        Sorted by id (text, so that 10 comes before 2). The test part has no label maps.

    Raises
    ------
    UserError
        If there is no such subject.
    """
    return SISS.index(root)


def index_isles2015_spes(root: Path | str) -> list[Subject]:
    """Find the subjects of the acute part; as `index_isles2015_siss`."""
    return [_with_penumbra(subject) for subject in SPES.index(root)]


def _with_penumbra(subject: Subject) -> Subject:
    """The subject with its label map where that is named after what it shows."""
    if subject.label is not None:
        return subject
    image = next(iter(subject.images.values()))
    folder = image.parent.parent if image.parent.name.startswith("VSD.") else image.parent
    found = sorted(folder.glob("*penumbralabel*.nii*")) or sorted(folder.glob("*/*penumbralabel*.nii*"))
    return replace(subject, label=found[0]) if len(found) == 1 else subject


def write_isles2015_siss(
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
        E.g. ``"1"``.
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
    return SISS.write(root, subject_id, volumes, label, spacing_mm)


def write_isles2015_spes(
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
        E.g. ``"1"``.
    volumes : dict of str to ndarray, shape (D, H, W)
    label : ndarray of int, shape (D, H, W), or None
        1 penumbra, 2 core.
    spacing_mm : tuple of float
        Voxel size along D, H, W.

    Returns
    -------
    Path
        The subject's folder.
    """
    return SPES.write(root, subject_id, volumes, label, spacing_mm)


_CITATION = (
    "Maier et al., ISLES 2015: A public evaluation benchmark for ischemic stroke lesion segmentation from "
    "multispectral MRI, Medical Image Analysis 35, 2017"
)
_WHERE = "registration at the SICAS Medical Image Repository (smir.ch)"

INFOS = (
    DatasetInfo(
        name="isles2015_siss",
        title="ISLES 2015 SISS, sub-acute stroke",
        spec=lesion_spec("t1", "t2", "flair", "dwi"),
        index=index_isles2015_siss,
        write=write_isles2015_siss,
        citation=_CITATION,
        licence="research use, terms of the challenge",
        where=_WHERE,
        traps=(
            "skull-stripped, 1 mm, registered to FLAIR; two centres, of which one is in the training part",
            "other lesions and old strokes are background",
        ),
    ),
    DatasetInfo(
        name="isles2015_spes",
        title="ISLES 2015 SPES, acute stroke, penumbra",
        spec=DataSpec(
            ("t1c", "t2", "dwi", "cbf", "cbv", "ttp", "tmax"),
            {"penumbra": 1, "core": 2},
            {"penumbra": ("penumbra", "core"), "core": ("core",)},
        ),
        index=index_isles2015_spes,
        write=write_isles2015_spes,
        citation=_CITATION,
        licence="research use, terms of the challenge",
        where=_WHERE,
        traps=(
            "skull-stripped, 2 mm, registered to T1c",
            "perfusion maps have values below 0 and plateaus; only the penumbra was scored",
        ),
    ),
)
