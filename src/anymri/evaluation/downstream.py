"""Downstream task: what a frozen segmenter makes of studies whose missing sequences were synthesised."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from anymri.data.study import Study
from anymri.evaluation import metrics
from anymri.inference.sliding_window import WindowSettings, predict_subject

if TYPE_CHECKING:
    import torch

    from anymri.methods import Method
    from anymri.types import DataSpec

__all__ = ["FrozenSegmenter", "complete_study", "downstream_dice", "freeze_segmenter"]

Image = NDArray[np.floating]
Mask = NDArray[np.bool_]
#: A completed study (M, D, H, W) to boolean regions by name.
Segmenter = Callable[[Image], Mapping[str, Mask]]


@dataclass(frozen=True)
class FrozenSegmenter:
    """Frozen segmenter: a trained method that takes every completed study as a complete one.

    Parameters
    ----------
    method : Method
        Gives logits; put into evaluation mode, without gradients.
    windows : WindowSettings

    Raises
    ------
    ValueError
        If the method does not segment.
    """

    method: Method
    windows: WindowSettings = field(default_factory=WindowSettings)

    def __post_init__(self) -> None:
        if self.method.head is None:
            raise ValueError(f"{self.method.name} does not segment; choose a method with logits")
        self.method.eval().requires_grad_(False)

    def probability(self, completed: Image, statistics: Any) -> torch.Tensor:
        """Probability of every channel of the method's head.

        Parameters
        ----------
        completed : ndarray of float, shape (M, D, H, W)
            Without NaN.
        statistics : array of float, shape (M, len(STATISTICS))
            Raw-intensity statistics of the real sequences; rows of NaN, those of synthesised ones, become the medians
            of the segmenter's training.

        Returns
        -------
        Tensor of float32, shape (C, D, H, W)
        """
        import torch

        known = torch.as_tensor(np.asarray(statistics, np.float32)).clone()
        unknown = known.isnan().any(1)
        medians = cast(torch.Tensor, self.method.median_statistics)[0]
        known[unknown] = medians[unknown].to(known)
        study = Study.from_arrays(np.ascontiguousarray(completed, np.float32), known.numpy())
        every = self.method.spec.modalities
        found = predict_subject(self.method, study, [every], self.windows, outputs=("logits",))
        return cast(torch.Tensor, found[every].probability)


def complete_study(study: Study, subset: Sequence[str], made: Mapping[str, Image], spec: DataSpec) -> Image | None:
    """Study with its missing sequences filled in.

    Parameters
    ----------
    study : Study
    subset : sequence of str
        Sequences that are shown; no other of the study is looked at.
    made : dict of str to ndarray of float, shape (D, H, W)
        Synthesised sequences; what they hold outside the brain of those shown is background.
    spec : DataSpec

    Returns
    -------
    ndarray of float32, shape (M, D, H, W), or None
        None if a sequence is neither shown nor made.
    """
    brain = study.brain([spec.index(code) for code in subset])
    completed = np.zeros((len(spec.modalities), *brain.shape), np.float32)
    for channel, code in enumerate(spec.modalities):
        if code in subset:
            completed[channel] = study.image[channel]
        elif code in made:
            completed[channel] = np.where(brain, made[code], 0)
        else:
            return None
    return completed


def downstream_dice(
    segmenter: Segmenter,
    completed: Image,
    label: NDArray[np.integer],
    regions: Mapping[str, Sequence[int]],
    ignore: int | None = None,
) -> dict[str, float]:
    """Dice of a frozen segmenter that is given a completed study.

    Parameters
    ----------
    segmenter : callable
        Completed study (M, D, H, W) to boolean regions by name, see `freeze_segmenter`. The same one, never trained
        on synthesised images, for all methods and subsets.
    completed : ndarray of float, shape (M, D, H, W)
        Real sequences where available, synthesised ones elsewhere.
    label : ndarray of int, shape (D, H, W)
        Reference label map.
    regions : dict of str to sequence of int
        Region to its label values.
    ignore : int or None, default=None
        Value in `label` of voxels that nobody labelled; what is predicted there does not count.

    Returns
    -------
    dict of str to float
        Region to Dice, for the regions that the segmenter tells; both empty: 1.

    Raises
    ------
    ValueError
        If the completed study still has NaN.
    """
    if np.isnan(completed).any():
        raise ValueError("the completed study still has missing voxels; synthesise every sequence the segmenter reads")
    predicted = segmenter(completed)
    counted = np.ones(1, bool) if ignore is None else label != ignore
    return {
        region: metrics.dice(np.asarray(predicted[region], bool) & counted, np.isin(label, list(values)))
        for region, values in regions.items()
        if region in predicted
    }


def freeze_segmenter(method: Method, statistics: Any, settings: WindowSettings | None = None) -> Segmenter:
    """A trained method as a segmenter of complete studies of one subject; see `FrozenSegmenter`.

    Parameters
    ----------
    method : Method
        Gives logits.
    statistics : array of float, shape (M, len(STATISTICS))
        Raw-intensity statistics of the subject; those of a synthesised sequence are the method's training medians.
    settings : WindowSettings or None, default=None
        None = the whole volume, or the method's own window.

    Returns
    -------
    callable
        Completed study (M, D, H, W) to regions, all sequences taken as available.

    Raises
    ------
    ValueError
        If the method does not segment.
    """
    from anymri.inference.labels import regions

    frozen = FrozenSegmenter(method, settings or WindowSettings())
    head = method.head
    assert head is not None
    return lambda completed: regions(frozen.probability(completed, statistics), head, method.spec)
