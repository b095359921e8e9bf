"""Attempt of one study of a batch, in whatever process: its result, its picture and its record, or why it failed."""

from __future__ import annotations

import shutil
import traceback
from contextlib import suppress
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from anymri.errors import UserError
from anymri.files import RefusedWrite, replace_file, replace_text
from anymri.inference.batch.record import BatchFolder, StudyRecord, Wanted, digest_result, wanted_record
from anymri.inference.batch.studies import BatchStudy
from anymri.inference.one_study import PredictSettings, predict_to_folder
from anymri.inference.output.report import lesion_places
from anymri.inference.output.result import Result
from anymri.inference.pictures import montage_png, slice_picture, value_range
from anymri.inference.predict import Model, load

__all__ = ["attempt", "failed_record", "set_threads", "write_failure"]

#: Height of a thumbnail in pixels.
_HEIGHT = 120


def set_threads(threads: int, workers: int) -> None:
    """Give a worker its share of the processor cores."""
    import torch

    torch.set_num_threads(max(1, (threads or torch.get_num_threads()) // workers))


def attempt(study: BatchStudy, out: Path, settings: PredictSettings) -> StudyRecord:
    """Predict one study of a batch and write what comes of it; whatever is wrong with it is told in its record.

    Parameters
    ----------
    study : BatchStudy
    out : Path
        Folder of the batch.
    settings : PredictSettings

    Returns
    -------
    StudyRecord

    Raises
    ------
    UserError
        If the model cannot be opened, or nothing can be written to `out`: no other study could fare better.
    """
    folder, model = BatchFolder(out), _open(settings.model, settings.device)
    wanted, fault = None, ""
    folder.record(study.name).unlink(missing_ok=True)  # from here on it is not that of the result folder
    try:
        wanted = wanted_record(study, settings, model)
        assert study.source is not None
        result = predict_to_folder(study.source, folder.result(study.name), settings, model, overwrite=True)
        with replace_file(folder.thumbnail(study.name)) as file:
            file.write(_thumbnail(result))
    except RefusedWrite as error:
        if error.path.absolute().is_relative_to(out.absolute()):
            raise
        reason = str(error)
    except UserError as error:
        reason = str(error)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}; this is a fault of the program, its text is in {study.name}.txt"
        fault = traceback.format_exc()
    else:
        digest = digest_result(folder.result(study.name))
        record = StudyRecord(study=study.name, status="done", result_sha256=digest, **asdict(wanted))
        folder.write(record)
        folder.fault(study.name).unlink(missing_ok=True)
        return record
    record = failed_record(study, reason, wanted)
    write_failure(folder, record, fault)
    return record


def failed_record(study: BatchStudy, reason: str, wanted: Wanted | None = None) -> StudyRecord:
    """Record of a study that failed; `wanted` is None where its files could not be read."""
    wanted = wanted or Wanted(inputs="", settings={}, weights_sha256="", program="")
    return StudyRecord(study=study.name, status="failed", reason=" ".join(reason.split()), **asdict(wanted))


def write_failure(folder: BatchFolder, record: StudyRecord, fault: str = "") -> None:
    """Write the record of a study that failed; an earlier result of it goes, as it would be taken for that of now."""
    folder.write(record)
    shutil.rmtree(folder.result(record.study), ignore_errors=True)
    with suppress(OSError):
        folder.thumbnail(record.study).unlink(missing_ok=True)
    if fault:
        replace_text(folder.fault(record.study), fault)
    else:
        folder.fault(record.study).unlink(missing_ok=True)


@lru_cache(maxsize=1)
def _open(model: str, device: str) -> Model:
    """The model, once for each process."""
    return load(model, device)


def _thumbnail(result: Result) -> bytes:
    """PNG of the axial slice through the largest lesion, plain and with its outline."""
    view, place = result.view, lesion_places(result)[0]
    image = next(iter(view.images.values()))
    options: dict[str, Any] = {
        "index": place.slices["axial"],
        "spacing_mm": view.geometry.spacing_mm,
        "limits": value_range(image),
    }
    labels = [None] if view.label is None else [None, view.label]
    pictures = [slice_picture(image, label, height=_HEIGHT, spec=result.spec, **options) for label in labels]
    return montage_png(pictures)
