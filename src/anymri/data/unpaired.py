"""Unpaired rows of a batch: every sequence comes from another subject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from anymri.data.augment import Crop

if TYPE_CHECKING:
    from anymri.data.study import Study

__all__ = ["UnpairedCrop", "draw_sources", "one_sequence"]


def draw_sources(
    own: str, present: Mapping[str, NDArray[np.bool_]], subject_ids: Sequence[str], random: np.random.Generator
) -> dict[int, str]:
    """Subject of each channel of an unpaired row, no subject twice.

    Parameters
    ----------
    own : str
        The row's own subject: one of its sequences is in the row, each with equal probability.
    present : dict of str to ndarray of bool, shape (M,)
        Which sequences each subject has.
    subject_ids : sequence of str
        Whom the other channels are drawn from; one that stands there twice is drawn twice as often.
    random : numpy.random.Generator

    Returns
    -------
    dict of int to str
        Channel to subject, that of `own` first. A channel is not there if all who have it are in the row already;
        channels are filled in random order, so that none is short more often than another.
    """
    first = int(random.choice(np.flatnonzero(present[own])))
    sources = {first: own}
    for channel in random.permutation(len(present[own])).tolist():
        left = [name for name in subject_ids if present[name][channel] and name not in sources.values()]
        if channel != first and left:
            sources[channel] = left[random.integers(len(left))]
    return sources


def one_sequence(study: Study, channel: int, label: bool) -> Study:
    """A study of one sequence alone, with its label map or without: nothing of the others can be read from it."""
    only = slice(channel, channel + 1)
    return study._replace(
        image=study.image[only],
        present=study.present[only],
        statistics=study.statistics[only],
        boxes=study.boxes[only],
        middles=study.middles[only],
        label=study.label if label else None,
    )


class UnpairedCrop:
    """Crops of one sequence each, of different subjects and of one size, as one crop.

    Parameters
    ----------
    crops : dict of int to Crop
        Channel to crop of that sequence alone; the row's own subject first: the label map is its.
    modalities : int
        Number of channels; those without a crop are absent.

    Attributes
    ----------
    image, label, present, statistics
        As of `anymri.data.augment.Crop`.
    place, frame_shape, flipped : ndarray, shape (M, 3)
        Of each channel's own subject; 0 and False for absent ones.
    others : dict of int to str
        Channel to subject, of those that are not the row's own.
    """

    def __init__(self, crops: Mapping[int, Crop], modalities: int) -> None:
        own = next(iter(crops.values()))
        self.study, self.subject_id, self.label = own.study, own.subject_id, own.label
        self.image = torch.full((modalities, *own.image.shape[1:]), torch.nan)
        self.present = torch.zeros(modalities, dtype=torch.bool)
        self.statistics = torch.full((modalities, own.statistics.shape[1]), torch.nan)
        self.place, self.frame_shape = np.zeros((modalities, 3), np.int64), np.zeros((modalities, 3), np.int64)
        self.flipped = np.zeros((modalities, 3), bool)
        for channel, crop in crops.items():
            self.image[channel], self.present[channel], self.statistics[channel] = (
                crop.image[0],
                True,
                crop.statistics[0],
            )
            self.place[channel], self.frame_shape[channel] = crop.place, crop.frame_shape
            self.flipped[channel] = crop.flipped
        self.others = {channel: crop.subject_id for channel, crop in crops.items() if crop is not own}
