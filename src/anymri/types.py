"""The words every part of anymri shares: data specification, batches, heads, predictions, stages.

This module imports nothing of anymri but `modalities` and `errors`. `Batch`, `Where`, `Prediction` and `StepOutput` are
named tuples because DDP traverses tuples but neither frozen nor plain classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from anymri.errors import UserError
from anymri.modalities import MODALITIES

__all__ = [
    "GLIOMA",
    "STATISTICS",
    "Batch",
    "DataSpec",
    "Features",
    "Head",
    "Intensity",
    "OptimizerSettings",
    "Prediction",
    "Sampler",
    "Stage",
    "StepOutput",
    "Subject",
    "UserError",
    "Where",
]


# --------------------------------------------------------------------------------------------------------------
# What the data are
# --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DataSpec:
    """Which modalities, labels and regions a data set or a model has, in their one order.

    Parameters
    ----------
    modalities : tuple of str
        Codes of `anymri.modalities.MODALITIES`; their order is the channel order everywhere.
    labels : dict of str to int
        Label name to value in the integer label map; 0 is background and not listed.
    regions : dict of str to tuple of str
        Region name to the labels whose union it is, from the largest region to the smallest.
    ignore : int or None, default=None
        Value in label maps of voxels that nobody labelled: they count neither in a loss nor in a score.

    Raises
    ------
    ValueError
        If a modality is unknown or named twice, a region uses an unknown label, or `ignore` is background or a label.
    """

    modalities: tuple[str, ...] = ("t1", "t1c", "t2", "flair")
    labels: dict[str, int] = field(default_factory=lambda: {"ncr": 1, "edema": 2, "et": 3})
    regions: dict[str, tuple[str, ...]] = field(
        default_factory=lambda: {
            "whole_tumor": ("ncr", "edema", "et"),
            "tumor_core": ("ncr", "et"),
            "enhancing_tumor": ("et",),
        }
    )
    ignore: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "modalities", tuple(self.modalities))
        object.__setattr__(self, "regions", {name: tuple(labels) for name, labels in self.regions.items()})
        if not self.modalities:
            raise ValueError("a data specification needs at least one modality")
        unknown = [code for code in self.modalities if code not in MODALITIES]
        if unknown:
            raise ValueError(f"unknown modality {unknown[0]!r}; known: {', '.join(MODALITIES)}")
        if len(set(self.modalities)) != len(self.modalities):
            raise ValueError(f"a modality is named twice in {self.modalities}")
        for region, labels in self.regions.items():
            missing = [label for label in labels if label not in self.labels]
            if missing:
                raise ValueError(f"region {region!r} uses the unknown label {missing[0]!r}")
        if self.ignore is not None and self.ignore in (0, *self.labels.values()):
            raise ValueError(f"the value to ignore, {self.ignore}, is background or a label")

    def __hash__(self) -> int:
        return hash((self.modalities, tuple(self.labels.items()), tuple(self.regions.items()), self.ignore))

    def index(self, modality: str) -> int:
        """Channel number of a modality.

        Raises
        ------
        ValueError
            If the specification does not have it.
        """
        return self.modalities.index(modality)

    def subsets(self) -> list[tuple[str, ...]]:
        """All non-empty subsets, from one modality to all, each in the order of `modalities`."""
        return [subset for size in range(1, len(self.modalities) + 1) for subset in combinations(self.modalities, size)]

    def parse_subset(self, text: str | Iterable[str]) -> tuple[str, ...]:
        """Read ``"flair+t1c"`` (any order) as a subset in the order of `modalities`.

        Raises
        ------
        ValueError
            If it is empty, names a modality the specification lacks, or names one twice.
        """
        codes = [code.strip() for code in text.split("+")] if isinstance(text, str) else list(text)
        codes = [code for code in codes if code]
        unknown = [code for code in codes if code not in self.modalities]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is not one of {', '.join(self.modalities)}")
        if not codes or len(set(codes)) != len(codes):
            raise ValueError(f"{text!r} is not a set of modalities; write e.g. {'+'.join(self.modalities[:2])}")
        return tuple(code for code in self.modalities if code in codes)

    def subset_name(self, subset: Iterable[str] | Tensor) -> str:
        """Name a subset, given as codes or as a boolean row (M,), e.g. ``"t1c+flair"``."""
        if isinstance(subset, Tensor):
            return "+".join(code for code, shown in zip(self.modalities, subset.tolist(), strict=True) if shown)
        return "+".join(self.parse_subset(tuple(subset)))

    def available(self, subset: Iterable[str]) -> Tensor:
        """Boolean row (M,) of a subset."""
        codes = self.parse_subset(tuple(subset))
        return torch.tensor([code in codes for code in self.modalities])

    def region_values(self, region: str) -> tuple[int, ...]:
        """Label values whose union is the region."""
        return tuple(self.labels[label] for label in self.regions[region])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form; `DataSpec(**spec.to_dict())` gives the same specification back."""
        return {
            "modalities": list(self.modalities),
            "labels": dict(self.labels),
            "regions": {name: list(labels) for name, labels in self.regions.items()},
            **({} if self.ignore is None else {"ignore": self.ignore}),
        }


