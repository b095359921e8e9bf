"""Authors' checkpoint files: read without running what they hold, and written as weights of anymri."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anymri.errors import UserError

if TYPE_CHECKING:
    from anymri.methods import Method

__all__ = ["import_file", "read_checkpoint"]

#: First bytes of what torch.save writes: an archive, or a pickle as before PyTorch 1.6.
STARTS = (b"PK", b"\x80\x02")


def read_checkpoint(path: Path, entry: str | None = None) -> dict[str, Any]:
    """Read the weights in a file of PyTorch or safetensors.

    Parameters
    ----------
    path : Path
        Only tensors and plain values are read; a file that wants to run something is refused.
    entry : str or None, default=None
        Entry of the file that holds the weights; None = ``state_dict`` where there is such an entry, else the whole.

    Returns
    -------
    dict of str to Tensor, or of str to such dictionaries

    Raises
    ------
    UserError
        If the file is missing, damaged, holds more than tensors or lacks the entry.
    """
    content = _read(path)
    if entry is None:
        inner = content.get("state_dict")
        return dict(inner) if isinstance(inner, Mapping) else content
    if not isinstance(content.get(entry), Mapping):
        raise UserError(f"{path}: has no entry {entry!r} with weights; it holds {', '.join(list(content)[:8])}")
    return dict(content[entry])


def import_file(name: str, path: Path, out: Path, source: str | None = None, entry: str | None = None) -> Method:
    """Write an authors' checkpoint as a weights file that every command opens.

    Parameters
    ----------
    name : str
        Registry name of the method.
    path, out : Path
    source : str or None, default=None
        Which weights these are, see the method's table in `anymri.methods.authors`; None = what it lists first.
    entry : str or None, default=None
        See `read_checkpoint`.

    Raises
    ------
    UserError
        If the method is unknown or has no table, the file cannot be read or does not fit.
    """
    from anymri.protocol.facts import TrainingFacts
    from anymri.zoo import import_checkpoint

    method: Method = import_checkpoint(name, read_checkpoint(path, entry), source)
    method.save(out, TrainingFacts(run=f"{name}-of-its-authors"))
    return method


def _read(path: Path) -> dict[str, Any]:
    import pickle

    import torch
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        with path.open("rb") as file:
            known = file.read(2) in STARTS
        if not known:
            raise ValueError("it does not begin like a file of torch.save")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(
            f"{path}: is damaged or holds more than tensors, so that opening it could run anything; if you trust it, "
            "save its state_dict again with torch.save"
        ) from None
    except Exception as error:  # a damaged file makes the readers of torch and safetensors raise anything
        reason = getattr(error, "strerror", None) or (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: not a readable checkpoint ({reason}); give one of PyTorch or safetensors") from None
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: holds no dictionary of weights; save a state_dict with torch.save")
    return dict(content)
