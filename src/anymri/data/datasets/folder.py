"""Folder layout: any data set whose files can be told apart by their names.

Without patterns, a subject is a folder with files named by our codes: ``<subject>/t1.nii.gz``, ``t1c.nii.gz``, ...
and, if there is one, ``seg.nii.gz``.

With patterns, one for each modality and optionally one for ``label``, relative to the root::

    t1=*_T1.nii.gz               scan7_T1.nii.gz          subject scan7
    t1=*/anat/*_T1w.nii.gz       sub-01/anat/a_T1w.nii.gz  subject sub-01
    t1=*/{subject}_T1.nii.gz     HGG/case3_T1.nii.gz      subject case3

The subject is what stands for ``{subject}``. Without it: where a folder of the pattern has a ``*``, the name of the
first such folder; else the text that the first ``*`` of the file name stands for. ``*`` does not cross folders, ``**``
stands for any number of them (and names no subject), ``?`` for one character.

A file ``dataset.yaml`` in the folder says what is in it; every key but ``modalities`` may be left out::

    title: My cohort
    modalities: [t1, flair]               in channel order
    files: {t1: '*/T1.nii.gz', flair: '*/FLAIR.nii.gz', label: '*/lesions.nii.gz'}    patterns, as above
    labels: {lesion: 1}                   name to value in the cache
    regions: {lesion: [lesion]}           name to labels; without it every label is a region
    file_values: {255: 1}                 value in the label files to value in the cache, where they differ
    licence: ours                         also: citation, where
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from anymri.data.datasets.info import DatasetInfo
from anymri.data.datasets.layout import FolderLayout, check_root, check_subject_id
from anymri.data.selectors import select
from anymri.modalities import MODALITIES
from anymri.settings_file import read_yaml
from anymri.types import GLIOMA, DataSpec, Subject, UserError

__all__ = ["INFOS", "LAYOUT", "index_folder", "index_patterns", "read_folder_spec", "with_file_values", "write_folder"]

#: Name of the file with which a folder describes itself.
DESCRIPTION = "dataset.yaml"
_KEYS = ("title", "modalities", "files", "labels", "regions", "file_values", "licence", "citation", "where")

LAYOUT = FolderLayout(
    suffixes={code: code for code in MODALITIES},
    label_suffix="seg",
    label_values={},
    expected="folders <subject>/ with files t1.nii.gz, t1c.nii.gz, t2.nii.gz, flair.nii.gz, ... and seg.nii.gz",
)


def index_folder(root: Path | str, patterns: Mapping[str, str] | None = None) -> list[Subject]:
    """Find subjects by file name; opens no image.

    Parameters
    ----------
    root : path-like
    patterns : dict of str to str, or None
        Modality code, or ``"label"``, to a pattern relative to `root`; see the module's text. None = the default
        layout.

    Returns
    -------
    list of Subject
        Sorted by id.

    Raises
    ------
    UserError
        If there is no subject, a code is unknown, a pattern names no subject, or two files fit one pattern and subject.
    """
    root = check_root(root)
    description = _read_description(root)
    patterns = patterns or description.get("files")
    if patterns:
        subjects = index_patterns(root, patterns)
    else:
        subjects = LAYOUT.index(root)
    if not subjects:
        wanted = ", ".join(f"{code}={pattern}" for code, pattern in (patterns or {}).items())
        raise UserError(f"{root}: no file fits {wanted}; patterns are relative to this folder")
    return with_file_values(root, subjects)


def with_file_values(root: Path, subjects: list[Subject]) -> list[Subject]:
    """Subjects whose label maps are read by the ``file_values`` of the folder's ``dataset.yaml``, if it has any."""
    values = _read_description(root).get("file_values", {})
    return [replace(s, label=select(s.label, values=values)) if s.label and values else s for s in subjects]


