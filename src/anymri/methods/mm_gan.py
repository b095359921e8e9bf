"""MM-GAN: a conditional GAN that synthesises every missing sequence with one U-Net."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from anymri.bounds import Rate, Share, Widths
from anymri.losses.adversarial import least_squares
from anymri.losses.reconstruction import masked_l1
from anymri.nn.slices import from_slices, to_slices
from anymri.protocol.method import Method, MethodConfig, MethodInfo, Preset, StepContext, zero_absent
from anymri.protocol.request import EVERYTHING, Request
from anymri.types import (
    GLIOMA,
    Batch,
    DataSpec,
    Features,
    Intensity,
    OptimizerSettings,
    Prediction,
    Stage,
    StepOutput,
    UserError,
    Where,
)

__all__ = ["MMGAN", "MMGANConfig"]

#: Levels of the generator from which on dropout follows, counted from 0.
DROPOUT_FROM = 3
#: Channel order of the authors' code.
AUTHORS_ORDER = ("t1", "t2", "t1c", "flair")


@dataclass(frozen=True, kw_only=True)
class MMGANConfig(MethodConfig):
    """Settings of MM-GAN; defaults are the released code's.

    Parameters
    ----------
    widths : tuple of int
        Channels of the generator's levels; every level halves the image.
    discriminator_widths : tuple of int
        Channels of the discriminator's levels.
    dropout : float
        Share of features dropped in the generator's coarser levels.
    l1_weight : float
        Of the mean absolute error; the adversarial term has the rest to 1.
    lr : float
        Learning rate of both turns.
    """

    renamed = {"judge_widths": "discriminator_widths"}

    widths: Widths = (64, 128, 256, 512, 512, 512, 512, 512)
    discriminator_widths: Widths = (64, 128, 256, 512)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    l1_weight: Share = 0.9
    lr: Rate = 2e-4


class _Down(nn.Module):
    """Halve the image: convolution, instance norm but at both ends of the encoder, leaky ReLU, dropout."""

    def __init__(self, in_channels: int, out_channels: int, norm: bool, dropout: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 4, 2, 1, bias=False)
        self.norm, self.dropout = norm, nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.dropout(F.leaky_relu(F.instance_norm(x) if self.norm else x, 0.2, inplace=True))


class _Up(nn.Module):
    """Double the image, then append the encoder's features of that size."""

    def __init__(self, in_channels: int, out_channels: int, dropout: float) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(in_channels, out_channels, 4, 2, 1, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, skipped: Tensor) -> Tensor:
        x = self.dropout(F.instance_norm(self.conv(x)).relu_())
        return torch.cat([x, skipped], dim=1)


