"""MAML: a U-Net for each modality, whose last features open each other's gates (modality-aware mutual learning)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anymri.bounds import Rate, Weight, Widths
from anymri.losses.segmentation import cross_entropy, dice_nnunet_per_row, level_weights
from anymri.nn.fusion import spread
from anymri.nn.plain_unet import ConvNormAct, PlainUNet
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
    UserError,
    Where,
)

__all__ = ["MAML", "MAMLConfig"]


@dataclass(frozen=True, kw_only=True)
class MAMLConfig(MethodConfig):
    """Settings of MAML; defaults are the released code's.

    Parameters
    ----------
    widths : tuple of int
        Channels of each level of a modality's U-Net, finest first: half of nnU-Net's.
    lr, weight_decay : float
        First learning rate and decay of the optimiser.
    """

    widths: Widths = (16, 32, 64, 128, 256, 320)
    lr: Rate = 1e-2
    weight_decay: Weight = 3e-5


class _Gate(nn.Module):
    """Gate of one modality: what of its features counts, by voxel and channel, from them and the joint features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = ConvNormAct(2 * width, width)
        self.second = nn.Conv3d(width, width, 3, padding=1)

    def forward(self, own: Tensor, joint: Tensor) -> Tensor:
        return self.second(self.first(torch.cat([own, joint], dim=1))).sigmoid()


