"""A method that uses all a stage offers: hooks, further batches, own subjects, an average, a frozen part."""

from __future__ import annotations

import copy

import torch
from torch import nn
from two_turns import TwoTurns

from anymri.methods import MethodConfig, MethodInfo, Preset
from anymri.types import GLIOMA, DataSpec, Stage, StepOutput


class Hooked(TwoTurns):
    """`TwoTurns` with a follower of the painter, brightnesses measured before a stage, and a curriculum."""

    name = "hooked"
    Config = MethodConfig
    info = MethodInfo(title="Hooked", family="baseline", task="segmentation", year=2026, reference="test")
    presets = {
        "tiny": Preset(
            (
                Stage("warm", 2, 2, (12,) * 3, "uniform_subset", 2, needs=("t2",), ema=0.2),
                Stage("main", 2, 1, (12,) * 3, "curriculum", 2, select="best", subjects="partial"),
            )
        )
    }

    def __init__(self, config: MethodConfig, spec: DataSpec = GLIOMA) -> None:
        super().__init__(config, spec)
        self.follower = copy.deepcopy(self.painter)
        self.register_buffer("brightness", torch.zeros(0, 4))  # a row for each subject of the stage
        self.register_buffer("share", torch.zeros(()))
        self.events: list[tuple] = []

    def turns(self, stage: Stage):
        self.events.append(("turns", stage.name))
        return super().turns(stage)

    def start_stage(self, stage: Stage, cohort) -> None:
        state = (self.training, torch.is_grad_enabled())
        self.events.append(("start_stage", stage.name, *state, cohort.subject_ids))
        levels = [torch.where(v.available, v.image.nanmean((2, 3, 4)), 0.0)[0] for v in cohort.volumes]
        self.brightness = torch.stack(levels) + 0.1 * torch.rand(4)
        self.follower.load_state_dict(self.painter.state_dict())

    def after_step(self, stage: Stage, turn: str, ctx) -> None:
        self.events.append(("after_step", stage.name, turn, ctx.epoch, torch.is_grad_enabled()))
        for mine, theirs in zip(self.follower.parameters(), self.painter.parameters(), strict=True):
            mine.lerp_(theirs, 0.3 + 0.1 * torch.rand(()))

    def end_epoch(self, stage: Stage, epoch: int, cohort) -> None:
        state = (self.training, torch.is_grad_enabled())
        self.events.append(("end_epoch", stage.name, epoch, *state))
        self.share += 0.1 * torch.rand(()) + 0.01 * self.brightness.sum() + 0.1 / cohort.steps

    def training_step(self, batch, ctx) -> StepOutput:
        self.events.append(("step", ctx.stage.name, ctx.turn, ctx.epoch))
        output = super().training_step(batch, ctx)
        if ctx.turn == "critic":
            return output
        roles = ("same", "complete") if ctx.stage.name == "warm" else ("complete", "partial", "complete")
        further = [ctx.next_batch(role) for role in roles]
        self.seen[-1]["further"] = further
        self.seen[-1]["modes"] = (self.painter.training, self.follower.training)
        terms = {"own": output.loss}
        for number, other in enumerate(further):
            painted = self.predict(other.image, other.available).logits.float()
            terms[f"further_{number}"] = nn.functional.cross_entropy(painted, other.label)
        followed = self.follower(torch.where(batch.available[..., None, None, None], batch.image, 0.0)).float()
        terms["followed"] = (followed - painted.detach()).square().mean()
        return StepOutput.of(terms, {f"further_{number}": float(self.share) for number in range(3)})
