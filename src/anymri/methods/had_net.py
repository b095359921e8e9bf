"""HAD-Net: a student without the post-contrast image, taught by a hierarchical discriminator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from anymri.bounds import Rate, Share, Weight, Weights, Width
from anymri.losses.adversarial import least_squares
from anymri.losses.segmentation import prepare
from anymri.nn.blocks import InstanceNorm
from anymri.nn.plain_unet import ConvNormAct
from anymri.protocol.method import MethodConfig, MethodInfo, Preset, StepContext
from anymri.protocol.per_subset import PerSubset
from anymri.types import (
    GLIOMA,
    Batch,
    DataSpec,
    Head,
    Intensity,
    OptimizerSettings,
    Prediction,
    Stage,
    StepOutput,
)

__all__ = ["HADNet", "HADNetConfig", "class_weights", "weighted_cross_entropy"]

#: Labels of the two networks for the discriminator.
TEACHER, STUDENT = 1.0, 0.0


@dataclass(frozen=True, kw_only=True)
class HADNetConfig(MethodConfig):
    """Settings of HAD-Net; defaults are the released code's.

    Parameters
    ----------
    width : int
        Channels of the finest level; each of the three below has twice as many, the bottleneck as many as the last.
    discriminator_width : int
        A quarter of the channels after the discriminator's first layer; each of the next three doubles them.
    dropout : float
        Probability that a channel is dropped before each level but the first.
    class_weights : tuple of float
        Of background and of each label in the cross-entropy; published: counted in BraTS 2019. Further labels have the
        last one's.
    class_weight_decay : float
        Factor of these weights each epoch of the first two stages, down to 1.
    adversarial_weight : float
        Of the adversarial term.
    gate : float
        The discriminator learns only while it is right about at most this share of its scores.
    teacher_dropout : bool
        Whether the teacher drops channels while it teaches, as released.
    lr, distillation_lr : float
        Learning rate of the first two stages, and of the last, there of student and discriminator.
    weight_decay : float
        Decay of the first two stages.
    """

    width: Width = 32
    discriminator_width: Width = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    class_weights: Weights = (1.0, 59.4507, 23.3190, 71.8481)
    class_weight_decay: Share = 0.98
    adversarial_weight: Weight = 0.2
    gate: Share = 0.8
    teacher_dropout: bool = False
    lr: Rate = 2e-4
    distillation_lr: Rate = 2e-4
    weight_decay: Weight = 1e-5


class _Segmented(NamedTuple):
    """Logits of one network, and its features as three pairs of equal channels, the second of half the size."""

    logits: Tensor
    pairs: tuple[tuple[Tensor, Tensor], ...]

    def detach(self) -> _Segmented:
        return _Segmented(self.logits.detach(), tuple((a.detach(), b.detach()) for a, b in self.pairs))


class _Level(nn.Module):
    """Dropout of channels, then two convolutions."""

    def __init__(self, in_channels: int, inner: int, out_channels: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout3d(dropout)
        self.first = ConvNormAct(in_channels, inner)
        self.second = ConvNormAct(inner, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(self.dropout(x)))


class _Up(nn.Module):
    """Enlarged coarse features and a skip, each through a convolution of its own, added.

    The coarse convolution's bias exists for the authors' weights only: the norm removes it, so it is not added.
    """

    def __init__(self, channels: int, inner: int, out_channels: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout3d(dropout)
        self.coarse = nn.Conv3d(channels, inner, 3, padding=1)
        self.skip = nn.Conv3d(channels, inner, 3, padding=1, bias=False)
        self.norm = InstanceNorm(inner)
        self.last = ConvNormAct(inner, out_channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = F.interpolate(x, size=skip.shape[2:])
        skip, x = self.dropout(skip), self.dropout(x)
        joined = self.skip(skip) + F.conv3d(x, self.coarse.weight, None, padding=1)
        return self.last(F.leaky_relu(self.norm(joined), 0.01))


class _Segmenter(nn.Module):
    """U-Net of four levels and a bottleneck, which also gives what the discriminator looks at."""

    def __init__(self, in_channels: int, out_channels: int, width: int, dropout: float) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(4)]
        self.down = nn.ModuleList(
            _Level(before, after, after, dropout if level else 0.0)
            for level, (before, after) in enumerate(zip((in_channels, *widths[:-1]), widths, strict=True))
        )
        self.bottleneck = _Level(widths[3], 2 * widths[3], widths[3], dropout)
        self.up = nn.ModuleList(
            _Up(before, before, after, dropout)
            for before, after in zip(widths[::-1], [*widths[-2::-1], width], strict=True)
        )
        self.head = nn.Conv3d(width, out_channels, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv3d):
                nn.init.kaiming_normal_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> _Segmented:
        skips = []
        for level in self.down:
            skips.append(level(x))
            x = F.max_pool3d(skips[-1], 2)
        features = [self.bottleneck(x)]
        for level, skip in zip(self.up, reversed(skips), strict=True):
            features.append(level(features[-1], skip))
        pairs = ((skips[1], features[2]), (skips[2], features[1]), (skips[3], features[0]))
        return _Segmented(self.head(features[-1]), pairs)


class _Discriminator(nn.Module):
    """Scores of a segmentation beside the student's images, given the features it was made from.

    Logits and images enter first; each pair of features joins where the size fits.
    """

    def __init__(self, in_channels: int, features: int, width: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(2, 6)]
        # A pair holds the channels of one of the segmenter's levels twice.
        entering = [in_channels, *(widths[i] + features * 2 ** (i + 2) for i in range(3))]
        self.layers = nn.ModuleList(
            nn.Conv3d(before, after, 4, 2, padding=1) for before, after in zip(entering, widths, strict=True)
        )
        self.score = nn.Conv3d(widths[-1], 1, 4, padding=1, bias=False)

    def forward(self, made: _Segmented, sources: Tensor) -> Tensor:
        x = F.leaky_relu(self.layers[0](torch.cat([made.logits, sources], dim=1)), 0.2)
        for layer, (fine, coarse) in zip(self.layers[1:], made.pairs, strict=True):
            x = layer(torch.cat([x, fine, F.interpolate(coarse, size=fine.shape[2:])], dim=1))
            x = F.leaky_relu(F.instance_norm(x), 0.2)
        return self.score(x)


def class_weights(start: tuple[float, ...], decay: float, epoch: int, channels: int) -> Tensor:
    """Weights of the classes in an epoch: ``max(1, start * decay^epoch)``.

    Parameters
    ----------
    start : tuple of float
        Of background and labels; further labels have the last one's.
    decay : float
    epoch : int
        Counted from 0.
    channels : int

    Returns
    -------
    Tensor, shape (channels,)
    """
    chosen = (*start[:channels], *[start[-1]] * (channels - len(start)))
    return torch.tensor([max(1.0, weight * decay**epoch) if epoch else weight for weight in chosen])


def weighted_cross_entropy(logits: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy of softmax channels, mean over voxels by the weight of each voxel's class.

    Parameters
    ----------
    logits, target : Tensor, shape (B, C, *S)
    weights : Tensor, shape (C,)

    Raises
    ------
    ValueError
        If the shapes of logits and target differ.
    """
    scores, onehot = prepare(logits, target)
    weighted = onehot * weights.to(onehot).reshape(1, -1, *[1] * (onehot.ndim - 2))
    return -(weighted * scores.log_softmax(dim=1)).sum() / weighted.sum().clamp_min(1e-6)


