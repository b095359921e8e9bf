"""The prediction for one subject and one subset."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anymri.types import Head

__all__ = ["SubjectPrediction", "background"]


def background(head: Head) -> NDArray[np.float32]:
    """Probability (C,) of every channel where there is certainly nothing: 1 for a background channel, else 0."""
    return np.array([channel == "background" for channel in head.channels], np.float32)


@dataclass(frozen=True, kw_only=True)
class SubjectPrediction:
    """Prediction for one subset, kept inside the brain box of the subset and expanded on demand.

    Parameters
    ----------
    shape : tuple of int
        Volume grid (D, H, W).
    start, stop : tuple of int
        Brain box of the subset, half open.
    head : Head or None
    box_probability : Tensor of float32, shape (C, *box), or None
    box_image : Tensor of float32, shape (M, *box), or None
        z-scores: real where available, else synthesised, NaN where neither.
    synthesised : Tensor of bool, shape (M,)
        Channels of `image` that were synthesised; never an available one.
    class_probability : Tensor of float32, shape (K,), or None
    modality_probability : Tensor of float32, shape (M, M), or None
        Which modality (second axis) each given channel shows.
    """

    shape: tuple[int, int, int]
    start: tuple[int, int, int]
    stop: tuple[int, int, int]
    head: Head | None
    box_probability: Tensor | None
    box_image: Tensor | None
    synthesised: Tensor
    class_probability: Tensor | None
    modality_probability: Tensor | None = None

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """Place of the box in the volume."""
        first, second, third = (slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        return first, second, third

    @property
    def probability(self) -> Tensor | None:
        """Probability of every channel, shape (C, D, H, W); certain background outside the box."""
        if self.box_probability is None:
            return None
        full = torch.zeros((self.box_probability.shape[0], *self.shape))
        if self.head is not None:
            full += torch.from_numpy(background(self.head))[:, None, None, None]
        full[(slice(None), *self.slices)] = self.box_probability
        return full

    @property
    def image(self) -> Tensor | None:
        """Completed study, shape (M, D, H, W), z-scores; see `box_image`."""
        if self.box_image is None:
            return None
        full = torch.zeros((self.box_image.shape[0], *self.shape))
        unknown = self.box_image.isnan().flatten(1).any(1)
        full[unknown] = torch.nan
        full[(slice(None), *self.slices)] = self.box_image
        return full
