"""3D cGAN: one sequence from one other with a volumetric U-Net and a discriminator that sees both."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from anymri.bounds import Rate, Weight, Width
from anymri.nn.blocks import InstanceNorm
from anymri.protocol.method import MethodConfig, MethodInfo, Preset, StepContext
from anymri.protocol.per_subset import PerSubset, predict_target, with_target
from anymri.types import GLIOMA, Batch, DataSpec, Intensity, OptimizerSettings, Prediction, Stage, StepOutput

__all__ = ["CGAN3D", "CGAN3DConfig"]

#: Channels of two or more levels.
Levels = Annotated[tuple[Width, ...], Field(min_length=2, max_length=8)]


@dataclass(frozen=True, kw_only=True)
class CGAN3DConfig(MethodConfig):
    """Settings of the 3D cGAN; those that the paper is not known to give are pix2pix's or ours.

    Parameters
    ----------
    target : str or None, default=None
        Modality to synthesise from the one of `subset`; None = the last one outside it.
    widths : tuple of int
        Channels of the generator's levels; every level halves the volume. Source: ours.
    discriminator_widths : tuple of int
        Channels of the discriminator's levels. Source: ours.
    l1_weight : float
        Of the mean absolute error beside the adversarial term. Source: pix2pix.
    lr : float
        Learning rate of both turns. Source: pix2pix.
    """

    target: str | None = None
    widths: Levels = (32, 64, 128, 256, 256)
    discriminator_widths: Levels = (32, 64, 128)
    l1_weight: Weight = 100.0
    lr: Rate = 2e-4


class _Level(nn.Sequential):
    """Convolution that halves or doubles the volume, instance norm but at the generator's ends, rectifier."""

    def __init__(self, conv: nn.Module, channels: int, slope: float, norm: bool = True) -> None:
        parts: list[nn.Module] = [conv, *([InstanceNorm(channels)] if norm else []), nn.LeakyReLU(slope)]
        super().__init__(*parts)


class _Generator(nn.Module):
    """U-Net with skips at every level, volumes (B, 1, D, H, W) within [-1, 1] to the same."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        sizes, last = (1, *widths), len(widths) - 1
        self.down = nn.ModuleList(
            # At the coarsest level a norm could be left with one voxel, which it would replace by a constant.
            _Level(nn.Conv3d(before, after, 4, 2, 1, bias=not 0 < level < last), after, 0.2, 0 < level < last)
            for level, (before, after) in enumerate(pairwise(sizes))
        )
        self.up = nn.ModuleList(
            _Level(
                nn.ConvTranspose3d(
                    widths[level + 1] * (1 if level == last - 1 else 2), widths[level], 4, 2, 1, bias=False
                ),
                widths[level],
                0.0,
            )
            for level in reversed(range(last))
        )
        self.last = nn.ConvTranspose3d(2 * widths[0], 1, 4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for down in self.down:
            x = down(x)
            skips.append(x)
        for up, skipped in zip(self.up, reversed(skips[:-1]), strict=True):
            x = torch.cat([up(x), skipped], dim=1)
        return self.last(x).tanh()


class _Discriminator(nn.Module):
    """PatchGAN that scores source and target together, (B, 2, D, H, W) to a map (B, 1, ...)."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.levels = nn.Sequential(
            *(
                _Level(nn.Conv3d(before, after, 4, 2, 1, bias=level == 0), after, 0.2, level > 0)
                for level, (before, after) in enumerate(pairwise((2, *widths)))
            )
        )
        self.last = nn.Conv3d(widths[-1], 1, 3, padding=1)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        return self.last(self.levels(torch.cat([source, target.to(source)], dim=1)))


def _cross_entropy(score: Tensor, real: bool) -> Tensor:
    """Binary cross-entropy of scores with one label for all."""
    return F.binary_cross_entropy_with_logits(score.float(), torch.full_like(score, real, dtype=torch.float32))


