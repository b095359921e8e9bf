"""KD-Net: distil a network of all modalities into one of few, by softened outputs and by the bottleneck."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from anymri.bounds import PositiveNumber, Rate, Share, Weight, Width
from anymri.losses.segmentation import binary_cross_entropy, dice_squared
from anymri.nn.plain_unet import PlainUNet
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

__all__ = ["KDNet", "KDNetConfig", "dice_and_cross_entropy", "latent_divergence"]


@dataclass(frozen=True, kw_only=True)
class KDNetConfig(MethodConfig):
    """Settings of KD-Net.

    Parameters
    ----------
    widths : tuple of int
        Channels of each level, finest first; source: ours, those of nnU-Net for windows of 128 voxels.
    distillation_share : float
        Weight lambda of the softened outputs, in [0, 1]; the ground truth has the rest. The value is unconfirmed.
    latent_weight : float
        Weight mu of the bottlenecks' divergence. The value is unconfirmed.
    temperature : float
        Divides logits before they are compared. The value is unconfirmed.
    soften_student : bool
        Whether the student's logits are divided too; which of the two was published is unknown.
    lr : float
        Learning rate of both stages.
    """

    widths: Annotated[tuple[Width, ...], Field(min_length=2, max_length=16)] = (32, 64, 128, 256, 320, 320)
    distillation_share: Share = 0.75
    latent_weight: Weight = 2.0
    temperature: PositiveNumber = 10.0
    soften_student: bool = True
    lr: Rate = 1e-4


class _Segmented(NamedTuple):
    """Logits (B, C, D, H, W) and bottleneck (B, F, d, h, w) of one network."""

    logits: Tensor
    bottleneck: Tensor


def dice_and_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Dice loss, mean over the channels, plus binary cross-entropy.

    Parameters
    ----------
    logits, target : Tensor, shape (B, C, *S)
        The target may be soft, in [0, 1].

    Notes
    -----
    Both of the Dice's sums are squared: with plain sums the loss of a soft target is not least where it is met.
    """
    return dice_squared(logits.sigmoid(), target) / logits.shape[1] + binary_cross_entropy(logits, target)


