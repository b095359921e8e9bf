"""Seeded batches whose sequences differ in everything a leak could carry: brain, values, presence."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import torch
from torch import Tensor

from anymri.nn.fusion import spread
from anymri.protocol.method import Method, divisors
from anymri.types import GLIOMA, STATISTICS, Batch, DataSpec, Where

__all__ = ["POISONS", "SUBSETS", "brains", "draw_fewer", "make_batch", "poison", "size_for", "smallest_size"]

#: All 15 subsets of the glioma sequences as rows.
SUBSETS = torch.stack([GLIOMA.available(subset) for subset in GLIOMA.subsets()])

#: What stands in a channel that must not be read. NaN betrays every arithmetic use and zeros a mask of what is not 0;
#: another brain with huge values betrays a box or statistics, also where NaN is filtered out.
POISONS = ("NaN", "zeros", "another brain")

#: The fewest voxels in which every label has some of its own (see `make_batch`), and three axes of which two differ.
SMALL = (8, 8, 12)


def size_for(method: Method) -> tuple[int, int, int]:
    """A small window the method accepts: twice what it must be a multiple of along every axis."""
    depth, height, width = (max(16, 2 * step) for step in divisors(method))
    return method.patch or (depth, height, width)


def smallest_size(method: Method, accepts: Callable[[tuple[int, int, int]], bool]) -> tuple[int, int, int]:
    """A window of fewer voxels than `size_for`, at less cost, if the network computes something finite from it.

    Parameters
    ----------
    method : Method
    accepts : callable
        Tries a size: whether the result is finite. An error means no.
    """
    usual, steps = size_for(method), divisors(method)
    within_slices = method.spatial_dims == 2
    sizes = [(4 if within_slices else max(8, steps[0]), *usual[1:])]
    if not within_slices and max(steps) <= 4:  # a few voxels are left at the deepest level
        sizes.insert(0, SMALL)
    for size in sizes if within_slices or method.patch is None else ():
        with suppress(Exception):  # a kernel or padding larger than the deepest level
            if accepts(size):
                return size
    return usual


def brains(rows: int, modalities: int, size: tuple[int, ...], seed: int = 0) -> Tensor:
    """Ellipsoids, of another place, shape and box in every row and channel.

    Parameters
    ----------
    rows, modalities : int
    size : tuple of int
    seed : int, default=0
        Another seed gives other brains.

    Returns
    -------
    Tensor of bool, shape (rows, modalities, *size)
    """
    generator = torch.Generator().manual_seed(100 + seed)
    shape = (rows, modalities, len(size), *[1] * len(size))
    radius = 0.34 + 0.12 * torch.rand(shape, generator=generator)
    centre = 0.5 + 0.12 * (torch.rand(shape, generator=generator) - 0.5)
    axes = torch.meshgrid(*[(torch.arange(n) + 0.5) / n for n in size], indexing="ij")
    return (((torch.stack(axes) - centre) / radius) ** 2).sum(dim=2) < 1


def make_batch(
    size: tuple[int, ...],
    present: Tensor,
    available: Tensor,
    spec: DataSpec = GLIOMA,
    fill: float = torch.nan,
    background: bool = False,
) -> Batch:
    """Random images with a nested lesion of every label.

    Parameters
    ----------
    size : tuple of int
        Of the window.
    present, available : Tensor of bool, shape (B, M)
    spec : DataSpec
    fill : float, default=nan
        Value of the channels that are not present.
    background : bool, default=False
        Whether every sequence of every row is 0 outside a brain of its own.
    """
    generator = torch.Generator().manual_seed(1)
    rows, modalities = present.shape
    image = torch.randn((rows, modalities, *size), generator=generator)
    label = torch.zeros((rows, *size), dtype=torch.int64)
    for depth, value in enumerate(spec.labels.values()):
        # Few slices are the same for every label, which then lie within one another along the other axes.
        shrinks = (min(depth, max(n // 4 - 1, 0)) for n in size)
        inner = tuple(slice(n // 4 + shrink, 3 * n // 4 - shrink) for n, shrink in zip(size, shrinks, strict=True))
        label[(slice(None), *inner)] = value
    image = image + 0.5 * label[:, None]  # something to learn
    if background:
        image = torch.where(brains(rows, modalities, size), image, 0.0)
    image = torch.where(spread(present, image.ndim), image, fill)
    statistics = torch.arange(1.0, 1 + len(STATISTICS)).expand(rows, modalities, -1)
    statistics = torch.where(present[..., None], statistics, torch.nan)
    corner, shape = torch.zeros(rows, 3, dtype=torch.int64), torch.tensor([size] * rows)
    where = Where(corner, shape, torch.zeros(rows, 3, dtype=torch.bool))
    names, numbers = tuple(f"subject{i}" for i in range(rows)), torch.arange(rows)
    identity = torch.where(present, numbers[:, None], -1)
    first = torch.zeros_like(numbers)
    return Batch(image, label, present, available, statistics, where, names, identity, site=first, class_label=first)


def poison(image: Tensor, channels: Tensor, kind: str) -> Tensor:
    """The same images with something else in some channels.

    Parameters
    ----------
    image : Tensor, shape (B, M, *S)
    channels : Tensor of bool, shape (B, M)
        Where to put it.
    kind : str
        One of `POISONS`.
    """
    if kind == "another brain":
        generator = torch.Generator().manual_seed(9)
        other = 1000 * torch.randn(image.shape, generator=generator)
        inside = brains(len(image), image.shape[1], tuple(image.shape[2:]), seed=9)
        return torch.where(spread(channels, image.ndim), torch.where(inside, other, 0.0), image)
    return torch.where(spread(channels, image.ndim), {"NaN": torch.nan, "zeros": 0.0}[kind], image)


def draw_fewer(present: Tensor) -> Tensor:
    """All but the first present modality of every row: a second draw that differs from showing everything."""
    return present & ((present.cumsum(dim=1) > 1) | (present.sum(dim=1, keepdim=True) == 1))
