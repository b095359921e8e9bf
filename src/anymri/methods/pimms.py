"""PIMMS: segment sequences that come without names, by telling first what each of them is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anymri.bounds import Layers, Rate, Weight, Width, Widths
from anymri.losses.segmentation import dice_squared_prediction
from anymri.nn.fusion import masked_moments
from anymri.nn.slice_back_end import SliceBackEnd, slice_convolution
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

__all__ = ["PIMMS", "PIMMSConfig"]

#: Groups of the classifier's norms: at most four, so that channels keep their relative height, and a divisor of them.
MOST_GROUPS = 4


@dataclass(frozen=True, kw_only=True)
class PIMMSConfig(MethodConfig):
    """Settings of PIMMS; defaults are the released two-dimensional code's.

    Parameters
    ----------
    attention : {"soft", "hard", "named"}
        ``soft``: the slot of a type gets the mean of all images, weighted by how likely each is of the type. ``hard``:
        the mean of the images that are most likely of it, and slots without any are left out. ``named``: the true
        names, as HeMIS.
    posterior : {"slice", "window"}
        Whether each slice is told by itself, or all slices of a window share their mean score.
    stem_width, classifier_widths : int, tuple of int
        Channels of the classifier's first convolution and of its resolutions, multiples of 4.
    classifier_blocks : int
        Bottleneck blocks of each resolution.
    width, front_width : int
        Feature maps of each slot, and after the moments.
    dice_weight, type_weight : float
        Weight of Dice, and of the cross-entropy of types when the training begins.
    type_decay : float
        The latter falls as exp(-type_decay * share of the training that is done).
    lr, weight_decay : float
        Learning rate and decay of the optimiser.
    """

    attention: Literal["soft", "hard", "named"] = "soft"
    posterior: Literal["slice", "window"] = "slice"
    stem_width: Width = 16
    classifier_widths: Widths = (64, 128, 256)
    classifier_blocks: Layers = 10
    width: Width = 48
    front_width: Width = 80
    dice_weight: Weight = 0.1
    type_weight: Weight = 10.0
    type_decay: Weight = 50.0
    lr: Rate = 3e-4
    weight_decay: Weight = 1e-4


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(MOST_GROUPS, channels), channels)


class _Bottleneck(nn.Module):
    """Pre-activation block: 1 x 1 to a quarter, 3 x 3, 1 x 1, added to its input."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        inner = max(out_channels // 4, 1)
        self.norms = nn.ModuleList(_norm(n) for n in (in_channels, inner, inner))
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(in_channels, inner, 1, bias=False),
                nn.Conv2d(inner, inner, 3, stride, padding=1, bias=False),
                nn.Conv2d(inner, out_channels, 1, bias=False),
            ]
        )
        self.bridge: nn.Conv2d | None = None
        if stride > 1 or in_channels != out_channels:
            self.bridge = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        inner = x
        for norm, conv in zip(self.norms, self.convs, strict=True):
            inner = conv(F.relu(norm(inner)))
        return inner + (x if self.bridge is None else self.bridge(x))


class _Classifier(nn.Module):
    """Score of every type, (N, types), from slices (N, 1, H, W)."""

    def __init__(self, config: PIMMSConfig, types: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, config.stem_width, 3, padding=1, bias=False)
        blocks, before = [], config.stem_width
        for level, width in enumerate(config.classifier_widths):
            for number in range(config.classifier_blocks):
                blocks.append(_Bottleneck(before, width, 2 if level and number == 0 else 1))
                before = width
        self.blocks = nn.Sequential(*blocks)
        self.norm = _norm(before)
        self.last = nn.Linear(before, types)

    def forward(self, slices: Tensor) -> Tensor:
        x = F.relu(self.norm(self.blocks(self.stem(slices))))
        return self.last(x.mean(dim=(2, 3)))


