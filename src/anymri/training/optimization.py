"""Optimisers of a stage's turns, learning rate as a function of progress, moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Set
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from anymri.types import OptimizerSettings

__all__ = ["WeightAverage", "frozen_parts", "lr_factor", "make_optimizer", "set_lr"]


def make_optimizer(groups: list[dict[str, Any]], settings: OptimizerSettings, lr: float | None = None) -> Optimizer:
    """Build the optimiser of one turn.

    Parameters
    ----------
    groups : list of dict
        Parameter groups of `Method.turns`.
    settings : OptimizerSettings
    lr : float or None, default=None
        Replaces ``settings.lr``; groups with a rate of their own keep their ratio to it.
    """
    ratio = 1.0 if lr is None else lr / settings.lr
    groups = [
        {**group, "params": list(group["params"]), "lr": group.get("lr", settings.lr) * ratio} for group in groups
    ]
    # One kernel over all parameters: 2-3 times faster than one by one, where torch has it.
    fused = all(parameter.device.type in ("cpu", "cuda") for group in groups for parameter in group["params"])
    if settings.optimizer == "sgd":
        optimizer: Optimizer = SGD(
            groups,
            lr=settings.lr,
            momentum=settings.betas[0],
            nesterov=settings.nesterov,
            weight_decay=settings.weight_decay,
            fused=fused,
        )
        if settings.betas[0]:
            # The fused kernel refuses parameters whose first gradient comes later than that of others, such as those of
            # a sequence that was not drawn; a momentum of zeros makes their first step the same.
            for parameter in (parameter for group in groups for parameter in group["params"]):
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    else:
        kind = Adam if settings.optimizer == "adam" else AdamW
        optimizer = kind(
            groups,
            lr=settings.lr,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            amsgrad=settings.amsgrad,
            fused=fused,
        )
    for group in optimizer.param_groups:
        group["peak_lr"] = group["lr"]
    return optimizer


def lr_factor(settings: OptimizerSettings, progress: float, step_share: float) -> float:
    """What the learning rate is multiplied by.

    Parameters
    ----------
    settings : OptimizerSettings
    progress : float
        Share of the stage that is done before this step, in [0, 1).
    step_share : float
        Share of the stage that one step is, so that a warm-up's first step already moves.
    """
    warm = min(1.0, (progress + step_share) / settings.warmup) if settings.warmup > 0 else 1.0
    progress = max(0.0, (progress - settings.hold) / (1 - settings.hold)) if settings.hold < 1 else 0.0
    if settings.schedule == "poly":
        return warm * (1 - progress) ** settings.power
    if settings.schedule == "cosine":
        return warm * (1 + math.cos(math.pi * progress)) / 2
    if settings.schedule == "step":
        # A tiny addition keeps a boundary that is a whole number of steps from being missed by rounding.
        return warm * settings.step_divisor ** -math.floor(progress * (settings.step_count + 1) + 1e-9)
    return warm


def set_lr(optimizer: Any, factor: float) -> None:
    """Set every group's learning rate to its peak times `factor`."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor


def frozen_parts(module: nn.Module, trained: Set[int]) -> list[nn.Module]:
    """Largest submodules that have parameters and none that is trained.

    Parameters
    ----------
    module : nn.Module
    trained : set of int
        Identities of the trained parameters.
    """
    found = []
    for child in module.children():
        parameters = [id(parameter) for parameter in child.parameters()]
        if parameters and trained.isdisjoint(parameters):
            found.append(child)
        else:
            found += frozen_parts(child, trained)
    return found


class WeightAverage:
    """Exponential moving average of a module's floating-point parameters and buffers.

    Parameters
    ----------
    module : nn.Module
    decay : float
        In (0, 1). In the first steps it is at most (1 + n) / (10 + n), n the number of updates, so that short
        trainings do not stay at their random start.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module, self.decay, self.updates = module, decay, 0
        self.values = {name: value.detach().clone() for name, value in self._live().items()}

    def update(self) -> None:
        """Move the average towards the module's present values."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        live = self._live()
        torch._foreach_lerp_(list(self.values.values()), [live[name].detach() for name in self.values], 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the module hold the average inside the block."""
        live = self._live()
        kept = {name: value.detach().clone() for name, value in live.items()}
        self._copy(self.values)
        try:
            yield
        finally:
            self._copy(kept)

    def apply(self) -> None:
        """Let the module hold the average from now on."""
        self._copy(self.values)

    def restart(self) -> None:
        """Begin again at the module's present values."""
        self.updates = 0
        self.values = {name: value.detach().clone() for name, value in self._live().items()}

    def state_dict(self) -> dict[str, Any]:
        """Values and number of updates."""
        return {"values": self.values, "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.updates = state["updates"]
        for name, value in state["values"].items():
            self.values[name].copy_(value)

    def _live(self) -> dict[str, Tensor]:
        return {name: value for name, value in self.module.state_dict().items() if value.is_floating_point()}

    @torch.no_grad()
    def _copy(self, values: dict[str, Tensor]) -> None:
        for name, value in self._live().items():
            value.copy_(values[name])
