"""Records of a cache: its settings (`dataset.json`) and what a sidecar says of one subject."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from anymri.records import RECORD, Digest
from anymri.types import STATISTICS, SpecRecord

__all__ = ["FORMAT_VERSION", "SUBJECT_FACTS", "CacheSettings", "Sidecar"]

#: Raised whenever cached values would come out differently, or the records of a cache change their form.
FORMAT_VERSION = 3

#: What a sidecar tells of a subject beside its voxels, where it is known.
SUBJECT_FACTS = ("site", "class_label")

Row = tuple[float, float, float, float]
Size = tuple[PositiveInt, PositiveInt, PositiveInt]
Spacing = tuple[PositiveFloat, PositiveFloat, PositiveFloat]
Corner = tuple[NonNegativeInt, NonNegativeInt, NonNegativeInt]
Turn = tuple[float, float, float]
SideName = Annotated[str, Field(pattern=r"^[0-9.]+(-[0-9.]+){2}$")]
Place = tuple[NonNegativeFloat, NonNegativeFloat, NonNegativeFloat]


@dataclass(frozen=True, kw_only=True)
class CacheSettings:
    """Content of ``dataset.json``.

    Parameters
    ----------
    format : int
    spacing_mm : tuple of float or None
        Wanted spacing (D, H, W); None = each subject keeps its own.
    spec : SpecRecord
    """

    __pydantic_config__: ClassVar[ConfigDict] = RECORD

    format: Literal[3]
    spacing_mm: Spacing | None
    spec: SpecRecord


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A file that a subject was made from: name, size in bytes, sha256."""

    __pydantic_config__: ClassVar[ConfigDict] = RECORD

    file: str
    bytes: NonNegativeInt
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Sidecar:
    """Content of a subject's JSON file; the fields are explained in ``docs/reference/formats.md``."""

    __pydantic_config__: ClassVar[ConfigDict] = RECORD

    format: Literal[3]
    subject_id: str
    affine: tuple[Row, Row, Row, Row]
    turn: tuple[Turn, Turn, Turn] | None = None
    native_shape: Size
    native_orientation: Annotated[str, Field(pattern="^[LRAPSI]{3}$")]
    native_spacing_mm: Spacing
    shape: Size
    spacing_mm: Spacing
    present: tuple[str, ...]
    anchor: Place
    place: Corner
    step: Spacing
    middles: dict[str, Place]
    boxes: dict[str, tuple[Corner, Corner]]
    statistics: dict[str, dict[str, float]]
    sides: dict[SideName, Digest] = field(default_factory=dict)
    image_sha256: Digest
    label_sha256: Digest | None
    sources: dict[str, SourceFile] = field(default_factory=dict)
    key: Digest
    site: str = ""
    class_label: str = ""

    def __post_init__(self) -> None:
        for name, codes in (("boxes", self.boxes), ("middles", self.middles), ("statistics", self.statistics)):
            if set(codes) != set(self.present):
                raise ValueError(f"{name} and present name different modalities")
        for code, numbers in self.statistics.items():
            if set(numbers) != set(STATISTICS) or numbers["std"] <= 0:
                raise ValueError(f"statistics.{code} needs {', '.join(STATISTICS)}, std above 0")
        for code, (start, stop) in self.boxes.items():
            if not all(a < b <= size for a, b, size in zip(start, stop, self.shape, strict=True)):
                raise ValueError(f"boxes.{code} is not within shape")
