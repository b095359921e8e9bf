"""Device, precision, threads and memory of the machine a run is on."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from lightning_fabric import Fabric

from anymri.config import TrainingSection
from anymri.inference.device import find_device, has_bf16
from anymri.types import Stage, UserError

__all__ = [
    "choose_device",
    "make_fabric",
    "memory_error",
    "seed_generators",
    "torch_settings",
    "trains_in_bf16",
]


def choose_device(settings: TrainingSection) -> tuple[str, Literal["32", "bf16"]]:
    """Device type and precision (``"32"`` or ``"bf16"``) that ``auto`` stands for here.

    Raises
    ------
    UserError
        If the device is not there.
    """
    device = find_device(settings.device, "training.device").type
    if settings.precision != "auto":
        return device, settings.precision
    return device, "bf16" if trains_in_bf16(device) else "32"


def trains_in_bf16(device: str) -> bool:
    """Whether training in bfloat16 gives correct gradients on a device: on a CPU only with AMX.

    Without AMX, oneDNN weight gradients of very small volumes contained uninitialised memory; inference is unaffected.
    """
    if device == "cpu":
        return bool(torch.cpu.get_capabilities().get("amx_bf16", False))
    return has_bf16(torch.device(device))


def make_fabric(settings: TrainingSection) -> Fabric:
    """Fabric for one device and the chosen precision."""
    device, precision = choose_device(settings)
    number = settings.device.partition(":")[2]
    devices: Any = [int(number)] if number else 1
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # no line about precision for every run
    return Fabric(accelerator=device, devices=devices, precision="bf16-mixed" if precision == "bf16" else "32-true")


def seed_generators(seed: int, device: str) -> None:
    """Seed torch's global generators of the processor and of the device type in use.

    `torch.manual_seed` does the same, but takes milliseconds to prepare devices that are not in use.
    """
    torch.default_generator.manual_seed(seed)
    if device == "cuda":
        torch.cuda.manual_seed_all(seed)
    elif device == "mps":
        torch.mps.manual_seed(seed)


@contextmanager
def torch_settings(settings: TrainingSection) -> Iterator[None]:
    """Number of threads of this run; random state and threads of the caller come back afterwards."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        try:
            torch.set_num_threads(settings.threads or threads)
            yield
        finally:
            torch.set_num_threads(threads)


def memory_error(error: BaseException, stage: Stage) -> UserError | None:
    """The user's version of an out-of-memory error; None for any other error."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    if not isinstance(error, MemoryError) and not any(word in str(error) for word in words):
        return None
    patch = "x".join(map(str, stage.patch)) if stage.patch else "the whole volume"
    lower = "training.batch_size or training.patch" if stage.batch_size > 1 else "training.patch"
    return UserError(f"out of memory with batch_size {stage.batch_size} and patch {patch}; lower {lower}")
