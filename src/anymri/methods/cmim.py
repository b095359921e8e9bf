"""CMIM: features of the sequences seen while training inform the one that is there at the end."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from anymri.bounds import Count, Rate, Slope, Weight, Width, Widths
from anymri.losses.mutual_information import BOUNDS, Bound
from anymri.losses.segmentation import cross_entropy, dice_nnunet
from anymri.nn.fusion import masked_moments
from anymri.nn.hetero_modal import ModalityEncoder, SkipDecoder, init_he_normal
from anymri.protocol.method import MethodConfig, MethodInfo, Preset, StepContext, zero_absent
from anymri.protocol.per_subset import PerSubset
from anymri.types import GLIOMA, Batch, DataSpec, Head, OptimizerSettings, Prediction, Stage, StepOutput

__all__ = ["CMIM", "CMIMConfig"]


@dataclass(frozen=True, kw_only=True)
class CMIMConfig(MethodConfig):
    """Settings of CMIM; all defaults are ours, the paper's are unknown here.

    Parameters
    ----------
    widths : tuple of int
        Channels of each level of an encoder, finest first, the first one even; the coarsest level is the local map.
    slope : float
        Slope of the leaky ReLU below 0.
    bound : {"jensen_shannon", "donsker_varadhan", "info_nce"}
        Which lower bound of the information is raised; the review names MINE's, ``donsker_varadhan``.
    critic_width : int
        Channels in which a critic compares two local maps.
    positions : int
        Places of every local map that are compared; fewer if the map has fewer.
    information_weight : float
        Weight w of the information.
    lr : float
        Learning rate.
    """

    widths: Widths = (16, 32, 64, 128)
    slope: Slope = 0.01
    bound: Bound = "jensen_shannon"
    critic_width: Width = 128
    positions: Count = 512
    information_weight: Weight = 0.1
    lr: Rate = 1e-3


class _Projection(nn.Module):
    """Two 1x1x1 convolutions beside a linear one: one side of a critic."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.hidden = nn.Conv3d(channels, width, 1)
        self.out = nn.Conv3d(width, width, 1)
        self.skip = nn.Conv3d(channels, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.hidden(x).relu()) + self.skip(x)