def latent_divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(teacher || student) of bottlenecks that a softmax over all their values makes distributions, mean over rows.

    Parameters
    ----------
    teacher, student : Tensor, shape (B, F, *S)
    """
    log_p, log_q = (features.float().flatten(1).log_softmax(dim=1) for features in (teacher, student))
    return (log_p.exp() * (log_p - log_q)).sum(dim=1).mean()


class KDNet(PerSubset[KDNetConfig]):
    """KD-Net [1]_: a teacher of all modalities and a student of one.

    Parameters
    ----------
    config : KDNetConfig
        `subset` names the student's modalities; published: one, above all ``t1c``.
    spec : DataSpec

    Notes
    -----
    One instance serves one subset; `PerSubsetModels` joins several. Teacher and student are the same U-Net but for
    the first convolution. The teacher is trained first, then rests. The student's loss is ``lambda L_KD + (1 - lambda)
    L_GT + mu L_KL``: L_KD compares its softened probabilities with the teacher's and L_GT its probabilities with the
    label, each by Dice and cross-entropy; L_KL is the divergence of the bottlenecks, the teacher's as target.
    Sigmoid channels are the regions of the specification. Prediction uses the student alone.

    References
    ----------
    .. [1] Hu, Maillard, Zhang, Ciceri, La Barbera, Bloch, Gori, "Knowledge Distillation from Multi-modal to Mono-modal
       Segmentation Networks", MICCAI 2020, arXiv:2106.09564.
    """

    name = "kd_net"
    info = MethodInfo(
        title="KD-Net",
        family="knowledge distillation",
        task="segmentation",
        year=2020,
        reference="Hu et al., MICCAI 2020",
        doi="10.1007/978-3-030-59710-8_75",
        arxiv="2106.09564",
        parity="interpretation (no code)",
        novelty="Softened outputs and the bottleneck of a network of all modalities teach one that sees a single one.",
        weakness="One student per subset, complete cases only, and a teacher that is not better everywhere.",
        deviations=(
            "interpretation: no code was published; loss terms are the paper's, the network is nnU-Net's, widths ours",
            "lambda 0.75, mu 2 and temperature 10 are unconfirmed, as are optimiser, rate and epochs",
            "whether the student's outputs are softened too is unknown; they are (soften_student=False: they are not)",
            "bottlenecks become distributions by a softmax over all their values; the paper's normalisation is unknown",
            "the Dice has squared sums; with plain ones soft labels are not met where the loss is least",
            "the learning rate is constant; theirs is said to fall to a fifth after 50 epochs without gain",
            "augmentation and windows are unknown: those of the training loop, 128 voxels",
            "subsets of several modalities are served too; the paper's student has one",
            "preset tiny: learning rate 0.002, 20 times the paper's, for 1500 steps",
        ),
        untrained={r"(teacher|student)\.(down|up)\..*\.conv\.bias": "an instance norm follows and removes it"},
        learns_from_hidden={"teacher_ground_truth|distillation|latent": "the teacher sees all modalities"},
    )
    presets = {
        "paper": Preset(
            (
                Stage("teacher", 500, 1, (128, 128, 128), "all", shared=True),
                Stage("student", 500, 1, (128, 128, 128), "all"),
            )
        ),
        "tiny": Preset(
            (
                Stage("teacher", 12, 1, (48, 48, 48), "all", steps_per_epoch=50, foreground=0.7, shared=True),
                Stage("student", 18, 1, (48, 48, 48), "all", steps_per_epoch=50, foreground=0.7),
            ),
            {"widths": (8, 16, 24, 32), "lr": 2e-3},
        ),
    }
    needs = "complete"
    outputs = ("logits",)
    head: Head

    def __init__(self, config: KDNetConfig, spec: DataSpec = GLIOMA) -> None:
        super().__init__(config, spec)
        self.head = Head("sigmoid", tuple(spec.regions))
        self.divisor = 2 ** (len(config.widths) - 1)
        # The teacher first: it starts alike whatever the subset.
        self.teacher = self._network(len(spec.modalities))
        self.student = self._network(len(self.subset_modalities))

    def _network(self, in_channels: int) -> PlainUNet:
        widths = self.config.widths
        strides = ((1, 1, 1), *((2, 2, 2),) * (len(widths) - 1))
        kernels = ((3, 3, 3),) * len(widths)
        return PlainUNet(in_channels, len(self.head.channels), widths, kernels, strides, every_level=False)

    def _segment(self, network: PlainUNet, sources: Tensor) -> _Segmented:
        skips = network.encode(sources)
        return _Segmented(network.heads[-1](network.decode(skips)[-1]), skips[-1])

    # ------------------------------------------------------------------------------------------------ prediction

    def predict_subset(self, sources: Tensor, available: Tensor) -> Prediction:
        """Segment by the student."""
        return Prediction(logits=self._segment(self.student, sources).logits)

    # ---------------------------------------------------------------------------------------------------- training

    def turns(self, stage: Stage) -> dict[str, list[dict[str, Any]]]:
        """The stage's network."""
        return {stage.name: [{"params": list(self.get_submodule(stage.name).parameters())}]}

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        """Ground truth alone for the teacher; the three terms for the student."""
        assert batch.label is not None
        config, target = self.config, self.head.target(batch.label, self.spec)
        if ctx.turn == "teacher":
            logits = self._segment(self.teacher, batch.image).logits.float()
            return StepOutput.of({"teacher_ground_truth": dice_and_cross_entropy(logits, target)})
        with torch.no_grad():
            taught = self._segment(self.teacher, batch.image)
            soft = (taught.logits.float() / config.temperature).sigmoid()
        made = self._segment(self.student, self.take_own(batch.image, batch.present))
        logits = made.logits.float()
        terms = {
            "distillation": dice_and_cross_entropy(logits / (config.temperature if config.soften_student else 1), soft),
            "ground_truth": dice_and_cross_entropy(logits, target),
            "latent": latent_divergence(taught.bottleneck, made.bottleneck),
        }
        share = config.distillation_share
        weights = {"distillation": share, "ground_truth": 1 - share, "latent": config.latent_weight}
        return StepOutput.of(terms, weights)

    def optimizer_settings(self, stage: Stage, turn: str) -> OptimizerSettings:
        """Adam at a constant rate."""
        return OptimizerSettings("adam", lr=self.config.lr)