#: Pre-operative glioma as in BraTS: the default specification.
GLIOMA = DataSpec()


@dataclass(frozen=True)
class Subject:
    """One study on disk; a modality that was not acquired has no entry.

    Parameters
    ----------
    subject_id : str
        Unique in its data set.
    images : dict of str to Path
        Modality code to image file.
    label : Path or None, default=None
        Integer label map.
    patient : str, default=""
        Person; several subjects (time points) may share one. Empty means the subject id.
    site : str, default=""
        Hospital or scanner, where known.
    notes : tuple of (Path, str)
        Files that were found and are not used, or are doubtful, each with a plain sentence; not part of the table.
    """

    subject_id: str
    images: dict[str, Path]
    label: Path | None = None
    patient: str = ""
    site: str = ""
    notes: tuple[tuple[Path, str], ...] = field(default=(), compare=False)


#: Order of the last axis of `Batch.statistics`: raw-intensity statistics over a modality's own brain voxels.
STATISTICS = ("mean", "std", "min", "max", "p0.1", "p1", "p99", "p99.9")


class Where(NamedTuple):
    """Where windows lie in their volumes, in voxels, for methods that need absolute position.

    Attributes
    ----------
    origin : Tensor of int64, shape (B, 3)
        First voxel of the window (D, H, W); negative inside padding.
    volume_shape : Tensor of int64, shape (B, 3)
        Shape of the whole volume.
    flipped : Tensor of bool, shape (B, 3)
        Axes that augmentation mirrored.
    """

    origin: Tensor
    volume_shape: Tensor
    flipped: Tensor


class Batch(NamedTuple):
    """What a training step or `Method.fit` sees.

    Attributes
    ----------
    image : Tensor of float32, shape (B, M, *S)
        z-scores (after the method's `Intensity`); NaN where a modality is not present.
    label : Tensor of int64, shape (B, *S), or None
        Integer label map; None for a cohort without labels.
    present : Tensor of bool, shape (B, M)
        Exists on disk.
    available : Tensor of bool, shape (B, M)
        Shown to the method now; a subset of `present`.
    statistics : Tensor of float32, shape (B, M, len(STATISTICS))
        Raw-intensity statistics of each modality's own brain; NaN where not present.
    where : Where or None
    subject_ids : tuple of str
    """

    image: Tensor
    label: Tensor | None
    present: Tensor
    available: Tensor
    statistics: Tensor
    where: Where | None = None
    subject_ids: tuple[str, ...] = ()


# --------------------------------------------------------------------------------------------------------------
# What a method's numbers mean
# --------------------------------------------------------------------------------------------------------------

