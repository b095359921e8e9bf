"""What a check demands, in words; holds under ``python -O`` too."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

__all__ = ["demand", "demand_same", "refuses", "tensors"]


def demand(condition: bool | Tensor, words: str) -> None:
    """Fail unless a condition holds.

    Raises
    ------
    AssertionError
        With the words.
    """
    if not condition:
        raise AssertionError(words)


def tensors(value: Any) -> Iterator[Tensor]:
    """All tensors within nested tuples, lists and dictionaries."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from tensors(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from tensors(part)


def demand_same(first: Any, second: Any, words: str) -> None:
    """Fail unless two nests of tensors are equal bit for bit; NaN equals NaN.

    Raises
    ------
    AssertionError
        With the words and the largest difference.
    """
    ours, theirs = list(tensors(first)), list(tensors(second))
    demand(len(ours) == len(theirs), f"{words}: {len(ours)} tensors became {len(theirs)}")
    for a, b in zip(ours, theirs, strict=True):
        demand(a.shape == b.shape, f"{words}: the shape {tuple(a.shape)} became {tuple(b.shape)}")
        if not same(a, b).all():
            gap = (a.double() - b.double()).abs().nan_to_num(torch.inf).max().item()
            raise AssertionError(f"{words}: values differ by up to {gap:.3g}")


def same(first: Tensor, second: Tensor) -> Tensor:
    """Where two tensors hold the same value, or both NaN."""
    return (first == second) | (first.isnan() & second.isnan())


def refuses(call: Callable[[], object], kind: type[Exception], pattern: str) -> None:
    """Fail unless a call raises an error whose words match.

    Raises
    ------
    AssertionError
        If it does not.
    """
    try:
        call()
    except kind as error:
        demand(re.search(pattern, str(error)) is not None, f"refused in other words: {error}")
        return
    raise AssertionError(f"{kind.__name__} was not raised: {pattern}")
