"""Hi-Net: one sequence from exactly two others, fused as sum, product and maximum at every scale."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anymri.bounds import PositiveNumber, Rate, Weight, Width
from anymri.losses.adversarial import least_squares
from anymri.nn.slices import from_slices, to_slices
from anymri.protocol.method import MethodConfig, MethodInfo, Preset, StepContext
from anymri.protocol.per_subset import PerSubset, predict_target, with_target
from anymri.types import GLIOMA, Batch, DataSpec, Intensity, OptimizerSettings, Prediction, Stage, StepOutput

__all__ = ["HiNet", "HiNetConfig"]

#: Edge of the discriminator's last kernel.
LAST_KERNEL = 3


@dataclass(frozen=True, kw_only=True)
class HiNetConfig(MethodConfig):
    """Settings of Hi-Net; defaults are the released code's.

    Parameters
    ----------
    target : str or None, default=None
        Modality to synthesise from the two of `subset`; None = the last one outside it.
    width : int
        Channels of the generator's finest level; the coarsest has eight times as many.
    discriminator_width : int
        Channels of the discriminator's first layer.
    discriminator_eps : float
        Added to the variance in the discriminator's batch norms. The released code has 0.8 there, where a momentum was
        meant: ``discriminator_eps=0.8`` repeats it.
    l1_weight, reconstruction_weight : float
        Weights of the mean absolute errors of the target and of each source.
    initial_deviation : float
        Standard deviation of fresh kernels.
    lr : float
        Learning rate of both turns.
    """

    target: str | None = None
    width: Width = 32
    discriminator_width: Width = 32
    discriminator_eps: PositiveNumber = 1e-5
    l1_weight: Weight = 100.0
    reconstruction_weight: Weight = 20.0
    initial_deviation: PositiveNumber = 0.02
    lr: Rate = 1e-3


class _Conv(nn.Module):
    """Convolution, batch norm, leaky ReLU; a slope of 0 is a ReLU."""

    def __init__(self, in_channels: int, out_channels: int, slope: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(out_channels)
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.norm(self.conv(x)), self.slope)


class _Encoder(nn.Module):
    """Three levels of one sequence: two convolutions, then the larger of four neighbours; gives all pooled maps."""

    def __init__(self, width: int) -> None:
        super().__init__()
        sizes = (1, width, 2 * width, 4 * width)
        self.levels = nn.ModuleList(
            nn.Sequential(_Conv(before, after, 0.2), _Conv(after, after, 0.2)) for before, after in pairwise(sizes)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        pooled = []
        for level in self.levels:
            x = F.max_pool2d(level(x), 2)
            pooled.append(x)
        return pooled


class _Reconstruction(nn.Module):
    """Decoder that gives a source back from its own coarsest map."""

    def __init__(self, width: int) -> None:
        super().__init__()
        sizes = [width * factor for factor in (4, 4, 4, 2, 2, 1, 1)]
        self.layers = nn.ModuleList(_Conv(before, after, 0.0) for before, after in pairwise(sizes))
        self.last = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        for number, layer in enumerate(self.layers):
            x = layer(_double(x) if number % 2 else x)
        return self.last(x).tanh()


class _Fusion(nn.Module):
    """Mixed fusion block: sum, product and maximum of both sequences, then what was fused before."""

    def __init__(self, in_channels: int, out_channels: int, slope: float, first: bool = False) -> None:
        super().__init__()
        self.mix = _Conv(3 * in_channels, in_channels, slope)
        self.join = _Conv((1 if first else 2) * in_channels, out_channels, slope)

    def forward(self, one: Tensor, other: Tensor, before: Tensor | None = None) -> Tensor:
        mixed = self.mix(torch.cat([one + other, one * other, torch.maximum(one, other)], dim=1))
        return self.join(mixed if before is None else torch.cat([mixed, before], dim=1))


class _Generator(nn.Module):
    """Two streams and what fuses them; slices (N, 1, H, W) of both sequences to one of the target."""

    def __init__(self, codes: tuple[str, ...], width: int) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict({code: _Encoder(width) for code in codes})
        self.reconstructions = nn.ModuleDict({code: _Reconstruction(width) for code in codes})
        self.fuse_down = nn.ModuleList(
            _Fusion(before * width, after * width, 0.2, first=number == 0)
            for number, (before, after) in enumerate(((1, 2), (2, 4), (4, 4)))
        )
        self.bottom = nn.ModuleList((_Conv(4 * width, 8 * width, 0.2), _Conv(8 * width, 4 * width, 0.0)))
        self.fuse_up = nn.ModuleList(
            _Fusion(before * width, after * width, 0.0) for before, after in ((4, 2), (2, 1), (1, 1))
        )
        self.finest = _Conv(width, width, 0.0)
        self.last = nn.Conv2d(width, 1, 3, padding=1)

    def encode(self, sources: Tensor) -> list[list[Tensor]]:
        """Pooled maps of both sequences, finest first, from slices (N, 2, H, W)."""
        return [encoder(sources[:, i : i + 1]) for i, encoder in enumerate(self.encoders.values())]

    def forward(self, maps: list[list[Tensor]]) -> Tensor:
        """The target from `encode`'s maps."""
        pairs = list(zip(*maps, strict=True))
        x = self.fuse_down[0](*pairs[0])
        for fuse, pair in zip(list(self.fuse_down)[1:], pairs[1:], strict=True):
            x = fuse(*pair, F.max_pool2d(x, 2))
        for conv in self.bottom:
            x = conv(x)
        for fuse, pair in zip(self.fuse_up, reversed(pairs), strict=True):
            x = _double(fuse(*pair, x))
        return self.last(self.finest(x)).tanh()

    def reconstruct(self, maps: list[list[Tensor]]) -> dict[str, Tensor]:
        """Each source from its own coarsest map."""
        streams = zip(self.reconstructions.items(), maps, strict=True)
        return {code: decoder(own[-1]) for (code, decoder), own in streams}


