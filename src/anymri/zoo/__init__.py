"""Bundled weights with their model cards, opening of any weights, and import of authors' checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from anymri.errors import UserError

__all__ = ["ModelCard", "get_card", "import_checkpoint", "list_models", "open_model", "read_card", "weights_path"]

#: Folder of the bundled weights: ``<name>.safetensors`` and its card ``<name>.md``; ``default.txt`` names the default.
WEIGHTS = Path(__file__).parent / "weights"
#: Name of the weights file inside a run folder.
RUN_WEIGHTS = "model.safetensors"


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What is known about a bundled model; the front matter of its Markdown card.

    Parameters
    ----------
    name : str
        Name in the zoo, equal to the file's name.
    method : str
        Registry name of its method.
    summary : str
        One line.
    modalities : tuple of str
        Sequences it accepts, in channel order.
    data : str
        What it was trained on.
    seed : int
    command : str
        How to train it again.
    licence : str
    limits : str
        What it must not be used for or is not known to do.
    numbers : dict
        Measured results; ``by_subset`` maps a subset name to region and mean Dice of held-out subjects,
        ``measured_on`` says which.
    path : Path
        Weights file.
    text : str, default=""
        Body of the card, Markdown.
    """

    name: str
    method: str
    summary: str
    modalities: tuple[str, ...]
    data: str
    seed: int
    command: str
    licence: str
    limits: str
    numbers: dict[str, Any] = field(default_factory=dict)
    path: Path
    text: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form, without body and place."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name not in ("path", "text")}
        return {**values, "modalities": list(self.modalities), "default": self.name == _default_name()}


def list_models() -> list[ModelCard]:
    """Cards of all bundled models, the default first, then by name.

    Raises
    ------
    UserError
        If weights lack a card or a card is incomplete.
    """
    default = _default_name()
    cards = [_read_card(path) for path in sorted(WEIGHTS.glob("*.safetensors"))]
    return sorted(cards, key=lambda card: (card.name != default, card.name))


def get_card(name: str) -> ModelCard | None:
    """Card of a bundled model by its name or ``"default"``; None if `name` is not a bundled model."""
    path = _bundled(name)
    return None if path is None else _read_card(path)


def read_card(name: str) -> str:
    """Text of a bundled model's card, Markdown with its front matter.

    Raises
    ------
    UserError
        If there is no such bundled model.
    """
    path = _bundled(name)
    if path is None:
        raise UserError(f"no bundled model {name!r}; known: {_known()}")
    return _read_card(path).path.with_suffix(".md").read_text(encoding="utf-8")


def weights_path(model: str | Path) -> Path:
    """Weights file of a model.

    Parameters
    ----------
    model : str or path-like
        ``"default"``, a name of `list_models`, a weights file or a run folder.

    Raises
    ------
    UserError
        If there is nothing of that name; lists the bundled models.
    """
    bundled = _bundled(str(model))
    if bundled is not None:
        return bundled
    path = Path(model)
    if path.is_dir():
        if not (path / RUN_WEIGHTS).is_file():
            raise UserError(f"{path}: no {RUN_WEIGHTS} in this folder; name a finished run or a weights file")
        return path / RUN_WEIGHTS
    if path.is_file():
        return path
    raise UserError(f"unknown model {str(model)!r}; known: {_known()}; or give a weights file or a run folder")


def open_model(model: str | Path) -> Any:
    """Load a model for prediction.

    Parameters
    ----------
    model : str or path-like
        See `weights_path`.

    Returns
    -------
    Method
        In evaluation mode. Its ``extra`` is the dict stored beside the weights: spacing, window and subjects it
        was trained with.

    Raises
    ------
    UserError
        If the model is unknown or the file is not a weights file of anymri.
    """
    from anymri.methods import load
    from anymri.methods.base import read_header

    path = weights_path(model)
    method = load(path)
    method.extra = read_header(path)["extra"]
    return method


def import_checkpoint(name: str, state_dict: Mapping[str, Any], source: str = "official") -> Any:
    """Build a method from weights in the naming of its authors' code.

    Parameters
    ----------
    name : str
        Registry name of the method.
    state_dict : mapping of str to Tensor
        As stored by the authors' code.
    source : str, default="official"
        Which code wrote it, where a method knows several.

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
    A method offers the mapping as a classmethod ``import_state_dict(state_dict, source) -> Method``.
    """
    from anymri.methods import get_method

    mapping = getattr(get_method(name), "import_state_dict", None)
    if mapping is None:
        raise UserError(f"method {name!r} cannot import foreign weights; train it with anymri train")
    try:
        method = mapping(state_dict, source)
    except (KeyError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise UserError(f"the {source} weights do not fit {name!r}: {reason}; check method and source") from error
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
    from yaml import YAMLError, safe_load

    path = weights.with_suffix(".md")
    if not path.is_file():
        raise UserError(f"{weights}: no model card; add {path.name} beside it")
    opening, front, text = (path.read_text(encoding="utf-8").split("---\n", 2) + ["", ""])[:3]
    try:
        values = safe_load(front) if not opening.strip() else None
        if not isinstance(values, dict):
            raise TypeError("no YAML front matter between two lines of ---")
        values["modalities"] = tuple(values["modalities"])
        card = ModelCard(**values, path=weights, text=text.strip())
    except (YAMLError, TypeError, KeyError) as error:
        raise UserError(f"{path}: not a model card ({error}); see CONTRIBUTING") from None
    if card.name != weights.stem:
        raise UserError(f"{path}: card of {card.name!r} beside weights {weights.stem!r}; use one name")
    return card
