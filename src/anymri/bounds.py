"""Bounds of settings: the kinds of numbers a person may hand over, each with its least and its largest value.

A bound stops what cannot be meant (a width of 10^9), not what is large: memory is what limits a real training, and is
compared where sizes multiply. All settings classes use these kinds, and all are filled by `fill`.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from functools import lru_cache
from typing import Annotated, Any, TypeVar, cast

from pydantic import Field, TypeAdapter, ValidationError

__all__ = [
    "COARSEST_MM", "FINEST_MM", "LARGEST", "Batch", "Count", "Counts", "Depth", "Layers", "LayersByLevel", "Overlap",
    "PositiveNumber", "Rate", "Samples", "Seed", "Share", "Size", "Slope", "SpacingMm", "Threads", "Triple", "Weight",
    "Weights", "Whole", "Width", "Widths", "WrongSetting", "fill", "short",
]  # fmt: skip

#: Voxels along one side of a window or image.
Size = Annotated[int, Field(ge=1, le=4096)]
#: (D, H, W) of those.
Triple = tuple[Size, Size, Size]
#: Rows of a batch.
Batch = Annotated[int, Field(ge=1, le=65_536)]
#: Channels, or features, of a layer.
Width = Annotated[int, Field(ge=1, le=65_536)]
#: Resolutions of a network; each halves the one before it.
Depth = Annotated[int, Field(ge=1, le=16)]
#: Layers, blocks or heads in a row.
Layers = Annotated[int, Field(ge=1, le=256)]
#: Channels, or layers, of each resolution.
Widths = Annotated[tuple[Width, ...], Field(min_length=1, max_length=16)]
LayersByLevel = Annotated[tuple[Layers, ...], Field(min_length=1, max_length=16)]
#: How many of something, at least one.
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Counts = Annotated[tuple[Count, ...], Field(min_length=1, max_length=1000)]
#: The same, with none.
Whole = Annotated[int, Field(ge=0, le=1_000_000)]
#: Voxels drawn for a classical system.
Samples = Annotated[int, Field(ge=1, le=100_000_000)]
#: Learning rate.
Rate = Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]
#: Weight of a term of a loss, or of a penalty.
Weight = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
Weights = Annotated[tuple[Weight, ...], Field(min_length=1, max_length=1000)]
PositiveNumber = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
#: Share of a window that its neighbour covers too; beyond this bound windows move by less than a voxel in a hundred.
Overlap = Annotated[float, Field(ge=0, le=0.99, allow_inf_nan=False)]
#: Slope of a leaky rectifier below zero.
Slope = Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]
#: Edge of a voxel in mm: from specimens in a coil of their own to thick slices with gaps.
FINEST_MM, COARSEST_MM = 0.02, 100
SpacingMm = Annotated[float, Field(ge=FINEST_MM, le=COARSEST_MM, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
#: Threads or processes.
Threads = Annotated[int, Field(ge=1, le=1024)]

#: Largest number of settings that state no bound of their own, such as those of another package's method.
LARGEST = 1e9

T = TypeVar("T")


class WrongSetting(ValueError):
    """A setting that does not fit.

    Parameters
    ----------
    place : tuple of str or int
        Keys that lead to it.
    value : object
        As it was given.
    reason : str
        With the bound, e.g. ``"input should be less than or equal to 16"``.
    kind : str
        Pydantic's name of the fault, e.g. ``"missing"``.
    """

    def __init__(self, place: tuple[str | int, ...], value: object, reason: str, kind: str = "") -> None:
        self.key, self.value, self.kind = ".".join(short(part, plain=True) for part in place), short(value), kind
        self.place, self.reason = place, reason[:1].lower() + reason[1:]
        super().__init__(f"{self.key} = {self.value}: {self.reason}")


def fill(kind: type[T], values: Any, largest: float = math.inf) -> T:
    """Fill a settings class with plain values.

    Parameters
    ----------
    kind : type
        Dataclass whose fields are annotated.
    values : dict
    largest : float, default=inf
        Bound of the numbers of fields that state none.

    Raises
    ------
    WrongSetting
        If a value does not fit its field, is not finite, or is true or false where a number belongs.
    """
    try:
        made: T = _adapter(cast("Any", kind)).validate_python(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise WrongSetting(first["loc"], first["input"], first["msg"], first["type"]) from None
    for place, value, reason in _misread(values, made, largest, ()):
        raise WrongSetting(place, value, reason)
    return made


def short(value: object, plain: bool = False) -> str:
    """A value as text of at most a line, however long or deep it is; `plain` leaves out the quotes of text."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**30:
        return f"a number of {round(value.bit_length() * 0.30103)} digits"
    view = reprlib.Repr()
    view.maxstring = view.maxother = view.maxlong = 80
    text = view.repr(value)
    return text[1:-1] if plain and isinstance(value, str) else text


@lru_cache(maxsize=256)
def _adapter(kind: Any) -> Any:
    return TypeAdapter(kind)


def _misread(
    raw: Any, made: Any, largest: float, place: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], Any, str]]:
    """Places where pydantic is more lenient than a person would be."""
    if isinstance(made, (int, float)) and not isinstance(made, bool):
        if isinstance(raw, bool):
            yield place, raw, "true and false are no numbers"
        elif isinstance(made, float) and not math.isfinite(made):
            yield place, raw, "it should be a finite number"
        elif abs(made) > largest:
            yield place, raw, f"it should be at most {largest:g}"
    elif isinstance(raw, Mapping) and made is not None:
        for key in raw:
            inner = getattr(made, str(key), None) if is_dataclass(made) else made.get(key)
            yield from _misread(raw[key], inner, largest, (*place, key))
    elif isinstance(raw, (list, tuple)) and isinstance(made, (list, tuple)) and len(raw) == len(made):
        for number, (one, other) in enumerate(zip(raw, made, strict=True)):
            yield from _misread(one, other, largest, (*place, number))
