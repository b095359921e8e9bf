"""Memory that there is, and memory that a training step needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy

import torch

from anymri.config import TrainingSection
from anymri.inference.live_tensors import DOUBT, LiveTensors
from anymri.memory import free_bytes
from anymri.methods import Method, StepContext
from anymri.protocol.method import divisors
from anymri.training.machine import choose_device
from anymri.types import STATISTICS, Batch, Stage, UserError, Where

__all__ = ["StepMemory", "check_steps", "memory_at_hand"]

GIB = 2**30
#: Added for kernels and the allocator, which counting tensors does not see: seen 0.0 to 0.3 GiB on a processor.
WORKSPACE_GIB = 0.3


def memory_at_hand(training: TrainingSection) -> float:
    """Free memory, in GiB, of the device that a training would use; within the limit of a container."""
    if choose_device(training)[0] == "cuda":
        return float(torch.cuda.mem_get_info()[0]) / GIB
    return free_bytes() / GIB


#: A step holds at most so many times the bytes of its images; where that fits, no step is measured.
LARGEST_GROWTH = 400


def check_steps(method: Method, stages: Sequence[Stage], training: TrainingSection) -> None:
    """Refuse patches and batches that do not fit into the memory at hand, before the first step.

    Parameters
    ----------
    method : Method
        Left as it is.
    stages : sequence of Stage
        As they will be trained.
    training : TrainingSection
        For the device.

    Raises
    ------
    UserError
        If a step would take more than there is; names the keys to lower.
    """
    at_hand = memory_at_hand(training)
    for stage in stages:
        if stage.patch is None or method.classical or "tables" in method.uses:
            continue
        needed = stage.batch_size * math.prod(stage.patch) * len(method.spec.modalities) * 4 / GIB
        if needed * LARGEST_GROWTH < at_hand:
            continue
        if needed <= DOUBT * at_hand:
            needed = StepMemory(deepcopy(method), stage).gib(stage.patch, stage.batch_size)
        if needed > DOUBT * at_hand:
            patch = "x".join(map(str, stage.patch))
            raise UserError(
                f"training.batch_size = {stage.batch_size}, training.patch = {patch}: a step of stage {stage.name} "
                f"takes about {needed:,.1f} GiB of memory, and {at_hand:.1f} GiB are free; lower them"
            )


class StepMemory:
    """Memory of a training step as a line over the voxels of a batch, from two small steps on the processor.

    Parameters
    ----------
    method : Method
    stage : Stage
    """

    def __init__(self, method: Method, stage: Stage) -> None:
        depth, height, width = (step * max(2, -(-16 // step)) for step in divisors(method))
        depth = 2 if method.spatial_dims == 2 else depth
        sizes = [(depth, height, width), (depth, height, 2 * width)] if method.patch is None else [method.patch]
        voxels = [math.prod(size) for size in sizes]
        peaks = [_step_bytes(method, stage, size) for size in sizes]
        parameters = sum(parameter.nbytes for parameter in method.parameters())
        self.slope = (peaks[-1] - peaks[0]) / (voxels[-1] - voxels[0]) if len(sizes) > 1 else peaks[0] / voxels[0]
        # Weights, and two moments of each that the optimiser keeps; gradients are in the peaks.
        self.fixed = max(peaks[0] - self.slope * voxels[0], 0) + 3 * parameters

    def gib(self, patch: Sequence[int], batch: int) -> float:
        """Estimated memory, in GiB, of a step with this patch (D, H, W) and batch size."""
        return float(self.fixed + self.slope * math.prod(patch) * batch) / GIB + WORKSPACE_GIB


def _step_bytes(method: Method, stage: Stage, size: Sequence[int]) -> int:
    """Highest number of bytes that one training step holds beside the weights."""
    batch = _made_up_batch(method, size, stage.unpaired)
    weights = [*method.parameters(), *method.buffers()]
    known = {int(tensor.untyped_storage()._cdata) for tensor in weights}
    method.train()
    with torch.random.fork_rng(devices=[]), LiveTensors(known=known) as live:
        for turn in method.turns(stage):
            for parameter in method.parameters():
                parameter.grad = None
            output = method.training_step(batch, StepContext(stage, turn, next_batch=lambda role: batch))
            if output.loss is not None:
                output.loss.backward()
    for parameter in method.parameters():
        parameter.grad = None
    return live.peak


def _made_up_batch(method: Method, size: Sequence[int], unpaired: bool) -> Batch:
    channels = len(method.spec.modalities)
    generator = torch.Generator().manual_seed(0)
    present = torch.ones(1, channels, dtype=torch.bool)
    corner, number = torch.zeros(1, 3, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
    where = Where(corner, torch.tensor([list(size)]), corner.bool())
    if unpaired:
        where = Where(*(value[:, None].expand(1, channels, 3) for value in where))
    label = torch.zeros(1, *size, dtype=torch.int64)
    for value in method.spec.labels.values():
        label[:, value::7] = value
    return Batch(
        image=torch.randn(1, channels, *size, generator=generator),
        label=label if method.spec.labels else None,
        present=present,
        available=present.clone(),
        statistics=torch.ones(1, channels, len(STATISTICS)),
        where=where,
        subject_ids=("made-up", *(f"made-up {channel}" for channel in range(1, channels) if unpaired)),
        identity=torch.arange(channels)[None] * unpaired,
        site=number,
        class_label=number,
    )
