"""RS-Net: synthesise a missing sequence and segment the tumour with one network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, NamedTuple, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from anymri.bounds import Rate, Weight, Width, Widths
from anymri.losses.segmentation import cross_entropy
from anymri.nn.res_encoder import ConvNormAct, ResidualUNet
from anymri.protocol.method import MethodConfig, MethodInfo, Preset, StepContext
from anymri.protocol.noise import Noise
from anymri.protocol.per_subset import PerSubset, with_target
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
    UserError,
)

__all__ = ["RSNet", "RSNetConfig", "Uncertainty"]


@dataclass(frozen=True, kw_only=True)
class RSNetConfig(MethodConfig):
    """Settings of RS-Net; the paper's numbers are not known to us, so all of these are ours.

    Parameters
    ----------
    target : str or None, default=None
        Modality to make; None = the last one outside `subset`.
    guide : str or None, default=None
        Shown modality that the regression block sees beside the latent maps; None = T1, else the alphabetically first.
    widths : tuple of int
        Channels of each level of the U-Net, finest first.
    latent, head_width : int
        Latent maps, and channels inside both blocks.
    dropout : float
        Probability with which a latent value is dropped, in training and in samples of prediction.
    regression_weight, segmentation_weight : float
        Weights of the two losses.
    lr : float
        First learning rate.
    """

    target: str | None = None
    guide: str | None = None
    widths: Widths = (16, 32, 64, 128)
    latent: Width = 16
    head_width: Width = 16
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    regression_weight: Weight = 1.0
    segmentation_weight: Weight = 1.0
    lr: Rate = 2e-4


class Uncertainty(NamedTuple):
    """Mean and variance of the synthesis over passes with dropout.

    Attributes
    ----------
    mean, variance : Tensor, shape (B, D, H, W)
        Of the target.
    """

    mean: Tensor
    variance: Tensor


def _block(in_channels: int, width: int, out_channels: int) -> nn.Sequential:
    """Two convolution blocks and a linear convolution."""
    return nn.Sequential(
        ConvNormAct(in_channels, width), ConvNormAct(width, width), nn.Conv3d(width, out_channels, kernel_size=1)
    )


class RSNet(PerSubset[RSNetConfig]):
    """RS-Net [1]_: regression of a missing sequence and segmentation of the tumour from shared features.

    Parameters
    ----------
    config : RSNetConfig
        `subset` names the sources, `target` what is made of them.
    spec : DataSpec

    Notes
    -----
    A 3D U-Net makes latent maps at full resolution from all sources. The regression block joins them with one of the
    real sources and gives the target; the segmentation block gives the labels. Their losses, mean squared error and
    cross-entropy, both train the U-Net, so that it looks at the tumour when it synthesises.

    Dropout of the latent maps stays on where samples are asked for (Monte-Carlo dropout): `uncertainty` gives mean and
    variance of the synthesis over passes. What is dropped belongs to a voxel's place, so windows have no seams.

    There is no code by the authors (their repository holds a placeholder): an interpretation from abstract and review.
    Each of its equations is tested by hand.

    References
    ----------
    .. [1] Mehta and Arbel, "RS-Net: Regression-Segmentation 3D CNN for Synthesis of Full Resolution Missing Brain MRI
       in the Presence of Tumours", SASHIMI 2018, arXiv:1807.10972.
    """

    name = "rs_net"
    info = MethodInfo(
        title="RS-Net",
        family="common latent space",
        task="segmentation and synthesis",
        year=2018,
        reference="Mehta and Arbel, SASHIMI 2018",
        arxiv="1807.10972",
        parity="interpretation (no code)",
        novelty="Synthesis and segmentation share features, and dropout says where the synthesis is unsure.",
        weakness="One network per sources and target; contrast uptake is not in the sequences that T1c is made of.",
        deviations=(
            "interpretation: no code exists, and depth, widths, weights, optimiser, epochs and crops are ours",
            "which source the regression block sees is not known: T1, else the alphabetically first; ours",
            "one dropout, of the latent maps, probability 0.2: place, probability and passes (20) are not known",
            "cross-entropy without class weights; whether the paper weights classes is not known",
            "z-score inside each modality's own brain, sources and target alike",
        ),
        untrained={r".*\.conv\.bias": "an instance norm without scale and shift follows and removes it"},
        learns_from_hidden={"regression": "the sequence to be made is the target"},
    )
    presets = {
        "paper": Preset((Stage("train", 100, 1, (128,) * 3, "all", augment="mirror"),)),
        "tiny": Preset(
            (Stage("train", 30, 1, (48,) * 3, "all", steps_per_epoch=50, augment="mirror"),),
            {"widths": (8, 12, 16, 24), "latent": 8, "head_width": 8, "lr": 3e-3},
        ),
    }
    outputs = ("logits", "image")
    head: Head

    def __init__(self, config: RSNetConfig, spec: DataSpec = GLIOMA) -> None:
        config = with_target(self.name, config, spec)
        super().__init__(config, spec)
        self.target = cast(str, config.target)
        self.needs = (*self.subset_modalities, self.target)
        self.guide = config.guide or ("t1" if "t1" in self.subset_modalities else min(self.subset_modalities))
        self._guide_column = self._own_column(self.guide)
        self.head = Head("softmax", ("background", *spec.labels))
        self.divisor = 2 ** (len(config.widths) - 1)
        self.trunk = ResidualUNet(len(self.subset_modalities), config.widths, config.latent)
        self.regression = _block(config.latent + 1, config.head_width, 1)
        self.segmentation = _block(config.latent, config.head_width, len(self.head.channels))

    def _own_column(self, code: str) -> int:
        if code not in self.subset_modalities:
            raise UserError(
                f"method.config.guide = {code!r}: not one of the sources {', '.join(self.subset_modalities)}"
            )
        return self.subset_modalities.index(code)

    # ------------------------------------------------------------------------------------------------ prediction

    def decode(self, features: Features, available: Tensor, request: Request = EVERYTHING) -> Prediction:
        """Target and labels; with noise, of one pass with dropout. See `Method.decode`."""
        self.require_own(available)
        sources = features["image"]
        latent = self.trunk(sources)
        if request.noise is not None:
            latent = self._drop(latent, request.noise)
        logits = image = synthesised = None
        if request.wants("logits"):
            logits = self.segmentation(latent)
        if request.wants("image"):
            made = self._regress(latent, sources)
            channel = self.spec.index(self.target)
            image = made.new_full((len(made), len(self.spec.modalities), *made.shape[2:]), torch.nan)
            image[:, channel] = made[:, 0]
            synthesised = torch.zeros_like(available)
            synthesised[:, channel] = True
        return Prediction(logits=logits, image=image, synthesised=synthesised)

    def _regress(self, latent: Tensor, sources: Tensor) -> Tensor:
        guide = sources[:, self._guide_column, None].to(latent.dtype)
        return self.regression(torch.cat([latent, guide], dim=1))

    def _drop(self, latent: Tensor, noise: Noise) -> Tensor:
        """Dropout whose choice belongs to a voxel's place in the volume."""
        probability = self.config.dropout
        numbers = noise.normal("dropout", latent.shape[1], latent.shape[2:]).to(latent.device)
        kept = torch.special.ndtr(numbers) >= probability
        return torch.where(kept, latent / (1 - probability), 0.0)

    @torch.no_grad()
    def uncertainty(self, image: Tensor, available: Tensor, passes: int = 20, seed: int = 0) -> Uncertainty:
        """Mean and population variance of the synthesis over passes with dropout.

        Parameters
        ----------
        image : Tensor, shape (B, M, D, H, W)
        available : Tensor of bool, shape (B, M)
        passes : int, default=20
        seed : int, default=0
        """
        features = self.encode(image, available)
        made = []
        for number in range(passes):
            noise = Noise([f"{seed}|{number}|{row}" for row in range(len(image))])
            prediction = self.decode(features, available, Request(outputs=("image",), noise=noise))
            made.append(cast(Tensor, prediction.image)[:, self.spec.index(self.target)].float())
        stacked = torch.stack(made)
        return Uncertainty(stacked.mean(dim=0), stacked.var(dim=0, unbiased=False))

    # ---------------------------------------------------------------------------------------------------- training

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        """Mean squared error of the target, and cross-entropy of the labels."""
        assert batch.label is not None
        config = self.config
        sources = self.take_own(batch.image, batch.present)
        latent = F.dropout(self.trunk(sources), config.dropout, self.training)
        made = self._regress(latent, sources)[:, 0].float()
        real = batch.image[:, self.spec.index(self.target)]
        terms = {
            "regression": F.mse_loss(made, real),
            "segmentation": cross_entropy(self.segmentation(latent), self.head.target(batch.label, self.spec)),
        }
        weights = {"regression": config.regression_weight, "segmentation": config.segmentation_weight}
        return StepOutput.of(terms, weights)

    def optimizer_settings(self, stage: Stage, turn: str) -> OptimizerSettings:
        """Adam at a constant rate."""
        return OptimizerSettings("adam", lr=self.config.lr)
