"""HeMIS: fuse per-modality features by their mean and variance, slice by slice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anymri.bounds import Rate, Weight, Width
from anymri.losses.segmentation import cross_entropy
from anymri.nn.fusion import masked_moments
from anymri.nn.slice_back_end import SliceBackEnd, slice_convolution
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

__all__ = ["HeMIS", "HeMISConfig"]


@dataclass(frozen=True, kw_only=True)
class HeMISConfig(MethodConfig):
    """Settings of HeMIS; sizes are the paper's, the optimiser's those of a port.

    Parameters
    ----------
    width : int
        Feature maps of each modality.
    front_width : int
        Feature maps after the moments.
    last_kernel : {5, 21}
        Size of the last convolution: 21 in the paper's figure, 5 as the published re-implementation declares it.
    lr, weight_decay : float
        Learning rate and decay of the optimiser.
    """

    width: Width = 48
    front_width: Width = 16
    last_kernel: Literal[5, 21] = 21
    lr: Rate = 3e-4
    weight_decay: Weight = 1e-5


class HeMIS(Method[HeMISConfig]):
    """HeMIS [1]_: segmentation from the mean and variance of per-modality features.

    Parameters
    ----------
    config : HeMISConfig
    spec : DataSpec

    Notes
    -----
    Two convolutions and a pooling that keeps the size make the feature maps of each modality; the available ones
    are replaced by their mean and population variance (0 for one modality), from which two more convolutions
    segment. All kernels lie within axial slices, so a window of slices is a batch of them. There is no code by the
    authors. The size of the last kernel is an option.

    References
    ----------
    .. [1] Havaei et al., "HeMIS: Hetero-Modal Image Segmentation", MICCAI 2016, arXiv:1607.05194.
    """

    name = "hemis"
    info = MethodInfo(
        title="HeMIS",
        family="common latent space",
        task="segmentation",
        year=2016,
        reference="Havaei et al., MICCAI 2016",
        doi="10.1007/978-3-319-46723-8_54",
        arxiv="1607.05194",
        parity="interpretation (no code)",
        novelty="The first fusion of any number of modalities: mean and variance of their features.",
        weakness="Slices without depth, one scale, and moments that forget which modality said what.",
        deviations=(
            "optimiser, rates, epochs and batch are not published: a re-implementation's (Adam 3e-4) or ours",
            "the curriculum, published in words, is a stage with everything and one with the sampler drop_count",
            "z-score inside each modality's own brain",
        ),
    )
    presets = {
        "paper": Preset(
            (
                Stage("complete", epochs=5, batch_size=4, patch=(16, 112, 112), sampler="all"),
                Stage("dropped", epochs=95, batch_size=4, patch=(16, 112, 112), sampler="drop_count"),
            )
        ),
        "tiny": Preset(
            (
                Stage("complete", epochs=3, batch_size=1, patch=(16, 64, 64), sampler="all", steps_per_epoch=50),
                Stage("dropped", epochs=27, batch_size=1, patch=(16, 64, 64), sampler="drop_count", steps_per_epoch=50),
            ),
            {"width": 12, "front_width": 8, "last_kernel": 5, "lr": 3e-3},
        ),
    }
    outputs = ("logits",)
    head: Head

    def __init__(self, config: HeMISConfig, spec: DataSpec = GLIOMA) -> None:
        super().__init__(config, spec)
        self.head = Head("softmax", ("background", *spec.labels))
        self.back_ends = nn.ModuleDict({code: SliceBackEnd(config.width) for code in spec.modalities})
        self.front = slice_convolution(2 * config.width, config.front_width, 5)
        self.classifier = slice_convolution(config.front_width, len(self.head.channels), config.last_kernel)

    def encode(self, image: Tensor, available: Tensor, where: Where | None = None) -> Features:
        """Feature maps of every modality that some row has, by code; see `Method.encode`."""
        image = zero_absent(image, available)
        return {
            code: back_end(image[:, i : i + 1])
            for i, (code, back_end) in enumerate(self.back_ends.items())
            if available[:, i].any()
        }

    def decode(self, features: Features, available: Tensor, request: Request = EVERYTHING) -> Prediction:
        """Segment from the moments of the available features; deterministic. See `Method.decode`."""
        needed = [i for i in range(len(self.spec.modalities)) if available[:, i].any()]
        maps = [features[self.spec.modalities[i]] for i in needed]
        moments = torch.cat(masked_moments(maps, available[:, needed]), dim=1)
        return Prediction(logits=self.classifier(F.relu(self.front(moments))))

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        """Cross-entropy of every voxel."""
        assert batch.label is not None
        logits = self.predict(batch.image, batch.available).logits
        assert logits is not None
        loss = cross_entropy(logits, self.head.target(batch.label, self.spec))
        return StepOutput(loss, {"cross_entropy": loss.detach()})

    def optimizer_settings(self, stage: Stage, turn: str) -> OptimizerSettings:
        """Adam at a constant rate."""
        return OptimizerSettings("adam", lr=self.config.lr, weight_decay=self.config.weight_decay)
