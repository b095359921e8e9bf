"""Choi's single-stage distillation: teacher and student learn at once, tied by Barlow Twins at the bottleneck."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anymri.bounds import Layers, LayersByLevel, Rate, Weight, Width, Widths
from anymri.losses.segmentation import cross_entropy, level_weights
from anymri.nn.group_norm_unet import GroupNormDecoder, GroupNormEncoder
from anymri.nn.transformer import TransformerLayer
from anymri.protocol.method import MethodConfig, MethodInfo, Preset, StepContext
from anymri.protocol.per_subset import PerSubset
from anymri.types import (
    GLIOMA,
    Batch,
    DataSpec,
    Head,
    OptimizerSettings,
    Prediction,
    Stage,
    StepOutput,
)

__all__ = ["Choi", "ChoiConfig", "barlow_twins", "cross_correlation"]


@dataclass(frozen=True, kw_only=True)
class ChoiConfig(MethodConfig):
    """Settings of Choi's network; what the paper says of them is unknown but for the two kinds of loss.

    Parameters
    ----------
    widths, blocks : tuple of int
        Channels, all multiples of 8, and residual blocks of each level, finest first; source: ours.
    layers, heads, hidden : int
        Transformer layers at the coarsest level, their heads, and channels inside their perceptrons; source: ours.
    projected : int
        Channels of the bottleneck that are compared, behind a 1x1x1 convolution; source: ours.
    off_diagonal : float
        Lambda of Barlow Twins; source: Barlow Twins' own paper.
    barlow_weight : float
        Beta of the Barlow Twins term; source: ours.
    teacher_follows : bool
        Whether the Barlow Twins term moves the teacher too; source: ours, as both are trained at once.
    lr : float
        Learning rate; source: ours.
    """

    widths: Widths = (16, 32, 64, 128)
    blocks: LayersByLevel = (1, 2, 2, 4)
    layers: Layers = 4
    heads: Layers = 8
    hidden: Width = 512
    projected: Width = 128
    off_diagonal: Weight = 5e-3
    barlow_weight: Weight = 0.01
    teacher_follows: bool = True
    lr: Rate = 1e-4


class _Segmented(NamedTuple):
    """Logits of every decoder level, coarsest first, and the projected bottleneck (B, C, d, h, w)."""

    logits: list[Tensor]
    projected: Tensor


class _Path(nn.Module):
    """Convolutional encoder, transformer over its coarsest voxels, convolutional decoder."""

    def __init__(self, in_channels: int, out_channels: int, config: ChoiConfig) -> None:
        super().__init__()
        coarse = config.widths[-1]
        self.encoder = GroupNormEncoder(in_channels, config.widths, config.blocks)
        self.transformer = nn.Sequential(
            *(TransformerLayer(coarse, config.heads, config.hidden, dropout=0.0) for _ in range(config.layers))
        )
        self.project = nn.Conv3d(coarse, config.projected, 1, bias=False)  # standardising removes a bias
        self.decoder = GroupNormDecoder(config.widths, out_channels)
        # The finest level's classifier is the decoder's own.
        self.heads = nn.ModuleList(nn.Conv3d(width, out_channels, 1) for width in config.widths[-2:0:-1])

    def forward(self, image: Tensor) -> _Segmented:
        features, _ = self.encoder(image)
        size = features[-1].shape[2:]
        bottom = self.transformer(features[-1].flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, size)
        decoded = self.decoder.features(bottom, features[:-1])
        heads = [*self.heads, self.decoder.classifier]
        return _Segmented([head(x) for head, x in zip(heads, decoded, strict=True)], self.project(bottom))


def cross_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Correlation of each channel of one map with each of another, over rows and voxels.

    Parameters
    ----------
    first, second : Tensor, shape (B, C, *S)

    Returns
    -------
    Tensor of float32, shape (C, C)
        Channels of `first` along the first axis. A channel that is constant correlates with nothing.
    """

    def standardised(x: Tensor) -> Tensor:
        samples = x.float().movedim(1, -1).flatten(0, -2)
        centred = samples - samples.mean(dim=0)
        return centred / (centred.square().mean(dim=0) + 1e-8).sqrt()

    with torch.autocast(first.device.type, enabled=False):
        a, b = standardised(first), standardised(second)
        return a.T @ b / len(a)


def barlow_twins(first: Tensor, second: Tensor, off_diagonal: float) -> Tensor:
    """Barlow Twins loss: ``sum_i (1 - C_ii)^2 + off_diagonal sum_(i != j) C_ij^2`` of the cross-correlation C.

    Parameters
    ----------
    first, second : Tensor, shape (B, C, *S)
    off_diagonal : float
    """
    correlation = cross_correlation(first, second)
    own = correlation.diagonal()
    return ((1 - own) ** 2).sum() + off_diagonal * (correlation.square().sum() - own.square().sum())


