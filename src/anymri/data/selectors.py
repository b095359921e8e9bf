"""Selectors: a path says how its image is read, in a part after ``#``.

A path may end in comma-separated items, so that one cell of ``subjects.csv`` says all that is needed to read it::

    BRATS_001.nii.gz#2        channel 2 (counted from 0) of a 4D file
    Ground#63=1,126=2         label map in which 63 means 1 and 126 means 2
    masks#*=1                 label map in which every value but 0 means 1
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Source", "parse_source", "recode", "select", "source_files"]

#: Key of `Source.values` for every value that is not listed.
_OTHERS = -1


@dataclass(frozen=True)
class Source:
    """Parts of a path to an image.

    Parameters
    ----------
    path : Path
        File or folder, without the selector.
    channel : int or None, default=None
        Channel of a 4D file.
    values : dict of int to int
        Label value in the file to ours; -1 stands for every other value but 0. Empty = as stored.
    """

    path: Path
    channel: int | None = None
    values: Mapping[int, int] = field(default_factory=dict)


def parse_source(path: str | Path) -> Source:
    """Take a path apart; where the whole name exists or the end is no selector, it is a plain path."""
    path = Path(path)
    name, sign, text = path.name.rpartition("#")
    if not sign or not name or path.exists():
        return Source(path)
    channel: int | None = None
    values: dict[int, int] = {}
    for item in text.split(","):
        match = re.fullmatch(r"(?:(\d+|\*)=)?(\d+)", item)
        if match is None:
            return Source(path)
        if match[1] is None:
            channel = int(match[2])
        else:
            values[_OTHERS if match[1] == "*" else int(match[1])] = int(match[2])
    return Source(path.with_name(name), channel, values)


def select(path: Path, channel: int | None = None, values: Mapping[int, int] | None = None) -> Path:
    """A path with a selector; the inverse of `parse_source`."""
    items = [] if channel is None else [str(channel)]
    items += [f"{'*' if theirs == _OTHERS else theirs}={ours}" for theirs, ours in (values or {}).items()]
    return path.with_name(f"{path.name}#{','.join(items)}") if items else path


def source_files(path: str | Path) -> list[Path]:
    """The files an image is made of, sorted; empty if there is none.

    Parameters
    ----------
    path : path-like
        With or without a selector. A folder stands for the files directly in it.
    """
    location = parse_source(path).path
    if location.is_dir():
        return sorted(file for file in location.iterdir() if file.is_file() and not file.name.startswith("."))
    return [location] if location.is_file() else []


def recode(array: NDArray[Any], values: Mapping[int, int]) -> NDArray[Any]:
    """Label values of a file as ours; a value that is not listed stays as it is."""
    if not values:
        return array
    others = values.get(_OTHERS)
    result = array.copy() if others is None else np.where(array != 0, others, 0).astype(array.dtype)
    for theirs, ours in values.items():
        if theirs != _OTHERS:
            result[array == theirs] = ours
    return result
