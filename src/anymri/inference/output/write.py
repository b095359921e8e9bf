"""Result folder on disk: whole or not there, the same bytes each time."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from anymri.data.nifti import write_image
from anymri.files import replace_folder
from anymri.inference.output.raw_result import write_raw
from anymri.inference.output.report import study_page
from anymri.inference.output.result import (
    NOTICE,
    LabelScheme,
    Result,
    View,
    label_scheme,
    scheme_table,
)
from anymri.inference.words import scope
from anymri.locks import one_writer
from anymri.types import UserError

#: Of probabilities in files: what is beyond means nothing and does not compress.
DECIMALS = 4

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
        Whether to write the probability of every region and the uncertainty as images, too.

    Returns
    -------
    Path
        `out`, with ``segmentation.nii.gz``, ``completed/<modality>_synthetic.nii.gz`` and ``.json``,
        ``result.json`` and ``report.html``; with `probabilities` also ``probability_<region>.nii.gz`` and
        ``uncertainty.nii.gz``.

    Raises
    ------
    UserError
        If the place is taken or the disk refuses; nothing is left behind then.
    """
    out = check_output(out, overwrite)
    if labels is not None:
        result = replace(result, label_values=label_scheme(labels, result.spec))
    with one_writer(out), replace_folder(out) as draft:
        _write_files(result, draft)
        if probabilities:
            _write_probabilities(result.view, draft)
    return out


def _write_files(result: Result, folder: Path) -> None:
    view = result.view
    if view.label is not None:
        values = scheme_table(result.spec, result.label_values)[view.label]
        write_image(folder / "segmentation.nii.gz", values, view.geometry, values.dtype)
    if view.completed:
        (folder / "completed").mkdir()
    for code, array in view.completed.items():
        write_image(folder / "completed" / f"{code}_synthetic.nii.gz", array, view.geometry, np.float32)
        facts = {
            "synthetic": True,
            "modality": code,
            "units": "z-score inside the brain, 0 outside",
            "made_from": list(result.available),
            "model": result.provenance["model"],
            "notice": NOTICE,
        }
        _write_text(folder / "completed" / f"{code}_synthetic.json", _json(facts))
    if result.raw is not None:
        write_raw(result.raw, folder, scheme_table(result.spec, result.label_values))
    _write_text(folder / "result.json", _json(result_facts(result)))
    _write_text(folder / "report.html", study_page(result))


def _write_probabilities(view: View, folder: Path) -> None:
    for region, array in view.probability.items():
        write_image(folder / f"probability_{region}.nii.gz", np.round(array, DECIMALS), view.geometry, np.float32)
    if view.entropy is not None:
        write_image(folder / "uncertainty.nii.gz", np.round(view.entropy, DECIMALS), view.geometry, np.float32)


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
        "warnings": list(result.warnings),
        "provenance": result.provenance,
        "scope": scope(result.spec),
        "notice": NOTICE,
    }


def _json(values: dict[str, Any]) -> str:
    return json.dumps(_without_nan(values), indent=2, sort_keys=True, allow_nan=False) + "\n"


def _without_nan(value: Any) -> Any:
    """NaN as null: JSON has no NaN."""
    if isinstance(value, Mapping):
        return {key: _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write_text(path: Path, text: str) -> None:
    with open(path, "w", encoding="utf-8", newline="\n") as handle:
        handle.write(text)
