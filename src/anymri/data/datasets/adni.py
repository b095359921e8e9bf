"""ADNI as the archive (LONI) hands it out: ``ADNI/<patient>/<series description>/<date>/<image id>/`` with one image.

::

    ADNI/002_S_0413/MPRAGE/2006-11-15_14_23_26.0/I30119/*.dcm      (or one .nii)
    ADNI/002_S_0413/Axial_T2_FLAIR/2006-11-15_14_23_26.0/I30120/*.dcm
    ADNI/002_S_0729/MPR____N3__Scaled/2006-08-02_07_02_00.0/I40692/*.nii    corrected MPRAGE; MPR-R is the repeat

Source: paths in public code that reads the archive's downloads (``MPRAGE``,
``MPR__GradWarp__B1_Correction__N3__Scaled``, ``Axial_PD_T2_FSE``, ``Double_TSE``; looked up on 2026-11-27). A series
is recognised by its description.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from anymri.data.datasets.info import DatasetInfo, unlabelled_spec
from anymri.data.datasets.layout import check_root, check_subject_id, make_arrays, native_grid
from anymri.data.formats import write_dicom
from anymri.files import replace_folder
from anymri.types import Subject, UserError

__all__ = ["INFOS", "index_adni", "write_adni"]

#: What a description holds, in this order of questions, and the modality it then is (None: not read).
_DESCRIPTIONS = (
    (r"mask|calibration|survey|loc(alizer)?\b|scout|dti|fmri|asl|perfusion|star|hippo|field.?map", None),
    (r"pd.?t2|double.?t?se", None),  # two echoes in one folder
    (r"flair", "flair"),
    (r"mp.?rage|spgr|mt1|(?<![a-z])mpr(?![a-z])", "t1"),
    (r"pd|proton", "pd"),
    (r"t2", "t2"),
)
_NAMES = {"t1": "MPRAGE", "t2": "Axial_T2", "flair": "Axial_FLAIR", "pd": "Axial_PD"}


def index_adni(root: Path | str) -> list[Subject]:
    """Find the visits of ADNI; opens no image.

    Parameters
    ----------
    root : path-like
        ``ADNI`` or the folder above it.

    Returns
    -------
    list of Subject
        Sorted by id, ``<patient>_<day>``; one subject a visit. Of several images of one sequence the one with the
        shortest description, then the lowest image id, is taken. The site is the first part of the patient's number.

    Raises
    ------
    UserError
        If there is no such visit.
    """
    root = check_root(root)
    root = root / "ADNI" if (root / "ADNI").is_dir() else root
    visits: dict[str, dict[str, tuple[int, str, Path]]] = {}
    for folder in sorted(root.glob("[0-9][0-9][0-9]_S_*/*/*/*")):
        patient, description, moment = folder.relative_to(root).parts[:3]
        code = _modality(description)
        image = _image(folder) if code else None
        if code is None or image is None:
            continue
        visit = visits.setdefault(f"{patient}_{moment[:10]}", {})
        candidate = (len(description), folder.name.zfill(12), image)
        visit[code] = min(visit.get(code, candidate), candidate)
    if not visits:
        raise UserError(f"{root}: no subject found; expected folders 002_S_0413/MPRAGE/<date>/<image id> as downloaded")
    return [_subject(name, images) for name, images in sorted(visits.items())]


def _modality(description: str) -> str | None:
    text = description.lower()
    return next((code for pattern, code in _DESCRIPTIONS if re.search(pattern, text)), None)


def _image(folder: Path) -> Path | None:
    """The NIfTI file in an image's folder, else the folder if it holds DICOM files."""
    if not folder.is_dir():
        return None
    nifti = sorted(path for path in folder.glob("*.nii*") if not path.name.startswith("."))
    if nifti:
        return nifti[0]
    return folder if any(folder.glob("*.dcm")) else None


def _subject(name: str, images: Mapping[str, tuple[int, str, Path]]) -> Subject:
    patient = name.rpartition("_")[0]
    return Subject(name, {code: path for code, (_, _, path) in sorted(images.items())}, None, patient, patient[:3])


def write_adni(
    root: Path | str,
    subject_id: str,
    volumes: Mapping[str, np.ndarray],
    label: np.ndarray | None = None,
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Path:
    """Write one visit as DICOM series.

    Parameters
    ----------
    root : path-like
    subject_id : str
        E.g. ``"002_S_0413_2006-11-15"``: patient and day.
    volumes : dict of str to ndarray, shape (D, H, W)
    label : ndarray of int, shape (D, H, W), or None
        Must be None: there is no place for label maps.
    spacing_mm : tuple of float
        Voxel size along D, H, W.

    Returns
    -------
    Path
        The patient's folder.

    Raises
    ------
    ValueError
        If the id is not of that form, there is a label map, or a value cannot be stored.
    """
    check_subject_id(subject_id)
    if not re.fullmatch(r"\d{3}_S_\d+_\d{4}-\d\d-\d\d", subject_id):
        raise ValueError(f"{subject_id!r} is no visit of ADNI; write e.g. '002_S_0413_2006-11-15'")
    if label is not None:
        raise ValueError("ADNI has no label maps; leave the label out")
    patient, _, day = subject_id.rpartition("_")
    folder = Path(root) / "ADNI" / patient
    for number, (code, array) in enumerate(make_arrays(volumes, None, _NAMES, {}).items()):
        with replace_folder(folder / _NAMES[code] / f"{day}_00_00_00.0" / f"I{number + 1}") as temporary:
            write_dicom(temporary, array, native_grid(array.shape, spacing_mm), f"{subject_id} {code}")
    return folder


INFOS = (
    DatasetInfo(
        name="adni",
        title="ADNI, Alzheimer's disease (DICOM or NIfTI)",
        spec=unlabelled_spec("t1", "t2", "flair", "pd"),
        index=index_adni,
        write=write_adni,
        citation="Jack et al., The Alzheimer's disease neuroimaging initiative (ADNI): MRI methods, Journal of "
        "Magnetic Resonance Imaging 27(4), 2008",
        licence="ADNI data use agreement",
        where="adni.loni.usc.edu, by application",
        traps=(
            "whole heads; the sequences of a visit have different grids: register before use",
            "a person has many visits: split by patient",
            "one scan is offered raw and after several corrections (MPR__GradWarp...) under different image ids",
            "the double echo series of ADNI 1 (Axial_PD_T2_FSE, Double_TSE) hold PD and T2 in one folder: not read",
        ),
    ),
)