class _Discriminator(nn.Module):
    """PatchGAN of the target alone, four levels that halve it; 6 x 6 scores of 128 x 128 pixels."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        sizes = (1, width, 2 * width, 4 * width, 8 * width)
        self.levels = nn.ModuleList(nn.Conv2d(before, after, 3, 2, 1) for before, after in pairwise(sizes))
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels, eps) for channels in sizes[2:])
        self.last = nn.Conv2d(8 * width, 1, LAST_KERNEL)

    def forward(self, x: Tensor) -> Tensor:
        for level, norm in zip(self.levels, (nn.Identity(), *self.norms), strict=True):
            x = F.leaky_relu(norm(level(x)), 0.2)
        lacking = [max(LAST_KERNEL - side, 0) for side in x.shape[:1:-1]]  # none from 48 pixels on
        return self.last(F.pad(x, (0, lacking[0], 0, lacking[1])))


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")


class HiNet(PerSubset[HiNetConfig]):
    """Hi-Net [1]_: hybrid-fusion GAN that makes one sequence of exactly two others, slice by slice.

    Parameters
    ----------
    config : HiNetConfig
        `subset` names the two sources, `target` what is made of them.
    spec : DataSpec

    Notes
    -----
    One instance serves one pair and makes one sequence; `PerSubsetModels` joins several. Each source has a stream of
    its own, an encoder of three levels that a small decoder must be able to undo. Beside the streams runs the fusion:
    at every level, on the way down and up, a *mixed fusion block* joins sum, product and maximum of both streams' maps
    with what was fused so far. The loss is the least-squares adversarial error, 100 times the mean absolute error of
    the target and 20 times that of each reconstructed source; the discriminator sees the target alone, and as made
    before the generator's step.

    The rate is held for a quarter of the training and falls to 0 in the rest.

    The released metrics put the target's background into the synthesis, take the range of both images for the PSNR and
    call a normalised error the mean squared one; the evaluator's do not. Two sequences are what the fusion is defined
    for: any other number is refused.

    References
    ----------
    .. [1] Zhou, Fu, Chen, Shen, Shao, "Hi-Net: Hybrid-Fusion Network for Multi-Modal MR Image Synthesis", IEEE
       Transactions on Medical Imaging 39(9), 2020, arXiv:2002.05000.
    """

    name = "hi_net"
    info = MethodInfo(
        title="Hi-Net",
        family="synthesis",
        task="synthesis",
        year=2020,
        reference="Zhou et al., IEEE TMI 2020",
        doi="10.1109/TMI.2020.2975344",
        arxiv="2002.05000",
        code="https://github.com/taozh2017/HiNet",
        parity="1e-4",
        novelty="Sum, product and maximum of two streams, fused at every scale; each stream must keep its image.",
        weakness="Exactly two sources and one target a network; slices without depth.",
        deviations=(
            "batch norms of the discriminator add 1e-5 to the variance; theirs 0.8 (`discriminator_eps`)",
            "running statistics in prediction; their test script leaves the network in training mode",
            "crops of 128 x 128 lie anywhere in the brain; theirs are the four corners of 160 x 180 pixels",
            "each sequence's own brain from [least, largest] to [-1, 1]; the code does not say how slices are scaled",
            "number of training slices, and so steps an epoch, unknown; 100 batches of 128 crops are ours",
            "subjects are shuffled; their loader goes through the slices in order",
        ),
        learns_from_hidden={"l1": "the sequence to be made is the target", "real": "the discriminator knows it"},
        couples_rows="batch norms, as in the released code",
    )
    presets = {
        "paper": Preset(
            (Stage("train", 400, 128, (1, 128, 128), "all", steps_per_epoch=100, augment="none", foreground=0.0),)
        ),
        "tiny": Preset(
            (Stage("train", 30, 1, (8, 96, 96), "all", steps_per_epoch=50, augment="none", foreground=0.0),),
            # Of so few channels the published kernels would let next to nothing pass before a norm has seen any.
            {"width": 8, "discriminator_width": 8, "initial_deviation": 0.1},
        ),
    }
    outputs = ("image",)
    spatial_dims = 2
    divisor = 8
    source_count = 2
    intensity = Intensity("symmetric")

    def __init__(self, config: HiNetConfig, spec: DataSpec = GLIOMA) -> None:
        config = with_target(self.name, config, spec, self.source_count)
        super().__init__(config, spec)
        self.target = cast(str, config.target)
        self.needs = (*self.subset_modalities, self.target)
        self.generator = _Generator(self.subset_modalities, config.width)
        self.discriminator = _Discriminator(config.discriminator_width, config.discriminator_eps)
        for part in self.modules():
            if isinstance(part, nn.Conv2d | nn.BatchNorm2d):
                kernel = isinstance(part, nn.Conv2d)
                nn.init.normal_(part.weight, 0.0 if kernel else 1.0, config.initial_deviation if kernel else 0.02)

    def predict_subset(self, sources: Tensor, available: Tensor) -> Prediction:
        """The target."""
        made = self.generator(self.generator.encode(to_slices(sources)))
        return predict_target(from_slices(made, sources.shape[2]), self.target, self.spec)

    # ---------------------------------------------------------------------------------------------------- training

    def turns(self, stage: Stage) -> dict[str, list[dict[str, Any]]]:
        """The generator, then the discriminator."""
        return {
            "generator": [{"params": list(self.generator.parameters())}],
            "discriminator": [{"params": list(self.discriminator.parameters())}],
        }

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        """Make the target and give the sources back, or tell made from real targets."""
        sources = to_slices(self.take_own(batch.image, batch.present))
        real = to_slices(batch.image[:, self.spec.index(self.target), None])
        if ctx.turn == "discriminator":
            made = ctx.shared.get("made")
            if made is None:
                with torch.no_grad():
                    made = self.generator(self.generator.encode(sources))
            score = {"real": least_squares(self.discriminator(real), 1.0)}
            score["fake"] = least_squares(self.discriminator(made.to(real)), 0.0)
            return StepOutput.of(score, dict.fromkeys(score, 0.5))
        maps = self.generator.encode(sources)
        made = self.generator(maps)
        ctx.shared["made"] = made.detach()
        terms = {
            "gan": least_squares(self.discriminator(made), 1.0),
            "l1": F.l1_loss(made.float(), real),
        }
        weights = {"l1": self.config.l1_weight}
        for number, (code, image) in enumerate(self.generator.reconstruct(maps).items()):
            terms[f"reconstruction_{code}"] = F.l1_loss(image.float(), sources[:, number, None])
            weights[f"reconstruction_{code}"] = self.config.reconstruction_weight
        return StepOutput.of(terms, weights)

    def optimizer_settings(self, stage: Stage, turn: str) -> OptimizerSettings:
        """Adam, its rate held for a quarter of the stage, then falling to 0."""
        return OptimizerSettings("adam", lr=self.config.lr, betas=(0.5, 0.999), schedule="poly", power=1.0, hold=0.25)
