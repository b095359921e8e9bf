"""HF-GAN: any missing sequence from any present ones, by early and late fusion and an infuser of the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated, Any, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from anymri.bounds import Layers, Rate, Size, Weight, Width, Widths
from anymri.nn.fusion import spread
from anymri.nn.modality_infuser import ModalityInfuser
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

__all__ = ["HFGAN", "HFGANConfig"]

#: Groups of every group norm.
GROUPS = 8
#: Value of background, which stands for a missing sequence.
BACKGROUND = -1.0
#: Steps of both optimisers over which the rate rises.
WARMUP_STEPS = 100


@dataclass(frozen=True, kw_only=True)
class HFGANConfig(MethodConfig):
    """Settings of HF-GAN; defaults are the released code's.

    Parameters
    ----------
    size : tuple of int
        Slices (H, W) in voxels, multiples of 16; position tables and the discriminator's last kernel fit no other.
    width : int
        Channels of the first layer and of the discriminator's, a multiple of 8.
    multipliers : tuple of int
        Channels of each level in units of `width`; all but the last level halve the image.
    layers, heads : int
        Of the transformer that infuses the target.
    dropout : float
        In the transformer.
    first_channel_attention : bool
        With two or more sequences, weight all channels of a sequence by the attention of the first one, as the released
        code does by a slip of an index; else each by its own.
    reconstruction_weight, adversarial_weight, class_weight, feature_weight, cycle_weight : float
        Weights of the loss terms.
    lr, discriminator_lr : float
        Learning rates.
    """

    size: tuple[Size, Size] = (240, 240)
    width: Width = 64
    multipliers: Widths = (1, 2, 4, 8, 10)
    layers: Layers = 4
    heads: Layers = 16
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    first_channel_attention: bool = False
    reconstruction_weight: Weight = 10.0
    adversarial_weight: Weight = 0.25
    class_weight: Weight = 0.25
    feature_weight: Weight = 1.0
    cycle_weight: Weight = 1.0
    lr: Rate = 1e-4
    discriminator_lr: Rate = 1e-5


class _Block(nn.Module):
    """Group norm, SiLU and convolution, added to the input."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, in_channels)
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.silu(self.norm(x))) + self.shortcut(x)


