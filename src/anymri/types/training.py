"""Training types: stages, optimisers, samplers of subsets, what a step gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, Self

import torch
from torch import Tensor

from anymri.types.data import Batch

__all__ = ["Cohort", "OptimizerSettings", "Role", "Sampler", "Stage", "StepOutput"]


class StepOutput(NamedTuple):
    """Output of `Method.training_step`.

    Attributes
    ----------
    loss : Tensor, shape (), or None
        None skips the optimiser step.
    logs : dict of str to Tensor
        Every loss term by its paper's name, detached.
    """

    loss: Tensor | None
    logs: dict[str, Tensor]

    @classmethod
    def of(cls, terms: Mapping[str, Tensor], weights: Mapping[str, float] | None = None) -> Self:
        """Weighted sum of named terms.

        Parameters
        ----------
        terms : dict of str to Tensor, shape ()
            Loss terms by the paper's names.
        weights : dict of str to float or None, default=None
            Factors of the terms; a term that is not named has 1. A term of weight 0 is logged and not summed.

        Returns
        -------
        StepOutput
            With every term logged as given, detached. Its loss is None if no term is summed.
        """
        weights = weights or {}
        summed = [weights.get(name, 1.0) * term for name, term in terms.items() if weights.get(name, 1.0) != 0]
        logs = {name: term.detach() for name, term in terms.items()}
        return cls(torch.stack(summed).sum() if summed else None, logs)


#: Subjects of a further batch within a step: those of this batch again, complete ones, or ones that lack a sequence.
Role = Literal["same", "complete", "partial"]

#: ``(present (B, M) bool, progress in [0, 1], CPU generator) -> available (B, M) bool``.
Sampler = Callable[[Tensor, float, torch.Generator], Tensor]


@dataclass(frozen=True)
class Stage:
    """One stage of a method's training.

    Parameters
    ----------
    name : str
    epochs : int
    batch_size : int
    patch : tuple of int or None
        Training crop (D, H, W) in voxels; None = the whole volume.
    sampler : str
        Name in `anymri.data.samplers.SAMPLERS`.
    steps_per_epoch : int or None, default=None
        Optimiser steps an epoch; None = one pass over the subjects.
    unpaired : bool, default=False
        Whether every modality of a batch row comes from another subject, see `Batch.identity`.
    select : {"last", "best"}, default="last"
        Which weights the stage ends with; ``best`` by mean validation Dice, or PSNR of a method that only
        makes images.
    augment : str, default="standard"
        Name in `anymri.data.augment.AUGMENTATIONS`.
    foreground : float, default=1/3
        Share of crops centred on a labelled voxel, as in nnU-Net; the others lie anywhere in the brain's box.
    needs : {"complete", "any"}, tuple of str or None, default=None
        What a subject must have to take part in this stage; None = `Method.needs`.
    subjects : {"all", "complete", "partial"}, default="all"
        Which of them batches are made of: ``complete`` ones have every sequence, ``partial`` ones lack one.
    ema : float or None, default=None
        Decay, in (0, 1), of an exponential moving average of the weights: the stage is validated with it and ends with
        it. None = no average. ``training.ema`` replaces it.

    shared : bool, default=False
        Whether runs that differ in their subset alone train this stage once: the first one leaves its weights in the
        folder ``shared`` beside them, the others take them. Nothing in the stage may depend on the subset: build
        what it trains first, so that it starts alike; let `turns` not depend on `Method.start_stage`; and let the stage
        change nothing but what it trains and buffers. It comes before stages that are not shared. Runs that start it
        otherwise (another seed, data, code, weights) train their own.

    Raises
    ------
    ValueError
        If `ema` is not in (0, 1), or a shared stage is to end with its best weights, which depend on the subset.
    """

    name: str
    epochs: int
    batch_size: int
    patch: tuple[int, int, int] | None
    sampler: str
    steps_per_epoch: int | None = None
    unpaired: bool = False
    select: Literal["last", "best"] = "last"
    augment: str = "standard"
    foreground: float = 1 / 3
    needs: Literal["complete", "any"] | tuple[str, ...] | None = None
    subjects: Literal["all", "complete", "partial"] = "all"
    ema: float | None = None
    shared: bool = False

    def __post_init__(self) -> None:
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"stage {self.name}: ema = {self.ema} is not in (0, 1)")
        if self.shared and self.select == "best":
            raise ValueError(f"stage {self.name}: a shared stage ends with its last weights, not its best")


class Cohort(NamedTuple):
    """Subjects of a stage, for `Method.start_stage` and `Method.end_epoch`.

    Attributes
    ----------
    subject_ids : tuple of str
        Each once, whatever ``data.repeat`` says.
    present : Tensor of bool, shape (N, M)
        Which sequences each subject has.
    volumes : iterable of Batch
        Whole volumes without augmentation, a batch of one row each, in the order of `subject_ids`; on the method's
        scale and device, with `available` drawn by the stage's sampler, the same in every pass. Read from the disk as
        they are asked for.
    steps : int
        Optimiser steps of the stage.
    """

    subject_ids: tuple[str, ...]
    present: Tensor
    volumes: Iterable[Batch]
    steps: int


@dataclass(frozen=True)
class OptimizerSettings:
    """Optimiser, schedule and clipping of one turn.

    Parameters
    ----------
    optimizer : {"adam", "adamw", "sgd"}
    lr : float
        Learning rate of parameter groups that do not set their own.
    weight_decay : float, default=0.0
    betas : tuple of float, default=(0.9, 0.999)
        For Adam; the first one is the momentum of SGD.
    nesterov : bool, default=False
        Whether SGD's momentum looks ahead.
    amsgrad : bool, default=False
    schedule : {"constant", "poly", "cosine", "step"}, default="constant"
        ``poly``: lr (1 - p)^power; ``cosine``: to 0 along half a cosine; ``step``: lr divided by `step_divisor`
        `step_count` times at equal distances. p = progress of the stage in [0, 1].
    power : float, default=0.9
    step_divisor : float, default=4.0
    step_count : int, default=5
    hold : float, default=0.0
        Share of the stage at the full rate, before the schedule runs over the rest.
    warmup : float, default=0.0
        Share of the stage with linearly rising learning rate.
    clip_norm : float or None, default=None
        Largest gradient norm.
    """

    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    lr: float = 1e-3
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    nesterov: bool = False
    amsgrad: bool = False
    schedule: Literal["constant", "poly", "cosine", "step"] = "constant"
    power: float = 0.9
    step_divisor: float = 4.0
    step_count: int = 5
    hold: float = 0.0
    warmup: float = 0.0
    clip_norm: float | None = None
