"""LCE-Net: each modality's latent is expressed by those of the others, and the expressions are fused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anymri.bounds import Rate, Share, Weight, Widths
from anymri.losses.reconstruction import masked_l1
from anymri.losses.segmentation import dice_regions
from anymri.nn.dilated_encoders import DilatedEncoder, DualAttention
from anymri.nn.dual_attention import DualAttentionDecoder, position_divergence
from anymri.nn.fusion import spread
from anymri.nn.hetero_modal import encode_each
from anymri.protocol.method import Method, MethodConfig, MethodInfo, Preset, StepContext, zero_absent
from anymri.protocol.request import EVERYTHING, Request
from anymri.types import (
    GLIOMA,
    Batch,
    DataSpec,
    Features,
    Head,
    OptimizerSettings,
    Prediction,
    Stage,
    StepOutput,
    Where,
)

__all__ = ["LCENet", "LCENetConfig"]


@dataclass(frozen=True, kw_only=True)
class LCENetConfig(MethodConfig):
    """Settings of LCE-Net; which of them are the paper's is uncertain.

    Parameters
    ----------
    widths : tuple of int
        Channels of each level, finest first, all even.
    reconstruction_weight, correlation_weight : float
        Weights of the two terms beside Dice.
    decay : float
        Of the running mean of every modality's coefficients, which an absent modality is expressed with.
    lr : float
        Learning rate.
    """

    widths: Widths = (8, 16, 32, 64)
    reconstruction_weight: Weight = 0.1
    correlation_weight: Weight = 0.1
    decay: Share = 0.99
    lr: Rate = 5e-4


class _Estimator(nn.Module):
    """Coefficients of one modality's linear expression, from its own latent; and their running mean.

    There are M blocks of C coefficients in the order of the specification: a factor for each other modality's latent,
    and the constant in the modality's own place.
    """

    mean: Tensor

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(width, width), nn.Linear(width, count * width)
        self.register_buffer("mean", torch.zeros(count * width))

    def forward(self, latent: Tensor) -> Tensor:
        """Coefficients (B, M C)."""
        return self.out(F.leaky_relu(self.hidden(latent.mean(dim=(2, 3, 4))), 0.01))


class LCENet(Method[LCENetConfig]):
    """LCE-Net [1]_: latent correlation representation learning.

    Parameters
    ----------
    config : LCENetConfig
    spec : DataSpec

    Notes
    -----
    Interpretation: no code is public. Every modality has an encoder; from its latent f_i an estimator predicts
    coefficients, with which the other modalities' latents express it: ``F_i = sum_(j != i) theta_ij f_j + theta_ii``,
    channel by channel. A divergence between where f_i and where F_i is large ties the two. The expressions of all
    modalities are fused by channel and by spatial attention, and decoded to the segmentation and to every image.

    A modality that is absent has no latent to predict coefficients from: they are the running mean of training then,
    and its latent is 0 in the expressions of the others. So every F_i exists for every subset. Finer levels fuse the
    features themselves, 0 where absent.

    References
    ----------
    .. [1] Zhou et al., "Latent Correlation Representation Learning for Brain Tumor Segmentation with Missing MRI
       Modalities", IEEE Transactions on Image Processing 30, 2021, arXiv:2104.06231.
    """

    name = "lce_net"
    info = MethodInfo(
        title="LCE-Net",
        family="mutual information maximisation",
        task="segmentation and synthesis",
        year=2021,
        reference="Zhou et al., IEEE Transactions on Image Processing 2021",
        arxiv="2104.06231",
        parity="interpretation (no code)",
        novelty="Learns how each modality's latent follows from the others'; an absent one is expressed by them.",
        weakness="A linear relation by channel, with the average case's coefficients where a modality is absent.",
        deviations=(
            "interpretation: no code is public; widths, weights, optimiser and the handling of absence are ours",
            "absent modalities take training's mean coefficients; feeding the most correlated image is not built",
            "subsets are drawn while training, and the correlation is learned from everything that is present",
            "three overlapping regions by sigmoid; 200 epochs, the learning rate is not halved on plateaus",
        ),
        untrained={r"encoders\..*\.0\.conv\.bias": "a norm follows and removes it"},
        learns_from_hidden={
            "correlation": "latents of everything that is present express each other",
            "reconstruction": "every sequence that is present is a target",
        },
    )
    presets = {
        "paper": Preset((Stage("train", 200, 1, (128,) * 3, "size_then_subset"),)),
        "tiny": Preset(
            (Stage("train", 30, 2, (48,) * 3, "size_then_subset", steps_per_epoch=50),),
            {"widths": (4, 8, 16, 24), "lr": 2e-3, "decay": 0.9},
        ),
    }
    outputs = ("logits", "image")
    head: Head

    def __init__(self, config: LCENetConfig, spec: DataSpec = GLIOMA) -> None:
        super().__init__(config, spec)
        count, widths = len(spec.modalities), config.widths
        self.head = Head("sigmoid", tuple(spec.regions))
        self.divisor = 2 ** (len(widths) - 1)
        self.encoders = nn.ModuleDict({code: DilatedEncoder(1, widths) for code in spec.modalities})
        self.estimators = nn.ModuleDict({code: _Estimator(count, widths[-1]) for code in spec.modalities})
        self.fusions = nn.ModuleList(DualAttention(count, width) for width in widths)
        self.segmentation = DualAttentionDecoder(widths, len(self.head.channels))
        self.images = nn.ModuleDict({code: DualAttentionDecoder(widths, 1) for code in spec.modalities})

    # ------------------------------------------------------------------------------------------------ prediction

    def encode(self, image: Tensor, available: Tensor, where: Where | None = None) -> Features:
        """Features of every modality that some row has, by code; see `Method.encode`."""
        return encode_each(self.encoders, zero_absent(image, available), available)

    def decode(self, features: Features, available: Tensor, request: Request = EVERYTHING) -> Prediction:
        """Segment and make all images from the fused expressions; deterministic. See `Method.decode`."""
        fused = self._fuse(features, available)
        logits = image = synthesised = None
        if request.wants("logits"):
            logits = self.segmentation(fused)
        if request.wants("image"):
            image = torch.cat([decoder(fused) for decoder in self.images.values()], dim=1)
            synthesised = torch.ones_like(available)
        return Prediction(logits=logits, image=image, synthesised=synthesised)

    def _fuse(self, features: Features, available: Tensor) -> list[Tensor]:
        """Fused maps of every level, finest first; the coarsest is that of the expressions."""
        levels = [self._filled(features, available, level) for level in range(len(self.config.widths))]
        levels[-1] = self.express(levels[-1], available)
        return [fusion(maps) for fusion, maps in zip(self.fusions, levels, strict=True)]

    def _filled(self, features: Features, available: Tensor, level: int) -> list[Tensor]:
        """One level's map of every modality, 0 where absent."""
        some = next(iter(features.values()))[level]
        return [
            torch.where(spread(available[:, i], 5), features[code][level], 0.0)
            if available[:, i].any()
            else torch.zeros_like(some)
            for i, code in enumerate(self.spec.modalities)
        ]

    def express(self, latents: list[Tensor], available: Tensor) -> list[Tensor]:
        """Expression F_i of every modality by the others.

        Parameters
        ----------
        latents : list of Tensor, each of shape (B, C, *S)
            Of all modalities, 0 where absent.
        available : Tensor of bool, shape (B, M)
        """
        expressed = []
        for i, estimator in enumerate(self.estimators.values()):
            assert isinstance(estimator, _Estimator)
            own = torch.where(spread(available[:, i], 2), estimator(latents[i]), estimator.mean)
            factors = [spread(factor, 5) for factor in own.chunk(len(latents), dim=1)]
            parts = [factors[j] * latent for j, latent in enumerate(latents) if j != i]
            expressed.append(sum(parts, factors[i].expand_as(latents[i])))
        return expressed

    # ---------------------------------------------------------------------------------------------------- training

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        """Dice, reconstruction of what is present, and the correlation of what is present."""
        assert batch.label is not None
        features = self.encode(batch.image, batch.present)
        prediction = self.decode(features, batch.available)
        assert prediction.logits is not None
        assert prediction.image is not None
        target = self.head.target(batch.label, self.spec)
        present = spread(batch.present, 5).expand_as(batch.image)
        latents = self._filled(features, batch.present, -1)
        self._remember(latents, batch.present, ctx)
        terms = {
            "dice": dice_regions(prediction.logits.float().sigmoid(), target),
            "reconstruction": masked_l1(prediction.image.float(), batch.image, present),
            "correlation": self._correlation(latents, batch.present),
        }
        config = self.config
        weights = {"reconstruction": config.reconstruction_weight, "correlation": config.correlation_weight}
        return StepOutput.of(terms, weights)

    def _correlation(self, latents: list[Tensor], present: Tensor) -> Tensor:
        """Mean over present modalities of the divergence between latent and expression."""
        expressed = self.express(latents, present)
        divergence = torch.stack([position_divergence(f, g) for f, g in zip(latents, expressed, strict=True)], dim=1)
        return torch.where(present, divergence, 0.0).sum() / present.sum()

    @torch.no_grad()
    def _remember(self, latents: list[Tensor], present: Tensor, ctx: StepContext) -> None:
        """Keep the batch's mean coefficients for `after_step`."""
        for i, (code, estimator) in enumerate(self.estimators.items()):
            if present[:, i].any():
                ctx.shared[code] = estimator(latents[i])[present[:, i]].float().mean(dim=0)

    def after_step(self, stage: Stage, turn: str, ctx: StepContext) -> None:
        """Let the running means follow the coefficients."""
        for code, estimator in self.estimators.items():
            if code in ctx.shared:
                cast(_Estimator, estimator).mean.lerp_(ctx.shared[code], 1 - self.config.decay)

    def optimizer_settings(self, stage: Stage, turn: str) -> OptimizerSettings:
        """Adam with a constant learning rate."""
        return OptimizerSettings("adam", lr=self.config.lr)
