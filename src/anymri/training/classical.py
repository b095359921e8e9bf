"""Training of classical systems: whole volumes, one call of `Method.fit`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import torch

from anymri.data.loading import volume_batch
from anymri.methods import StepContext
from anymri.training.log import ProgressBar, RunLog, draw_progress
from anymri.training.machine import memory_error
from anymri.training.preparation import PreparedRun, seed_from
from anymri.training.weights import save_model
from anymri.types import Batch

__all__ = ["fit"]


class _Volumes:
    """Whole training volumes as one-row batches, as often as `Method.fit` asks."""

    def __init__(self, plan: PreparedRun, bar: ProgressBar) -> None:
        self.plan, self.bar = plan, bar

    def __len__(self) -> int:
        return len(self.plan.training_subjects)

    def __iter__(self) -> Iterator[Batch]:
        for number, subject in enumerate(self.plan.training_subjects):
            batch = volume_batch(self.plan.cache, subject)
            seed = seed_from(self.plan.config.training.seed, "subset", number)
            available = self.plan.samplers[0](batch.present, 0.0, torch.Generator().manual_seed(seed))
            image = self.plan.method.intensity.apply(batch.image, batch.statistics)
            yield batch._replace(image=image, available=available)
            self.bar.advance(f"{self.plan.method.name} fit", None)


def fit(plan: PreparedRun, out: Path, progress: bool) -> None:
    """Train a classical system; it has no checkpoints, an interrupted run starts anew."""
    begin, stage, seed = time.perf_counter(), plan.stages[0], seed_from(plan.config.training.seed, "fit")
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    sampler = plan.samplers[0]
    context = StepContext(stage, generator=generator, draw_available=lambda present: sampler(present, 0.0, generator))
    with ProgressBar(f"{plan.method.name} fit", len(plan.training_subjects), 0, progress) as bar:
        bar.say_dropped(plan.facts["dropped_subjects"])
        try:
            logs = plan.method.fit(_Volumes(plan, bar), context)
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
