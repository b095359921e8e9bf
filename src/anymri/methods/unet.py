"""U-Net baseline: a plain 3D U-Net with the modalities as input channels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anymri.bounds import Depth, Layers, Rate, Weight, Width
from anymri.losses.reconstruction import masked_l1
from anymri.losses.segmentation import (
    binary_cross_entropy,
    cross_entropy,
    dice_nnunet,
    dice_regions,
    dice_regions_per_row,
)
from anymri.nn.blocks import InstanceNorm
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

__all__ = ["UNet", "UNetConfig"]


@dataclass(frozen=True, kw_only=True)
class UNetConfig(MethodConfig):
    """Settings of the U-Net.

    Parameters
    ----------
    width : int
        Channels of the finest level; every coarser level has twice as many, up to `max_width`.
    max_width : int
        Most channels of any level.
    depth : int
        Number of levels.
    blocks : int
        Convolution blocks on each level, on the way down and up.
    residual : bool
        Whether each level's blocks on the way down are bridged by a sum.
    deep_supervision : bool
        Whether coarser levels predict too while training, weighted 1, 1/2, 1/4 ...
    missing : {"zero_fill", "modality_dropout"}
        ``zero_fill``: trained on everything present, as if nothing were ever missing. ``modality_dropout``:
        trained on random subsets. Picks the stages' sampler; `training.sampler` overrides it.
    availability : {"none", "modulation"}
        ``modulation``: a linear map of the availability bits scales and shifts every normalised feature.
    targets : {"regions", "labels"}
        ``regions``: one sigmoid channel per region of the specification, each trained by its own Dice and binary
        cross-entropy, as nnU-Net does for BraTS. ``labels``: softmax over background and labels.
    dice : {"batch", "row"}
        Dice of regions over the sums of a whole batch, as nnU-Net's, or of each row with its own volumes. Labels have
        the first alone.
    completion : float
        Weight of the L1 loss of a second head, which predicts the image of every modality; 0 = no such head.
    lr, weight_decay : float
        Learning rate and decay of the optimiser.
    """

    width: Width = 32
    max_width: Width = 320
    depth: Depth = 5
    blocks: Layers = 2
    residual: bool = False
    deep_supervision: bool = True
    missing: Literal["zero_fill", "modality_dropout"] = "modality_dropout"
    availability: Literal["none", "modulation"] = "none"
    targets: Literal["regions", "labels"] = "regions"
    dice: Literal["batch", "row"] = "batch"
    completion: Weight = 0.0
    lr: Rate = 1e-3
    weight_decay: Weight = 1e-4

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level, finest first."""
        return tuple(min(self.width * 2**level, self.max_width) for level in range(self.depth))


class ConvBlock(nn.Module):
    """Convolution 3x3x3, instance norm, optional modulation by the availability bits, leaky ReLU 0.01.

    Parameters
    ----------
    in_channels, out_channels : int
    stride : int
    modalities : int
        Number of availability bits; 0 = no modulation.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, modalities: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False)
        self.norm = InstanceNorm(out_channels)
        self.modulation: nn.Linear | None = None
        if modalities:
            # Starts as the identity, so that a network without modulation can be continued with it.
            self.modulation = nn.Linear(modalities, 2 * out_channels)
            nn.init.zeros_(self.modulation.weight)
            nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, available: Tensor) -> Tensor:
        """Map (B, in_channels, *S) under availability (B, M) to (B, out_channels, *S / stride)."""
        x = self.norm(self.conv(x))
        if self.modulation is not None:
            scale_shift = self.modulation(available.to(self.modulation.weight.dtype)).to(x.dtype)
            scale, shift = scale_shift[:, :, None, None, None].chunk(2, dim=1)
            x = torch.addcmul(x + shift, x, scale)
        return F.leaky_relu(x, 0.01)


class Level(nn.Module):
    """The blocks of one level; the first one may stride.

    Parameters
    ----------
    in_channels, out_channels, stride, blocks, modalities : int
    residual : bool
        Whether the blocks after the first are bridged by a sum.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, blocks: int, modalities: int, residual: bool
    ) -> None:
        super().__init__()
        self.residual = residual
        self.first = ConvBlock(in_channels, out_channels, stride, modalities)
        self.rest = nn.ModuleList(ConvBlock(out_channels, out_channels, 1, modalities) for _ in range(blocks - 1))

    def forward(self, x: Tensor, available: Tensor) -> Tensor:
        """Map (B, in_channels, *S) to (B, out_channels, *S / stride)."""
        x = y = self.first(x, available)
        for block in self.rest:
            y = block(y, available)
        return x + y if self.residual and len(self.rest) else y


