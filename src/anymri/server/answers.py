"""Answers of the server, one model each; docs/reference/http-api.md says what the fields mean."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "Accepted", "Dice", "Failure", "Health", "LimitsAnswer", "ModelRow", "Models", "NewRun", "Quality", "Region",
    "Relabel", "RunAnswer", "RunFile", "Sequence", "Studies", "StudyAnswer",
]  # fmt: skip

StudyStatus = Literal["receiving", "queued", "inspecting", "ready", "running", "done", "failed"]
RunStatus = Literal["queued", "running", "done", "failed"]
Completion = Literal["auto", "always", "never"]
Code = Field(min_length=1, max_length=32)


class Failure(BaseModel):
    """Why a request was refused."""

    detail: str = Field(description="One line: what, the problem, the remedy.")


class Accepted(BaseModel):
    """A study or run that was written down."""

    id: str
    run: str | None = Field(description="The run that waits; null where the study is only looked at.")
    links: dict[str, str]


class Quality(BaseModel):
    """Verdict on a sequence."""

    label: Literal["usable", "doubtful", "unusable"]
    words: str


class Sequence(BaseModel):
    """One file, or DICOM series, of a study."""

    file: str
    modality: str | None
    name: str | None
    given: str | None
    recognised: str | None
    warnings: list[str] = []
    quality: Quality | None = None
    href: str | None = None


class Dice(BaseModel):
    """Expected Dice of a region with the ends of its interval."""

    dice: float
    low: float
    high: float
    confidence: float
    n: int


class Region(BaseModel):
    """One region of the segmentation."""

    region: str
    name: str
    volume_ml: float | None
    unknown: str | None
    uncertain_ml: float | None
    dice: Dice | None
    words: str


class RunFile(BaseModel):
    """One file of a result."""

    name: str
    kind: str
    modality: str | None
    bytes: int
    type: str
    href: str


class RunAnswer(BaseModel):
    """One run."""

    id: str
    study: str
    status: RunStatus
    progress: float
    seconds_left: float | None
    created: float
    error: str | None
    model: str
    subset: list[str] | None
    completion: Completion
    formats: list[str]
    first_line: str | None = None
    trust: list[str] = []
    alarm: bool = False
    available: list[str] = []
    missing: list[str] = []
    completed: list[str] = []
    warnings: list[str] = []
    labels: dict[str, int] = {}
    notice: str | None = None
    regions: list[Region] = []
    files: list[RunFile] = []
    report: str | None = None
    sent: Literal["pending", "sent", "failed"] | None = None


class StudyAnswer(BaseModel):
    """One study with its runs."""

    id: str
    status: StudyStatus
    progress: float
    seconds_left: float | None
    created: float
    expires: float
    error: str | None
    dicom: bool
    raw: bool | None
    bytes: int
    ignored: int
    warnings: list[str]
    sequences: list[Sequence]
    runs: list[RunAnswer]
    links: dict[str, str | None]


class Studies(BaseModel):
    """Studies, the newest first."""

    studies: list[StudyAnswer]


class NewRun(BaseModel):
    """What to run."""

    model_config = ConfigDict(extra="forbid")
    model: str = Field(default="default", max_length=128)
    subset: list[str] | None = Field(default=None, max_length=32)
    completion: Completion = "auto"
    formats: list[str] = Field(default=["nifti"], min_length=1, max_length=8)


class Relabel(BaseModel):
    """Corrected labels: file to modality, null to leave it out."""

    model_config = ConfigDict(extra="forbid")
    sequences: dict[str, str | None] = Field(min_length=1, max_length=1000)


class ModelRow(BaseModel):
    """One model."""

    name: str
    summary: str
    modalities: list[str]
    method: str
    licence: str
    limits: str
    default: bool


class FormatRow(BaseModel):
    """One format of results."""

    name: str
    what: str
    from_dicom: bool


class Models(BaseModel):
    """Models and formats that can be asked for."""

    models: list[ModelRow]
    formats: list[FormatRow]
    modalities: dict[str, str]


class LimitsAnswer(BaseModel):
    """What the server takes, and for how long."""

    upload_bytes: int
    unpacked_bytes: int
    files: int
    waiting: int
    keep_s: float
    token: bool = Field(description="Whether a token is asked for.")
    demo: str | None = Field(default=None, description="Study of `anymri serve --demo`.")


class Health(BaseModel):
    """State of the server."""

    status: str
    version: str


Plain = dict[str, Any]
