"""ResViT: a residual generator with transformers in its bottleneck; for one target, or for whatever is missing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Self, cast

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from anymri.losses.adversarial import least_squares
from anymri.losses.reconstruction import masked_l1
from anymri.methods.base import Method, MethodConfig, MethodInfo, Preset, StepContext, show, with_target
from anymri.nn.slices import from_slices, to_slices
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

__all__ = ["ResViT", "ResViTConfig", "UnifiedResViT"]

#: What one token covers of a slice, in voxels: the encoder halves twice, a block with a transformer twice more.
TOKEN = 16
KEY_BIAS = r"generator\.transformer\.layers\.\d+\.key\.bias"
KEY_BIAS_REASON = "adds the same to all scores of a query, which the softmax takes away; not added"


@dataclass(frozen=True, kw_only=True)
class ResViTConfig(MethodConfig):
    """Settings of ResViT; defaults are the released code's.

    Parameters
    ----------
    target : str or None, default=None
        Modality to synthesise from those of `subset`; None = the last one outside it. The unified variant has none.
    size : tuple of int
        Slices (H, W) in voxels, multiples of 16; position tables fit no other.
    width : int
        Channels of the first layer; the bottleneck has four times as many.
    blocks : int
        Of the bottleneck.
    transformer_blocks : tuple of int
        Which of them hold a transformer, counted from 1; all share one.
    hidden, heads, layers, mlp : int
        Width of a token, attention heads, layers and hidden width of the transformer.
    dropout : float
        Of tokens and in the transformer's perceptrons.
    judge_width : int
        Channels of the discriminator's first layer.
    l1_weight, adversarial_weight : float
    lr, lr_transformers : float
        Of the two stages.
    """

    target: str | None = None
    size: tuple[PositiveInt, PositiveInt] = (256, 256)
    width: PositiveInt = 64
    blocks: PositiveInt = 9
    transformer_blocks: tuple[PositiveInt, ...] = (1, 6)
    hidden: PositiveInt = 768
    heads: PositiveInt = 12
    layers: PositiveInt = 12
    mlp: PositiveInt = 3072
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    judge_width: PositiveInt = 64
    l1_weight: NonNegativeFloat = 100.0
    adversarial_weight: NonNegativeFloat = 1.0
    lr: PositiveFloat = 2e-4
    lr_transformers: PositiveFloat = 1e-3


# --------------------------------------------------------------------------------------------------------------
# Networks, on slices (N, C, H, W)
# --------------------------------------------------------------------------------------------------------------


def _norm_relu(conv: nn.Module, channels: int) -> list[nn.Module]:
    return [conv, nn.BatchNorm2d(channels), nn.ReLU()]


def _down(before: int, after: int) -> list[nn.Module]:
    return _norm_relu(nn.Conv2d(before, after, 3, 2, 1, bias=False), after)


def _up(before: int, after: int) -> list[nn.Module]:
    return _norm_relu(nn.ConvTranspose2d(before, after, 3, 2, 1, output_padding=1, bias=False), after)


def _same(before: int, after: int, size: int = 3) -> nn.Conv2d:
    return nn.Conv2d(before, after, size, padding=size // 2, bias=False)


class _TransformerLayer(nn.Module):
    """Self-attention and a perceptron, each behind a layer norm and added to its input."""

    def __init__(self, config: ResViTConfig) -> None:
        super().__init__()
        width = config.hidden
        self.heads = config.heads
        self.attention_norm, self.perceptron_norm = (nn.LayerNorm(width, eps=1e-6) for _ in range(2))
        self.query, self.key, self.value, self.project = (nn.Linear(width, width) for _ in range(4))
        self.expand, self.shrink = nn.Linear(width, config.mlp), nn.Linear(config.mlp, width)
        self.dropout = nn.Dropout(config.dropout)
        for linear in (self.expand, self.shrink):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.normal_(linear.bias, std=1e-6)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.attention_norm(tokens)
        key = F.linear(x, self.key.weight)  # its bias is kept for the authors' weights, see KEY_BIAS_REASON
        parts = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (self.query(x), key, self.value(x)))
        mixed = F.scaled_dot_product_attention(*parts)
        tokens = tokens + self.project(mixed.transpose(1, 2).flatten(2))
        hidden = self.dropout(F.gelu(self.expand(self.perceptron_norm(tokens))))
        return tokens + self.dropout(self.shrink(hidden))


class _Transformer(nn.Module):
    def __init__(self, config: ResViTConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_TransformerLayer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.hidden, eps=1e-6)

    def forward(self, tokens: Tensor) -> Tensor:
        for layer in self.layers:
            tokens = layer(tokens)
        return self.norm(tokens)


class _Context(nn.Module):
    """What a block needs around the shared transformer: smaller images, tokens, and the way back."""

    def __init__(self, config: ResViTConfig) -> None:
        super().__init__()
        width, (rows, columns) = config.width, (side // TOKEN for side in config.size)
        self.down = nn.Sequential(*_down(4 * width, 8 * width), *_down(8 * width, 16 * width))
        self.embed = nn.Conv2d(16 * width, config.hidden, 1)
        self.position = nn.Parameter(torch.zeros(1, rows * columns, config.hidden))
        self.dropout = nn.Dropout(config.dropout)
        self.up = nn.Sequential(*_up(config.hidden, 8 * width), *_up(8 * width, 4 * width))
        self.compress = nn.Sequential(
            *_norm_relu(_same(8 * width, 4 * width), 4 * width),
            _same(4 * width, 4 * width),
            nn.BatchNorm2d(4 * width),
        )
        self.shortcut = nn.Sequential(_same(8 * width, 4 * width, 1), nn.BatchNorm2d(4 * width))

    def forward(self, x: Tensor, transformer: nn.Module) -> Tensor:
        maps = self.embed(self.down(x))
        tokens = transformer(self.dropout(maps.flatten(2).transpose(1, 2) + self.position))
        x = torch.cat([self.up(tokens.transpose(1, 2).unflatten(2, maps.shape[2:])), x], dim=1)
        return (self.compress(x) + self.shortcut(x)).relu()


class _Block(nn.Module):
    """Aggregated residual transformer block; without its context it is a residual block of convolutions."""

    def __init__(self, config: ResViTConfig, with_transformer: bool) -> None:
        super().__init__()
        channels = 4 * config.width
        self.context = _Context(config) if with_transformer else None
        self.residual = nn.Sequential(
            nn.ReflectionPad2d(1),
            *_norm_relu(nn.Conv2d(channels, channels, 3, bias=False), channels),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor, transformer: nn.Module | None) -> Tensor:
        if self.context is not None and transformer is not None:
            x = self.context(x, transformer)
        return x + self.residual(x)


class _Generator(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, config: ResViTConfig) -> None:
        super().__init__()
        width = config.width
        self.encoder = nn.Sequential(
            nn.ReflectionPad2d(3),
            *_norm_relu(nn.Conv2d(in_channels, width, 7, bias=False), width),
            *_down(width, 2 * width),
            *_down(2 * width, 4 * width),
        )
        self.transformer = _Transformer(config)
        self.blocks = nn.ModuleList(
            _Block(config, number in config.transformer_blocks) for number in range(1, config.blocks + 1)
        )
        self.decoder = nn.Sequential(
            *_up(4 * width, 2 * width),
            *_up(2 * width, width),
            nn.ReflectionPad2d(3),
            nn.Conv2d(width, out_channels, 7),
            nn.Tanh(),
        )

    def forward(self, x: Tensor, transformers: bool = True) -> Tensor:
        """Map sources to targets, both within [-1, 1]; without transformers, as in the first stage."""
        x = self.encoder(x)
        for block in self.blocks:
            x = block(x, self.transformer if transformers else None)
        return self.decoder(x)

    def convolutional(self) -> list[nn.Parameter]:
        """Parameters of the network without transformers."""
        extra = re.compile(r"transformer\.|blocks\.\d+\.context\.")
        return [parameter for name, parameter in self.named_parameters() if not extra.match(name)]


class _Discriminator(nn.Sequential):
    """PatchGAN: one map of scores from sources and targets."""

    def __init__(self, channels: int, width: int) -> None:
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for level, stride in enumerate((2, 2, 1)):
            before, after = width * 2**level, width * 2 ** (level + 1)
            layers += [nn.Conv2d(before, after, 4, stride, 1, bias=False), nn.BatchNorm2d(after), nn.LeakyReLU(0.2)]
        super().__init__(*layers, nn.Conv2d(8 * width, 1, 4, 1, 1))
        for layer in self:
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, 0.0, 0.02)
            elif isinstance(layer, nn.BatchNorm2d):
                nn.init.normal_(layer.weight, 1.0, 0.02)


# --------------------------------------------------------------------------------------------------------------
# What both variants share
# --------------------------------------------------------------------------------------------------------------


def _check_size(config: ResViTConfig) -> None:
    if any(side % TOKEN for side in config.size):
        raise UserError(f"method.config.size = {list(config.size)}: give multiples of {TOKEN}")


def _stages(stages: tuple[Stage, ...], config: ResViTConfig) -> tuple[Stage, ...]:
    """Stages with crops of the slices' size."""
    return tuple(replace(stage, patch=(cast(Any, stage.patch)[0], *config.size)) for stage in stages)


