"""BIDS: ``sub-01/[ses-1/]anat/sub-01_[ses-1_]T1w.nii.gz``, label maps in ``derivatives/``.

Names are read by `anymri.data.datasets.bids_names`. A label map is a ``dseg`` or ``mask`` that says it is of lesions
(`anymri.data.datasets.bids_labels`), in any folder of ``derivatives``, or in the subject's own folder.
Source: bids-specification.readthedocs.io, chapters MRI and imaging derivatives.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from anymri.data.datasets.bids_labels import find_label
from anymri.data.datasets.bids_names import entities_of, read_bids_name, read_session, session_files
from anymri.data.datasets.folder import read_folder_spec, with_file_values
from anymri.data.datasets.info import DatasetInfo, unlabelled_spec
from anymri.data.datasets.layout import check_root, check_subject_id, has_control, make_arrays, write_files
from anymri.data.datasets.spellings import image_ending
from anymri.files import replace_file
from anymri.settings_file import MOST_TABLE_BYTES, check_file
from anymri.types import GLIOMA, Subject, UserError

__all__ = ["INFOS", "NAMES", "find_sessions", "index_bids", "write_bids"]

#: Modality code to the folder, entity and suffix it is written with.
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
        with the fewest entities, then the first, is taken; `Subject.notes` say so. The site is that of
        ``participants.tsv``, if it has one. An MP-RAGE is t1, unless a ``dataset.yaml`` names ``mprage``.

    Raises
    ------
    UserError
        If there is no such subject, or one has two lesion maps.
    """
    root = check_root(root)
    sites = _read_sites(root / "participants.tsv")
    spec = read_folder_spec(root)
    subjects = []
    for name, folder in find_sessions(root).items():
        images, notes = read_session(folder, spec.modalities if spec else None)
        named = tuple(spec.labels) if spec else ()
        label, unused = find_label(root, folder, session_files(folder), images.values(), named)
        patient = name.partition("_")[0]
        subjects.append(Subject(name, images, label, patient, sites.get(patient, ""), (*notes, *unused)))
    if not subjects:
        raise UserError(f"{root}: no subject found; expected folders like sub-01/anat with files sub-01_T1w.nii.gz")
    return with_file_values(root, _tell_unlisted(root / "participants.tsv", subjects, sites))


def _tell_unlisted(path: Path, subjects: list[Subject], sites: Mapping[str, str]) -> list[Subject]:
    """Subjects as they are, the first with a note on those that a table of sites does not list."""
    unlisted = sorted({subject.patient for subject in subjects} - set(sites)) if sites else []
    if not unlisted:
        return subjects
    shown = f"{', '.join(unlisted[:3])}{f' and {len(unlisted) - 3} more' if len(unlisted) > 3 else ''}"
    note = (path, f"{path.name}: has no row for {shown}; the site is unknown")
    return [replace(subjects[0], notes=(*subjects[0].notes, note)), *subjects[1:]]


def find_sessions(folder: Path) -> dict[str, Path]:
    """Sessions with at least one known sequence, of a data set, of a subject, or the one that a folder is.

    Parameters
    ----------
    folder : Path
        Folder of a data set (``sub-*`` in it), of a subject or of a session.

    Returns
    -------
    dict of str to Path
        ``sub-01``, ``sub-01_ses-1`` or, of a folder without subjects, ``ses-1`` to its folder, sorted; empty where
        nothing is named as in BIDS.

    Raises
    ------
    UserError
        If the images of two sessions share a folder.
    """
    subjects = sorted(path for path in folder.glob("sub-*") if path.is_dir())
    found = {}
    for subject in subjects or [folder]:
        for place in (subject, *sorted(path for path in subject.glob("ses-*") if path.is_dir())):
            files = [
                path for path in session_files(place) if image_ending(path.name) and "sub" in entities_of(path.name)
            ]
            names = sorted({_session_name(path) for path in files if read_bids_name(path.name).code})
            if len(names) > 1:
                raise UserError(f"{place}: holds images of {', '.join(names)}; give every session a folder of its own")
            if names:
                found["_".join(place.relative_to(folder).parts) or names[0]] = place
    return found


def _session_name(path: Path) -> str:
    """``sub-01_ses-1`` of a file; empty where it names no subject."""
    entities = entities_of(path.name)
    if "sub" not in entities:
        return ""
    return "_".join(f"{key}-{entities[key]}" for key in ("sub", "ses") if key in entities)


def _read_sites(path: Path) -> dict[str, str]:
    """Sites of the participants; a table that is no table is refused, or its sites would be lost without a word."""
    if not os.path.lexists(path):
        return {}
    remedy = "mend it or take it away"
    try:
        check_file(path, MOST_TABLE_BYTES, remedy)
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as handle:
            reader = csv.DictReader(handle, delimiter="\t")
            rows, names = list(reader), list(reader.fieldnames or ())
    except (OSError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}); {remedy}") from None
    if "participant_id" not in names or len(set(names)) < len(names):
        raise UserError(f"{path}: has no column participant_id, or a column twice; {remedy}")
    uneven = next((number for number, row in enumerate(rows) if None in row or None in row.values()), None)
    if uneven is not None:
        raise UserError(f"{path}, row {uneven + 2}: is not as long as the header; {remedy}")
    lines = ["".join(names), *("".join(row.values()) for row in rows)]
    damaged = next((number for number, line in enumerate(lines, start=1) if has_control(line)), None)
    if damaged is not None:
        raise UserError(f"{path}, row {damaged}: holds a control character; {remedy}")
    return {row["participant_id"]: row.get("site") or "" for row in rows if row["participant_id"] and "site" in row}


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
    for place, name in ((root, "anymri"), (root / "derivatives" / "manual", "manual lesion maps")):
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
        traps=(
            "T1w files usually show the whole head",
            "only maps of lesions are labels: label-lesion or the like in the name, or a .tsv or data set that says so",
            "of several runs the one with the fewest entities is taken, then the first; `anymri index` says which",
            "acq-mprage_T1w is t1 unless a dataset.yaml lists mprage; ce-none, acq-pre are t1, ce-*, acq-post t1c",
            "labels and regions of its own: add a dataset.yaml",
        ),
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
