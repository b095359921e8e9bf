"""Subset samplers: which present modalities a training step may see.

Published code draws subsets from different distributions; each is here under its own name. A sampler maps
``(present (B, M) bool, progress in [0, 1], CPU generator)`` to ``available (B, M) bool``. It draws within `present`
and never returns an empty row. The distributions hold for any number n of present modalities, row by row.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from difflib import get_close_matches

import torch
from torch import Tensor

from anymri.types import GLIOMA, DataSpec, Sampler, UserError

__all__ = [
    "SAMPLERS",
    "all_present",
    "bernoulli_repair",
    "curriculum",
    "drop_count",
    "drop_count_effective",
    "few_missing_first",
    "make_sampler",
    "one_missing",
    "one_or_several",
    "size_then_subset",
    "uniform_subset",
]


def uniform_subset(present: Tensor, progress: float, generator: torch.Generator) -> Tensor:
    """Every non-empty subset of the present modalities with equal probability (RFNet).

    Parameters
    ----------
    present : Tensor of bool, shape (B, M)
    progress : float
        Not used.
    generator : torch.Generator
        On the CPU.

    Returns
    -------
    Tensor of bool, shape (B, M)
    """
    count = _count(present)
    number = 1 + _integers(2**count - 1, generator)
    position = present.cpu().long().cumsum(dim=1) - 1
    bit = (number[:, None] >> position.clamp_min(0)) & 1
    return (bit == 1).to(present.device) & present


def size_then_subset(present: Tensor, progress: float, generator: torch.Generator) -> Tensor:
    """First a size, uniform in 1..n, then that many modalities without replacement (U-HVED, U-HeMIS).

    Parameters
    ----------
    present : Tensor of bool, shape (B, M)
    progress : float
        Not used.
    generator : torch.Generator

    Returns
    -------
    Tensor of bool, shape (B, M)
        With n = 4, all four have probability 1/4 and each single one 1/16.
    """
    size = 1 + _integers(_count(present), generator)
    return _choose(present, size, generator)


def bernoulli_repair(present: Tensor, progress: float, generator: torch.Generator) -> Tensor:
    """Each modality with probability 1/2; where none is left, one at random (RobustSeg).

    Parameters
    ----------
    present : Tensor of bool, shape (B, M)
    progress : float
        Not used.
    generator : torch.Generator

    Returns
    -------
    Tensor of bool, shape (B, M)
        With n = 4, all four have probability 1/16 and each single one 1/16 + 1/64.
    """
    return _keep(present, 0.5, generator)


def drop_count(present: Tensor, progress: float, generator: torch.Generator) -> Tensor:
    """First the number of dropped modalities, few more often than many, then which (PIMMS, as intended).

    Parameters
    ----------
    present : Tensor of bool, shape (B, M)
    progress : float
        Not used.
    generator : torch.Generator

    Returns
    -------
    Tensor of bool, shape (B, M)

    Notes
    -----
    Weights of dropping 0, 1, 2, ... of n: n = 2: .5 .5; n = 3: .5 .3 .2; n = 4: .5 .3 .15 .05. Published code names no
    others; for n > 4 the last .05 is shared equally by 3..n-1, our choice.
    """
    count = _count(present)
    edges = torch.stack([_drop_edges(int(n), present.shape[1]) for n in count])
    draw = torch.rand(len(count), 1, generator=generator, dtype=torch.float64)
    return _choose(present, count - (draw >= edges).sum(dim=1), generator)


def drop_count_effective(present: Tensor, progress: float, generator: torch.Generator) -> Tensor:
    """The number of dropped modalities uniform in 0..n-1: what PIMMS's released code does in effect.

    Parameters
    ----------
    present : Tensor of bool, shape (B, M)
    progress : float
        Not used.
    generator : torch.Generator

    Returns
    -------
    Tensor of bool, shape (B, M)

    Notes
    -----
    The released code passes the weights of `drop_count` where the library expects another argument, so they have no
    effect. The distribution is that of `size_then_subset`.
    """
    count = _count(present)
    return _choose(present, count - _integers(count, generator), generator)


def curriculum(
    present: Tensor,
    progress: float,
    generator: torch.Generator,
    *,
    start: float = 1e-5,
    growth: float = 0.9,
    epochs: int = 100,
) -> Tensor:
    """Each modality missing with a probability that grows from nearly 0 to 1 (ivadomed's HeMIS-UNet).

    Parameters
    ----------
    present : Tensor of bool, shape (B, M)
    progress : float
        Of the stage, in [0, 1].
    generator : torch.Generator
    start, growth : float
        The probability is ``start`` at first and raised to the power ``growth`` after each epoch.
    epochs : int, default=100
        Epochs of the published schedule that `progress` is stretched over, so that short stages see all of it.

    Returns
    -------
    Tensor of bool, shape (B, M)
        Where none is left, one at random: near the end nearly every row is a single modality.
    """
    missing = start ** (growth ** (progress * epochs))
    return _keep(present, 1 - missing, generator)


def few_missing_first(present: Tensor, progress: float, generator: torch.Generator) -> Tensor:
    """At first one modality is missing, then up to two, up to three, then any number; never none (MM-GAN).

    Parameters
    ----------
    present : Tensor of bool, shape (B, M)
    progress : float
        Of the stage, in [0, 1]: of the published 60 epochs the first 11 leave out one modality, then 10 each up to two
        and up to three.
    generator : torch.Generator

    Returns
    -------
    Tensor of bool, shape (B, M)
        Every subset that the time allows with equal probability, one draw for the whole batch: rows that have the
        same modalities see the same. A single present modality is shown.

    Notes
    -----
    The released code lists the 14 subsets by size and admits them from index 10, 7, 3 and 0 on: from the second step
    on it leaves out three of the subsets of that size. Here a size is admitted as a whole.
    """
    count = _count(present)
    steps = sum(progress >= epoch / 60 for epoch in (11, 21, 31))
    draw = torch.rand(1, generator=generator, dtype=torch.float64)
    keys = torch.rand(present.shape[1], generator=generator, dtype=torch.float64).expand(present.shape)
    missing = torch.zeros_like(count)
    for row, n in enumerate(count.tolist()):
        most = n - 1 if steps == 3 else min(steps + 1, n - 1)
        weights = torch.tensor([math.comb(n, k) for k in range(1, most + 1)], dtype=torch.float64)
        if len(weights):
            missing[row] = 1 + int((draw >= (weights / weights.sum()).cumsum(0)[:-1]).sum())
    rank = keys.masked_fill(~present.cpu(), 2.0).argsort(dim=1).argsort(dim=1)
    return (rank < (count - missing)[:, None]).to(present.device) & present


def one_missing(present: Tensor, progress: float, generator: torch.Generator) -> Tensor:
    """All present modalities but one, each as likely to be left out (WFM).

    Parameters
    ----------
    present : Tensor of bool, shape (B, M)
    progress : float
        Not used.
    generator : torch.Generator

    Returns
    -------
    Tensor of bool, shape (B, M)
        A single present modality is shown.
    """
    return _choose(present, (_count(present) - 1).clamp_min(1), generator)


def one_or_several(present: Tensor, progress: float, generator: torch.Generator) -> Tensor:
    """Half of the rows see one modality, the others two or more, never all (HF-GAN).

    Parameters
    ----------
    present : Tensor of bool, shape (B, M)
    progress : float
        Not used.
    generator : torch.Generator

    Returns
    -------
    Tensor of bool, shape (B, M)
        Of n, with probability 1/2 a single one, else one is left out and a subset of at least two of the others drawn,
        each alike: with n = 4, each pair has probability 1/16 and each three 1/32. Always a single one of two.

    Notes
    -----
    The released code does not draw the halves but takes the first and second half of a batch.
    """
    count = _count(present)
    size = torch.ones_like(count)
    draw = torch.rand(len(count), generator=generator, dtype=torch.float64)
    for row, n in enumerate(count.tolist()):
        weights = torch.tensor([math.comb(n - 1, k) for k in range(2, n)], dtype=torch.float64)
        if len(weights) and draw[row] >= 0.5:
            size[row] = 2 + int((2 * draw[row] - 1 >= (weights / weights.sum()).cumsum(0)[:-1]).sum())
    return _choose(present, size, generator)


def all_present(present: Tensor, progress: float, generator: torch.Generator) -> Tensor:
    """Everything that is present.

    Parameters
    ----------
    present : Tensor of bool, shape (B, M)
    progress : float
        Not used.
    generator : torch.Generator
        Not used.

    Returns
    -------
    Tensor of bool, shape (B, M)
    """
    _count(present)
    return present.clone()


#: Every sampler by the name that stages and `training.sampler` use. ``fixed:<subset>`` is made by `make_sampler`.
SAMPLERS: dict[str, Sampler] = {
    "all": all_present,
    "bernoulli_repair": bernoulli_repair,
    "curriculum": curriculum,
    "drop_count": drop_count,
    "drop_count_effective": drop_count_effective,
    "few_missing_first": few_missing_first,
    "one_missing": one_missing,
    "one_or_several": one_or_several,
    "size_then_subset": size_then_subset,
    "uniform_subset": uniform_subset,
}


def make_sampler(name: str, spec: DataSpec = GLIOMA) -> Sampler:
    """Look a sampler up, or build the one that always shows one subset.

    Parameters
    ----------
    name : str
        A key of `SAMPLERS`, or ``"fixed:"`` and a subset, e.g. ``"fixed:t1c+flair"``.
    spec : DataSpec
        Names and order of the modalities, for ``fixed``.

    Raises
    ------
    UserError
        If there is no such sampler or subset.
    """
    if name.startswith("fixed:"):
        return _fixed(name, spec)
    if name not in SAMPLERS:
        close = get_close_matches(name, SAMPLERS, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(SAMPLERS)} and fixed:<subset>"
        raise UserError(f"unknown sampler {name!r}; {hint}")
    return SAMPLERS[name]


def _fixed(name: str, spec: DataSpec) -> Callable[[Tensor, float, torch.Generator], Tensor]:
    try:
        subset = spec.available(name.removeprefix("fixed:").split("+"))
    except ValueError as error:
        raise UserError(f"sampler {name!r}: {error}") from None

    def fixed(present: Tensor, progress: float, generator: torch.Generator) -> Tensor:
        shown = subset.to(present.device).expand_as(present)
        lacking = (shown & ~present).any(dim=0)
        if lacking.any():
            raise UserError(
                f"sampler {name!r}: a subject lacks {spec.subset_name(lacking)}; train on subjects that have it"
            )
        return shown.clone()

    return fixed


def _count(present: Tensor) -> Tensor:
    """Number of present modalities a row, on the CPU; a row without any is a programming error."""
    count = present.cpu().sum(dim=1)
    if present.dtype != torch.bool or not bool((count > 0).all()):
        raise ValueError("present must be boolean (B, M) with at least one modality in every row")
    return count


def _integers(stop: Tensor, generator: torch.Generator) -> Tensor:
    """Uniform integers in [0, stop), one per row."""
    draw = torch.rand(len(stop), generator=generator, dtype=torch.float64)
    return torch.minimum((draw * stop).long(), stop - 1)


def _choose(present: Tensor, size: Tensor, generator: torch.Generator) -> Tensor:
    """`size` present modalities per row without replacement: those with the smallest random keys."""
    keys = torch.rand(present.shape, generator=generator, dtype=torch.float64)
    keys = keys.masked_fill(~present.cpu(), 2.0)
    rank = keys.argsort(dim=1).argsort(dim=1)
    return (rank < size[:, None]).to(present.device)


def _keep(present: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Each present modality with a probability; where none is left, one at random."""
    count = _count(present)
    draw = torch.rand(present.shape, generator=generator, dtype=torch.float64)
    kept = (draw < probability).to(present.device) & present
    single = _choose(present, torch.ones_like(count), generator)
    return torch.where(kept.any(dim=1, keepdim=True), kept, single)


def _drop_edges(count: int, width: int) -> Tensor:
    """Cumulated drop weights of `drop_count`, padded with 2 to `width`; the last weight takes the rest."""
    head = [0.5, 0.8, 0.95][: max(count - 1, 0)]
    tail = [0.95 + 0.05 * step / (count - 3) for step in range(1, count - 3)] if count > 4 else []
    edges = head + tail
    return torch.tensor(edges + [2.0] * (width - len(edges)), dtype=torch.float64)
