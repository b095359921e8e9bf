"""M3AE: masked-autoencoder pre-training with a learned image in place of missing modalities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from anymri.bounds import LayersByLevel, Rate, Size, Triple, Weight, Widths
from anymri.losses.reconstruction import masked_mean_squared_error
from anymri.losses.segmentation import binary_cross_entropy, prepare
from anymri.nn.fusion import spread
from anymri.nn.group_norm_unet import GroupNormDecoder, GroupNormEncoder
from anymri.protocol.method import Method, MethodConfig, MethodInfo, Preset, StepContext, zero_absent
from anymri.protocol.request import EVERYTHING, Request
from anymri.types import (
    GLIOMA,
    Batch,
    DataSpec,
    Features,
    Head,
    Intensity,
    OptimizerSettings,
    Prediction,
    Stage,
    StepOutput,
    Where,
)

__all__ = ["M3AE", "M3AEConfig", "visible_patches"]


@dataclass(frozen=True, kw_only=True)
class M3AEConfig(MethodConfig):
    """Settings of M3AE; defaults are the released code's.

    Parameters
    ----------
    widths, blocks : tuple of int
        Channels, all multiples of 8, and residual blocks of each level, finest first.
    image_shape : tuple of int
        Shape (D, H, W) of the learned image.
    image_step : int
        Voxels of a volume along one voxel of the learned image.
    mask_patch : int
        Side of the patches that pre-training hides.
    visible : float
        Share of all patches of all modalities that pre-training shows.
    distil : {"bottleneck", "deep_output"}
        What two views of a case agree on: the coarsest features (paper), or the coarsest deep output (released).
    image_weight, distil_weight : float
        Weights of the learned image's penalty and of self-distillation.
    lr, image_lr, weight_decay : float
        Of the network, of the learned image, and of fine-tuning.
    """

    widths: Widths = (16, 32, 64, 128)
    blocks: LayersByLevel = (1, 2, 2, 4)
    image_shape: Triple = (155, 240, 240)
    image_step: Size = 1
    mask_patch: Size = 16
    visible: Annotated[float, Field(gt=0, lt=1)] = 0.125
    distil: Literal["bottleneck", "deep_output"] = "bottleneck"
    image_weight: Weight = 0.005
    distil_weight: Weight = 0.1
    lr: Rate = 3e-4
    image_lr: Rate = 5e-3
    weight_decay: Weight = 1e-4


def visible_patches(available: Tensor, grid: tuple[int, ...], share: float, generator: torch.Generator) -> Tensor:
    """Draw the patches that pre-training shows, among those of the available modalities.

    Parameters
    ----------
    available : Tensor of bool, shape (B, M)
    grid : tuple of int
        Number of patches along each axis.
    share : float
        Of all patches of all M modalities: modalities that are dropped do not change how many are shown.
    generator : torch.Generator
        On the CPU.

    Returns
    -------
    Tensor of bool, shape (B, M, *grid)
    """
    rows, modalities = available.shape
    count = int(torch.Size(grid).numel())
    allowed = available.cpu().repeat_interleave(count, dim=1)
    keys = torch.rand(rows, modalities * count, generator=generator, dtype=torch.float64).masked_fill(~allowed, 2.0)
    shown = (keys.argsort(dim=1).argsort(dim=1) < int(share * modalities * count)) & allowed
    return shown.reshape(rows, modalities, *grid).to(available.device)


class M3AE(Method[M3AEConfig]):
    """M3AE [1]_: masked-autoencoder pre-training, a learned image in place of missing modalities.

    Parameters
    ----------
    config : M3AEConfig
    spec : DataSpec

    Notes
    -----
    One U-Net with all modalities as channels. A missing channel is filled with the same place of a learned image of
    the whole head, found by optimisation while the network is pre-trained (the paper calls it model inversion).

    Pre-training hides whole modalities and patches of 16 voxels until one eighth of all patches is left, fills the
    holes from the learned image, and reconstructs every voxel; the learned image also pays for its distance from its
    own mean. Fine-tuning freezes it, shows every case twice with independent subsets, and adds to the segmentation
    losses of both views (Dice and cross-entropy of three outputs, two of them deep ones) the mean squared difference
    of their coarsest features. The two subsets may coincide. A batch without labels trains by that term alone.

    Positions are absolute: the learned image's centre lies on the volume's, which for BraTS (155 x 240 x 240) is the
    published rule; places outside take its border. Windows that augmentation mirrored see it mirrored.

    Channels of the authors' data: t1, t1c, t2, flair, arrays (z, y, x), each modality scaled to [0, 1] between its 1st
    and 99th percentile; outputs et, tc, wt.

    References
    ----------
    .. [1] Liu et al., "M3AE: Multimodal Representation Learning for Brain Tumor Segmentation with Missing Modalities",
       AAAI 2023, arXiv:2303.05302.
    """

    name = "m3ae"
    info = MethodInfo(
        title="M3AE",
        family="knowledge distillation",
        task="segmentation",
        year=2023,
        reference="Liu et al., AAAI 2023",
        arxiv="2303.05302",
        code="https://github.com/ccarliu/m3ae",
        parity="1e-4",
        novelty="Masked pre-training; what is missing is replaced by an image found by optimisation.",
        weakness="The learned image knows absolute places: heads must lie alike.",
        deviations=(
            "self-distillation of the coarsest features as in the paper (distil='deep_output' as released)",
            "windows have absolute places in prediction as in training; the release counts from the brain's corner",
            "patches and views are drawn among what is present, so incomplete cohorts may train",
            "augmentation is the loop's, before the learned image is filled in; theirs after it, slice by slice",
            "pre-training without the validation cases",
            "the learning rate falls every step, not every epoch",
            "windows averaged as probabilities, not as logits",
            "the last epoch; the tested one is not stated, the release keeps every 50th and the best of every 20th",
        ),
        learns_from_hidden={"reconstruction": "every sequence that is present is a target of pre-training"},
    )
    presets = {
        "paper": Preset(
            (
                Stage("pretrain", 600, 2, (128, 128, 128), "size_then_subset", augment="none", foreground=0.0),
                Stage("finetune", 300, 1, (128, 128, 128), "size_then_subset", foreground=0.0),
            )
        ),
        "tiny": Preset(
            (
                Stage(
                    "pretrain",
                    10,
                    1,
                    (48, 48, 48),
                    "size_then_subset",
                    steps_per_epoch=50,
                    augment="none",
                    foreground=0.0,
                ),
                Stage("finetune", 20, 1, (48, 48, 48), "size_then_subset", steps_per_epoch=50, foreground=0.0),
            ),
            {
                "widths": (8, 16, 24, 32),
                "blocks": (1, 1, 1, 1),
                "image_shape": (48, 56, 48),
                "image_step": 2,
                "mask_patch": 8,
                "lr": 2e-3,
                "image_lr": 3e-2,
            },
        ),
    }
    outputs = ("logits",)
    intensity = Intensity("unit", low="p1", high="p99")
    head: Head

    def __init__(self, config: M3AEConfig, spec: DataSpec = GLIOMA) -> None:
        super().__init__(config, spec)
        self.head = Head("sigmoid", tuple(reversed(spec.regions)))
        self.divisor = 2 ** (len(config.widths) - 1)
        modalities, classes = len(spec.modalities), len(self.head.channels)
        self.encoder = GroupNormEncoder(modalities, config.widths, config.blocks)
        self.decoder = GroupNormDecoder(config.widths, classes)
        # Of all levels but the finest, coarsest first.
        self.deep = nn.ModuleList(nn.Conv3d(width, classes, 1) for width in reversed(config.widths[1:-1]))
        self.reconstruction = nn.Conv3d(config.widths[0], modalities, 1)
        self.learned_image = nn.ParameterDict(
            {code: nn.Parameter(torch.randn(config.image_shape)) for code in spec.modalities}
        )

    # ------------------------------------------------------------------------------------------------ prediction

    def encode(self, image: Tensor, available: Tensor, where: Where | None = None) -> Features:
        """What is there, and what the learned image has at the same place; see `Method.encode`."""
        return {"image": zero_absent(image, available), "fill": self._learned(where, image)}

    def decode(self, features: Features, available: Tensor, request: Request = EVERYTHING) -> Prediction:
        """Segment with the learned image where a modality is missing; see `Method.decode`."""
        found, _ = self.encoder(self._filled(features, available))
        return Prediction(logits=self.decoder(found[-1], found[:-1]))

    def _learned(self, where: Where | None, image: Tensor) -> Tensor:
        """The learned image (B, M, *S) at the windows' places; without places, its centre."""
        # By name: torch keeps these sorted.
        learned = torch.stack([self.learned_image[code] for code in self.spec.modalities])
        windows = []
        for row in range(len(image)):
            depth, height, width = (self._places(where, row, axis, image.shape[axis + 2]) for axis in range(3))
            windows.append(learned[:, depth[:, None, None], height[:, None], width])
        return torch.stack(windows)

    def _places(self, where: Where | None, row: int, axis: int, size: int) -> Tensor:
        """Index into the learned image of every voxel of a window along one axis."""
        origin, volume = (0, size) if where is None else (int(x[row, axis]) for x in (where.origin, where.volume_shape))
        length, step = self.config.image_shape[axis], self.config.image_step
        shift = origin + (length * step - volume) // 2
        places = ((torch.arange(size, device=self.reconstruction.weight.device) + shift) // step).clamp(0, length - 1)
        return places.flip(0) if where is not None and bool(where.flipped[row, axis]) else places

    @staticmethod
    def _filled(features: Features, shown: Tensor) -> Tensor:
        """The image where it is shown, else the learned one; `shown` is (B, M) or (B, M, *S)."""
        return torch.where(spread(shown, features["image"].ndim), features["image"], features["fill"])

    def _network(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Coarsest features, and those of every level of the way up, coarsest first."""
        features, _ = self.encoder(image)
        return features[-1], self.decoder.features(features[-1], features[:-1])

    # ---------------------------------------------------------------------------------------------------- training

    def turns(self, stage: Stage) -> dict[str, list[dict[str, Any]]]:
        """Pre-training moves the learned image at its own rate; fine-tuning leaves it alone."""
        shared = [*self.encoder.parameters(), *self.decoder.levels.parameters()]
        if stage.name == "pretrain":
            network = [*shared, *self.reconstruction.parameters()]
            return {
                "main": [
                    {"params": network},
                    {"params": list(self.learned_image.values()), "lr": self.config.image_lr},
                ]
            }
        return {"main": [{"params": [*shared, *self.decoder.classifier.parameters(), *self.deep.parameters()]}]}

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        """Masked reconstruction, or segmentation of two views of every case."""
        return self._pretrain(batch, ctx) if ctx.stage.name == "pretrain" else self._finetune(batch, ctx)

    def _pretrain(self, batch: Batch, ctx: StepContext) -> StepOutput:
        config, features = self.config, self.encode(batch.image, batch.available, batch.where)
        size = batch.image.shape[2:]
        grid = tuple(-(-n // config.mask_patch) for n in size)
        shown = visible_patches(batch.available, grid, config.visible, ctx.generator)
        for axis in (2, 3, 4):
            shown = shown.repeat_interleave(config.mask_patch, dim=axis).narrow(axis, 0, size[axis - 2])
        _, levels = self._network(self._filled(features, shown))
        squares = [((image - image.mean()) ** 2).sum() for image in self.learned_image.values()]
        terms = {
            "reconstruction": masked_mean_squared_error(self.reconstruction(levels[-1]), batch.image, batch.present),
            "learned_image": torch.stack(squares).sum().sqrt(),
        }
        return StepOutput.of(terms, {"learned_image": config.image_weight})

    def _finetune(self, batch: Batch, ctx: StepContext) -> StepOutput:
        features = self.encode(batch.image, batch.present, batch.where)
        twice = {key: torch.cat([value.detach(), value.detach()]) for key, value in features.items()}
        views = torch.cat([batch.available, ctx.draw_available(batch.present)])
        bottom, levels = self._network(self._filled(twice, views))
        size = tuple(batch.image.shape[2:])
        scores = [
            F.interpolate(head(level), size=size, mode="trilinear", align_corners=True)
            for head, level in zip(self.deep, levels[:-1], strict=True)
        ]
        first, second = (bottom if self.config.distil == "bottleneck" else scores[0]).float().chunk(2)
        terms = {"self_distillation": ((first - second) ** 2).mean()}
        if batch.label is not None:
            scores.append(self.decoder.classifier(levels[-1]))
            target = self.head.target(batch.label, self.spec).repeat(2, 1, 1, 1, 1)
            terms["dice"] = torch.stack([_dice(score, target) for score in scores]).sum()
            entropies = [binary_cross_entropy(score.float(), target) for score in scores]
            terms["cross_entropy"] = torch.stack(entropies).sum()
        weights = {"self_distillation": self.config.distil_weight, "dice": 0.7, "cross_entropy": 0.3}
        return StepOutput.of(terms, weights)

    def optimizer_settings(self, stage: Stage, turn: str) -> OptimizerSettings:
        """Adam; learning rates fall to 0 along a cosine."""
        decay = 0.0 if stage.name == "pretrain" else self.config.weight_decay
        return OptimizerSettings("adam", lr=self.config.lr, weight_decay=decay, schedule="cosine")


def _dice(logits: Tensor, target: Tensor) -> Tensor:
    """Mean over regions of ``1 - (2 S pg + 1) / (S p^2 + S g^2 + 1)``, sums over all rows: M3AE's own Dice loss."""
    p, target = prepare(logits.float().sigmoid(), target)
    axes = (0, 2, 3, 4)
    overlap, total = (p * target).sum(axes), (p * p).sum(axes) + (target * target).sum(axes)
    return (1 - (2 * overlap + 1) / (total + 1)).mean()
