"""Records of a run: its card `run.json`, the pointer `checkpoint.json` and the lines of `log.jsonl`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from anymri.records import RECORD, Digest

__all__ = ["LogRow", "Pointer", "RunCard", "Slot"]

Code = Annotated[str, Field(pattern="^[0-9a-f]{16}$")]


@dataclass(frozen=True, kw_only=True)
class SubjectNames:
    """Sites or classes of the cohort, sorted, and those of the training subjects."""

    __pydantic_config__: ClassVar[ConfigDict] = RECORD

    names: list[str]
    subjects: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class StageFacts:
    """How many subjects a stage has, and why others are left out of it."""

    __pydantic_config__: ClassVar[ConfigDict] = RECORD

    subjects: NonNegativeInt
    left_out: dict[str, NonNegativeInt]


@dataclass(frozen=True, kw_only=True)
class RunCard:
    """Content of ``run.json``, see ``docs/reference/formats.md``; cards without a format are of older versions."""

    __pydantic_config__: ClassVar[ConfigDict] = RECORD

    format: Literal[1] | None = None
    run: str
    identity: Digest
    dataset_fingerprint: Digest
    training_subjects: list[str]
    validation_subjects: list[str]
    stages: list[dict[str, Any]]
    start: str
    parameters: NonNegativeInt
    code: Code | None = None
    dropped_subjects: dict[str, NonNegativeInt] = field(default_factory=dict)
    stage_subjects: dict[str, StageFacts] | None = None
    hidden: dict[str, str] | None = None
    site: SubjectNames | None = None
    class_label: SubjectNames | None = None
    tables: Digest | None = None


@dataclass(frozen=True, kw_only=True)
class Slot:
    """A checkpoint and the sha256 of its bytes."""

    __pydantic_config__: ClassVar[ConfigDict] = RECORD

    file: Literal["checkpoint-a.pt", "checkpoint-b.pt"]
    sha256: Digest


@dataclass(frozen=True, kw_only=True)
class Pointer:
    """Content of ``checkpoint.json``: the checkpoint that counts, and the one before."""

    __pydantic_config__: ClassVar[ConfigDict] = RECORD

    format: Literal[1]
    current: Slot
    previous: Slot | None


@dataclass(frozen=True, kw_only=True)
class LogRow:
    """What is read of a line of ``log.jsonl``; it may hold more."""

    __pydantic_config__: ClassVar[ConfigDict] = {**RECORD, "extra": "ignore"}

    run: str | None = None
    parameters: NonNegativeInt | None = None
    stage: str | None = None
    epoch: PositiveInt | None = None
    step: NonNegativeInt | None = None
    loss: float | None = None
    terms: dict[str, float | None] | None = None
    validation: dict[str, dict[str, float | None]] | None = None
    validation_metric: str | None = None
    seconds: NonNegativeFloat | None = None