class HADNet(PerSubset[HADNetConfig]):
    """HAD-Net [1]_: hierarchical adversarial knowledge distillation to a student without the post-contrast image.

    Parameters
    ----------
    config : HADNetConfig
        `subset` names the student's modalities; published: ``t1+t2+flair``.
    spec : DataSpec

    Notes
    -----
    One instance serves one subset; `PerSubsetModels` joins several. A teacher of all modalities is trained first, then
    the student alone, both by weighted cross-entropy. In the last stage the teacher rests. A discriminator tells its
    logits and three pairs of features from the student's, beside the student's images in both cases; the student learns
    by cross-entropy and by misleading it. No other term compares the two networks. Prediction uses the student alone.

    The discriminator needs windows of at least 32 voxels along each axis.

    Authors' checkpoints were trained on arrays (z, y, x) with y from back to front, as ours, and x from right to left,
    mirrored in half of the steps: kernels are taken as they are. Channels there: flair, t1c, t1, t2.

    References
    ----------
    .. [1] Vadacchino, Mehta, Sepahvand, Nichyporuk, Clark, Arbel, "HAD-Net: A Hierarchical Adversarial Knowledge
       Distillation Network for Improved Enhanced Tumour Segmentation Without Post-Contrast Images", MIDL 2021,
       arXiv:2103.16617.
    """

    name = "had_net"
    info = MethodInfo(
        title="HAD-Net",
        family="knowledge distillation",
        task="segmentation",
        year=2021,
        reference="Vadacchino et al., MIDL 2021",
        arxiv="2103.16617",
        code="https://github.com/SaverioVad/HAD_Net",
        parity="1e-4",
        novelty="Distils through one discriminator that sees segmentations and features of every level.",
        weakness="One student per missing set, complete cases only, and a discriminator larger than both networks.",
        deviations=(
            "no dropout in the teacher while it teaches (teacher_dropout=True as released, where it trains on)",
            "the teacher ends with its last weights, not the best on the validation set",
            "published for T1, T2 and FLAIR alone; other subsets take the same settings",
            "scaled from least value to percentile 99.9 of each brain; theirs to 3 deviations above the common mean",
            "first two stages: mirrored left and right; theirs are also turned by 4 degrees, sheared and scaled by 4 %",
            "whole volumes are not padded to one size; the published one is the largest of the data set",
            "preset tiny: windows of 48 voxels, and learning rates 10 times the published ones",
        ),
        untrained={
            r"(teacher|student)\..*\.(first|second|last)\.conv\.bias": "an instance norm follows and removes it",
            r"(teacher|student)\..*\.coarse\.bias": "an instance norm follows and removes it",
        },
        learns_from_hidden={
            "teacher_cross_entropy|discriminator_teacher": "the teacher sees all modalities",
        },
    )
    presets = {
        "paper": Preset(
            (
                Stage("teacher", 400, 1, None, "all", augment="left_right", shared=True),
                Stage("student", 400, 1, None, "all", augment="left_right", select="best"),
                Stage("distillation", 800, 1, None, "all", augment="none", select="best"),
            )
        ),
        "tiny": Preset(
            (
                Stage("teacher", 10, 1, (48,) * 3, "all", steps_per_epoch=50, augment="left_right", shared=True),
                Stage("student", 10, 1, (48,) * 3, "all", steps_per_epoch=50, augment="left_right", select="best"),
                Stage("distillation", 10, 1, (48,) * 3, "all", steps_per_epoch=50, augment="none", select="best"),
            ),
            {"width": 4, "discriminator_width": 1, "lr": 2e-3, "distillation_lr": 2e-3},
        ),
    }
    needs = "complete"
    outputs = ("logits",)
    intensity = Intensity("unit", high="p99.9")
    divisor = 16
    head: Head

    def __init__(self, config: HADNetConfig, spec: DataSpec = GLIOMA) -> None:
        super().__init__(config, spec)
        self.head = Head("softmax", ("background", *spec.labels))
        channels, own = len(self.head.channels), len(self.subset_modalities)
        self.teacher = _Segmenter(len(spec.modalities), channels, config.width, config.dropout)
        self.student = _Segmenter(own, channels, config.width, config.dropout)
        self.discriminator = _Discriminator(channels + own, config.width, config.discriminator_width)

    # ------------------------------------------------------------------------------------------------ prediction

    def predict_subset(self, sources: Tensor, available: Tensor) -> Prediction:
        """Segment by the student."""
        return Prediction(logits=self.student(sources).logits)

    # ---------------------------------------------------------------------------------------------------- training

    def turns(self, stage: Stage) -> dict[str, list[dict[str, Any]]]:
        """The stage's network; in the last stage the student, then the discriminator."""
        names = ("student", "discriminator") if stage.name == "distillation" else (stage.name,)
        return {name: [{"params": list(self.get_submodule(name).parameters())}] for name in names}

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        """Cross-entropy of one network; in the last stage the student's turn or the discriminator's."""
        if ctx.turn == "discriminator":
            return self._discriminator_step(batch, ctx)
        if ctx.stage.name == "teacher":
            logits = self.teacher(batch.image).logits
            return StepOutput.of({"teacher_cross_entropy": self._cross_entropy(logits, batch, ctx.epoch)})
        sources = self.take_own(batch.image, batch.present)
        made = self.student(sources)
        if ctx.stage.name == "student":
            return StepOutput.of({"student_cross_entropy": self._cross_entropy(made.logits, batch, ctx.epoch)})
        ctx.shared["student"] = made.detach()
        terms = {
            "cross_entropy": self._cross_entropy(made.logits, batch, epoch=0),
            "adversarial": least_squares(self.discriminator(made, sources), TEACHER),
        }
        return StepOutput.of(terms, {"adversarial": self.config.adversarial_weight})

    def _cross_entropy(self, logits: Tensor, batch: Batch, epoch: int) -> Tensor:
        """Weighted cross-entropy; the last stage takes the weights of epoch 0 throughout."""
        assert batch.label is not None
        config = self.config
        weights = class_weights(config.class_weights, config.class_weight_decay, epoch, logits.shape[1])
        return weighted_cross_entropy(logits, self.head.target(batch.label, self.spec), weights)

    def _discriminator_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        """Tell the teacher from the student, unless that is too easy already."""
        sources = self.take_own(batch.image, batch.present)
        self.teacher.train(self.config.teacher_dropout)
        with torch.no_grad():
            taught = self.teacher(batch.image)
            made = ctx.shared["student"] if "student" in ctx.shared else self.student(sources)
        real, fake = self.discriminator(taught, sources), self.discriminator(made, sources)
        terms = {
            "discriminator_teacher": least_squares(real, TEACHER),
            "discriminator_student": least_squares(fake, STUDENT),
        }
        output = StepOutput.of(terms)
        right = 0.5 * ((real >= 0.5).float().mean() + (fake <= 0.5).float().mean())
        return output if right <= self.config.gate else output._replace(loss=None)

    def optimizer_settings(self, stage: Stage, turn: str) -> OptimizerSettings:
        """AdamW in the first two stages, Adam in the last, at a constant rate."""
        config = self.config
        if stage.name == "distillation":
            return OptimizerSettings("adam", lr=config.distillation_lr, betas=(0.5, 0.999))
        return OptimizerSettings("adamw", lr=config.lr, weight_decay=config.weight_decay)