#: Channel spellings of the field's three glioma regions and of background.
REGION_CHANNELS = {"wt": "whole_tumor", "tc": "tumor_core", "et": "enhancing_tumor"}


@dataclass(frozen=True)
class Head:
    """Meaning of a segmentation network's channels; `target` is the only way from a label map to them.

    Parameters
    ----------
    kind : {"softmax", "sigmoid"}
        Softmax channels exclude each other and are labels; sigmoid channels are independent.
    channels : tuple of str
        For softmax: ``"background"`` and label names. For sigmoid: region names, the short forms ``wt tc et``,
        label names or ``"background"``. A sigmoid head takes a name as a region where it can be read as one.
    threshold : float, default=0.5
        Probability above which a sigmoid channel is set.
    """

    kind: Literal["softmax", "sigmoid"]
    channels: tuple[str, ...]
    threshold: float = 0.5

    def values(self, channel: str, spec: DataSpec = GLIOMA) -> tuple[int, ...]:
        """Label values that a channel is the union of.

        Raises
        ------
        ValueError
            If the channel is neither a label nor a region of `spec`.
        """
        if channel == "background":
            return (0,)
        region = REGION_CHANNELS.get(channel, channel)
        if self.kind == "sigmoid" and region in spec.regions:
            return spec.region_values(region)
        if channel in spec.labels:
            return (spec.labels[channel],)
        raise ValueError(f"head channel {channel!r} is neither a label nor a region of the data specification")

    def target(self, label: Tensor, spec: DataSpec = GLIOMA) -> Tensor:
        """Binary target of every channel.

        Parameters
        ----------
        label : Tensor of int, shape (B, *S)
            Label map.
        spec : DataSpec

        Returns
        -------
        Tensor of float32, shape (B, C, *S)
            1 where the voxel belongs to the channel. Softmax targets are one-hot; a label that no channel
            names (possible where a method merges labels) falls to background. NaN in every channel where
            `spec.ignore` stands: the losses of `anymri.losses` leave such voxels out, another one becomes NaN.
        """
        maps = []
        for channel in self.channels:
            inside = torch.zeros_like(label, dtype=torch.bool)
            for value in self.values(channel, spec):
                inside |= label == value
            maps.append(inside)
        stacked = torch.stack(maps, dim=1)
        if self.kind == "softmax" and "background" in self.channels:
            others = [i for i, channel in enumerate(self.channels) if channel != "background"]
            stacked[:, self.channels.index("background")] = ~stacked[:, others].any(dim=1)
        target = stacked.float()
        return target if spec.ignore is None else target.masked_fill((label == spec.ignore)[:, None], torch.nan)

    def probability(self, logits: Tensor) -> Tensor:
        """Probability of every channel, shape (B, C, *S), from `logits` of the same shape."""
        return logits.softmax(dim=1) if self.kind == "softmax" else logits.sigmoid()


