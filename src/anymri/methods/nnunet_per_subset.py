"""nnU-Net per subset: a dedicated nnU-Net for each subset of modalities, the upper-bound baseline."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anymri.bounds import Rate, SpacingMm, Triple, Weight, Width
from anymri.losses.segmentation import binary_cross_entropy, dice_regions, level_weights
from anymri.nn.plain_unet import Axes, PlainUNet
from anymri.protocol.method import MethodConfig, MethodInfo, Preset, StepContext
from anymri.protocol.per_subset import PerSubset
from anymri.types import (
    GLIOMA,
    Batch,
    DataSpec,
    Head,
    OptimizerSettings,
    Prediction,
    Stage,
    StepOutput,
    UserError,
)

__all__ = ["NnUNetPerSubset", "NnUNetPerSubsetConfig", "Topology", "plan_topology"]


class Topology(NamedTuple):
    """Network topology by nnU-Net's rules, finest level first.

    Attributes
    ----------
    strides, kernels : tuple of (int, int, int)
        Of each level's first convolution, and of all its convolutions.
    widths : tuple of int
        Channels of each level.
    patch : tuple of int
        The window, enlarged to what the strides divide.
    """

    strides: tuple[Axes, ...]
    kernels: tuple[Axes, ...]
    widths: tuple[int, ...]
    patch: tuple[int, ...]


def plan_topology(
    spacing_mm: tuple[float, ...],
    patch: tuple[int, ...],
    base_width: int = 32,
    max_width: int = 320,
    least_size: int = 4,
) -> Topology:
    """Levels of the network by nnU-Net's rules.

    Parameters
    ----------
    spacing_mm : tuple of float
        Voxel size (D, H, W).
    patch : tuple of int
        Window (D, H, W).
    base_width, max_width : int
        Channels of the finest level; every coarser one has twice as many, up to the maximum.
    least_size : int, default=4
        No axis is halved below it.

    Notes
    -----
    An axis is halved while it has at least twice `least_size` voxels and its spacing is within a factor of two of the
    finest spacing of such axes; a lone axis needs three times `least_size`. A kernel spans an axis (3 instead of 1)
    from the level at which that axis is within a factor of two of the finest spacing; the coarsest level's kernel is
    3 everywhere. nnU-Net looks spacings up by the wrong axis once an axis has become too short; that is mended here.
    """
    spacing, size = list(spacing_mm), list(patch)
    strides, kernels, kernel = [(1,) * len(patch)], [], [1] * len(patch)
    while True:
        long = [axis for axis, n in enumerate(size) if n >= 2 * least_size]
        halved = [axis for axis in long if spacing[axis] / min(spacing[a] for a in long) < 2]
        if not halved or (len(halved) == 1 and size[halved[0]] < 3 * least_size):
            break
        kernel = [3 if k == 3 or mm / min(spacing) < 2 else 1 for k, mm in zip(kernel, spacing, strict=True)]
        kernels.append(tuple(kernel))
        strides.append(tuple(2 if axis in halved else 1 for axis in range(len(size))))
        for axis in halved:
            spacing[axis] *= 2
            size[axis] = math.ceil(size[axis] / 2)
    kernels.append((3,) * len(patch))
    divisor = [math.prod(axis) for axis in zip(*strides, strict=True)]
    return Topology(
        cast(tuple[Axes, ...], tuple(strides)),
        cast(tuple[Axes, ...], tuple(kernels)),
        tuple(min(base_width * 2**level, max_width) for level in range(len(strides))),
        tuple(math.ceil(n / d) * d for n, d in zip(patch, divisor, strict=True)),
    )


@dataclass(frozen=True, kw_only=True)
class NnUNetPerSubsetConfig(MethodConfig):
    """Settings of one nnU-Net.

    Parameters
    ----------
    spacing_mm : tuple of float
        Voxel size (D, H, W) the network is planned for.
    window : tuple of int
        Window (D, H, W) the network is planned for; the stage's patch is the same.
    base_width, max_width : int
        Channels of the finest level, and the most of any level.
    lr : float
        First learning rate.
    weight_decay : float
        Decay of the optimiser.
    """

    spacing_mm: tuple[SpacingMm, SpacingMm, SpacingMm] = (1.0, 1.0, 1.0)
    window: Triple = (128, 128, 128)
    base_width: Width = 32
    max_width: Width = 320
    lr: Rate = 1e-2
    weight_decay: Weight = 3e-5


class NnUNetPerSubset(PerSubset[NnUNetPerSubsetConfig]):
    """nnU-Net [1]_ trained for one subset of modalities alone.

    Parameters
    ----------
    config : NnUNetPerSubsetConfig
        `subset` names the modalities; spacing and window decide the levels, see `plan_topology`.
    spec : DataSpec

    Notes
    -----
    One instance serves one subset; `PerSubsetModels` joins several. A method for missing modalities has to beat this at
    equal size to be worth its effort. Sigmoid channels are the regions of the specification, as nnU-Net trains BraTS.
    Every level of the way up has a classifier; while training those of all but the coarsest are counted, with weights
    1, 1/2, 1/4 ... that sum to 1. The loss is binary cross-entropy plus a Dice loss of every window by itself.

    Convolution biases in front of the norms are kept for nnU-Net's weights and not added.

    Only the channels of the subset need to exist, so subjects that lack other modalities train too.

    References
    ----------
    .. [1] Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image
       segmentation", Nature Methods 18, 2021.
    """

    name = "nnunet_per_subset"
    info = MethodInfo(
        title="nnU-Net, one per subset",
        family="baseline",
        task="segmentation",
        year=2021,
        reference="Isensee et al., Nature Methods 2021",
        doi="10.1038/s41592-020-01008-z",
        arxiv="1809.10486",
        code="https://github.com/MIC-DKFZ/nnUNet",
        parity="1e-4",
        novelty="Spacing and window decide the network; one network sees exactly one subset.",
        weakness="As many trainings as subsets, and nothing is learned from the missing modalities.",
        deviations=(
            "augmentation of the training loop; theirs rotates, scales, adds noise, blurs, lowers resolution, mirrors",
            "a third of all windows is centred on a label; theirs one of every two contains foreground",
            "z-score inside each modality's own brain, not the common one of the channels",
            "the learning rate falls every step, not every epoch",
            "one network instead of the mean of five folds' networks",
            "windows of prediction weigh alike unless weighting='gaussian'; none is mirrored; no post-processing",
        ),
        untrained={
            r"network\.(down|up)\..*\.conv\.bias": "an instance norm follows and removes it",
            r"network\.heads\.0\..*": "the coarsest classifier has weight 0 in nnU-Net's loss",
        },
    )
    presets = {
        "paper": Preset((Stage("train", 1000, 2, (128, 128, 128), "all", steps_per_epoch=250),)),
        "tiny": Preset(
            (Stage("train", 30, 2, (48, 48, 48), "all", steps_per_epoch=50),),
            {"spacing_mm": (2.0, 2.0, 2.0), "window": (48, 48, 48), "base_width": 8, "max_width": 40},
        ),
    }
    needs: Literal["complete", "any"] | tuple[str, ...] = "any"
    outputs = ("logits",)
    head: Head

    def __init__(self, config: NnUNetPerSubsetConfig, spec: DataSpec = GLIOMA) -> None:
        super().__init__(config, spec)
        self.needs = self.subset_modalities
        self.head = Head("sigmoid", tuple(spec.regions))
        self.plan = plan_topology(config.spacing_mm, config.window, config.base_width, config.max_width)
        if len(self.plan.strides) < 3:
            raise UserError(f"method.config.window = {config.window}: too small for a U-Net; give at least 16 voxels")
        self.divisor = max(math.prod(axis) for axis in zip(*self.plan.strides, strict=True))
        self.network = PlainUNet(
            len(self.subset_modalities), len(self.head.channels), self.plan.widths, self.plan.kernels, self.plan.strides
        )

    # ------------------------------------------------------------------------------------------------ prediction

    def predict_subset(self, sources: Tensor, available: Tensor) -> Prediction:
        """Segment."""
        return Prediction(logits=self.network.heads[-1](self.network(sources)[-1]))

    # ---------------------------------------------------------------------------------------------------- training

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        """Cross-entropy and Dice at every level of the way up but the coarsest."""
        assert batch.label is not None
        features = self.network(self.take_own(batch.image, batch.present))
        heads = cast(list[nn.Module], list(self.network.heads))
        target = self.head.target(batch.label, self.spec)
        terms: dict[str, list[Tensor]] = {"cross_entropy": [], "dice": []}
        # The finest level first; the coarsest is left out.
        for head, feature in reversed(list(zip(heads, features, strict=True))[1:]):
            logits = head(feature).float()
            goal = F.interpolate(target, size=logits.shape[2:], mode="nearest-exact")
            terms["cross_entropy"].append(binary_cross_entropy(logits, goal))
            pairs = zip(logits.sigmoid(), goal, strict=True)
            terms["dice"].append(torch.stack([dice_regions(p[None], g[None]) for p, g in pairs]).mean())
        weights = level_weights(len(heads) - 1)
        summed = {
            name: torch.stack([w * v for w, v in zip(weights, values, strict=True)]).sum()
            for name, values in terms.items()
        }
        return StepOutput.of(summed)

    def optimizer_settings(self, stage: Stage, turn: str) -> OptimizerSettings:
        """SGD with Nesterov momentum 0.99, polynomial schedule, gradients clipped to norm 12."""
        config = self.config
        return OptimizerSettings(
            "sgd",
            lr=config.lr,
            weight_decay=config.weight_decay,
            betas=(0.99, 0.999),
            nesterov=True,
            schedule="poly",
            power=0.9,
            clip_norm=12.0,
        )
