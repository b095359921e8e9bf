"""mmFormer: intra- and inter-modal transformers on top of convolutional encoders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from anymri.bounds import Layers, Rate, Size, Weight, Width, Widths
from anymri.losses.class_weighted import cross_entropy_and_dice
from anymri.nn.hetero_modal import encode_each
from anymri.nn.pre_norm import PreNormConv, PreNormDecoderLevel, PreNormEncoder, StackedPreNormConv
from anymri.nn.res_encoder import PaddingRule, StackedConv, double, keep_available
from anymri.nn.transformer import TransformerLayer
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
    UserError,
    Where,
)

__all__ = ["MmFormer", "MmFormerConfig"]

#: Our codes in the order of the authors' channels, which ``join="as_released"`` depends on.
RELEASED_ORDER = ("flair", "t1c", "t1", "t2")


@dataclass(frozen=True, kw_only=True)
class MmFormerConfig(MethodConfig):
    """Settings of mmFormer; defaults are the released code's.

    Parameters
    ----------
    widths : tuple of int
        Channels of each encoder level, finest first.
    token_width, hidden : int
        Channels of a token, and inside the transformers' perceptrons.
    heads : int
        Attention heads; divides `token_width`.
    grid : int
        Tokens along each axis of the position tables; windows of another size get them resized.
    dropout : float
        In the transformers.
    join : {"by_voxel", "as_released"}
        What the layer behind the inter-modality transformer joins: the modalities of one voxel, or four tokens that
        follow each other within a modality.
    padding : {"reflect", "zeros"}
        ``zeros`` is what the authors' framework did when told ``reflect``.
    lr, weight_decay : float
        Learning rate and decay of the optimiser.
    """

    widths: Widths = (8, 16, 32, 64, 128)
    token_width: Width = 512
    hidden: Width = 4096
    heads: Layers = 8
    grid: Size = 8
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    join: Literal["by_voxel", "as_released"] = "by_voxel"
    padding: PaddingRule = "reflect"
    lr: Rate = 2e-4
    weight_decay: Weight = 1e-4


class _ModalityEncoder(nn.Module):
    """Convolutional pyramid of one modality and the transformer over its coarsest voxels."""

    def __init__(self, config: MmFormerConfig) -> None:
        super().__init__()
        self.grid = config.grid
        self.pyramid = PreNormEncoder(config.widths, config.padding)
        self.embed = nn.Conv3d(config.widths[-1], config.token_width, 1)
        nn.init.kaiming_normal_(self.embed.weight)
        self.position = nn.Parameter(torch.zeros(config.grid**3, config.token_width))
        self.transformer = TransformerLayer(config.token_width, config.heads, config.hidden, config.dropout)

    def positions(self, size: tuple[int, ...]) -> Tensor:
        """Position table (1, token_width, *size)."""
        table = self.position.T.reshape(1, -1, self.grid, self.grid, self.grid)
        if size == (self.grid,) * 3:
            return table
        return F.interpolate(table, size=size, mode="trilinear", align_corners=True)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Levels of the pyramid, finest first, then the tokens as (B, token_width, *S)."""
        features = self.pyramid(image)
        tokens = self.embed(features[-1])
        size = tuple(tokens.shape[2:])
        tokens = self.transformer((tokens + self.positions(size)).flatten(2).transpose(1, 2))
        return [*features, tokens.transpose(1, 2).unflatten(2, size)]


