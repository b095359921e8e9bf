"""U-HeMIS: one encoder per modality, feature moments over the available ones, one decoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from anymri.bounds import Rate, Slope, Weight, Whole, Widths
from anymri.losses.reconstruction import weight_penalty
from anymri.losses.segmentation import cross_entropy, dice_squared_prediction
from anymri.nn.blocks import ResizeRule
from anymri.nn.fusion import masked_moments
from anymri.nn.hetero_modal import ModalityEncoder, SkipDecoder, encode_each, init_he_normal
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

__all__ = ["UHeMIS", "UHeMISConfig"]


@dataclass(frozen=True, kw_only=True)
class UHeMISConfig(MethodConfig):
    """Settings of U-HeMIS; defaults are the released code's.

    Parameters
    ----------
    widths : tuple of int
        Channels of each encoder level, finest first; the first one even.
    slope : float
        Slope of the leaky ReLU below 0, as the authors' framework defines it.
    resize : {"centred", "corner", "ends"}
        ``corner`` repeats the half-voxel shift of the authors' framework; ``ends`` is the PyTorch port's rule.
    lr : float
        First learning rate.
    lr_divisions : int
        How often it is divided by 4, at equal distances; `tiny` trains too briefly for all five.
    penalty : float
        Weight of the penalty on squared weights.
    """

    widths: Widths = (8, 16, 32, 64)
    slope: Slope = 0.02
    resize: ResizeRule = "centred"
    lr: Rate = 1e-3
    lr_divisions: Whole = 5
    penalty: Weight = 1e-5


class UHeMIS(Method[UHeMISConfig]):
    """U-HeMIS [1]_ [2]_: segmentation from feature moments over the available modalities.

    Parameters
    ----------
    config : UHeMISConfig
    spec : DataSpec

    Notes
    -----
    At every level the features of the available modalities are replaced by their mean and population variance,
    which for one modality is 0. The three-dimensional form with skip moments is the baseline of [2]_, whose
    released code this follows; the "residual" blocks there have their sum disabled, so blocks are plain.

    No PyTorch code of the authors exists; encoder and decoder are the ones of `UHVED`, which are compared with a
    PyTorch port, and the number of parameters is the released one, 1,096,848.

    References
    ----------
    .. [1] Havaei et al., "HeMIS: Hetero-Modal Image Segmentation", MICCAI 2016, arXiv:1607.05194.
    .. [2] Dorent et al., "Hetero-Modal Variational Encoder-Decoder for Joint Modality Completion and
       Segmentation", MICCAI 2019, arXiv:1907.11150.
    """

    name = "u_hemis"
    info = MethodInfo(
        title="U-HeMIS",
        family="common latent space",
        task="segmentation",
        year=2016,
        reference="Havaei et al., MICCAI 2016; three-dimensional U-Net form: Dorent et al., MICCAI 2019",
        doi="10.1007/978-3-319-46723-8_54",
        arxiv="1607.05194",
        code="https://github.com/ReubenDo/U-HVED",
        parity="1e-4 (parts)",
        novelty="Fuses any number of modalities by mean and variance of their features.",
        weakness="Moments forget which modality said what; degrades with few modalities.",
        deviations=(
            "z-score inside the brain instead of histogram standardisation and whitening where above the mean",
            "resizing with aligned voxel centres; resize='corner' gives the released behaviour",
            "volumes are not cropped by the union of all modalities",
            "crops are mirrored; theirs are scaled by up to 10 % as well",
        ),
    )
    presets = {
        "paper": Preset(
            (
                Stage(
                    "train",
                    300,
                    1,
                    (112,) * 3,
                    "size_then_subset",
                    steps_per_epoch=200,
                    augment="mirror",
                    foreground=0.0,
                ),
            ),
        ),
        "tiny": Preset(
            (
                Stage(
                    "train", 30, 1, (64,) * 3, "size_then_subset", steps_per_epoch=50, augment="mirror", foreground=0.0
                ),
            ),
            {"widths": (8, 16, 24, 32), "lr": 3e-3, "lr_divisions": 2},
        ),
    }
    outputs = ("logits",)
    head: Head

    def __init__(self, config: UHeMISConfig, spec: DataSpec = GLIOMA) -> None:
        super().__init__(config, spec)
        self.head = Head("softmax", ("background", *spec.labels))
        self.divisor = 2 ** (len(config.widths) - 1)
        self.encoders = nn.ModuleDict({code: ModalityEncoder(config.widths, config.slope) for code in spec.modalities})
        moments = tuple(2 * width for width in config.widths)
        self.decoder = SkipDecoder(moments, config.widths, len(self.head.channels), config.slope, config.resize)
        init_he_normal(self)

    def encode(self, image: Tensor, available: Tensor, where: Where | None = None) -> Features:
        """Features of every modality that some row has, by code; see `Method.encode`."""
        return encode_each(self.encoders, zero_absent(image, available), available)

    def decode(self, features: Features, available: Tensor, request: Request = EVERYTHING) -> Prediction:
        """Segment from the moments of the available features; deterministic. See `Method.decode`."""
        return Prediction(logits=self._logits(features, available))

    def _logits(self, features: Features, available: Tensor) -> Tensor:
        needed = [i for i in range(len(self.spec.modalities)) if available[:, i].any()]
        pyramids = [features[self.spec.modalities[i]] for i in needed]
        shown = available[:, needed]
        moments = [torch.cat(masked_moments(list(level), shown), dim=1) for level in zip(*pyramids, strict=True)]
        return self.decoder(moments)

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        """Cross-entropy plus Dice plus a small penalty on the weights."""
        assert batch.label is not None
        logits = self._logits(self.encode(batch.image, batch.available), batch.available)
        target = self.head.target(batch.label, self.spec)
        terms = {
            "cross_entropy": cross_entropy(logits, target),
            "dice": dice_squared_prediction(self.head.probability(logits.float()), target),
            "l2": self.config.penalty * weight_penalty(self),
        }
        return StepOutput.of(terms)

    def optimizer_settings(self, stage: Stage, turn: str) -> OptimizerSettings:
        """Adam whose learning rate is divided by 4 at equal distances."""
        config = self.config
        return OptimizerSettings(
            "adam", lr=config.lr, schedule="step", step_divisor=4.0, step_count=config.lr_divisions
        )
