"""Inference from a study to a result: windows, labels, restoring, trust, report."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["Model", "Result", "load", "predict_study", "predict_subject", "write_result"]

_HOMES = {"predict_subject": "sliding_window"}


def __getattr__(name: str) -> Any:
    # Lazily, so that the parts can be imported without each other.
    if name in __all__:
        return getattr(import_module(f"anymri.inference.{_HOMES.get(name, 'predict')}"), name)
    raise AttributeError(f"module 'anymri.inference' has no attribute {name!r}")
