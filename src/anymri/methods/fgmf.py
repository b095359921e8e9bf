"""FGMF: generate what is missing with the tumour in mind, then fuse real and generated sequences by attention."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from anymri.bounds import Rate, Weight, Width
from anymri.losses.segmentation import dice_regions
from anymri.nn.dilated_encoders import DilatedEncoder, FusedDecoder
from anymri.nn.dual_attention import position_divergence
from anymri.nn.fusion import spread
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

__all__ = ["FGMF", "FGMFConfig", "Correlation", "emphasised_l1"]


@dataclass(frozen=True, kw_only=True)
class FGMFConfig(MethodConfig):
    """Settings of FGMF; the paper's weights are unknown.

    Parameters
    ----------
    widths : tuple of int
        Channels of each level, finest first, all but the first even.
    tumor_weight : float
        Weight of voxels inside the largest region in the generation loss, 1 outside; source: ours.
    generation_weight, correlation_weight : float
        Weights of the terms beside Dice; source: ours.
    lr : float
        Learning rate.
    """

    widths: Annotated[tuple[Width, ...], Field(min_length=2, max_length=16)] = (8, 16, 32, 64)
    tumor_weight: Weight = 2.0
    generation_weight: Weight = 1.0
    correlation_weight: Weight = 0.1
    lr: Rate = 5e-4


class Correlation(nn.Module):
    """Express another modality's features by a quadratic of one's own: ``a f^2 + b f + c``.

    Parameters
    ----------
    channels : int

    Notes
    -----
    The coefficients, one of each kind per channel, come from the mean of the own features by two linear layers.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Linear(channels, channels)
        self.second = nn.Linear(channels, 3 * channels)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, channels, *S) to the same shape."""
        pooled = features.mean(dim=(2, 3, 4))
        estimated = self.second(F.leaky_relu(self.first(pooled), 0.01)).unflatten(1, (3, -1))
        a, b, c = spread(estimated, 6).unbind(1)
        return a * features**2 + b * features + c


def emphasised_l1(image: Tensor, target: Tensor, present: Tensor, inside: Tensor, weight: float) -> Tensor:
    """Mean absolute error over the sequences that exist, voxels of the tumour weighted.

    Parameters
    ----------
    image, target : Tensor, shape (B, M, *S)
        The target may hold anything, NaN included, where not `present`.
    present : Tensor of bool, shape (B, M)
    inside : Tensor of bool, shape (B, *S)
        The tumour.
    weight : float
        Of its voxels; 1 elsewhere.
    """
    error = (image.float() - zero_absent(target, present).float()).abs()
    weights = torch.where(inside, weight, 1.0)[:, None] * spread(present, image.ndim)
    return (error * weights).sum() / weights.sum().clamp_min(1)


class FGMF(Method[FGMFConfig]):
    """FGMF [1]_: feature-enhanced generation and multi-modality fusion.

    Parameters
    ----------
    config : FGMFConfig
    spec : DataSpec

    Notes
    -----
    A generator with one encoder per modality, in which missing ones are zero, makes an image for every modality. It
    takes the place of those that are missing; given ones stay what they are. A second network of the same kind segments
    the completed set: one encoder per modality, their maps fused at every level by attention over channels and
    voxels. The correlation term asks that the coarsest features of a modality be expressed by a quadratic of
    another's, as a distribution over voxels; so a generated image must relate to the given ones as a real one does.
    The generation loss weights the tumour, which is how the generated image is "enhanced" here.

    References
    ----------
    .. [1] Zhou, Canu, Vera, Ruan, "Feature-enhanced Generation and Multi-modality Fusion Based Deep Neural Network for
       Brain Tumor Segmentation with Missing MR Modalities", Neurocomputing 466, 2021, arXiv:2111.04735.
    """

    name = "fgmf"
    info = MethodInfo(
        title="FGMF",
        family="image synthesis",
        task="segmentation",
        year=2021,
        reference="Zhou et al., Neurocomputing 2021",
        arxiv="2111.04735",
        parity="interpretation (no code)",
        novelty="Missing sequences are generated for the segmentation's sake and held to the correlation of real ones.",
        weakness="Whatever the generator gets wrong, the segmentation takes for real.",
        deviations=(
            "interpretation: no code was published; the three parts are the paper's, their layers are ours",
            "the enhanced target is the real image with the tumour's voxels weighted twice; the paper's is unknown",
            "one generator with a head per modality makes all missing ones at once; how the paper does it is unknown",
            "the generator also gives back the modalities it sees, so that it learns from complete cases",
            "the correlation term spans all pairs of a given modality and another one, given or generated",
            "weights of the terms, optimiser, epochs and sampler are ours; the paper's are unknown",
            "preset tiny: learning rate 0.002, 4 times that of preset paper",
        ),
        untrained={r".*encoders\..*\.conv\.bias": "an instance norm follows and removes it"},
        learns_from_hidden={"generation": "the hidden sequence is the target of its generation"},
    )
    presets = {
        "paper": Preset((Stage("train", 200, 1, (128, 128, 128), "size_then_subset"),)),
        "tiny": Preset(
            (Stage("train", 30, 1, (48, 48, 48), "size_then_subset", steps_per_epoch=50, foreground=0.7),),
            {"widths": (4, 8, 16), "lr": 2e-3},
        ),
    }
    outputs = ("logits",)
    head: Head

    def __init__(self, config: FGMFConfig, spec: DataSpec = GLIOMA) -> None:
        super().__init__(config, spec)
        self.head = Head("sigmoid", tuple(spec.regions))
        self.divisor = 2 ** (len(config.widths) - 1)
        codes, widths = spec.modalities, config.widths
        self.generator_encoders = nn.ModuleDict({code: DilatedEncoder(1, widths) for code in codes})
        self.generator_decoder = FusedDecoder(len(codes), widths)
        self.generator_heads = nn.ModuleDict({code: nn.Conv3d(widths[0], 1, 1) for code in codes})
        self.encoders = nn.ModuleDict({code: DilatedEncoder(1, widths) for code in codes})
        self.decoder = FusedDecoder(len(codes), widths)
        self.classifier = nn.Conv3d(widths[0], len(self.head.channels), 1)
        pairs = permutations(codes, 2)
        self.correlations = nn.ModuleDict({f"{one}_{other}": Correlation(widths[-1]) for one, other in pairs})

    # ------------------------------------------------------------------------------------------------ prediction

    def encode(self, image: Tensor, available: Tensor, where: Where | None = None) -> Features:
        """The images: nothing can be generated before the subset is known."""
        return {"image": zero_absent(image, available)}

    def decode(self, features: Features, available: Tensor, request: Request = EVERYTHING) -> Prediction:
        """Generate what is missing, then segment."""
        image = features["image"]
        pyramids = self._pyramids(self.complete(image, self.generate(image, available), available))
        return Prediction(logits=self.classifier(self.decoder(pyramids)))

    def generate(self, image: Tensor, available: Tensor) -> Tensor:
        """An image of every modality, (B, M, *S), from those available.

        Parameters
        ----------
        image : Tensor, shape (B, M, *S)
        available : Tensor of bool, shape (B, M)
        """
        image = zero_absent(image, available)
        pyramids = [encoder(image[:, i : i + 1]) for i, encoder in enumerate(self.generator_encoders.values())]
        decoded = self.generator_decoder(pyramids)
        return torch.cat([head(decoded) for head in self.generator_heads.values()], dim=1)

    def complete(self, image: Tensor, generated: Tensor, available: Tensor) -> Tensor:
        """Given channels as they are, generated ones where nothing is given; shapes as in `generate`."""
        return torch.where(spread(available, image.ndim), image, generated.to(image.dtype))

    def _pyramids(self, completed: Tensor) -> list[list[Tensor]]:
        return [encoder(completed[:, i : i + 1]) for i, encoder in enumerate(self.encoders.values())]

    # ---------------------------------------------------------------------------------------------------- training

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        """Dice of the completed set, generation of all that exists, correlation of the coarsest features."""
        assert batch.label is not None
        config, target = self.config, self.head.target(batch.label, self.spec)
        generated = self.generate(batch.image, batch.available)
        pyramids = self._pyramids(self.complete(batch.image, generated, batch.available))
        logits = self.classifier(self.decoder(pyramids))
        # The first region is the largest.
        inside = target[:, 0] > 0
        terms = {
            "dice": dice_regions(logits.float().sigmoid(), target),
            "generation": emphasised_l1(generated, batch.image, batch.present, inside, config.tumor_weight),
        }
        weights = {"generation": config.generation_weight, "correlation": config.correlation_weight}
        if len(pyramids) > 1:
            terms["correlation"] = self.correlation([pyramid[-1] for pyramid in pyramids], batch.available)
        return StepOutput.of(terms, weights)

    def correlation(self, coarsest: list[Tensor], available: Tensor) -> Tensor:
        """Mean divergence over all pairs of a modality that is given and another one.

        Parameters
        ----------
        coarsest : list of Tensor, each of shape (B, C, *S)
            Features of every modality, given or generated.
        available : Tensor of bool, shape (B, M)
        """
        codes, total, count = self.spec.modalities, available.new_zeros((), dtype=torch.float32), 0
        for i, j in permutations(range(len(codes)), 2):
            expressed = self.correlations[f"{codes[i]}_{codes[j]}"](coarsest[i].float())
            rows = available[:, i]
            total = total + torch.where(rows, position_divergence(coarsest[j], expressed), 0.0).sum()
            count += int(rows.sum())
        return total / max(count, 1)

    def optimizer_settings(self, stage: Stage, turn: str) -> OptimizerSettings:
        """Adam with a polynomial schedule."""
        return OptimizerSettings("adam", lr=self.config.lr, schedule="poly", power=0.9)
