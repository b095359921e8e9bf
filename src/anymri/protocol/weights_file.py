"""Weights file: one safetensors file with a method's name, settings, specification and facts of its training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor, nn

from anymri.errors import UserError
from anymri.files import replace_file
from anymri.protocol.facts import TrainingFacts
from anymri.protocol.finite import find_non_finite

__all__ = ["Header", "fill_weights", "fit_buffers", "read_header", "weights_digest", "write_weights"]


class Header(NamedTuple):
    """Header of a weights file.

    Attributes
    ----------
    name : str
        Registry name of the method.
    config, spec : dict
        Plain values of its settings and of its data specification.
    facts : TrainingFacts
    """

    name: str
    config: dict[str, Any]
    spec: dict[str, Any]
    facts: TrainingFacts


def write_weights(path: Path, header: Header, state: dict[str, Tensor]) -> None:
    """Write weights and header, whole or not at all; the same content gives the same bytes.

    Raises
    ------
    UserError
        If the operating system refuses.
    """
    texts = {
        "format": "anymri-1",
        "name": header.name,
        "config": json.dumps(header.config, sort_keys=True),
        "spec": json.dumps(header.spec),
        "extra": json.dumps(header.facts.to_dict(), sort_keys=True),
    }
    tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    with replace_file(path) as file:
        file.write(_sorted_header(serialise(tensors, metadata=texts)))


def read_header(path: Path | str) -> Header:
    """Header of a weights file.

    Raises
    ------
    UserError
        If the file does not exist or is not a weights file of anymri.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            header = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: not a readable weights file ({error}); expected safetensors") from None
    if header.get("format") != "anymri-1":
        raise UserError(f"{path}: safetensors without anymri's header; make weights of it with anymri import-weights")
    config, spec, facts = (json.loads(header[key]) for key in ("config", "spec", "extra"))
    return Header(header["name"], config, spec, TrainingFacts.read(facts, path))


def fill_weights(network: nn.Module, path: Path | str, name: str) -> None:
    """Fill a network with the tensors of a weights file.

    Parameters
    ----------
    network : Module
    path : path-like
    name : str
        Of the method, for the message.

    Raises
    ------
    UserError
        If they do not fit, or a value is NaN or infinite that is not so in the network's fresh buffers.
    """
    with safe_open(str(path), framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    if wrong := find_non_finite(tensors, dict(network.named_buffers())):
        raise UserError(
            f"{path}: the weights of {name} hold NaN or infinite values in {len(wrong)} of {len(tensors)} tensors, "
            f"first {wrong[0]}; get the file anew or train again"
        )
    fit_buffers(network, tensors)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(f"{path}: weights do not fit {name}: {str(error).splitlines()[-1].strip()}") from None


def fit_buffers(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Give buffers the shapes of a state before it is loaded: trees and tables have no fixed size."""
    for key, buffer in list(network.named_buffers()):
        if key in tensors and tensors[key].shape != buffer.shape:
            owner, _, leaf = key.rpartition(".")
            network.get_submodule(owner).register_buffer(leaf, tensors[key].to(buffer.device).clone())


def weights_digest(network: nn.Module) -> str:
    """Hash of all weights and buffers, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _sorted_header(content: bytes) -> bytes:
    """The same safetensors file with its header in alphabetical order: the library writes it in random order."""
    length = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # tensors start at multiples of eight bytes
    return len(header).to_bytes(8, "little") + header + content[8 + length :]
