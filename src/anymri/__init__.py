"""MRI studies with missing sequences: segment, complete, benchmark, train.

Everything heavy is imported on first use, so that ``import anymri`` and ``anymri --help`` stay quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = ["load", "methods", "zoo"]


def __getattr__(name: str) -> Any:
    if name == "load":
        return import_module("anymri.inference").load
    if name in ("methods", "zoo", "data", "evaluation", "inference", "phantom", "training"):
        return import_module(f"anymri.{name}")
    raise AttributeError(f"module 'anymri' has no attribute {name!r}")