class Choi(PerSubset[ChoiConfig]):
    """Choi's single-stage distillation [1]_: a full-modality teacher and a limited student trained together.

    Parameters
    ----------
    config : ChoiConfig
        `subset` names the student's modalities; published above all: ``t1c+flair``.
    spec : DataSpec

    Notes
    -----
    One instance serves one subset; `PerSubsetModels` joins several. Both paths are the same network of a convolutional
    encoder, transformer layers over its coarsest voxels, and a convolutional decoder, and start anew together. Each
    learns by cross-entropy at every level of its decoder, with weights 1, 1/2, 1/4 ... that sum to 1. The bottlenecks
    are tied by Barlow Twins [2]_: channels of teacher and student correlate with their like and with no other,
    over all voxels and rows. Prediction uses the student alone.

    References
    ----------
    .. [1] Choi, Al-masni, Jung, Yoo, Lee, Kim, "A single stage knowledge distillation network for brain tumor
       segmentation on limited MR image modalities", Computer Methods and Programs in Biomedicine 240:107644, 2023.
    .. [2] Zbontar et al., "Barlow Twins: Self-Supervised Learning via Redundancy Reduction", ICML 2021.
    """

    name = "choi"
    info = MethodInfo(
        title="Single-stage distillation (Choi)",
        family="knowledge distillation",
        task="segmentation",
        year=2023,
        reference="Choi et al., Computer Methods and Programs in Biomedicine 2023",
        doi="10.1016/j.cmpb.2023.107644",
        parity="interpretation (no code)",
        novelty="No teacher is trained beforehand; redundancy reduction ties the two bottlenecks.",
        weakness="One pair of networks per subset, and complete cases only.",
        deviations=(
            "interpretation: no code was published; the two losses are the paper's, the network is ours",
            "what the paper takes as samples of Barlow Twins is unknown; here voxels of the bottleneck, over all rows",
            "the weights of both losses, their levels, and whether Barlow Twins moves the teacher are ours",
            "optimiser, rate, epochs, windows and augmentation are ours; the paper's are unknown",
            "preset tiny: learning rate 0.002, 20 times that of preset paper, for 1500 steps",
        ),
        learns_from_hidden={"teacher_cross_entropy|barlow_twins": "the teacher sees all modalities"},
    )
    presets = {
        "paper": Preset((Stage("train", 300, 1, (128, 128, 128), "all"),)),
        "tiny": Preset(
            (Stage("train", 30, 1, (48, 48, 48), "all", steps_per_epoch=50, foreground=0.7),),
            {
                "widths": (8, 16, 24, 32),
                "blocks": (1, 1, 1, 1),
                "layers": 1,
                "heads": 2,
                "hidden": 64,
                "projected": 16,
                "lr": 2e-3,
            },
        ),
    }
    needs = "complete"
    outputs = ("logits",)
    head: Head

    def __init__(self, config: ChoiConfig, spec: DataSpec = GLIOMA) -> None:
        super().__init__(config, spec)
        self.head = Head("softmax", ("background", *spec.labels))
        self.divisor = 2 ** (len(config.widths) - 1)
        channels = len(self.head.channels)
        self.teacher = _Path(len(spec.modalities), channels, config)
        self.student = _Path(len(self.subset_modalities), channels, config)

    # ------------------------------------------------------------------------------------------------ prediction

    def predict_subset(self, sources: Tensor, available: Tensor) -> Prediction:
        """Segment by the student."""
        return Prediction(logits=self.student(sources).logits[-1])

    # ---------------------------------------------------------------------------------------------------- training

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        """Both paths' cross-entropy at every level, and Barlow Twins between them."""
        assert batch.label is not None
        config = self.config
        teacher, student = self.teacher(batch.image), self.student(self.take_own(batch.image, batch.present))
        target = self.head.target(batch.label, self.spec)
        goal = teacher.projected if config.teacher_follows else teacher.projected.detach()
        terms = {
            "teacher_cross_entropy": _at_every_level(teacher.logits, target),
            "student_cross_entropy": _at_every_level(student.logits, target),
            "barlow_twins": barlow_twins(goal, student.projected, config.off_diagonal),
        }
        return StepOutput.of(terms, {"barlow_twins": config.barlow_weight})

    def optimizer_settings(self, stage: Stage, turn: str) -> OptimizerSettings:
        """Adam with a polynomial schedule."""
        return OptimizerSettings("adam", lr=self.config.lr, schedule="poly", power=0.9)


def _at_every_level(logits: list[Tensor], target: Tensor) -> Tensor:
    """Weighted cross-entropy of logits of every level, coarsest first."""
    values = [
        cross_entropy(level.float(), F.interpolate(target, size=level.shape[2:], mode="nearest-exact"))
        for level in reversed(logits)
    ]
    return torch.stack([w * v for w, v in zip(level_weights(len(values)), values, strict=True)]).sum()
