"""Output types: a method's head, intensity scale, features and predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from anymri.types.data import GLIOMA, STATISTICS, DataSpec

__all__ = ["REGION_CHANNELS", "Features", "Head", "Intensity", "Prediction"]

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
            `spec.ignore` stands and in rows without a label map (`UNLABELLED`): the losses of `anymri.losses` leave
            such voxels out, another one becomes NaN.
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
        unknown = label < 0  # not `== UNLABELLED`, which is 255 to label maps of 8 bits
        if spec.ignore is not None:
            unknown |= label == spec.ignore
        return stacked.float().masked_fill(unknown[:, None], torch.nan)

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
    """Output of `Method.decode`; a part that was not asked for or does not exist is None.

    Attributes
    ----------
    logits : Tensor, shape (B, C, *S), or None
        Pre-activation, in the channels of the method's `Head`.
    image : Tensor, shape (B, M, *S), or None
        z-scores; NaN in channels that `synthesised` does not mark.
    synthesised : Tensor of bool, shape (B, M), or None
        Which channels of `image` are valid.
    class_logits : Tensor, shape (B, K), or None
    modality_logits : Tensor, shape (B, M, M), or None
        Which modality (last axis) each given channel shows, for methods that are told no names.
    """

    logits: Tensor | None = None
    image: Tensor | None = None
    synthesised: Tensor | None = None
    class_logits: Tensor | None = None
    modality_logits: Tensor | None = None
