"""Downstream task: Dice of a frozen segmenter on studies whose missing sequences were synthesised."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from anymri.data.study import Study
from anymri.evaluation import metrics

if TYPE_CHECKING:
    from anymri.inference.sliding_window import WindowSettings
    from anymri.methods import Method

__all__ = ["downstream_dice", "freeze_segmenter"]

Image = NDArray[np.floating]
Mask = NDArray[np.bool_]
#: A completed study (M, D, H, W) to boolean regions by name.
Segmenter = Callable[[Image], Mapping[str, Mask]]


def downstream_dice(
    segmenter: Segmenter,
    completed: Image,
    label: NDArray[np.integer],
    regions: Mapping[str, Sequence[int]],
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
    return {
        region: metrics.dice(np.asarray(predicted[region], bool), np.isin(label, list(values)))
        for region, values in regions.items()
        if region in predicted
    }


def freeze_segmenter(method: Method, statistics: Any, settings: WindowSettings | None = None) -> Segmenter:
    """A trained method as a segmenter of complete studies.

    Parameters
    ----------
    method : Method
        Gives logits.
    statistics : array of float, shape (M, 8)
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
    import torch

    from anymri.inference.labels import regions
    from anymri.inference.sliding_window import predict_subject

    method.eval().requires_grad_(False)
    head = method.head
    if head is None:
        raise ValueError(f"{method.name} does not segment; choose a method with logits")
    medians = cast(torch.Tensor, method.median_statistics)[0]

    def segment(completed: Image) -> Mapping[str, Mask]:
        known = torch.as_tensor(np.asarray(statistics, np.float32)).clone()
        unknown = known.isnan().any(1)
        known[unknown] = medians[unknown].to(known)
        every = method.spec.modalities
        study = Study.from_arrays(np.ascontiguousarray(completed, np.float32), known.numpy())
        found = predict_subject(method, study, [every], settings, outputs=("logits",))
        return regions(found[every].probability, head, method.spec)

    return segment
