"""Text files of a result: JSON that has no NaN and always the same bytes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["json_text", "write_text"]


def json_text(values: Mapping[str, Any]) -> str:
    """JSON with sorted keys; NaN and infinity become null."""
    return json.dumps(_without_nan(values), indent=2, sort_keys=True, allow_nan=False) + "\n"


def _without_nan(value: Any) -> Any:
    """NaN as null: JSON has no NaN."""
    if isinstance(value, Mapping):
        return {key: _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 with plain line ends; not atomic, for files in a folder that is."""
    with open(path, "w", encoding="utf-8", newline="\n") as handle:
        handle.write(text)