def index_patterns(root: Path, patterns: Mapping[str, str]) -> list[Subject]:
    """Find the subjects whose files fit patterns; see the module's text.

    Parameters
    ----------
    root : Path
    patterns : dict of str to str
        Modality code, or ``"label"``, to a pattern relative to `root`.

    Returns
    -------
    list of Subject
        Sorted by id; empty if no file fits.

    Raises
    ------
    UserError
        As `index_folder`.
    """
    found: dict[str, dict[str, Path]] = {}
    for code, pattern in patterns.items():
        _check_code(code)
        for subject_id, path in _match(root, code, pattern).items():
            found.setdefault(subject_id, {})[code] = path
    return [_subject(subject_id, found[subject_id]) for subject_id in sorted(found)]


def _read_description(root: Path) -> dict[str, Any]:
    """Content of ``dataset.yaml``, checked; empty if there is none."""
    path = root / DESCRIPTION
    if not os.path.lexists(path):  # a folder or a link to nothing of that name is refused below
        return {}
    values = read_yaml(path, "see the reference of formats")
    if not isinstance(values, dict):
        raise UserError(f"{path}: is no list of keys and values; write e.g. modalities: [t1, flair]")
    unknown = [key for key in values if key not in _KEYS]
    if unknown:
        raise UserError(f"{path}: unknown key {unknown[0]!r}; known: {', '.join(_KEYS)}")
    for key in ("files", "labels", "regions", "file_values"):
        if not isinstance(values.get(key, {}), dict):
            raise UserError(f"{path}: {key} is no list of names and values; write e.g. labels: {{lesion: 1}}")
    named = values.get("files", {})
    if odd := [key for key, pattern in named.items() if not isinstance(key, str) or not isinstance(pattern, str)]:
        raise UserError(f"{path}: files: {odd[0]!r} has no pattern of file names; write e.g. t1: '*_T1.nii.gz'")
    numbers = {**values.get("labels", {}), **{str(k): k for k in values.get("file_values", {})}}
    numbers |= {f"{k}:": v for k, v in values.get("file_values", {}).items()}
    wrong = [key for key, value in numbers.items() if type(value) is not int or not 0 < value < 32768]
    if wrong:
        raise UserError(f"{path}: label {wrong[0]!r} is not a whole number from 1 on; write e.g. lesion: 1")
    return values


def read_folder_spec(root: Path | str) -> DataSpec | None:
    """Specification in a folder's ``dataset.yaml``.

    Parameters
    ----------
    root : path-like

    Returns
    -------
    DataSpec or None
        None if there is no such file.

    Raises
    ------
    UserError
        If the file is not of the form described above.
    """
    root = check_root(root)
    values = _read_description(root)
    if not values:
        return None
    labels = values.get("labels", {})
    modalities = values.get("modalities", [code for code in values.get("files", {}) if code != "label"])
    if not isinstance(modalities, list) or not modalities:
        raise UserError(f"{root / DESCRIPTION}: names no modalities; write e.g. modalities: [t1, flair]")
    regions = values.get("regions", {name: [name] for name in labels})
    try:
        return DataSpec(tuple(modalities), dict(labels), {name: tuple(parts) for name, parts in regions.items()})
    except (TypeError, ValueError) as error:
        raise UserError(f"{root / DESCRIPTION}: {error}; correct the file") from None


def _subject(subject_id: str, files: dict[str, Path]) -> Subject:
    images = {code: path for code, path in files.items() if code != "label"}
    if not images:
        raise UserError(
            f"{files['label']}: a label map of subject {subject_id!r}, which has no image; check the patterns"
        )
    return Subject(subject_id, images, files.get("label"), patient=subject_id)


