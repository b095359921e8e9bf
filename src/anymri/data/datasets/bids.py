"""BIDS: ``sub-01/[ses-1/]anat/sub-01_[ses-1_]T1w.nii.gz``, label maps in ``derivatives/``.

Recognised by entities and suffix: ``ce-*_T1w`` is t1c, ``T1w`` t1, ``acq-mprage_T1w`` mprage, ``acq-inphase``,
``acq-outphase`` and ``acq-spir`` the abdominal sequences. A label map is ``*_dseg`` or ``*_mask`` (if that is a lesion,
tumour or other named region, not the brain) in any folder of ``derivatives``, or in the subject's own folder.
Source: bids-specification.readthedocs.io, chapters MRI and imaging derivatives.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from anymri.data.datasets.folder import read_folder_spec, with_file_values
from anymri.data.datasets.info import DatasetInfo, unlabelled_spec
from anymri.data.datasets.layout import EXTENSIONS, check_root, check_subject_id, make_arrays, write_files
from anymri.data.files import replace_file
from anymri.types import GLIOMA, Subject, UserError

__all__ = ["INFOS", "NAMES", "find_session", "index_bids", "write_bids"]

#: Modality code to folder, entities and suffix.
NAMES = {
    "t1c": ("anat", "ce-gadolinium", "T1w"),
    "t1_in": ("anat", "acq-inphase", "T1w"),
    "t1_out": ("anat", "acq-outphase", "T1w"),
    "mprage": ("anat", "acq-mprage", "T1w"),
    "t1": ("anat", "", "T1w"),
    "t2_spir": ("anat", "acq-spir", "T2w"),
    "t2": ("anat", "", "T2w"),
    "flair": ("anat", "", "FLAIR"),
    "pd": ("anat", "", "PDw"),
    "dir": ("anat", "", "DIR"),
    "dwi": ("dwi", "", "dwi"),
    "adc": ("dwi", "", "ADC"),
    "md": ("dwi", "", "MD"),
    "swi": ("swi", "", "swi"),
    "cbf": ("perf", "", "cbf"),
    "cbv": ("perf", "", "cbv"),
    "ct": ("ct", "", "ct"),
}


def index_bids(root: Path | str) -> list[Subject]:
    """Find the sessions of a BIDS data set; opens no image.

    Parameters
    ----------
    root : path-like
        Folder of the ``sub-*`` folders.

    Returns
    -------
    list of Subject
        Sorted by id, ``sub-01`` or ``sub-01_ses-1``; one subject a session. Of several runs of one sequence the one
        with the fewest entities, then the first, is taken. The site is that of ``participants.tsv``, if it has one.

    Raises
    ------
    UserError
        If there is no such subject, or one has two label maps.
    """
    root = check_root(root)
    sites = _read_sites(root / "participants.tsv")
    subjects = []
    for folder in _sessions(root):
        name = "_".join(folder.relative_to(root).parts)
        files = _files(folder)
        images = find_session(folder)
        if images:
            patient = name.partition("_")[0]
            subjects.append(Subject(name, images, _label(root, folder, files), patient, sites.get(patient, "")))
    if not subjects:
        raise UserError(f"{root}: no subject found; expected folders like sub-01/anat with files sub-01_T1w.nii.gz")
    return with_file_values(root, subjects)


_ORDER = ("t1", "t1c", *(code for code in NAMES if code not in ("t1", "t1c")))


def _files(folder: Path) -> list[Path]:
    return sorted(path for kind in folder.iterdir() if kind.is_dir() for path in kind.iterdir())


def find_session(folder: Path) -> dict[str, Path]:
    """The sequences of one session's folder (``sub-01`` or ``sub-01/ses-1``); empty if there is none.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    dict of str to Path
        Modality code to file; of several runs that with the fewest entities, then the first.
    """
    images: dict[str, tuple[int, Path]] = {}
    for path in _files(folder):
        code = _modality(path.name)
        if code is not None:
            candidate = (path.name.count("_"), path)
            images[code] = min(images.get(code, candidate), candidate)
    return {code: images[code][1] for code in _ORDER if code in images}


def _sessions(root: Path) -> list[Path]:
    """Folders of sessions, or of subjects without sessions."""
    found = []
    for subject in sorted(path for path in root.glob("sub-*") if path.is_dir()):
        sessions = sorted(path for path in subject.glob("ses-*") if path.is_dir())
        found += sessions or [subject]
    return found


def _read_sites(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as handle:
        rows = csv.DictReader(handle, delimiter="\t")
        return {
            row["participant_id"]: row.get("site") or "" for row in rows if row.get("participant_id") and "site" in row
        }


def _stem(name: str) -> str | None:
    """Name without its NIfTI ending; None for other and hidden files."""
    ending = next((ending for ending in EXTENSIONS if name.endswith(ending)), None)
    return None if ending is None or name.startswith(".") else name[: -len(ending)]


def _modality(name: str) -> str | None:
    stem = _stem(name)
    if stem is None:
        return None
    *entities, suffix = stem.split("_")
    for code, (_, entity, wanted) in NAMES.items():
        key, _, value = entity.partition("-")
        has = any(e.startswith("ce-") if key == "ce" else e.lower() == f"{key}-{value}" for e in entities)
        if suffix == wanted and (has or not entity):
            return code
    return None


def _label(root: Path, folder: Path, files: list[Path]) -> Path | None:
    """The one label map of a session, from the derivatives or else from its own folders."""
    inside = folder.relative_to(root).as_posix()
    derived = sorted(path for path in root.glob(f"derivatives/*/{inside}/*/*.nii*") if _is_label(path.name))
    found = derived or [path for path in files if _is_label(path.name)]
    maps = [path for path in found if _stem(path.name).endswith("_dseg")] or found  # type: ignore[union-attr]
    if len(maps) > 1:
        raise UserError(f"{maps[1]}: a second label map beside {maps[0].name}; keep one, or use --dataset folder")
    return maps[0] if maps else None


def _is_label(name: str) -> bool:
    stem = _stem(name)
    if stem is None or re.search(r"label-(brain|GM|WM|CSF)\b|desc-brain", stem):
        return False
    return stem.endswith("_dseg") or (stem.endswith("_mask") and "label-" in stem)


def write_bids(
    root: Path | str,
    subject_id: str,
    volumes: Mapping[str, np.ndarray],
    label: np.ndarray | None = None,
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Path:
    """Write one session; label maps go to ``derivatives/manual``.

    Parameters
    ----------
    root : path-like
    subject_id : str
        E.g. ``"sub-01"`` or ``"sub-01_ses-1"``; another id becomes ``sub-<its letters and digits>``.
    volumes : dict of str to ndarray, shape (D, H, W)
    label : ndarray of int, shape (D, H, W), or None
        Written as it is, as ``*_dseg``.
    spacing_mm : tuple of float
        Voxel size along D, H, W.

    Returns
    -------
    Path
        The session's folder.

    Raises
    ------
    ValueError
        If BIDS has no name for a modality, or a value cannot be stored.
    """
    check_subject_id(subject_id)
    if not re.fullmatch(r"sub-[0-9A-Za-z]+(_ses-[0-9A-Za-z]+)?", subject_id):
        subject_id = "sub-" + re.sub(r"[^0-9A-Za-z]", "", subject_id)
    root, inside = Path(root), subject_id.replace("_", "/")
    arrays = make_arrays(volumes, label, NAMES, {})
    files = {}
    for code, array in arrays.items():
        if code == "label":
            files[f"derivatives/manual/{inside}/anat/{subject_id}_dseg.nii.gz"] = array
            continue
        kind, entity, suffix = NAMES[code]
        files[f"{inside}/{kind}/{'_'.join(part for part in (subject_id, entity, suffix) if part)}.nii.gz"] = array
    write_files(root, files, spacing_mm)
    for place, name in ((root, "anymri"), (root / "derivatives" / "manual", "manual label maps")):
        if place.is_dir() and not (place / "dataset_description.json").exists():
            with replace_file(place / "dataset_description.json") as handle:
                handle.write(f'{{"Name": "{name}", "BIDSVersion": "1.10.0"}}\n'.encode())
    return root / inside


INFOS = (
    DatasetInfo(
        name="bids",
        title="BIDS, sequences and label maps",
        spec=GLIOMA,
        index=index_bids,
        write=write_bids,
        citation="Gorgolewski et al., The brain imaging data structure, Scientific Data 3:160044, 2016",
        licence="yours",
        where="openneuro.org, your disk",
        read_spec=read_folder_spec,
        traps=("T1w files usually show the whole head", "labels and regions of its own: add a dataset.yaml"),
    ),
    DatasetInfo(
        name="sabre",
        title="SABRE, Southall and Brent Revisited (private; BIDS)",
        spec=unlabelled_spec("t1", "t2", "flair"),
        index=index_bids,
        write=write_bids,
        citation="Tillin et al., Southall And Brent REvisited: Cohort profile of SABRE, International Journal of "
        "Epidemiology 41(1), 2012",
        licence="not public",
        where="its owners",
        read_spec=read_folder_spec,
        traps=("no public layout: expected as BIDS", "two cohorts, one of a single scanner, one of several"),
    ),
)
