"""NIfTI files of a result: segmentation, completed sequences, probabilities, the other grids of a raw study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from anymri.data.nifti import write_image
from anymri.inference.output.options import OutputOptions
from anymri.inference.output.raw_result import write_native
from anymri.inference.output.result import NOTICE, Result, View, scheme_table
from anymri.inference.output.text import json_text, write_text
from anymri.inference.trust.completion import completed_errors, synthetic_mark

__all__ = ["DECIMALS", "synthetic_facts", "write_nifti"]

#: Of probabilities in files: what is beyond means nothing and does not compress.
DECIMALS = 4


def write_nifti(result: Result, folder: Path, options: OutputOptions) -> None:
    """Write ``segmentation.nii.gz``, ``completed/``, ``native/`` and, if asked for, the probabilities.

    Parameters
    ----------
    result : Result
    folder : Path
        Of the result.
    options : OutputOptions
    """
    view = result.view
    table = scheme_table(result.spec, result.label_values)
    if view.label is not None:
        write_image(folder / "segmentation.nii.gz", table[view.label], view.geometry, table.dtype)
    if view.completed:
        _write_completed(result, folder / "completed")
    if result.raw is not None:
        write_native(result.raw, folder, table)
    if options.probabilities:
        _write_probabilities(view, folder)
        _write_cautious(result, folder)


def synthetic_facts(result: Result, code: str) -> dict[str, Any]:
    """What is said beside a completed sequence in every format: that it is synthetic, of what, by which model.

    Parameters
    ----------
    result : Result
    code : str
        Modality that was completed.
    """
    judged = result.trust.get("completion", {}).get(code, {})
    return {
        "synthetic": True,
        "modality": code,
        "units": "z-score inside the brain, 0 outside",
        "made_from": list(result.available),
        "model": result.provenance["model"],
        "notice": NOTICE,
        **{key: judged[key] for key in ("beats_copying", "said", "measured_on") if key in judged},
    }


def _write_completed(result: Result, folder: Path) -> None:
    """Each completed sequence, what it is, and how far off it is on average where that was measured."""
    view = result.view
    folder.mkdir(exist_ok=True)
    for code, array in view.completed.items():
        path = folder / f"{code}_synthetic.nii.gz"
        write_image(path, array, view.geometry, np.float32, description=synthetic_mark(code))
        write_text(folder / f"{code}_synthetic.json", json_text(synthetic_facts(result, code)))
    for code, array in completed_errors(view.completed, result.trust.get("completion", {})):
        path = folder / f"{code}_synthetic_error.nii.gz"
        description = f"expected error of {code}: {synthetic_mark(code)}"[:79]
        write_image(path, np.round(array, DECIMALS), view.geometry, np.float32, description=description)


def _write_probabilities(view: View, folder: Path) -> None:
    for region, array in view.probability.items():
        write_image(folder / f"probability_{region}.nii.gz", np.round(array, DECIMALS), view.geometry, np.float32)
    if view.entropy is not None:
        write_image(folder / "uncertainty.nii.gz", np.round(view.entropy, DECIMALS), view.geometry, np.float32)


def _write_cautious(result: Result, folder: Path) -> None:
    """Mask of the largest region that misses little of it, where the calibration promises one."""
    cautious, region = result.trust.get("cautious"), next(iter(result.view.probability), None)
    if cautious is not None and region is not None:
        mask = result.view.probability[region] >= cautious["threshold"]
        write_image(folder / f"{region}_cautious.nii.gz", mask.astype(np.uint8), result.view.geometry, np.uint8)
