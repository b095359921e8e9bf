"""Table of many results: one row a study with volumes, expected Dice, quality, sequences, model, warnings, status."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from pydantic import ConfigDict

from anymri.errors import UserError
from anymri.inference.batch.record import BatchFolder
from anymri.inference.trust.measured import LOW_DICE
from anymri.records import check_record, read_json
from anymri.types import GLIOMA

__all__ = ["StudyRow", "columns", "read_rows", "table_text"]

#: What to do about a result that cannot be read.
_REMEDY = "predict the study again"
_FIRST = ("study", "status", "reason", "sequences", "missing")
#: Columns of the expected Dice and what they are called in the result.
_KINDS = {"expected": "dice", "low": "low", "high": "high"}
_LAST = ("unknown", "warnings", "model", "weights_sha256", "program", "result")


@dataclass(frozen=True, kw_only=True)
class _Provenance:
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)

    model: str
    weights_sha256: str
    program: str


@dataclass(frozen=True, kw_only=True)
class _Sequence:
    """Of the part ``quality`` of a result."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="ignore", strict=True)

    verdict: str


@dataclass(frozen=True, kw_only=True)
class _Quality:
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="ignore", strict=True)

    sequences: dict[str, _Sequence]


@dataclass(frozen=True, kw_only=True)
class _Expected:
    """Dice that is expected of a region, with its interval; null where nobody knows."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)

    dice: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class _Score:
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="ignore", strict=True)

    median: float | None


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """What the model reached with these sequences in patients that it had not seen."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="ignore", strict=True)

    regions: dict[str, _Score]
    low: list[str]


@dataclass(frozen=True, kw_only=True)
class _Trust:
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="ignore", strict=True)

    expected: dict[str, _Expected] | None = None
    measured: _Measured | None = None