class PIMMS(Method[PIMMSConfig]):
    """PIMMS [1]_: permutation-invariant segmentation of sequences without names.

    Parameters
    ----------
    config : PIMMSConfig
    spec : DataSpec
        Its modalities are the types that images can be of.

    Notes
    -----
    Which channel an image comes in means nothing here: give unnamed files in any channels and any order. A classifier,
    the same for all images, says of each slice what type it is of; the slot of type m gets
    ``a_m = sum_j s_jm x_j / sum_j s_jm`` over the images j that are there (soft attention), and a HeMIS segments the
    slots: feature maps of each slot, their mean and variance over all slots, two convolutions. ``modality_logits`` say
    what each channel shows: the mean score over its slices that are not empty.

    A type that no image is of has a slot all the same in the soft form, a blend of the others; the hard form leaves it
    out. All slots enter the moments, as released.

    The released code is for TensorFlow 1 and NiftyNet and was not run; shapes and equations are tested by hand.

    References
    ----------
    .. [1] Varsavsky, Eaton-Rosen, Sudre, Nachev, Cardoso, "PIMMS: Permutation Invariant Multi-modal Segmentation",
       DLMIA 2018, arXiv:1807.06537.
    """

    name = "pimms"
    info = MethodInfo(
        title="PIMMS",
        family="common latent space",
        task="segmentation",
        year=2018,
        reference="Varsavsky et al., DLMIA 2018",
        arxiv="1807.06537",
        code="https://github.com/tomvars/NiftyNet",
        parity="interpretation (TensorFlow code, not run)",
        novelty="Needs no names of sequences: it learns to tell them, and to put them into slots.",
        weakness="A slot without an image of its type is filled with a blend of the others.",
        deviations=(
            "group norms in the classifier instead of batch norms, so that patients of a batch do not meet",
            "the squared prediction in Dice is that of NiftyNet's; Dice of the release was not compared",
            "images are not put into another order in training: nothing depends on their order",
            "images are dropped as intended (drop_count); sampler drop_count_effective is what the release does",
            "empty slices teach the classifier nothing; the release classifies images of zeros",
            "the weight of the types' cross-entropy falls over the share of the training, 50 = 1e-3 over 50 000 steps",
            "z-score inside each image's own brain",
        ),
    )
    presets = {
        "paper": Preset(
            (Stage("train", 250, 1, (5, 100, 100), "drop_count", steps_per_epoch=200, augment="none", foreground=0.0),)
        ),
        "tiny": Preset(
            (Stage("train", 30, 1, (8, 64, 64), "drop_count", steps_per_epoch=50, augment="none", foreground=0.0),),
            {
                "stem_width": 8,
                "classifier_widths": (16, 32, 64),
                "classifier_blocks": 2,
                "width": 12,
                "front_width": 16,
                "posterior": "window",
                "dice_weight": 1.0,
                "type_weight": 1.0,
                "type_decay": 3.0,
                "lr": 3e-3,
            },
        ),
    }
    outputs = ("logits", "modality_logits")
    spatial_dims = 2
    head: Head

    def __init__(self, config: PIMMSConfig, spec: DataSpec = GLIOMA) -> None:
        super().__init__(config, spec)
        self.head = Head("softmax", ("background", *spec.labels))
        self.classifier = _Classifier(config, len(spec.modalities))
        self.back_ends = nn.ModuleDict({code: SliceBackEnd(config.width) for code in spec.modalities})
        self.front = slice_convolution(2 * config.width, config.front_width, 1)
        self.last = slice_convolution(config.front_width, len(self.head.channels), 1)

    # ------------------------------------------------------------------------------------------------ prediction

    def encode(self, image: Tensor, available: Tensor, where: Where | None = None) -> Features:
        """Slices and their scores, [(B, 1, D, H, W), (B, D, M)], of every channel that some row has.

        See `Method.encode`.
        """
        image = zero_absent(image, available)
        features: Features = {}
        for i, code in enumerate(self.spec.modalities):
            if available[:, i].any():
                own = image[:, i : i + 1]
                scores = self.classifier(own.transpose(1, 2).flatten(0, 1))
                features[code] = [own, scores.float().unflatten(0, (len(own), -1))]
        return features

    def decode(self, features: Features, available: Tensor, request: Request = EVERYTHING) -> Prediction:
        """Segment the slots, and say what each channel shows; deterministic. See `Method.decode`."""
        needed = [i for i in range(len(self.spec.modalities)) if available[:, i].any()]
        images = torch.stack([features[self.spec.modalities[i]][0] for i in needed], dim=1)
        scores = torch.stack([features[self.spec.modalities[i]][1] for i in needed], dim=1)
        logits = named = None
        if request.wants("logits"):
            logits = self._segment(*self.slots(images, scores, available[:, needed], needed))
        if request.wants("modality_logits"):
            named = scores.new_full((*available.shape, available.shape[1]), torch.nan)
            named[:, needed] = self._mean_scores(images, scores)[:, :, 0]
            named = torch.where(available[:, :, None], named, torch.nan)
        return Prediction(logits=logits, modality_logits=named)

    @staticmethod
    def _mean_scores(images: Tensor, scores: Tensor) -> Tensor:
        """Mean over the slices that are not empty, (B, J, 1, M); over all if all are."""
        full = (images != 0).flatten(4).any(dim=4)[:, :, 0]
        counted = torch.where(full.any(dim=2, keepdim=True), full, True)[..., None]
        return torch.where(counted, scores, 0.0).sum(dim=2, keepdim=True) / counted.sum(dim=2, keepdim=True)

    def slots(self, images: Tensor, scores: Tensor, shown: Tensor, named: list[int]) -> tuple[Tensor, Tensor]:
        """Images put into the slots of their types.

        Parameters
        ----------
        images : Tensor, shape (B, J, 1, D, H, W)
        scores : Tensor, shape (B, J, D, M)
        shown : Tensor of bool, shape (B, J)
            Which images each row has.
        named : list of J int
            True types, read by ``attention="named"`` alone.

        Returns
        -------
        slots : Tensor, shape (B, M, 1, D, H, W)
        filled : Tensor of bool, shape (B, M)
            Slots that take part.
        """
        if self.config.posterior == "window":
            scores = self._mean_scores(images, scores).expand_as(scores)
        types = scores.shape[-1]
        mask = shown[:, :, None, None]
        if self.config.attention == "soft":
            # The ratio of posteriors, from their logarithms: no sum is too small to divide by.
            weight = torch.where(mask, scores.log_softmax(dim=3), -torch.inf).softmax(dim=1)
            filled = shown.new_ones(len(shown), types)
        else:
            told = scores.argmax(dim=3)
            if self.config.attention == "named":
                told = torch.tensor(named, device=told.device)[None, :, None].expand_as(told)
            chosen = (F.one_hot(told, types) > 0) & mask
            weight = chosen / chosen.sum(dim=1, keepdim=True).clamp_min(1)
            filled = chosen.flatten(1, 2).any(dim=1)
        kept = torch.where(shown[:, :, None, None, None, None], images, 0.0)
        return torch.einsum("bjdm,bjcdhw->bmcdhw", weight.to(kept.dtype), kept), filled

    def _segment(self, slots: Tensor, filled: Tensor) -> Tensor:
        maps = [back_end(slots[:, i]) for i, back_end in enumerate(self.back_ends.values())]
        moments = torch.cat(masked_moments(maps, filled), dim=1)
        return self.last(F.relu(self.front(moments)))

    # ---------------------------------------------------------------------------------------------------- training

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        """Dice, and the cross-entropy of the types of the images that are shown."""
        assert batch.label is not None
        config = self.config
        features = self.encode(batch.image, batch.available)
        needed = [i for i in range(len(self.spec.modalities)) if batch.available[:, i].any()]
        images = torch.stack([features[self.spec.modalities[i]][0] for i in needed], dim=1)
        scores = torch.stack([features[self.spec.modalities[i]][1] for i in needed], dim=1)
        shown = batch.available[:, needed]
        logits = self._segment(*self.slots(images, scores, shown, needed))
        target = self.head.target(batch.label, self.spec)
        terms = {
            "dice": dice_squared_prediction(self.head.probability(logits.float()), target),
            "type": self._type_loss(images, scores, shown, needed),
        }
        weights = {
            "dice": config.dice_weight,
            "type": config.type_weight * math.exp(-config.type_decay * ctx.progress),
        }
        return StepOutput.of(terms, weights)

    @staticmethod
    def _type_loss(images: Tensor, scores: Tensor, shown: Tensor, named: list[int]) -> Tensor:
        """Cross-entropy of every shown slice that is not empty."""
        taught = (images != 0).flatten(4).any(dim=4)[:, :, 0] & shown[:, :, None]
        truth = torch.tensor(named, device=scores.device)[None, :, None].expand_as(taught)
        entropy = F.cross_entropy(scores.permute(0, 3, 1, 2), truth, reduction="none")
        return torch.where(taught, entropy, 0.0).sum() / taught.sum().clamp_min(1)

    def optimizer_settings(self, stage: Stage, turn: str) -> OptimizerSettings:
        """Adam at a constant rate."""
        return OptimizerSettings("adam", lr=self.config.lr, weight_decay=self.config.weight_decay)
