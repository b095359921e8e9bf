"""Description of studies and runs as the server answers them, from what the store holds."""

from __future__ import annotations

import math
import mimetypes
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple
from urllib.parse import quote

from anymri.modalities import MODALITIES
from anymri.server.answers import RunAnswer, RunFile, Sequence, StudyAnswer, StudyStatus

__all__ = ["Clock", "describe_run", "describe_study", "job_class"]

#: Time that is supposed for a job of which none was done yet, in seconds; `seconds_left` stays unknown then.
SUPPOSED_S = 60.0
#: Largest progress that an estimate may tell.
MOST = 0.95
#: Share of the work that looking at a study counts for.
LOOKING = 0.1
#: Name of a file's place in a result to its kind, by its beginning.
_BEGINNINGS = {
    "probability_": "probability", "uncertainty": "uncertainty", "segmentation.": "segmentation", "quality/": "quality",
    "native/": "native_segmentation", "raw/brain_mask": "brain_mask", "surface": "surface", "bids": "bids",
    "report.html": "report", "result.json": "facts",
}  # fmt: skip


class Clock(NamedTuple):
    """What is known of the time of jobs.

    Attributes
    ----------
    elapsed : callable
        Number of a job to the seconds since it began, or None.
    usual : callable
        Class of jobs to the seconds that they take, or None.
    """

    elapsed: Callable[[int], float | None]
    usual: Callable[[str], float | None]


def job_class(kind: str, *, dicom: bool, raw: bool) -> str:
    """Class of jobs that take about as long."""
    return f"{kind} {'dicom' if dicom else 'raw' if raw else 'brain'}"


def describe_study(study: dict[str, Any], clock: Clock, root: str = "") -> StudyAnswer:
    """A study with its runs.

    Parameters
    ----------
    study : dict
        From `anymri.server.store.Store.study`.
    clock : Clock
    root : str, default=""
        In front of every link.
    """
    here = f"{root}/studies/{study['id']}"
    found = study["inspected"] or {}
    runs = [describe_run(study, run, clock, root) for run in study["runs"]]
    status, error, progress, left = _state(study, runs, clock)
    done = next((run for run in reversed(runs) if run.status == "done"), None)
    judged = _judged(study["runs"])
    return StudyAnswer(
        id=study["id"], status=status, progress=round(progress, 3), seconds_left=left, created=study["created"],
        expires=study["expires"], error=error, dicom=bool(found.get("dicom")), raw=found.get("raw"),
        bytes=study["bytes"], ignored=study["upload"].get("ignored", 0), warnings=found.get("warnings", []),
        sequences=[_sequence(row, here, judged) for row in found.get("sequences", [])], runs=runs,
        links={"self": here, "runs": f"{here}/runs", "report": f"{here}/report" if done else None},
    )  # fmt: skip


def describe_run(study: dict[str, Any], run: dict[str, Any], clock: Clock, root: str = "") -> RunAnswer:
    """One run of a study."""
    here = f"{root}/studies/{study['id']}/runs/{run['id']}"
    job = next(job for job in study["jobs"] if job["run"] == run["id"] and job["kind"] == "run")
    request, told = run["request"], dict(run["summary"] or {})
    names = {entry["name"]: entry["bytes"] for entry in told.pop("files", [])}
    for key in ("bytes", "quality"):
        told.pop(key, None)
    progress, left = _progress(study, job, clock)
    done = job["status"] == "done"
    return RunAnswer(
        id=run["id"], study=study["id"], status=job["status"], progress=round(progress, 3), seconds_left=left,
        created=run["created"], error=job["error"] if job["status"] == "failed" else None,
        **{key: request[key] for key in ("model", "subset", "completion", "formats")}, **told,
        files=[_file(name, size, here) for name, size in names.items()] if done else [],
        report=f"{here}/report" if done else None, sent=run["sent"],
    )  # fmt: skip


