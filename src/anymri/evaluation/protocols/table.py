"""Evaluation protocols as named objects: ours, and replays of the published ones with their quirks.

A Dice number means nothing without what was cropped away, what an empty region scores and what was cleaned up before
counting. `anymri.evaluation.protocols.replay` applies these rules to regions that are already predicted. Splits,
intensities and windows act before there are predictions; they are stated here and replayed by the data step, by
`anymri.evaluation.protocols.normalisation` and by the inference step. ``docs/explanation/protocols.md`` tells the
story.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["PROTOCOLS", "Box", "Crop", "Protocol", "Windows"]

Mask = NDArray[np.bool_]
#: Place of a part in a volume (D, H, W).
Box = tuple[slice, slice, slice]


# --------------------------------------------------------------------------------------------------------------
# What a protocol is
# --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Crop:
    """Part of the volume that is scored; tumour outside it does not count, neither found nor missed.

    Parameters
    ----------
    kind : {"none", "centre", "fixed", "union", "intersection"}
        ``union`` and ``intersection`` are boxes of the brain masks of *all* sequences, also of those that the subset
        does not show: a leak of the published pipelines, kept in their replays.
    size : tuple of int or None
        Of a centre crop (D, H, W), in voxels of 1 mm; a shorter axis is not cropped.
    start, stop : tuple of int or None
        Of a fixed crop, in voxels of 1 mm.
    margin, minimum : int
        A box is first enlarged by the margin on each side, then to the minimum on each axis, within the volume.
    """

    kind: Literal["none", "centre", "fixed", "union", "intersection"] = "none"
    size: tuple[int, int, int] | None = None
    start: tuple[int, int, int] | None = None
    stop: tuple[int, int, int] | None = None
    margin: int = 0
    minimum: int = 0

    def box(self, shape: Sequence[int], spacing_mm: Sequence[float] = (1, 1, 1), brain: Mask | None = None) -> Box:
        """Slices of the crop.

        Parameters
        ----------
        shape : sequence of int
            Volume (D, H, W).
        spacing_mm : sequence of float
            Sizes in voxels of 1 mm are rounded to this grid.
        brain : ndarray of bool, shape (M, D, H, W), or None
            Brain of every sequence that exists; needed for ``union`` and ``intersection``.

        Raises
        ------
        ValueError
            If the brain is needed and not given.
        """
        ends = [self._ends(axis, shape, float(spacing_mm[axis]), brain) for axis in range(3)]
        first, second, third = (slice(start, stop) for start, stop in ends)
        return first, second, third

    def _ends(self, axis: int, shape: Sequence[int], spacing: float, brain: Mask | None) -> tuple[int, int]:
        length = int(shape[axis])
        if self.kind == "centre" and self.size is not None:
            size = min(round(self.size[axis] / spacing), length)
            return (length - size) // 2, (length - size) // 2 + size
        if self.kind == "fixed" and self.start is not None and self.stop is not None:
            return min(round(self.start[axis] / spacing), length), min(round(self.stop[axis] / spacing), length)
        if self.kind in ("union", "intersection"):
            return self._brain_ends(axis, length, spacing, brain)
        return 0, length

    def _brain_ends(self, axis: int, length: int, spacing: float, brain: Mask | None) -> tuple[int, int]:
        if brain is None:
            raise ValueError(f"a crop to the {self.kind} of the brains needs the brain of every sequence")
        inside = np.asarray(brain.any(axis=0) if self.kind == "union" else brain.all(axis=0))
        places = np.flatnonzero(inside.any(axis=tuple(i for i in range(3) if i != axis)))
        if not places.size:
            return 0, length
        margin, minimum = round(self.margin / spacing), min(round(self.minimum / spacing), length)
        start, stop = max(int(places[0]) - margin, 0), min(int(places[-1]) + 1 + margin, length)
        start = max(0, min(start - max(minimum - (stop - start), 0) // 2, length - minimum))
        return start, max(stop, start + minimum)


@dataclass(frozen=True)
class Windows:
    """Windows by which volumes are predicted.

    Parameters
    ----------
    size : tuple of int or None
        Window (D, H, W) in voxels; None = the whole (cropped) volume at once.
    overlap : float, default=0
        Share of a window that the next one repeats.
    blending : str
        How overlapping windows are joined.
    """

    size: tuple[int, int, int] | None = None
    overlap: float = 0.0
    blending: str = ""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Everything between a trained network and a published Dice.

    Parameters
    ----------
    name, title : str
    used_by : tuple of str
        Published systems.
    split : str
    normalisation : str
        Name in `anymri.evaluation.protocols.normalisation.NORMALISATIONS`.
    crop : Crop
    windows : Windows
    threshold : float
        Of sigmoid heads; give it to `anymri.types.Head`.
    label_map : bool
        Whether regions are read off one label map, so that a smaller region is always inside the larger ones.
    empty : {"plain", "smoothed", "epsilon"}
        Dice formula and with it the score of empty regions.
    cleaning : tuple of str
        Steps of `anymri.evaluation.protocols.post_processing`, in order; they give a second metric, ``dice_cleaned``.
    aggregation : tuple of str
        Columns over which means are taken one after the other.
    leaks : tuple of str
        What the numbers know that they should not.
    unknown : tuple of str
        What no source tells, and what is done here instead.
    """

    name: str
    title: str
    used_by: tuple[str, ...]
    split: str
    normalisation: str
    crop: Crop = field(default_factory=Crop)
    windows: Windows = field(default_factory=Windows)
    threshold: float = 0.5
    label_map: bool = True
    empty: Literal["plain", "smoothed", "epsilon"] = "plain"
    cleaning: tuple[str, ...] = ()
    aggregation: tuple[str, ...] = ("subject", "subset")
    leaks: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


