"""The result of a prediction, and its folder on disk: whole or not there, the same bytes each time."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from anymri.data.files import make_folder
from anymri.data.geometry import Geometry
from anymri.data.nifti import to_nibabel, write_image
from anymri.inference.raw_result import RawResult, write_raw
from anymri.inference.report import study_page
from anymri.types import DataSpec, UserError

__all__ = [
    "NOTICE",
    "LabelScheme",
    "Result",
    "View",
    "check_output",
    "label_scheme",
    "segmentation_image",
    "write_result",
]

Array = np.ndarray[Any, Any]
LabelScheme = Literal["anymri", "brats2021"]

NOTICE = "For research use only. Not a medical device; not for diagnosis or treatment decisions."
#: Label schemes of the output file: label name to value where it differs from the specification's.
LABEL_SCHEMES: dict[str, dict[str, int]] = {"anymri": {}, "brats2021": {"et": 4}}


@dataclass(frozen=True, kw_only=True)
class View:
    """Arrays the report draws, all (D, H, W) on the input grid.

    Parameters
    ----------
    images : dict of str to float32 array
        The sequences that were given, raw intensities.
    label : uint8 array or None
        Values of the specification.
    completed : dict of str to float32 array
        Synthesised sequences, z-scores.
    entropy : float32 array or None
        See `anymri.inference.trust.uncertainty.entropy`.
    geometry : Geometry
    """

    images: dict[str, Array]
    label: Array | None
    completed: dict[str, Array]
    entropy: Array | None
    geometry: Geometry


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a prediction gives.

    Parameters
    ----------
    segmentation : nibabel image or None
        Label map (uint8) on the grid of the input; None for a model that only synthesises.
    completed : dict of str to nibabel image
        Synthesised missing sequences in z-score units (float32), on the grid of the input.
    volumes_ml : dict of str to float
        Volume of every region in the segmentation.
    available, missing : tuple of str
        Sequences that were given, and those of the model that were not.
    label_values : dict of str to int
        Meaning of the segmentation's values.
    trust : dict
        ``regions``: see `anymri.inference.trust.uncertainty.trust_summary`; ``measured``: mean Dice of held-out
        subjects with the same sequences, if the model card has it; ``sample_agreement`` if samples were drawn.
    warnings : tuple of str
        Oddities of the input, in plain words.
    provenance : dict
        Program, model and input, with checksums; no times and no places.
    spec : DataSpec
    view : View
        For pictures.
    raw : RawResult or None
        For raw studies: other native grids, transforms, how it was prepared.
    """

    segmentation: Any
    completed: dict[str, Any]
    volumes_ml: dict[str, float]
    available: tuple[str, ...]
    missing: tuple[str, ...]
    label_values: dict[str, int]
    trust: dict[str, Any]
    warnings: tuple[str, ...]
    provenance: dict[str, Any]
    spec: DataSpec
    view: View = field(repr=False)
    raw: RawResult | None = field(default=None, repr=False)


def label_scheme(labels: str, spec: DataSpec) -> dict[str, int]:
    """Value of every label in a scheme of the output file.

    Raises
    ------
    UserError
        If there is no such scheme.
    """
    if labels not in LABEL_SCHEMES:
        raise UserError(f"unknown label scheme {labels!r}; known: {', '.join(LABEL_SCHEMES)}")
    return {name: LABEL_SCHEMES[labels].get(name, value) for name, value in spec.labels.items()}


def segmentation_image(view: View, spec: DataSpec, scheme: dict[str, int]) -> Any:
    """Nibabel image of the label map in the values of a scheme; None if there is no label map."""
    return None if view.label is None else to_nibabel(_in_scheme(view.label, spec, scheme), view.geometry)


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
    result: Result, out: str | Path, labels: LabelScheme | None = None, *, overwrite: bool = False
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

    Returns
    -------
    Path
        `out`, with ``segmentation.nii.gz``, ``completed/<modality>_synthetic.nii.gz`` and ``.json``,
        ``result.json`` and ``report.html``.

    Raises
    ------
    UserError
        If the place is taken or the disk refuses; nothing is left behind then.
    """
    out = check_output(out, overwrite)
    if labels is not None:
        scheme = label_scheme(labels, result.spec)
        result = replace(result, segmentation=segmentation_image(result.view, result.spec, scheme), label_values=scheme)
    parent = make_folder(out.absolute().parent)
    temporary = parent / f".{out.name}.{os.getpid()}.part"
    try:
        temporary.mkdir()
        _write_files(result, temporary)
        _put_in_place(temporary, out)
    except (OSError, UserError) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("(")[2].partition(")")[0] or str(error)
        raise UserError(f"{out}: cannot be written ({reason}); free some space or choose another folder") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return out


def _write_files(result: Result, folder: Path) -> None:
    view = result.view
    if view.label is not None:
        values = _in_scheme(view.label, result.spec, result.label_values)
        write_image(folder / "segmentation.nii.gz", values, view.geometry, np.uint8)
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
        write_raw(result.raw, folder, _scheme_table(result.spec, result.label_values))
    _write_text(folder / "result.json", _json(result_facts(result)))
    _write_text(folder / "report.html", study_page(result))


def result_facts(result: Result) -> dict[str, Any]:
    """Content of ``result.json``: everything but the arrays."""
    return {
        "available": list(result.available),
        "missing": list(result.missing),
        "labels": result.label_values if result.view.label is not None else {},
        "volumes_ml": {region: round(volume, 3) for region, volume in result.volumes_ml.items()},
        "completed": sorted(result.completed),
        "trust": result.trust,
        "warnings": list(result.warnings),
        "provenance": result.provenance,
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


def _in_scheme(label: Array, spec: DataSpec, scheme: dict[str, int]) -> Array:
    return _scheme_table(spec, scheme)[label]


def _scheme_table(spec: DataSpec, scheme: dict[str, int]) -> Array:
    """Value in the specification to value in the file."""
    table = np.arange(256, dtype=np.uint8)
    for name, value in spec.labels.items():
        table[value] = scheme[name]
    return table


def _write_text(path: Path, text: str) -> None:
    with open(path, "w", encoding="utf-8", newline="\n") as handle:
        handle.write(text)


def _put_in_place(temporary: Path, out: Path) -> None:
    """Give the finished folder its name; an earlier result goes only once the new one is complete."""
    if not out.is_dir() or not any(out.iterdir()):
        temporary.replace(out)
        return
    aside = out.absolute().with_name(f".{out.name}.{os.getpid()}.old")
    out.rename(aside)
    try:
        temporary.rename(out)
    except OSError:
        aside.rename(out)
        raise
    shutil.rmtree(aside, ignore_errors=True)
