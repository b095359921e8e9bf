"""Routes of the server: what docs/reference/http-api.md lists, each a few lines over the store."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import FileResponse
from fastapi.security import HTTPBearer

from anymri.modalities import MODALITIES
from anymri.server.answers import (
    Accepted,
    Failure,
    FormatRow,
    Health,
    LimitsAnswer,
    ModelRow,
    Models,
    NewRun,
    Relabel,
    RunAnswer,
    Studies,
    StudyAnswer,
)
from anymri.server.content import shown_name
from anymri.server.describe import Clock, describe_run, describe_study
from anymri.server.guard import report_policy
from anymri.server.intake import accepted, check_run
from anymri.server.places import is_identifier, new_identifier
from anymri.server.refusal import Refusal
from anymri.server.store import Full
from anymri.server.upload import FIELDS
from anymri.version import __version__

__all__ = ["router"]

_bearer = HTTPBearer(auto_error=False, description="Needed where the server has tokens.")


def _owner(request: Request, token: Annotated[Any, Depends(_bearer)]) -> str:
    """Owner of the token, as `anymri.server.guard.Guard` found it."""
    return str(request.state.owner)


def _errors(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Refusals of a route, for the OpenAPI document."""
    return {code: {"model": Failure} for code in codes}


Owner = Annotated[str, Depends(_owner)]
#: What every private route may answer.
_COMMON = (400, 401, 403, 404, 413, 422, 503)
router = APIRouter(responses=_errors(*_COMMON))
_FORM = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {
                    "files": {"type": "array", "items": {"type": "string", "format": "binary"}},
                    **{code: {"type": "string", "format": "binary"} for code in MODALITIES},
                    **{name: {"type": "string", "maxLength": 1024} for name in FIELDS},
                },
            }
        }
    },
}


def _find(request: Request, study: str, owner: str) -> dict[str, Any]:
    """A study of this owner.

    Raises
    ------
    Refusal
        404 if there is none, or it is another's.
    """
    found = request.app.state.parts.store.study(study, owner) if is_identifier(study) else None
    if found is None:
        raise Refusal(404, "study: is not here (any more); list yours with GET /studies")
    return dict(found)


def _find_run(study: dict[str, Any], run: str) -> dict[str, Any]:
    for row in study["runs"]:
        if row["id"] == run:
            return dict(row)
    raise Refusal(404, "run: is not one of this study; see its runs")


def _clock(request: Request) -> Clock:
    parts = request.app.state.parts
    return Clock(parts.supervisor.elapsed, parts.store.usual_seconds)


def _root(request: Request) -> str:
    return str(request.app.state.parts.settings.root_path)


# -------------------------------------------------------------------------------------------------- studies


@router.post(
    "/studies", status_code=202, response_model=Accepted, tags=["studies"], openapi_extra={"requestBody": _FORM},
    responses=_errors(408, 415, 429, 507),
)  # fmt: skip
async def create_study(request: Request, owner: Owner) -> Accepted:
    """Upload a study: fields named by sequence, any number of `files`, or one zip."""
    answer: Accepted = await request.app.state.parts.intake.take_form(request, owner)
    request.app.state.parts.supervisor.wake.set()
    return answer


@router.get("/studies", response_model=Studies, tags=["studies"])
def list_studies(request: Request, owner: Owner, limit: Annotated[int, Query(ge=1, le=500)] = 100) -> Studies:
    """List studies, the newest first."""
    rows = request.app.state.parts.store.studies(owner, limit)
    return Studies(studies=[describe_study(row, _clock(request), _root(request)) for row in rows])


@router.get("/studies/{study}", response_model=StudyAnswer, tags=["studies"])
def read_study(request: Request, study: str, owner: Owner) -> StudyAnswer:
    """Read one study with its runs."""
    return describe_study(_find(request, study, owner), _clock(request), _root(request))


@router.delete("/studies/{study}", status_code=204, tags=["studies"])
def delete_study(request: Request, study: str, owner: Owner) -> Response:
    """Remove a study with all its files."""
    request.app.state.parts.remove(_find(request, study, owner)["id"])
    return Response(status_code=204)


@router.patch("/studies/{study}/sequences", response_model=StudyAnswer, tags=["studies"], responses=_errors(409))
def correct_labels(request: Request, study: str, owner: Owner, wanted: Relabel) -> StudyAnswer:
    """Correct which sequence a file is."""
    found = _find(request, study, owner)
    known = {row["file"]: row["modality"] for row in _inspected(found)["sequences"]}
    for file, code in wanted.sequences.items():
        if file not in known:
            raise Refusal(422, f"{shown_name(file)}: is no sequence of this study; name one of its `sequences`")
        if code is not None and code not in MODALITIES:
            raise Refusal(422, f"{shown_name(code)}: is no sequence; choose of {', '.join(MODALITIES)}")
    labels = known | wanted.sequences
    used = [code for code in labels.values() if code is not None]
    twice = next((code for code in used if used.count(code) > 1), None)
    if twice is not None:
        raise Refusal(422, f"{twice}: would be the sequence of two files; set the other one to null")
    parts = request.app.state.parts
    parts.store.relabel(found["id"], {**found["upload"], "labels": labels})
    parts.supervisor.wake.set()
    return read_study(request, study, owner)