class MAML(Method[MAMLConfig]):
    """MAML [1]_: modality-aware mutual learning of one U-Net for each modality.

    Parameters
    ----------
    config : MAMLConfig
    spec : DataSpec

    Notes
    -----
    Nothing of the meta-learning algorithm with the same initials. Each modality has an nnU-Net of half the width; its
    last features ``h_i`` are joined by a convolution, ``h_0 = W [h_1 ... h_M] + b``, and a gate for each modality,
    ``A_i = sigmoid(C(h_i, h_0))``, weights them by voxel and channel. The logits are a 1x1x1 convolution of
    ``sum_i A_i h_i``. Every modality's U-Net has classifiers of its own at every level of the way up.

    The loss L is cross-entropy plus Dice: ``w_1 L(joint) + sum_i sum_s w_s L(modality i, level s)`` with w = 1, 1/2,
    1/4 ... that sum to 1, the coarsest level left out. So the joint logits count as much as one modality's finest. The
    released code has no term between the modalities' own segmentations: they meet in the joint loss alone.

    The released code takes complete subjects only, though the paper reports missing modalities; how is not known. Here
    both sums run over what is available and are scaled by M / |S|, which is 1 with all: then everything is as released.

    Convolution biases in front of the norms are kept for the released weights and not added.

    References
    ----------
    .. [1] Zhang et al., "Modality-aware Mutual Learning for Multi-modal Medical Image Segmentation", MICCAI 2021,
       arXiv:2107.09842.
    """

    name = "maml"
    info = MethodInfo(
        title="MAML",
        family="knowledge distillation",
        task="segmentation",
        year=2021,
        reference="Zhang et al., MICCAI 2021",
        doi="10.1007/978-3-030-87193-2_56",
        arxiv="2107.09842",
        code="https://github.com/YaoZhang93/MAML",
        parity="1e-4",
        novelty="Networks of single modalities learn side by side; gates that see all decide which one counts where.",
        weakness="As many U-Nets as modalities; the released code has neither missing modalities nor a mutual term.",
        deviations=(
            "any subset: both sums over what is available are scaled by M / |S|; released: all modalities, always",
            "training draws subsets with equal probability, and only U-Nets of shown modalities learn in a step",
            "augmentation of the training loop; theirs is nnU-Net's (rotates, scales, adds noise, blurs, mirrors)",
            "a third of all windows is centred on a label; theirs one of every two contains foreground",
            "z-score inside each modality's own brain, not the common one of the channels",
            "the learning rate falls every step, not every epoch",
            "levels are fixed at 1 mm and windows of 128; theirs are planned for every data set",
            "windows of prediction weigh alike unless weighting='gaussian'; none is mirrored; no post-processing",
            "preset tiny: learning rate as published, for 1500 steps",
        ),
        untrained={
            r"branches\..*\.(down|up)\..*\.conv\.bias|gates\..*\.first\.conv\.bias": "a norm follows and removes it",
            r"branches\..*\.heads\.0\..*": "the coarsest classifier has weight 0 in the loss",
        },
    )
    presets = {
        "paper": Preset((Stage("train", 1000, 2, (128,) * 3, "uniform_subset", steps_per_epoch=250),)),
        "tiny": Preset(
            (Stage("train", 30, 2, (48,) * 3, "uniform_subset", steps_per_epoch=50),), {"widths": (6, 12, 24, 32)}
        ),
    }
    outputs = ("logits",)
    head: Head

    def __init__(self, config: MAMLConfig, spec: DataSpec = GLIOMA) -> None:
        super().__init__(config, spec)
        if len(config.widths) < 3:
            raise UserError(f"method.config.widths = {config.widths}: too few levels for a U-Net; give at least three")
        self.head = Head("softmax", ("background", *spec.labels))
        self.divisor = 2 ** (len(config.widths) - 1)
        levels, width = len(config.widths), config.widths[0]
        kernels, strides = ((3, 3, 3),) * levels, ((1, 1, 1), *((2, 2, 2),) * (levels - 1))
        channels = len(self.head.channels)
        self.branches = nn.ModuleDict(
            {code: PlainUNet(1, channels, config.widths, kernels, strides, bias=False) for code in spec.modalities}
        )
        # One part of the joining convolution for each modality, so that absent ones cost nothing.
        self.joining = nn.ModuleDict(
            {code: nn.Conv3d(width, width, 3, padding=1, bias=False) for code in spec.modalities}
        )
        bound = 1 / math.sqrt(27 * width * len(spec.modalities))  # of one convolution over all modalities
        for part in self.joining.values():
            nn.init.uniform_(part.get_parameter("weight"), -bound, bound)
        self.joining_bias = nn.Parameter(torch.zeros(width))
        self.gates = nn.ModuleDict({code: _Gate(width) for code in spec.modalities})
        self.classifier = nn.Conv3d(width, channels, 1, bias=False)

    # ------------------------------------------------------------------------------------------------ prediction

    def encode(self, image: Tensor, available: Tensor, where: Where | None = None) -> Features:
        """Last features of every modality that some row has, by code; see `Method.encode`."""
        return {code: levels[-1] for code, levels in self._branch_features(image, available).items()}

    def _branch_features(self, image: Tensor, available: Tensor) -> dict[str, list[Tensor]]:
        """Features of every level of the way up, coarsest first, of every modality that some row has."""
        image = zero_absent(image, available)
        return {
            code: branch(image[:, i : i + 1])
            for i, (code, branch) in enumerate(self.branches.items())
            if available[:, i].any()
        }

    def decode(self, features: Features, available: Tensor, request: Request = EVERYTHING) -> Prediction:
        """Segment from the gated features of what is available; deterministic. See `Method.decode`."""
        kept = {
            code: torch.where(spread(available[:, i], 5), features[code], 0.0)
            for i, code in enumerate(self.spec.modalities)
            if available[:, i].any()
        }
        first = next(iter(kept.values()))
        scale = spread(len(self.spec.modalities) / available.sum(dim=1), 5).to(first.dtype)
        joint = scale * _total([self.joining[code](feature) for code, feature in kept.items()])
        joint = joint + self.joining_bias.to(joint.dtype).reshape(1, -1, 1, 1, 1)
        # Absent features are 0, so what their gate says has no weight.
        weighted = [self.gates[code](feature, joint) * feature for code, feature in kept.items()]
        return Prediction(logits=self.classifier(scale * _total(weighted)))

    # ---------------------------------------------------------------------------------------------------- training

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        """Cross-entropy and Dice of the joint logits, and of every shown modality's own at every level but one."""
        assert batch.label is not None
        features = self._branch_features(batch.image, batch.available)
        last: Features = {code: levels[-1] for code, levels in features.items()}
        logits = self.decode(last, batch.available).logits
        assert logits is not None
        target = self.head.target(batch.label, self.spec)
        weights = level_weights(len(self.config.widths) - 2)
        terms = self._losses("joint", [logits], target, weights[:1])
        alone: dict[str, list[Tensor]] = {"alone_cross_entropy": [], "alone_dice": []}
        for code, levels in features.items():
            rows = batch.available[:, self.spec.index(code)]
            heads = cast(PlainUNet, self.branches[code]).heads
            # The finest level first; the coarsest is left out.
            scores = [head(level[rows]) for head, level in reversed(list(zip(heads, levels, strict=True))[1:])]
            for name, value in self._losses("alone", scores, target[rows], weights).items():
                alone[name].append(value)
        return StepOutput.of(terms | {name: torch.stack(values).sum() for name, values in alone.items()})

    def _losses(self, name: str, scores: list[Tensor], target: Tensor, weights: list[float]) -> dict[str, Tensor]:
        """Weighted sum over levels, finest first, of cross-entropy and of Dice."""
        entropies, dices = [], []
        for logits, weight in zip(scores, weights, strict=True):
            goal = F.interpolate(target, size=logits.shape[2:], mode="nearest-exact")
            entropies.append(weight * cross_entropy(logits.float(), goal))
            dices.append(weight * dice_nnunet_per_row(logits.float().softmax(dim=1), goal))
        return {f"{name}_cross_entropy": torch.stack(entropies).sum(), f"{name}_dice": torch.stack(dices).sum()}

    def optimizer_settings(self, stage: Stage, turn: str) -> OptimizerSettings:
        """SGD with Nesterov momentum 0.99, polynomial schedule, gradients clipped to norm 12."""
        rate, decay = self.config.lr, self.config.weight_decay
        return OptimizerSettings(
            "sgd", rate, decay, betas=(0.99, 0.999), nesterov=True, schedule="poly", power=0.9, clip_norm=12.0
        )


def _total(parts: list[Tensor]) -> Tensor:
    return sum(parts[1:], parts[0])