class _Encoder(nn.Module):
    """Maps of every level, finest first, of slices (N, channels, H, W)."""

    def __init__(self, channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList(_Block(*pair) for pair in pairwise(widths))
        self.halve = nn.ModuleList(nn.Conv2d(width, width, 3, 2) for width in widths[1:-1])

    def forward(self, x: Tensor) -> list[Tensor]:
        x, maps = self.first(x), []
        for level, block in enumerate(self.blocks):
            if level:
                x = self.halve[level - 1](F.pad(x, (0, 1, 0, 1)))
            x = block(x)
            maps.append(x)
        return maps


class _Decoder(nn.Module):
    """One slice from the infused features and the maps of all levels but the finest."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        coarse_first = list(pairwise(reversed(widths[1:])))
        self.blocks = nn.ModuleList(_Block(2 * before, after) for before, after in coarse_first)
        self.enlarge = nn.ModuleList(nn.Conv2d(after, after, 3, padding=1) for _, after in coarse_first)
        self.finest = _Block(widths[0], widths[0])
        self.norm = nn.GroupNorm(GROUPS, widths[0])
        self.last = nn.Conv2d(widths[0], 1, 1)

    def forward(self, x: Tensor, maps: Sequence[Tensor]) -> Tensor:
        for block, enlarge, skipped in zip(self.blocks, self.enlarge, reversed(maps), strict=True):
            x = block(torch.cat([x, skipped], dim=1))
            x = enlarge(F.interpolate(x, scale_factor=2, mode="nearest"))
        return self.last(F.silu(self.norm(self.finest(x))))


class _ChannelAttention(nn.Sequential):
    """A weight in [0, 1] of every channel, (N, C, 1, 1), from its mean over the slice."""

    def __init__(self, channels: int) -> None:
        super().__init__(nn.Conv2d(channels, channels, 1), nn.SiLU(), nn.Conv2d(channels, channels, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.mean(dim=(2, 3), keepdim=True))


class _Generator(nn.Module):
    """Early encoder of all sequences, an encoder of each, their fusion, infuser and decoder; on slices."""

    def __init__(self, codes: tuple[str, ...], config: HFGANConfig) -> None:
        super().__init__()
        widths = (config.width, *(config.width * factor for factor in config.multipliers))
        self.early = _Encoder(len(codes), widths)
        self.encoders = nn.ModuleDict({code: _Encoder(1, widths) for code in codes})
        self.attention = nn.ModuleDict({code: _ChannelAttention(widths[-1]) for code in (*codes, "early")})
        self.join = nn.Conv2d(2 * widths[-1], widths[-1], 1)
        places = (config.size[0] // 2 ** (len(widths) - 2)) * (config.size[1] // 2 ** (len(widths) - 2))
        self.infuser = ModalityInfuser(len(codes), places, widths[-1], config.layers, config.heads, config.dropout)
        self.decoder = _Decoder(widths)
        self.first_channel = config.first_channel_attention

    def encode(self, image: Tensor, shown: Tensor) -> dict[str, list[Tensor]]:
        """Maps of every sequence that a row shows, from slices (N, M, H, W)."""
        image = torch.where(spread(shown, 4), image, BACKGROUND)
        return {
            code: encoder(image[:, i : i + 1])
            for i, (code, encoder) in enumerate(self.encoders.items())
            if shown[:, i].any()
        }

    def fuse(self, image: Tensor, shown: Tensor, streams: dict[str, list[Tensor]]) -> tuple[Tensor, list[Tensor]]:
        """Fused features and the maps that the decoder takes, of the shown sequences alone.

        Notes
        -----
        With features f and attention A of every sequence, and f_e, A_e of all together, the fused features are a
        convolution of s = sum A f + A_e f_e beside h = sum softmax(A) f + f_e. A single sequence goes without f_e.
        """
        early = self.early(torch.where(spread(shown, 4), image, BACKGROUND))
        several = spread(shown.sum(dim=1) > 1, 4)
        columns = [i for i, code in enumerate(self.encoders) if code in streams and bool(shown[:, i].any())]
        codes, masks = list(self.encoders), [spread(shown[:, i], 4) for i in columns]
        own = [streams[codes[i]] for i in columns]
        attention = torch.stack([self.attention[codes[i]](maps[-1]) for i, maps in zip(columns, own, strict=True)])
        if self.first_channel:
            attention = torch.where(several, attention[:, :, :1], attention)
        share = attention.masked_fill(~torch.stack(masks), -torch.inf).softmax(dim=0)
        kept = [torch.where(mask, maps[-1], 0.0) for mask, maps in zip(masks, own, strict=True)]
        stacked = torch.stack(kept)
        together = torch.where(several, early[-1], 0.0)
        summed = (attention * stacked).sum(dim=0) + self.attention["early"](early[-1]) * together
        mixed = (share * stacked).sum(dim=0) + together
        count = spread(shown.sum(dim=1), 4)
        maps = [
            torch.stack([torch.where(mask, s[level], 0.0) for mask, s in zip(masks, own, strict=True)]).sum(dim=0)
            / count
            + torch.where(several, early[level], 0.0)
            for level in range(1, len(early))
        ]
        return self.join(torch.cat([summed, mixed], dim=1)), maps

    def make(self, fused: Tensor, maps: list[Tensor], target: Tensor) -> Tensor:
        """Slices (N, 1, H, W) of the one-hot target (N, M)."""
        return self.decoder(self.infuser(fused, target), maps)


class _Discriminator(nn.Module):
    """PatchGAN that also says which sequence a slice shows; gives scores and logits (N, M)."""

    def __init__(self, modalities: int, width: int, size: tuple[int, int]) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width, 8 * width)
        self.first = nn.Conv2d(1, width, 4, 2, 1)
        self.levels = nn.ModuleList(
            nn.Conv2d(before, after, 4, 1 if after == widths[-1] else 2, 1, bias=False)
            for before, after in pairwise(widths)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(GROUPS, after) for after in widths[1:])
        self.score = nn.Conv2d(widths[-1], 1, 4, 1, 1, bias=False)
        self.classifier = nn.Conv2d(widths[-1], modalities, (size[0] // 8 - 1, size[1] // 8 - 1), bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.leaky_relu(self.first(x), 0.2)
        for level, norm in zip(self.levels, self.norms, strict=True):
            x = F.leaky_relu(norm(level(x)), 0.2)
        return self.score(x), self.classifier(x).flatten(1)


def _judge(given: tuple[Tensor, Tensor], real: bool, code: Tensor) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy of the scores, and cross-entropy of the sequence."""
    score, logits = (part.float() for part in given)
    return F.binary_cross_entropy_with_logits(score, torch.full_like(score, real)), F.cross_entropy(logits, code)


class HFGAN(Method[HFGANConfig]):
    """HF-GAN [1]_: synthesis of any missing sequence from any present ones, slice by slice.

    Parameters
    ----------
    config : HFGANConfig
    spec : DataSpec
        At least two modalities.

    Notes
    -----
    One encoder sees all present sequences at once, with background for the others; one more sees each sequence alone.
    Channel attention fuses their coarsest maps (`_Generator.fuse`), a transformer that is told the target turns them
    into features of it, and one decoder makes the slice, with the mean of the present sequences' maps and the early
    encoder's beside it. A single sequence goes through its own encoder alone.

    A step makes one target of each row, then makes one of the row's sequences again with the synthesis among the
    inputs. The generator minimises 10 times the mean absolute error, a quarter of the binary cross-entropy of the
    discriminator's scores, a quarter of its cross-entropy about which sequence it sees, the distance (1 - cosine) of
    the fused features of both passes and the mean absolute error of the second. A row with several sequences gives the
    second pass all others, hidden ones too; one with a single sequence the synthesis alone.

    Authors' kernels are taken as they are: how their slices are turned is not stated.

    References
    ----------
    .. [1] Cho, Woo, Park, "Principled Feature Disentanglement for High-Fidelity Unified Brain MRI Synthesis", 2024,
       arXiv:2406.14954.
    """

    name = "hf_gan"
    info = MethodInfo(
        title="HF-GAN",
        family="synthesis",
        task="synthesis",
        year=2024,
        reference="Cho et al., arXiv 2024",
        arxiv="2406.14954",
        code="https://github.com/SSTDV-Project/HF-GAN",
        parity="1e-4",
        novelty="Early and late fusion side by side; a transformer turns what is fused into features of the target.",
        weakness="Slices of one size; complete cases only; an early encoder whose input changes with the subset.",
        deviations=(
            "each channel is weighted by its own attention; theirs by that of the first (`first_channel_attention`)",
            "half of the rows, drawn, show several sequences; theirs the first half of a batch, none of a batch of one",
            "a step makes one target; theirs all four in turn on the same slices, with a step after each",
            "batch size and number of slices of the published runs unknown; four and 8000 steps an epoch are ours",
            "each sequence's own brain from [least, largest] to [-1, 1]; how their slices were scaled is unknown",
            "slices are padded; how theirs come to 240 x 240 elsewhere than in BraTS is not stated",
            "the rate's warm-up overlaps the cosine's first steps; theirs begins the cosine after it",
        ),
        untrained={
            r"generator\.infuser\.layers\.\d+\.lost_key_bias": "softmax takes it away; kept for the authors' weights",
        },
        learns_from_hidden={
            "reconstruction": "what is hidden is the target",
            "feature|cycle": "the second pass sees all other sequences beside the synthesis",
        },
    )
    presets = {
        "paper": Preset(
            (
                Stage(
                    "train",
                    epochs=100,
                    batch_size=4,
                    patch=(1, 240, 240),
                    sampler="one_or_several",
                    steps_per_epoch=8000,
                    augment="none",
                    foreground=0.0,
                ),
            )
        ),
        "tiny": Preset(
            (Stage("train", 30, 1, (8, 64, 64), "one_or_several", steps_per_epoch=50, augment="none", foreground=0.0),),
            {
                "size": (64, 64),
                "width": 8,
                "multipliers": (1, 2, 2, 4, 4),
                "layers": 2,
                "heads": 4,
                "lr": 2e-3,
                "discriminator_lr": 2e-4,
            },
        ),
    }
    outputs = ("image",)
    needs = "complete"
    spatial_dims = 2
    intensity = Intensity("symmetric")

    def __init__(self, config: HFGANConfig, spec: DataSpec = GLIOMA) -> None:
        step = 2 ** (len(config.multipliers) - 1)
        if any(side % step or side < 24 for side in config.size):
            raise UserError(f"method.config.size = {list(config.size)}: give multiples of {step} from 24 on")
        super().__init__(config, spec)
        codes = spec.modalities
        if len(codes) < 2:
            raise UserError(f"hf_gan: with {codes[0]} alone there is nothing to synthesise; add a sequence")
        self.divisor = step
        self.stages = tuple(replace(stage, patch=(cast(Any, stage.patch)[0], *config.size)) for stage in self.stages)
        self.patch = (8, *config.size)
        self.generator = _Generator(codes, config)
        self.discriminator = _Discriminator(len(codes), config.width, config.size)

    # ------------------------------------------------------------------------------------------------ prediction

    def encode(self, image: Tensor, available: Tensor, where: Where | None = None) -> Features:
        """Maps of every sequence by itself, and the image, which the early encoder sees in `decode`."""
        if image.shape[3:] != self.config.size:
            have, want = ("x".join(map(str, size)) for size in (image.shape[3:], self.config.size))
            raise UserError(f"hf_gan: slices of {have} voxels, not {want}; set method.config.size, not training.patch")
        image = zero_absent(image, available)
        shown = available.repeat_interleave(image.shape[2], dim=0)
        streams = self.generator.encode(to_slices(image), shown)
        depth = image.shape[2]
        return {"image": image, **{code: [m.unflatten(0, (-1, depth)) for m in maps] for code, maps in streams.items()}}

    def decode(self, features: Features, available: Tensor, request: Request = EVERYTHING) -> Prediction:
        """Every missing sequence; deterministic. See `Method.decode`."""
        image, depth = features["image"], features["image"].shape[2]
        made = image.new_full(image.shape, torch.nan)
        missing = ~available
        if missing.any():
            shown = available.repeat_interleave(depth, dim=0)
            streams = {code: [m.flatten(0, 1) for m in maps] for code, maps in features.items() if code != "image"}
            fused, maps = self.generator.fuse(to_slices(image), shown, streams)
            for i in missing.any(dim=0).nonzero().flatten().tolist():
                target = torch.zeros_like(shown)
                target[:, i] = True
                one = from_slices(self.generator.make(fused, maps, target), depth)[:, 0]
                made[:, i] = torch.where(spread(missing[:, i], 4), one.to(made.dtype), torch.nan)
        return Prediction(image=made, synthesised=missing)

    # ---------------------------------------------------------------------------------------------------- training

    def turns(self, stage: Stage) -> dict[str, list[dict[str, Any]]]:
        """The generator, then the discriminator."""
        return {
            "generator": [{"params": list(self.generator.parameters())}],
            "discriminator": [{"params": list(self.discriminator.parameters())}],
        }

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        """Make one target and then one source again, or tell made from real slices and which sequence they show."""
        image, depth = to_slices(batch.image), batch.image.shape[2]
        target, second = (draw.repeat_interleave(depth) for draw in self._draw(batch, ctx))
        shown = batch.available.repeat_interleave(depth, dim=0) & ~_one_hot(target, image.shape[1])
        again = image.gather(1, second[:, None, None, None].expand(-1, 1, *image.shape[2:]))
        if ctx.turn == "discriminator":
            made = ctx.shared.get("made")
            if made is None:
                with torch.no_grad():
                    made = self._make(image, shown, target)[0]
            real_score, real_class = _judge(self.discriminator(again), True, second)
            fake_score, fake_class = _judge(self.discriminator(made.to(again)), False, target)
            terms = {"real": real_score, "fake": fake_score, "real_class": real_class, "fake_class": fake_class}
            weights = (self.config.adversarial_weight,) * 2 + (self.config.class_weight,) * 2
            return StepOutput.of(terms, dict(zip(terms, weights, strict=True)))
        made, fused = self._make(image, shown, target)
        ctx.shared["made"] = made.detach()
        made = made.float()
        # The second pass: all but what it makes, the synthesis among them; of a single source the synthesis alone.
        chosen, several = _one_hot(target, image.shape[1]), shown.sum(dim=1, keepdim=True) > 1
        completed = torch.where(spread(chosen, 4), made, image)
        remade, refused = self._make(completed, torch.where(several, ~_one_hot(second, image.shape[1]), chosen), second)
        score, classes = _judge(self.discriminator(made), True, target)
        wanted = image.gather(1, target[:, None, None, None].expand_as(again))
        terms = {
            "reconstruction": F.l1_loss(made, wanted),
            "adversarial": score,
            "class": classes,
            "feature": 1 - F.cosine_similarity(fused.float().flatten(1), refused.float().flatten(1)).mean(),
            "cycle": F.l1_loss(remade.float(), again),
        }
        return StepOutput.of(terms, {name: getattr(self.config, f"{name}_weight") for name in terms})

    def _make(self, image: Tensor, shown: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Slices of the target, and the fused features."""
        image = torch.where(spread(shown, 4), image, 0.0)
        fused, maps = self.generator.fuse(image, shown, self.generator.encode(image, shown))
        return self.generator.make(fused, maps, _one_hot(target, image.shape[1])), fused

    def _draw(self, batch: Batch, ctx: StepContext) -> tuple[Tensor, Tensor]:
        """A missing sequence of every row to make first, and a shown one to make again; kept over both turns."""
        if "target" not in ctx.shared:
            shown = batch.available.cpu()
            hidden = torch.where(shown.all(dim=1, keepdim=True), shown, ~shown)
            target = torch.multinomial(hidden.float(), 1, generator=ctx.generator)
            sources = shown.scatter(1, target, False)
            second = torch.multinomial(sources.float(), 1, generator=ctx.generator)
            drawn = {"target": target, "second": second}
            ctx.shared.update({name: value[:, 0].to(batch.available.device) for name, value in drawn.items()})
        return ctx.shared["target"], ctx.shared["second"]

    def optimizer_settings(self, stage: Stage, turn: str) -> OptimizerSettings:
        """Adam, its rate rising over 100 steps and falling to 0 along half a cosine; the discriminator's is a tenth."""
        lr = self.config.lr if turn == "generator" else self.config.discriminator_lr
        warmup = min(1.0, WARMUP_STEPS / (stage.epochs * (stage.steps_per_epoch or 1)))
        return OptimizerSettings("adam", lr=lr, schedule="cosine", warmup=warmup)


def _one_hot(index: Tensor, count: int) -> Tensor:
    return F.one_hot(index, count).bool()