def _inspected(study: dict[str, Any]) -> dict[str, Any]:
    """What was found in a study.

    Raises
    ------
    Refusal
        409 if it is not known yet, or nothing can be read.
    """
    looks = [job["status"] for job in study["jobs"] if job["kind"] == "inspect"]
    if looks and looks[-1] in ("queued", "running"):
        raise Refusal(409, "study: is being looked at; wait until its status is ready")
    if study["inspected"] is None:
        raise Refusal(409, "study: could not be read; send it again")
    return dict(study["inspected"])


@router.get("/studies/{study}/files/{name:path}", tags=["studies"], response_class=FileResponse)
def read_image_file(request: Request, study: str, name: str, owner: Owner) -> FileResponse:
    """Image of a sequence, for viewers."""
    found = _find(request, study, owner)
    told = found["inspected"] or {"sequences": [], "dicom": False}
    places = request.app.state.parts.places
    root = places.images(found["id"]) if told["dicom"] else places.upload(found["id"])
    images = {row["image"]: root / row["image"] for row in told["sequences"] if row["image"]}
    return _file(images, name)


@router.get("/studies/{study}/report", tags=["studies"], response_class=Response, responses=_errors(409))
def read_newest_report(request: Request, study: str, owner: Owner) -> Response:
    """Report of the newest run that is done, HTML."""
    found = _find(request, study, owner)
    done = [run["id"] for run in found["runs"] if run["summary"] is not None]
    if not done:
        raise Refusal(409, "report: no run is done yet; wait until the status of one is done")
    return _report(request, found["id"], done[-1])


# ----------------------------------------------------------------------------------------------------- runs


@router.post(
    "/studies/{study}/runs", status_code=202, response_model=Accepted, tags=["runs"], responses=_errors(409, 429)
)
async def create_run(request: Request, study: str, owner: Owner, wanted: NewRun) -> Accepted:
    """Run a study again: other sequences, another model, other formats."""
    parts = request.app.state.parts
    found = await asyncio.to_thread(_find, request, study, owner)
    asked = check_run(wanted, parts.settings)
    if found["inspected"] is not None:
        _check_subset(asked, found["inspected"])
    await parts.intake.check_queue()
    run = new_identifier()
    try:
        most = parts.settings.limits.waiting
        there = await asyncio.to_thread(parts.store.add_run, found["id"], run, asked, most)
    except Full:
        raise await asyncio.to_thread(parts.intake.queue_is_full) from None
    if not there:
        raise Refusal(404, "study: is not here any more; list yours with GET /studies")
    parts.supervisor.wake.set()
    return accepted(found["id"], run, _root(request))


def _check_subset(asked: dict[str, Any], found: dict[str, Any]) -> None:
    there = [row["modality"] for row in found["sequences"] if row["modality"] is not None]
    for code in asked["subset"] or []:
        if code not in there:
            raise Refusal(422, f"subset: the study has no {code}; it has {', '.join(there) or 'no labelled sequence'}")


@router.get("/studies/{study}/runs/{run}", response_model=RunAnswer, tags=["runs"])
def read_run(request: Request, study: str, run: str, owner: Owner) -> RunAnswer:
    """Read one run."""
    found = _find(request, study, owner)
    return describe_run(found, _find_run(found, run), _clock(request), _root(request))


@router.get("/studies/{study}/runs/{run}/report", tags=["runs"], response_class=Response, responses=_errors(409))
def read_report(request: Request, study: str, run: str, owner: Owner) -> Response:
    """Report of a run, HTML."""
    found = _find(request, study, owner)
    if _find_run(found, run)["summary"] is None:
        raise Refusal(409, "report: the run is not done; wait until its status is done")
    return _report(request, found["id"], run)


@router.get("/studies/{study}/runs/{run}/files/{name:path}", tags=["runs"], response_class=FileResponse)
def read_result_file(request: Request, study: str, run: str, name: str, owner: Owner) -> FileResponse:
    """One file of a result."""
    found = _find(request, study, owner)
    summary = _find_run(found, run)["summary"] or {"files": []}
    root = request.app.state.parts.places.result(found["id"], run)
    return _file({entry["name"]: root / entry["name"] for entry in summary["files"]}, name)