class _Critic(nn.Module):
    """Scores ``phi(u) . psi(v)`` of every place of one local map with every place of another."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.own, self.other = _Projection(channels, width), _Projection(channels, width)

    def forward(self, own: Tensor, other: Tensor) -> Tensor:
        """Scores (N, N) of maps (B, C, P, 1, 1), N = B P: places of all rows, row after row."""
        first, second = (
            side(x).float().flatten(2).transpose(1, 2).flatten(0, 1)
            for side, x in ((self.own, own), (self.other, other))
        )
        return first @ second.T / math.sqrt(first.shape[1])


class CMIM(PerSubset[CMIMConfig]):
    """CMIM [1]_: cross-modal information maximisation.

    Parameters
    ----------
    config : CMIMConfig
        `subset` names what is there after training, in the paper one modality.
    spec : DataSpec

    Notes
    -----
    Interpretation: no code is public, and depth, widths, critic, weight and sampling are not known here.

    One instance serves one subset; `PerSubsetModels` joins several. Every modality has an encoder, whose coarsest
    features are its local map. Those of the subset, averaged where it has several, go to the decoder of the
    segmentation. While training, a critic for each other modality scores whether a place of the subset's local map L_x
    and a place of the other's L_i are the same place of the same subject; the loss is
    ``L_segmentation - w sum_i I(L_x; L_i)`` with I a lower bound of the mutual information. Pairs that do not belong
    together are all other pairs of the batch: other places and other subjects. The gradient reaches both encoders. The
    other encoders and the critics are not used in prediction.

    References
    ----------
    .. [1] Sylvain et al., "CMIM: Cross-Modal Information Maximization for Medical Imaging", ICASSP 2021,
       arXiv:2010.10593.
    """

    name = "cmim"
    info = MethodInfo(
        title="CMIM",
        family="mutual information maximisation",
        task="segmentation",
        year=2021,
        reference="Sylvain et al., ICASSP 2021",
        arxiv="2010.10593",
        parity="interpretation (no code)",
        novelty="Features of the given sequence are made to tell much about those of sequences only trained with.",
        weakness="One network per subset; a bound of the information depends on its critic and on the pairs it sees.",
        deviations=(
            "interpretation: no code is public; encoder, decoder, critic, positions, weight and schedule are ours",
            "the bound is Jensen's and Shannon's, which is stabler; bound='donsker_varadhan' is what the review names",
            "the paper serves one modality per network; a subset of several is averaged over its encoders, ours",
            "segmentation of brain tumours alone: the local-global terms are the classification's, which is not built",
            "subjects that lack another modality train too: its term takes the rows that have it",
            "segmentation loss cross-entropy plus Dice: ours, the paper's is not known here",
        ),
        learns_from_hidden={"information": "local maps of every sequence that is present are compared"},
    )
    presets = {
        "paper": Preset((Stage("train", 300, 2, (128,) * 3, "all"),)),
        "tiny": Preset(
            (Stage("train", 30, 2, (48,) * 3, "all", steps_per_epoch=50),),
            {"widths": (8, 16, 24, 32), "critic_width": 32, "positions": 64, "lr": 2e-3},
        ),
    }
    needs: Literal["complete", "any"] | tuple[str, ...] = "any"
    outputs = ("logits",)
    head: Head

    def __init__(self, config: CMIMConfig, spec: DataSpec = GLIOMA) -> None:
        super().__init__(config, spec)
        self.needs = self.subset_modalities
        self.head = Head("softmax", ("background", *spec.labels))
        self.divisor = 2 ** (len(config.widths) - 1)
        self.encoders = nn.ModuleDict({code: ModalityEncoder(config.widths, config.slope) for code in spec.modalities})
        self.decoder = SkipDecoder(config.widths, config.widths, len(self.head.channels), config.slope)
        others = [code for code in spec.modalities if code not in self.subset_modalities]
        self.critics = nn.ModuleDict({code: _Critic(config.widths[-1], config.critic_width) for code in others})
        init_he_normal(self)

    # ------------------------------------------------------------------------------------------------ prediction

    def predict_subset(self, sources: Tensor, available: Tensor) -> Prediction:
        """Segment from the subset's own encoders."""
        return Prediction(logits=self.decoder(self._own_features(sources)))

    def _own_features(self, sources: Tensor) -> list[Tensor]:
        """Levels of the subset's features, finest first; of several modalities their mean."""
        pyramids = [
            cast(ModalityEncoder, self.encoders[code])(sources[:, i : i + 1])
            for i, code in enumerate(self.subset_modalities)
        ]
        shown = torch.ones(len(sources), len(pyramids), dtype=torch.bool, device=sources.device)
        return [masked_moments(list(level), shown)[0] for level in zip(*pyramids, strict=True)]

    # ---------------------------------------------------------------------------------------------------- training

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        """Cross-entropy, Dice, and minus the information about every other modality that is present."""
        assert batch.label is not None
        features = self._own_features(self.take_own(batch.image, batch.present))
        logits = self.decoder(features)
        target = self.head.target(batch.label, self.spec)
        terms = {
            "cross_entropy": cross_entropy(logits, target),
            "dice": dice_nnunet(self.head.probability(logits.float()), target),
        }
        information = self._information(features[-1], batch, ctx.generator)
        if information is not None:
            terms["information"] = -self.config.information_weight * information
        return StepOutput.of(terms)

    def _information(self, own: Tensor, batch: Batch, generator: torch.Generator) -> Tensor | None:
        """Sum of the bounds over the other modalities; None if no row has one."""
        own = own.contiguous().flatten(2)
        places = torch.randperm(own.shape[2], generator=generator)[: self.config.positions].to(own.device)
        bounds = []
        for code, critic in self.critics.items():
            i = self.spec.index(code)
            rows = batch.present[:, i]
            if not rows.any() or rows.sum() * len(places) < 2:
                continue
            image = zero_absent(batch.image, batch.present)[rows, i : i + 1]
            other = cast(ModalityEncoder, self.encoders[code])(image)[-1].contiguous().flatten(2)
            scores = critic(own[rows][:, :, places, None, None], other[:, :, places, None, None])
            bounds.append(BOUNDS[self.config.bound](scores))
        return torch.stack(bounds).sum() if bounds else None

    def optimizer_settings(self, stage: Stage, turn: str) -> OptimizerSettings:
        """Adam with a polynomial schedule; ours."""
        return OptimizerSettings("adam", lr=self.config.lr, schedule="poly", power=0.9)
