"""The result of a prediction."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np

from anymri.data.dicom import DicomSource
from anymri.data.geometry import Geometry
from anymri.data.nifti import to_nibabel
from anymri.inference.output.raw_result import RawResult
from anymri.inference.pictures import brain_box, value_range
from anymri.inference.trust.completion import completed_errors, synthetic_mark
from anymri.inference.trust.quality import StudyQuality
from anymri.types import DataSpec, UserError

__all__ = [
    "LABEL_SCHEMES",
    "NOTICE",
    "LabelScheme",
    "Result",
    "SourceSeries",
    "View",
    "label_scheme",
    "scheme_table",
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
    probability : dict of str to float32 array
        Of every region.
    entropy : float32 array or None
        See `anymri.inference.trust.uncertainty.entropy`.
    geometry : Geometry
    """

    images: dict[str, Array]
    label: Array | None
    completed: dict[str, Array]
    probability: dict[str, Array]
    entropy: Array | None
    geometry: Geometry

    @cached_property
    def box(self) -> tuple[slice, slice, slice]:
        """Box around the brain of the first sequence, in which pictures are drawn."""
        return brain_box(next(iter(self.images.values())))

    @cached_property
    def limits(self) -> dict[str, tuple[float, float]]:
        """Values of every given sequence that are shown black and white."""
        return {code: value_range(image) for code, image in self.images.items()}

    @cached_property
    def doubt(self) -> Array | None:
        """Entropy where the first sequence shows brain, 0 elsewhere."""
        return None if self.entropy is None else np.where(next(iter(self.images.values())) != 0, self.entropy, 0)


class SourceSeries(NamedTuple):
    """DICOM series that a sequence of the study was read from.

    Attributes
    ----------
    slices : DicomSource
    geometry : Geometry
        Its grid: the third native axis goes through the slices.
    """

    slices: DicomSource
    geometry: Geometry


@dataclass(frozen=True, kw_only=True)
class Result:
    """Result of one prediction.

    Parameters
    ----------
    name : str
        What the study is called: its folder, or its file names.
    volumes_ml : dict of str to float or None
        Volume of every region in the segmentation; None where it is unknown.
    unknown : dict of str to str
        Regions that cannot be known from the sequences given, with the reason. The label map keeps what the model
        painted there, because the regions around it are counted with it.
    available, missing : tuple of str
        Sequences that were given, and those of the model that were not.
    label_values : dict of str to int
        Meaning of the segmentation's values.
    trust : dict
        ``measured``: see `anymri.inference.trust.measured.measured_summary`, None if nothing was measured; of a
        calibrated model ``expected`` (region to ``dice``, ``low``, ``high``, ``confidence``, ``n``), ``alarm``,
        ``margin``, ``cautious`` and ``gain``: see `anymri.inference.trust.expected.trust_in_study`;
        ``regions``: see `anymri.inference.trust.uncertainty.trust_summary`; ``sample_agreement`` if samples were drawn;
        ``completion``: see `anymri.inference.trust.completion.judge_completion`.
    warnings : tuple of str
        What is doubtful about this study and its result, the most important first, in plain words.
    provenance : dict
        Program, model and input, with checksums; no times and no places.
    spec : DataSpec
    view : View
        The arrays.
    raw : RawResult or None
        For raw studies: other native grids, transforms, how it was prepared.
    sources : dict of str to SourceSeries
        Of the sequences that came as DICOM.
    quality : StudyQuality or None
        Quality of every sequence that was given, also of those left out for it; None where it was not asked for.
    """

    name: str
    volumes_ml: dict[str, float | None]
    unknown: dict[str, str]
    available: tuple[str, ...]
    missing: tuple[str, ...]
    label_values: dict[str, int]
    trust: dict[str, Any]
    warnings: tuple[str, ...]
    provenance: dict[str, Any]
    spec: DataSpec
    view: View = field(repr=False)
    raw: RawResult | None = field(default=None, repr=False)
    sources: dict[str, SourceSeries] = field(default_factory=dict, repr=False)
    quality: StudyQuality | None = field(default=None, repr=False)

    @property
    def reference(self) -> str | None:
        """Sequence of a raw study on whose grid the result is; None where all sequences are on one grid."""
        return None if self.raw is None else self.raw.reference

    def label_on(self, code: str) -> Array | None:
        """Label map (D, H, W), values of the specification, on the grid of a sequence that was given."""
        return self.view.label if self.raw is None or code == self.raw.reference else self.raw.labels.get(code)

    @property
    def segmentation(self) -> Any:
        """Nibabel image of the label map (uint8), on the grid of the input; None for a model that only synthesises."""
        if self.view.label is None:
            return None
        return to_nibabel(scheme_table(self.spec, self.label_values)[self.view.label], self.view.geometry)

    @property
    def completed(self) -> dict[str, Any]:
        """Nibabel images of the synthesised missing sequences: z-scores (float32), on the grid of the input."""
        return {
            code: to_nibabel(array, self.view.geometry, description=synthetic_mark(code))
            for code, array in self.view.completed.items()
        }

    @property
    def completed_error(self) -> dict[str, Any]:
        """Nibabel images of how far off the completed sequences are on average, where that was measured (z-scores)."""
        maps = completed_errors(self.view.completed, self.trust.get("completion", {}))
        return {code: to_nibabel(array, self.view.geometry) for code, array in maps}

    @property
    def probability(self) -> dict[str, Any]:
        """Nibabel images of the probability of every region (float32, 0 to 1), on the grid of the input."""
        return {region: to_nibabel(array, self.view.geometry) for region, array in self.view.probability.items()}

    @property
    def uncertainty(self) -> Any:
        """Nibabel image of the entropy (float32, 0 sure to 1 clueless); None for a model that only synthesises."""
        return None if self.view.entropy is None else to_nibabel(self.view.entropy, self.view.geometry)

    def plot(self, index: int | None = None) -> Any:
        """Draw one axial slice of every sequence, see `anymri.inference.output.notebook.plot_result`."""
        from anymri.inference.output.notebook import plot_result

        return plot_result(self, index)

    def to_monai(self) -> dict[str, Any]:
        """MONAI dictionary of the result, see `anymri.inference.other_libraries.to_monai`."""
        from anymri.inference.other_libraries import to_monai

        return to_monai(self)

    def to_torchio(self) -> Any:
        """TorchIO subject of the result, see `anymri.inference.other_libraries.to_torchio`."""
        from anymri.inference.other_libraries import to_torchio

        return to_torchio(self)

    def _repr_html_(self) -> str:
        from anymri.inference.output.notebook import result_html

        return result_html(self)


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


def scheme_table(spec: DataSpec, scheme: dict[str, int]) -> Array:
    """Value in the specification to value in the file."""
    largest = max((255, *spec.labels.values(), *scheme.values()))
    table = np.arange(largest + 1, dtype=np.min_scalar_type(largest))
    for name, value in spec.labels.items():
        table[value] = scheme[name]
    return table
