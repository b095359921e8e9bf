"""Phantom settings: grid, choices and their checks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from pydantic import ConfigDict

from anymri.errors import UserError

__all__ = [
    "ANATOMIES",
    "CONTRASTS",
    "FIELD_OF_VIEW_MM",
    "GRADES",
    "MAPS",
    "MODALITIES",
    "PATHOLOGIES",
    "PERFUSION",
    "SCANNERS",
    "SEQUENCES",
    "Grid",
    "PhantomSettings",
]

#: Sequences of a phantom study unless others are asked for, in the order of `anymri.types.GLIOMA.modalities`.
MODALITIES = ("t1", "t1c", "t2", "flair")
#: Maps of blood supply.
PERFUSION = ("cbf", "cbv", "ttp", "tmax")
#: Maps of a physical quantity and the whole numbers a unit that they are stored in: ADC and MD in 10^-6 mm2/s, CBF in
#: 0.1 ml/100 g/min, CBV in 0.01 ml/100 g, times in 0.01 s. What is left out is in arbitrary units.
MAPS = {"adc": 1000, "md": 1000, "cbf": 10, "cbv": 100, "ttp": 100, "tmax": 100}
#: All sequences and maps that can be made, in their order.
SEQUENCES = (
    *MODALITIES, "pd", "mprage", "dir", "dwi", "adc", "md", "t2_spir", "t1_in", "t1_out", *PERFUSION,
)  # fmt: skip
PATHOLOGIES = (
    "glioma", "glioma_resected", "metastases", "multiple_sclerosis", "wmh", "stroke", "stroke_subacute", "none",
)  # fmt: skip
GRADES = ("mixed", "low", "high")
CONTRASTS = ("physics", "random")
SCANNERS = ("plain", "varied")
ANATOMIES = ("plain", "varied")

#: Size of the imaged volume (D, H, W): that of the BraTS data sets.
FIELD_OF_VIEW_MM = (155.0, 240.0, 240.0)


@dataclass(frozen=True)
class PhantomSettings:
    """Choices that hold for all subjects of a phantom data set; everything else is drawn per subject.

    Parameters
    ----------
    spacing_mm : float, default=2.0
        Isotropic voxel size, 0.5 to 8. The array shape follows: (155, 240, 240) at 1 mm, (78, 120, 120) at 2 mm.
    pathology : str, default="glioma"
        One of `PATHOLOGIES`.
    contrast : {"physics", "random"}, default="physics"
        ``physics``: signal equations with tissue constants. ``random``: strongly randomised intensities, sharpness
        and artifacts, for networks that must generalise to real scanners.
    grade : {"mixed", "low", "high"}, default="mixed"
        Of gliomas. ``mixed`` ranges over both, as `et_free_share` says.
    et_free_share : float, default=0.3
        Share of gliomas of mixed grade without any enhancement.
    core_share : tuple of float or None, default=None
        Least and largest share of the whole tumour that is core, in (0, 1), of gliomas; drawn evenly on a logarithmic
        scale, so that small cores are as frequent as large ones. None: as the grade has it.
    multifocal_share : float, default=0.15
        Share of gliomas with two or three foci.
    wmh_share : float, default=0.7
        Share of subjects with white matter hyperintensities that are not part of the pathology (and not labelled).
    artifacts : dict of str to float
        Strength, 0 to 1, of the artifacts of `anymri.phantom.artifacts.ARTIFACTS` in all sequences, or in one:
        ``{"motion": 0.3, "flair:ghosting": 0.8}``.
    artifact_rate : float, default=0.0
        Share of the images that have one further artifact, drawn with its strength (0.2 to 1).
    modalities : tuple of str or None, default=None
        Sequences of the study, from `SEQUENCES`; kept in that order. No image depends on which others there are. None:
        those of the layout that is written, else `MODALITIES`; see `sequences`.
    protocols : dict of str to float
        Quantities of a sequence that are given, not drawn: ``{"flair:ti_ms": 2200, "dwi:b_s_mm2": 800}``; the names
        are those of `anymri.phantom.contrast.protocol.KINDS`.
    scanner : {"plain", "varied"}, default="plain"
        ``varied``: T1, T1c, T2 and FLAIR too get the in-plane resolution, slice gap and image filter of a drawn kind of
        scanner, as all other sequences always do.
    anatomy : {"plain", "varied"}, default="plain"
        ``varied``: larger deformations, ventricles, atrophy and asymmetry, and deep nuclei; see
        `anymri.phantom.variation`. ``plain``: as in the frozen phantom40.
    skull : bool, default=False
        The whole head, not stripped: skull, scalp and air with noise around the same brain. Maps stay without.
    unaligned : bool, default=False
        Each sequence is written on a grid of its own, the head having moved: a raw study. Needs `skull`.

    Raises
    ------
    UserError
        If a value is out of range.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    spacing_mm: float = 2.0
    pathology: str = "glioma"
    contrast: str = "physics"
    grade: str = "mixed"
    et_free_share: float = 0.3
    core_share: tuple[float, float] | None = None
    multifocal_share: float = 0.15
    wmh_share: float = 0.7
    artifacts: Mapping[str, float] = field(default_factory=dict)
    artifact_rate: float = 0.0
    modalities: tuple[str, ...] | None = None
    protocols: Mapping[str, float] = field(default_factory=dict)
    scanner: str = "plain"
    anatomy: str = "plain"
    skull: bool = False
    unaligned: bool = False

    def __post_init__(self) -> None:
        number = type(self.spacing_mm) is not bool and isinstance(self.spacing_mm, int | float)
        if not number or not 0.5 <= self.spacing_mm <= 8:
            raise UserError(f"phantom: spacing {self.spacing_mm} mm is not possible; choose 0.5 to 8 mm")
        if self.pathology not in PATHOLOGIES:
            raise UserError(f"phantom: unknown pathology {self.pathology!r}; choose one of {', '.join(PATHOLOGIES)}")
        if self.contrast not in CONTRASTS:
            raise UserError(f"phantom: unknown contrast {self.contrast!r}; choose one of {', '.join(CONTRASTS)}")
        if self.grade not in GRADES:
            raise UserError(f"phantom: unknown grade {self.grade!r}; choose one of {', '.join(GRADES)}")
        for name in ("et_free_share", "multifocal_share", "wmh_share", "artifact_rate"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 <= value <= 1:
                raise UserError(f"phantom: {name} is {value}; it is a share from 0 to 1")
        if self.core_share is not None:
            low, high = self.core_share
            if not 0 < low <= high < 1:
                raise UserError(f"phantom: core_share is {low} to {high}; give two shares in (0, 1), the smaller first")
        if self.scanner not in SCANNERS:
            raise UserError(f"phantom: unknown scanner {self.scanner!r}; choose one of {', '.join(SCANNERS)}")
        if self.anatomy not in ANATOMIES:
            raise UserError(f"phantom: unknown anatomy {self.anatomy!r}; choose one of {', '.join(ANATOMIES)}")
        if self.unaligned and not self.skull:
            raise UserError("phantom: an unaligned study is a raw one, with skull; ask for both or neither")
        self._check_sequences()

    def _check_sequences(self) -> None:
        """Check modalities, which are put in order, and protocols."""
        from anymri.phantom.contrast.protocol import check_overrides

        if self.modalities is not None:
            asked = self.modalities
            unknown = [code for code in asked if code not in SEQUENCES]
            if unknown or isinstance(asked, str) or not asked:
                what = f"unknown modality {unknown[0]!r}" if unknown else f"modalities are {asked!r}"
                raise UserError(f"phantom: {what}; choose from {', '.join(SEQUENCES)}")
            object.__setattr__(self, "modalities", tuple(code for code in SEQUENCES if code in asked))
        if self.contrast == "random" and {key.partition(":")[0] for key in self.protocols} & set(MODALITIES):
            raise UserError("phantom: random contrast of t1, t1c, t2, flair has no protocol; use contrast physics")
        check_overrides(self.protocols, self.sequences)

    @property
    def sequences(self) -> tuple[str, ...]:
        """Sequences of a study, in order."""
        return MODALITIES if self.modalities is None else self.modalities


@dataclass(frozen=True)
class Grid:
    """A box of voxels inside the imaged volume; voxel i of an axis lies at (i + 0.5) x spacing from its start.

    Parameters
    ----------
    spacing_mm : float
        Isotropic voxel size.
    start, stop : tuple of int
        First voxel and end of the box (D, H, W), in voxels of the whole volume.
    """

    spacing_mm: float
    start: tuple[int, int, int]
    stop: tuple[int, int, int]

    @classmethod
    def whole(cls, spacing_mm: float) -> Grid:
        """The whole imaged volume at a voxel size."""
        depth, height, width = (max(1, math.floor(size / spacing_mm + 0.5)) for size in FIELD_OF_VIEW_MM)
        return cls(spacing_mm, (0, 0, 0), (depth, height, width))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels (D, H, W)."""
        depth, height, width = (stop - start for start, stop in zip(self.start, self.stop, strict=True))
        return depth, height, width

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """Where the box lies in an array of the whole volume."""
        depth, height, width = (slice(start, stop) for start, stop in zip(self.start, self.stop, strict=True))
        return depth, height, width

    def axes_mm(self) -> list[np.ndarray]:
        """Voxel centres of each axis in mm from the start of the imaged volume, shaped to broadcast as (D, H, W)."""
        axes = []
        for axis, (start, stop) in enumerate(zip(self.start, self.stop, strict=True)):
            shape = [1, 1, 1]
            shape[axis] = stop - start
            axes.append(((np.arange(start, stop) + 0.5) * self.spacing_mm).reshape(shape))
        return axes
