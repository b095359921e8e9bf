"""MMCFormer: co-train a missing-modality transformer with a full-modality one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anymri.bounds import Rate, Weight, Weights, Width
from anymri.losses.co_training import consistency, ramp_up
from anymri.losses.segmentation import dice_squared
from anymri.nn.efficient_attention import EfficientBlock, EnlargeTokens
from anymri.protocol.method import MethodConfig, MethodInfo, Preset, StepContext
from anymri.protocol.per_subset import PerSubset
from anymri.types import (
    GLIOMA,
    Batch,
    DataSpec,
    Head,
    Intensity,
    OptimizerSettings,
    Prediction,
    Stage,
    StepOutput,
)

__all__ = ["MMCFormer", "MMCFormerConfig", "contextual_agreement"]

#: Voxels along one token of the finest level.
FIRST_STRIDE = 4


@dataclass(frozen=True, kw_only=True)
class MMCFormerConfig(MethodConfig):
    """Settings of MMCFormer; defaults are the released code's.

    Parameters
    ----------
    widths : tuple of int
        Channels of the three encoder levels, finest first; the coarsest is a multiple of 2.
    decoder_widths : tuple of int
        Channels of the two decoder levels, finest first; the coarser one is a multiple of 2.
    prompts : int
        Learned tokens at the coarsest level.
    missing_weight, full_weight : float
        Weights of the two paths' Dice losses.
    context_weights : tuple of float
        Weights of the four contexts in the contextual agreement.
    agreement_weight, prompt_weight, reconstruction_weight : float
        Weights of the agreement of contexts (MSCA), of the tokens (MSP) and of the images' absolute error.
    ramp : float
        Share of the training over which the consistency's weight rises to 10; published: 20 of 200 epochs.
        Above 1 it does not get there.
    lr, weight_decay : float
        Learning rate and decay of the optimiser.
    """

    widths: tuple[Width, Width, Width] = (64, 128, 320)
    decoder_widths: tuple[Width, Width] = (64, 128)
    prompts: Width = 4
    full_weight: Weight = 0.4
    missing_weight: Weight = 0.6
    context_weights: Weights = (0.2, 0.3, 0.4, 0.5)
    agreement_weight: Weight = 0.01
    prompt_weight: Weight = 0.005
    reconstruction_weight: Weight = 0.01
    ramp: Weight = 20 / 200
    lr: Rate = 1e-4
    weight_decay: Weight = 1e-5


class _Level(nn.Module):
    """Patch embedding and two blocks of one encoder level, on maps with channels last."""

    def __init__(self, in_channels: int, width: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.embed = nn.Conv3d(in_channels, width, kernel, stride)
        self.embed_norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(EfficientBlock(width) for _ in range(2))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, prompts: Tensor | None) -> tuple[Tensor, list[Tensor], Tensor | None]:
        """Map (B, C, *S) to (B, *S / stride, width), the blocks' contexts, and the prompts behind them."""
        if self.embed.stride[0] == 2:
            # One voxel in front of H and behind the other axes: what the release's padding to multiples of three
            # comes to at its own size.
            x = F.pad(x, (0, 1, 1, 0, 0, 1))
        x = self.embed_norm(self.embed(x).movedim(1, -1))
        contexts = []
        for block in self.blocks:
            x, context, prompts = block(x, prompts)
            contexts.append(context)
        return self.norm(x), contexts, prompts


