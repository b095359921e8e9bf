"""The result of a prediction."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from anymri.data.geometry import Geometry
from anymri.data.nifti import to_nibabel
from anymri.inference.output.raw_result import RawResult
from anymri.types import DataSpec, UserError

__all__ = [
    "LABEL_SCHEMES",
    "NOTICE",
    "LabelScheme",
    "Result",
    "View",
    "label_scheme",
    "scheme_table",
    "segmentation_image",
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
    return None if view.label is None else to_nibabel(scheme_table(spec, scheme)[view.label], view.geometry)


def scheme_table(spec: DataSpec, scheme: dict[str, int]) -> Array:
    """Value in the specification to value in the file."""
    table = np.arange(256, dtype=np.uint8)
    for name, value in spec.labels.items():
        table[value] = scheme[name]
    return table
