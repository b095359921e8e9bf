"""What a phantom data set is made of: grid, settings and their checks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from anymri.errors import UserError

__all__ = ["CONTRASTS", "FIELD_OF_VIEW_MM", "GRADES", "MODALITIES", "PATHOLOGIES", "Grid", "PhantomSettings"]

#: Sequences of a phantom study, in the order of `anymri.types.GLIOMA.modalities`.
MODALITIES = ("t1", "t1c", "t2", "flair")
PATHOLOGIES = (
    "glioma", "glioma_resected", "metastases", "multiple_sclerosis", "wmh", "stroke", "stroke_subacute", "none",
)  # fmt: skip
GRADES = ("mixed", "low", "high")
CONTRASTS = ("physics", "random")

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
    multifocal_share : float, default=0.15
        Share of gliomas with two or three foci.
    wmh_share : float, default=0.7
        Share of subjects with white matter hyperintensities that are not part of the pathology (and not labelled).
    artifacts : dict of str to float
        Strength, 0 to 1, of the artifacts of `anymri.phantom.artifacts.ARTIFACTS` in all sequences, or in one:
        ``{"motion": 0.3, "flair:ghosting": 0.8}``.
    artifact_rate : float, default=0.0
        Share of the images that have one further artifact, drawn with its strength (0.2 to 1).

    Raises
    ------
    UserError
        If a value is out of range.
    """

    spacing_mm: float = 2.0
    pathology: str = "glioma"
    contrast: str = "physics"
    grade: str = "mixed"
    et_free_share: float = 0.3
    multifocal_share: float = 0.15
    wmh_share: float = 0.7
    artifacts: Mapping[str, float] = field(default_factory=dict)
    artifact_rate: float = 0.0

    def __post_init__(self) -> None:
        number = isinstance(self.spacing_mm, int | float) and math.isfinite(self.spacing_mm)
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
