"""A stage as the training loop runs it: its hooks, what is frozen, further batches, what subjects must have."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from anymri.protocol.method import Method
from anymri.testing.batches import make_batch
from anymri.training.optimization import frozen_parts
from anymri.types import Batch, Cohort, Role, Stage, Where

__all__ = ["begin_stage", "further_batch", "needed"]


def needed(method: Method) -> Tensor:
    """What a subject must have for the method and for each of its stages, bool, shape (M,)."""
    row = torch.zeros(len(method.spec.modalities), dtype=torch.bool)
    for needs in (method.needs, *(stage.needs for stage in method.stages)):
        if needs == "complete":
            row[:] = True
        elif isinstance(needs, tuple):
            row |= method.spec.available(needs)
    return row


def begin_stage(method: Method, stage: Stage, batch: Batch) -> dict[str, list[dict[str, Any]]]:
    """Call `Method.start_stage` with the rows of a batch as whole volumes; leave in training mode what is trained.

    Returns
    -------
    dict of str to list of dict
        `Method.turns`, with lists of parameters.
    """
    rows = [Batch(*(_row(value, row) for value in batch)) for row in range(len(batch.image))]
    method.eval()
    torch.manual_seed(3)
    with torch.no_grad():
        method.start_stage(stage, Cohort(batch.subject_ids, batch.present, rows, 1))
    turns = {
        name: [{**group, "params": list(group["params"])} for group in groups]
        for name, groups in method.turns(stage).items()
    }
    method.train()
    trained = {id(parameter) for groups in turns.values() for group in groups for parameter in group["params"]}
    if not trained.issuperset(map(id, method.parameters())):  # looking for frozen parts takes its time
        for part in frozen_parts(method, trained):
            part.eval()
    return turns


def further_batch(method: Method, batch: Batch, role: Role) -> Batch:
    """What `StepContext.next_batch` gives: the same batch again, or one of the same size with every sequence."""
    if role != "complete":
        return batch
    present = torch.ones_like(batch.present)
    return make_batch(tuple(batch.image.shape[2:]), present, batch.available, method.spec, background=True)


def _row(value: Any, row: int) -> Any:
    if value is None:
        return None
    return Where(*(part[row : row + 1] for part in value)) if isinstance(value, Where) else value[row : row + 1]
