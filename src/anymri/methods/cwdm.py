"""cWDM: diffusion of Haar bands, conditioned on the other sequences; one network for each target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, NamedTuple, cast

import torch
from pydantic import Field
from torch import Tensor

from anymri.bounds import Count, Layers, Rate, Widths
from anymri.nn.diffusion_unet import DiffusionUNet
from anymri.nn.fusion import spread
from anymri.nn.wavelet import BANDS, from_bands, haar, to_bands
from anymri.protocol.method import MethodConfig, MethodInfo, Preset, StepContext
from anymri.protocol.noise import Noise
from anymri.protocol.per_subset import PerSubset, with_target
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
)

__all__ = ["CWDM", "CWDMConfig", "DenoisingStep", "denoising_steps", "draw"]

#: Steps of the diffusion, and its share of noise in the first and the last one; the others lie between them.
TIMES = 1000
FIRST_BETA, LAST_BETA = 1e-4, 0.02


@dataclass(frozen=True, kw_only=True)
class CWDMConfig(MethodConfig):
    """Settings of cWDM; defaults are the released code's.

    Parameters
    ----------
    target : str or None
        Sequence to be made; None = the last one outside `subset`. Without a `subset`, all others are shown, as
        published.
    widths : tuple of int
        Channels of every resolution of the bands; each halves the one before it.
    blocks : int
        Residual blocks of every resolution.
    groups : int
        Groups of the group norms.
    zero_start : bool
        Whether the last convolution of every block and of the network starts at 0.
    steps : int
        Of the sampler; fewer than 1000 are spread evenly over them.
    lr : float
        Learning rate.
    """

    target: str | None = None
    widths: Widths = (64, 128, 128, 256, 256)
    blocks: Layers = 2
    groups: Layers = 32
    zero_start: bool = True
    steps: Annotated[Count, Field(le=TIMES)] = TIMES
    lr: Rate = 1e-5


class DenoisingStep(NamedTuple):
    """One step of the sampler: the state becomes ``clean * x_0 + noisy * state + deviation * noise``.

    Attributes
    ----------
    time : int
        Of the state, in [0, 1000).
    clean, noisy, deviation : float
        The last one is 0 in the step that ends at the image.
    """

    time: int
    clean: float
    noisy: float
    deviation: float


def denoising_steps(count: int) -> list[DenoisingStep]:
    """Steps of the sampler, from noise to image.

    Parameters
    ----------
    count : int
        1 to 1000.

    Notes
    -----
    Mean of the posterior (Ho et al. 2020, equation 7) and the larger of the two fixed variances, beta. Fewer steps are
    a diffusion of their own with the same amounts of noise at the times that are left (Nichol and Dhariwal 2021).
    """
    kept = torch.cumprod(1 - torch.linspace(FIRST_BETA, LAST_BETA, TIMES, dtype=torch.float64), dim=0)
    times = torch.linspace(0, TIMES - 1, count).round().long() if count > 1 else torch.tensor([TIMES - 1])
    after = kept[times]
    before = torch.cat([torch.ones(1, dtype=torch.float64), after[:-1]])
    beta = 1 - after / before
    clean, noisy = beta * before.sqrt() / (1 - after), (1 - before) * (1 - beta).sqrt() / (1 - after)
    deviation = beta.sqrt()
    deviation[0] = 0.0
    rows = torch.stack([clean, noisy, deviation], dim=1).tolist()
    return [DenoisingStep(time, *row) for time, row in zip(times.tolist(), rows, strict=True)][::-1]


class CWDM(PerSubset[CWDMConfig]):
    """Conditional wavelet diffusion model [1]_: whole volumes of a missing sequence, from noise and the others.

    Parameters
    ----------
    config : CWDMConfig
    spec : DataSpec
        At least two modalities.

    Notes
    -----
    The state is the target's Haar bands, the low one divided by 3, with noise that is transformed like an image; the
    conditions are the other sequences' bands, without noise. The network predicts the clean bands; the loss is their
    mean squared error over the eight bands. Every step of the sampler clips the prediction to [0, 1] as an image.

    Without a sample asked for, the state starts at 0 and every step takes its mean; ``--steps 1`` is then the network's
    own mean of all images that fit. The released training script takes a decay of averaged weights and averages none.

    References
    ----------
    .. [1] Friedrich et al., "cWDM: Conditional Wavelet Diffusion Models for Cross-Modality 3D Medical Image Synthesis",
       2024, arXiv:2411.17203.
    """

    name = "cwdm"
    info = MethodInfo(
        title="cWDM",
        family="synthesis",
        task="synthesis",
        year=2024,
        reference="Friedrich et al., arXiv 2024",
        arxiv="2411.17203",
        code="https://github.com/pfriedri/cwdm",
        parity="1e-4",
        novelty="Diffusion of whole volumes at full resolution, in wavelet bands of half the size.",
        weakness="A network for each target, and a thousand steps for each volume.",
        deviations=(
            "fewer than 1000 steps are respaced as in the release's respace.py, which its scripts do not reach",
            "without a sample asked for, the state starts at 0 and every step takes its mean; theirs always draws",
            "quantiles of each sequence's own brain bound its intensities; theirs are of the whole image",
            "what is outside the brain of all sequences shown is background; theirs, of the first condition",
            "other sources than all but the target are ours",
        ),
        learns_from_hidden={"mse": "the sequence to be made is the target"},
    )
    presets = {
        "paper": Preset(
            (
                Stage(
                    # 1.2 million iterations; whole heads of 155 + 5 slices.
                    "train",
                    epochs=1200,
                    batch_size=1,
                    patch=(160, 224, 224),
                    sampler="all",
                    steps_per_epoch=1000,
                    augment="none",
                    foreground=0.0,
                ),
            )
        ),
        "tiny": Preset(
            (Stage("train", 30, 1, (48, 64, 64), "all", 50, augment="none", foreground=0.0),),
            {"widths": (16, 32, 32), "blocks": 1, "groups": 8, "zero_start": False, "steps": 10, "lr": 1e-3},
        ),
    }
    outputs = ("image",)
    intensity = Intensity("unit", "p0.1", "p99.9")

    def __init__(self, config: CWDMConfig, spec: DataSpec = GLIOMA) -> None:
        config = with_target(self.name, config, spec)
        super().__init__(config, spec)
        self.target = cast(str, config.target)
        self.needs = (*self.subset_modalities, self.target)
        self.divisor = 2 ** len(config.widths)
        self.network = DiffusionUNet(len(self.subset_modalities), config)

    # ------------------------------------------------------------------------------------------------ prediction

    def decode(self, features: Features, available: Tensor, request: Request = EVERYTHING) -> Prediction:
        """The target, in `Request.steps` steps; a sample if the request has noise. See `Method.decode`.

        Raises
        ------
        SubsetNotTrained
            If a row shows more or less than the own subset.
        """
        self.require_own(available)
        made = self._sample(to_bands(features["image"].float()), request.noise, request.steps or self.config.steps)
        channel = self.spec.index(self.target)
        image = made.new_full((*available.shape, *made.shape[1:]), torch.nan)
        image[:, channel] = made
        synthesised = torch.zeros_like(available)
        synthesised[:, channel] = True
        return Prediction(image=image, synthesised=synthesised)

    def _sample(self, conditions: Tensor, noise: Noise | None, steps: int) -> Tensor:
        """Image (B, D, H, W) within [0, 1] from conditions (B, K, 8, *S)."""
        size = conditions.shape[3:]

        def drawn(name: str) -> Tensor | float:
            return 0.0 if noise is None else noise.normal(name, BANDS, size, stride=2).to(conditions)

        state = conditions.new_zeros(len(conditions), BANDS, *size) + drawn("start")
        for step in denoising_steps(steps):
            clean = self._denoise(state, conditions, torch.full((len(state),), step.time, device=state.device))
            clean = to_bands(from_bands(clean[:, None]).clamp(0, 1))[:, 0]
            state = step.clean * clean + step.noisy * state
            if step.deviation:
                state = state + step.deviation * drawn(f"step{step.time}")
        return from_bands(state[:, None])[:, 0].clamp(0, 1)

    def _denoise(self, state: Tensor, conditions: Tensor, time: Tensor) -> Tensor:
        """Clean bands that the network sees in a state (B, 8, *S)."""
        return self.network(state, conditions, time).float()

    # ---------------------------------------------------------------------------------------------------- training

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        """Squared error of the clean bands, from the noisy ones of a time drawn for every row."""
        conditions = to_bands(self.take_own(batch.image, batch.present).float())
        clean = to_bands(batch.image[:, self.spec.index(self.target), None].float())[:, 0]
        time, noise = draw(batch.image, ctx.generator)
        betas = torch.linspace(FIRST_BETA, LAST_BETA, TIMES, dtype=torch.float64, device=time.device)
        kept = spread(torch.cumprod(1 - betas, dim=0)[time].float(), clean.ndim)
        state = kept.sqrt() * clean + (1 - kept).sqrt() * haar(noise)[:, 0]
        return StepOutput.of({"mse": ((self._denoise(state, conditions, time) - clean) ** 2).mean()})

    def optimizer_settings(self, stage: Stage, turn: str) -> OptimizerSettings:
        """AdamW without decay at a constant rate."""
        return OptimizerSettings("adamw", lr=self.config.lr)


def draw(image: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw a time and noise for every row, on the CPU so that they repeat on any device.

    Parameters
    ----------
    image : Tensor, shape (B, M, D, H, W)
        For size and device.
    generator : torch.Generator

    Returns
    -------
    Tensor of int64 in [0, 1000), shape (B,); Tensor, shape (B, 1, D, H, W)
    """
    time = torch.randint(TIMES, (len(image),), generator=generator)
    noise = torch.randn((len(image), 1, *image.shape[2:]), generator=generator)
    return time.to(image.device), noise.to(image.device)