def _state(
    study: dict[str, Any], runs: list[RunAnswer], clock: Clock
) -> tuple[StudyStatus, str | None, float, float | None]:
    """Status, error, progress and seconds left of a study."""
    looks = [job for job in study["jobs"] if job["kind"] == "inspect"]
    look = looks[-1] if looks else {"status": "done"}
    if study["receiving"]:
        return "receiving", None, 0.0, None
    if look["status"] == "failed":
        return "failed", look["error"], 1.0, None
    if look["status"] != "done":
        progress, left = _progress(study, look, clock)
        status: StudyStatus = "queued" if look["status"] == "queued" else "inspecting"
        return status, None, LOOKING * progress if runs else progress, left
    if any(run.status in ("queued", "running") for run in runs):
        progress = min(run.progress for run in runs if run.status in ("queued", "running"))
        lefts = [run.seconds_left for run in runs if run.status in ("queued", "running")]
        left = None if None in lefts else sum(value for value in lefts if value is not None)
        return "running", None, LOOKING + (1 - LOOKING) * progress, left
    if not runs:
        return "ready", None, 1.0, None
    failed = runs[-1].status == "failed"
    return ("failed" if failed else "done"), runs[-1].error, 1.0, None


def _progress(study: dict[str, Any], job: dict[str, Any], clock: Clock) -> tuple[float, float | None]:
    """Progress and seconds left of a job, by what earlier ones took."""
    if job["status"] in ("done", "failed"):
        return 1.0, None
    found = study["inspected"] or {}
    usual = clock.usual(job_class(job["kind"], dicom=bool(found.get("dicom")), raw=bool(found.get("raw"))))
    elapsed = clock.elapsed(job["number"])
    if elapsed is None or job["status"] == "queued":
        return 0.0, None if usual is None else round(usual, 1)
    progress = min(MOST, 1 - math.exp(-elapsed / SUPPOSED_S) if usual is None else elapsed / max(usual, 0.1))
    return progress, None if usual is None else round(max(1.0, usual - elapsed), 1)


def _judged(runs: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Quality of sequences as runs judged it, the newest last."""
    judged: dict[str, Any] = {}
    for run in runs:
        judged |= (run["summary"] or {}).get("quality", {})
    return judged


def _sequence(row: dict[str, Any], here: str, judged: dict[str, Any]) -> Sequence:
    """One sequence; what a run judged stands in for what the look at a raw study could not."""
    code = row["modality"]
    image = row.get("image")
    return Sequence(
        file=row["file"], modality=code, name=MODALITIES[code].long_name if code in MODALITIES else None,
        given=row["given"], recognised=row["recognised"], warnings=row["warnings"],
        quality=row["quality"] or judged.get(code), href=f"{here}/files/{quote(image)}" if image else None,
    )  # fmt: skip


def _file(name: str, size: int, here: str) -> RunFile:
    kind, modality = _kind(name)
    type_of = "application/dicom" if name.endswith(".dcm") else mimetypes.guess_type(name)[0]
    type_of = "application/gzip" if name.endswith(".gz") else type_of or "application/octet-stream"
    href = f"{here}/files/{quote(name)}"
    return RunFile(name=name, kind=kind, modality=modality, bytes=size, type=type_of, href=href)


def _kind(name: str) -> tuple[str, str | None]:
    """Kind of a file of a result, and the modality that it is of."""
    plain = name.rpartition("/")[2].split(".")[0]
    if name.startswith("completed/"):
        code, _, rest = name.split("/")[1].split(".")[0].partition("_synthetic")
        if name.endswith(".dcm"):
            return "dicom_mr", code
        kind = "completed_error" if rest else "completed" if name.endswith(".nii.gz") else "other"
        return kind, code
    if "_cautious." in name:
        return "cautious", None
    if name.endswith(".dcm"):
        return "dicom_seg", None
    kind = next((kind for start, kind in _BEGINNINGS.items() if name.startswith(start)), "other")
    code = plain.removesuffix("_segmentation")
    return kind, code if kind in ("native_segmentation", "quality") and code in MODALITIES else None
