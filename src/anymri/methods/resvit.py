"""ResViT: residual vision transformer for synthesis, one network per sources and target, or a unified one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, TypeVar, cast

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from anymri.bounds import Layers, LayersByLevel, Rate, Size, Weight, Width
from anymri.losses.adversarial import deceive, judge
from anymri.losses.reconstruction import masked_l1
from anymri.nn.residual_transformer import (
    KEY_BIAS,
    KEY_BIAS_REASON,
    TOKEN,
    ResViTDiscriminator,
    ResViTGenerator,
    check_size,
    networks_in_turn,
    synthesise,
)
from anymri.nn.slices import to_slices
from anymri.protocol.method import Method, MethodConfig, MethodInfo, Preset, StepContext, zero_absent
from anymri.protocol.per_subset import PerSubset, predict_target, with_target
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

__all__ = ["ResViT", "ResViTConfig", "UnifiedResViT", "UnifiedResViTConfig"]


@dataclass(frozen=True, kw_only=True)
class UnifiedResViTConfig(MethodConfig):
    """Settings of the unified ResViT; defaults are the released code's.

    Parameters
    ----------
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
        Weights of the mean absolute error and of the adversarial term.
    lr, lr_transformers : float
        Of the two stages.
    """

    size: tuple[Size, Size] = (256, 256)
    width: Width = 64
    blocks: Layers = 9
    transformer_blocks: LayersByLevel = (1, 6)
    hidden: Width = 768
    heads: Layers = 12
    layers: Layers = 12
    mlp: Width = 3072
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    judge_width: Width = 64
    l1_weight: Weight = 100.0
    adversarial_weight: Weight = 1.0
    lr: Rate = 2e-4
    lr_transformers: Rate = 1e-3


@dataclass(frozen=True, kw_only=True)
class ResViTConfig(UnifiedResViTConfig):
    """Settings of ResViT: those of `UnifiedResViTConfig`, and what to make.

    Parameters
    ----------
    target : str or None, default=None
        Modality to synthesise from those of `subset`; None = the last one outside it.
    """

    target: str | None = None


def _presets(sampler: str) -> dict[str, Preset]:
    """Both presets: slices from anywhere in the brain, mirrored from left to right, first without transformers."""
    stage = partial(Stage, batch_size=1, sampler=sampler, augment="left_right", foreground=0.0)
    # 25 subjects with 100 slices each: 100 epochs without transformers, 50 with them.
    paper = (
        stage("convolutions", 100, patch=(1, 256, 256), steps_per_epoch=2500),
        stage("transformers", 50, patch=(1, 256, 256), steps_per_epoch=2500),
    )
    tiny = (
        stage("convolutions", 20, patch=(8, 64, 64), steps_per_epoch=50),
        stage("transformers", 10, patch=(8, 64, 64), steps_per_epoch=50),
    )
    small = {
        "size": (64, 64),
        "width": 8,
        "blocks": 4,
        "transformer_blocks": (1, 3),
        "hidden": 48,
        "heads": 4,
        "layers": 2,
        "mlp": 96,
        "judge_width": 8,
        "lr": 2e-3,
    }
    return {"paper": Preset(paper), "tiny": Preset(tiny, small)}


ConfigT = TypeVar("ConfigT", bound=UnifiedResViTConfig)


class _ResViTBase(Method[ConfigT]):
    """Common part of both ResViTs: slices of one size, two networks, two stages."""

    outputs = ("image",)
    spatial_dims = 2
    divisor = TOKEN
    intensity = Intensity("deviations")
    generator: ResViTGenerator
    discriminator: ResViTDiscriminator

    def __init__(self, config: ConfigT, spec: DataSpec = GLIOMA) -> None:
        check_size(config)
        super().__init__(config, spec)
        self.stages = tuple(replace(stage, patch=(cast(Any, stage.patch)[0], *config.size)) for stage in self.stages)
        self.patch = (8, *config.size)

    def turns(self, stage: Stage) -> dict[str, list[dict[str, Any]]]:
        """The discriminator, then the generator, at first without its transformers."""
        return networks_in_turn(self.generator, self.discriminator, stage.name == "transformers")

    def optimizer_settings(self, stage: Stage, turn: str) -> OptimizerSettings:
        """Adam, its rate held for one half of the stage and falling to 0 in the other."""
        lr = self.config.lr if stage.name == "convolutions" else self.config.lr_transformers
        return OptimizerSettings("adam", lr=lr, betas=(0.5, 0.999), schedule="poly", power=1.0, hold=0.5)


class ResViT(_ResViTBase[ResViTConfig], PerSubset[ResViTConfig]):
    """ResViT [1]_: synthesis of one sequence from one or several others, slice by slice.

    Parameters
    ----------
    config : ResViTConfig
        `subset` names the sources, `target` what is made of them.
    spec : DataSpec

    Notes
    -----
    One instance serves one subset and makes one sequence; `PerSubsetModels` joins several. Two convolutions halve the
    slice; of nine residual blocks the first and the sixth also look at the whole slice: its maps become tokens for a
    transformer, which the two blocks share, and its answer is joined with the maps and compressed. The loss is 100
    times the mean absolute error plus a least-squares adversarial term; the discriminator sees sources and target.

    The network is first trained without transformers, then with them; each stage holds its rate for one half and
    lowers it to 0 in the other. The key's bias, without effect, is kept for the authors' weights and not added.
    Their batch norms see one slice at a time, so their running statistics are not taken over.

    Authors' kernels are taken as they are: how their slices are turned is not stated.

    References
    ----------
    .. [1] Dalmaz, Yurt, Cukur, "ResViT: Residual Vision Transformers for Multimodal Medical Image Synthesis",
       IEEE Transactions on Medical Imaging 41(10), 2022, arXiv:2106.16031.
    """

    name = "resvit"
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
        novelty="Transformers beside convolutions in residual blocks: far context without loss of local precision.",
        weakness="Slices of one size, and one network per sources and target.",
        deviations=(
            "transformers start from random weights, not from ImageNet-21k",
            "the discriminator keeps its weights in the second stage; theirs begins anew",
            "five standard deviations to [-1, 1] inside each sequence's own brain; theirs is not stated",
            "slices are padded, not resized",
            "the rate falls every step from a stage's middle; theirs every epoch, and is 0 in the last",
            "instance norms in prediction too, as in effect theirs: one slice in training mode",
            "dropout is off in prediction; their test script leaves it on",
        ),
        untrained={KEY_BIAS: KEY_BIAS_REASON},
        learns_from_hidden={"l1": "the sequence to be made is the target", "real": "the discriminator knows it"},
    )
    presets = _presets("all")

    def __init__(self, config: ResViTConfig, spec: DataSpec = GLIOMA) -> None:
        config = with_target(self.name, config, spec)
        super().__init__(config, spec)
        self.target = cast(str, config.target)
        self.needs = (*self.subset_modalities, self.target)
        self.generator = ResViTGenerator(len(self.subset_modalities), 1, config)
        self.discriminator = ResViTDiscriminator(len(self.subset_modalities) + 1, config.judge_width)

    def predict_subset(self, sources: Tensor, available: Tensor) -> Prediction:
        """The target."""
        return predict_target(synthesise(self.generator, sources, self.config), self.target, self.spec)

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        """Make the target, or tell made from real ones."""
        sources = self.take_own(batch.image, batch.present)
        real = batch.image[:, self.spec.index(self.target), None]
        with torch.set_grad_enabled(ctx.turn == "generator"):
            made = synthesise(self.generator, sources, self.config, ctx.stage.name == "transformers")
        if ctx.turn == "discriminator":
            terms = judge(self.discriminator, *map(to_slices, (sources, made, real)))
            loss = 0.5 * self.config.adversarial_weight * (terms["fake"] + terms["real"])
        else:
            terms = {
                "gan": self.config.adversarial_weight
                * deceive(self.discriminator, to_slices(sources), to_slices(made)),
                "l1": self.config.l1_weight * F.l1_loss(made.float(), real),
            }
            loss = terms["gan"] + terms["l1"]
        return StepOutput(loss, {key: term.detach() for key, term in terms.items()})


class UnifiedResViT(_ResViTBase[UnifiedResViTConfig]):
    """Unified ResViT [1]_: any-to-any synthesis with one network.

    Parameters
    ----------
    config : UnifiedResViTConfig
    spec : DataSpec
        At least two modalities.

    Notes
    -----
    The paper's unified variant of `ResViT`: all sequences are channels of the input, missing ones set to 0, and all are
    channels of the output. The loss adds 100 times the mean absolute error of what is missing (*pixel*), 100 times that
    of what is shown (*reconstruction*), and the adversarial term. The released code does not have it. Every subset is
    as likely as another, and the discriminator sees the shown sequences beside the missing ones, made or real, each set
    to 0 where the other is.

    Networks and stages are those of `ResViT`.

    References
    ----------
    .. [1] Dalmaz, Yurt, Cukur, "ResViT: Residual Vision Transformers for Multimodal Medical Image Synthesis",
       IEEE Transactions on Medical Imaging 41(10), 2022, arXiv:2106.16031.
    """

    name = "resvit_unified"
    info = replace(
        ResViT.info,
        title="ResViT (unified)",
        parity="interpretation (no code)",
        weakness="Slices of one size; what is shown and what is missing share one network without telling it which.",
        deviations=(
            *ResViT.info.deviations,
            "how subsets are drawn (here: all alike) and what the discriminator sees are not published; ours",
            "sequences that a subject lacks enter no term, so incomplete cohorts may train",
        ),
        learns_from_hidden={
            "pixel": "what is hidden is the target",
            "gan|real|fake": "the discriminator judges what is made of it",
        },
    )
    presets = _presets("uniform_subset")

    def __init__(self, config: UnifiedResViTConfig, spec: DataSpec = GLIOMA) -> None:
        super().__init__(config, spec)
        channels = len(spec.modalities)
        if channels < 2:
            raise UserError(
                f"resvit_unified: with {spec.modalities[0]} alone there is nothing to synthesise; add a sequence"
            )
        self.generator = ResViTGenerator(channels, channels, config)
        self.discriminator = ResViTDiscriminator(2 * channels, config.judge_width)

    def encode(self, image: Tensor, available: Tensor, where: Where | None = None) -> Features:
        """The image: the network joins the sequences from the first layer on. See `Method.encode`."""
        return {"image": zero_absent(image, available)}

    def decode(self, features: Features, available: Tensor, request: Request = EVERYTHING) -> Prediction:
        """All sequences, those shown reconstructed; deterministic. See `Method.decode`."""
        made = synthesise(self.generator, zero_absent(features["image"], available), self.config)
        return Prediction(image=made, synthesised=torch.ones_like(available))

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        """Make what is missing and what is shown, or tell made from real ones."""
        shown, missing = batch.available, batch.present & ~batch.available
        sources = zero_absent(batch.image, shown)
        with torch.set_grad_enabled(ctx.turn == "generator"):
            made = synthesise(self.generator, sources, self.config, ctx.stage.name == "transformers")
        weight = self.config.adversarial_weight
        if ctx.turn == "discriminator":
            terms = judge(
                self.discriminator, *map(to_slices, (sources, *(zero_absent(x, missing) for x in (made, batch.image))))
            )
            loss = 0.5 * weight * (terms["fake"] + terms["real"])
        else:
            real = zero_absent(batch.image, batch.present)
            where = {"pixel": missing, "reconstruction": shown}
            errors = {
                name: masked_l1(made.float(), real, rows[..., None, None, None].expand_as(real))
                for name, rows in where.items()
            }
            terms = {
                "gan": weight * deceive(self.discriminator, to_slices(sources), to_slices(zero_absent(made, missing)))
            }
            terms |= {name: self.config.l1_weight * error for name, error in errors.items()}
            loss = torch.stack(list(terms.values())).sum()
        return StepOutput(loss, {key: term.detach() for key, term in terms.items()})