class _Encoder(nn.Module):
    def __init__(self, in_channels: int, config: MMCFormerConfig) -> None:
        super().__init__()
        before = (in_channels, *config.widths[:-1])
        self.levels = nn.ModuleList(
            _Level(b, w, *((3, 2) if i else (FIRST_STRIDE, FIRST_STRIDE)))
            for i, (b, w) in enumerate(zip(before, config.widths, strict=True))
        )
        self.prompts = nn.Parameter(torch.empty(config.prompts, config.widths[-1]))
        nn.init.trunc_normal_(self.prompts, std=0.02)

    def forward(self, image: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Levels (channels last, finest first), the contexts of all levels but the coarsest, the prompts."""
        features: list[Tensor] = []
        contexts: list[Tensor] = []
        prompts: Tensor | None = self.prompts.expand(len(image), -1, -1)
        for i, level in enumerate(self.levels):
            last = i == len(self.levels) - 1
            x = image if i == 0 else features[-1].movedim(-1, 1)
            x, found, given = level(x, prompts if last else None)
            features.append(x)
            if last:
                prompts = given
            else:
                contexts += found
        assert prompts is not None
        return features, contexts, prompts


def _mix(coarse: int, skip: int, width: int) -> nn.Linear:
    return _restart(nn.Linear(coarse + skip, width))


def _decoder_block(width: int) -> EfficientBlock:
    """A block whose perceptron starts as the release's decoders do; its encoders keep torch's start."""
    block = EfficientBlock(width)
    _restart(block.expand)
    _restart(block.shrink)
    return block


def _restart(layer: nn.Linear) -> nn.Linear:
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class _Reconstruction(nn.Module):
    """All modalities from the last decoder level's input and the prompts; full path and training only."""

    def __init__(self, channels: int, config: MMCFormerConfig) -> None:
        super().__init__()
        width = config.decoder_widths[0]
        self.prompts = nn.Linear(config.widths[-1], width)
        self.mix = _mix(config.decoder_widths[1] // 2, config.widths[0], width)
        self.block = _decoder_block(width)
        self.last = nn.Conv3d(width, channels, 1, bias=False)

    def forward(self, joined: Tensor, prompts: Tensor) -> Tensor:
        x, _, _ = self.block(self.mix(joined), self.prompts(prompts))
        x = F.interpolate(x.movedim(-1, 1), scale_factor=float(FIRST_STRIDE), mode="trilinear", align_corners=False)
        return self.last(x)


class _Seen(NamedTuple):
    """Outputs of one path: logits (B, C, *S), contexts, prompts (B, P, C) and the last decoder level's input."""

    logits: Tensor
    contexts: list[Tensor]
    prompts: Tensor
    joined: Tensor


class _Path(nn.Module):
    """Encoder and decoder of one path."""

    def __init__(self, in_channels: int, out_channels: int, config: MMCFormerConfig) -> None:
        super().__init__()
        fine, coarse = config.decoder_widths
        self.encoder = _Encoder(in_channels, config)
        self.enlarge = nn.ModuleList(
            (EnlargeTokens(config.widths[2], 4, 2), EnlargeTokens(coarse, 4, 2), EnlargeTokens(fine, 64, FIRST_STRIDE))
        )
        self.mixes = nn.ModuleList(
            (_mix(config.widths[2] // 2, config.widths[1], coarse), _mix(coarse // 2, config.widths[0], fine))
        )
        self.blocks = nn.ModuleList(nn.ModuleList(_decoder_block(w) for _ in range(2)) for w in (coarse, fine))
        self.last = nn.Conv3d(fine, out_channels, 1, bias=False)

    def forward(self, image: Tensor) -> _Seen:
        """Map (B, in_channels, *S), every axis a multiple of 16."""
        features, contexts, prompts = self.encoder(image)
        x = joined = features[-1]
        for enlarge, skip, mix, blocks in zip(
            self.enlarge[:2], reversed(features[:-1]), self.mixes, self.blocks, strict=True
        ):
            joined = torch.cat([enlarge(x), skip], dim=-1)
            x = mix(joined)
            for block in blocks:  # type: ignore[attr-defined]
                x, _, _ = block(x, None)
        logits = self.last(self.enlarge[2](x).movedim(-1, 1))
        return _Seen(logits, contexts, prompts, joined)


def contextual_agreement(full: list[Tensor], missing: list[Tensor], weights: tuple[float, ...]) -> Tensor:
    """Weighted sum over contexts of one minus their cosine.

    Parameters
    ----------
    full, missing : list of Tensor, each of shape (B, C, C)
        Contexts of both paths, finest level first; compared row by row of the batch.
    weights : tuple of float
    """
    cosines = [
        F.cosine_similarity(f.float().flatten(1), m.float().flatten(1)) for f, m in zip(full, missing, strict=True)
    ]
    return torch.stack([weight * (1 - cosine).mean() for weight, cosine in zip(weights, cosines, strict=True)]).sum()


class MMCFormer(PerSubset[MMCFormerConfig]):
    """MMCFormer [1]_: co-training of a missing-modality transformer with a full-modality one.

    Parameters
    ----------
    config : MMCFormerConfig
        `subset` names the modalities of the missing path.
    spec : DataSpec

    Notes
    -----
    One instance serves one subset; `PerSubsetModels` joins several. Attention is linear in the number of tokens: keys
    are normalised over positions, queries over channels, and between them stands a small context matrix. The paths
    agree on probabilities, on the contexts of the two finer levels (MSCA), and on four learned tokens that pass through
    the coarsest level (MSP); the gradient reaches both. The full path also reconstructs all images from the last
    decoder level's input and its tokens. Prediction uses the missing path alone.

    The four sigmoid channels are the labels and the background; the background channel enters no segmentation loss.

    Authors' weights hold arrays (z, x, y); they are turned to (z, y, x) on import.

    References
    ----------
    .. [1] Karimijafarbigloo et al., "MMCFormer: Missing Modality Compensation Transformer for Brain Tumor
       Segmentation", MIDL 2023, PMLR 227:1144-1162.
    """

    name = "mmcformer"
    info = MethodInfo(
        title="MMCFormer",
        family="knowledge distillation",
        task="segmentation",
        year=2023,
        reference="Karimijafarbigloo et al., MIDL 2023, PMLR 227:1144-1162",
        code="https://github.com/xmindflow/MMCFormer",
        parity="1e-4",
        novelty="Both paths share context matrices of linear attention and tokens that stand for the modalities.",
        weakness="One pair of networks per subset, and complete cases only.",
        deviations=(
            "scaled to [0, 1] by each modality's range inside its own brain",
            "crops lie in the brain's box; theirs anywhere in the volume",
            "learning rate and consistency weight change every step; theirs every epoch, with rate 0 in the last",
            "one voxel of padding per level at every size, as the release has at its own size",
            "layers that are never called and the MS-SSIM option are left out",
            "agreement losses are computed per row of a batch",
            "threshold 0.5 and no post-processing; the released evaluation has its own thresholds, closing and filling",
            "the last epoch, not the best one on the evaluation set",
            "prediction by windows over the whole volume; theirs from one central crop",
            "preset tiny: the consistency's weight rises to 1.1 by the end (published: to 10 in 20 of 200 epochs)",
            "preset tiny: 70 % of its small crops are centred on a label; the published ones, far larger, anywhere",
            "preset tiny: learning rate 0.002, 20 times the published one, for 1500 steps",
        ),
        learns_from_hidden={
            "dice_full|consistency|msca|msp|reconstruction": "the full-modality path teaches the other",
        },
    )
    presets = {
        "paper": Preset((Stage("train", 200, 1, (128, 192, 160), "all", augment="mirror", foreground=0.0),)),
        "tiny": Preset(
            # The published crop holds nearly the whole brain, so the tumour too. A small one is centred on it: Dice
            # has no gradient for a class that a crop lacks, and such a class may end up everywhere.
            (Stage("train", 30, 1, (48,) * 3, "all", steps_per_epoch=50, augment="mirror", foreground=0.7),),
            {
                "widths": (16, 24, 40),
                "decoder_widths": (16, 24),
                "lr": 2e-3,
                # The published 20 epochs are some 5000 steps, three times this training. Rising faster, consistency
                # makes the paths agree before they have learned anything.
                "ramp": 3.0,
            },
        ),
    }
    needs = "complete"
    outputs = ("logits",)
    divisor = 4 * FIRST_STRIDE
    intensity = Intensity("unit")
    head: Head

    def __init__(self, config: MMCFormerConfig, spec: DataSpec = GLIOMA) -> None:
        super().__init__(config, spec)
        self.head = Head("sigmoid", (*spec.labels, "background"))
        channels = len(self.head.channels)
        self.full = _Path(len(spec.modalities), channels, config)
        self.missing = _Path(len(self.subset_modalities), channels, config)
        self.reconstruction = _Reconstruction(len(spec.modalities), config)

    # ------------------------------------------------------------------------------------------------ prediction

    def predict_subset(self, sources: Tensor, available: Tensor) -> Prediction:
        """Segment by the missing path."""
        return Prediction(logits=self.missing(sources).logits)

    # ---------------------------------------------------------------------------------------------------- training

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        """Co-training of the two paths."""
        assert batch.label is not None
        config = self.config
        full, missing = self.full(batch.image), self.missing(self.take_own(batch.image, batch.present))
        target = self.head.target(batch.label, self.spec)[:, :-1]
        p_full, p_missing = (self.head.probability(seen.logits.float())[:, :-1] for seen in (full, missing))
        rebuilt = self.reconstruction(full.joined, full.prompts).float()
        agreement = contextual_agreement(full.contexts, missing.contexts, config.context_weights)
        terms = {
            "dice_full": dice_squared(p_full, target),
            "dice_missing": dice_squared(p_missing, target),
            "consistency": consistency(p_full, p_missing),
            "msca": agreement,
            "msp": (full.prompts.float() - missing.prompts.float()).abs().mean(),
            "reconstruction": (rebuilt - batch.image).abs().mean(),
        }
        weights = {
            "dice_full": config.full_weight,
            "dice_missing": config.missing_weight,
            "consistency": ramp_up(ctx.progress, config.ramp),
            "msca": config.agreement_weight,
            "msp": config.prompt_weight,
            "reconstruction": config.reconstruction_weight,
        }
        return StepOutput.of(terms, weights)

    def optimizer_settings(self, stage: Stage, turn: str) -> OptimizerSettings:
        """Adam with a polynomial schedule."""
        config = self.config
        return OptimizerSettings("adam", lr=config.lr, weight_decay=config.weight_decay, schedule="poly", power=0.9)