def _synthesise(generator: _Generator, image: Tensor, config: ResViTConfig, transformers: bool = True) -> Tensor:
    """Targets (B, targets, D, H, W) from sources (B, sources, D, H, W)."""
    if image.shape[3:] != config.size:
        have, want = ("x".join(map(str, size)) for size in (image.shape[3:], config.size))
        raise UserError(
            f"resvit: slices of {have} voxels, not {want}; set method.config.size, leave training.patch out"
        )
    return from_slices(generator(to_slices(image), transformers), image.shape[2])


def _turns(stage: Stage, generator: _Generator, discriminator: nn.Module) -> dict[str, list[dict[str, Any]]]:
    trained = generator.convolutional() if stage.name == "convolutions" else list(generator.parameters())
    return {"discriminator": [{"params": list(discriminator.parameters())}], "generator": [{"params": trained}]}


def _optimizer_settings(stage: Stage, config: ResViTConfig) -> OptimizerSettings:
    lr = config.lr if stage.name == "convolutions" else config.lr_transformers
    return OptimizerSettings("adam", lr=lr, betas=(0.5, 0.999), schedule="poly", power=1.0, hold=0.5)


def _judge(discriminator: nn.Module, sources: Tensor, made: Tensor, real: Tensor) -> dict[str, Tensor]:
    """The discriminator's two terms; all images (B, channels, D, H, W)."""
    pairs = {"fake": (made.detach(), 0.0), "real": (real, 1.0)}
    return {
        name: least_squares(discriminator(to_slices(torch.cat([sources, image.to(sources)], dim=1))), label)
        for name, (image, label) in pairs.items()
    }


