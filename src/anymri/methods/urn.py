"""URN: map any number of modalities to one unified representation, and segment that."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from anymri.bounds import Rate, Weight, Width, Widths
from anymri.losses.reconstruction import masked_l1
from anymri.losses.segmentation import cross_entropy, dice_plain
from anymri.nn.fusion import masked_mean, masked_moments, spread
from anymri.nn.res_encoder import ConvNormAct, ResidualUNet
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

__all__ = ["URN", "URNConfig"]


@dataclass(frozen=True, kw_only=True)
class URNConfig(MethodConfig):
    """Settings of URN; the paper's numbers are not known to us, so all of these are ours.

    Parameters
    ----------
    channels : int
        Channels of the unified representation.
    representation_widths, widths : tuple of int
        Channels of each level, finest first, of the U-Net of every modality and of the segmentation's U-Net.
    training : {"joint", "staged"}
        ``joint``: representation and segmentation learn together. ``staged``: first the representation from the
        reconstructions alone, then the segmentation on it, frozen.
    reconstruction_weight, segmentation_weight, alignment_weight : float
        Weights of the images' absolute error, of cross-entropy plus Dice, and of the variance between the maps of the
        modalities that are shown; an alignment of weight 0 is not computed.
    lr : float
        First learning rate.
    """

    channels: Width = 16
    representation_widths: Widths = (16, 32, 64)
    widths: Widths = (16, 32, 64, 128)
    training: Literal["joint", "staged"] = "joint"
    reconstruction_weight: Weight = 1.0
    segmentation_weight: Weight = 1.0
    alignment_weight: Weight = 0.0
    lr: Rate = 1e-3


class _ImageDecoder(nn.Module):
    """Image (B, 1, D, H, W) of one modality from the unified representation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.last = ConvNormAct(channels, channels), nn.Conv3d(channels, 1, 1)

    def forward(self, unified: Tensor) -> Tensor:
        return self.last(self.first(unified))


