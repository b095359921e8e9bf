"""Weights file: one safetensors file with a method's name, settings, specification and facts of its training.

Its metadata hold a checksum over everything else in the file, so that a changed weight or setting is noticed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from pydantic import ConfigDict
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor, nn

from anymri.errors import UserError
from anymri.files import replace_file
from anymri.protocol.facts import TrainingFacts
from anymri.protocol.finite import find_non_finite
from anymri.records import RECORD, check_record, parse_json
from anymri.types import SpecRecord

__all__ = [
    "Header",
    "check_weights",
    "fill_weights",
    "fit_buffers",
    "fits_checksum",
    "read_header",
    "seal_tensors",
    "weights_digest",
    "write_weights",
]

#: Format that is written, and an older one without a checksum.
FORMAT, UNSEALED = "anymri-2", "anymri-1"
REMEDY = "get the file anew or train again"


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


@dataclass(frozen=True, kw_only=True)
class _Texts:
    """Metadata of a weights file beside format and checksum: a name and three JSON texts."""

    __pydantic_config__: ClassVar[ConfigDict] = RECORD

    name: str
    config: str
    spec: str
    extra: str


def write_weights(path: Path, header: Header, state: dict[str, Tensor]) -> None:
    """Write weights and header, whole or not at all; the same content gives the same bytes.

    Raises
    ------
    UserError
        If the operating system refuses.
    """
    texts = {
        "format": FORMAT,
        "name": header.name,
        "config": json.dumps(header.config, sort_keys=True),
        "spec": json.dumps(header.spec),
        "extra": json.dumps(header.facts.to_dict(), sort_keys=True),
    }
    with replace_file(path) as file:
        file.write(seal_tensors(state, texts))


def read_header(path: Path | str) -> Header:
    """Header of a weights file.

    Raises
    ------
    UserError
        If the file does not exist, is not a weights file of anymri or says something that does not fit.
    """
    texts = _read_metadata(path)
    found = texts.pop("format", "")
    if found not in (FORMAT, UNSEALED):
        if found.startswith("anymri-"):
            raise UserError(f"{path}: has format {found}, made by a newer version of anymri; update anymri")
        raise UserError(f"{path}: safetensors without anymri's header; make weights of it with anymri import-weights")
    if found == FORMAT and texts.pop("sha256", None) is None:
        raise UserError(f"{path}: sha256 is missing; {REMEDY}")
    stored = check_record(texts, _Texts, path, REMEDY)
    config, spec, extra = (parse_json(text, path, REMEDY) for text in (stored.config, stored.spec, stored.extra))
    for name, values in (("config", config), ("extra", extra)):
        if not isinstance(values, dict):
            raise UserError(f"{path}: {name} is damaged (no JSON object); {REMEDY}")
    check_record(spec, SpecRecord, f"{path}: spec", REMEDY)
    return Header(stored.name, config, spec, TrainingFacts.read(extra, path))


def check_weights(path: Path | str) -> None:
    """Hold a weights file against its checksum; files of format ``anymri-1`` have none.

    Raises
    ------
    UserError
        As `read_header`; if anything in the file has changed since it was written.
    """
    read_header(path)
    if _read_metadata(path)["format"] == FORMAT and not fits_checksum(path):
        raise UserError(f"{path}: was changed or damaged after it was written (sha256 does not fit); {REMEDY}")


def fits_checksum(path: Path | str) -> bool:
    """Whether a readable safetensors file has a checksum and is as `seal_tensors` made it."""
    with Path(path).open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        digest = _start_digest(header)
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest() == header.get("__metadata__", {}).get("sha256")


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


def seal_tensors(state: Mapping[str, Tensor], texts: Mapping[str, str]) -> bytes:
    """A safetensors file with a checksum, its header in alphabetical order: the library's is random.

    Parameters
    ----------
    state : dict of str to Tensor
    texts : dict of str to str
        Metadata; ``sha256`` over header and tensors is added.
    """
    tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    content = serialise(tensors, metadata=dict(texts))
    length = int.from_bytes(content[:8], "little")
    values = json.loads(content[8 : 8 + length])
    digest = _start_digest(values)
    digest.update(content[8 + length :])
    values.setdefault("__metadata__", {})["sha256"] = digest.hexdigest()
    header = json.dumps(values, sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # tensors start at multiples of eight bytes
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


def _read_metadata(path: Path | str) -> dict[str, str]:
    try:
        if not Path(path).is_file():
            raise OSError("no such file")
        with safe_open(str(path), framework="pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: not a readable weights file ({error}); expected safetensors") from None


def _start_digest(header: Mapping[str, Any]) -> Any:
    """Sha256 over a header without its checksum, to be fed with the bytes of the tensors."""
    metadata = {key: value for key, value in header.get("__metadata__", {}).items() if key != "sha256"}
    text = json.dumps({**header, "__metadata__": metadata}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode())