def _deceive(discriminator: nn.Module, sources: Tensor, made: Tensor) -> Tensor:
    return least_squares(discriminator(to_slices(torch.cat([sources, made.to(sources)], dim=1))), 1.0)


def _presets(sampler: str) -> dict[str, Preset]:
    """25 subjects with 100 slices each, 100 epochs without transformers and 50 with them; and a small copy."""
    names = ("convolutions", "transformers")
    paper = tuple(
        Stage(name, epochs, batch_size=1, patch=(1, 256, 256), sampler=sampler, steps_per_epoch=2500)
        for name, epochs in zip(names, (100, 50), strict=True)
    )
    tiny = tuple(
        Stage(name, epochs, batch_size=1, patch=(8, 64, 64), sampler=sampler, steps_per_epoch=50)
        for name, epochs in zip(names, (20, 10), strict=True)
    )
    small = {
        "size": (64, 64), "width": 8, "blocks": 4, "transformer_blocks": (1, 3), "hidden": 48, "heads": 4,
        "layers": 2, "mlp": 96, "judge_width": 8, "lr": 2e-3, "lr_transformers": 1e-3,
    }  # fmt: skip
    return {"paper": Preset(paper), "tiny": Preset(tiny, small)}


NOVELTY = "Transformers beside convolutions in residual blocks: far context without loss of local precision."
SHARED_DEVIATIONS = (
    "transformers start from random weights, not from ImageNet-21k",
    "optimisers and discriminator go on or are kept in the second stage as the loop does; theirs begin anew",
    "five standard deviations to [-1, 1] inside each sequence's own brain; theirs is not stated",
    "slices are padded, not resized, and not mirrored",
)