class URN(Method[URNConfig]):
    """URN [1]_: segmentation from a unified representation of whichever modalities are there.

    Parameters
    ----------
    config : URNConfig
    spec : DataSpec

    Notes
    -----
    A U-Net of every modality maps its image to a map of one common shape; the unified representation is the mean of
    the maps of the modalities that are shown, whatever their number. From it a small decoder of each modality
    rebuilds that modality's image, shown or not, and a standard U-Net segments.

    The paper's first proposal, modality dropout of a standard network, is `UNet` with ``missing="modality_dropout"``.

    There is no code by the authors: an interpretation from abstract and review. Each of its equations is tested by
    hand.

    References
    ----------
    .. [1] Lau, Adler, Sjolund, "A unified representation network for segmentation with missing modalities",
       arXiv:1908.06683, 2019.
    """

    name = "urn"
    info = MethodInfo(
        title="URN",
        family="common latent space",
        task="segmentation and synthesis",
        year=2019,
        reference="Lau et al., arXiv 2019",
        arxiv="1908.06683",
        parity="interpretation (no code)",
        novelty="One map for any number of modalities, which any network for a later task can take as its image.",
        weakness="A mean weighs an uninformative modality like an informative one.",
        deviations=(
            "interpretation: the authors published no code, and sizes, weights, optimiser, epochs and crops are ours",
            "the mean as fusion, and one decoder of two convolutions for every modality's image, are not certain",
            "L1 as distance of images, cross-entropy plus Dice for the segmentation, joint training: not known; ours",
            "a term that pulls the maps of one case together is optional (alignment_weight), as nothing confirms it",
            "shown channels are not scaled up by the number of hidden ones, as dropout would",
            "sequences that a subject lacks enter no term, so incomplete cohorts may train",
        ),
        untrained={r".*\.conv\.bias": "an instance norm without scale and shift follows and removes it"},
        learns_from_hidden={"reconstruction": "every sequence that is present is rebuilt, shown or not"},
    )
    presets = {
        "paper": Preset((Stage("train", 300, 1, (80,) * 3, "bernoulli_repair", steps_per_epoch=150),)),
        "tiny": Preset(
            (Stage("train", 30, 1, (48,) * 3, "bernoulli_repair", steps_per_epoch=50),),
            {"channels": 8, "representation_widths": (8, 12, 16), "widths": (8, 12, 16, 24), "lr": 3e-3},
        ),
    }
    outputs = ("logits", "image")
    head: Head

    def __init__(self, config: URNConfig, spec: DataSpec = GLIOMA) -> None:
        super().__init__(config, spec)
        self.head = Head("softmax", ("background", *spec.labels))
        self.divisor = 2 ** (max(len(config.representation_widths), len(config.widths)) - 1)
        if config.training == "staged":
            names = ("representation", "segmentation")
            self.stages = tuple(replace(stage, name=name) for stage in self.stages for name in names)
        self.representations = nn.ModuleDict(
            {code: ResidualUNet(1, config.representation_widths, config.channels) for code in spec.modalities}
        )
        self.images = nn.ModuleDict({code: _ImageDecoder(config.channels) for code in spec.modalities})
        self.segmentation = ResidualUNet(config.channels, config.widths, len(self.head.channels))

    # ------------------------------------------------------------------------------------------------ prediction

    def encode(self, image: Tensor, available: Tensor, where: Where | None = None) -> Features:
        """Map of every modality that some row has, by code; see `Method.encode`."""
        image = zero_absent(image, available)
        return {
            code: network(image[:, i : i + 1])
            for i, (code, network) in enumerate(self.representations.items())
            if available[:, i].any()
        }

    def decode(self, features: Features, available: Tensor, request: Request = EVERYTHING) -> Prediction:
        """Segment and complete from the unified representation; deterministic. See `Method.decode`."""
        unified = masked_mean(*self._shown(features, available))
        logits = image = synthesised = None
        if request.wants("logits"):
            logits = self.segmentation(unified)
        if request.wants("image"):
            image, synthesised = self._rebuild(unified), torch.ones_like(available)
        return Prediction(logits=logits, image=image, synthesised=synthesised)

    def _shown(self, features: Features, available: Tensor) -> tuple[list[Tensor], Tensor]:
        """Maps of the modalities that some row shows, and which row shows which of them."""
        needed = [i for i in range(len(self.spec.modalities)) if available[:, i].any()]
        return [features[self.spec.modalities[i]] for i in needed], available[:, needed]

    def _rebuild(self, unified: Tensor) -> Tensor:
        """Images of all modalities, (B, M, D, H, W)."""
        return torch.cat([decoder(unified) for decoder in self.images.values()], dim=1)

    # ---------------------------------------------------------------------------------------------------- training

    def turns(self, stage: Stage) -> dict[str, list[dict[str, Any]]]:
        """All parts together, or those of the stage of a staged training."""
        learning = {
            "representation": [self.representations, self.images],
            "segmentation": [self.segmentation],
        }.get(stage.name, [self])
        return {"main": [{"params": [p for part in cast("list[nn.Module]", learning) for p in part.parameters()]}]}

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        """Absolute error of the images of what is present, and cross-entropy plus Dice."""
        assert batch.label is not None
        config = self.config
        maps, shown = self._shown(self.encode(batch.image, batch.available), batch.available)
        unified = masked_mean(maps, shown)
        terms, weights = {}, {}
        if ctx.stage.name != "segmentation":
            target = zero_absent(batch.image, batch.present)
            counted = spread(batch.present, target.ndim).expand_as(target)
            terms["reconstruction"] = masked_l1(self._rebuild(unified).float(), target, counted)
            weights["reconstruction"] = config.reconstruction_weight
            if config.alignment_weight and shown.sum() > len(shown):
                terms["alignment"] = masked_moments([x.float() for x in maps], shown)[1].mean()
                weights["alignment"] = config.alignment_weight
        if ctx.stage.name != "representation":
            logits = self.segmentation(unified)
            one_hot = self.head.target(batch.label, self.spec)
            terms["cross_entropy"] = cross_entropy(logits, one_hot)
            terms["dice"] = dice_plain(self.head.probability(logits.float()), one_hot)
            weights |= dict.fromkeys(("cross_entropy", "dice"), config.segmentation_weight)
        return StepOutput.of(terms, weights)

    def optimizer_settings(self, stage: Stage, turn: str) -> OptimizerSettings:
        """Adam with a polynomial schedule."""
        return OptimizerSettings("adam", lr=self.config.lr, schedule="poly", power=0.9)
