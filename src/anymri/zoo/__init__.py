"""Bundled weights with their model cards, opening of any weights, and import of authors' checkpoints."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anymri.errors import UserError
from anymri.zoo.card import ModelCard, RegionScore, card_text, read_card_file

if TYPE_CHECKING:
    from anymri.methods import Method, PerSubsetModels

__all__ = [
    "ModelCard",
    "RegionScore",
    "calibration_place",
    "card_text",
    "find_card",
    "get_card",
    "import_checkpoint",
    "list_models",
    "open_model",
    "weights_paths",
    "weights_sha256",
]

#: Folder of the bundled weights: ``<name>.safetensors`` and its card ``<name>.md``; ``default.txt`` names the default.
WEIGHTS = Path(__file__).parent / "weights"
#: Name of the weights file inside a run folder.
RUN_WEIGHTS = "model.safetensors"


def list_models() -> list[ModelCard]:
    """Cards of all bundled models, the default first, then by name.

    Raises
    ------
    UserError
        If weights lack a card or a card is incomplete.
    """
    cards = [_read_card(path) for path in sorted(WEIGHTS.glob("*.safetensors"))]
    return sorted(cards, key=lambda card: (not card.default, card.name))


def find_card(name: str) -> ModelCard:
    """Card of a bundled model by its name or ``"default"``.

    Raises
    ------
    UserError
        If there is no such bundled model.
    """
    card = get_card(name)
    if card is None:
        raise UserError(f"no bundled model {name!r}; known: {_known()}")
    return card


def get_card(name: str) -> ModelCard | None:
    """Card of a bundled model by its name or ``"default"``; None if `name` is not a bundled model."""
    path = _bundled(name)
    return None if path is None else _read_card(path)


def weights_paths(model: str | Path) -> list[Path]:
    """Weights files of a model: one, or those of several networks that serve a subset each.

    Parameters
    ----------
    model : str or path-like
        ``"default"``, a name of `list_models`, a weights file, a run folder, or a folder of run folders.

    Raises
    ------
    UserError
        If there is nothing of that name; lists the bundled models.
    """
    bundled = _bundled(str(model))
    if bundled is not None:
        return [bundled]
    path = Path(model)
    if path.is_dir():
        own = path / RUN_WEIGHTS
        found = [own] if own.is_file() else sorted(path.glob(f"*/{RUN_WEIGHTS}"))
        if not found:
            raise UserError(
                f"{path}: no {RUN_WEIGHTS} in this folder or one below; name finished runs or a weights file"
            )
        return found
    if path.is_file():
        return [path]
    raise UserError(f"unknown model {str(model)!r}; known: {_known()}; or give a weights file or a run folder")


def weights_sha256(model: str | Path) -> str:
    """Checksum of a model's weights file; of several files, that of their checksums."""
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in weights_paths(model)]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def calibration_place(model: str | Path) -> Path:
    """Where the calibration of a model is looked for, whether there is one or not.

    Parameters
    ----------
    model : str or path-like
        See `weights_paths`. Of ``<name>.safetensors`` it is ``<name>.calibration.json``, in a run folder or a folder of
        runs ``calibration.json``.

    Raises
    ------
    UserError
        If there is no such model.
    """
    paths = weights_paths(model)
    if paths[0].name != RUN_WEIGHTS:
        return paths[0].with_suffix(".calibration.json")
    return (paths[0].parent if len(paths) == 1 else Path(model)) / "calibration.json"


def open_model(model: str | Path) -> Any:
    """Load a model for prediction.

    Parameters
    ----------
    model : str or path-like
        See `weights_paths`.

    Returns
    -------
    Method or PerSubsetModels
        In evaluation mode. Its ``extra`` is the dict stored beside the weights: spacing, window and subjects it
        was trained with. A folder of run folders gives the family of its networks, called after the folder.

    Raises
    ------
    UserError
        If the model is unknown, a file is not a weights file of anymri, or the runs of a folder do not go together.
    """
    from anymri.methods import load

    opened = []
    paths = weights_paths(model)
    for path in paths:
        opened.append(load(path))
    return opened[0] if len(opened) == 1 else _join(opened, paths, Path(model))


def _join(members: list[Method], paths: list[Path], folder: Path) -> PerSubsetModels:
    """One model of the networks below a folder, with what their weights say in common."""
    from anymri.methods import PerSubsetModels

    every = [member.facts for member in members]
    for member, facts, path in zip(members, every, paths, strict=True):
        if member.subsets == "any":
            raise UserError(
                f"{folder}: {path.parent.name} serves every subset by itself; name that run, or a folder of networks "
                "with one subset each"
            )
        for key in ("spacing_mm", "window", "fold"):
            if getattr(facts, key) != getattr(every[0], key):
                raise UserError(
                    f"{folder}: {paths[0].parent.name} and {path.parent.name} differ in {key}; name a folder of "
                    "networks that were trained alike"
                )
    try:
        together = PerSubsetModels.of(members)
    except ValueError as error:
        raise UserError(f"{folder}: {error}; name a folder with one network for each subset") from None
    seen: dict[str, Any] = {}
    for key in ("training_subjects", "training_images"):
        lists = [getattr(facts, key) for facts in every]
        if None not in lists:
            seen[key] = tuple(sorted({value for one in lists for value in one}))
    together.facts = replace(every[0], run=folder.resolve().name, **seen)
    return together.eval()


def import_checkpoint(name: str, state_dict: Mapping[str, Any], source: str | None = None) -> Any:
    """Build a method from weights in the naming of its authors' code.

    Parameters
    ----------
    name : str
        Registry name of the method.
    state_dict : mapping of str to Tensor
        As stored by the authors' code.
    source : str or None, default=None
        Which weights these are; None = what the method's table lists first.

    Returns
    -------
    Method
        In evaluation mode, with the authors' weights.

    Raises
    ------
    UserError
        If the method is unknown, knows no mapping, or the weights do not fit.

    Notes
    -----
    See `anymri.protocol.Method.import_state_dict`. A method of another package may have its own mapping of that name.
    """
    from anymri.methods import get_method

    mapping = get_method(name).import_state_dict
    try:
        method = mapping(state_dict) if source is None else mapping(state_dict, source)
    except (KeyError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise UserError(
            f"{source or 'these'} weights do not fit {name!r}: {reason}; check method and source"
        ) from error
    return method.eval()


def _default_name() -> str:
    listing = WEIGHTS / "default.txt"
    return listing.read_text(encoding="utf-8").strip() if listing.is_file() else "default"


def _bundled(name: str) -> Path | None:
    """Weights file of a bundled model; None if `name` is none, e.g. because it is a path."""
    path = WEIGHTS / f"{_default_name() if name == 'default' else name}.safetensors"
    return path if path.parent == WEIGHTS and path.is_file() else None


def _known() -> str:
    names = [path.stem for path in sorted(WEIGHTS.glob("*.safetensors"))]
    return ", ".join(["default", *names] if names else ["none is bundled yet"])


def _read_card(weights: Path) -> ModelCard:
    return read_card_file(weights.with_suffix(".md"), default=weights.stem == _default_name())