@dataclass(frozen=True, kw_only=True)
class _Result:
    """What the table takes from ``result.json``."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)

    available: list[str]
    missing: list[str]
    volumes_ml: dict[str, float | None]
    unknown: dict[str, str]
    warnings: list[str]
    trust: _Trust
    provenance: _Provenance
    quality: _Quality | None = None
    scope: str = ""


@dataclass(frozen=True, kw_only=True)
class StudyRow:
    """A row of the table.

    Parameters
    ----------
    study : str
        Its id.
    status : {"done", "failed"}
    values : dict of str to str, float or None
        By column, without those that are empty.
    warnings : list of str
    low : list of str
        Regions that little is to be expected of.
    scope : str
        What the model takes every study for.
    result, thumbnail : Path or None
        Result folder and picture, where there are such.
    """

    study: str
    status: str
    values: dict[str, str | float | None]
    warnings: list[str] = field(default_factory=list)
    low: list[str] = field(default_factory=list)
    scope: str = ""
    result: Path | None = None
    thumbnail: Path | None = None


def read_rows(outs: Sequence[Path]) -> list[StudyRow]:
    """Read what is finished or failed in result folders and folders of these.

    Parameters
    ----------
    outs : sequence of Path
        Folders of batches, folders that hold result folders, or result folders.

    Returns
    -------
    list of StudyRow
        Sorted by study.

    Raises
    ------
    UserError
        If a folder holds no result, or two have one of the same study.
    """
    rows: dict[str, StudyRow] = {}
    origin: dict[str, Path] = {}
    for out in outs:
        found = _read_folder(out)
        if not found and not BatchFolder(out).records.is_dir():
            raise UserError(f"{out}: holds no result; give folders that `anymri predict` wrote")
        for row in found:
            if row.study in rows:
                raise UserError(
                    f"{out}: has study {row.study}, as has {origin[row.study]}; give one of the two folders"
                )
            rows[row.study], origin[row.study] = row, out
    return [rows[name] for name in sorted(rows)]


def _read_folder(out: Path) -> list[StudyRow]:
    folder = BatchFolder(out)
    if folder.records.is_dir():
        return [_read_study(folder, path.stem) for path in sorted(folder.records.glob("*.json"))]
    places = [out] if (out / "result.json").is_file() else sorted(path for path in out.iterdir() if path.is_dir())
    return [_read_result(place.resolve().name, place, None) for place in places if (place / "result.json").is_file()]


def _read_study(folder: BatchFolder, study: str) -> StudyRow:
    record, result, thumbnail = folder.read(study), folder.result(study), folder.thumbnail(study)
    if record is not None and record.status == "failed":
        return _failed(study, record.reason)
    if record is None or not (result / "result.json").is_file():
        return _failed(study, f"its {'record is damaged' if record is None else 'result is gone'}; {_REMEDY}")
    return _read_result(study, result, thumbnail if thumbnail.is_file() else None)


def _failed(study: str, reason: str) -> StudyRow:
    return StudyRow(study=study, status="failed", values={"study": study, "status": "failed", "reason": reason})


def _read_result(study: str, folder: Path, thumbnail: Path | None) -> StudyRow:
    path = folder / "result.json"
    try:
        result = check_record(read_json(path, _REMEDY), _Result, path, _REMEDY)
    except UserError as error:
        return _failed(study, str(error))
    values: dict[str, str | float | None] = {
        "study": study,
        "status": "done",
        "sequences": "+".join(result.available),
        "missing": "+".join(result.missing),
        **{f"{region}_ml": volume for region, volume in result.volumes_ml.items()},
        **_dice(result.trust),
        **{
            f"quality_{code}": found.verdict
            for code, found in (result.quality.sequences if result.quality else {}).items()
        },
        "unknown": " | ".join(f"{region}: {reason}" for region, reason in result.unknown.items()),
        "warnings": " | ".join(result.warnings),
        "model": result.provenance.model,
        "weights_sha256": result.provenance.weights_sha256,
        "program": result.provenance.program,
    }
    return StudyRow(
        study=study,
        status="done",
        values=values,
        warnings=result.warnings,
        low=_low(result.trust),
        scope=result.scope,
        result=folder,
        thumbnail=thumbnail,
    )


def _dice(trust: _Trust) -> dict[str, float | None]:
    """Columns of the Dice that is expected of this study, with its interval, and of the one measured in others."""
    values: dict[str, float | None] = {}
    for region, found in (trust.expected or {}).items():
        values |= {f"{region}_dice_{kind}": _rounded(getattr(found, key)) for kind, key in _KINDS.items()}
    scores = trust.measured.regions if trust.measured else {}
    return values | {f"{region}_dice_measured": _rounded(score.median) for region, score in scores.items()}


def _rounded(dice: float | None) -> float | None:
    return None if dice is None else round(dice, 4)


def _low(trust: _Trust) -> list[str]:
    """Regions called low, as `anymri.inference.trust.measured.is_low` calls them."""
    expected, others = trust.expected or {}, trust.measured.low if trust.measured else []
    known = {region: found.dice for region, found in expected.items() if found.dice is not None}
    return [region for region in {**known, **dict.fromkeys(others)} if known.get(region, 0.0) < LOW_DICE]


def columns(rows: Iterable[StudyRow]) -> list[str]:
    """Columns that the rows fill, always in one order: volumes, expected Dice and quality in the middle."""
    found = {name for row in rows for name in row.values} - {*_FIRST, *_LAST}
    kinds = ("_ml", *(f"_dice_{kind}" for kind in _KINDS), "_dice_measured")
    regions = {name.removesuffix(kind) for name in found for kind in kinds if name.endswith(kind)}
    ordered = [*(region for region in GLIOMA.regions if region in regions), *sorted(regions - set(GLIOMA.regions))]
    middle = [f"{region}_ml" for region in ordered] + [f"{region}{kind}" for region in ordered for kind in kinds[1:]]
    middle += sorted(found - set(middle))
    return [*_FIRST, *(name for name in middle if name in found), *_LAST]


def table_text(rows: Sequence[StudyRow], beside: Path) -> str:
    """The table as CSV (UTF-8, commas, a line for each study).

    Parameters
    ----------
    rows : sequence of StudyRow
    beside : Path
        Folder of the table; results are named relative to it.
    """
    text = io.StringIO()
    names = columns(rows)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        result = {} if row.result is None else {"result": Path(os.path.relpath(row.result, beside)).as_posix()}
        writer.writerow([(row.values | result).get(name) for name in names])
    return text.getvalue()
