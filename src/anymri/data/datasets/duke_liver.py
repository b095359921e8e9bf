"""Duke Liver Dataset, segmentation part: DICOM series with DICOM masks, and tables that say what each series is.

::

    Segmentation/0001/4/images/*.dicom    Segmentation/0001/4/masks/*.dicom
    SegmentationKey.csv                   DLDS,Series,Label            patient number, series number, letter
    SequenceTypes.csv                     Label, ...                   letter, name; not read

Source: MacDonald et al. 2023 (below), doi:10.5281/zenodo.7774566, and public code and notes on the release, looked up
on 2026-11-27: they agree on the folders (some unpack to ``Segmentation/Segmentation``) and on the key; one names the
second column of ``SequenceTypes.csv`` ``SeriesMap``, which the written file does not claim to copy.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from anymri.data.datasets.info import DatasetInfo
from anymri.data.datasets.layout import check_root, check_subject_id, make_arrays, native_grid
from anymri.data.formats import write_dicom
from anymri.data.selectors import select
from anymri.files import make_folder, replace_file, replace_folder
from anymri.settings_file import MOST_TABLE_BYTES, check_file
from anymri.types import DataSpec, Subject, UserError

__all__ = ["INFOS", "index_duke_liver", "write_duke_liver"]

#: Letter in the key to modality: the four series that the field uses. Arterial and late phases are left out.
_LETTERS = {"B": "t1", "K": "t1c", "G": "t1_in", "H": "t1_out"}
_NAMES = {
    "B": "Axial Precontrast Fat Suppressed T1w (dynpre)",
    "K": "Portal Venous T1w (dynportal)",
    "G": "Axial In Phase (t1nfs)",
    "H": "Axial Opposed Phase (opposed)",
}


def index_duke_liver(root: Path | str) -> list[Subject]:
    """Find the series with a liver mask; opens no image.

    Parameters
    ----------
    root : path-like
        Folder with ``SegmentationKey.csv`` and ``Segmentation``.

    Returns
    -------
    list of Subject
        Sorted by id. Each series has a grid and a mask of its own, so each is a subject (``0001-4``) with one
        modality; all of one patient share its number.

    Raises
    ------
    UserError
        If the key is missing or not of that form, or none of its series is there.
    """
    root = check_root(root)
    base = root / "Segmentation"
    base = base / "Segmentation" if (base / "Segmentation").is_dir() else base
    subjects = []
    for patient, series, letter in _read_key(root / "SegmentationKey.csv"):
        folder = base / patient / series
        images, masks = folder / "images", folder / "masks"
        if letter not in _LETTERS or not _has_files(images):
            continue
        label = select(masks, values={-1: 1}) if _has_files(masks) else None
        subjects.append(Subject(f"{patient}-{series}", {_LETTERS[letter]: images}, label, patient))
    if not subjects:
        raise UserError(f"{root}: no subject found; expected folders Segmentation/0001/4/images of series in the key")
    return sorted(subjects, key=lambda subject: subject.subject_id)


def _has_files(folder: Path) -> bool:
    return folder.is_dir() and any(file.is_file() and not file.name.startswith(".") for file in folder.iterdir())


def _read_key(path: Path) -> list[tuple[str, str, str]]:
    """Patient (four digits), series and letter of each line."""
    if not path.is_file():
        raise UserError(f"{path.parent}: no subject found; expected SegmentationKey.csv in folders as downloaded")
    check_file(path, MOST_TABLE_BYTES)
    with path.open(newline="", encoding="utf-8-sig") as handle:
        rows = list(csv.DictReader(handle))
    try:
        return [(row["DLDS"].strip().zfill(4), row["Series"].strip(), row["Label"].strip()) for row in rows]
    except (KeyError, AttributeError):
        raise UserError(f"{path}: has not the columns DLDS, Series and Label; download it again") from None


def write_duke_liver(
    root: Path | str,
    subject_id: str,
    volumes: Mapping[str, np.ndarray],
    label: np.ndarray | None = None,
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Path:
    """Write one series and its mask, and enter it into the key.

    Parameters
    ----------
    root : path-like
    subject_id : str
        E.g. ``"0001-4"``: patient, ``-``, series; without a series it is 1.
    volumes : dict of str to ndarray, shape (D, H, W)
    label : ndarray of int, shape (D, H, W), or None
        1 liver; stored as 255.
    spacing_mm : tuple of float
        Voxel size along D, H, W.

    Returns
    -------
    Path
        The folder of the series.

    Raises
    ------
    ValueError
        If there is not exactly one sequence, or a value cannot be stored.
    """
    check_subject_id(subject_id)
    patient, _, series = subject_id.rpartition("-")
    patient, series = (patient, series) if patient and series.isdigit() else (subject_id, "1")
    letters = {code: letter for letter, code in _LETTERS.items()}
    arrays = make_arrays(volumes, label, letters, {1: 255})
    if len(volumes) != 1:
        raise ValueError("a subject of this layout is one series; write each sequence as a subject of its own")
    root = make_folder(root)
    folder = root / "Segmentation" / patient.zfill(4) / series
    with replace_folder(folder) as temporary:
        for code, array in arrays.items():
            place = temporary / ("masks" if code == "label" else "images")
            grid = native_grid(array.shape, spacing_mm)
            write_dicom(place, array.astype(np.int16), grid, f"{subject_id} {code}", "{:04d}.dicom")
    rows = _read_key(root / "SegmentationKey.csv") if (root / "SegmentationKey.csv").exists() else []
    rows = [row for row in rows if row[:2] != (patient.zfill(4), series)]
    rows.append((patient.zfill(4), series, letters[next(iter(volumes))]))
    _write_csv(root / "SegmentationKey.csv", ("DLDS", "Series", "Label"), rows)
    _write_csv(root / "SequenceTypes.csv", ("Label", "Series Description"), sorted(_NAMES.items()))
    return folder


def _write_csv(path: Path, header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    with replace_file(path) as handle:
        handle.write("".join(",".join(row) + "\n" for row in [header, *sorted(rows)]).encode())


INFOS = (
    DatasetInfo(
        name="duke_liver",
        title="Duke Liver Dataset, liver on MRI (DICOM)",
        spec=DataSpec(("t1", "t1c", "t1_in", "t1_out"), {"liver": 1}, {"liver": ("liver",)}),
        index=index_duke_liver,
        write=write_duke_liver,
        citation="MacDonald et al., Duke Liver Dataset: A Publicly Available Liver MRI Dataset with Liver Segmentation "
        "Masks and Series Labels, Radiology: Artificial Intelligence 5(5):e220275, 2023",
        licence="terms of the data set, on request",
        where="doi:10.5281/zenodo.7774566 (request access)",
        traps=(
            "t1 is the fat-suppressed series before contrast agent, t1c the portal venous one",
            "series of one patient have different grids and masks: each is a subject; split by patient",
            "masks have one grey value besides 0, not always the same",
        ),
    ),
)
