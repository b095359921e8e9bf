"""Look at a study without predicting: its sequences, what each looks like, and whether it is usable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from anymri.data.appearance import judge_appearance
from anymri.data.datasets.spellings import IMAGE_ENDINGS
from anymri.data.dicom import is_dicom_study
from anymri.data.index import find_study
from anymri.data.nifti import Volume, check_study, read_image, write_image
from anymri.data.raw.source import find_raw
from anymri.data.raw.stripped import refuse_head
from anymri.data.upright import settle_axes
from anymri.errors import UserError
from anymri.inference.trust.quality import judge_study
from anymri.inference.trust.sequence_check import check_sequences
from anymri.modalities import MODALITIES

__all__ = ["SERIES", "inspect_study"]

#: How a DICOM series is called.
SERIES = "series "


def inspect_study(upload: Path, images: Path, told: dict[str, Any]) -> dict[str, Any]:
    """Find the sequences of an upload.

    Parameters
    ----------
    upload : Path
        Folder of what was sent.
    images : Path
        Where images for viewers go, of series that came as DICOM.
    told : dict
        As `anymri.server.upload.FormUpload.finish` gives it, with ``raw`` and corrected ``labels``.

    Returns
    -------
    dict
        ``dicom``, ``raw``, ``warnings``, and ``sequences``: rows with ``file``, ``path`` (below `upload`; of DICOM the
        number of the series), ``modality``, ``given``, ``recognised``, ``warnings``, ``quality``, ``image``.

    Raises
    ------
    UserError
        If nothing can be read.
    """
    labels = told.get("labels", {})
    folder = None if told["folder"] is None else upload / told["folder"]
    if folder is not None and is_dicom_study(folder):
        return _inspect_dicom(folder, images, labels)
    rows, warnings = _named(told["named"]) if folder is None else _listed(upload, folder)
    for row in rows:
        row["modality"] = labels.get(row["file"], row["given"])
        if row["modality"] is not None and row["given"] is None:
            row["warnings"] = []  # that its name tells nothing
    volumes = _read(upload, rows)
    raw = told["raw"] == "yes" or (told["raw"] == "auto" and any(map(_is_head, rows, volumes)))
    for row in rows:
        row["image"] = _viewable(row["path"])
    used = {row["modality"]: volume for row, volume in zip(rows, volumes, strict=True) if row["modality"] and volume}
    if not raw and used:
        warnings += _judge(rows, used)
    for row, volume in zip(rows, volumes, strict=True):
        if row["recognised"] is None and volume is not None and not raw:
            row["recognised"] = _looks_like(volume)
    return {"dicom": False, "raw": raw, "warnings": warnings, "sequences": rows}


def _row(file: str, path: str, given: str | None, **more: Any) -> dict[str, Any]:
    row = {"file": file, "path": path, "modality": given, "given": given, "recognised": None}
    return {**row, "warnings": [], "quality": None, "image": None, **more}


def _named(named: dict[str, str]) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of files that were named by their fields."""
    return [_row(f"{code}/{path.rpartition('/')[2]}", path, code) for code, path in named.items()], []


def _listed(upload: Path, folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of all images of a folder, those that their names tell first."""
    warnings: list[str] = []
    try:
        found = find_study(folder)
        images, notes = found.images, list(found.notes)
    except UserError as error:
        images, notes = {}, []
        warnings.append(str(error).replace(f"{folder}: ", "").replace(str(folder.parent) + "/", ""))
    others = [
        path for path in sorted(folder.rglob("*")) if path.name.lower().endswith(IMAGE_ENDINGS) and path.is_file()
    ]
    codes = {path: code for code, path in images.items()}
    rows = []
    for path in [*images.values(), *(path for path in others if path not in codes)]:
        row = _row(path.relative_to(folder).as_posix(), path.relative_to(upload).as_posix(), codes.get(path))
        row["warnings"] = [note for note in notes if path not in codes and path.name in note.split()[0]]
        rows.append(row)
    told = {note for row in rows for note in row["warnings"]}
    return rows, [*warnings, *(note for note in notes if note not in told)]


def _read(upload: Path, rows: list[dict[str, Any]]) -> list[Volume | None]:
    """Images of the rows; what is wrong with one becomes a warning of its row.

    Raises
    ------
    UserError
        If none can be read.
    """
    volumes: list[Volume | None] = []
    reason = "study: holds no image that is read; send NIfTI, DICOM, MHA or NRRD files"
    for row in rows:
        try:
            volume = read_image(upload / row["path"])
            volumes.append(volume)
            row["warnings"] += [f"{note[0].upper()}{note[1:]}." for note in volume.notes]
        except UserError as error:
            reason = str(error).replace(str(upload / row["path"]), row["file"])
            row["warnings"].append(reason)
            volumes.append(None)
    if all(volume is None for volume in volumes):
        raise UserError(reason)
    return volumes


def _is_head(row: dict[str, Any], volume: Volume | None) -> bool:
    """Whether an image shows more than a brain."""
    if volume is None:
        return False
    try:
        refuse_head(row["modality"] or "t1", volume)
    except UserError:
        return True
    return False


def _viewable(path: str) -> str | None:
    """Name of an image in requests: its place among those of the study; None where a viewer lacks the voxels."""
    return None if path.lower().endswith((".mhd", ".nhdr")) else path


def _looks_like(volume: Volume) -> str | None:
    """Sequence that a brain's image shows."""
    return judge_appearance(np.nan_to_num(volume.array), volume.geometry.spacing_mm).looks_like


def _judge(rows: list[dict[str, Any]], used: dict[str, Volume]) -> list[str]:
    """Write quality and doubts into the rows of a study of brains; what concerns all of it."""
    try:
        check_study(used)
        volumes, turned = settle_axes(used)
    except UserError as error:
        return [str(error)]
    judged = judge_study(volumes)
    checked = check_sequences(volumes)
    doubts = checked.sentences
    for row in rows:
        code = row["modality"]
        looks = checked.record.get(code, {}).get("looks_like")
        row["recognised"] = looks if looks in MODALITIES else None
        if code in judged.sequences:
            found = judged.sequences[code]
            row["quality"] = {"label": found.verdict, "words": found.reason}
        if code in doubts:
            row["warnings"].append(f"{MODALITIES[code].long_name} {doubts[code]}.")
    return [*(f"{text[0].upper()}{text[1:]}." for text in turned), *judged.remarks]


def _inspect_dicom(folder: Path, images: Path, labels: dict[str, str | None]) -> dict[str, Any]:
    """Rows of all series, with an image for viewers of each that is used."""
    chosen = {code: file.removeprefix(SERIES) for file, code in labels.items() if code is not None}
    found = find_raw(folder, chosen, tuple(MODALITIES))
    images.mkdir(parents=True, exist_ok=True)
    rows = []
    for series in found.reasons:
        number, code = str(series["series"]), series["modality"]
        file = f"{SERIES}{number}"
        used = None if labels.get(file, code) is None else code
        row = _row(file, number, None, modality=used, recognised=code if file not in labels else None)
        if used is None:
            row["warnings"] = ["Left out as asked." if file in labels else f"Not used: {series['reason']}."]
        elif code in found.images:
            volume = found.images[code]
            write_image(images / f"{number}.nii.gz", volume.array, volume.geometry, np.float32)
            row["image"] = f"{number}.nii.gz"
        rows.append(row)
    return {"dicom": True, "raw": True, "warnings": list(found.notes), "sequences": rows}