# --------------------------------------------------------------------------------------------------------------
# The methods
# --------------------------------------------------------------------------------------------------------------


class ResViT(Method):
    """Synthesise one sequence from one or several others, slice by slice [1]_.

    Parameters
    ----------
    config : ResViTConfig
        `subset` names the sources, `target` what is made of them.
    spec : DataSpec

    Notes
    -----
    One instance serves one subset and makes one sequence; `Family` joins several. Two convolutions halve the slice;
    of nine residual blocks the first and the sixth also look at the whole slice: its maps become tokens for a
    transformer, which the two blocks share, and its answer is joined with the maps and compressed. The loss is 100
    times the mean absolute error plus a least-squares adversarial term; the discriminator sees sources and target.

    The network is first trained without transformers, then with them; each stage holds its rate for one half and
    lowers it to 0 in the other. The generator's pass of the discriminator's turn moves the running statistics of its
    batch norms too, so they follow twice as fast.

    Deviations: the transformer starts from random weights (theirs: ImageNet-21k); the discriminator keeps its weights
    between the stages (theirs begins anew); z-scores within five standard deviations become [-1, 1] (how the
    published slices were scaled is not stated); slices are padded, not resized, and not mirrored. The key's bias,
    without effect, is kept and not added.

    Authors' kernels are taken as they are: how their slices are turned is not stated.

    References
    ----------
    .. [1] Dalmaz, Yurt, Cukur, "ResViT: Residual Vision Transformers for Multimodal Medical Image Synthesis",
       IEEE Transactions on Medical Imaging 41(10), 2022, arXiv:2106.16031.
    """

    name = "resvit"
    Config = ResViTConfig
    info = MethodInfo(
        title="ResViT",
        family="synthesis",
        task="synthesis",
        year=2022,
        reference="Dalmaz et al., IEEE TMI 2022",
        doi="10.1109/TMI.2022.3167808",
        arxiv="2106.16031",
        code="https://github.com/icon-lab/ResViT",
        parity="1e-4",
        novelty=NOVELTY,
        weakness="Slices of one size, and one network per sources and target.",
        deviations=SHARED_DEVIATIONS,
        untrained={KEY_BIAS: KEY_BIAS_REASON},
    )
    presets = _presets("all")
    subsets = "per-subset"
    outputs = ("image",)
    spatial_dims = 2
    divisor = TOKEN
    intensity = Intensity("deviations")

    def __init__(self, config: ResViTConfig, spec: DataSpec = GLIOMA) -> None:
        config = with_target(self.name, config, spec)
        _check_size(config)
        super().__init__(config, spec)
        self.config: ResViTConfig = config
        self.stages = _stages(self.stages, config)
        self.patch = (8, *config.size)
        self.target = cast(str, config.target)
        self.needs = (*self.own, self.target)
        self.generator = _Generator(len(self.own), 1, config)
        self.discriminator = _Discriminator(len(self.own) + 1, config.judge_width)

    def encode(self, image: Tensor, available: Tensor, where: Where | None = None) -> Features:
        """The sources: the network joins them from the first layer on. See `Method.encode`."""
        return {"image": self.take_own(image, available)}

    def decode(
        self,
        features: Features,
        available: Tensor,
        outputs: tuple[str, ...] | None = None,
        generators: list[torch.Generator] | None = None,
    ) -> Prediction:
        """The target; deterministic. See `Method.decode`."""
        self.require_own(available)
        made = _synthesise(self.generator, features["image"], self.config)
        channel = self.spec.index(self.target)
        image = made.new_full((len(made), len(self.spec.modalities), *made.shape[2:]), torch.nan)
        image[:, channel] = made[:, 0]
        synthesised = torch.zeros_like(available)
        synthesised[:, channel] = True
        return Prediction(image=image, synthesised=synthesised)

    def turns(self, stage: Stage) -> dict[str, list[dict[str, Any]]]:
        """The discriminator, then the generator, at first without its transformers."""
        return _turns(stage, self.generator, self.discriminator)

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        """Make the target, or tell made from real ones."""
        sources = self.take_own(batch.image, batch.present)
        real = batch.image[:, self.spec.index(self.target), None]
        with torch.set_grad_enabled(ctx.turn == "generator"):
            made = _synthesise(self.generator, sources, self.config, ctx.stage.name == "transformers")
        if ctx.turn == "discriminator":
            terms = _judge(self.discriminator, sources, made, real)
            loss = 0.5 * self.config.adversarial_weight * (terms["fake"] + terms["real"])
        else:
            terms = {
                "gan": self.config.adversarial_weight * _deceive(self.discriminator, sources, made),
                "l1": self.config.l1_weight * F.l1_loss(made.float(), real),
            }
            loss = terms["gan"] + terms["l1"]
        return StepOutput(loss, {key: term.detach() for key, term in terms.items()})

    def optimizer_settings(self, stage: Stage, turn: str) -> OptimizerSettings:
        """Adam, its rate held for one half of the stage and falling to 0 in the other."""
        return _optimizer_settings(stage, self.config)

    # ----------------------------------------------------------------------------------------------------- weights

    @classmethod
    def import_state_dict(cls, state_dict: Mapping[str, Any], source: str = "official") -> Self:
        """ResViT from the weights of the authors' generator.

        Parameters
        ----------
        state_dict : mapping of str to Tensor
            Their ``latest_net_G.pth``. Weights of ``latest_net_D.pth`` may stand beside it under ``discriminator.``;
            without them a fresh one is kept, which prediction does not use.
        source : str, default="official"
            ``"official:<sources>-><target>"``, e.g. ``"official:t1+t2->flair"``, sources in the order of their
            channels.

        Raises
        ------
        UserError
            If the source is unknown or names no target.
        KeyError, RuntimeError
            If the weights are not ResViT's.
        """
        origin, _, task = source.partition(":")
        given, arrow, target = task.partition("->")
        if origin != "official" or not arrow:
            raise UserError(f"unknown source {source!r} of resvit weights; known: official:<sources>-><target>")
        side = TOKEN * round(state_dict["art_1.embeddings.positional_encoding"].shape[1] ** 0.5)
        method = cls(ResViTConfig(subset=given, target=target, size=(side, side)), GLIOMA)
        channels = given.split("+")
        order = [channels.index(code) for code in method.own]
        ours = {key: value for key, value in method.state_dict().items() if not key.startswith("generator.")}
        for theirs, value in state_dict.items():
            if re.match(r"art_\d\.transformer\.", theirs):
                continue  # the shared transformer once more
            name = _our_name(theirs)
            if name == "generator.encoder.1.weight":
                value = value[:, order]
            elif name == "discriminator.0.weight":
                value = value[:, [*order, len(order)]]
            ours[name] = value
        method.load_state_dict(ours)
        return method.eval()