class _FusionDecoder(nn.Module):
    """Decoder of the stacked features, with a classifier at every level."""

    def __init__(self, codes: tuple[str, ...], classes: int, config: MmFormerConfig) -> None:
        super().__init__()
        widths, last = config.widths, len(config.widths) - 1
        self.bottom = PreNormConv(len(codes) * widths[-1], widths[-1], 1)
        self.stacked = nn.ModuleList(StackedPreNormConv(codes, width, width) for width in widths[:-1])
        self.second = nn.ModuleList(PreNormConv(width, width, 3, padding="zeros") for width in widths)
        # Below the finest levels a norm follows the skip, so its bias is lost; the coarsest has a classifier.
        self.third = nn.ModuleList(PreNormConv(w, w, 1, lost_bias=i < last) for i, w in enumerate(widths))
        self.levels = nn.ModuleList(
            PreNormDecoderLevel(widths[i + 1], widths[i], last_bias=True, padding=config.padding)
            for i in reversed(range(last))
        )
        self.classifiers = nn.ModuleList(nn.Conv3d(width, classes, 1) for width in widths)
        for layer in self.classifiers:
            nn.init.kaiming_normal_(layer.get_parameter("weight"))

    def forward(self, kept: list[dict[str, Tensor]], joined: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits (B, K, *S) and the coarser levels' probabilities (B, K, *S / 2^level), second finest first."""
        last = len(self.levels)
        flow = self.third[last](self.second[last](self.bottom(joined)))
        coarse: list[Tensor] = []
        for level, i in zip(self.levels, reversed(range(last)), strict=True):
            assert isinstance(level, PreNormDecoderLevel)
            coarse.insert(0, self.classifiers[i + 1](flow).float().softmax(dim=1))
            skip = self.third[i](self.second[i](self.stacked[i](kept[i])))
            flow = level.merge(skip, level.arrive(flow))
        return self.classifiers[0](flow), coarse


class _SharedDecoder(nn.Module):
    """Decoder that segments from one modality's pyramid alone; training only."""

    def __init__(self, classes: int, config: MmFormerConfig) -> None:
        super().__init__()
        widths, last = config.widths, len(config.widths) - 1
        self.levels = nn.ModuleList(
            PreNormDecoderLevel(widths[i + 1], widths[i], last_bias=i == 0, padding=config.padding)
            for i in reversed(range(last))
        )
        self.classifier = nn.Conv3d(widths[0], classes, 1)
        nn.init.kaiming_normal_(self.classifier.weight)

    def forward(self, features: list[Tensor]) -> Tensor:
        flow = features[-1]
        for level, skip in zip(self.levels, reversed(features[:-1]), strict=True):
            assert isinstance(level, PreNormDecoderLevel)
            flow = level.merge(level.arrive(flow), skip)
        return self.classifier(flow)


class MmFormer(Method[MmFormerConfig]):
    """mmFormer [1]_: intra- and inter-modal transformers for segmentation from any subset.

    Parameters
    ----------
    config : MmFormerConfig
    spec : DataSpec

    Notes
    -----
    Every modality has a convolutional encoder of five levels and a transformer layer over its coarsest voxels. Skips
    and tokens of what is absent are zeros; a second transformer layer attends over the tokens of all modalities
    together. There is no attention mask: the zero tokens of absent modalities keep their positions and take part.
    Training adds a segmentation from every modality's encoder alone, by one decoder they share (its gradient does not
    reach the transformers), and one from every coarser level of the fused decoder. Each of these 1 + M + 4 predictions
    has a class-weighted cross-entropy and a Dice loss, all with weight 1.

    The released weights need ``join="as_released"``, which knows the four glioma sequences only: the layer behind the
    second transformer then joins four tokens that follow each other within one modality.

    A layer over stacked modalities is written as a sum of one layer per modality. Biases whose only reader is an
    instance norm have no effect: they are kept for the authors' weights and not added.

    The released job runs PyTorch 1.2, where "reflect" meant zeros: import released weights with ``source="official"``,
    and with ``source="retrained"`` what the authors' code writes with PyTorch 1.10 or later.

    Authors' weights hold kernels and positions for arrays (x, y, z); they are turned to (z, y, x) on import. Channels
    there: flair, t1c, t1, t2; z-scores over the voxels where the sum of the four is positive.

    References
    ----------
    .. [1] Zhang et al., "mmFormer: Multimodal Medical Transformer for Incomplete Multimodal Learning of Brain Tumor
       Segmentation", MICCAI 2022, arXiv:2206.02425.
    """

    name = "mmformer"
    info = MethodInfo(
        title="mmFormer",
        family="common latent space",
        task="segmentation",
        year=2022,
        reference="Zhang et al., MICCAI 2022",
        doi="10.1007/978-3-031-16443-9_11",
        arxiv="2206.02425",
        code="https://github.com/YaoZhang93/mmFormer",
        parity="1e-4",
        novelty="Tokens attend within each modality first, then across all modalities together.",
        weakness="Zero tokens of absent modalities still take part in attention; fixed slots for the modalities.",
        deviations=(
            "the layer behind the second transformer joins the modalities of one voxel (join='as_released' as theirs)",
            "a modality's own segmentation is learned where it is present, so incomplete cohorts may train",
            "z-score inside each modality's own brain mask, not where the sum of all is positive",
            "0 outside the brain, not the z-score of 0",
            "reflect padding as written; the authors' PyTorch 1.2 padded with zeros (padding='zeros')",
            "augmentation of the training loop instead of slice-wise intensity changes and rotation to 10 degrees",
            "prediction windows as of all methods; theirs are 64 voxels apart",
            "batch size 1, the script's default; the released job sets 8 on four GPUs",
            "position tables are resized for windows of other sizes than 128",
            "the learning rate falls every step, not every epoch",
            "layers of the release that are never called (four *_decode_conv) are left out",
            "small enhancing tumours are left as predicted; their test may drop them",
        ),
        untrained={r".*\.lost_bias": "an instance norm without scale and shift follows and removes it"},
        learns_from_hidden={r"separate_\w+": "each sequence that is present is segmented alone"},
    )
    presets = {
        "paper": Preset((Stage("train", 1000, 1, (128, 128, 128), "uniform_subset", foreground=0.0),)),
        "tiny": Preset(
            (Stage("train", 30, 1, (48, 48, 48), "uniform_subset", steps_per_epoch=50, foreground=0.0),),
            {"widths": (8, 12, 16, 24), "token_width": 32, "hidden": 64, "heads": 4, "grid": 6, "lr": 2e-3},
        ),
    }
    outputs = ("logits",)
    head: Head

    def __init__(self, config: MmFormerConfig, spec: DataSpec = GLIOMA) -> None:
        super().__init__(config, spec)
        if config.join == "as_released" and set(spec.modalities) != set(RELEASED_ORDER):
            raise UserError(
                f"method.config.join = 'as_released': needs the sequences {', '.join(RELEASED_ORDER)}; use by_voxel"
            )
        self.head = Head("softmax", ("background", *spec.labels))
        self.divisor = 2 ** (len(config.widths) - 1)
        classes, codes = len(self.head.channels), spec.modalities
        self.encoders = nn.ModuleDict({code: _ModalityEncoder(config) for code in codes})
        self.transformer = TransformerLayer(config.token_width, config.heads, config.hidden, config.dropout)
        self.join = StackedConv(codes, config.token_width, len(codes) * config.widths[-1])
        #: Of the authors' layer; a norm follows.
        self.join.lost_bias = nn.Parameter(torch.zeros(len(codes) * config.widths[-1]))
        self.fusion = _FusionDecoder(codes, classes, config)
        self.auxiliary = _SharedDecoder(classes, config)

    # ------------------------------------------------------------------------------------------------ prediction

    def encode(self, image: Tensor, available: Tensor, where: Where | None = None) -> Features:
        """Pyramid and tokens of every modality that some row has, by code; see `Method.encode`."""
        return encode_each(self.encoders, zero_absent(image, available), available)

    def decode(self, features: Features, available: Tensor, request: Request = EVERYTHING) -> Prediction:
        """Segment by attention over the available modalities; see `Method.decode`."""
        return Prediction(logits=self._fuse(features, available)[0])

    def _fuse(self, features: Features, available: Tensor) -> tuple[Tensor, list[Tensor]]:
        *kept, tokens = keep_available(features, available, self.spec.modalities)
        return self.fusion(kept, self._attend(tokens))

    def _attend(self, tokens: dict[str, Tensor]) -> Tensor:
        """Tokens by modality, each (B, token_width, *S), through the transformer between modalities; joined."""
        nothing = torch.zeros_like(next(iter(tokens.values())))
        size = tuple(nothing.shape[2:])
        released = self.config.join == "as_released"
        codes = RELEASED_ORDER if released else self.spec.modalities
        placed = [tokens.get(code, nothing) + self._encoder(code).positions(size) for code in codes]
        if released:  # their neighbours follow the axes (x, y, z)
            placed = [token.transpose(2, 4) for token in placed]
        attended = self.transformer(torch.cat([token.flatten(2).transpose(1, 2) for token in placed], dim=1))
        groups = (
            attended.unflatten(1, (-1, len(codes))).unbind(dim=2) if released else attended.chunk(len(codes), dim=1)
        )
        maps = [group.transpose(1, 2).unflatten(2, tuple(placed[0].shape[2:])) for group in groups]
        if released:
            maps = [group.transpose(2, 4) for group in maps]
        return self.join(dict(zip(codes, maps, strict=True)))

    def _encoder(self, code: str) -> _ModalityEncoder:
        return cast(_ModalityEncoder, self.encoders[code])

    # ---------------------------------------------------------------------------------------------------- training

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        """Class-weighted cross-entropy and Dice of the fused, the single-modality and the coarser segmentations."""
        assert batch.label is not None
        features = self.encode(batch.image, batch.present)
        logits, coarse = self._fuse(features, batch.available)
        target = self.head.target(batch.label, self.spec)
        terms = cross_entropy_and_dice("fusion", [self.head.probability(logits.float())], [target])
        alone, alone_target = [], []
        for i, code in enumerate(self.spec.modalities):
            rows = batch.present[:, i]
            if rows.any():
                alone.append(self.head.probability(self.auxiliary(features[code][:-1]).float())[rows])
                alone_target.append(target[rows])
        terms |= cross_entropy_and_dice("separate", alone, alone_target)
        enlarged = [double(probability, level) for level, probability in enumerate(coarse, start=1)]
        terms |= cross_entropy_and_dice("coarse", enlarged, [target] * len(enlarged))
        return StepOutput.of(terms)

    def optimizer_settings(self, stage: Stage, turn: str) -> OptimizerSettings:
        """Adam (amsgrad) with a polynomial schedule."""
        config = self.config
        return OptimizerSettings(
            "adam", lr=config.lr, weight_decay=config.weight_decay, amsgrad=True, schedule="poly", power=0.9
        )
