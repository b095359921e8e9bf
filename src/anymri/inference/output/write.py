"""Result folder on disk: whole or not there, the same bytes each time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from anymri.files import replace_folder
from anymri.inference.output.deidentify import without_names
from anymri.inference.output.formats import DEFAULT_OUTPUTS, check_outputs, write_outputs
from anymri.inference.output.options import OutputOptions
from anymri.inference.output.raw_result import write_raw
from anymri.inference.output.report import study_page
from anymri.inference.output.result import NOTICE, LabelScheme, Result, label_scheme
from anymri.inference.output.text import json_text, write_text
from anymri.inference.words import scope
from anymri.locks import one_writer
from anymri.types import UserError

__all__ = ["check_output", "result_facts", "write_result"]


def check_output(out: str | Path, overwrite: bool = False) -> Path:
    """Refuse a place where a result cannot or should not be written.

    Raises
    ------
    UserError
        If `out` or a folder above it is a file or cannot be written, or `out` has content that is not an earlier
        result to overwrite.
    """
    out = Path(out)
    nearest = next(place for place in (out.absolute(), *out.absolute().parents) if place.exists())
    if not nearest.is_dir():
        place = out if nearest == out.absolute() else nearest
        raise UserError(f"{place}: a file is where the result folder should be; choose another folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(f"{out}: cannot be written (no permission in {nearest}); choose another folder")
    if not out.is_dir() or not any(out.iterdir()):
        return out
    if not overwrite:
        raise UserError(f"{out}: is not empty; choose another folder or pass --overwrite")
    if not (out / "result.json").is_file():
        raise UserError(f"{out}: holds other files than a result, so it is not replaced; choose another folder")
    return out


def write_result(
    result: Result,
    out: str | Path,
    labels: LabelScheme | None = None,
    *,
    overwrite: bool = False,
    probabilities: bool = False,
    outputs: Sequence[str] = DEFAULT_OUTPUTS,
    deidentify: bool = False,
    seg_series: str | None = None,
) -> Path:
    """Write a result folder.

    Parameters
    ----------
    result : Result
    out : path-like
        New or empty folder.
    labels : {"anymri", "brats2021"} or None, default=None
        Values of the segmentation; None = as predicted.
    overwrite : bool, default=False
        Whether to replace an earlier result.
    probabilities : bool, default=False
        Whether to write the probability of every region and the uncertainty as NIfTI images, too.
    outputs : sequence of str, default=("nifti",)
        Formats, of `anymri.inference.output.formats.OUTPUTS`.
    deidentify : bool, default=False
        Whether to leave out names of files and folders, and of DICOM objects what they say of the person.
    seg_series : str or None, default=None
        Modality whose DICOM series ``dicom-seg`` refers to; None = the one on whose grid the result is.

    Returns
    -------
    Path
        `out`, with ``result.json``, ``report.html``, the files of every format, and ``quality/<modality>.png`` of
        unusable sequences.

    Raises
    ------
    UserError
        If the place is taken or the disk refuses, or a format cannot be written of this study; nothing is left
        behind then.
    """
    out = check_output(out, overwrite)
    names = check_outputs(outputs, dicom=bool(result.sources))
    options = OutputOptions(probabilities=probabilities, deidentify=deidentify, seg_series=seg_series)
    if deidentify:
        result = without_names(result)
    if labels is not None:
        result = replace(result, label_values=label_scheme(labels, result.spec))
    with one_writer(out), replace_folder(out) as draft:
        write_outputs(result, draft, names, options)
        _write_pages(result, draft)
    return out


def _write_pages(result: Result, folder: Path) -> None:
    """What every result has, whatever its formats."""
    if result.raw is not None:
        write_raw(result.raw, folder)
    for name, picture in (result.quality.picture_files() if result.quality else {}).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(picture)
    write_text(folder / "result.json", json_text(result_facts(result)))
    write_text(folder / "report.html", study_page(result))


def result_facts(result: Result) -> dict[str, Any]:
    """Content of ``result.json``: everything but the arrays."""
    return {
        "study": result.name,
        "available": list(result.available),
        "missing": list(result.missing),
        "labels": result.label_values if result.view.label is not None else {},
        "volumes_ml": {
            region: None if volume is None else round(volume, 3) for region, volume in result.volumes_ml.items()
        },
        "unknown": result.unknown,
        "completed": sorted(result.view.completed),
        "trust": result.trust,
        "quality": result.quality.facts() if result.quality else None,
        "warnings": list(result.warnings),
        "provenance": result.provenance,
        "scope": scope(result.spec),
        "notice": NOTICE,
    }
