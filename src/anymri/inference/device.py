"""Device and precision that a network computes with."""

from __future__ import annotations

import torch
from torch import nn

from anymri.types import UserError

__all__ = ["device_of", "find_device", "has_bf16"]

KINDS = ("cpu", "cuda", "mps")


def find_device(name: str = "auto", option: str = "device") -> torch.device:
    """Device of a name, and for ``auto`` the GPU where there is one.

    Parameters
    ----------
    name : str, default="auto"
        ``auto``, ``cpu``, ``mps``, ``cuda`` or ``cuda:<number>``.
    option : str, default="device"
        What the user set, for the message.

    Raises
    ------
    UserError
        If there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind not in KINDS or (number and not (kind == "cuda" and number.isdecimal())):
        raise UserError(f"{option}={name}: no name of a device; choose auto, cpu, mps, cuda or cuda:<number>")
    missing = int(number or 0) >= torch.cuda.device_count() if kind == "cuda" else False
    if missing or (kind == "mps" and not torch.backends.mps.is_available()):
        raise UserError(f"{option}={name}: no such device here; choose cpu or auto")
    return torch.device(name)


def device_of(network: nn.Module) -> torch.device:
    """Device of a network's tensors."""
    return next(tensor.device for tensors in (network.parameters(), network.buffers()) for tensor in tensors)


def has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is computed natively, so that it is faster and not an emulation."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(torch.cpu.get_capabilities().get("avx512_bf16", False))