@dataclass(frozen=True)
class Intensity:
    """The intensity scale a method was published with, as a map from the cached z-score.

    Parameters
    ----------
    kind : {"zscore", "unit", "symmetric", "mean", "deviations"}
        ``zscore``: unchanged. ``unit``: [low, high] to [0, 1]. ``symmetric``: [low, high] to [-1, 1]. ``mean``:
        raw value over the brain's mean. ``deviations``: z-scores of [-width, width] to [-1, 1].
    low, high : str
        Names in `STATISTICS` of the range's ends, used by ``unit`` and ``symmetric``.
    clip : bool, default=True
        Whether values outside the range are clipped to it.
    width : float, default=5.0
        Standard deviations, used by ``deviations``.

    Notes
    -----
    Acts only where the cached value is not 0; background becomes the value of raw 0, except for ``zscore``,
    whose background stays 0 as in the cache.
    """

    kind: Literal["zscore", "unit", "symmetric", "mean", "deviations"] = "zscore"
    low: str = "min"
    high: str = "max"
    clip: bool = True
    width: float = 5.0

    def _scale_shift(self, statistics: Tensor) -> tuple[Tensor, Tensor]:
        """Factor and offset from RAW values, each of shape (B, M)."""
        get = {name: statistics[..., i] for i, name in enumerate(STATISTICS)}
        if self.kind == "mean":
            return 1 / get["mean"], torch.zeros_like(get["mean"])
        if self.kind == "deviations":
            reach = self.width * get["std"]
            return 1 / reach, -get["mean"] / reach
        width = (get[self.high] - get[self.low]).clamp_min(1e-6)
        if self.kind == "unit":
            return 1 / width, -get[self.low] / width
        return 2 / width, -2 * get[self.low] / width - 1

    def apply(self, image: Tensor, statistics: Tensor) -> Tensor:
        """Map cached z-scores to the method's scale.

        Parameters
        ----------
        image : Tensor, shape (B, M, *S)
        statistics : Tensor, shape (B, M, len(STATISTICS))
        """
        if self.kind == "zscore":
            return image
        shape = (*statistics.shape[:2], *([1] * (image.ndim - 2)))
        scale, shift = (value.reshape(shape) for value in self._scale_shift(statistics))
        mean, std = (statistics[..., i].reshape(shape) for i in (0, 1))
        value = (image * std + mean) * scale + shift
        low, high = (0.0, 1.0) if self.kind == "unit" else (-1.0, 1.0)
        background = shift.expand_as(image)
        if self.clip and self.kind != "mean":
            value, background = value.clamp(low, high), background.clamp(low, high)
        value = torch.where(image == 0, background, value)
        return torch.where(image.isnan(), image, value)

    def invert(self, image: Tensor, statistics: Tensor) -> Tensor:
        """Map a synthesised image (B, M, *S) back to z-scores by the given statistics (B or 1, M, ...)."""
        if self.kind == "zscore":
            return image
        shape = (*statistics.shape[:2], *([1] * (image.ndim - 2)))
        scale, shift = (value.reshape(shape) for value in self._scale_shift(statistics))
        mean, std = (statistics[..., i].reshape(shape) for i in (0, 1))
        return ((image - shift) / scale - mean) / std


#: What `Method.encode` gives: tensors or lists of tensors by name, batch axis first.
Features = dict[str, Any]


class Prediction(NamedTuple):
    """What `Method.decode` gives; a part that was not asked for or does not exist is None.

    Attributes
    ----------
    logits : Tensor, shape (B, C, *S), or None
        Pre-activation, in the channels of the method's `Head`.
    image : Tensor, shape (B, M, *S), or None
        z-scores; NaN in channels that `synthesised` does not mark.
    synthesised : Tensor of bool, shape (B, M), or None
        Which channels of `image` are valid.
    class_logits : Tensor, shape (B, K), or None
    """

    logits: Tensor | None = None
    image: Tensor | None = None
    synthesised: Tensor | None = None
    class_logits: Tensor | None = None


class StepOutput(NamedTuple):
    """What `Method.training_step` gives.

    Attributes
    ----------
    loss : Tensor, shape (), or None
        None skips the optimiser step.
    logs : dict of str to Tensor
        Every loss term by its paper's name, detached.
    """

    loss: Tensor | None
    logs: dict[str, Tensor]


# --------------------------------------------------------------------------------------------------------------
# How a method trains
# --------------------------------------------------------------------------------------------------------------

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
        Name in `anymri.data.subsets.SAMPLERS`.
    steps_per_epoch : int or None, default=None
        Optimiser steps an epoch; None = one pass over the subjects.
    unpaired : bool, default=False
        Whether modalities of a batch row may come from different subjects.
    select : {"last", "best"}, default="last"
        Which weights the stage ends with; ``best`` by mean validation Dice.
    augment : str, default="standard"
        Name in `anymri.data.augment.AUGMENTATIONS`.
    foreground : float, default=1/3
        Share of crops centred on a labelled voxel, as in nnU-Net; the others lie anywhere in the brain's box.
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
