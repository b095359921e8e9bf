"""Crashes for `test_resume`: train in forked children that die, resume them, tell what they end with.

The process that forks never trains itself; every child is a process of its own, killed for real.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
from small_cohort import write_cache

import anymri.training.loop as loop
from anymri import methods
from anymri.config import validate_run_config
from anymri.training.checkpoint import CheckpointStore
from anymri.training.code import training_code
from anymri.training.log import draw_progress, read_log

STEPS = (
    "state: write",
    "state: sync",
    "state: name",
    "state: sync folder",
    "pointer: write",
    "pointer: sync",
    "pointer: name",
    "pointer: sync folder",
)


def config(cache: Path, precision: str):
    training = {"patch": [12, 12, 12], "device": "cpu", "accumulate": 2, "ema": 0.9, "validate_every": 1}
    data = {"cache": str(cache), "split": str(cache.parent / "split.json")}
    return validate_run_config(
        {"method": {"name": "hooked"}, "data": data, "training": {**training, "precision": precision}}
    )


def child(work: Callable[[], object]) -> int:
    """Start `work` in a process of its own."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid


def finish(pid: int) -> int:
    return os.waitpid(pid, 0)[1]


def result(run: Path) -> dict[str, object]:
    """What must not depend on interruptions."""
    rows = [{key: value for key, value in row.items() if key != "seconds"} for row in read_log(run)]
    weights = hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()
    left = sorted(path.name for path in run.iterdir() if path.name.endswith((".tmp", ".part")))
    return {
        "weights": weights,
        "log": hashlib.sha256(json.dumps(rows).encode()).hexdigest(),
        "rows": len(rows),
        "left": left,
    }


def die_after(step: str, occurrence: int) -> None:
    """End the process like kill -9 would, after the given step of the given checkpoint write."""
    seen = {"count": 0}

    def hook(name: str) -> None:
        seen["count"] += name == step
        if name == step and seen["count"] == occurrence:
            os.kill(os.getpid(), signal.SIGKILL)

    CheckpointStore.after_step = staticmethod(hook)


def crash_and_resume(folder: Path, precision: str, occurrence: int) -> dict[str, dict]:
    """Of runs by how they died: ``results`` after they were resumed, and whether each of their ``deaths`` came."""
    torch.set_num_threads(1)
    methods.METHODS["hooked"] = "hooked:Hooked"
    training_code(methods.get_method("hooked"))  # read here once, not in every child
    settings = config(write_cache(folder / "balls"), precision)

    def run(name: str, prepare: Callable[[], None] = lambda: None) -> int:
        def work() -> None:
            prepare()
            loop.train(settings, folder / name, progress=False)

        return child(work)

    results, deaths = {}, {}
    begin = time.monotonic()
    assert finish(run("unbroken")) == 0
    duration = time.monotonic() - begin
    results["unbroken"] = result(folder / "unbroken")
    draw_progress(folder / "unbroken")  # what drawing loads is there for every further child
    for step in STEPS:
        deaths[step] = [finish(run(step, lambda s=step: die_after(s, occurrence))) == signal.SIGKILL]
        assert not (folder / step / "model.safetensors").exists()
        assert finish(run(step)) == 0
        results[step] = result(folder / step)
    chance, deaths["killed"] = random.Random(3), []
    for _ in range(3):
        pid = run("killed")
        time.sleep(chance.uniform(0.1, 0.7) * duration)
        os.kill(pid, signal.SIGKILL)
        deaths["killed"].append(finish(pid) == signal.SIGKILL)
    assert finish(run("killed")) == 0
    results["killed"] = result(folder / "killed")

    def stop_before_weights() -> None:
        loop.save_model = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)

    deaths["before weights"] = [finish(run("before weights", stop_before_weights)) == signal.SIGKILL]
    assert finish(run("before weights")) == 0
    results["before weights"] = result(folder / "before weights")
    return {"results": results, "deaths": deaths}
