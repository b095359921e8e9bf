"""CoNeS: a neural field whose layers are shifted, point by point, by codes of the slice."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, Any, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from anymri.bounds import Depth, Layers, PositiveNumber, Rate, Size, Weight, Width
from anymri.nn.blocks import InstanceNorm
from anymri.nn.slices import from_slices, to_slices
from anymri.protocol.method import MethodConfig, MethodInfo, Preset, StepContext
from anymri.protocol.per_subset import PerSubset, with_target
from anymri.types import (
    GLIOMA,
    Batch,
    DataSpec,
    Intensity,
    OptimizerSettings,
    Prediction,
    Stage,
    StepOutput,
    UserError,
)

__all__ = ["CoNeS", "CoNeSConfig", "draw_noise", "place_codes"]

#: Times that the encoder halves a slice.
HALVINGS = 3
#: Channels of a residual block over those of its middle.
EXPANSION = 4
#: Convolutions of a discriminator before the one that scores, and scales that it looks at.
JUDGE_LAYERS, JUDGE_SCALES = 4, 2


@dataclass(frozen=True, kw_only=True)
class CoNeSConfig(MethodConfig):
    """Settings of CoNeS; defaults are the released code's.

    Parameters
    ----------
    target : str or None
        Sequence to be made; None = the last one outside `subset`. Without a `subset`, all others are shown.
    size : tuple of int
        Slices (H, W) in voxels, multiples of 8; places are told as shares of it.
    width : int
        Channels of the encoder's first layer.
    blocks : tuple of int
        Residual blocks of the encoder's four resolutions.
    features : int
        Channels of the pyramid that the codes are read from.
    hidden, depth : int
        Width and layers of the field.
    frequencies : int
        Pairs of sine and cosine of every axis; each has half the period of the one before.
    judge_width : int
        Channels of the discriminators' first layer.
    start : float
        Gain of the first weights (Glorot's normal).
    l1_weight, feature_weight, code_weight : float
        Of the mean absolute error, of the discriminators' features and of the squared codes, beside the adversarial 1.
    noise : float
        Standard deviation of what is added to the slices that the discriminators see in their own turn.
    lr : float
        The networks take half of it, the discriminators twice.
    """

    target: str | None = None
    size: tuple[Size, Size] = (160, 128)
    width: Width = 64
    blocks: tuple[Layers, Layers, Layers, Layers] = (2, 4, 23, 3)
    features: Width = 256
    hidden: Width = 64
    depth: Annotated[Depth, Field(ge=2)] = 5
    frequencies: Depth = 7
    judge_width: Width = 64
    start: PositiveNumber = 0.02
    l1_weight: Weight = 100.0
    feature_weight: Weight = 10.0
    code_weight: Weight = 10.0
    noise: Weight = 0.05
    lr: Rate = 2e-4


def place_codes(size: tuple[int, int], frequencies: int) -> Tensor:
    """Codes of the places of a slice: cosine and sine of 2^k pi times the share of the way along an axis.

    Parameters
    ----------
    size : tuple of int
        (H, W).
    frequencies : int

    Returns
    -------
    Tensor, shape (1, 4 * frequencies, H, W)
        For every k: cosine and sine along H, cosine and sine along W.
    """
    down, across = (torch.arange(length) * math.pi / length for length in size)
    maps = []
    for k in range(frequencies):
        maps += [wave(2**k * down)[:, None].expand(size) for wave in (torch.cos, torch.sin)]
        maps += [wave(2**k * across)[None].expand(size) for wave in (torch.cos, torch.sin)]
    return torch.stack(maps)[None]


class _Block(nn.Module):
    """Residual block with a narrow middle; may halve the slice there."""

    def __init__(self, in_channels: int, middle: int, stride: int) -> None:
        super().__init__()
        out = EXPANSION * middle
        sizes = ((in_channels, middle, 1, 1), (middle, middle, 3, stride), (middle, out, 1, 1))
        self.convs = nn.ModuleList(nn.Conv2d(a, b, k, step, k // 2, bias=False) for a, b, k, step in sizes)
        self.norms = nn.ModuleList(InstanceNorm(b) for _, b, _, _ in sizes)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != out:
            self.shortcut.extend([nn.Conv2d(in_channels, out, 1, stride, bias=False), InstanceNorm(out)])

    def forward(self, x: Tensor) -> Tensor:
        inner = x
        for number, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            inner = norm(conv(inner))
            inner = inner + self.shortcut(x) if number == 2 else inner
            inner = inner.relu()
        return inner


class _Encoder(nn.Module):
    """Residual network with a feature pyramid: codes (N, codes, H, W) of slices (N, sources, H, W)."""

    def __init__(self, sources: int, codes: int, config: CoNeSConfig) -> None:
        super().__init__()
        self.first = nn.Conv2d(sources, config.width, 7, padding=3, bias=False)
        self.norm = InstanceNorm(config.width)
        self.levels = nn.ModuleList()
        channels, widths = config.width, []
        for level, count in enumerate(config.blocks):
            middle = config.width * 2**level
            blocks = nn.Sequential()
            for number in range(count):
                blocks.append(_Block(channels, middle, 2 if level and not number else 1))
                channels = EXPANSION * middle
            self.levels.append(blocks)
            widths.append(channels)
        self.lateral = nn.ModuleList(nn.Conv2d(width, config.features, 1) for width in widths)
        self.smooth = nn.ModuleList(nn.Conv2d(config.features, config.features, 3, padding=1) for _ in widths[:-1])
        self.codes = nn.Conv2d(config.features, codes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x, found = self.norm(self.first(x)).relu(), []
        for blocks in self.levels:
            x = blocks(x)
            found.append(x)
        pyramid = self.lateral[-1](found[-1])
        for level in reversed(range(len(self.smooth))):
            larger = F.interpolate(pyramid, size=found[level].shape[2:], mode="bilinear")
            pyramid = self.smooth[level](larger + self.lateral[level](found[level]))
        return self.codes(pyramid)


class _Field(nn.Module):
    """One perceptron for all points, whose layers are shifted by the point's codes."""

    def __init__(self, sources: int, config: CoNeSConfig) -> None:
        super().__init__()
        self.value = nn.Conv2d(sources, config.hidden, 1, bias=False)
        self.place = nn.Conv2d(4 * config.frequencies, config.hidden, 1)
        between = (nn.Conv2d(config.hidden, config.hidden, 1) for _ in range(config.depth - 2))
        self.layers = nn.ModuleList([*between, nn.Conv2d(config.hidden, 1, 1)])
        #: Codes of every layer, in the order of the layers.
        self.shifts = [config.hidden] * (config.depth - 1) + [1]

    def forward(self, values: Tensor, places: Tensor, codes: Tensor) -> Tensor:
        """Values (N, 1, H, W) of the target at points with source values, places and codes."""
        first, *others = codes.split(self.shifts, dim=1)
        x = self.value(values) + self.place(places) + first
        for layer, shift in zip(self.layers, others, strict=True):
            x = layer(F.leaky_relu(x, 0.01)) + shift
        return x.tanh()


class _SpectralConv(nn.Module):
    """Convolution without bias, its weight over the largest singular value, which every training step follows."""

    left: Tensor
    right: Tensor

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.weight = nn.Parameter(nn.Conv2d(in_channels, out_channels, 4).weight.detach())
        self.register_buffer("left", F.normalize(torch.randn(out_channels), dim=0))
        self.register_buffer("right", F.normalize(torch.randn(in_channels * 16), dim=0))

    def forward(self, x: Tensor) -> Tensor:
        matrix = self.weight.flatten(1)
        if self.training:
            with torch.no_grad():
                self.right.copy_(F.normalize((matrix * self.left[:, None]).sum(dim=0), dim=0, eps=1e-12))
                self.left.copy_(F.normalize((matrix * self.right).sum(dim=1), dim=0, eps=1e-12))
        # Copies: the buffers move on before the gradient is asked for if the network is called again.
        largest = (self.left.clone()[:, None] * matrix * self.right.clone()).sum()
        return F.conv2d(x, self.weight / largest, stride=self.stride, padding=2)


class _Discriminator(nn.Module):
    """PatchGAN whose features are read after every layer."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        widths = [min(width * 2**layer, 8 * width) for layer in range(JUDGE_LAYERS)]
        self.first = nn.Conv2d(channels, widths[0], 4, 2, 2)
        self.middle = nn.ModuleList(
            _SpectralConv(widths[layer - 1], widths[layer], 1 if layer == JUDGE_LAYERS - 1 else 2)
            for layer in range(1, JUDGE_LAYERS)
        )
        self.last = nn.Conv2d(widths[-1], 1, 4, padding=2)

    def forward(self, x: Tensor) -> list[Tensor]:
        found = [F.leaky_relu(self.first(x), 0.2)]
        for conv in self.middle:
            found.append(F.leaky_relu(F.instance_norm(conv(found[-1])), 0.2))
        return [*found, self.last(found[-1])]


class CoNeS(PerSubset[CoNeSConfig]):
    """Conditional neural fields with shift modulation [1]_, slice by slice; one network per sources and target.

    Parameters
    ----------
    config : CoNeSConfig
    spec : DataSpec
        At least two modalities.

    Notes
    -----
    A perceptron maps a point's source values and place to the target's value. It is the same for all points and all
    slices; what a slice changes are shifts of its layers, ``h' = leaky_relu(W h + b + s(u))``, one vector of codes
    ``s(u)`` for each point ``u``, from a residual network with a feature pyramid. Places are told by sines and cosines.

    Two discriminators see sources and target at full and at half size (hinge loss); the generator's loss adds 100 times
    the mean absolute error, 10 times that of the discriminators' features, and 10 times the mean squared code.

    References
    ----------
    .. [1] Chen et al., "CoNeS: Conditional Neural Fields with Shift Modulation for Multi-sequence MRI Translation",
       Machine Learning for Biomedical Imaging, 2024, arXiv:2309.03320.
    """

    name = "cones"
    info = MethodInfo(
        title="CoNeS",
        family="synthesis",
        task="synthesis",
        year=2024,
        reference="Chen et al., MELBA 2024",
        arxiv="2309.03320",
        code="https://github.com/cyjdswx/CoNeS",
        parity="1e-4",
        novelty="A neural field instead of a decoder: every point is mapped by itself, shifted by codes of the slice.",
        weakness="Slices without depth, and one network per sources and target.",
        deviations=(
            "how intensities become [-1, 1] is not stated; ours from the least to the largest value of the own brain",
            "augmentation by brightness, contrast, blur and noise is left out",
            "the rate falls every step from the middle on; theirs every epoch",
            "places are counted within a window, as theirs within a crop; a brain larger than a window is tiled",
        ),
        learns_from_hidden={
            "l1|feature": "the sequence to be made is the target",
            "real": "the discriminators know it",
        },
    )
    presets = {
        "paper": Preset(
            (Stage("train", 200, 8, (1, 160, 128), "all", steps_per_epoch=500, augment="none", foreground=0.0),)
        ),
        "tiny": Preset(
            (Stage("train", 24, 1, (4, 64, 64), "all", steps_per_epoch=50, augment="none", foreground=0.0),),
            {
                "size": (64, 64),
                "width": 8,
                "blocks": (1, 1, 1, 1),
                "features": 16,
                "hidden": 16,
                "judge_width": 8,
                "start": 1.0,
                "lr": 1e-3,
            },
        ),
    }
    outputs = ("image",)
    spatial_dims = 2
    divisor = 2**HALVINGS
    intensity = Intensity("symmetric")

    def __init__(self, config: CoNeSConfig, spec: DataSpec = GLIOMA) -> None:
        config = with_target(self.name, config, spec)
        super().__init__(config, spec)
        if any(side % self.divisor for side in config.size):
            raise UserError(f"method.config.size = {config.size}: sides must be multiples of {self.divisor}")
        self.target = cast(str, config.target)
        self.needs = (*self.subset_modalities, self.target)
        self.stages = tuple(replace(stage, patch=(cast(Any, stage.patch)[0], *config.size)) for stage in self.stages)
        self.patch = (8, *config.size)
        sources = len(self.subset_modalities)
        self.field = _Field(sources, config)
        self.encoder = _Encoder(sources, sum(self.field.shifts), config)
        self.discriminators = nn.ModuleList(
            _Discriminator(sources + 1, config.judge_width) for _ in range(JUDGE_SCALES)
        )
        for part in self.modules():
            if isinstance(part, nn.Conv2d | _SpectralConv):
                nn.init.xavier_normal_(part.weight, config.start)
                if getattr(part, "bias", None) is not None:
                    nn.init.zeros_(cast(Tensor, part.bias))

    # ------------------------------------------------------------------------------------------------ prediction

    def predict_subset(self, sources: Tensor, available: Tensor) -> Prediction:
        """The target."""
        made = from_slices(self._make(to_slices(sources))[0], sources.shape[2])[:, 0]
        channel = self.spec.index(self.target)
        image = made.new_full((*available.shape, *made.shape[1:]), torch.nan)
        image[:, channel] = made
        synthesised = torch.zeros_like(available)
        synthesised[:, channel] = True
        return Prediction(image=image, synthesised=synthesised)

    def _make(self, slices: Tensor) -> tuple[Tensor, Tensor]:
        """Target (N, 1, H, W) and codes of slices (N, sources, H, W)."""
        codes = self.encoder(slices)
        height, width = slices.shape[2:]
        places = place_codes((height, width), self.config.frequencies).to(slices.device)
        return self.field(slices, places, codes), codes

    # ---------------------------------------------------------------------------------------------------- training

    def turns(self, stage: Stage) -> dict[str, list[dict[str, Any]]]:
        """Encoder and field, then the discriminators."""
        return {
            "generator": [{"params": [*self.encoder.parameters(), *self.field.parameters()]}],
            "discriminator": [{"params": list(self.discriminators.parameters())}],
        }

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        """Make the target, or tell made from real ones."""
        sources = to_slices(self.take_own(batch.image, batch.present))
        real = to_slices(batch.image[:, self.spec.index(self.target), None])
        with torch.set_grad_enabled(ctx.turn == "generator"):
            made, codes = (part.float() for part in self._make(sources))
        config = self.config
        if ctx.turn == "discriminator":
            noise = config.noise * draw_noise(made, ctx.generator)
            scores = self._look(sources, made + noise[0], real + noise[1])
            terms = {
                "fake": _mean([F.relu(1 + found[-1][0].float()).mean() for found in scores]),
                "real": _mean([F.relu(1 - found[-1][1].float()).mean() for found in scores]),
            }
            return StepOutput.of(terms)
        scores = self._look(sources, made, real)
        features = [[F.l1_loss(layer[0], layer[1].detach()) for layer in found[:-1]] for found in scores]
        terms = {
            "l1": F.l1_loss(made, real),
            "gan": _mean([-found[-1][0].float().mean() for found in scores]),
            "feature": _mean([torch.stack(found).float().sum() for found in features]),
            "code": (codes**2).mean(),
        }
        weights = {"l1": config.l1_weight, "feature": config.feature_weight, "code": config.code_weight}
        return StepOutput.of(terms, weights)

    def _look(self, sources: Tensor, made: Tensor, real: Tensor) -> list[list[Tensor]]:
        """Every discriminator's features and scores, (2, N, ...): of what is made, then of what is real."""
        pairs = torch.cat([torch.cat([sources, image], dim=1) for image in (made, real)])
        found = []
        for discriminator in self.discriminators:
            found.append([layer.unflatten(0, (2, -1)) for layer in discriminator(pairs)])
            pairs = F.avg_pool2d(pairs, 3, 2, 1, count_include_pad=False)
        return found

    def optimizer_settings(self, stage: Stage, turn: str) -> OptimizerSettings:
        """Adam, constant for half of the stage, then falling to 0 in a line; discriminators learn four times faster."""
        rate, decay = (self.config.lr / 2, 3e-5) if turn == "generator" else (2 * self.config.lr, 0.0)
        return OptimizerSettings(
            "adam", lr=rate, weight_decay=decay, betas=(0.5, 0.999), schedule="poly", power=1.0, hold=0.5
        )


def draw_noise(image: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal noise for two images of that shape, (2, *shape), on the CPU so that it repeats on any device."""
    return torch.randn((2, *image.shape), generator=generator).to(image.device)


def _mean(terms: list[Tensor]) -> Tensor:
    return torch.stack(terms).mean()
