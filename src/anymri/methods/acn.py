"""ACN: co-train a missing-modality path with a full-modality path."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from anymri.bounds import LayersByLevel, Rate, Share, Weight, Widths
from anymri.losses.co_training import consistency, discriminator_bce, ramp_up
from anymri.losses.segmentation import dice_squared
from anymri.nn.group_norm_unet import GroupNormDecoder, GroupNormEncoder
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

__all__ = ["ACN", "ACNConfig", "entropy_map"]

#: Labels of the two paths for the discriminators.
FULL, MISSING = 0.0, 1.0


@dataclass(frozen=True, kw_only=True)
class ACNConfig(MethodConfig):
    """Settings of ACN; defaults are the released code's.

    Parameters
    ----------
    widths, blocks : tuple of int
        Channels, all multiples of 8, and residual blocks of each level, finest first.
    entropy_widths, knowledge_widths : tuple of int
        Channels inside the two discriminators.
    dropout : float
        At the coarsest level.
    missing_weight : float
        Share of the missing path's Dice loss; the full path has the rest.
    transfer_weight, entropy_weight, knowledge_weight : float
        Weights of knowledge transfer and of the two adversarial terms.
    transfer_from : {"full", "missing"}
        Whose features the missing path regresses: the paper's full path, or its own as released.
    ramp : float
        Share of the training over which the consistency's weight rises to 10; published: 20 of 300 epochs.
        Above 1 it does not get there.
    lr, weight_decay : float
        Learning rate and decay of the optimiser.
    """

    widths: Widths = (16, 32, 64, 128)
    blocks: LayersByLevel = (1, 2, 2, 4)
    entropy_widths: Widths = (64, 128, 256, 512)
    knowledge_widths: Widths = (256, 512)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    missing_weight: Share = 0.8
    transfer_weight: Weight = 0.5
    entropy_weight: Weight = 0.001
    knowledge_weight: Weight = 0.0002
    transfer_from: Literal["full", "missing"] = "full"
    ramp: Weight = 20 / 300
    lr: Rate = 1e-4
    weight_decay: Weight = 1e-5


class _Path(nn.Module):
    """One U-Net that also gives its coarsest features."""

    def __init__(self, in_channels: int, out_channels: int, config: ACNConfig) -> None:
        super().__init__()
        self.encoder = GroupNormEncoder(in_channels, config.widths, config.blocks)
        self.dropout = nn.Dropout(config.dropout)
        self.decoder = GroupNormDecoder(config.widths, out_channels)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, C, D, H, W) and features (B, F, D/8, H/8, W/8)."""
        features, _ = self.encoder(image)
        return self.decoder(self.dropout(features[-1]), features[:-1]), features[-1]


class _Transfer(nn.Module):
    """Variational information distillation: a regression of features with one learned variance per channel."""

    #: Variance at the start, and its least value.
    START, LEAST = 5.0, 1e-5

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.regressor = nn.Sequential(
            nn.Conv3d(channels, channels, 1, bias=False),
            nn.ReLU(),
            nn.Conv3d(channels, channels, 1, bias=False),
            nn.ReLU(),
            nn.Conv3d(channels, channels, 1, bias=False),
        )
        self.log_scale = nn.Parameter(torch.full((channels,), math.log(math.expm1(self.START - self.LEAST))))

    def variance(self) -> Tensor:
        return F.softplus(self.log_scale) + self.LEAST

    def forward(self, features: Tensor, target: Tensor) -> Tensor:
        """Mean negative log-likelihood, without its constant, of `target` given `features`."""
        variance = self.variance().reshape(1, -1, 1, 1, 1)
        error = (self.regressor(features).float() - target.float()) ** 2
        return (0.5 * (error / variance + variance.log())).mean()


