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
    for code, array in view.completed.items():
        (folder / "completed").mkdir(exist_ok=True)
        write_image(folder / "completed" / f"{code}_synthetic.nii.gz", array, view.geometry, np.float32)
        write_text(folder / "completed" / f"{code}_synthetic.json", json_text(synthetic_facts(result, code)))
    if result.raw is not None:
        write_native(result.raw, folder, table)
    if options.probabilities:
        _write_probabilities(view, folder)


def synthetic_facts(result: Result, code: str) -> dict[str, Any]:
    """What is said beside a completed sequence in every format: that it is synthetic, of what, by which model.

    Parameters
    ----------
    result : Result
    code : str
        Modality that was completed.
    """
    return {
        "synthetic": True,
        "modality": code,
        "units": "z-score inside the brain, 0 outside",
        "made_from": list(result.available),
        "model": result.provenance["model"],
        "notice": NOTICE,
    }


def _write_probabilities(view: View, folder: Path) -> None:
    for region, array in view.probability.items():
        write_image(folder / f"probability_{region}.nii.gz", np.round(array, DECIMALS), view.geometry, np.float32)
    if view.entropy is not None:
        write_image(folder / "uncertainty.nii.gz", np.round(view.entropy, DECIMALS), view.geometry, np.float32)