class UNet(Method[UNetConfig]):
    """3D U-Net over all modalities as channels; a missing modality is a channel of zeros [1]_ [2]_.

    Parameters
    ----------
    config : UNetConfig
    spec : DataSpec

    Notes
    -----
    Ours, in the plain style of nnU-Net [2]_: strided convolutions down, transposed convolutions up, instance
    norm, leaky ReLU, Dice plus cross-entropy, deep supervision. ``missing="zero_fill"`` is the field's baseline;
    ``missing="modality_dropout"`` the simplest remedy.

    ``completion`` adds one 1x1x1 convolution from the finest features to all modalities and an L1 loss in brain on
    those present, so that one network segments and completes; ours, after the joint networks of the field.

    Constant availability channels at the input would be erased by the first instance norm; ``modulation`` tells
    the network after each norm instead.

    References
    ----------
    .. [1] Cicek et al., "3D U-Net: Learning Dense Volumetric Segmentation from Sparse Annotation", MICCAI 2016.
    .. [2] Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image
       segmentation", Nature Methods 2021.
    """

    name = "unet"
    info = MethodInfo(
        title="3D U-Net",
        family="baseline",
        task="segmentation",
        year=2016,
        reference="Cicek et al., MICCAI 2016; in the style of Isensee et al., Nature Methods 2021",
        doi="10.1007/978-3-319-46723-8_49",
        arxiv="1606.06650",
        novelty="None: zero filling, with or without modality dropout, is what every method must beat.",
        weakness="Zero filling without dropout fails as soon as a sequence is missing.",
        deviations=("fixed plan instead of nnU-Net's planning; no mirroring at test time",),
        learns_from_hidden={"completion": "what is hidden is the target"},
    )
    presets = {
        "paper": Preset(
            (Stage("train", epochs=300, batch_size=2, patch=(128,) * 3, sampler="uniform_subset", steps_per_epoch=200),)
        ),
        "tiny": Preset(
            (Stage("train", epochs=30, batch_size=1, patch=(64,) * 3, sampler="uniform_subset", steps_per_epoch=50),),
            {"width": 12, "max_width": 96, "depth": 4, "deep_supervision": False, "lr": 3e-3},
        ),
    }
    outputs: tuple[str, ...] = ("logits",)
    head: Head

    def __init__(self, config: UNetConfig, spec: DataSpec = GLIOMA) -> None:
        super().__init__(config, spec)
        by_region = config.targets == "regions"
        self.head = Head("sigmoid", tuple(spec.regions)) if by_region else Head("softmax", ("background", *spec.labels))
        self.divisor = 2 ** (config.depth - 1)
        sampler = "all" if config.missing == "zero_fill" else "uniform_subset"
        self.stages = tuple(replace(stage, sampler=sampler) for stage in self.stages)
        widths = config.widths
        bits = len(spec.modalities) if config.availability == "modulation" else 0
        before = (len(spec.modalities), *widths[:-1])
        self.down = nn.ModuleList(
            Level(b, w, 1 if i == 0 else 2, config.blocks, bits, config.residual)
            for i, (b, w) in enumerate(zip(before, widths, strict=True))
        )
        self.enlarge = nn.ModuleList(
            nn.ConvTranspose3d(coarse, fine, kernel_size=2, stride=2, bias=False) for fine, coarse in pairwise(widths)
        )
        self.up = nn.ModuleList(Level(2 * w, w, 1, config.blocks, bits, residual=False) for w in widths[:-1])
        heads = max(config.depth - 2, 1) if config.deep_supervision else 1
        self.heads = nn.ModuleList(nn.Conv3d(w, len(self.head.channels), kernel_size=1) for w in widths[:heads])
        self.image_head: nn.Conv3d | None = None
        if config.completion:
            self.image_head = nn.Conv3d(widths[0], len(spec.modalities), kernel_size=1)
            self.outputs = ("logits", "image")

    # ------------------------------------------------------------------------------------------------ prediction

    def encode(self, image: Tensor, available: Tensor, where: Where | None = None) -> Features:
        """The image itself: everything here depends on which modalities are there together."""
        return {"image": zero_absent(image, available)}

    def decode(self, features: Features, available: Tensor, request: Request = EVERYTHING) -> Prediction:
        """Segment and complete from the available channels, the others being zeros. See `Method.decode`."""
        finest = self._features(zero_absent(features["image"], available), available, count=1)[0]
        logits = self.heads[0](finest) if request.wants("logits") else None
        if self.image_head is None or not request.wants("image"):
            return Prediction(logits=logits)
        return Prediction(logits, self.image_head(finest), torch.ones_like(available))

    def _features(self, image: Tensor, available: Tensor, count: int) -> list[Tensor]:
        """Decoder features of the `count` finest levels, finest first."""
        skips = []
        x = image
        for level in self.down:
            x = level(x, available)
            skips.append(x)
        features = []
        for i in reversed(range(len(self.up))):
            x = self.up[i](torch.cat([self.enlarge[i](x), skips[i]], dim=1), available)
            if i < count:
                features.append(x)
        # A network of one level has no decoder.
        return features[::-1] or [x]

    # ---------------------------------------------------------------------------------------------------- training

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        """Dice plus cross-entropy of every supervised level, and L1 in brain of the completed images."""
        assert batch.label is not None
        target = self.head.target(batch.label, self.spec)
        levels = self._features(zero_absent(batch.image, batch.available), batch.available, len(self.heads))
        weights = [0.5**i for i in range(len(levels))]
        dice = ce = torch.zeros((), device=target.device)
        for weight, head, features in zip(weights, self.heads, levels, strict=True):
            logits = head(features)
            coarse = target if logits.shape == target.shape else F.interpolate(target, logits.shape[2:])
            level_dice, level_ce = self._losses(logits.float(), coarse)
            dice = dice + weight / sum(weights) * level_dice
            ce = ce + weight / sum(weights) * level_ce
        loss, logs = dice + ce, {"dice": dice.detach(), "cross_entropy": ce.detach()}
        if self.image_head is not None:
            # Present but hidden modalities are the targets; a modality's own brain is where it is not 0.
            known = zero_absent(batch.image, batch.present)
            completion = masked_l1(self.image_head(levels[0]).float(), known, known != 0)
            loss, logs["completion"] = loss + self.config.completion * completion, completion.detach()
        return StepOutput(loss, logs)

    def _losses(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Dice and cross-entropy of one level; sigmoid channels have no background to leave out."""
        probability = self.head.probability(logits)
        if self.head.kind == "softmax":
            return dice_nnunet(probability, target), cross_entropy(logits, target)
        dice = dice_regions if self.config.dice == "batch" else dice_regions_per_row
        return dice(probability, target), binary_cross_entropy(logits, target)

    def optimizer_settings(self, stage: Stage, turn: str) -> OptimizerSettings:
        """AdamW with a polynomially falling learning rate after a short warm-up."""
        config = self.config
        return OptimizerSettings(
            "adamw", lr=config.lr, weight_decay=config.weight_decay, schedule="poly", warmup=0.02, clip_norm=12.0
        )
