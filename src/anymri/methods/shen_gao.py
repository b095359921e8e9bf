"""Shen & Gao: independent encoders, fused level by level, whose features are adapted to the complete case's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from anymri.bounds import Rate, Weight, Widths
from anymri.losses.co_training import discriminator_bce
from anymri.losses.segmentation import cross_entropy, dice_plain
from anymri.nn.hetero_modal import encode_each
from anymri.nn.res_encoder import PyramidDecoder, ResidualEncoder, StackedConvNormAct, keep_available
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

__all__ = ["ShenGao", "ShenGaoConfig"]

#: What the discriminator is to say of fused features of the complete case, and of those that lack sequences.
COMPLETE, DROPPED = 1.0, 0.0


@dataclass(frozen=True, kw_only=True)
class ShenGaoConfig(MethodConfig):
    """Settings of Shen & Gao's network; the paper's numbers are not known to us, so all of these are ours.

    Parameters
    ----------
    widths : tuple of int
        Channels of each level, finest first.
    discriminator_widths : tuple of int
        Channels inside the discriminator.
    adversarial_weight : float
        Weight of the term that makes features with dropped sequences look complete.
    lr, discriminator_lr : float
        Learning rates of the two turns.
    """

    widths: Widths = (16, 32, 64, 128)
    discriminator_widths: Widths = (256, 512)
    adversarial_weight: Weight = 0.01
    lr: Rate = 1e-4
    discriminator_lr: Rate = 1e-4


class _Discriminator(nn.Sequential):
    """Scores (B, 1, D, H, W) of fused features (B, channels, D, H, W), before the sigmoid."""

    def __init__(self, channels: int, widths: tuple[int, ...]) -> None:
        layers: list[nn.Module] = []
        for before, after in zip((channels, *widths[:-1]), widths, strict=True):
            layers += [nn.Conv3d(before, after, 3, padding=1), nn.LeakyReLU(0.2)]
        super().__init__(*layers, nn.Conv3d(widths[-1], 1, 3, padding=1))


class ShenGao(Method[ShenGaoConfig]):
    """Shen & Gao [1]_: channel-independent encoding, feature-fusion decoding, adversarial feature adaptation.

    Parameters
    ----------
    config : ShenGaoConfig
    spec : DataSpec

    Notes
    -----
    Every sequence has an encoder of its own; at each level the maps of all are joined by one convolution, and one
    decoder merges the joined maps of all levels. A missing sequence is a channel of zeros: encoders that normalise
    without a shift make zero maps of it, which is why what an absent channel holds cannot matter here.

    A training step segments each case twice, complete and with sequences dropped. A discriminator of the coarsest
    joined maps tells the two apart; its gradient reaches the dropped case alone, so that its features come to look
    complete: the released idea of domain adaptation on feature maps. Complete maps are not pulled towards it.

    There is no code by the authors: an interpretation from abstract and review. Each of its equations is tested by
    hand.

    References
    ----------
    .. [1] Shen and Gao, "Brain Tumor Segmentation on MRI with Missing Modalities", IPMI 2019, arXiv:1904.07290.
    """

    name = "shen_gao"
    info = MethodInfo(
        title="Shen & Gao",
        family="common latent space",
        task="segmentation",
        year=2019,
        reference="Shen and Gao, IPMI 2019",
        arxiv="1904.07290",
        parity="interpretation (no code)",
        novelty="Features with sequences dropped are trained to be taken for complete ones.",
        weakness="Fixed slots of zeros, and an adversary that sees one level.",
        deviations=(
            "interpretation: the authors published no code, and widths, weights, optimiser, epochs and crops are ours",
            "joined by stacking and one convolution at each level; adding up is as compatible with what is known",
            "the discriminator sees the coarsest joined maps; which ones the paper gives it is not known",
            "cross-entropy plus Dice, both cases with weight 1; the paper's segmentation loss is not known",
            "volumes; whether the paper works on slices is not known",
            "subsets are drawn all alike; how the paper drops channels is not known",
        ),
        untrained={
            r".*\.conv\.bias|joins\.\d+\.bias": "an instance norm without scale and shift follows and removes it"
        },
        learns_from_hidden={
            "full_cross_entropy|full_dice": "the complete case is segmented too",
            "discriminator_full": "the discriminator sees the complete case's features",
        },
    )
    presets = {
        "paper": Preset((Stage("train", 100, 1, (128,) * 3, "uniform_subset", augment="mirror"),)),
        "tiny": Preset(
            (Stage("train", 30, 1, (48,) * 3, "uniform_subset", steps_per_epoch=50, augment="mirror"),),
            {"widths": (8, 12, 16, 24), "discriminator_widths": (16, 16), "lr": 3e-3, "discriminator_lr": 1e-3},
        ),
    }
    needs = "complete"
    outputs = ("logits",)
    head: Head

    def __init__(self, config: ShenGaoConfig, spec: DataSpec = GLIOMA) -> None:
        super().__init__(config, spec)
        codes = spec.modalities
        self.head = Head("softmax", ("background", *spec.labels))
        self.divisor = 2 ** (len(config.widths) - 1)
        self.encoders = nn.ModuleDict({code: ResidualEncoder(config.widths) for code in codes})
        self.joins = nn.ModuleList(StackedConvNormAct(codes, width, width) for width in config.widths)
        self.decoder = PyramidDecoder(config.widths, len(self.head.channels))
        self.discriminator = _Discriminator(config.widths[-1], config.discriminator_widths)

    # ------------------------------------------------------------------------------------------------ prediction

    def encode(self, image: Tensor, available: Tensor, where: Where | None = None) -> Features:
        """Features of every modality that some row has, by code; see `Method.encode`."""
        return encode_each(self.encoders, zero_absent(image, available), available)

    def decode(self, features: Features, available: Tensor, request: Request = EVERYTHING) -> Prediction:
        """Segment from the joined features; deterministic. See `Method.decode`."""
        return Prediction(logits=self.decoder(self._join(features, available)))

    def _join(self, features: Features, available: Tensor) -> list[Tensor]:
        """Joined maps of every level, finest first; absent sequences add nothing."""
        levels = keep_available(features, available, self.spec.modalities)
        return [join(kept) for join, kept in zip(self.joins, levels, strict=True)]

    # ---------------------------------------------------------------------------------------------------- training

    def turns(self, stage: Stage) -> dict[str, list[dict[str, Any]]]:
        """The segmentation network, then the discriminator."""
        parts = (self.encoders, self.joins, self.decoder)
        return {
            "network": [{"params": [p for part in parts for p in part.parameters()]}],
            "discriminator": [{"params": list(self.discriminator.parameters())}],
        }

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        """Segment the complete and the dropped case, or tell their features apart."""
        if ctx.turn == "network":
            return self._network_step(batch, ctx)
        if "full" not in ctx.shared:
            with torch.no_grad():
                full, dropped = self._both(batch)
            ctx.shared.update(full=full[-1], dropped=dropped[-1])
        terms = {
            "discriminator_full": discriminator_bce(self.discriminator(ctx.shared["full"]), COMPLETE),
            "discriminator_dropped": discriminator_bce(self.discriminator(ctx.shared["dropped"]), DROPPED),
        }
        return StepOutput.of(terms)

    def _both(self, batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
        """Joined maps with everything that is present, and with what is shown; the encoders run once."""
        features = self.encode(batch.image, batch.present)
        return self._join(features, batch.present), self._join(features, batch.available)

    def _network_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        assert batch.label is not None
        full, dropped = self._both(batch)
        ctx.shared.update(full=full[-1].detach(), dropped=dropped[-1].detach())
        target = self.head.target(batch.label, self.spec)
        terms = {}
        for name, joined in (("full", full), ("dropped", dropped)):
            logits = self.decoder(joined)
            terms[f"{name}_cross_entropy"] = cross_entropy(logits, target)
            terms[f"{name}_dice"] = dice_plain(self.head.probability(logits.float()), target)
        terms["adversarial"] = discriminator_bce(self.discriminator(dropped[-1]), COMPLETE)
        return StepOutput.of(terms, {"adversarial": self.config.adversarial_weight})

    def optimizer_settings(self, stage: Stage, turn: str) -> OptimizerSettings:
        """Adam at a constant rate."""
        config = self.config
        return OptimizerSettings("adam", lr=config.lr if turn == "network" else config.discriminator_lr)
