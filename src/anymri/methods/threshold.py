"""Threshold baseline: a tuned z-score threshold on the brightest available sequence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from anymri.bounds import Count, PositiveNumber
from anymri.protocol.method import Method, MethodConfig, MethodInfo, Preset, StepContext, zero_absent
from anymri.protocol.request import EVERYTHING, Request
from anymri.types import GLIOMA, Batch, DataSpec, Features, Head, Prediction, Stage, Where

__all__ = ["Threshold", "ThresholdConfig"]

#: Which available modality decides, best first; modalities not named follow in the specification's order.
PREFERENCE = ("flair", "t2", "t1c", "t1")

#: Logit of the chosen channel; the others have 0. softmax gives it more than 0.999.
CERTAIN = 10.0


@dataclass(frozen=True, kw_only=True)
class ThresholdConfig(MethodConfig):
    """Settings of the threshold baseline.

    Parameters
    ----------
    step : float
        Distance of the thresholds that `Threshold.fit` tries, in standard deviations of the brain.
    count : int
        How many it tries: ``step, 2 step, ..., count * step``.
    """

    step: PositiveNumber = 0.25
    count: Count = 16


class Threshold(Method[ThresholdConfig]):
    """Threshold baseline: tumour where the z-score of one modality exceeds a tuned threshold.

    Parameters
    ----------
    config : ThresholdConfig
    spec : DataSpec

    Notes
    -----
    Ours, not published. FLAIR decides if available, else T2, else T1c, else T1. Voxels above that modality's
    threshold become ``edema`` (or the specification's first label); of these, voxels whose T1c, if available, is
    above a second threshold become ``et``. The first thresholds maximise the mean Dice of the whole lesion, the
    second the mean Dice of ``et``, over the training subjects that have the modality and the target.
    """

    name = "threshold"
    info = MethodInfo(
        title="Threshold",
        family="baseline",
        task="segmentation",
        year=2026,
        reference="anymri",
        novelty="None: a floor that every trained method must clear.",
        weakness="Knows one voxel of one modality at a time.",
    )
    presets = {
        preset: Preset((Stage("fit", epochs=1, batch_size=1, patch=None, sampler="all"),))
        for preset in ("paper", "tiny")
    }
    classical = True
    outputs = ("logits",)
    head: Head
    lesion_threshold: Tensor
    enhancing_threshold: Tensor

    def __init__(self, config: ThresholdConfig, spec: DataSpec = GLIOMA) -> None:
        super().__init__(config, spec)
        self.head = Head("softmax", ("background", *spec.labels))
        preferred = [code for code in PREFERENCE if code in spec.modalities]
        others = [code for code in spec.modalities if code not in preferred]
        self._order = [spec.index(code) for code in (*preferred, *others)]
        self._lesion = 1 + (list(spec.labels).index("edema") if "edema" in spec.labels else 0)
        #: Channels of the enhancing label and of T1c; None where the data have no such thing.
        self._enhancing: tuple[int, int] | None = None
        if "et" in spec.labels and "t1c" in spec.modalities:
            self._enhancing = (1 + list(spec.labels).index("et"), spec.index("t1c"))
        # Plausible before `fit`: one and a half standard deviations above the brain's mean.
        self.register_buffer("lesion_threshold", torch.full((len(spec.modalities),), 1.5))
        self.register_buffer("enhancing_threshold", torch.tensor(1.5))

    def encode(self, image: Tensor, available: Tensor, where: Where | None = None) -> Features:
        """The image itself."""
        return {"image": zero_absent(image, available)}

    def decode(self, features: Features, available: Tensor, request: Request = EVERYTHING) -> Prediction:
        """Threshold the best available modality. See `Method.decode`."""
        image = zero_absent(features["image"], available)
        channel = torch.zeros_like(image[:, 0], dtype=torch.int64)
        for row in range(len(image)):
            decides = next(m for m in self._order if available[row, m])
            lesion = image[row, decides] > self.lesion_threshold[decides]
            channel[row] = torch.where(lesion, self._lesion, 0)
            if self._enhancing is not None and available[row, self._enhancing[1]]:
                label, t1c = self._enhancing
                enhancing = lesion & (image[row, t1c] > self.enhancing_threshold)
                channel[row] = torch.where(enhancing, label, channel[row])
        onehot = one_hot(channel, len(self.head.channels)).movedim(-1, 1)
        return Prediction(logits=CERTAIN * onehot.to(image.dtype))

    def fit(self, subjects: Iterable[Batch], ctx: StepContext) -> dict[str, Tensor]:
        """Choose the thresholds in one pass over the subjects, which may lack modalities.

        Returns
        -------
        dict of str to Tensor
            Chosen thresholds and the mean training Dice they reach, by modality.
        """
        count, number = self.config.count, len(self.spec.modalities)
        whole = torch.zeros(number, count, dtype=torch.float64)
        enhancing = torch.zeros(number, count, count, dtype=torch.float64)
        seen = torch.zeros(number, 2, dtype=torch.float64)
        for batch in subjects:
            for row in range(len(batch.image)):
                self._count_subject(batch, row, whole, enhancing, seen)
        logs = {}
        for m, code in enumerate(self.spec.modalities):
            if seen[m, 0]:
                best = int(whole[m].argmax())
                self.lesion_threshold[m] = (best + 1) * self.config.step
                logs[f"threshold_{code}"] = self.lesion_threshold[m].clone()
                logs[f"dice_{code}"] = (whole[m, best] / seen[m, 0]).float()
        deciding = [m for m in self._order if seen[m, 1]]
        if deciding:
            first = deciding[0]
            at = round(float(self.lesion_threshold[first]) / self.config.step) - 1
            best = int(enhancing[first, at].argmax())
            self.enhancing_threshold.fill_((best + 1) * self.config.step)
            logs["threshold_et"] = self.enhancing_threshold.clone()
            logs["dice_et"] = (enhancing[first, at, best] / seen[first, 1]).float()
        return logs

    def _count_subject(self, batch: Batch, row: int, whole: Tensor, enhancing: Tensor, seen: Tensor) -> None:
        """Add one subject's Dice at every threshold, and pair of thresholds, to the sums."""
        assert batch.label is not None
        label = batch.label[row]
        counted = label != (self.spec.ignore if self.spec.ignore is not None else -1)
        reference = (label > 0) & counted
        t1c = self._enhancing[1] if self._enhancing and batch.present[row, self._enhancing[1]] else None
        enhances = label == self.spec.labels.get("et", -1)
        for m in range(len(self.spec.modalities)):
            if not batch.present[row, m]:
                continue
            bins = self._bins(batch.image[row, m]) * counted  # what is not labelled is above no threshold
            if reference.any():
                whole[m] += _dice_above(bins, reference, self.config.count)
                seen[m, 0] += 1
            if t1c is not None and enhances.any():
                both = bins * (self.config.count + 1) + self._bins(batch.image[row, t1c])
                enhancing[m] += _dice_above_pairs(both, enhances, self.config.count)
                seen[m, 1] += 1

    def _bins(self, image: Tensor) -> Tensor:
        """How many of the thresholds each voxel is above, 0 to `count`."""
        thresholds = torch.arange(1, self.config.count + 1, device=image.device) * self.config.step
        return torch.bucketize(image.contiguous(), thresholds.to(image.dtype))


def _dice_above(bins: Tensor, reference: Tensor, count: int) -> Tensor:
    """Dice of ``bins >= k`` against a mask, for k = 1 to `count`."""
    predicted = torch.bincount(bins.flatten(), minlength=count + 1).double()
    overlap = torch.bincount(bins[reference], minlength=count + 1).double()
    above = [values.flip(0).cumsum(0).flip(0)[1:] for values in (predicted, overlap)]
    return 2 * above[1] / (above[0] + reference.sum())


def _dice_above_pairs(both: Tensor, reference: Tensor, count: int) -> Tensor:
    """Dice of ``first >= k and second >= l`` for all k, l; `both` is ``first * (count + 1) + second``."""
    size = (count + 1) ** 2
    sums = []
    for voxels in (both.flatten(), both[reference]):
        table = torch.bincount(voxels, minlength=size).double().reshape(count + 1, count + 1)
        sums.append(table.flip(0, 1).cumsum(0).cumsum(1).flip(0, 1)[1:, 1:])
    return 2 * sums[1] / (sums[0] + reference.sum())
