"""Unified ResViT: one residual vision transformer for any-to-any synthesis."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, cast

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

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

__all__ = ["UnifiedResViT", "UnifiedResViTConfig"]


#: Slices from anywhere in the brain, mirrored from left to right.
_stage = partial(Stage, batch_size=1, sampler="uniform_subset", augment="left_right", foreground=0.0)


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


class UnifiedResViT(Method):
    """Unified ResViT [1]_: any-to-any synthesis with one network.

    Parameters
    ----------
    config : UnifiedResViTConfig
    spec : DataSpec
        At least two modalities.

    Notes
    -----
    The paper's unified variant (see `anymri.methods.resvit`): all sequences are channels of the input, missing ones
    set to 0, and all are channels of the output. The loss adds 100 times the mean absolute error of what is missing
    (*pixel*), 100 times that of what is shown (*reconstruction*), and the adversarial term. The released code does not
    have it. Every subset is as likely as another, and the discriminator sees the shown sequences beside the missing
    ones, made or real, each set to 0 where the other is.

    Networks and stages are those of `anymri.methods.resvit`.

    References
    ----------
    .. [1] Dalmaz, Yurt, Cukur, "ResViT: Residual Vision Transformers for Multimodal Medical Image Synthesis",
       IEEE Transactions on Medical Imaging 41(10), 2022, arXiv:2106.16031.
    """

    name = "resvit_unified"
    Config = UnifiedResViTConfig
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
        novelty="Transformers beside convolutions in residual blocks: far context without loss of local precision.",
        weakness="Slices of one size; what is shown and what is missing share one network without telling it which.",
        deviations=(
            "transformers start from random weights, not from ImageNet-21k",
            "the discriminator keeps its weights in the second stage; theirs begins anew",
            "five standard deviations to [-1, 1] inside each sequence's own brain; theirs is not stated",
            "slices are padded, not resized",
            "the rate falls every step from a stage's middle; theirs every epoch, and is 0 in the last",
            "instance norms in prediction too, as in effect theirs: one slice in training mode",
            "dropout is off in prediction; their test script leaves it on",
            "how subsets are drawn (here: all alike) and what the discriminator sees are not published; ours",
            "sequences that a subject lacks enter no term, so incomplete cohorts may train",
        ),
        untrained={KEY_BIAS: KEY_BIAS_REASON},
        learns_from_hidden={
            "pixel": "what is hidden is the target",
            "gan|real|fake": "the discriminator judges what is made of it",
        },
    )
    # 25 subjects with 100 slices each: 100 epochs without transformers, 50 with them.
    presets = {
        "paper": Preset(
            (
                _stage("convolutions", 100, patch=(1, 256, 256), steps_per_epoch=2500),
                _stage("transformers", 50, patch=(1, 256, 256), steps_per_epoch=2500),
            )
        ),
        "tiny": Preset(
            (
                _stage("convolutions", 20, patch=(8, 64, 64), steps_per_epoch=50),
                _stage("transformers", 10, patch=(8, 64, 64), steps_per_epoch=50),
            ),
            {
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
            },
        ),
    }
    outputs = ("image",)
    spatial_dims = 2
    divisor = TOKEN
    intensity = Intensity("deviations")

    def __init__(self, config: UnifiedResViTConfig, spec: DataSpec = GLIOMA) -> None:
        super().__init__(config, spec)
        self.config: UnifiedResViTConfig = config
        check_size(config)
        channels = len(spec.modalities)
        if channels < 2:
            raise UserError(
                f"resvit_unified: with {spec.modalities[0]} alone there is nothing to synthesise; add a sequence"
            )
        self.stages = tuple(replace(stage, patch=(cast(Any, stage.patch)[0], *config.size)) for stage in self.stages)
        self.patch = (8, *config.size)
        self.generator = ResViTGenerator(channels, channels, config)
        self.discriminator = ResViTDiscriminator(2 * channels, config.judge_width)

    def encode(self, image: Tensor, available: Tensor, where: Where | None = None) -> Features:
        """The image: the network joins the sequences from the first layer on. See `Method.encode`."""
        return {"image": zero_absent(image, available)}

    def decode(
        self,
        features: Features,
        available: Tensor,
        outputs: tuple[str, ...] | None = None,
        generators: list[torch.Generator] | None = None,
    ) -> Prediction:
        """All sequences, those shown reconstructed; deterministic. See `Method.decode`."""
        made = synthesise(self.generator, zero_absent(features["image"], available), self.config)
        return Prediction(image=made, synthesised=torch.ones_like(available))

    def turns(self, stage: Stage) -> dict[str, list[dict[str, Any]]]:
        """The discriminator, then the generator, at first without its transformers."""
        return networks_in_turn(self.generator, self.discriminator, stage.name == "transformers")

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

    def optimizer_settings(self, stage: Stage, turn: str) -> OptimizerSettings:
        """Adam, its rate held for one half of the stage and falling to 0 in the other."""
        lr = self.config.lr if stage.name == "convolutions" else self.config.lr_transformers
        return OptimizerSettings("adam", lr=lr, betas=(0.5, 0.999), schedule="poly", power=1.0, hold=0.5)
