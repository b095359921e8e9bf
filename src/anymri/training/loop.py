"""Training loop: stage, epoch, step, turn.

Random numbers follow from (seed, stage, epoch, step, micro-batch, rank) alone, so a run that was killed and
started again ends in the same weights as an unbroken one.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anymri.config import RunConfig
from anymri.inference.sliding_window import WindowSettings
from anymri.locks import one_writer
from anymri.methods import StepContext
from anymri.protocol.weights_file import fit_buffers
from anymri.stopping import asked_to_stop, deferred, stop_if_asked
from anymri.training.checkpoint import CheckpointStore
from anymri.training.classical import fit
from anymri.training.cohort import FurtherBatches, Volumes
from anymri.training.log import Meter, ProgressBar, RunLog, draw_progress
from anymri.training.machine import (
    choose_device,
    make_fabric,
    memory_error,
    seed_generators,
    torch_settings,
)
from anymri.training.optimization import WeightAverage, frozen_parts, lr_factor, make_optimizer, set_lr
from anymri.training.preparation import PreparedRun, open_run_folder, prepare, seed_from
from anymri.training.shared import SharedStages, state_of_stage
from anymri.training.validation import validate, validation_metric
from anymri.training.weights import require_finite_weights, save_model, window_of
from anymri.types import Batch, Cohort, OptimizerSettings, Role, Stage, StepOutput, UserError

__all__ = ["train"]

#: Least time between two drawings of progress.png, in seconds.
DRAW_EVERY_S = 20.0
#: Overlap of windows at validation; little, for speed.
VALIDATION_OVERLAP = 0.25


def train(
    config: RunConfig, out: Path | str, *, resume: bool = True, progress: bool = True, shared: Path | None = None
) -> Path:
    """Train one method, or go on with a run that was interrupted.

    Parameters
    ----------
    config : RunConfig
    out : path-like
        Run folder: new, empty, or holding this very run. A finished run is left as it is. A run that other code made
        is renamed to ``<out>.code-<its hash>`` and begins anew, which standard error says.
    resume : bool, default=True
        False removes an earlier run in the folder and starts anew.
    progress : bool, default=True
        Whether to show a progress bar.
    shared : Path or None, default=None
        Folder for the weights of shared stages (`Stage.shared`); None = ``shared`` beside the run folder.

    Returns
    -------
    Path
        The run folder, with ``config.yaml`` (resolved), ``run.json``, ``log.jsonl``, ``progress.png``, two checkpoint
        slots and ``model.safetensors``.

    Raises
    ------
    UserError
        If the configuration or the data do not fit the method, the folder holds another run, memory or disk do not
        suffice, or the loss stops being a number.
    """
    out = Path(out)
    with torch_settings(config.training):
        choose_device(config.training)  # refuses a device that is not there before anything is written
        plan = prepare(config)
        with one_writer(out):
            if open_run_folder(out, plan, resume):
                return out
            if plan.method.classical:
                fit(plan, out, progress)
            else:
                _Loop(plan, out, progress, shared or out.parent / "shared").run()
    return out


@dataclass(frozen=True)
class _Turn:
    name: str
    optimizer: Any
    settings: OptimizerSettings
    parameters: frozenset[int]


class _Loop:
    """State of a running training; what is in it is either in the checkpoint or follows from the plan."""

    def __init__(self, plan: PreparedRun, out: Path, progress: bool, shared: Path) -> None:
        self.plan, self.out, self.show_progress = plan, out, progress
        self.settings = plan.config.training
        self.device_type, self.precision = choose_device(self.settings)
        self.fabric = make_fabric(self.settings)
        # On the CPU convolutions are faster with channels last: in bf16 several times, in 32 bits up to 1.6 times.
        self.channels_last = self.device_type == "cpu" and plan.method.spatial_dims == 3
        if self.channels_last:
            plan.method.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.module = self.fabric.setup(plan.method)
        self.method, self.parameters = plan.method, list(plan.method.parameters())
        self.average: WeightAverage | None = None
        self.frozen: list[torch.nn.Module] = []
        self.shared, self.shared_key = SharedStages(shared, plan), ""
        self.store = CheckpointStore(out)
        self.stage_index, self.epoch, self.steps = 0, 0, 0
        self.best: dict[str, Any] | None = None
        self.selected: _Turn | None = None
        self.drawn = time.monotonic()

    # ------------------------------------------------------------------------------------------------- whole run

    def run(self) -> None:
        """Train all stages that are not done, then write the weights."""
        state = self.store.read()
        if state is not None:
            self._restore(state)
        self.log = RunLog(self.out, state["log_bytes"] if state else 0)
        bar = ProgressBar(self.method.name, self._total_steps(), self.steps, self.show_progress)
        self.kept = "" if state is None else self._kept()
        with closing(self.log), bar as self.bar, deferred(lambda: self.kept):
            if state is None:
                self.log.write(self._start_row())
            self.bar.say_dropped(self.plan.facts["dropped_subjects"])
            for name, facts in self.plan.facts.get("stage_subjects", {}).items():
                self.bar.say_dropped(facts["left_out"], f" of stage {name}")
            while self.stage_index < len(self.plan.stages):
                self._run_stage(state)
                state = None
        draw_progress(self.out)
        save_model(self.plan, self.out)

    def _kept(self) -> str:
        """What a signal that ends the training now leaves, in words."""
        stage = self.plan.stages[min(self.stage_index, len(self.plan.stages) - 1)]
        place = f"after epoch {self.epoch or stage.epochs} of {stage.epochs} of stage {stage.name}"
        if self.epoch == 0 and self.stage_index < len(self.plan.stages):
            place = f"before stage {stage.name}"
        return f"{self.out}: the checkpoint {place} is kept; the same command goes on from there"

    def _total_steps(self) -> int:
        return sum(map(self._stage_steps, range(len(self.plan.stages))))

    def _stage_steps(self, index: int) -> int:
        return self.plan.stages[index].epochs * (self.plan.loaders[index].steps_per_epoch // self.settings.accumulate)

    def _start_row(self) -> dict[str, Any]:
        return {
            "event": "start",
            "run": self.plan.facts["run"],
            "device": self.device_type,
            "precision": self.precision,
            "threads": torch.get_num_threads(),
            "parameters": self.plan.facts["parameters"],
            "training_subjects": len(self.plan.training_subjects),
            "validation_subjects": len(self.plan.validation_subjects),
            **{key: value for key, value in self.plan.facts.items() if key in ("dropped_subjects", "stage_subjects")},
        }

    # ---------------------------------------------------------------------------------------------------- a stage

    def _run_stage(self, state: dict[str, Any] | None) -> None:
        """Train a stage from the start, or from a checkpoint within it."""
        stage = self.plan.stages[self.stage_index]
        if stage.shared and self.epoch == 0 and self._take_shared(stage):
            return
        cohort, further = self._cohort(), self.plan.stage_subjects[self.stage_index].pools
        self.further = FurtherBatches(self.plan.loaders[self.stage_index], further, self.stage_index)
        try:
            if self.epoch == 0:
                self.method.eval()
                with self._between_steps("start_stage", self.stage_index):
                    self.method.start_stage(stage, cohort)
            decay = self.settings.ema or stage.ema
            self.average = WeightAverage(self.method, decay) if decay else None
            turns = self._turns(stage)
            self.frozen = frozen_parts(self.method, frozenset().union(*(turn.parameters for turn in turns)))
            if state is not None and self.epoch > 0:
                if self.average is not None:
                    self.average.load_state_dict(state["average"])
                for turn in turns:
                    turn.optimizer.load_state_dict(state["optimizers"][turn.name])
            while self.epoch < stage.epochs:
                self._run_epoch(stage, turns, cohort)
                due = self.epoch % self.settings.checkpoint_every == 0 or asked_to_stop()
                if self.epoch < stage.epochs and due:
                    self._checkpoint({turn.name: turn.optimizer.state_dict() for turn in turns})
        except (MemoryError, RuntimeError) as error:
            if (mistake := memory_error(error, stage)) is None:
                raise
            raise mistake from None
        self._end_stage(stage)

    def _take_shared(self, stage: Stage) -> bool:
        """End a stage at once with the weights that another run trained; False if there are none."""
        trained = self._trained(stage)
        start = state_of_stage(self.method, trained)
        self.shared_key = self.shared.key(self.stage_index, start, self.shared_key)
        if not self.shared_key or not self.shared.take(self.shared_key, trained):
            return False
        self.log.write({"event": "shared", "stage": stage.name, "weights": self.shared_key})
        self.bar.say(f"stage {stage.name}: weights of another run taken, {self.shared_key}")
        for _ in range(self._stage_steps(self.stage_index)):
            self.steps += 1
            self.bar.advance(f"{self.method.name} {stage.name}", None)
        self._next_stage()
        return True

    def _trained(self, stage: Stage) -> frozenset[int]:
        """Identities of the parameters that a stage trains."""
        groups = [group for turn in self.method.turns(stage).values() for group in turn]
        return frozenset(id(parameter) for group in groups for parameter in list(group["params"]))

    def _cohort(self) -> Cohort:
        plan, index = self.plan, self.stage_index
        subjects, present = plan.stage_subjects[index].trained, plan.stage_subjects[index].present

        def show(batch: Batch, number: int) -> Batch:
            return self._shown(batch, 0.0, seed_from(self.settings.seed, "subset", "volume", index, number))

        volumes = Volumes(plan.cache, subjects, show)
        return Cohort(subjects, torch.tensor(present), volumes, self._stage_steps(index))

    @contextmanager
    def _between_steps(self, *key: int | str) -> Iterator[None]:
        """Random numbers that depend on the key, and no gradients, for a method's hooks."""
        seed_generators(seed_from(self.settings.seed, *key), self.device_type)
        with torch.no_grad():
            yield

    def _turns(self, stage: Stage) -> list[_Turn]:
        turns = []
        for name, groups in self.method.turns(stage).items():
            settings = self.method.optimizer_settings(stage, name)
            groups = [{**group, "params": list(group["params"])} for group in groups]
            identities = frozenset(id(parameter) for group in groups for parameter in group["params"])
            optimizer = self.fabric.setup_optimizers(make_optimizer(groups, settings, self.settings.lr))
            turns.append(_Turn(name, optimizer, settings, identities))
        return turns

    def _end_stage(self, stage: Stage) -> None:
        """Keep the weights the stage is to end with; the next stage starts from them."""
        if self.best is not None:
            self.method.load_state_dict(self.best["model"])
        elif self.average is not None:
            self.average.apply()
        self.best, self.average = None, None
        if stage.shared and self.shared_key:
            self.shared.keep(self.shared_key, state_of_stage(self.method, self._trained(stage)))
        self._next_stage()

    def _next_stage(self) -> None:
        self.stage_index, self.epoch = self.stage_index + 1, 0
        self._checkpoint({})

    # --------------------------------------------------------------------------------------------------- an epoch

    def _run_epoch(self, stage: Stage, turns: list[_Turn], cohort: Cohort) -> None:
        loader = self.plan.loaders[self.stage_index]
        steps = loader.steps_per_epoch // self.settings.accumulate
        begin, meter = time.perf_counter(), Meter(len(turns) > 1)
        self.module.train()
        for part in self.frozen:
            part.eval()
        batches = loader.batches(self.stage_index, self.epoch)
        for step in range(steps):
            self._step(stage, turns, step, steps, batches, meter)
            self.bar.advance(f"{self.method.name} {stage.name} {self.epoch + 1}/{stage.epochs}", meter.last)
        self.epoch += 1
        row: dict[str, Any] = {"stage": stage.name, "epoch": self.epoch, "step": self.steps}
        row |= {"lr": {turn.name: _rates(turn.optimizer) for turn in turns}, **meter.means()}
        if row["loss"] is not None and not abs(row["loss"]) < float("inf"):
            raise UserError(
                f"{self.out}: the loss is {row['loss']} in epoch {self.epoch} of stage {stage.name}; lower training.lr"
            )
        with self._between_steps("end_epoch", self.stage_index, self.epoch):
            self.method.end_epoch(stage, self.epoch - 1, cohort)
        require_finite_weights(self.plan, self.out, f"after epoch {self.epoch} of stage {stage.name}")
        every = self.settings.validate_every
        if every and (self.epoch % every == 0 or self.epoch == stage.epochs):
            row["validation"] = self._validate(stage)
            if row["validation"] and (metric := validation_metric(self.method)) != "Dice":
                row["validation_metric"] = metric
        self.log.write({**row, "seconds": round(time.perf_counter() - begin, 3)})
        if time.monotonic() - self.drawn > DRAW_EVERY_S:
            self.drawn = time.monotonic()
            draw_progress(self.out)

    def _validate(self, stage: Stage) -> dict[str, dict[str, float]]:
        subjects, window = self.plan.validation_subjects, window_of(self.plan, stage)
        windows = WindowSettings(window=window, overlap=VALIDATION_OVERLAP, precision=self.precision)
        metric = validation_metric(self.method)
        with self.average.applied() if self.average else nullcontext():
            scores = validate(self.method, self.plan.cache, subjects, windows)
            values = [value for by_region in scores.values() for value in by_region.values()]
            mean = sum(values) / len(values) if values else None
            if stage.select == "best" and mean is not None and (self.best is None or mean > self.best["score"]):
                weights = {name: value.detach().cpu().clone() for name, value in self.method.state_dict().items()}
                self.best = {"score": mean, "epoch": self.epoch, "model": weights}
        if mean is not None:
            digits = 3 if metric == "Dice" else 2
            self.bar.say(f"epoch {self.epoch}: validation {metric} {mean:.{digits}f}")
        return scores

    # ------------------------------------------------------------------------------------------- a step, its turns

    def _step(
        self, stage: Stage, turns: list[_Turn], step: int, steps: int, batches: Iterator[Batch], meter: Meter
    ) -> None:
        share = 1 / (steps * stage.epochs)
        progress = (self.epoch * steps + step) * share
        micro: list[tuple[Batch, int, int, dict[str, Any]]] = []
        for number in range(self.settings.accumulate):
            key = (self.stage_index, self.epoch, step, number, self.fabric.global_rank)
            batch = self._shown(next(batches), progress, seed_from(self.settings.seed, "subset", *key))
            place = step * self.settings.accumulate + number
            micro.append((batch, place, seed_from(self.settings.seed, *key), {}))
        for turn in turns:
            self._select(turn, len(turns))
            stepped = False
            for batch, place, seed, shared in micro:
                next_batch = self._next_batch(batch, place, progress, seed)
                context = self._context(stage, turn.name, progress, seed, shared, next_batch)
                output = self._training_step(batch, context, seed)
                meter.add(turn.name, output)
                if output.loss is not None:
                    self.fabric.backward(output.loss / self.settings.accumulate)
                    stepped = True
            if stepped:
                self._update(turn, lr_factor(turn.settings, progress, share))
                with torch.no_grad():
                    self.method.after_step(stage, turn.name, context)
        if self.average is not None:
            self.average.update()
        self.steps += 1

    def _shown(self, batch: Batch, progress: float, seed: int) -> Batch:
        """Draw what is available, move the batch to the device, bring images to the method's scale."""
        sampler = self.plan.samplers[self.stage_index]
        available = sampler(batch.present, progress, torch.Generator().manual_seed(seed))
        batch = self.fabric.to_device(batch._replace(available=available))
        image = self.method.intensity.apply(batch.image, batch.statistics)
        if self.channels_last:
            image = image.contiguous(memory_format=torch.channels_last_3d)
        return batch._replace(image=image)

    def _next_batch(self, batch: Batch, place: int, progress: float, seed: int) -> Callable[[Role], Batch]:
        """`StepContext.next_batch` of one turn of the micro-batch at a place of the epoch."""
        calls = itertools.count()

        def next_batch(role: Role) -> Batch:
            call = next(calls)
            drawn = self.further.draw(role, batch, self.epoch, place, call)
            return self._shown(drawn, progress, seed_from(seed, "next", call))

        return next_batch

    def _context(
        self,
        stage: Stage,
        turn: str,
        progress: float,
        seed: int,
        shared: dict[str, Any],
        next_batch: Callable[[Role], Batch],
    ) -> StepContext:
        sampler, generator = self.plan.samplers[self.stage_index], torch.Generator().manual_seed(seed)

        def draw_available(present: Tensor) -> Tensor:
            return sampler(present, progress, generator)

        return StepContext(stage, turn, self.epoch, progress, generator, shared, draw_available, next_batch)

    def _training_step(self, batch: Batch, context: StepContext, seed: int) -> StepOutput:
        seed_generators(seed, self.device_type)
        # Fabric applies autocast to forward only, not to other methods.
        with self.fabric.autocast():
            return self.module.training_step(batch, context)

    def _select(self, turn: _Turn, turns: int) -> None:
        """Clear all gradients; let only the turn's parameters have new ones."""
        for parameter in self.parameters:
            parameter.grad = None
        if turns == 1 and self.selected is turn:
            return
        for parameter in self.parameters:
            parameter.requires_grad_(id(parameter) in turn.parameters)
        self.selected = turn

    def _update(self, turn: _Turn, factor: float) -> None:
        set_lr(turn.optimizer, factor)
        if turn.settings.clip_norm is not None:
            norm = turn.settings.clip_norm
            self.fabric.clip_gradients(self.module, turn.optimizer, max_norm=norm, error_if_nonfinite=False)
        turn.optimizer.step()

    # ------------------------------------------------------------------------------------------------ checkpoints

    def _checkpoint(self, optimizer_states: dict[str, Any]) -> None:
        self.store.write(
            {
                "identity": self.plan.facts["identity"],
                "stage": self.stage_index,
                "epoch": self.epoch,
                "step": self.steps,
                "model": dict(self.method.state_dict()),
                "average": self.average.state_dict() if self.average else None,
                "best": self.best,
                "shared": self.shared_key,
                "optimizers": optimizer_states,
                "scaler": self.fabric.strategy.precision.state_dict(),
                "log_bytes": self.log.position(),
            }
        )
        self.kept = self._kept()
        stop_if_asked()

    def _restore(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint, but for what its stage makes: optimisers and average."""
        self.stage_index, self.epoch, self.steps = state["stage"], state["epoch"], state["step"]
        fit_buffers(self.method, state["model"])
        self.method.load_state_dict(state["model"])
        self.best, self.shared_key = state["best"], state.get("shared", "")
        self.fabric.strategy.precision.load_state_dict(state["scaler"])


def _rates(optimizer: Any) -> float | list[float]:
    """Learning rate, or those of several parameter groups."""
    rates = [group["lr"] for group in optimizer.param_groups]
    return rates[0] if len(rates) == 1 else rates
