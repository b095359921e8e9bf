"""Work of a worker process: one job after the other, by the same functions as the commands."""

from __future__ import annotations

import os
import resource
import secrets
import signal
import threading
import traceback
from collections.abc import Callable
from functools import lru_cache
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from anymri.errors import UserError

__all__ = ["serve_jobs"]


def serve_jobs(link: Connection, scratch: str, threads: int, warm: tuple[str, str] | None) -> None:
    """Do jobs until the link is closed; the first function of a worker process.

    Parameters
    ----------
    link : Connection
        Brings jobs and takes answers: ``("done", dict)``, ``("failed", reason)`` or ``("fault", number, place)``.
    scratch : str
        Folder for temporary files; also stands for the home of libraries that want one.
    threads : int
    warm : tuple of str or None
        Model and device to open before the first job.
    """
    _settle_in(scratch)
    import torch

    torch.set_num_threads(threads)
    if warm is not None:
        _open(*warm)
    link.send(("ready",))
    while True:
        try:
            task = link.recv()
        except EOFError:
            return
        link.send(_answer(task, Path(scratch).parent))


def _settle_in(scratch: str) -> None:
    """Leave nothing outside of the scratch folder, say nothing, and end with the server."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # A dump of memory would hold the patient's images.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.environ |= {"TMPDIR": scratch, "MPLCONFIGDIR": scratch, "XDG_CACHE_HOME": scratch, "HOME": scratch}
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # libraries print what headers say
        os.dup2(silence, stream)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()


def _answer(task: dict[str, Any], root: Path) -> tuple[Any, ...]:
    """What came of a job; whatever goes wrong with it is an answer, too."""
    upload = Path(task["upload"])
    try:
        do: Callable[[dict[str, Any]], dict[str, Any]] = {"inspect": _inspect, "run": _run}[task["kind"]]
        return "done", _without_folders(do(task), upload)
    except UserError as error:
        return "failed", " ".join(_without_folders(str(error), upload).split())
    except MemoryError:
        return "failed", "study: needs more memory than there is; crop or resample it, or ask who runs the server"
    except Exception as error:
        number = secrets.token_hex(4)
        place = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{traceback.format_exc()}\n"
        (root / "studies" / task["study"] / f"fault-{number}.txt").write_text(text, encoding="utf-8")
        return "fault", number, f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"


def _without_folders(told: Any, upload: Path) -> Any:
    """What is told, however deep in lists and dictionaries, without folders of the server."""
    if isinstance(told, dict):
        return {key: _without_folders(value, upload) for key, value in told.items()}
    if isinstance(told, list):
        return [_without_folders(value, upload) for value in told]
    if isinstance(told, str):
        for start in (f"{upload}/study/", f"{upload}/fields/", f"{upload}/", f"{upload.parent}/"):
            told = told.replace(start, "")
    return told


def _inspect(task: dict[str, Any]) -> dict[str, Any]:
    from anymri.server.demo import draw_demo
    from anymri.server.inspection import inspect_study

    if "phantom" in task["told"]:
        draw_demo(Path(task["upload"]), task["told"]["phantom"])
    return inspect_study(Path(task["upload"]), Path(task["images"]), task["told"])


def _run(task: dict[str, Any]) -> dict[str, Any]:
    """Predict a study as `anymri predict` does, and say what pages show of it."""
    from anymri.inference.one_study import PredictSettings, predict_to_folder
    from anymri.server.summary import source_of, summary_of

    settings = PredictSettings(
        model=task["model"],
        device=task["device"],
        completion=task["completion"],
        outputs=tuple(task["formats"]),
        save_probabilities=True,
        raw=task["found"]["raw"] and not task["found"]["dicom"],
    )
    model = _open(task["model"], task["device"])
    source = source_of(Path(task["upload"]), task["told"], task["found"], task["subset"], model.method.spec.modalities)
    result = predict_to_folder(source, task["out"], settings, model, overwrite=True)
    return summary_of(result, Path(task["out"]))


@lru_cache(maxsize=2)
def _open(model: str, device: str) -> Any:
    """A model, once for each process."""
    from anymri.inference.predict import load

    return load(model, device)
