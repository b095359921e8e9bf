"""Records of an evaluation: settings stored in a results table, pictures and saved predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt

from anymri.modalities import MODALITIES
from anymri.records import RECORD, Digest, check_record

__all__ = ["Picture", "Pictures", "PredictionsCard", "TableSettings", "check_settings", "require_codes"]

Code = Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
Size = tuple[PositiveInt, PositiveInt, PositiveInt]


def require_codes(codes: list[str]) -> list[str]:
    """Codes of modalities, each once.

    Raises
    ------
    ValueError
        If one is unknown or comes twice.
    """
    for code in codes:
        if code not in MODALITIES or codes.count(code) > 1:
            raise ValueError(f"{code!r} is no modality or comes twice")
    return codes


def _subset(name: str) -> str:
    require_codes(name.split("+"))
    return name


@dataclass(frozen=True, kw_only=True)
class Training:
    """What one network learned from; None where its weights do not say."""

    __pydantic_config__: ClassVar[ConfigDict] = RECORD

    subset: str | None = None
    subjects: NonNegativeInt | None = None
    dropped: dict[str, NonNegativeInt] | None = None
    code: Code | None = None


@dataclass(frozen=True, kw_only=True)
class Segmenter:
    """A segmenter that completed studies were given to."""

    __pydantic_config__: ClassVar[ConfigDict] = RECORD

    run: str
    method: str
    preset: str
    weights: Code
    training: list[Training]
    code: Code | None = None


@dataclass(frozen=True, kw_only=True)
class Windows:
    """How volumes were cut and computed."""

    __pydantic_config__: ClassVar[ConfigDict] = RECORD

    spacing_mm: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None
    window: Size | Annotated[list[PositiveInt], Field(max_length=0)] | None = None
    overlap: Annotated[float, Field(ge=0, lt=1)] | None = None
    batch_size: PositiveInt | None = None
    precision: str | None = None
    device: str | None = None


@dataclass(frozen=True, kw_only=True)
class TableSettings:
    """What is stored beside the rows of a results table; ``tables`` only where several were joined."""

    __pydantic_config__: ClassVar[ConfigDict] = RECORD

    format: Literal[1] | None = None
    rows_sha256: Digest | None = None
    run: str | None = None
    protocol: str | None = None
    method: str | None = None
    dataset: str | None = None
    fold: int | None = None
    seed: int | None = None
    modalities: Annotated[list[str], AfterValidator(require_codes)] | None = None
    subsets: list[Annotated[str, AfterValidator(_subset)]] | None = None
    subjects: list[str] | None = None
    dataset_fingerprint: str | None = None
    reference_fingerprint: str | None = None
    weights: Code | None = None
    parameters: NonNegativeInt | None = None
    training: list[Training] | None = None
    code: Code | None = None
    metrics: Literal["standard", "full"] | None = None
    downstream: Segmenter | None = None
    then: Segmenter | None = None
    settings: Windows | None = None
    versions: dict[str, str] | None = None
    stamp: str | None = None
    tables: list[TableSettings] | None = None


def check_settings(values: Any, source: object, remedy: str) -> TableSettings:
    """Settings of a results table, held against their model.

    Raises
    ------
    UserError
        If a value does not fit; tables of older versions, which have no format, may say more.
    """
    if isinstance(values, Mapping) and "format" not in values:
        known = {entry.name for entry in fields(TableSettings)}
        values = {key: value for key, value in values.items() if key in known}
    return check_record(values, TableSettings, source, remedy)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture of a results table."""

    __pydantic_config__: ClassVar[ConfigDict] = RECORD

    run: str = ""
    protocol: str = ""
    dataset: str = ""
    method: str
    subject: str
    subset: str
    rank: str
    file: str
    dice: dict[str, Annotated[float, Field(ge=0, le=1)] | None]
    seen_in_training: bool = False
    sha256: Digest | None = None


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Content of ``index.json`` beside pictures; without format and checksums, it is of an older version."""

    __pydantic_config__: ClassVar[ConfigDict] = RECORD

    format: Literal[1] | None = None
    legend: str
    pictures: list[Picture]


@dataclass(frozen=True, kw_only=True)
class PredictionsCard:
    """Content of ``predictions.json``."""

    __pydantic_config__: ClassVar[ConfigDict] = RECORD

    format: Literal[1]
    identity: Digest
    run: str
    method: str
    dataset: str
    labels: dict[str, int]
    grid: str
    completed: str