class UnifiedResViT(Method):
    """Synthesise whatever is missing from whatever is there, with one ResViT [1]_.

    Parameters
    ----------
    config : ResViTConfig
        `subset` and `target` have no meaning here.
    spec : DataSpec
        At least two modalities.

    Notes
    -----
    The paper's unified variant of `ResViT`: all sequences are channels of the input, missing ones set to 0, and all
    are channels of the output. The loss adds 100 times the mean absolute error of what is missing (*pixel*), 100
    times that of what is shown (*reconstruction*), and the adversarial term. The released code does not have it.

    The paper does not say how subsets are drawn, nor what exactly the discriminator sees. Here every subset is as
    likely as another, and the discriminator sees the shown sequences beside the missing ones, made or real, each set
    to 0 where the other is. Sequences that a subject lacks enter no term, so that incomplete cohorts can train it.

    Deviations and the rest as in `ResViT`.

    References
    ----------
    .. [1] Dalmaz, Yurt, Cukur, "ResViT: Residual Vision Transformers for Multimodal Medical Image Synthesis",
       IEEE Transactions on Medical Imaging 41(10), 2022, arXiv:2106.16031.
    """

    name = "resvit_unified"
    Config = ResViTConfig
    info = MethodInfo(
        title="ResViT (unified)",
        family="synthesis",
        task="synthesis",
        year=2022,
        reference="Dalmaz et al., IEEE TMI 2022",
        doi="10.1109/TMI.2022.3167808",
        arxiv="2106.16031",
        code="https://github.com/icon-lab/ResViT",
        parity="no reference code",
        novelty=NOVELTY,
        weakness="Slices of one size; what is shown and what is missing share one network without telling it which.",
        deviations=(
            *SHARED_DEVIATIONS,
            "how subsets are drawn and what the discriminator sees are not published; ours",
        ),
        untrained={KEY_BIAS: KEY_BIAS_REASON},
    )
    presets = _presets("uniform_subset")
    outputs = ("image",)
    spatial_dims = 2
    divisor = TOKEN
    intensity = Intensity("deviations")

    def __init__(self, config: ResViTConfig, spec: DataSpec = GLIOMA) -> None:
        super().__init__(config, spec)
        self.config: ResViTConfig = config
        _check_size(config)
        channels = len(spec.modalities)
        if channels < 2:
            raise UserError(
                f"resvit_unified: with {spec.modalities[0]} alone there is nothing to synthesise; add a sequence"
            )
        self.stages = _stages(self.stages, config)
        self.patch = (8, *config.size)
        self.generator = _Generator(channels, channels, config)
        self.discriminator = _Discriminator(2 * channels, config.judge_width)

    def encode(self, image: Tensor, available: Tensor, where: Where | None = None) -> Features:
        """The image: the network joins the sequences from the first layer on. See `Method.encode`."""
        return {"image": show(image, available)}

    def decode(
        self,
        features: Features,
        available: Tensor,
        outputs: tuple[str, ...] | None = None,
        generators: list[torch.Generator] | None = None,
    ) -> Prediction:
        """All sequences, those shown reconstructed; deterministic. See `Method.decode`."""
        made = _synthesise(self.generator, show(features["image"], available), self.config)
        return Prediction(image=made, synthesised=torch.ones_like(available))

    def turns(self, stage: Stage) -> dict[str, list[dict[str, Any]]]:
        """The discriminator, then the generator, at first without its transformers."""
        return _turns(stage, self.generator, self.discriminator)

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        """Make what is missing and what is shown, or tell made from real ones."""
        shown, missing = batch.available, batch.present & ~batch.available
        sources = show(batch.image, shown)
        with torch.set_grad_enabled(ctx.turn == "generator"):
            made = _synthesise(self.generator, sources, self.config, ctx.stage.name == "transformers")
        weight = self.config.adversarial_weight
        if ctx.turn == "discriminator":
            terms = _judge(self.discriminator, sources, show(made, missing), show(batch.image, missing))
            loss = 0.5 * weight * (terms["fake"] + terms["real"])
        else:
            real = show(batch.image, batch.present)
            where = {"pixel": missing, "reconstruction": shown}
            errors = {
                name: masked_l1(made.float(), real, rows[..., None, None, None].expand_as(real))
                for name, rows in where.items()
            }
            terms = {"gan": weight * _deceive(self.discriminator, sources, show(made, missing))}
            terms |= {name: self.config.l1_weight * error for name, error in errors.items()}
            loss = torch.stack(list(terms.values())).sum()
        return StepOutput(loss, {key: term.detach() for key, term in terms.items()})

    def optimizer_settings(self, stage: Stage, turn: str) -> OptimizerSettings:
        """Adam, its rate held for one half of the stage and falling to 0 in the other."""
        return _optimizer_settings(stage, self.config)


