"""RobustSeg: disentangle content from appearance and fuse the contents by gates."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from anymri.bounds import Layers, PositiveNumber, Rate, Size, Weight, Width, Widths
from anymri.losses.class_weighted import weighted_cross_entropy
from anymri.losses.reconstruction import gaussian_kl
from anymri.losses.segmentation import dice_squared_prediction
from anymri.nn.hetero_modal import encode_each
from anymri.nn.res_encoder import (
    SLOPE,
    ConvNormAct,
    PyramidDecoder,
    ResidualEncoder,
    StackedConv,
    StackedConvNormAct,
    keep_available,
    normalise_instance,
    pad,
)
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

__all__ = ["RobustSeg", "RobustSegConfig", "modulate"]

#: Biases that never learn, and why.
BIASES = (
    r".*\.conv\.bias",
    r"fusions\.\d+\.(gate_bias|join\.bias)",
    r".*\.blocks\.\d+\.(first|second)\.bias",
)
NO_EFFECT = "an instance norm without scale and shift follows and removes it"


@dataclass(frozen=True, kw_only=True)
class RobustSegConfig(MethodConfig):
    """Settings of RobustSeg; defaults are the released code's.

    Parameters
    ----------
    widths : tuple of int
        Channels of each content level, finest first.
    style_widths : tuple of int
        Channels of the style encoder's layers; all but the first halve the size.
    style_size, hidden : int
        Length of a style, and units of the layers that turn it into scales and shifts.
    residual_blocks : int
        Blocks of each image decoder that the style modulates.
    dropout : float
        Inside every content stage; the released training sets 0, its network's default is 0.3.
    gate_rectified : bool
        Whether gates pass a leaky ReLU before the sigmoid, as in the PyTorch port.
    norm_eps : float
        Added to the variance of instance norms; official code and port have 1e-6.
    reconstruction_weight, kl_weight : float
        Weights of the images' absolute error and of the styles' divergence.
    penalty : float
        Weight of half the squared kernels of encoders and decoders.
    lr : float
        First learning rate.
    """

    widths: Widths = (16, 32, 64, 128)
    style_widths: Widths = (32, 64, 128, 128, 128)
    style_size: Size = 8
    hidden: Width = 128
    residual_blocks: Layers = 4
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    gate_rectified: bool = False
    norm_eps: PositiveNumber = 1e-6
    reconstruction_weight: Weight = 0.1
    kl_weight: Weight = 0.1
    penalty: Weight = 1e-4
    lr: Rate = 1e-4


class _StyleEncoder(nn.Module):
    """From an image (B, 1, D, H, W) to its style (B, style_size)."""

    def __init__(self, widths: tuple[int, ...], size: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv3d(before, after, 4 if i else 7, 2 if i else 1)
            for i, (before, after) in enumerate(zip((1, *widths[:-1]), widths, strict=True))
        )
        self.last = nn.Conv3d(widths[-1], size, 1)

    def forward(self, x: Tensor) -> Tensor:
        for i, conv in enumerate(self.convs):
            x = F.relu(conv(pad(x, 1 if i else 3)))
        return self.last(x.mean(dim=(2, 3, 4), keepdim=True)).flatten(1)


class _Modulation(nn.Module):
    """From a style to one scale and one shift per channel, each (B, channels)."""

    def __init__(self, style_size: int, hidden: int, channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(style_size, hidden), nn.Linear(hidden, hidden)])
        self.scale = nn.Linear(hidden, channels)
        self.shift = nn.Linear(hidden, channels)

    def forward(self, style: Tensor) -> tuple[Tensor, Tensor]:
        for layer in self.layers:
            style = F.relu(layer(style))
        return self.scale(style), self.shift(style)


def modulate(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Give every channel of ``x`` (B, C, *S) the standard deviation \\|scale\\| and the mean `shift`, each (B, C)."""
    shape = (*scale.shape, *([1] * (x.ndim - 2)))
    return scale.reshape(shape) * normalise_instance(x) + shift.reshape(shape)


