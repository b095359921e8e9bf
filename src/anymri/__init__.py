"""MRI studies with missing sequences: segment, complete, benchmark, train.

Everything heavy is imported on first use, so that ``import anymri`` and ``anymri --help`` stay quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from anymri.moved import find_moved_modules
from anymri.version import __version__

__all__ = ["__version__", "load", "methods", "zoo"]

find_moved_modules()


def __getattr__(name: str) -> Any:
    if name == "load":
        return import_module("anymri.inference").load
    if name in ("methods", "zoo", "data", "evaluation", "inference", "phantom", "training"):
        return import_module(f"anymri.{name}")
    raise AttributeError(f"module 'anymri' has no attribute {name!r}")
