"""WFM: a flow of Haar bands from the mean of the sequences shown to the missing one."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from anymri.bounds import Count, Layers, Rate, Weight, Widths
from anymri.modalities import MODALITIES
from anymri.nn.diffusion_unet import DiffusionUNet
from anymri.nn.fusion import spread
from anymri.nn.wavelet import from_bands, to_bands
from anymri.protocol.method import Method, MethodConfig, MethodInfo, Preset, StepContext, SubsetNotTrained, zero_absent
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

__all__ = ["WFM", "WFMConfig", "draw"]

#: Steps that a time in [0, 1] is counted in, for the network's embedding and in training.
TIMES = 1000


@dataclass(frozen=True, kw_only=True)
class WFMConfig(MethodConfig):
    """Settings of WFM; defaults are the released code's.

    Parameters
    ----------
    widths : tuple of int
        Channels of every resolution of the bands; each halves the one before it.
    blocks : int
        Residual blocks of every resolution.
    groups : int
        Groups of the group norms.
    zero_start : bool
        Whether the last convolution of every block and of the network starts at 0.
    noise : float
        Largest share of noise on the way, twice that at its middle.
    steps : int
        Of the sampler; 1 adds the flow at the start once.
    solver : {"euler", "heun"}
        For more than one step; ``heun`` asks the network twice a step.
    single_step_at_end : bool
        Whether a single step tells the network the time 1, as released, though it is shown the start, which in
        training has the time 0 (ours).
    any_subset : bool
        Whether any subset is served (ours): what is not shown is 0 among the conditions, the flow starts at the mean
        of what is shown, and every sequence that is hidden is made. False = one missing sequence, as published.
    lr : float
        Learning rate.
    """

    widths: Widths = (64, 128, 128, 256, 256)
    blocks: Layers = 2
    groups: Layers = 32
    zero_start: bool = True
    noise: Weight = 0.5
    steps: Annotated[Count, Field(le=TIMES)] = 1
    solver: Literal["euler", "heun"] = "euler"
    single_step_at_end: bool = False
    any_subset: bool = False
    lr: Rate = 1e-5


class WFM(Method[WFMConfig]):
    """Wavelet flow matching [1]_: one or two steps from the mean of the sequences shown to the missing one.

    Parameters
    ----------
    config : WFMConfig
    spec : DataSpec
        At least two modalities.

    Notes
    -----
    All images are Haar bands, the low one divided by 3. The flow starts at the mean of the conditions' bands, ``s``,
    and ends at the target's, ``x_1``; on the way, with noise ``e`` that is transformed like an image,
    ``x_t = (1 - t) s + t x_1 + 0.5 sqrt(t (1 - t)) e``. The network sees ``x_t``, the conditions, ``t`` and the name of
    the target, and learns the velocity ``x_1 - s`` (equation 3); so a single step from ``s`` is enough in principle.
    ``--steps`` chooses more. Nothing is drawn in prediction: all samples are the same.

    The conditions come in a fixed order without the target, so the same channel holds another sequence for another
    target; what it holds follows from the target's name.

    References
    ----------
    .. [1] Tur, Stojkovic, Bagci, "WFM: 3D Wavelet Flow Matching for Ultrafast Multi-Modal MRI Synthesis",
       Medical Imaging with Deep Learning, 2026, arXiv:2604.21146.
    """

    name = "wfm"
    info = MethodInfo(
        title="WFM",
        family="synthesis",
        task="synthesis",
        year=2026,
        reference="Tur et al., MIDL 2026",
        arxiv="2604.21146",
        code="https://github.com/yalcintur/WFM",
        parity="1e-4",
        novelty="The flow starts at the mean of what was acquired, not at noise, and needs one step.",
        weakness="The mean of what a squared error allows: no samples, and fine detail is smooth.",
        deviations=(
            "any_subset, which the preset tiny sets, is ours: published is one missing sequence",
            "a single step tells the network the time 0, where the start belongs; single_step_at_end is the released 1",
            "quantiles of each sequence's own brain bound its intensities; theirs are of the whole image",
            "every row of a batch has a target of its own; theirs has one for all rows",
            "what is outside the brain of all sequences shown is background; theirs, of the first condition",
        ),
        learns_from_hidden={"velocity": "what is hidden is the target"},
    )
    presets = {
        "paper": Preset(
            (
                Stage(
                    # 50,000 iterations; whole heads of 155 + 5 slices.
                    "train",
                    epochs=50,
                    batch_size=4,
                    patch=(160, 224, 224),
                    sampler="one_missing",
                    steps_per_epoch=1000,
                    augment="none",
                    foreground=0.0,
                ),
            )
        ),
        "tiny": Preset(
            (Stage("train", 30, 1, (48, 64, 64), "few_missing_first", 50, augment="none", foreground=0.0),),
            {"widths": (16, 32, 32), "blocks": 1, "groups": 8, "zero_start": False, "any_subset": True, "lr": 1e-3},
        ),
    }
    outputs = ("image",)
    intensity = Intensity("unit", "p0.1", "p99.9")

    def __init__(self, config: WFMConfig, spec: DataSpec = GLIOMA) -> None:
        super().__init__(config, spec)
        codes = spec.modalities
        if len(codes) < 2:
            raise UserError(f"wfm: with {codes[0]} alone there is nothing to synthesise; add a sequence")
        if not config.any_subset:
            self.needs = "complete"
            self.subsets = tuple(spec.subset_name(c for c in codes if c != target) for target in codes)
        self.divisor = 2 ** len(config.widths)
        order = sorted(range(len(codes)), key=lambda i: list(MODALITIES).index(codes[i]))
        #: Channels of the conditions of every target, in the order of the registry, which is the authors'.
        self.slots = [[i for i in order if i != target] for target in range(len(codes))]
        self.network = DiffusionUNet(len(codes) - 1, config, classes=len(codes))

    # ------------------------------------------------------------------------------------------------ prediction

    def encode(self, image: Tensor, available: Tensor, where: Where | None = None) -> Features:
        """Bands of every sequence. See `Method.encode`."""
        return {"bands": to_bands(zero_absent(image, available).float())}

    def decode(self, features: Features, available: Tensor, request: Request = EVERYTHING) -> Prediction:
        """The missing sequences, in `Request.steps` steps; deterministic. See `Method.decode`.

        Raises
        ------
        SubsetNotTrained
            If more than one sequence is missing, or none, and the settings serve one.
        """
        bands = features["bands"]
        self._require_served(available)
        conditions, start = self._conditions(bands, available)
        image = bands.new_full((*available.shape, *(2 * length for length in bands.shape[3:])), torch.nan)
        missing = ~available
        if missing.any():
            rows, targets = missing.nonzero(as_tuple=True)
            image[rows, targets] = self._flow(conditions[rows], start[rows], targets, request.steps)
        return Prediction(image=image, synthesised=missing)

    def _require_served(self, available: Tensor) -> None:
        if self.subsets == "any":
            return
        for row in available[available.sum(dim=1) != available.shape[1] - 1]:
            name = self.spec.subset_name(row)
            raise SubsetNotTrained(f"wfm has no network for {name}; trained subsets: {', '.join(self.subsets)}")

    def _conditions(self, bands: Tensor, available: Tensor) -> tuple[Tensor, Tensor]:
        """Bands (B, M, 8, *S) of what is shown, 0 elsewhere, and their mean (B, 8, *S)."""
        shown = zero_absent(bands, available)
        return shown, shown.sum(dim=1) / spread(available.sum(dim=1).clamp_min(1), shown.ndim - 1)

    def _flow(self, conditions: Tensor, start: Tensor, targets: Tensor, steps: int | None) -> Tensor:
        """Image (B, D, H, W) of one target a row, within [0, 1]."""
        steps, state = steps or self.config.steps, start
        if steps == 1:
            state = start + self._velocity(start, conditions, float(self.config.single_step_at_end), targets)
        else:
            times = torch.linspace(0, 1, steps + 1).tolist()
            for now, then in pairwise(times):
                velocity = self._velocity(state, conditions, now, targets)
                if self.config.solver == "heun":
                    ahead = self._velocity(state + (then - now) * velocity, conditions, then, targets)
                    velocity = 0.5 * (velocity + ahead)
                state = state + (then - now) * velocity
        return from_bands(state[:, None])[:, 0].clamp(0, 1)

    def _velocity(self, state: Tensor, conditions: Tensor, time: float | Tensor, targets: Tensor) -> Tensor:
        """What the network makes of a state (B, 8, *S) at a time in [0, 1]."""
        slots = torch.tensor(self.slots, device=targets.device)[targets]
        ordered = conditions[torch.arange(len(targets), device=targets.device)[:, None], slots]
        moment = torch.as_tensor(time, dtype=torch.float32, device=state.device).expand(len(state))
        return self.network(state, ordered, TIMES * moment, targets).float()

    # ---------------------------------------------------------------------------------------------------- training

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        """Velocity from the mean of what is shown to one hidden sequence of every row (equation 3)."""
        hidden = batch.present & ~batch.available
        targets, time, noise = draw(hidden, batch.image, ctx.generator)
        conditions, start = self._conditions(self.encode(batch.image, batch.available)["bands"], batch.available)
        rows = torch.arange(len(targets), device=targets.device)
        end = to_bands(zero_absent(batch.image, batch.present)[rows, targets, None].float())[:, 0]
        share = spread(time, start.ndim)
        sigma = self.config.noise * (share * (1 - share) + 1e-8).sqrt()
        state = (1 - share) * start + share * end + sigma * to_bands(noise)[:, 0]
        error = (self._velocity(state, conditions, time, targets) - (end - start)) ** 2
        taught = hidden.any(dim=1)  # a row that hides nothing has no target
        error = torch.where(taught, error.flatten(1).mean(dim=1), 0.0)
        return StepOutput.of({"velocity": error.sum() / taught.sum().clamp_min(1)})

    def optimizer_settings(self, stage: Stage, turn: str) -> OptimizerSettings:
        """AdamW without decay at a constant rate, gradients clipped."""
        return OptimizerSettings("adamw", lr=self.config.lr, clip_norm=1.0)


def draw(hidden: Tensor, image: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Draw a target, a time and noise for every row, on the CPU so that they repeat on any device.

    Parameters
    ----------
    hidden : Tensor of bool, shape (B, M)
        Targets to choose from; a row without any gets an arbitrary one.
    image : Tensor, shape (B, M, D, H, W)
        For size and device.
    generator : torch.Generator

    Returns
    -------
    Tensor of int64, shape (B,); Tensor in [0, 1), shape (B,); Tensor, shape (B, 1, D, H, W)
    """
    chances = torch.where(hidden.any(dim=1, keepdim=True), hidden.float(), 1.0).cpu()
    target = torch.multinomial(chances, 1, generator=generator)[:, 0]
    time = torch.randint(TIMES, (len(hidden),), generator=generator) / TIMES
    noise = torch.randn((len(image), 1, *image.shape[2:]), generator=generator)
    return target.to(image.device), time.to(image.device), noise.to(image.device)
