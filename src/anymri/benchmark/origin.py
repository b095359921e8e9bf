"""Origin of a results table: made by the code that is here now, or by other code."""

from __future__ import annotations

from typing import Any, Literal

from anymri.evaluation.code import scoring_code
from anymri.methods import get_method
from anymri.training.code import training_code
from anymri.types import UserError

__all__ = ["Origin", "origin"]

#: ``current``; ``training`` or ``scoring``: other code did that; ``unknown``: not recorded, or the method is not here.
Origin = Literal["current", "training", "scoring", "unknown"]

#: What is told of several networks: the first that holds of one of them.
ORDER: tuple[Origin, ...] = ("training", "scoring", "unknown", "current")


def origin(settings: dict[str, Any]) -> Origin:
    """Whose code made a results table, by what is stored beside it.

    Parameters
    ----------
    settings : dict
        From `anymri.evaluation.results.read_table`.
    """
    own, parts = str(settings.get("method")), []
    for key in ("then", "downstream"):
        if part := settings.get(key):
            parts.append(_origin(part, str(part.get("method"))))
            own = own.removesuffix(f"+{part.get('method')}") if key == "then" else own
    found = {_origin(settings, own), *parts}
    return next(worst for worst in ORDER if worst in found)


def _origin(settings: dict[str, Any], method: str) -> Origin:
    """Of one network."""
    scored, trained = settings.get("code"), [entry.get("code") for entry in settings.get("training", [])]
    try:
        cls = get_method(method)
    except (UserError, ImportError):
        return "unknown"
    if any(code is not None and code != training_code(cls) for code in trained):
        return "training"
    if scored is not None and scored != scoring_code(cls):
        return "scoring"
    return "unknown" if scored is None or None in trained else "current"