def _entropy_discriminator(channels: int, widths: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in zip((channels, *widths[:-1]), widths, strict=True):
        layers += [nn.Conv3d(before, after, 4, 2, padding=1), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Conv3d(widths[-1], 1, 4, 2, padding=1))


def _knowledge_discriminator(channels: int, widths: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in zip((channels, *widths[:-1]), widths, strict=True):
        layers += [nn.Conv3d(before, after, 3, padding=1), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Conv3d(widths[-1], 1, 3, 2, padding=1))


def entropy_map(probability: Tensor) -> Tensor:
    """Share of every channel in the entropy, 1 over all channels where all are equally likely.

    Parameters
    ----------
    probability : Tensor, shape (B, C, *S)
        Sigmoid probabilities; a softmax over the channels is taken of them, as released.
    """
    p = probability.float().softmax(dim=1)
    return -p * (p + 1e-30).log2() / math.log2(p.shape[1])


class ACN(PerSubset[ACNConfig]):
    """ACN [1]_: adversarial co-training of a missing-modality path with a full-modality path.

    Parameters
    ----------
    config : ACNConfig
        `subset` names the modalities of the missing path.
    spec : DataSpec

    Notes
    -----
    One instance serves one subset; `PerSubsetModels` joins several. Both paths are the same U-Net. The missing path
    learns by its Dice loss, by agreement with the full path's probabilities (the gradient reaches both), by regressing
    the full path's coarsest features with a learned variance, and by two discriminators that tell the paths apart by
    entropy maps and by features. Prediction uses the missing path alone.

    The four sigmoid channels are the labels and the background; the background channel enters no segmentation loss.

    Authors' checkpoints hold kernels for arrays (x, y, z); they are turned to (z, y, x) on import. Channels of the
    full path there: t1, t2, flair, t1c.

    References
    ----------
    .. [1] Wang et al., "ACN: Adversarial Co-training Network for Brain Tumor Segmentation with Missing Modalities",
       MICCAI 2021, arXiv:2106.14591.
    """

    name = "acn"
    info = MethodInfo(
        title="ACN",
        family="common latent space",
        task="segmentation",
        year=2021,
        reference="Wang et al., MICCAI 2021",
        doi="10.1007/978-3-030-87234-2_39",
        arxiv="2106.14591",
        code="https://github.com/Wangyixinxin/ACN",
        parity="1e-4",
        novelty="Full and missing path train together, tied by probabilities, features and two discriminators.",
        weakness="One pair of networks per subset, and complete cases only.",
        deviations=(
            "features of the full path, detached, are the target of the transfer (transfer_from='missing' as released)",
            "discriminators keep their optimiser's state; the release makes it anew every step",
            "no auto-encoder branch: its loss is switched off in the release",
            "scaled to [0, 1] by each modality's range inside its own brain",
            "crops lie in the brain's box; theirs anywhere in the volume",
            "learning rate and consistency weight change every step; theirs every epoch, with rate 0 in the last",
            "no dropout in prediction; the release scores the missing path and picks its checkpoint with dropout on",
            "the last epoch, not the best one on the evaluation set by Dice without a threshold",
            "prediction by windows over the whole volume; theirs from one central crop",
            "preset tiny: the consistency's weight rises to 1.1 by the end (published: to 10 in 20 of 300 epochs)",
            "preset tiny: 70 % of its small crops are centred on a label; the published ones, far larger, anywhere",
            "preset tiny: learning rate 0.002, 20 times the published one, for 1500 steps",
        ),
        learns_from_hidden={
            r"dice_full|consistency|transfer|\w+_discriminator": "the full-modality path teaches the other",
        },
    )
    presets = {
        "paper": Preset((Stage("train", 300, 1, (128, 192, 160), "all", augment="mirror", foreground=0.0),)),
        "tiny": Preset(
            # The published crop holds nearly the whole brain, so the tumour too. A small one is centred on it: Dice
            # has no gradient for a class that a crop lacks, and such a class may end up everywhere.
            (Stage("train", 30, 1, (48,) * 3, "all", steps_per_epoch=50, augment="mirror", foreground=0.7),),
            {
                "widths": (8, 16, 24, 32),
                "blocks": (1, 1, 1, 1),
                "entropy_widths": (8, 16, 32),
                "knowledge_widths": (32, 48),
                "lr": 2e-3,
                # The published 20 epochs are some 5000 steps, three times this training. Rising faster, consistency
                # makes the paths agree before they have learned anything.
                "ramp": 3.0,
            },
        ),
    }
    needs = "complete"
    outputs = ("logits",)
    intensity = Intensity("unit")
    head: Head

    def __init__(self, config: ACNConfig, spec: DataSpec = GLIOMA) -> None:
        super().__init__(config, spec)
        self.head = Head("sigmoid", (*spec.labels, "background"))
        self.divisor = 2 ** (len(config.widths) - 1)
        channels = len(self.head.channels)
        self.full = _Path(len(spec.modalities), channels, config)
        self.missing = _Path(len(self.subset_modalities), channels, config)
        self.transfer = _Transfer(config.widths[-1])
        self.entropy_discriminator = _entropy_discriminator(channels, config.entropy_widths)
        self.knowledge_discriminator = _knowledge_discriminator(config.widths[-1], config.knowledge_widths)

    # ------------------------------------------------------------------------------------------------ prediction

    def predict_subset(self, sources: Tensor, available: Tensor) -> Prediction:
        """Segment by the missing path."""
        return Prediction(logits=self.missing(sources)[0])

    # ---------------------------------------------------------------------------------------------------- training

    def turns(self, stage: Stage) -> dict[str, list[dict[str, Any]]]:
        """The two paths, then the two discriminators."""
        networks = [*self.full.parameters(), *self.missing.parameters(), *self.transfer.parameters()]
        judges = [*self.entropy_discriminator.parameters(), *self.knowledge_discriminator.parameters()]
        return {"networks": [{"params": networks}], "discriminators": [{"params": judges}]}

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        """Co-training of the paths, or the discriminators' turn."""
        return self._paths_step(batch, ctx) if ctx.turn == "networks" else self._discriminators_step(batch, ctx)

    def _paths(self, batch: Batch) -> dict[str, Tensor]:
        full, full_features = self.full(batch.image)
        missing, missing_features = self.missing(self.take_own(batch.image, batch.present))
        return {
            "full": self.head.probability(full.float()),
            "missing": self.head.probability(missing.float()),
            "full_features": full_features,
            "missing_features": missing_features,
        }

    def _paths_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        assert batch.label is not None
        config = self.config
        paths = self._paths(batch)
        ctx.shared["paths"] = {key: value.detach() for key, value in paths.items()}
        target = self.head.target(batch.label, self.spec)[:, :-1]
        full, missing = paths["full"][:, :-1], paths["missing"][:, :-1]
        goal = paths["full_features"].detach() if config.transfer_from == "full" else paths["missing_features"]
        judged = self.entropy_discriminator(entropy_map(paths["missing"]))
        terms = {
            "dice_full": dice_squared(full, target),
            "dice_missing": dice_squared(missing, target),
            "consistency": consistency(missing, full),
            "transfer": self.transfer(paths["missing_features"], goal),
            "entropy_adversarial": discriminator_bce(judged, FULL),
            "knowledge_adversarial": discriminator_bce(self.knowledge_discriminator(paths["missing_features"]), FULL),
        }
        weights = {
            "dice_full": 1 - config.missing_weight,
            "dice_missing": config.missing_weight,
            "consistency": ramp_up(ctx.progress, config.ramp),
            "transfer": config.transfer_weight,
            "entropy_adversarial": config.entropy_weight,
            "knowledge_adversarial": config.knowledge_weight,
        }
        return StepOutput.of(terms, weights)

    def _discriminators_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        if "paths" not in ctx.shared:
            with torch.no_grad():
                ctx.shared["paths"] = self._paths(batch)
        paths = ctx.shared["paths"]
        pairs = {
            "entropy_discriminator": (entropy_map(paths["full"]), entropy_map(paths["missing"])),
            "knowledge_discriminator": (paths["full_features"], paths["missing_features"]),
        }
        terms = {
            name: 0.5 * discriminator_bce(self.get_submodule(name)(full), FULL)
            + 0.5 * discriminator_bce(self.get_submodule(name)(missing), MISSING)
            for name, (full, missing) in pairs.items()
        }
        return StepOutput.of(terms)

    def optimizer_settings(self, stage: Stage, turn: str) -> OptimizerSettings:
        """Adam; the paths' learning rate falls polynomially."""
        config = self.config
        if turn == "discriminators":
            return OptimizerSettings("adam", lr=1e-4, betas=(0.9, 0.99))
        return OptimizerSettings("adam", lr=config.lr, weight_decay=config.weight_decay, schedule="poly", power=0.9)
