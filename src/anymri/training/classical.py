"""Training of classical systems: whole volumes, one call of `Method.fit`."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from anymri.methods import StepContext
from anymri.training.cohort import Volumes
from anymri.training.log import ProgressBar, RunLog, draw_progress
from anymri.training.machine import memory_error
from anymri.training.preparation import PreparedRun, seed_from
from anymri.training.weights import save_model
from anymri.types import Batch

__all__ = ["fit"]


def fit(plan: PreparedRun, out: Path, progress: bool) -> None:
    """Train a classical system; it has no checkpoints, an interrupted run starts anew."""
    begin, stage, seed = time.perf_counter(), plan.stages[0], seed_from(plan.config.training.seed, "fit")
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    sampler = plan.samplers[0]

    def show(batch: Batch, number: int) -> Batch:
        bar.advance(f"{plan.method.name} fit", None)
        drawn = torch.Generator().manual_seed(seed_from(plan.config.training.seed, "subset", number))
        image = plan.method.intensity.apply(batch.image, batch.statistics)
        return batch._replace(image=image, available=sampler(batch.present, 0.0, drawn))

    context = StepContext(stage, generator=generator, draw_available=lambda present: sampler(present, 0.0, generator))
    with ProgressBar(f"{plan.method.name} fit", len(plan.training_subjects), 0, progress) as bar:
        bar.say_dropped(plan.facts["dropped_subjects"])
        try:
            logs = plan.method.fit(Volumes(plan.cache, plan.training_subjects, show), context)
        except (MemoryError, RuntimeError) as error:
            if (mistake := memory_error(error, stage)) is None:
                raise
            raise mistake from None
    terms = {name: float(value) for name, value in logs.items() if torch.as_tensor(value).numel() == 1}
    row = {"stage": stage.name, "epoch": 1, "step": 1, "lr": {}, "loss": terms.get("loss"), "terms": terms}
    log = RunLog(out)
    log.write({**row, "seconds": round(time.perf_counter() - begin, 3)})
    log.close()
    draw_progress(out)
    save_model(plan, out)
