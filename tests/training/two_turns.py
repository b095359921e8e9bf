"""A method with two stages, two turns, dropout and noise: everything that an interrupted run could get wrong."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anymri.methods import Method, MethodConfig, MethodInfo, Preset, StepContext
from anymri.protocol.method import zero_absent
from anymri.protocol.request import EVERYTHING
from anymri.types import GLIOMA, Batch, DataSpec, Head, OptimizerSettings, Prediction, Stage, StepOutput


class TwoTurns(Method):
    """A painter and a critic; the critic rests in the first stage, the spare layer always does."""

    name = "two_turns"
    Config = MethodConfig
    info = MethodInfo(title="Two turns", family="baseline", task="segmentation", year=2026, reference="test")
    presets = {
        "tiny": Preset(
            (
                Stage("warm", epochs=2, batch_size=2, patch=(12, 12, 12), sampler="uniform_subset", steps_per_epoch=2),
                Stage("main", 2, 1, (12,) * 3, "curriculum", 2, select="best", augment="left_right", foreground=0.5),
            )
        )
    }

    def __init__(self, config: MethodConfig, spec: DataSpec = GLIOMA) -> None:
        super().__init__(config, spec)
        self.head = Head("softmax", ("background", *spec.labels))
        self.subsets = ("t1c+flair", "t1+t1c+flair")
        self.painter = nn.Sequential(
            nn.Conv3d(4, 6, 3, padding=1), nn.BatchNorm3d(6), nn.Dropout(0.3), nn.LeakyReLU(), nn.Conv3d(6, 4, 1)
        )
        self.critic = nn.Conv3d(4, 1, 3)
        self.spare = nn.Linear(2, 2)
        self.seen: list[dict] = []

    def encode(self, image, available, where=None):
        return {"image": zero_absent(image, available)}

    def decode(self, features, available, request=EVERYTHING):
        return Prediction(logits=self.painter(zero_absent(features["image"], available)))

    def turns(self, stage: Stage):
        first, last = self.painter[0].parameters(), self.painter[4].parameters()
        painter = [{"params": first, "lr": 1e-2}, {"params": [*last, *self.painter[1].parameters()]}]
        critic = [{"params": self.critic.parameters()}]
        return {"painter": painter} if stage.name == "warm" else {"critic": critic, "painter": painter}

    def optimizer_settings(self, stage: Stage, turn: str) -> OptimizerSettings:
        if turn == "critic":
            return OptimizerSettings("sgd", lr=1e-2, weight_decay=1e-4, clip_norm=0.5)
        return OptimizerSettings("adamw", lr=3e-2, schedule="cosine", warmup=0.3)

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        again = ctx.draw_available(batch.present)
        noise = 0.1 * torch.randn(batch.image.shape, generator=ctx.generator)
        painted = self.predict(batch.image.nan_to_num() + noise, batch.available | again).logits.float()
        self.record(batch, ctx, again)
        if ctx.turn == "critic":
            ctx.shared["painted"] = painted.detach()
            loss = self.critic(painted.detach()).square().mean() + 0.1 * torch.rand(())
            return StepOutput(loss, {"square": loss.detach()})
        loss = nn.functional.cross_entropy(painted, batch.label) * (2 - ctx.progress)
        terms = {"cross_entropy": loss.detach()}
        if ctx.stage.name == "main":
            loss = loss + 0.01 * self.critic(painted).mean()
        return StepOutput(loss, terms)

    def record(self, batch: Batch, ctx: StepContext, again: Tensor) -> None:
        self.seen.append(
            {
                "stage": ctx.stage.name,
                "turn": ctx.turn,
                "progress": ctx.progress,
                "ids": batch.subject_ids,
                "available": batch.available.clone(),
                "present": batch.present.clone(),
                "again": again,
                "shared": ctx.shared,
                "dropout": torch.rand(()).item(),
                "trainable": {n for n, p in self.named_parameters() if p.requires_grad},
                "gradients": {n for n, p in self.named_parameters() if p.grad is not None},
            }
        )