#: The authors' names and ours.
_RULES = (
    (r"encoder_1\.1", "encoder.1"),
    (r"encoder_1\.2", "encoder.2"),
    (r"encoder_2\.0", "encoder.4"),
    (r"encoder_2\.1", "encoder.5"),
    (r"encoder_3\.0", "encoder.7"),
    (r"encoder_3\.1", "encoder.8"),
    (r"decoder_1\.0", "decoder.0"),
    (r"decoder_1\.1", "decoder.1"),
    (r"decoder_2\.0", "decoder.3"),
    (r"decoder_2\.1", "decoder.4"),
    (r"decoder_3\.1", "decoder.7"),
    (r"transformer_encoder\.encoder_norm", "transformer.norm"),
    (r"transformer_encoder\.layer\.(\d+)\.attention_norm", r"transformer.layers.\1.attention_norm"),
    (r"transformer_encoder\.layer\.(\d+)\.ffn_norm", r"transformer.layers.\1.perceptron_norm"),
    (r"transformer_encoder\.layer\.(\d+)\.ffn\.fc1", r"transformer.layers.\1.expand"),
    (r"transformer_encoder\.layer\.(\d+)\.ffn\.fc2", r"transformer.layers.\1.shrink"),
    (r"transformer_encoder\.layer\.(\d+)\.attn\.(query|key|value)", r"transformer.layers.\1.\2"),
    (r"transformer_encoder\.layer\.(\d+)\.attn\.out", r"transformer.layers.\1.project"),
    (r"art_(\d)\.downsample\.(\d)", r"blocks.\1.context.down.\2"),
    (r"art_(\d)\.embeddings\.patch_embeddings", r"blocks.\1.context.embed"),
    (r"art_(\d)\.embeddings\.positional_encoding", r"blocks.\1.context.position"),
    (r"art_(\d)\.upsample\.(\d)", r"blocks.\1.context.up.\2"),
    (r"art_(\d)\.cc\.block\.(\d)", r"blocks.\1.context.compress.\2"),
    (r"art_(\d)\.cc\.skip\.(\d)", r"blocks.\1.context.shortcut.\2"),
    (r"art_(\d)\.residual_cnn\.0\.conv_block\.(\d)", r"blocks.\1.residual.\2"),
)


def _our_name(theirs: str) -> str:
    """Our name of a weight of the authors' generator, or discriminator if it begins so."""
    if match := re.fullmatch(r"discriminator\.model\.(.*)", theirs):
        return f"discriminator.{match[1]}"
    for pattern, name in _RULES:
        if match := re.match(rf"{pattern}(?=\.|$)", theirs):
            new = match.expand(name) + theirs[match.end() :]
            # Blocks are counted from 1 there.
            return "generator." + re.sub(r"^blocks\.(\d)", lambda found: f"blocks.{int(found[1]) - 1}", new)
    raise KeyError(theirs)
