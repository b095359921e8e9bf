"""Scores of one prediction: which metrics, of which target, against which reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymri.evaluation import metrics
from anymri.types import DataSpec

__all__ = ["Score", "Synthesis", "score_regions", "score_synthesis"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Score:
    """One value of the results table.

    Parameters
    ----------
    target : str
        Region or modality code.
    metric : str
    value : float
    unit : str
        ``"1"`` for ratios.
    reference_empty : bool, default=False
    """

    target: str
    metric: str
    value: float
    unit: str
    reference_empty: bool = False


def score_regions(
    predicted: Mapping[str, Array], label: Array, spec: DataSpec, spacing_mm: Sequence[float], hd95: bool = True
) -> list[Score]:
    """Segmentation scores of every region that was predicted.

    Parameters
    ----------
    predicted : dict of str to bool array, shape (D, H, W)
        From `anymri.inference.labels.regions`.
    label : int array, shape (D, H, W)
        Reference label map; predictions where it holds `spec.ignore` do not count.
    spec : DataSpec
        Of the reference.
    spacing_mm : sequence of float
    hd95 : bool, default=True
        Whether to measure surface distances, the slow part.
    """
    scores = []
    for region, inside in predicted.items():
        if region not in spec.regions:
            continue
        reference = np.isin(label, spec.region_values(region))
        inside = inside if spec.ignore is None else inside & (label != spec.ignore)
        empty = not reference.any()
        values = {
            "dice": (metrics.dice(inside, reference), "1"),
            "volume_error": (metrics.volume_ml(inside, spacing_mm) - metrics.volume_ml(reference, spacing_mm), "ml"),
            "relative_volume_error": (metrics.relative_volume_error(inside, reference), "1"),
        }
        if hd95:
            values["hd95"] = (metrics.hausdorff(inside, reference, spacing_mm), "mm")
        if region == "enhancing_tumor":
            values["dice_et_min500mm3"] = (metrics.dice_et_min500mm3(inside, reference, spacing_mm), "1")
        scores += [Score(region, name, value, unit, empty) for name, (value, unit) in values.items()]
    return scores


class Synthesis:
    """The real sequences of one subject, to score synthesised ones against.

    Parameters
    ----------
    image : float array, shape (M, D, H, W)
        Cached z-scores; NaN where absent.
    present : bool array, shape (M,)
    spec : DataSpec
    """

    def __init__(self, image: Array, present: Array, spec: DataSpec) -> None:
        self.spec = spec
        self.reference = {spec.modalities[i]: np.asarray(image[i], np.float32) for i in np.flatnonzero(present)}
        self.brain = {code: values != 0 for code, values in self.reference.items()}
        self.range = {code: metrics.data_range(values, self.brain[code]) for code, values in self.reference.items()}

    def targets(self, subset: Sequence[str]) -> list[str]:
        """Sequences that exist but are not in the subset."""
        return [code for code in self.reference if code not in subset]

    def score(self, target: str, image: Array) -> list[Score]:
        """PSNR, SSIM and MAE of one synthesised sequence (D, H, W) within the real one's brain."""
        reference, inside, width = self.reference[target], self.brain[target], self.range[target]
        return [
            Score(target, "psnr", metrics.psnr(image, reference, inside, width), "dB"),
            Score(target, "ssim", metrics.ssim(image, reference, inside, width), "1"),
            Score(target, "mae", metrics.mae(image, reference, inside), "z"),
        ]


def score_synthesis(synthesis: Synthesis, image: Array, synthesised: Array, subset: Sequence[str]) -> list[Score]:
    """Scores of all sequences that a method filled in and that exist.

    Parameters
    ----------
    synthesis : Synthesis
    image : float array, shape (M, D, H, W)
    synthesised : bool array, shape (M,)
    subset : sequence of str
    """
    scores = []
    for target in synthesis.targets(subset):
        channel = synthesis.spec.index(target)
        if synthesised[channel]:
            scores += synthesis.score(target, np.asarray(image[channel]))
    return scores
