"""LateFusion: one convolution per modality, the mean over the available ones, one classifier.

What the methods of `leaking_methods` break: small, with features per modality.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from anymri.losses.segmentation import cross_entropy, dice_plain
from anymri.nn.fusion import masked_moments
from anymri.protocol.method import Method, MethodConfig, MethodInfo, Preset, StepContext, zero_absent
from anymri.protocol.request import EVERYTHING, Request
from anymri.types import (
    GLIOMA,
    Batch,
    DataSpec,
    Features,
    Head,
    OptimizerSettings,
    Prediction,
    Stage,
    StepOutput,
    Where,
)

__all__ = ["LateFusion", "LateFusionConfig"]


@dataclass(frozen=True, kw_only=True)
class LateFusionConfig(MethodConfig):
    """Settings of LateFusion.

    Parameters
    ----------
    width : int
        Channels of each modality's features.
    """

    width: PositiveInt = 32


class LateFusion(Method[LateFusionConfig]):
    """Mean and variance of per-modality features, then one classifier.

    Parameters
    ----------
    config : LateFusionConfig
    spec : DataSpec

    Notes
    -----
    For tests.
    """

    name = "late_fusion"
    info = MethodInfo(
        title="Late fusion",
        family="baseline",
        task="segmentation",
        year=2026,
        reference="unpublished",
        novelty="none",
        weakness="small",
    )
    presets = {
        "paper": Preset((Stage("train", epochs=300, batch_size=1, patch=(128,) * 3, sampler="uniform_subset"),)),
        "tiny": Preset(
            (Stage("train", epochs=30, batch_size=1, patch=(64,) * 3, sampler="uniform_subset", steps_per_epoch=50),),
            {"width": 8},
        ),
    }
    outputs = ("logits",)
    head: Head

    def __init__(self, config: LateFusionConfig, spec: DataSpec = GLIOMA) -> None:
        super().__init__(config, spec)
        self.head = Head("softmax", ("background", *spec.labels))
        # Windows must be multiples of this: 2 to the number of times the network halves them.
        self.divisor = 1
        # Name modules by modality code, never by position: weights then follow the code, not the channel order.
        self.encoders = nn.ModuleDict(
            {code: nn.Conv3d(1, config.width, kernel_size=3, padding=1) for code in spec.modalities}
        )
        self.classifier = nn.Conv3d(2 * config.width, len(self.head.channels), kernel_size=1)

    def encode(self, image: Tensor, available: Tensor, where: Where | None = None) -> Features:
        """What depends on one modality alone; see `Method.encode`."""
        image = zero_absent(image, available)  # absent voxels may be NaN
        return {
            code: encoder(image[:, i : i + 1]).relu()
            for i, (code, encoder) in enumerate(self.encoders.items())
            if available[:, i].any()  # on all rows if one row has it, not at all if none does
        }

    def decode(self, features: Features, available: Tensor, request: Request = EVERYTHING) -> Prediction:
        """What depends on which modalities are there together; see `Method.decode`."""
        needed = [i for i in range(len(self.spec.modalities)) if available[:, i].any()]
        stacked = [features[self.spec.modalities[i]] for i in needed]
        mean, variance = masked_moments(stacked, available[:, needed])  # absent features are dropped here
        return Prediction(logits=self.classifier(torch.cat([mean, variance], dim=1)))

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        """Dice plus cross-entropy."""
        assert batch.label is not None
        logits = self.predict(batch.image, batch.available, request=Request(outputs=("logits",))).logits
        assert logits is not None
        target = self.head.target(batch.label, self.spec)
        terms = {
            "dice": dice_plain(self.head.probability(logits.float()), target),
            "cross_entropy": cross_entropy(logits, target),
        }
        return StepOutput.of(terms)

    def optimizer_settings(self, stage: Stage, turn: str) -> OptimizerSettings:
        """Adam."""
        return OptimizerSettings("adam", lr=1e-2, weight_decay=1e-4, schedule="poly")
