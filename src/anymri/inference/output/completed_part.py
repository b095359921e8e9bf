"""Completed sequences in the report: what each is worth, and pictures that carry the word SYNTHETIC."""

from __future__ import annotations

from typing import Any

from anymri.inference.output.result import Result
from anymri.inference.pictures import Plane, data_uri, heat_picture, montage_png, slice_picture, value_range
from anymri.inference.trust.completion import completed_errors
from anymri.inference.words import sequence_names
from anymri.modalities import MODALITIES

__all__ = ["completed_part"]

#: Error shown in the lightest colour, in standard deviations of the brain.
LARGEST_ERROR = 2.0


def completed_part(result: Result, slices: dict[Plane, int]) -> dict[str, Any]:
    """What the report says and shows of the sequences that were not given.

    Parameters
    ----------
    result : Result
    slices : dict
        Plane to index.

    Returns
    -------
    dict
        ``rows``, one for each sequence not given that the model can make; ``pictures``; ``measured_on``.
    """
    judged = result.trust.get("completion", {})
    found = [facts["measured_on"] for facts in judged.values() if facts["measured_on"]]
    return {
        "rows": [_row(result, code, facts) for code, facts in judged.items()],
        "pictures": _pictures(result, slices),
        "measured_on": found[0] if found else None,
        "source": sequence_names(result.available),
        "largest": LARGEST_ERROR,
    }


def _row(result: Result, code: str, facts: dict[str, Any]) -> dict[str, Any]:
    score = facts["score"]
    row = {
        "name": MODALITIES[code].short_name,
        "state": "filled in (synthetic)" if code in result.view.completed else "not filled in",
        "beats": facts["beats_copying"],
        "score": score,
    }
    if score is None:
        return row
    return row | {"copied": MODALITIES[score["copied"]].short_name}


def _pictures(result: Result, slices: dict[Plane, int]) -> list[dict[str, str]]:
    """Three planes of every completed sequence, then of its expected error where that was measured."""
    view = result.view
    errors = dict(completed_errors(view.completed, result.trust.get("completion", {})))
    options: dict[str, Any] = {
        "box": view.box,
        "spacing_mm": view.geometry.spacing_mm,
    }
    strips = []
    for code, image in view.completed.items():
        name, limits = MODALITIES[code].short_name, value_range(image)
        drawn = [
            slice_picture(image, plane=plane, index=index, stamp=f"SYNTHETIC {name}", limits=limits, **options)
            for plane, index in slices.items()
        ]
        text = f"SYNTHETIC {name}, three planes: computed from {sequence_names(result.available)}, not measured"
        if code in errors:
            share = errors[code] / LARGEST_ERROR
            mark = f"error of SYNTHETIC {name}"
            drawn.append(heat_picture(image, share, stamp=mark, limits=limits, index=slices["axial"], **options))
            text += "; on the right how far off such a voxel is on average"
        strips.append({"uri": data_uri(montage_png(drawn)), "text": text})
    return strips