class CGAN3D(PerSubset[CGAN3DConfig]):
    """3D cGAN [1]_: conditional GAN in three dimensions that makes one sequence, FLAIR, of one other, T1.

    Parameters
    ----------
    config : CGAN3DConfig
        `subset` names the one source, `target` what is made of it.
    spec : DataSpec

    Notes
    -----
    One instance serves one source and makes one sequence; `PerSubsetModels` joins several. A U-Net of volumes makes the
    target, and a discriminator scores the pair of source and target, real or made. With generator G, discriminator D,
    source x and target y the discriminator minimises -log D(x, y) - log(1 - D(x, G(x))) and the generator
    -log D(x, G(x)) + 100 |y - G(x)|, each a mean.

    The paper gives real T1 and made FLAIR to a segmenter and reports its Dice: here the entry `then` of a benchmark
    plan, or ``anymri predict --complete``.

    There is no code by the authors: an interpretation from reports of the paper.

    References
    ----------
    .. [1] Yu, Zhou, Wang, Fripp, Bourgeat, "3D cGAN Based Cross-Modality MR Image Synthesis for Brain Tumor
       Segmentation", IEEE International Symposium on Biomedical Imaging, 2018.
    """

    name = "cgan3d"
    info = MethodInfo(
        title="3D cGAN",
        family="synthesis",
        task="synthesis",
        year=2018,
        reference="Yu et al., ISBI 2018",
        doi="10.1109/ISBI.2018.8363653",
        parity="interpretation (no code)",
        novelty="Synthesis of FLAIR from T1 in volumes instead of slices, judged beside its source.",
        weakness="One source and one target a network; the paper's emphasis on the tumour is not known in detail.",
        deviations=(
            "interpretation: no code exists; widths, depth, weight of the absolute error, crops and schedule are ours",
            "the paper's local adaptive step, which emphasises places near the tumour, is left out: details unknown",
            "no noise and no dropout in the generator; whether the paper has pix2pix's is unknown",
            "each sequence's own brain from [least, largest] to [-1, 1]; the paper's scale is unknown",
        ),
        learns_from_hidden={"l1": "the sequence to be made is the target", "real": "the discriminator knows it"},
    )
    presets = {
        "paper": Preset(
            (Stage("train", 200, 1, (96, 96, 96), "all", steps_per_epoch=250, augment="none", foreground=0.0),)
        ),
        "tiny": Preset(
            (Stage("train", 20, 1, (48, 48, 48), "all", steps_per_epoch=50, augment="none", foreground=0.0),),
            {"widths": (8, 16, 32), "discriminator_widths": (8, 16), "lr": 1e-3},
        ),
    }
    outputs = ("image",)
    source_count = 1
    intensity = Intensity("symmetric")

    def __init__(self, config: CGAN3DConfig, spec: DataSpec = GLIOMA) -> None:
        config = with_target(self.name, config, spec, self.source_count)
        super().__init__(config, spec)
        self.target = cast(str, config.target)
        self.needs = (*self.subset_modalities, self.target)
        self.divisor = 2 ** len(config.widths)
        self.generator = _Generator(config.widths)
        self.discriminator = _Discriminator(config.discriminator_widths)

    def predict_subset(self, sources: Tensor, available: Tensor) -> Prediction:
        """The target."""
        return predict_target(self.generator(sources), self.target, self.spec)

    # ---------------------------------------------------------------------------------------------------- training

    def turns(self, stage: Stage) -> dict[str, list[dict[str, Any]]]:
        """The discriminator, then the generator."""
        return {
            "discriminator": [{"params": list(self.discriminator.parameters())}],
            "generator": [{"params": list(self.generator.parameters())}],
        }

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        """Make the target, or tell made from real ones beside their source."""
        source = self.take_own(batch.image, batch.present)
        real = batch.image[:, self.spec.index(self.target), None]
        with torch.set_grad_enabled(ctx.turn == "generator"):
            made = self.generator(source)
        if ctx.turn == "discriminator":
            terms = {
                "real": _cross_entropy(self.discriminator(source, real), True),
                "fake": _cross_entropy(self.discriminator(source, made.detach()), False),
            }
            return StepOutput.of(terms)
        terms = {
            "gan": _cross_entropy(self.discriminator(source, made), True),
            "l1": F.l1_loss(made.float(), real),
        }
        return StepOutput.of(terms, {"l1": self.config.l1_weight})

    def optimizer_settings(self, stage: Stage, turn: str) -> OptimizerSettings:
        """Adam at a constant rate, with the first moment short as for GANs."""
        return OptimizerSettings("adam", lr=self.config.lr, betas=(0.5, 0.999))