def _file(known: dict[str, Path], name: str) -> FileResponse:
    """A file by its name in a list; a name that is not in it means nothing."""
    path = known.get(name)
    if path is None or not path.is_file():
        raise Refusal(404, "file: is not among those of the study; take its href")
    kind = "application/dicom" if path.suffix == ".dcm" else "application/octet-stream"
    return FileResponse(path, media_type=kind, filename=path.name)


def _report(request: Request, study: str, run: str) -> Response:
    """Report of a run under a policy of its own."""
    path = request.app.state.parts.places.result(study, run) / "report.html"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        raise Refusal(404, "report: is gone; run the study again") from None
    policy = report_policy(re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL))
    return Response(text, media_type="text/html; charset=utf-8", headers={"Content-Security-Policy": policy})


# ------------------------------------------------------------------------------------------------- DICOMweb

_INSTANCES: dict[str, Any] = {
    "required": True,
    "content": {"multipart/related": {"schema": {"type": "object"}}},
}
_STOWED: dict[int | str, dict[str, Any]] = {
    code: {"description": text, "content": {"application/dicom+json": {"schema": {"type": "object"}}}}
    for code, text in ((200, "All stored"), (202, "Some stored"), (409, "None stored"))
}


@router.post(
    "/dicomweb/studies", tags=["dicomweb"], response_class=Response, openapi_extra={"requestBody": _INSTANCES},
    responses={**_errors(408, 415, 429, 507), **_STOWED},
)  # fmt: skip
async def store_instances(request: Request, owner: Owner) -> Response:
    """STOW-RS: store instances of any study."""
    return _dicom_json(await request.app.state.parts.stow.take(request, owner, None))


@router.post(
    "/dicomweb/studies/{uid}", tags=["dicomweb"], response_class=Response, openapi_extra={"requestBody": _INSTANCES},
    responses={**_errors(408, 415, 429, 507), **_STOWED},
)  # fmt: skip
async def store_instances_of(request: Request, uid: str, owner: Owner) -> Response:
    """STOW-RS: store instances of one study."""
    return _dicom_json(await request.app.state.parts.stow.take(request, owner, uid))


def _dicom_json(answer: Any) -> Response:
    return Response(json.dumps(answer.content), answer.status, media_type="application/dicom+json")


# ------------------------------------------------------------------------------------------------- the server


@router.get("/models", response_model=Models, tags=["server"])
def list_models(request: Request, owner: Owner) -> Models:
    """Models, formats and sequences that can be asked for."""
    from anymri.inference.output.formats import OUTPUTS, check_outputs
    from anymri.zoo import list_models as cards

    settings = request.app.state.parts.settings
    rows = [
        ModelRow(name=card.name, summary=card.summary, modalities=list(card.modalities), method=card.method,
                 licence=card.licence, limits=card.limits, default=card.default)
        for card in cards()
    ]  # fmt: skip
    rows += [
        ModelRow(name=name, summary="model of this server", modalities=[], method="", licence="not known", limits="",
                 default=False)
        for name in settings.models
    ]  # fmt: skip
    formats = []
    for name, output in OUTPUTS.items():
        try:
            check_outputs((name,))
        except Exception:  # its library is not installed here
            continue
        formats.append(FormatRow(name=name, what=output.what, from_dicom=output.from_dicom))
    return Models(models=rows, formats=formats, modalities={code: one.long_name for code, one in MODALITIES.items()})


@router.get("/limits", response_model=LimitsAnswer, tags=["server"])
def read_limits(request: Request, owner: Owner) -> LimitsAnswer:
    """What the server takes, and for how long it keeps it."""
    settings = request.app.state.parts.settings
    limits = settings.limits
    return LimitsAnswer(
        upload_bytes=limits.upload_bytes, unpacked_bytes=limits.unpacked_bytes, files=limits.files,
        waiting=limits.waiting, keep_s=limits.keep_s, token=bool(settings.tokens), demo=request.app.state.parts.demo,
    )  # fmt: skip


@router.get("/health", response_model=Health, tags=["server"])
def read_health() -> Health:
    """Whether the server runs."""
    return Health(status="ok", version=__version__)


@router.get("/ready", response_model=Health, tags=["server"])
def read_ready(request: Request, response: Response) -> Health:
    """Whether it takes work: its store answers and its workers are there."""
    parts = request.app.state.parts
    parts.store.waiting()
    if not parts.supervisor.ready or parts.intake.stopping:
        raise Refusal(503, "server: its workers are starting or ending; come again in 2 s", {"Retry-After": "2"})
    return Health(status="ready", version=__version__)


@router.get("/metrics", tags=["server"], response_class=Response)
def read_metrics(request: Request, owner: Owner) -> Response:
    """Numbers for Prometheus."""
    return Response(request.app.state.parts.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
