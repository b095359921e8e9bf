"""Quality judge: how strongly an image is spoiled by each artifact, from its measures.

Every severity is a logistic function of the measures, fitted to images with simulated artifacts of known strength
(`experiments/quality_judge.py`): it estimates the strength, 0 none to 1 useless, on the scale of
`anymri.phantom.artifacts`.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from anymri.errors import UserError
from anymri.inference.trust.quality.agreement import AGREEMENT
from anymri.records import REINSTALL

__all__ = ["ARTIFACTS", "Limits", "judge_agreement", "judge_image", "limits_of", "predict_severity"]

#: Artifacts that are judged, by their names in `anymri.phantom.artifacts`, and what people call them.
ARTIFACTS = {
    "motion": "motion",
    "low_snr": "noise",
    "ghosting": "ghosting",
    "rf_overflow": "RF overflow",
    "aliasing": "wrap-around",
    "partial_coverage": "partial coverage",
    "missing_slices": "missing slices",
    "susceptibility": "signal drop-out near air",
    "bias_field": "uneven brightness (bias field)",
    "thick_slices": "thick slices",
    "gibbs": "blur and ringing",
    "spike": "stripes",
    "zipper": "a zipper line",
    "misregistration": "misregistration",
}
Numbers = NDArray[np.float64]


class Limits(NamedTuple):
    """Limits of the severity of one artifact in one sequence.

    Attributes
    ----------
    doubtful : float
        From here on a severity is worth a warning: of unspoiled images one in a hundred reaches it.
    unusable : float
        From here on segmentation was better without the sequence; infinite where it never was, or nobody looked.
    """

    doubtful: float
    unusable: float


def judge_image(measures: Mapping[str, float]) -> dict[str, float]:
    """Severity of every artifact that one image can show, 0 to 1.

    Parameters
    ----------
    measures : mapping of str to float
        From `anymri.inference.trust.quality.measures.measure_brain`.
    """
    arrays = _load()
    row = np.array([measures[str(name)] for name in arrays["names"]])
    found = predict_severity(arrays, "own", row)
    return dict(zip((str(name) for name in arrays["artifacts"]), found.tolist(), strict=True))


def judge_agreement(measures: Mapping[str, float]) -> float:
    """Severity of misregistration, 0 to 1.

    Parameters
    ----------
    measures : mapping of str to float
        From `anymri.inference.trust.quality.agreement.measure_agreement`.
    """
    return float(predict_severity(_load(), "pair", np.array([measures[name] for name in AGREEMENT]))[0])


def limits_of(artifact: str, code: str) -> Limits:
    """Limits of an artifact in a sequence.

    Parameters
    ----------
    artifact : str
        Of `ARTIFACTS`.
    code : str
        Modality; those that were not measured have no upper limit.
    """
    arrays = _load()
    row = list(ARTIFACTS).index(artifact)
    codes = [str(name) for name in arrays["codes"]]
    unusable = float(arrays["unusable"][row, codes.index(code)]) if code in codes else float("inf")
    doubtful = float(arrays["doubtful"][row])
    return Limits(doubtful, max(doubtful, unusable))


def predict_severity(arrays: Mapping[str, NDArray[Any]], part: str, rows: Numbers) -> Numbers:
    """Severities of images by their numbers.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        Fitted numbers.
    part : {"own", "pair"}
        One image alone, or against the others.
    rows : ndarray of float64, shape (..., F)

    Returns
    -------
    ndarray of float64, shape (..., A)
    """
    limit = float(arrays["clip"])
    scaled = np.clip((rows - arrays[f"{part} mean"]) / arrays[f"{part} spread"], -limit, limit)
    hidden = np.tanh(scaled @ arrays[f"{part} hidden"] + arrays[f"{part} hidden intercept"])
    logits = scaled @ arrays[f"{part} direct"] + hidden @ arrays[f"{part} output"] + arrays[f"{part} intercept"]
    found: Numbers = 1 / (1 + np.exp(-np.clip(logits, -30, 30)))
    return found


@lru_cache(maxsize=1)
def _load() -> dict[str, NDArray[Any]]:
    place = resources.files("anymri.inference.trust.quality") / "judge.npz"
    try:
        with place.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, EOFError, ValueError, BadZipFile, zlib.error) as error:  # the archive has a checksum of each array
        raise UserError(f"{place}: is damaged ({error}); {REINSTALL}") from None