class _ModulatedBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv3d(channels, channels, 3), nn.Conv3d(channels, channels, 3)

    def forward(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        # Their biases do nothing in front of the norm; they are kept for the authors' weights.
        inner = F.relu(modulate(F.conv3d(pad(x, 1), self.first.weight), scale, shift))
        return x + modulate(F.conv3d(pad(inner, 1), self.second.weight), scale, shift)


class _ImageDecoder(nn.Module):
    """Image of one modality from the fused coarsest content and the modality's style."""

    def __init__(self, config: RobustSegConfig) -> None:
        super().__init__()
        channels = config.widths[-1]
        self.modulation = _Modulation(config.style_size, config.hidden, channels)
        self.blocks = nn.ModuleList(_ModulatedBlock(channels) for _ in range(config.residual_blocks))
        sizes = [max(channels // 2**i, 1) for i in range(len(config.widths))]
        self.convs = nn.ModuleList(nn.Conv3d(a, b, 5) for a, b in pairwise(sizes))
        # Layer norm over everything but the rows, with one scale and shift per channel.
        self.norms = nn.ModuleList(nn.GroupNorm(1, size, eps=1e-6) for size in sizes[1:])
        self.last = nn.Conv3d(sizes[-1], 1, 7)

    def forward(self, content: Tensor, style: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Image (B, 1, D, H, W), and the scales and shifts (B, C)."""
        scale, shift = self.modulation(style)
        x = content
        for block in self.blocks:
            x = block(x, scale, shift)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(norm(conv(pad(F.interpolate(x, scale_factor=2.0), 2))))
        return self.last(pad(x, 3)), scale, shift


class _GatedFusion(nn.Module):
    """One level's contents, weighted by one gate per modality and joined."""

    def __init__(self, codes: tuple[str, ...], channels: int, rectified: bool, eps: float) -> None:
        super().__init__()
        self.codes, self.rectified, self.eps = codes, rectified, eps
        self.gate = StackedConv(codes, channels, len(codes), kernel_size=3)
        self.gate_bias = nn.Parameter(torch.zeros(len(codes)))
        self.join = StackedConvNormAct(codes, channels, channels)

    def gates(self, kept: dict[str, Tensor]) -> Tensor:
        """Weight in (0, 1) of every modality at every voxel, (B, M, *S)."""
        x = normalise_instance(self.gate(kept), self.eps)
        return (F.leaky_relu(x, SLOPE) if self.rectified else x).sigmoid()

    def forward(self, kept: dict[str, Tensor]) -> Tensor:
        gates = self.gates(kept)
        return self.join({code: x * gates[:, [self.codes.index(code)]].to(x.dtype) for code, x in kept.items()})


class RobustSeg(Method[RobustSegConfig]):
    """RobustSeg [1]_: feature disentanglement and gated fusion for segmentation from any subset.

    Parameters
    ----------
    config : RobustSegConfig
    spec : DataSpec

    Notes
    -----
    Every modality has an encoder of content and one of style. The contents of the drawn subset are fused by gates
    at four levels; from the fused content come the segmentation and, with each modality's own style, the images of
    all modalities that are present, also of those that were hidden: so the content learns to hold what they show.
    The penalty KL runs over the scales and shifts that the style is turned into, as released. Prediction uses
    contents, gates and segmentation decoder only.

    The official code is for TensorFlow 1. Logits and losses are compared with the PyTorch port in
    AImageLab-zip/IM-Fuse, which rectifies the gates (``gate_rectified``), adds 1e-6 in its norms, leaves a dropout of
    0.3 on in prediction (here 0 there), and enlarges linearly, pads with zeros and ties the layer norm to windows of
    80 voxels in its image decoders: images are therefore not compared. Where its losses differ from the official ones,
    ours are those: its Dice has plain sums, its divergence is the channels' mean instead of their sum, and its
    optimiser decays weights instead of a penalty. Its weights come in with ``source="port"``, without those norms and
    with kernels turned from arrays (x, y, z) to (z, y, x); channels there: flair, t1c, t1, t2.

    References
    ----------
    .. [1] Chen et al., "Robust Multimodal Brain Tumor Segmentation via Feature Disentanglement and Gated Fusion",
       MICCAI 2019, arXiv:2002.09708.
    """

    name = "robust_seg"
    info = MethodInfo(
        title="RobustSeg",
        family="common latent space",
        task="segmentation",
        year=2019,
        reference="Chen et al., MICCAI 2019",
        doi="10.1007/978-3-030-32248-9_50",
        arxiv="2002.09708",
        code="https://github.com/cchen-cc/Robust-Mseg",
        parity="1e-4 (PyTorch port)",
        novelty="Content and appearance apart, so that the fused content can rebuild hidden modalities.",
        weakness="Gates over fixed slots; image decoders cost most of the training and serve nothing after it.",
        deviations=(
            "linear instead of repeated voxels in the segmentation decoder, as in the PyTorch port",
            "Dice with smooth 1e-5 in numerator and denominator, not 1e-7 in the denominator",
            "instance norms without scale and shift, also before the gates' sigmoid, as in the port; 1e-5, not 1e-6",
            "image decoders end in a layer of each modality's own, with the penalty, not in one for all without it",
            "Kaiming start instead of deviation 0.01",
            "z-score inside each modality's own brain, 0 outside; theirs over 98 % of all brains' union",
            "the learning rate falls every step, not every epoch",
            "logarithms of squared shifts stay within -50 and 50",
        ),
        untrained=dict.fromkeys(BIASES, NO_EFFECT),
        learns_from_hidden={"reconstruction|kl": "every sequence that is present is rebuilt from its own style"},
    )
    presets = {
        "paper": Preset(
            (
                Stage(
                    "train", 300, 1, (80,) * 3, "bernoulli_repair", steps_per_epoch=300, augment="none", foreground=0.0
                ),
            ),
        ),
        "tiny": Preset(
            (Stage("train", 30, 1, (48,) * 3, "bernoulli_repair", steps_per_epoch=50, augment="none", foreground=0.0),),
            {
                "widths": (8, 12, 16, 24),
                "style_widths": (8, 8, 8, 8, 8),
                "hidden": 32,
                "residual_blocks": 1,
                "lr": 2e-3,
            },
        ),
    }
    outputs = ("logits",)
    head: Head

    def __init__(self, config: RobustSegConfig, spec: DataSpec = GLIOMA) -> None:
        super().__init__(config, spec)
        self.head = Head("softmax", ("background", *spec.labels))
        self.divisor = 2 ** (len(config.widths) - 1)
        codes = spec.modalities
        self.contents = nn.ModuleDict({code: ResidualEncoder(config.widths, dropout=config.dropout) for code in codes})
        self.styles = nn.ModuleDict({code: _StyleEncoder(config.style_widths, config.style_size) for code in codes})
        self.fusions = nn.ModuleList(
            _GatedFusion(codes, width, config.gate_rectified, config.norm_eps) for width in config.widths
        )
        self.segmentation = PyramidDecoder(config.widths, len(self.head.channels))
        self.images = nn.ModuleDict({code: _ImageDecoder(config) for code in codes})
        for part in (*self.styles.modules(), *self.images.modules()):
            if isinstance(part, nn.Conv3d | nn.Linear):
                nn.init.kaiming_normal_(part.weight)
        for part in self.modules():
            if isinstance(part, ConvNormAct | StackedConvNormAct):
                part.eps = config.norm_eps

    # ------------------------------------------------------------------------------------------------ prediction

    def encode(self, image: Tensor, available: Tensor, where: Where | None = None) -> Features:
        """Content of every modality that some row has, by code; see `Method.encode`."""
        return encode_each(self.contents, zero_absent(image, available), available)

    def decode(self, features: Features, available: Tensor, request: Request = EVERYTHING) -> Prediction:
        """Segment from the fused contents; deterministic. See `Method.decode`."""
        return Prediction(logits=self.segmentation(self._fuse(features, available)))

    def _fuse(self, features: Features, available: Tensor) -> list[Tensor]:
        levels = keep_available(features, available, self.spec.modalities)
        return [fusion(kept) for fusion, kept in zip(self.fusions, levels, strict=True)]

    # ---------------------------------------------------------------------------------------------------- training

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        """Weighted cross-entropy, Dice, images of what is present, divergence of their styles, and a penalty."""
        assert batch.label is not None
        config = self.config
        fused = self._fuse(self.encode(batch.image, batch.present), batch.available)
        target = self.head.target(batch.label, self.spec)
        probability = self.head.probability(self.segmentation(fused).float())
        reconstruction, divergence = self._rebuild(batch, fused[-1])
        terms = {
            "cross_entropy": weighted_cross_entropy(probability, target),
            "dice": dice_squared_prediction(probability, target),
            "reconstruction": config.reconstruction_weight * reconstruction,
            "kl": config.kl_weight * divergence,
            "l2": config.penalty * self._penalty(),
        }
        return StepOutput.of(terms)

    def _rebuild(self, batch: Batch, content: Tensor) -> tuple[Tensor, Tensor]:
        """Sums over modalities of the mean absolute error and of the divergence, each over rows that have it."""
        errors, divergences = [], []
        image = zero_absent(batch.image, batch.present)
        for i, code in enumerate(self.spec.modalities):
            rows = batch.present[:, i]
            if not rows.any():
                continue
            true = image[:, i : i + 1]
            rebuilt, scale, shift = self.images[code](content, self.styles[code](true))
            errors.append((rebuilt.float() - true.float())[rows].abs().mean())
            log_variance = (shift.float() ** 2).log().clamp(-50, 50)
            divergences.append(gaussian_kl(scale.float(), log_variance)[rows].sum(dim=1).mean())
        return torch.stack(errors).sum(), torch.stack(divergences).sum()

    def _penalty(self) -> Tensor:
        parts = (self.contents, self.styles, self.segmentation, self.images)
        kernels = [p for part in parts for p in part.parameters() if p.ndim > 1]
        return torch.stack([0.5 * (kernel.float() ** 2).sum() for kernel in kernels]).sum()

    def optimizer_settings(self, stage: Stage, turn: str) -> OptimizerSettings:
        """Adam with a polynomial schedule."""
        return OptimizerSettings("adam", lr=self.config.lr, schedule="poly", power=0.9)
