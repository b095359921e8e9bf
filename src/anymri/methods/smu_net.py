"""SMU-Net: distil style and content of a full-modality path into a missing-modality path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

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

__all__ = ["SMUNet", "SMUNetConfig", "style_distance"]

#: Labels of the two paths for the discriminator.
FULL, MISSING = 0.0, 1.0
#: Size that the discriminator's last kernel spans.
LAST_KERNEL = (2, 3, 2)


@dataclass(frozen=True, kw_only=True)
class SMUNetConfig(MethodConfig):
    """Settings of SMU-Net; defaults are the released code's.

    Parameters
    ----------
    widths, blocks : tuple of int
        Channels, all multiples of 8, and residual blocks of each level, finest first.
    discriminator_widths : tuple of int
        Channels inside the style discriminator.
    dropout : float
        At the coarsest level.
    missing_weight : float
        Share of the missing path's Dice loss; the full path has the rest.
    content_weight, style_weight, adversarial_weight : float
        Weights of the terms beside Dice and consistency.
    ramp : float
        Share of the training over which the consistency's weight rises to 10; published: 20 of 250 epochs.
        Above 1 it does not get there.
    lr, weight_decay : float
        Learning rate and decay of the optimiser.
    """

    renamed = {"judge_widths": "discriminator_widths"}

    widths: Widths = (16, 32, 64, 128)
    blocks: LayersByLevel = (1, 2, 2, 4)
    discriminator_widths: Widths = (64, 128, 256)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    missing_weight: Share = 0.6
    content_weight: Weight = 0.2
    style_weight: Weight = 1e-4
    adversarial_weight: Weight = 2e-4
    ramp: Weight = 20 / 250
    lr: Rate = 1e-4
    weight_decay: Weight = 1e-5


class _Paired(NamedTuple):
    """Outputs of one path: logits, style and content."""

    logits: Tensor
    style: Tensor
    content: Tensor


class _Path(nn.Module):
    """A U-Net whose coarsest features are split into style and content and joined again."""

    def __init__(self, in_channels: int, out_channels: int, config: SMUNetConfig) -> None:
        super().__init__()
        coarse, before = config.widths[-1], config.widths[-2]
        self.encoder = GroupNormEncoder(in_channels, config.widths, config.blocks)
        self.style = nn.Conv3d(before + 2 * coarse, coarse, 1)
        self.join = nn.Conv3d(2 * coarse, coarse, 1)
        self.dropout = nn.Dropout(config.dropout)
        self.decoder = GroupNormDecoder(config.widths, out_channels)

    def forward(self, image: Tensor) -> _Paired:
        features, arrivals = self.encoder(image)
        content = features[-1]
        style = self.style(torch.cat([F.max_pool3d(arrivals[0], 2), arrivals[1], content], dim=1))
        joined = self.dropout(self.join(torch.cat([style, content], dim=1)))
        return _Paired(self.decoder(joined, features[:-1]), style, content)


class _StyleDiscriminator(nn.Sequential):
    """One score for a style map; maps that do not end at `LAST_KERNEL` are pooled to it."""

    def __init__(self, channels: int, widths: tuple[int, ...]) -> None:
        layers: list[nn.Module] = []
        for before, after in zip((channels, *widths[:-1]), widths, strict=True):
            layers += [nn.Conv3d(before, after, 4, 2, padding=1), nn.LeakyReLU(0.2)]
        super().__init__(*layers, nn.AdaptiveAvgPool3d(LAST_KERNEL), nn.Conv3d(widths[-1], 1, LAST_KERNEL))


def style_distance(first: Tensor, second: Tensor) -> Tensor:
    """Squared difference of the two maps' Gram matrices, mean over rows.

    Parameters
    ----------
    first, second : Tensor, shape (B, C, D, H, W)

    Notes
    -----
    Released code: the Gram matrix is divided by its number of summands times channels, and the squared difference
    by ``4 C^2 (H W)^2``. It mixes rows with channels there, which its batches of one row do not tell apart.
    """
    channels, *size = first.shape[1:]

    def gram(x: Tensor) -> Tensor:
        flat = x.float().flatten(2)
        return flat @ flat.transpose(1, 2) / flat[0].numel()

    difference = ((gram(first) - gram(second)) ** 2).sum(dim=(1, 2))
    return (difference / (4.0 * channels**2 * (size[1] * size[2]) ** 2)).mean()


class SMUNet(PerSubset[SMUNetConfig]):
    """SMU-Net [1]_: style matching of a missing-modality path to a full-modality path.

    Parameters
    ----------
    config : SMUNetConfig
        `subset` names the modalities of the missing path.
    spec : DataSpec

    Notes
    -----
    One instance serves one subset; `PerSubsetModels` joins several. Both paths are the same U-Net; at the coarsest
    level style (from three depths) and content (the last features) are told apart. The paths agree in their
    probabilities, contents (voxel by voxel) and Gram matrices of styles, whose gradients reach both; a discriminator of
    styles teaches the missing path alone. Prediction uses the missing path alone.

    The four sigmoid channels are the labels and the background; no loss includes the background channel, so it
    keeps its initial weights and makes no region.

    Authors' checkpoints hold kernels for arrays (x, y, z); they are turned to (z, y, x) on import. Channels there:
    flair, t1, t1c, t2, and the authors list the available ones first.

    References
    ----------
    .. [1] Azad, Khosravi, Merhof, "SMU-Net: Style Matching U-Net for Brain Tumor Segmentation with Missing
       Modalities", MIDL 2022, arXiv:2204.02961.
    """

    name = "smu_net"
    info = MethodInfo(
        title="SMU-Net",
        family="knowledge distillation",
        task="segmentation",
        year=2022,
        reference="Azad et al., MIDL 2022",
        arxiv="2204.02961",
        code="https://github.com/rezazad68/smunet",
        parity="1e-4",
        novelty="Distils style (texture) and content (position) of the full path apart.",
        weakness="One pair of networks per subset, and complete cases only.",
        deviations=(
            "the discriminator's optimiser keeps its state; theirs is made anew every step",
            "the discriminator's last map is pooled to its kernel for other window sizes",
            "Gram matrices by row; the release mixes rows with channels, which batches of one do not tell apart",
            "scaled to [0, 1] by each modality's range inside its own brain",
            "crops lie in the brain's box; theirs anywhere in the volume",
            "learning rate and consistency weight change every step; theirs every epoch, with rate 0 in the last",
            "no dropout in prediction; the release never leaves training mode",
            "threshold 0.5; the released evaluation takes 0.4",
            "prediction by windows over the whole volume; theirs from one crop",
            "preset tiny: the consistency's weight rises to 1.1 by the end (published: to 10 in 20 of 250 epochs)",
            "preset tiny: 70 % of its small crops are centred on a label; the published ones, far larger, anywhere",
            "preset tiny: learning rate 0.002, 20 times the published one, for 1500 steps",
        ),
        learns_from_hidden={
            "dice_full|consistency|content|style|style_discriminator": "the full-modality path teaches the other",
        },
    )
    presets = {
        "paper": Preset((Stage("train", 250, 1, (128, 192, 160), "all", augment="mirror", foreground=0.0),)),
        "tiny": Preset(
            # The published crop holds nearly the whole brain, so the tumour too. A small one is centred on it: Dice
            # has no gradient for a class that a crop lacks, and such a class may end up everywhere.
            (Stage("train", 30, 1, (48,) * 3, "all", steps_per_epoch=50, augment="mirror", foreground=0.7),),
            {
                "widths": (8, 16, 24, 32),
                "blocks": (1, 1, 1, 1),
                "discriminator_widths": (16,),
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

    def __init__(self, config: SMUNetConfig, spec: DataSpec = GLIOMA) -> None:
        super().__init__(config, spec)
        self.head = Head("sigmoid", (*spec.labels, "background"))
        self.divisor = 2 ** (len(config.widths) - 1)
        channels = len(self.head.channels)
        self.full = _Path(len(spec.modalities), channels, config)
        self.missing = _Path(len(self.subset_modalities), channels, config)
        self.discriminator = _StyleDiscriminator(config.widths[-1], config.discriminator_widths)

    # ------------------------------------------------------------------------------------------------ prediction

    def predict_subset(self, sources: Tensor, available: Tensor) -> Prediction:
        """Segment by the missing path."""
        return Prediction(logits=self.missing(sources).logits)

    # ---------------------------------------------------------------------------------------------------- training

    def turns(self, stage: Stage) -> dict[str, list[dict[str, Any]]]:
        """The two paths, then the discriminator."""
        return {
            "networks": [{"params": [*self.full.parameters(), *self.missing.parameters()]}],
            "discriminator": [{"params": list(self.discriminator.parameters())}],
        }

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        """Co-training of the paths, or the discriminator's turn."""
        if ctx.turn == "networks":
            return self._paths_step(batch, ctx)
        if "full_style" not in ctx.shared:
            with torch.no_grad():
                full, missing = self._paths(batch)
            ctx.shared.update(full_style=full.style, missing_style=missing.style)
        loss = discriminator_bce(self.discriminator(ctx.shared["full_style"]), FULL) + discriminator_bce(
            self.discriminator(ctx.shared["missing_style"]), MISSING
        )
        return StepOutput(loss, {"style_discriminator": loss.detach()})

    def _paths(self, batch: Batch) -> tuple[_Paired, _Paired]:
        return self.full(batch.image), self.missing(self.take_own(batch.image, batch.present))

    def _paths_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        assert batch.label is not None
        config = self.config
        full, missing = self._paths(batch)
        ctx.shared.update(full_style=full.style.detach(), missing_style=missing.style.detach())
        target = self.head.target(batch.label, self.spec)[:, :-1]
        p_full, p_missing = (self.head.probability(path.logits.float())[:, :-1] for path in (full, missing))
        terms = {
            "dice_full": dice_squared(p_full, target),
            "dice_missing": dice_squared(p_missing, target),
            "consistency": consistency(p_full, p_missing),
            "content": F.mse_loss(full.content.float(), missing.content.float()),
            "style": style_distance(full.style, missing.style),
            "style_adversarial": discriminator_bce(self.discriminator(missing.style), FULL),
        }
        weights = {
            "dice_full": 1 - config.missing_weight,
            "dice_missing": config.missing_weight,
            "consistency": ramp_up(ctx.progress, config.ramp),
            "content": config.content_weight,
            "style": config.style_weight,
            "style_adversarial": config.adversarial_weight,
        }
        return StepOutput.of(terms, weights)

    def optimizer_settings(self, stage: Stage, turn: str) -> OptimizerSettings:
        """Adam; the paths' learning rate falls polynomially."""
        config = self.config
        if turn == "discriminator":
            return OptimizerSettings("adam", lr=1e-4, betas=(0.9, 0.99))
        return OptimizerSettings("adam", lr=config.lr, weight_decay=config.weight_decay, schedule="poly", power=0.9)
