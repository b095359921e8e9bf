"""Step context: what the training loop tells a training step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from anymri.types import Batch, Role, Stage

__all__ = ["StepContext"]


class StepContext:
    """Context that the loop hands to a training step.

    Attributes
    ----------
    stage : Stage
    turn : str
        Name of the turn (see `Method.turns`).
    epoch : int
    progress : float
        Share of the stage that is done, in [0, 1]; drives warm-ups and curricula.
    generator : torch.Generator
        CPU generator, seeded anew before every turn.
    shared : dict of str to Tensor
        Kept over the turns of one micro-batch; detached tensors only.
    draw_available : callable
        ``present -> available``: draws from the stage's sampler again.
    next_batch : callable
        ``role -> Batch``: a further batch of this stage, of its batch size and crops, on the method's scale and with
        `available` drawn. ``"same"``: the subjects of this batch, cropped and augmented anew; ``"complete"``: subjects
        with every sequence; ``"partial"``: subjects that lack one; the latter two of all that have what the stage
        needs, whatever `Stage.subjects` says. The first call in every turn gives the same batch, and so on.
    """

    def __init__(
        self,
        stage: Stage,
        turn: str = "main",
        epoch: int = 0,
        progress: float = 0.0,
        generator: torch.Generator | None = None,
        shared: dict[str, Any] | None = None,
        draw_available: Callable[[Tensor], Tensor] | None = None,
        next_batch: Callable[[Role], Batch] | None = None,
    ) -> None:
        self.stage = stage
        self.turn = turn
        self.epoch = epoch
        self.progress = progress
        self.generator = generator if generator is not None else torch.Generator().manual_seed(0)
        self.shared: dict[str, Any] = {} if shared is None else shared
        self.draw_available = draw_available if draw_available is not None else (lambda present: present)
        self.next_batch = next_batch if next_batch is not None else _no_further_batch


def _no_further_batch(role: Role) -> Batch:
    raise RuntimeError(f"no further batch ({role}): this context belongs to no training run; give it next_batch")
