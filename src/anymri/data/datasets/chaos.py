"""CHAOS 2019, MRI part: DICOM series with PNG masks.

::

    Train_Sets/MR/1/T1DUAL/DICOM_anon/InPhase/*.dcm    OutPhase/*.dcm     T1DUAL/Ground/*.png
    Train_Sets/MR/1/T2SPIR/DICOM_anon/*.dcm                               T2SPIR/Ground/*.png

Grey values of the masks: 63 liver, 126 right kidney, 189 left kidney, 252 spleen.
Source: chaos.grand-challenge.org/Data and paths in public code that reads the release, looked up on 2026-11-27.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from anymri.data.datasets.info import DatasetInfo
from anymri.data.datasets.layout import check_root, check_subject_id, make_arrays, native_grid
from anymri.data.formats import write_dicom, write_png_masks
from anymri.data.selectors import select
from anymri.files import replace_folder
from anymri.types import DataSpec, Subject, UserError

__all__ = ["INFOS", "index_chaos", "write_chaos"]

#: Protocol to its sequences and where each lies below the protocol's folder.
_PROTOCOLS = {
    "T1DUAL": {"t1_in": "DICOM_anon/InPhase", "t1_out": "DICOM_anon/OutPhase"},
    "T2SPIR": {"t2_spir": "DICOM_anon"},
}
_TO_FILE = {1: 63, 2: 126, 3: 189, 4: 252}


def index_chaos(root: Path | str) -> list[Subject]:
    """Find the MRI studies of CHAOS; opens no image.

    Parameters
    ----------
    root : path-like
        ``MR``, or a folder up to two levels above it.

    Returns
    -------
    list of Subject
        Sorted by id. The two protocols of a patient have different grids and a label map each, so each is a subject
        (``1-T1DUAL``, ``1-T2SPIR``) of one patient.

    Raises
    ------
    UserError
        If there is no such study, or one has masks but no series.
    """
    root = check_root(root)
    folders = sorted({path for depth in ("", "*/", "*/*/", "*/*/*/") for path in root.glob(f"{depth}T[12][DS][UP]*")})
    subjects = [subject for folder in folders if folder.name in _PROTOCOLS for subject in _subjects(root, folder)]
    if not subjects:
        raise UserError(f"{root}: no subject found; expected folders MR/1/T1DUAL/DICOM_anon/InPhase with DICOM files")
    ids = [subject.subject_id for subject in subjects]
    if len(set(ids)) != len(ids):
        raise UserError(f"{root}: holds two studies of one number (Train_Sets and Test_Sets?); index one set at a time")
    return sorted(subjects, key=lambda subject: subject.subject_id)


def _subjects(root: Path, folder: Path) -> list[Subject]:
    patient = folder.parent.resolve().name
    images = {
        code: folder / place for code, place in _PROTOCOLS[folder.name].items() if any((folder / place).glob("*.dcm"))
    }
    masks = folder / "Ground"
    has_masks = masks.is_dir() and any(masks.glob("*.png"))
    if not images and has_masks:
        raise UserError(f"{folder}: holds masks but no DICOM series; copy the study again")
    label = select(masks, values={theirs: ours for ours, theirs in _TO_FILE.items()}) if has_masks else None
    return [Subject(f"{patient}-{folder.name}", images, label, patient)] if images else []


def write_chaos(
    root: Path | str,
    subject_id: str,
    volumes: Mapping[str, np.ndarray],
    label: np.ndarray | None = None,
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Path:
    """Write one study as DICOM series and PNG masks.

    Parameters
    ----------
    root : path-like
    subject_id : str
        E.g. ``"1-T1DUAL"``: patient, ``-``, protocol; without a protocol the sequences decide.
    volumes : dict of str to ndarray, shape (D, H, W)
    label : ndarray of int, shape (D, H, W), or None
        1 liver, 2 right kidney, 3 left kidney, 4 spleen.
    spacing_mm : tuple of float
        Voxel size along D, H, W.

    Returns
    -------
    Path
        The folder of the protocol.

    Raises
    ------
    ValueError
        If the sequences belong to two protocols, or a value cannot be stored.
    """
    check_subject_id(subject_id)
    patient, _, protocol = subject_id.rpartition("-")
    if protocol not in _PROTOCOLS:
        patient, protocol = subject_id, "T2SPIR" if "t2_spir" in volumes else "T1DUAL"
    places = _PROTOCOLS[protocol]
    arrays = make_arrays(volumes, label, places, _TO_FILE)
    folder = Path(root) / "MR" / patient / protocol
    with replace_folder(folder) as temporary:
        for code, array in arrays.items():
            grid = native_grid(array.shape, spacing_mm)
            if code == "label":
                write_png_masks(temporary / "Ground", array, grid, "IMG-0001-{:05d}.png")
            else:
                write_dicom(temporary / places[code], array, grid, f"{subject_id} {code}", "IMG-0001-{:05d}.dcm")
    return folder


INFOS = (
    DatasetInfo(
        name="chaos",
        title="CHAOS 2019, abdominal organs on MRI (DICOM and PNG)",
        spec=DataSpec(
            ("t1_in", "t1_out", "t2_spir"),
            {"liver": 1, "right_kidney": 2, "left_kidney": 3, "spleen": 4},
            {organ: (organ,) for organ in ("liver", "right_kidney", "left_kidney", "spleen")},
        ),
        index=index_chaos,
        write=write_chaos,
        label_values=_TO_FILE,
        citation="Kavur et al., CHAOS Challenge: combined (CT-MR) healthy abdominal organ segmentation, Medical Image "
        "Analysis 69:101950, 2021",
        licence="CC BY-NC-SA 4.0",
        where="doi:10.5281/zenodo.3362844",
        traps=(
            "T1-DUAL and T2-SPIR have different grids and are not registered; each has masks of its own",
            "in and out of phase share one grid and one set of masks",
            "the CT part has other patients; the test part has no masks",
        ),
    ),
)
