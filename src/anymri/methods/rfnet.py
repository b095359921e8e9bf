"""RFNet: region-aware fusion, weighting the modalities per tissue region."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from anymri.bounds import Rate, Share, Weight, Width, Widths
from anymri.losses.class_weighted import cross_entropy_and_dice
from anymri.nn.hetero_modal import encode_each
from anymri.nn.region_fusion import RegionFusionDecoder
from anymri.nn.res_encoder import PaddingRule, PyramidDecoder, ResidualEncoder, double, keep_available
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

__all__ = ["RFNet", "RFNetConfig"]


@dataclass(frozen=True, kw_only=True)
class RFNetConfig(MethodConfig):
    """Settings of RFNet; defaults are the released code's.

    Parameters
    ----------
    widths : tuple of int
        Channels of each encoder level, finest first, all multiples of 2.
    map_width : int
        Channels before the classifier of a region map.
    hidden : int
        Units between a region's mean features and its modality weights.
    padding : {"reflect", "zeros"}
        ``zeros`` is what the authors' framework did in 2021 when told ``reflect``.
    warm_up : float
        Share of the training in which the loss of the fused segmentation counts 0; published: 20 of 300 epochs.
    lr, weight_decay : float
        Learning rate and decay of the optimiser.
    """

    widths: Widths = (16, 32, 64, 128)
    map_width: Width = 16
    hidden: Width = 128
    padding: PaddingRule = "reflect"
    warm_up: Share = 20 / 300
    lr: Rate = 2e-4
    weight_decay: Weight = 1e-4


class RFNet(Method[RFNetConfig]):
    """RFNet [1]_: region-aware fusion for segmentation from any subset.

    Parameters
    ----------
    config : RFNetConfig
    spec : DataSpec

    Notes
    -----
    Every modality has its encoder. At each of four levels a small branch predicts the probability of every class
    (the region map) from the stacked features; inside each region, two layers turn the region's mean features into
    one weight in (0, 1) for each modality, by which the modalities are summed. Training adds a segmentation from
    every modality alone, by one decoder they share, and one from every region map. Each of these 1 + M + 4
    predictions has a class-weighted cross-entropy and a Dice loss, all with weight 1; in the first 20 of 300 epochs
    the fused one counts 0 (its gradients are zeros, so that the weight decay acts on its layers, as released).

    A convolution over the stack of all modalities is written as a sum of one convolution per modality, with the same
    weights; so are the layers behind the modality weights. Biases in front of instance norms have no effect and are
    kept for the number of parameters and the authors' weights only.

    The released weights were computed with PyTorch 1.2, where "reflect" meant zeros: import them with
    ``source="official"``, and with ``source="retrained"`` what the authors' code writes with PyTorch 1.10 or later.
    They hold kernels for arrays (x, y, z), which are turned to (z, y, x) on import.

    References
    ----------
    .. [1] Ding, Yu, Yang, "RFNet: Region-aware Fusion Network for Incomplete Multi-modal Brain Tumor
       Segmentation", ICCV 2021.
    """

    name = "rfnet"
    info = MethodInfo(
        title="RFNet",
        family="common latent space",
        task="segmentation",
        year=2021,
        reference="Ding et al., ICCV 2021",
        doi="10.1109/ICCV48922.2021.00394",
        code="https://github.com/dyh127/RFNet",
        parity="1e-4",
        novelty="Modalities are weighted for every tissue region apart, by maps of the regions learned on the way.",
        weakness="Fixed slots for the modalities; a wrong region map misleads the fusion.",
        deviations=(
            "a modality's own segmentation is learned where it is present, so incomplete cohorts may train",
            "z-score inside each modality's own brain mask, not where the sum of all is positive",
            "0 outside the brain, not the z-score of 0",
            "reflect padding as written; the authors' PyTorch 1.2 padded with zeros (padding='zeros')",
            "augmentation of the training loop instead of slice-wise intensity changes and rotation to 10 degrees",
            "prediction windows as of all methods; theirs are 40 voxels apart",
            "the learning rate falls every step, not every epoch",
            "small enhancing tumours are left as predicted; their test may drop them",
        ),
        untrained={
            r".*\.conv\.bias|.*\.stacked\.bias": "an instance norm without scale and shift follows and removes it"
        },
        learns_from_hidden={r"separate_\w+": "each sequence that is present is segmented alone"},
    )
    presets = {
        "paper": Preset(
            (Stage("train", 300, 2, (80,) * 3, "uniform_subset", steps_per_epoch=150, foreground=0.0),),
        ),
        "tiny": Preset(
            (Stage("train", 30, 1, (48,) * 3, "uniform_subset", steps_per_epoch=50, foreground=0.0),),
            {"widths": (8, 12, 16, 24), "hidden": 32, "lr": 2e-3},
        ),
    }
    outputs = ("logits",)
    head: Head

    def __init__(self, config: RFNetConfig, spec: DataSpec = GLIOMA) -> None:
        super().__init__(config, spec)
        self.head = Head("softmax", ("background", *spec.labels))
        self.divisor = 2 ** (len(config.widths) - 1)
        classes = len(self.head.channels)
        self.encoders = nn.ModuleDict(
            {code: ResidualEncoder(config.widths, config.padding) for code in spec.modalities}
        )
        self.fusion = RegionFusionDecoder(
            spec.modalities, classes, config.widths, config.map_width, config.hidden, config.padding
        )
        self.auxiliary = PyramidDecoder(config.widths, classes, config.padding)

    # ------------------------------------------------------------------------------------------------ prediction

    def encode(self, image: Tensor, available: Tensor, where: Where | None = None) -> Features:
        """Features of every modality that some row has, by code; see `Method.encode`."""
        return encode_each(self.encoders, zero_absent(image, available), available)

    def decode(self, features: Features, available: Tensor, request: Request = EVERYTHING) -> Prediction:
        """Segment by region-aware fusion of the available modalities; see `Method.decode`."""
        logits, _ = self.fusion(keep_available(features, available, self.spec.modalities))
        return Prediction(logits=logits)

    # ---------------------------------------------------------------------------------------------------- training

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        """Class-weighted cross-entropy and Dice of the fused, the single-modality and the region-map segmentations."""
        assert batch.label is not None
        features = self.encode(batch.image, batch.present)
        logits, maps = self.fusion(keep_available(features, batch.available, self.spec.modalities))
        target = self.head.target(batch.label, self.spec)
        terms = cross_entropy_and_dice("fusion", [self.head.probability(logits.float())], [target])
        alone, alone_target = [], []
        for i, code in enumerate(self.spec.modalities):
            rows = batch.present[:, i]
            if rows.any():
                alone.append(self.head.probability(self.auxiliary(features[code]).float())[rows])
                alone_target.append(target[rows])
        terms |= cross_entropy_and_dice("separate", alone, alone_target)
        enlarged = [double(region_map, level) for level, region_map in enumerate(maps)]
        terms |= cross_entropy_and_dice("region_map", enlarged, [target] * len(enlarged))
        started = float(ctx.progress >= self.config.warm_up)
        loss = torch.stack(
            [term * started if name.startswith("fusion") else term for name, term in terms.items()]
        ).sum()
        return StepOutput(loss, {name: term.detach() for name, term in terms.items()})

    def optimizer_settings(self, stage: Stage, turn: str) -> OptimizerSettings:
        """Adam (amsgrad) with a polynomial schedule."""
        config = self.config
        return OptimizerSettings(
            "adam", lr=config.lr, weight_decay=config.weight_decay, amsgrad=True, schedule="poly", power=0.9
        )