class _Generator(nn.Module):
    """pix2pix U-Net with a last ReLU, (N, M, H, W) to (N, M, H, W)."""

    def __init__(self, channels: int, widths: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        levels = range(len(widths))
        drops = [dropout if level >= DROPOUT_FROM else 0.0 for level in levels]
        self.down = nn.ModuleList(
            _Down((channels, *widths)[level], widths[level], 0 < level < len(widths) - 1, drops[level])
            for level in levels
        )
        self.up = nn.ModuleList(
            # From the coarsest level the features come alone, from the others with those of the encoder.
            _Up(widths[level + 1] * (1 if level == len(widths) - 2 else 2), widths[level], drops[level])
            for level in reversed(levels[:-1])
        )
        self.last = nn.Conv2d(2 * widths[0], channels, 4, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for down in self.down:
            x = down(x)
            skips.append(x)
        for up, skipped in zip(self.up, reversed(skips[:-1]), strict=True):
            x = up(x, skipped)
        x = F.pad(F.interpolate(x, scale_factor=2, mode="nearest"), (1, 0, 1, 0))
        return self.last(x).relu()


class _Discriminator(nn.Module):
    """PatchGAN that gives one map of scores per sequence, (N, M, H/16, W/16), from candidate and real slices."""

    def __init__(self, channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        before = (2 * channels, *widths[:-1])
        self.levels = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1) for a, b in zip(before, widths, strict=True))
        self.last = nn.Conv2d(widths[-1], channels, 4, padding=1, bias=False)

    def forward(self, candidate: Tensor, real: Tensor) -> Tensor:
        x = torch.cat([candidate, real], dim=1)
        for number, level in enumerate(self.levels):
            if number:  # the norm would remove the bias, which is kept for the authors' weights only
                x = F.instance_norm(F.conv2d(x, cast(Tensor, level.weight), stride=2, padding=1))
            else:
                x = level(x)
            x = F.leaky_relu(x, 0.2)
        return self.last(F.pad(x, (1, 0, 1, 0)))


class MMGAN(Method[MMGANConfig]):
    """MM-GAN [1]_: conditional GAN that synthesises all missing sequences, slice by slice.

    Parameters
    ----------
    config : MMGANConfig
    spec : DataSpec
        At least two modalities.

    Notes
    -----
    *Implicit conditioning*: missing channels of the input are 0; in the output the real channels take the place of
    their syntheses before discriminator and loss, so that gradients come through missing channels alone; the absolute
    error is a mean over these; and the discriminator, which scores each sequence by itself, is told that the real
    channels of a completed stack are real. The generator minimises 0.1 of the least-squares adversarial error of all
    channels plus 0.9 of the absolute error.

    Training shows subsets from easy to hard (sampler ``few_missing_first``); a batch is four neighbouring slices.

    The released metrics divide each image by its own maximum, which flatters; the evaluator's do not.

    References
    ----------
    .. [1] Sharma and Hamarneh, "Missing MRI Pulse Sequence Synthesis Using Multi-Modal Generative Adversarial Network",
       IEEE Transactions on Medical Imaging 39(4), 2020, arXiv:1904.12200.
    """

    name = "mm_gan"
    info = MethodInfo(
        title="MM-GAN",
        family="synthesis",
        task="synthesis",
        year=2020,
        reference="Sharma and Hamarneh, IEEE TMI 2020",
        doi="10.1109/TMI.2019.2945521",
        arxiv="1904.12200",
        code="https://github.com/trane293/mm-gan",
        parity="1e-4",
        novelty="One generator for every missing subset: real channels take the place of their syntheses.",
        weakness="Slices without depth, and complete cases only.",
        deviations=(
            "the curriculum admits all subsets of a size at once; the released code only a part",
            "slices are padded to 256 x 256; theirs are resized from the box around the brain in all sequences",
            "divided by the mean of each sequence's own brain, not of the box around all four with its background",
            "batches mix patients; the released loader gives all slices of one patient after the other",
        ),
        untrained={r"discriminator\.levels\.[1-9]\.bias": "an instance norm follows and removes it; not added"},
        learns_from_hidden={
            "l1": "what is hidden is the target",
            "gan|real|fake": "the discriminator judges beside the real sequences",
        },
    )
    presets = {
        "paper": Preset(
            (
                Stage(
                    # 200 patients with 37 batches of four slices each.
                    "train",
                    epochs=60,
                    batch_size=1,
                    patch=(4, 256, 256),
                    sampler="few_missing_first",
                    steps_per_epoch=7400,
                    augment="none",
                    foreground=0.0,
                ),
            )
        ),
        "tiny": Preset(
            (
                Stage(
                    "train", 30, 1, (8, 96, 96), "few_missing_first", steps_per_epoch=50, augment="none", foreground=0.0
                ),
            ),
            {"widths": (16, 32, 64, 64), "discriminator_widths": (16, 32, 32, 32), "lr": 1e-3},
        ),
    }
    outputs = ("image",)
    needs = "complete"
    spatial_dims = 2
    intensity = Intensity("mean")

    def __init__(self, config: MMGANConfig, spec: DataSpec = GLIOMA) -> None:
        super().__init__(config, spec)
        channels = len(spec.modalities)
        if channels < 2:
            raise UserError(f"mm_gan: with {spec.modalities[0]} alone there is nothing to synthesise; add a sequence")
        self.divisor = 2 ** len(config.widths)
        self.generator = _Generator(channels, config.widths, config.dropout)
        self.discriminator = _Discriminator(channels, config.discriminator_widths)
        for part in self.modules():
            if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(part.weight, 0.0, 0.02)

    # ------------------------------------------------------------------------------------------------ prediction

    def encode(self, image: Tensor, available: Tensor, where: Where | None = None) -> Features:
        """The image: the network joins the sequences from the first layer on. See `Method.encode`."""
        return {"image": zero_absent(image, available)}

    def decode(self, features: Features, available: Tensor, request: Request = EVERYTHING) -> Prediction:
        """The missing sequences; deterministic. See `Method.decode`."""
        missing = ~available
        image = self._synthesise(features["image"], available)
        return Prediction(image=torch.where(missing[..., None, None, None], image, torch.nan), synthesised=missing)

    def _synthesise(self, image: Tensor, available: Tensor) -> Tensor:
        """All sequences, (B, M, D, H, W); those available mean nothing."""
        return from_slices(self.generator(to_slices(zero_absent(image, available))), image.shape[2])

    # ---------------------------------------------------------------------------------------------------- training

    def turns(self, stage: Stage) -> dict[str, list[dict[str, Any]]]:
        """The generator, then the discriminator."""
        return {
            "generator": [{"params": list(self.generator.parameters())}],
            "discriminator": [{"params": list(self.discriminator.parameters())}],
        }

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        """Fill in what is missing, or tell real channels from syntheses."""
        real, available = to_slices(batch.image), batch.available
        shown = available[..., None, None, None]
        if ctx.turn == "generator":
            synthesis = self._synthesise(batch.image, available)
            completed = torch.where(shown, batch.image, synthesis)
            terms = {
                "gan": least_squares(self.discriminator(to_slices(completed), real), 1.0),
                "l1": masked_l1(synthesis.float(), batch.image, (~shown).expand_as(synthesis)),
            }
            weights = {"gan": 1 - self.config.l1_weight, "l1": self.config.l1_weight}
        else:
            with torch.no_grad():
                completed = torch.where(shown, batch.image, self._synthesise(batch.image, available))
            # Real channels of a completed stack are labelled real.
            label = available.repeat_interleave(batch.image.shape[2], dim=0)[..., None, None].float()
            terms = {
                "real": least_squares(self.discriminator(real, real), 1.0),
                "fake": least_squares(self.discriminator(to_slices(completed), real), label),
            }
            weights = {"real": 0.5, "fake": 0.5}
        return StepOutput.of(terms, weights)

    def optimizer_settings(self, stage: Stage, turn: str) -> OptimizerSettings:
        """Adam at a constant rate, with the first moment short as for GANs."""
        return OptimizerSettings("adam", lr=self.config.lr, betas=(0.5, 0.999))
