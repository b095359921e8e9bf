"""Sliding-window prediction of whole volumes: each window encoded once, decoded for every requested subset.

Windows tile the frame of the modalities that a subset shows (`Study.frame`): their brain box, grown outwards to a
coarse grid that hangs on the brain itself. So nothing about an absent modality, not even its brain box, can reach the
result, nor can the empty space around the brain; windows may reach outside the array, where there is more of it.
Subsets that come to the same windows, which in aligned studies are nearly all of them, share them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from anymri.data.study import Study
from anymri.inference.device import device_of, has_bf16
from anymri.inference.kernels import SameKernels
from anymri.inference.live_tensors import check_window
from anymri.inference.subject import SubjectPrediction
from anymri.protocol.facts import TrainingFacts
from anymri.protocol.finite import has_finite_logits, is_finite
from anymri.protocol.method import divisors
from anymri.protocol.noise import Noise
from anymri.protocol.request import Request
from anymri.types import DataSpec, Prediction, UserError, Where

__all__ = [
    "SubjectPrediction",
    "WindowSettings",
    "gaussian_weight",
    "iterate_subject",
    "predict_subject",
    "window_starts",
]

Subset = tuple[str, ...]
Precision = Literal["auto", "32", "bf16"]
#: Subsets whose sums are held in memory at one time.
SUBSETS_AT_A_TIME = 16


@dataclass(frozen=True, kw_only=True)
class WindowSettings:
    """Window settings: how a volume is cut into windows.

    Parameters
    ----------
    window : tuple of int or None, default=None
        Size (D, H, W) in voxels; a method with a fixed `patch` keeps its own. None = the whole brain (`Study.frame`).
    overlap : float, default=0.5
        Share of the window that neighbours have in common, in [0, 1).
    weighting : {"uniform", "gaussian"}, default="uniform"
        Weight of a voxel in the average over windows.
    batch_size : int, default=1
        Windows encoded together; the results are those of one at a time (`anymri.inference.kernels`), to rounding
        with bfloat16 or on a GPU.
    precision : {"32", "bf16", "auto"}, default="32"
        ``auto`` takes bfloat16 where the processor computes it natively.
    sample : int or None, default=None
        None = the method's mean; a number draws that sample. Its noise belongs to subject, subset and place in the
        volume, so that overlapping windows see the same.
    steps : int or None, default=None
        Steps of an iterative sampler; None = the method's own number.
    gradients : bool, default=False
        Whether what is predicted can be differentiated by the image, for explanations; costs memory.

    Raises
    ------
    UserError
        If overlap, batch size or window are out of range.
    """

    window: tuple[int, int, int] | None = None
    overlap: float = 0.5
    weighting: Literal["uniform", "gaussian"] = "uniform"
    batch_size: int = 1
    precision: Precision = "32"
    sample: int | None = None
    steps: int | None = None
    gradients: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < 1 or self.batch_size < 1:
            raise UserError(
                f"overlap {self.overlap}, batch size {self.batch_size}: give a share from 0 to below 1 and at least 1"
            )
        if self.window is not None and (len(self.window) != 3 or min(self.window) < 1):
            raise UserError(f"window {self.window}: give three sizes in voxels (D, H, W), each at least 1")

    def trained_as(self, facts: TrainingFacts) -> WindowSettings:
        """These settings with the window of the training, which weights store, unless one is set."""
        return replace(self, window=self.window or facts.window)


def predict_subject(
    method: Any,
    study: Study,
    subsets: Sequence[Subset],
    settings: WindowSettings | None = None,
    *,
    outputs: tuple[str, ...] | None = None,
) -> dict[Subset, SubjectPrediction]:
    """Predict one subject for several subsets at once.

    Parameters
    ----------
    method : Method or PerSubsetModels
        In evaluation mode.
    study : Study
        Preprocessed or from the cache; its `subject_id` seeds samples. Tensors in the place of its arrays are taken as
        they are, so that gradients can reach the image.
    subsets : sequence of tuple of str
        Subsets to show, each within what the subject has.
    settings : WindowSettings or None, default=None
        None = the whole brain in one window.
    outputs : tuple of {"logits", "image", "class_logits", "modality_logits"} or None, default=None
        What to compute; None = all the method gives.

    Returns
    -------
    dict of tuple of str to SubjectPrediction
        In the order of `subsets`. For more than 16 subsets `iterate_subject` needs less memory.

    Raises
    ------
    ValueError
        If the method is in training mode, a subset names a modality the subject lacks, or shapes disagree.
    UserError
        If synthesised intensities cannot be brought back to z-scores, or NaN or infinity is in the image of a subset or
        in what the method makes of it.
    """
    return dict(iterate_subject(method, study, subsets, settings, outputs=outputs))


def iterate_subject(
    method: Any,
    study: Study,
    subsets: Sequence[Subset],
    settings: WindowSettings | None = None,
    *,
    outputs: tuple[str, ...] | None = None,
) -> Iterator[tuple[Subset, SubjectPrediction]]:
    """`predict_subject` as a generator that holds at most 16 subsets at a time."""
    work = _Subject(method, study, settings or WindowSettings(), outputs)
    for first in range(0, len(subsets), SUBSETS_AT_A_TIME):
        chunk = [work.spec.parse_subset(subset) for subset in subsets[first : first + SUBSETS_AT_A_TIME]]
        yield from zip(chunk, work.predict(chunk), strict=True)


def window_starts(start: int, stop: int, window: int, overlap: float) -> list[int]:
    """First voxels of the fewest windows along one axis that cover a range, evenly spaced.

    Parameters
    ----------
    start, stop : int
        Range of voxels, ``[start, stop)``.
    window : int
        Voxels of a window.
    overlap : float
        Least share of a window that its neighbour covers too, in [0, 1).

    Returns
    -------
    list of int
        Ascending; the first window begins where the range begins and the last ends where it ends. A single window that
        is larger than the range has it in its middle.
    """
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap is {overlap}, expected a value in [0, 1)")
    spare = stop - start - window
    if spare <= 0:
        return [start + spare // 2]
    gaps = math.ceil(spare / max(1, round(window * (1 - overlap))))
    return [start + round(gap * spare / gaps) for gap in range(gaps + 1)]


def gaussian_weight(window: Sequence[int]) -> Tensor:
    """Weights (D, H, W) that fall off from the centre with a standard deviation of one eighth of the window."""
    weight = torch.ones(())
    for size in window:
        place = (torch.arange(size) - (size - 1) / 2) / max(size / 8, 1e-6)
        weight = weight[..., None] * torch.exp(-0.5 * place**2)
    return weight.clamp_min(1e-3 * float(weight.max()))


class _Sums:
    """Weighted sums over windows of one subset, inside its brain box.

    Attributes
    ----------
    start, stop : list of int
        Brain box in voxels of the image.
    """

    def __init__(self, start: list[int], stop: list[int], device: torch.device) -> None:
        self.start, self.stop = start, stop
        self.shape = [b - a for a, b in zip(start, stop, strict=True)]
        self.weight = torch.zeros(self.shape, device=device)
        self.probability: Tensor | None = None
        self.image: Tensor | None = None
        self.channels: list[int] = []
        self.classes: Tensor | None = None
        self.modalities: Tensor | None = None
        self.windows = 0
        self.finite = torch.ones((), dtype=torch.bool, device=device)

    def meets(self, origin: Sequence[int], window: Sequence[int]) -> bool:
        return all(
            o < stop and o + w > start for o, w, start, stop in zip(origin, window, self.start, self.stop, strict=True)
        )

    def add(self, origin: Sequence[int], weight: Tensor, row: Prediction, available: Tensor) -> None:
        """Add one window; `row` holds probabilities where a `Prediction` normally holds logits."""
        inner, outer = [], []
        for o, w, start, stop in zip(origin, weight.shape, self.start, self.stop, strict=True):
            low, high = max(o, start), min(o + w, stop)
            inner.append(slice(low - o, high - o))
            outer.append(slice(low - start, high - start))
        weight = weight[tuple(inner)]
        self.weight[tuple(outer)] += weight
        self.windows += 1
        everywhere = (slice(None), *inner)
        target = (slice(None), *outer)
        if row.logits is not None:
            if self.probability is None:
                self.probability = self.weight.new_zeros((row.logits.shape[0], *self.shape))
            self.probability[target] += row.logits[everywhere] * weight
        if row.image is not None and row.synthesised is not None:
            if self.image is None:
                self.channels = torch.nonzero(row.synthesised.cpu() & ~available)[:, 0].tolist()
                self.image = self.weight.new_zeros((len(self.channels), *self.shape))
            self.image[target] += row.image[self.channels][everywhere] * weight
        if row.class_logits is not None:
            self.classes = row.class_logits if self.classes is None else self.classes + row.class_logits
        if row.modality_logits is not None:
            self.modalities = row.modality_logits if self.modalities is None else self.modalities + row.modality_logits


class _Tiling(NamedTuple):
    """Windows of one subset: where they begin, their size, and the frame and origin that they were placed by."""

    starts: tuple[tuple[int, ...], ...]
    window: tuple[int, ...]
    frame: tuple[tuple[int, ...], ...]
    origin: tuple[int, ...]


class _Subject:
    """One subject on the method's device."""

    def __init__(
        self,
        method: Any,
        study: Study,
        settings: WindowSettings,
        outputs: tuple[str, ...] | None,
    ) -> None:
        image = _as_float32(study.image)
        statistics = torch.as_tensor(study.statistics)[None]
        if method.training:
            raise ValueError("the method is in training mode; call method.eval() before predicting")
        if image.ndim != 4 or image.shape[0] != len(method.spec.modalities):
            raise ValueError(f"image of shape {tuple(image.shape)}; expected ({len(method.spec.modalities)}, D, H, W)")
        self.method, self.settings, self.subject_id = method, settings, study.subject_id
        self.spec: DataSpec = method.spec
        self.outputs = tuple(outputs) if outputs is not None else tuple(method.outputs)
        self.device = device_of(method)
        self.image = image.to(self.device)
        self.median = _median_statistics(method, "image" in self.outputs).to(self.device)
        self.study, self.shape = study, tuple(image.shape[1:])
        # Noise of coarse levels has no seams only if windows begin on the grid of the coarsest.
        self.steps = (1, 1, 1) if settings.sample is None else divisors(method)
        statistics = statistics.to(self.device, torch.float32)
        self.scaled = method.intensity.apply(self.image[None], statistics)[0]
        self.outside = method.intensity.apply(self.image.new_zeros(1, len(image), 1, 1, 1), statistics)[0]
        self.finite = [bool(is_finite(channel)) for channel in self.scaled]

    def predict(self, subsets: list[Subset]) -> list[SubjectPrediction]:
        with torch.enable_grad() if self.settings.gradients else torch.inference_mode():
            return self._predict(subsets)

    def _predict(self, subsets: list[Subset]) -> list[SubjectPrediction]:
        rows = [self.spec.available(subset) for subset in subsets]
        sums = [self._start_sums(row) for row in rows]
        groups: dict[_Tiling, list[int]] = {}
        for index, held in enumerate(sums):
            if held.stop != held.start:
                groups.setdefault(self._tile(rows[index]), []).append(index)
        for tiling, members in groups.items():
            wanted = [
                (origin, needs)
                for origin in product(*tiling.starts)
                if (needs := [i for i in members if sums[i].meets(origin, tiling.window)])
            ]
            check_window(self.method, tiling.window, min(self.settings.batch_size, len(wanted)))
            for first in range(0, len(wanted), self.settings.batch_size):
                self._predict_windows(tiling, wanted[first : first + self.settings.batch_size], rows, sums)
        return [self._finish(row, held) for row, held in zip(rows, sums, strict=True)]

    def _tile(self, available: Tensor) -> _Tiling:
        """Windows that cover the frame of a subset."""
        frame, origin = self.study.frame(available.numpy())
        window = _window_size(self.method, self.settings.window, (frame[1] - frame[0]).tolist())
        starts = []
        for size, step, zero, first, last in zip(window, self.steps, origin.tolist(), *frame.tolist(), strict=True):
            begin, end = (first - zero) // step, -((zero - last) // step)
            found = window_starts(begin, end, size // step, self.settings.overlap)
            starts.append(tuple(zero + step * start for start in found))
        return _Tiling(tuple(starts), window, tuple(map(tuple, frame.tolist())), tuple(origin.tolist()))

    def _start_sums(self, available: Tensor) -> _Sums:
        for index in torch.nonzero(available)[:, 0].tolist():
            if not self.finite[index]:
                code = self.spec.modalities[index]
                if bool(self.image[index].isnan().all()):
                    raise ValueError(f"subject {self.subject_id!r} has no {code}")
                raise UserError(
                    f"subject {self.subject_id!r}: its {code}, or the statistics of it, hold NaN or infinite values; "
                    "preprocess it again"
                )
        start, stop = self.study.box(available.numpy()).tolist()
        return _Sums(start, stop, self.device)

    def _predict_windows(
        self, tiling: _Tiling, group: list[tuple[tuple[int, ...], list[int]]], rows: list[Tensor], sums: list[_Sums]
    ) -> None:
        """Encode the windows of a group once and decode them for every subset that one of them needs."""
        needed = sorted({index for _, needs in group for index in needs})
        windows = torch.stack([self._cut(origin, tiling.window) for origin, _ in group])
        uniform = self.settings.weighting == "uniform"
        weight = (torch.ones(tiling.window) if uniform else gaussian_weight(tiling.window)).to(self.device)
        # Encoders must see the modalities of the subsets that need these windows, and no other.
        shown = torch.stack([rows[index] for index in needed]).any(dim=0).expand(len(group), -1).to(self.device)
        origins = torch.tensor([origin for origin, _ in group])
        start, stop = (torch.tensor(end) for end in tiling.frame)
        where = Where(
            (origins - start).to(self.device),
            (stop - start).expand(len(group), -1).to(self.device),
            torch.zeros(len(group), 3, dtype=torch.bool, device=self.device),
        )
        places = origins - torch.tensor(tiling.origin)
        with self._arithmetic():
            features = self.method.encode(windows, shown, where)
        for index in needed:
            available = rows[index].expand(len(group), -1).to(self.device)
            with self._arithmetic():
                request = Request(
                    outputs=self.outputs, noise=self._noise(places, rows[index]), steps=self.settings.steps
                )
                prediction = self.method.decode(features, available, request)
            averaged = self._averageable(prediction)
            for row, (origin, needs) in enumerate(group):
                if index in needs:
                    part = Prediction(*(None if value is None else value[row] for value in averaged))
                    sums[index].add(origin, weight, part, rows[index])
                    sums[index].finite &= has_finite_logits(prediction, row, rows[index])

    def _cut(self, origin: Sequence[int], window: Sequence[int]) -> Tensor:
        """Image of a window, background where it reaches outside."""
        cut = self.outside.expand(-1, *window).clone()
        inner, outer = [slice(None)], [slice(None)]
        for start, size, stop in zip(origin, window, self.shape, strict=True):
            low, high = min(max(start, 0), stop), max(min(start + size, stop), 0)
            inner.append(slice(low, max(low, high)))
            outer.append(slice(low - start, max(low, high) - start))
        cut[tuple(outer)] = self.scaled[tuple(inner)]
        return cut

    def _arithmetic(self) -> AbstractContextManager[Any]:
        if self.settings.precision == "32" or (self.settings.precision == "auto" and not has_bf16(self.device)):
            return SameKernels(self.settings.batch_size)
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def _noise(self, origins: Tensor, available: Tensor) -> Noise | None:
        if self.settings.sample is None:
            return None
        seed = f"{self.subject_id}|{self.spec.subset_name(available)}|{self.settings.sample}"
        return Noise([seed] * len(origins), origins)

    def _averageable(self, prediction: Prediction) -> Prediction:
        """Turn logits into probabilities and images into z-scores: what may be averaged over windows."""
        logits, image, synthesised, classes, modalities = prediction
        if logits is not None and self.method.head is not None:
            logits = self.method.head.probability(logits.float())
        if image is not None:
            image = self.method.intensity.invert(image.float(), self.median)
        if classes is not None:
            classes = classes.float().softmax(dim=1)
        if modalities is not None:
            modalities = modalities.float().softmax(dim=2)
        return Prediction(logits, image, synthesised, classes, modalities)

    def _finish(self, available: Tensor, sums: _Sums) -> SubjectPrediction:
        if not sums.finite or (sums.image is not None and not is_finite(sums.image)):
            raise UserError(
                f"model {self.method.facts.run or self.method.name}: computes NaN or infinite values for subject "
                f"{self.subject_id!r} from {self.spec.subset_name(available)}; get its weights anew or train it again"
            )
        start, stop = (sums.start, sums.stop) if sums.windows else ([0, 0, 0], [0, 0, 0])
        if sums.probability is None and "logits" in self.outputs and self.method.head is not None:
            sums.probability = sums.weight.new_zeros((len(self.method.head.channels), *sums.shape))  # no brain at all
        probability = None if sums.probability is None else (sums.probability / sums.weight).cpu()
        synthesised = torch.zeros(len(available), dtype=torch.bool)
        synthesised[sums.channels] = True
        image = None
        if sums.image is not None:
            box = (slice(None), *(slice(a, b) for a, b in zip(start, stop, strict=True)))
            real = self.image[box][available]
            brain = (real != 0).any(dim=0)
            image = torch.full((len(available), *sums.shape), torch.nan, device=self.device)
            image[available.to(self.device)] = real
            image[sums.channels] = torch.where(brain, sums.image / sums.weight, 0.0)
            image = image.cpu()
        return SubjectPrediction(
            shape=(self.shape[0], self.shape[1], self.shape[2]),
            start=(start[0], start[1], start[2]),
            stop=(stop[0], stop[1], stop[2]),
            head=self.method.head,
            box_probability=probability,
            box_image=image,
            synthesised=synthesised,
            class_probability=None if sums.classes is None else (sums.classes / sums.windows).cpu(),
            modality_probability=None if sums.modalities is None else (sums.modalities / sums.windows).cpu(),
        )


def _as_float32(image: Any) -> Tensor:
    """Tensor of an array, mapped from the disk or not, or the tensor itself."""
    return image.float() if isinstance(image, Tensor) else torch.from_numpy(np.asarray(image, dtype=np.float32))


def _window_size(method: Any, window: Sequence[int] | None, frame: Sequence[int]) -> tuple[int, ...]:
    """Window in voxels: the method's fixed one, else the given one, else the frame; rounded up to the divisor."""
    size = method.patch or window or frame
    return tuple(-(-s // step) * step for s, step in zip(size, divisors(method), strict=True))


def _median_statistics(method: Any, image: bool) -> Tensor:
    median: Tensor = getattr(method, "every", [method])[0].median_statistics
    if image and method.intensity.kind != "zscore" and not bool(median.isfinite().all()):
        raise UserError(f"{method.name}: no intensity statistics of a training set stored; train the model before use")
    return median
