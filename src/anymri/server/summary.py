"""Summary of a run for pages, and the source that a run reads: a study as it was sent and labelled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anymri.errors import UserError
from anymri.inference.one_study import StudySource
from anymri.inference.output.first_line import first_line, is_usable
from anymri.inference.output.result import NOTICE, Result
from anymri.inference.trust.measured import trust_line
from anymri.inference.trust.told import trust_sentences
from anymri.inference.words import title

__all__ = ["source_of", "summary_of"]


def source_of(
    upload: Path, told: dict[str, Any], found: dict[str, Any], subset: list[str] | None, wanted: Sequence[str]
) -> StudySource:
    """Where a run finds its images.

    A study as it came, without corrected labels, is read as `anymri predict FOLDER` or ``--t1 FILE ...`` reads it.

    Parameters
    ----------
    upload : Path
    told : dict
        See `anymri.server.inspection.inspect_study`.
    found : dict
        What that gave.
    subset : list of str or None
        Sequences asked for; None = all that the model takes.
    wanted : sequence of str
        Sequences of the model.

    Raises
    ------
    UserError
        If no sequence is left, or one that was asked for is not there.
    """
    labelled = {row["modality"]: row["path"] for row in found["sequences"] if row["modality"] is not None}
    usable = {code: path for code, path in labelled.items() if code in wanted}
    asked = None if subset is None else tuple(code for code in wanted if code in subset)
    absent = [] if subset is None else [code for code in subset if code not in usable]
    if absent:
        raise UserError(f"{absent[0]}: is not among the sequences of this study that the model takes; choose others")
    if not usable:
        raise UserError(f"study: no sequence is labelled as one of {', '.join(wanted)}; correct the labels")
    folder = None if told["folder"] is None else upload / told["folder"]
    if folder is None:
        chosen = asked or tuple(usable)
        return StudySource(files={code: str(upload / path) for code, path in usable.items() if code in chosen})
    if not told.get("labels"):
        return StudySource(folder=folder, subset=asked)
    place = "" if found["dicom"] else f"{upload}/"
    files = {code: f"{place}{path}" for code, path in usable.items()}
    return StudySource(folder=folder, files=files, subset=asked or tuple(usable))


def summary_of(result: Result, folder: Path) -> dict[str, Any]:
    """What pages show of a result: the fields of `anymri.server.answers.RunAnswer` that a run fills.

    Parameters
    ----------
    result : Result
    folder : Path
        Where it was written.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    listed = [{"name": path.relative_to(folder).as_posix(), "bytes": path.stat().st_size} for path in files]
    judged = {} if result.quality is None else result.quality.sequences
    return {
        "first_line": first_line(result),
        "trust": trust_sentences(result.trust, result.spec),
        "alarm": not is_usable(result),
        "available": list(result.available),
        "missing": list(result.missing),
        "completed": sorted(result.view.completed),
        "warnings": list(result.warnings),
        "labels": {} if result.view.label is None else result.label_values,
        "notice": NOTICE,
        "regions": [_region(result, region) for region in result.volumes_ml],
        "quality": {code: {"label": found.verdict, "words": found.reason} for code, found in judged.items()},
        "files": listed,
        "bytes": sum(entry["bytes"] for entry in listed),
    }


def _region(result: Result, region: str) -> dict[str, Any]:
    volume = result.volumes_ml[region]
    expected = result.trust.get("expected", {}).get(region)
    sure = result.trust["regions"].get(region)
    return {
        "region": region,
        "name": title(region),
        "volume_ml": None if volume is None else round(volume, 3),
        "unknown": result.unknown.get(region),
        "uncertain_ml": None if sure is None else sure["uncertain_ml"],
        "dice": expected,
        "words": result.unknown.get(region) or trust_line(result.trust, region),
    }
