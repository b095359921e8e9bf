"""Authors' checkpoints: find the table of translation of a method and check which source it is asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import import_module
from types import ModuleType

from anymri.errors import UserError

__all__ = ["choose_source", "find_table"]


def find_table(package: str, method: str) -> ModuleType:
    """Table of translation of a method's foreign weights, the module ``<package>.authors.<method>``.

    Parameters
    ----------
    package : str
        In which the method's own module lies: `anymri.methods` or another package.
    method : str
        Registry name.

    Raises
    ------
    UserError
        If there is none.
    """
    path = f"{package}.authors.{method}".lstrip(".")
    try:
        return import_module(path)
    except ModuleNotFoundError as error:
        if not f"{path}.".startswith(f"{error.name}."):
            raise  # the table is there and misses something else
    raise UserError(f"method {method!r} cannot import foreign weights; train it with anymri train")


def choose_source(known: Iterable[str], source: str | None, method: str) -> tuple[str, str]:
    """The source asked for, and its spelling among the known ones.

    Parameters
    ----------
    known : iterable of str
        Spellings, the usual one first; ``<...>`` stands for codes of modalities, e.g. ``"official:<subset>"``.
    source : str or None
        None = the usual one.
    method : str
        Registry name, for the message.

    Raises
    ------
    UserError
        If it is not known.
    """
    known = tuple(known)
    source = known[0].partition(":")[0] if source is None else source
    for spelling in known:
        if re.fullmatch(re.sub(r"<\w+>", r"[^<>:]+", spelling), source):
            return source, spelling
    raise UserError(f"unknown source {source!r} of {method} weights; known: {', '.join(known)}")
