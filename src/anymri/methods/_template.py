"""Template of a method: a small early-fusion U-Net.

`anymri new-method NAME` writes a copy under a name of your own; ``docs/how-to/add-a-method.md`` guides. Replace what
FILL IN marks.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anymri.bounds import Depth, Rate, Width
from anymri.losses.segmentation import cross_entropy, dice_nnunet
from anymri.nn.blocks import InstanceNorm, enlarge
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

__all__ = ["Template", "TemplateConfig"]


@dataclass(frozen=True, kw_only=True)
class TemplateConfig(MethodConfig):
    """Settings of Template; defaults are the paper's.

    Parameters
    ----------
    width : int
        Channels of the finest level; every coarser one has twice as many.
    depth : int
        Number of levels.
    lr : float
        Learning rate at the start.
    """

    width: Width = 32
    depth: Depth = 4
    lr: Rate = 1e-3


class Block(nn.Module):
    """Convolution 3x3x3, instance norm, leaky ReLU.

    Parameters
    ----------
    in_channels, out_channels : int
    stride : int, default=1
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False)
        self.norm = InstanceNorm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, *S) to (B, out_channels, *S / stride)."""
        return F.leaky_relu(self.norm(self.conv(x)), 0.01)


class Template(Method[TemplateConfig]):
    """A U-Net over all modalities as channels, the absent ones filled with zeros [1]_.

    Parameters
    ----------
    config : TemplateConfig
    spec : DataSpec

    Notes
    -----
    FILL IN: the idea, with equation numbers. What departs from paper and code is a line of `info.deviations`.

    References
    ----------
    .. [1] FILL IN: authors, "title", venue year, identifier.
    """

    name = "_template"
    info = MethodInfo(
        title="Template",
        family="baseline",
        task="segmentation",
        year=2026,
        reference="unpublished, FILL IN: by whom; or Author et al., venue year",
        doi="",
        code="",
        novelty="FILL IN: what is new, in one line.",
        weakness="FILL IN: what is weak, in one line.",
        deviations=("FILL IN: a line for each departure from paper and code",),
    )
    # The same modules in both: `paper` as published, `tiny` for minutes on two cores.
    presets = {
        "paper": Preset((Stage("train", epochs=300, batch_size=2, patch=(128,) * 3, sampler="uniform_subset"),)),
        "tiny": Preset(
            (Stage("train", epochs=30, batch_size=2, patch=(48,) * 3, sampler="uniform_subset", steps_per_epoch=50),),
            {"width": 8, "lr": 3e-3},
        ),
    }
    outputs = ("logits",)
    head: Head

    def __init__(self, config: TemplateConfig, spec: DataSpec = GLIOMA) -> None:
        super().__init__(config, spec)
        self.head = Head("softmax", ("background", *spec.labels))
        # Windows must be multiples of this: 2 to the number of times the network halves them.
        self.divisor = 2 ** (config.depth - 1)
        widths = [config.width * 2**level for level in range(config.depth)]
        self.first = Block(len(spec.modalities), widths[0])
        self.down = nn.ModuleList(Block(fine, coarse, stride=2) for fine, coarse in pairwise(widths))
        self.up = nn.ModuleList(Block(fine + coarse, fine) for fine, coarse in pairwise(widths))
        self.classifier = nn.Conv3d(widths[0], len(self.head.channels), kernel_size=1)

    def encode(self, image: Tensor, available: Tensor, where: Where | None = None) -> Features:
        """The image itself: everything here depends on which modalities are there together."""
        return {"image": zero_absent(image, available)}

    def decode(self, features: Features, available: Tensor, request: Request = EVERYTHING) -> Prediction:
        """Segment from the available modalities; see `Method.decode`."""
        # Again, because `features` may hold more modalities than this subset.
        x = self.first(zero_absent(features["image"], available))
        skips = []
        for block in self.down:
            skips.append(x)
            x = block(x)
        for block, skip in zip(reversed(self.up), reversed(skips), strict=True):
            x = block(torch.cat([enlarge(x, skip.shape[2:]), skip], dim=1))
        return Prediction(logits=self.classifier(x))

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        """Dice plus cross-entropy."""
        assert batch.label is not None
        logits = self.predict(batch.image, batch.available, request=Request(outputs=("logits",))).logits
        assert logits is not None
        target = self.head.target(batch.label, self.spec)
        logits = logits.float()  # losses in 32 bits, whatever the network computes in
        terms = {
            "dice": dice_nnunet(self.head.probability(logits), target),
            "cross_entropy": cross_entropy(logits, target),
        }
        return StepOutput.of(terms)

    def optimizer_settings(self, stage: Stage, turn: str) -> OptimizerSettings:
        """AdamW with a polynomially falling learning rate."""
        return OptimizerSettings("adamw", lr=self.config.lr, weight_decay=1e-4, schedule="poly")
