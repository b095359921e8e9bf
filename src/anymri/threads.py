"""Threads for work that falls into independent parts, e.g. one for each sequence of a study."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["map_parts"]

Key = TypeVar("Key")
Part = TypeVar("Part")
Done = TypeVar("Done")


def map_parts(function: Callable[[Key, Part], Done], parts: Mapping[Key, Part]) -> dict[Key, Done]:
    """Call a function for every part of a mapping, on as many threads as torch was given.

    Parameters
    ----------
    function : callable
        Takes key and part; must not change what others use. NumPy and SciPy leave the interpreter to the other threads
        while they compute.
    parts : mapping

    Returns
    -------
    dict
        Results in the order of `parts`; if some parts raise, the error of the first of them is raised.
    """
    import torch

    count = min(len(parts), torch.get_num_threads())
    if count < 2:
        return {key: function(key, part) for key, part in parts.items()}
    with ThreadPoolExecutor(count) as pool:
        return dict(zip(parts, pool.map(function, parts.keys(), parts.values()), strict=True))
