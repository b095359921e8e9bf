"""One step of every turn of every stage, as the training loop runs them, and what the modules compute meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from anymri.protocol.method import Method, StepContext
from anymri.protocol.weights_file import fit_buffers
from anymri.testing.expect import tensors
from anymri.testing.stage import begin_stage, further_batch, needed
from anymri.types import Batch

__all__ = ["START_STAGE", "Recording", "incomplete", "modules_that_predict", "record", "run_turns", "without_dropout"]


def incomplete(method: Method) -> tuple[Tensor, Tensor]:
    """What two subjects have and are shown: something is absent, something hidden, where the method allows it.

    Returns
    -------
    present, available : Tensor of bool, shape (B, M)
        One row for a method that needs complete subjects.
    """
    present = torch.tensor([[0, 1, 1, 1], [1, 0, 0, 1]]).bool()
    available = torch.tensor([[0, 1, 0, 1], [1, 0, 0, 0]]).bool()
    if needed(method).all():
        present, available = torch.ones(1, 4, dtype=torch.bool), torch.tensor([[1, 0, 1, 0]]).bool()
    elif any(isinstance(stage.needs, tuple) for stage in method.stages):
        present = present | needed(method)
    if method.subsets != "any":
        own = method.spec.available(method.subset_modalities)
        both = own if isinstance(method.needs, str) else method.spec.available(method.needs)
        present, available = present | both, own.expand_as(available)
    return present, available


def run_turns(method: Method, batch: Batch, progress: float = 0.5, backward: bool = True) -> dict[str, dict]:
    """Loss, logs and gradients of every turn of every stage, as the training loop runs them.

    Parameters
    ----------
    method : Method
        Left in training mode.
    batch : Batch
    progress : float, default=0.5
        Share of each stage that is done.
    backward : bool, default=True
        Whether to compute gradients.

    Returns
    -------
    dict of str to dict
        By ``stage.turn``: ``output``, a StepOutput, and ``gradients`` by name of the parameter.
    """
    results = {}
    for stage in method.stages:
        shared: dict = {}
        for turn, groups in begin_stage(method, stage, batch).items():
            trained = {id(parameter) for group in groups for parameter in group["params"]}
            for parameter in method.parameters():
                parameter.requires_grad_(id(parameter) in trained)
            method.zero_grad(set_to_none=True)
            torch.manual_seed(3)
            ctx = StepContext(
                stage,
                turn,
                progress=progress,
                generator=torch.Generator().manual_seed(2),
                shared=shared,
                draw_available=lambda present: batch.available,
                next_batch=lambda role: further_batch(method, batch, role),
            )
            output = method.training_step(batch, ctx)
            if output.loss is not None and backward:
                output.loss.backward()
            gradients = {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}
            results[f"{stage.name}.{turn}"] = {"output": output, "gradients": gradients}
    method.requires_grad_(True).train()
    return results


#: Begins the name of what a module gave in `Method.start_stage`.
START_STAGE = "start_stage: "


@contextmanager
def without_dropout() -> Iterator[None]:
    """Dropout does nothing: how many numbers it draws may depend on how many sequences there are."""
    attend = F.scaled_dot_product_attention

    def plain(*args: Any, dropout_p: float = 0.0, **options: Any) -> Tensor:
        return attend(*args, **options)

    with ExitStack() as stack:
        for name in ("dropout", "dropout1d", "dropout2d", "dropout3d"):
            stack.enter_context(patch.object(F, name, lambda x, *_, **__: x))
        stack.enter_context(patch.object(F, "scaled_dot_product_attention", plain))
        yield


class Recording(NamedTuple):
    """What modules computed in a training step, in the order of their calls.

    Attributes
    ----------
    outputs : list of (str, Tensor)
        Name of a module that predicts, and one tensor it gave.
    normalised : list of (str, Tensor)
        Name of a batch normalisation, and its input.
    """

    outputs: list[tuple[str, Tensor]]
    normalised: list[tuple[str, Tensor]]


def modules_that_predict(method: Method, batch: Batch) -> set[str]:
    """Names of the modules that `Method.predict` calls; teachers, discriminators and auxiliary heads are others."""
    used: set[str] = set()
    with torch.inference_mode(), _listening(method, lambda name, module, taken, given: used.add(name)):
        method.predict(batch.image, batch.available, batch.where)
    return used


def record(method: Method, used: set[str], batch: Batch) -> Recording:
    """Run one training step of every turn and remember what the modules that predict gave.

    Parameters
    ----------
    method : Method
        Put back to the weights and running statistics it came with.
    used : set of str
        From `modules_that_predict`; the others may look at more.
    batch : Batch
    """
    before = {key: value.clone() for key, value in method.state_dict().items()}
    recording = Recording([], [])

    def remember(name: str, module: nn.Module, taken: Any, given: Any) -> None:
        if name in used:
            # Whole volumes, one after the other, and not rows of a batch.
            name = name if method.training else f"{START_STAGE}{name}"
            recording.outputs.extend(
                (name, tensor.detach().clone()) for tensor in tensors(given) if tensor.is_floating_point()
            )
        if isinstance(module, _BatchNorm) and module.training:
            recording.normalised.append((name, taken[0].detach().clone()))

    with _listening(method, remember):
        run_turns(method, batch, backward=False)
    fit_buffers(method, before)
    method.load_state_dict(before)
    return recording


@contextmanager
def _listening(method: nn.Module, hear: Callable[[str, nn.Module, Any, Any], object]) -> Iterator[None]:
    """Call `hear` with name, module, input and output of every module that runs."""
    handles = [
        module.register_forward_hook(partial(_tell, hear, name)) for name, module in method.named_modules() if name
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _tell(hear: Callable[..., object], name: str, module: nn.Module, taken: Any, given: Any) -> None:
    hear(name, module, taken, given)