def _check_code(code: str) -> None:
    if code not in MODALITIES and code != "label":
        close = get_close_matches(code, [*MODALITIES, "label"], 1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: label, {', '.join(MODALITIES)}"
        raise UserError(f"pattern {code!r}: unknown modality; {hint}")


def _match(root: Path, code: str, pattern: str) -> dict[str, Path]:
    """Subject id to the one file that fits a pattern."""
    expression = re.compile(_expression(code, pattern))
    found: dict[str, Path] = {}
    for path in sorted(root.glob(pattern.replace("[", "[[]").replace("{subject}", "*"))):
        match = expression.fullmatch(path.relative_to(root).as_posix())
        if match is None or not path.is_file():
            continue
        subject_id = match["subject"]
        if subject_id in found:
            first = found[subject_id].relative_to(root)
            raise UserError(
                f"{path}: fits {code}={pattern} for subject {subject_id!r}, as {first} does; "
                "narrow the pattern or mark the subject with {subject}"
            )
        try:
            check_subject_id(subject_id)
        except ValueError as error:
            raise UserError(f"{path}: {error} (pattern {code}={pattern})") from None
        found[subject_id] = path
    return found


def _expression(code: str, pattern: str) -> str:
    """Regular expression of a pattern with the group ``subject``."""
    parts = pattern.split("/")
    if pattern.startswith("/") or ".." in parts:
        raise UserError(f"pattern {code}={pattern}: must be relative to the data set's folder and stay in it")
    if "{subject}" not in pattern:
        parts = _mark_subject(code, pattern, parts)
    seen = False
    expression = ""
    for place, part in enumerate(parts):
        if part == "**":
            expression += "(?:[^/]+/)*"
            continue
        for token in re.split(r"(\{subject\}|\*|\?)", part):
            known = {"*": "[^/]*", "?": "[^/]", "{subject}": "(?P=subject)" if seen else "(?P<subject>[^/]+)"}
            expression += known.get(token, re.escape(token))
            seen |= token == "{subject}"
        expression += "/" if place < len(parts) - 1 else ""
    return expression


def _mark_subject(code: str, pattern: str, parts: list[str]) -> list[str]:
    for place, part in enumerate(parts):
        if "*" not in part or part == "**":
            continue
        marked = part.replace("*", "{subject}", 1) if place == len(parts) - 1 else "{subject}"
        return [*parts[:place], marked, *parts[place + 1 :]]
    raise UserError(f"pattern {code}={pattern}: names no subject; write * or {{subject}} where the names differ")


def write_folder(
    root: Path | str,
    subject_id: str,
    volumes: Mapping[str, np.ndarray],
    label: np.ndarray | None = None,
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Path:
    """Write one subject in the default layout; see `FolderLayout.write`.

    Parameters
    ----------
    root : path-like
    subject_id : str
    volumes : dict of str to ndarray, shape (D, H, W)
        Any modality code to intensities.
    label : ndarray of int, shape (D, H, W), or None
        Written as it is.
    spacing_mm : tuple of float
        Voxel size along D, H, W.

    Returns
    -------
    Path
        The subject's folder.
    """
    return LAYOUT.write(root, subject_id, volumes, label, spacing_mm)


def _private(name: str, title: str, citation: str, trap: str) -> DatasetInfo:
    """A data set that is not public: any folder will do."""
    return DatasetInfo(
        name=name,
        title=title,
        spec=GLIOMA,
        index=index_folder,
        write=write_folder,
        citation=citation,
        licence="not public",
        where="its owners",
        read_spec=read_folder_spec,
        traps=(trap, "no public layout: give --pattern or a dataset.yaml"),
    )


INFOS = (
    DatasetInfo(
        name="folder",
        title="any folder: <subject>/<modality>.nii.gz, patterns, or a dataset.yaml",
        spec=GLIOMA,
        index=index_folder,
        write=write_folder,
        citation="",
        licence="yours",
        where="your disk",
        read_spec=read_folder_spec,
    ),
    replace(
        _private(
            "rrms",
            "RRMS, relapsing-remitting multiple sclerosis (private)",
            "Havaei et al., HeMIS: Hetero-Modal Image Segmentation, MICCAI 2016",
            "300 patients with T1, T2 and T1 after contrast agent; sagittal slices",
        ),
        spec=DataSpec(("t1", "t1c", "t2"), {"lesion": 1}, {"lesion": ("lesion",)}),
    ),
)