# --------------------------------------------------------------------------------------------------------------
# The protocols
# --------------------------------------------------------------------------------------------------------------

_UNION = "crops by the brain of all four sequences, also of those called missing"

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="anymri",
            title="anymri: no leak, whole volume",
            used_by=("every method of this project",),
            split="by patient; train, validation and test apart",
            normalisation="own_brain",
            windows=Windows((128, 128, 128), 0.5, "uniform mean of probabilities over the whole volume"),
            label_map=False,
        ),
        Protocol(
            name="A",
            title="Single centre crop, smoothed Dice",
            used_by=("SMU-Net", "MMCFormer", "ACN (crop; folds of 95)"),
            split="BraTS 2018: the first 57 paths evaluate, 228 train; the best epoch is picked on the 57",
            normalisation="minmax_volume",
            crop=Crop("centre", size=(128, 192, 160)),
            empty="smoothed",
            leaks=("the epoch is chosen on the cases that are reported", "all evaluated cases are high-grade"),
            unknown=("threshold 0.5 in validation, 0.4 in SMU-Net's notebook: 0.5 here",),
        ),
        Protocol(
            name="A-closing",
            title="Protocol A with MMCFormer's slice-wise closing",
            used_by=("MMCFormer",),
            split="as A",
            normalisation="minmax_volume",
            crop=Crop("centre", size=(128, 192, 160)),
            empty="smoothed",
            cleaning=("close_slices",),
            leaks=("as A", "thresholds per channel were tuned on the cases that are reported"),
            unknown=(
                "published thresholds are those of T1c alone, 0.48 0.42 0.31 for oedema, necrosis, enhancing: 0.5 here",
                "whether more than 20 voxels is meant of a slice or a region: of a slice here",
            ),
        ),
        Protocol(
            name="B",
            title="Brain box, half-overlapping windows",
            used_by=("M3AE",),
            split="BraTS 2018: 199 / 29 / 57; BraTS 2020: 219 / 50 / 100",
            normalisation="percentile_minmax",
            crop=Crop("union", margin=1),
            windows=Windows((128, 128, 128), 0.5, "uniform mean of probabilities"),
            label_map=False,
            cleaning=("drop_small_enhancing",),
            leaks=(_UNION,),
            unknown=("the reported numbers are those without the clean-up, which is in a separate export",),
        ),
        Protocol(
            name="C",
            title="Fixed crop, background shifted with the brain",
            used_by=("ProtoKD",),
            split="BraTS 2018: 200 / 28 / 57",
            normalisation="positive_everywhere",
            crop=Crop("fixed", start=(5, 24, 24), stop=(145, 216, 216)),
            windows=Windows((96, 128, 128), 0.5, "uniform mean of softmax"),
        ),
        Protocol(
            name="D",
            title="Challenge server",
            used_by=("LCKD",),
            split="BraTS 2018: all 285 train, 66 scored by the server",
            normalisation="histogram_cut",
            windows=Windows((80, 160, 160), 1 / 3, "uniform mean of sigmoids"),
            cleaning=("drop_small_components", "drop_small_enhancing"),
            unknown=(
                "the server's empty rule: both empty 1, one empty 0 here",
                "the optional relabelling by k-means needs the images and is left out",
                "connectivity of the components: corners count here",
            ),
        ),
        Protocol(
            name="E",
            title="Whole volume cropped to the common brain",
            used_by=("HAD-Net",),
            split="BraTS 2019: the authors' own lists, not published",
            normalisation="common_brain_unit",
            crop=Crop("intersection"),
            empty="smoothed",
            leaks=("crops by voxels that are not zero in any of the four sequences, also the one called missing",),
        ),
        Protocol(
            name="rfnet",
            title="RFNet family",
            used_by=("RFNet", "mmFormer", "GSS", "M2FTrans", "PASSION", "IM-Fuse"),
            split="BraTS 2018: 199 / 29 / 57, three times; 2020: 219 / 50 / 100; 2021: 876 / 125 / 250",
            normalisation="union_everywhere",
            crop=Crop("union", minimum=128),
            windows=Windows((80, 80, 80), 0.5, "uniform mean of softmax, last window flush with the border"),
            empty="epsilon",
            cleaning=("drop_small_enhancing",),
            aggregation=("subject", "subset", "fold"),
            leaks=(_UNION, "normalises inside the union of all four brains"),
            unknown=("whether a table prints ET with or without the clean-up",),
        ),
        Protocol(
            name="uhved",
            title="U-HVED and U-HeMIS",
            used_by=("U-HVED", "U-HeMIS"),
            split="BraTS 2018: 199 / 29 / 57, three times",
            normalisation="bright_foreground",
            crop=Crop("union", margin=10),
            windows=Windows((140, 140, 140), 0.0, "inner parts of windows with a border of 10"),
            aggregation=("subject", "subset", "fold"),
            leaks=(_UNION,),
            unknown=(
                "the empty rule: both empty 1, one empty 0 here",
                "histogram standardisation before whitening needs the training set and is left out",
            ),
        ),
    )
}
