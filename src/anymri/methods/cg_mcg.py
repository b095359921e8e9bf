"""CG-MCG: a generator told which sequence to make completes the set, and correlation guides the segmentation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anymri.bounds import Rate, Weight, Widths
from anymri.losses.segmentation import dice_regions
from anymri.nn.dilated_encoders import DilatedEncoder, DualAttention
from anymri.nn.dual_attention import DualAttentionDecoder, position_divergence
from anymri.nn.fusion import spread
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

__all__ = ["CGMCG", "CGMCGConfig"]


@dataclass(frozen=True, kw_only=True)
class CGMCGConfig(MethodConfig):
    """Settings of CG-MCG; the paper's are not known here.

    Parameters
    ----------
    widths : tuple of int
        Channels of each level of both networks, finest first, all even.
    generation_weight, correlation_weight : float
        Weights of the two terms beside Dice.
    lr : float
        Learning rate.
    """

    widths: Widths = (8, 16, 32, 64)
    generation_weight: Weight = 1.0
    correlation_weight: Weight = 0.1
    lr: Rate = 5e-4


class _Generator(nn.Module):
    """U-Net with an encoder for each modality, all of which are told which modality is to be made."""

    def __init__(self, codes: tuple[str, ...], widths: tuple[int, ...]) -> None:
        super().__init__()
        # The condition has a layer of its own, named by modality, that adds to the image.
        self.conditions = nn.ParameterDict({code: nn.Parameter(0.1 * torch.randn(widths[0])) for code in codes})
        self.stems = nn.ModuleDict({code: nn.Conv3d(1, widths[0], 3, padding=1) for code in codes})
        self.encoders = nn.ModuleDict({code: DilatedEncoder(widths[0], widths) for code in codes})
        self.fusions = nn.ModuleList(DualAttention(len(codes), width) for width in widths)
        self.decoder = DualAttentionDecoder(widths, 1)

    def forward(self, image: Tensor, shown: Tensor, target: str) -> Tensor:
        """Make the modality `target`, (B, 1, *S), from `image` (B, M, *S), of which it reads what is `shown` (B, M)."""
        pyramids = []
        condition = self.conditions[target].reshape(1, -1, 1, 1, 1)
        for i, (code, encoder) in enumerate(self.encoders.items()):
            told = self.stems[code](image[:, i : i + 1]) + condition
            seen = spread(shown[:, i], 5)
            pyramids.append([torch.where(seen, level, 0.0) for level in encoder(told)])
        levels = zip(*pyramids, strict=True)
        return self.decoder([fuse(list(maps)) for fuse, maps in zip(self.fusions, levels, strict=True)])


class _Correlation(nn.Module):
    """Coefficients with which one modality's latent expresses each other's: a square, a factor and a constant."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(width, width), nn.Linear(width, count * 3 * width)

    def forward(self, latent: Tensor) -> list[Tensor]:
        """``a f^2 + b f + c`` for every modality, in the order of the specification."""
        blocks = self.out(F.leaky_relu(self.hidden(latent.mean(dim=(2, 3, 4))), 0.01))
        expressed = []
        for block in blocks.chunk(blocks.shape[1] // (3 * latent.shape[1]), dim=1):
            a, b, c = (spread(part, 5) for part in block.chunk(3, dim=1))
            expressed.append(a * latent**2 + b * latent + c)
        return expressed


class CGMCG(Method[CGMCGConfig]):
    """CG-MCG [1]_: conditional generator and multi-source correlation guided segmentation.

    Parameters
    ----------
    config : CGMCGConfig
    spec : DataSpec

    Notes
    -----
    Interpretation: no code is public. A generator with an encoder for each modality is told which one to make, and
    makes it from those that are available; where several are absent it runs once for each, never from its own results.
    A second network with an encoder for each modality segments the completed set. From every latent f_i of the second
    network a small estimator predicts ``a f_i^2 + b f_i + c`` for each other modality; the divergence between where
    that and where f_j is large is the correlation term, for generated modalities as for given ones.

    While training, the generator makes every present modality from the other shown ones; the segmentation reads what it
    made of the hidden ones.

    References
    ----------
    .. [1] Zhou et al., "Conditional Generator and Multi-source Correlation Guided Brain Tumor Segmentation with Missing
       MR Modalities", 2021, arXiv:2105.13013.
    """

    name = "cg_mcg"
    info = MethodInfo(
        title="CG-MCG",
        family="mutual information maximisation",
        task="segmentation and synthesis",
        year=2021,
        reference="Zhou et al., arXiv 2021",
        arxiv="2105.13013",
        parity="interpretation (no code)",
        novelty="Makes the missing sequence it is told to, and holds it to the correlation between sequences.",
        weakness="One run of the generator for each missing sequence; meant for one missing at a time.",
        deviations=(
            "interpretation: no code is public; widths, weights, optimiser, epochs and crops are ours",
            "any subset: the generator runs for each absent sequence; as described it serves one that is missing",
            "the condition is a learned vector added after each encoder's first convolution, not an index map",
            "correlation between all ordered pairs of sequences; the paper's motive is T1 with T1c and T2 with FLAIR",
            "three overlapping regions by sigmoid and Dice; L1 for generation",
        ),
        untrained={r".*encoders\..*\.0\.conv\.bias": "a norm follows and removes it"},
        learns_from_hidden={
            "generation": "every sequence that is present is a target",
        },
    )
    presets = {
        "paper": Preset((Stage("train", 200, 1, (128,) * 3, "size_then_subset"),)),
        "tiny": Preset(
            (Stage("train", 30, 2, (48,) * 3, "size_then_subset", steps_per_epoch=50),),
            {"widths": (4, 8, 16, 24), "lr": 2e-3},
        ),
    }
    outputs = ("logits", "image")
    head: Head

    def __init__(self, config: CGMCGConfig, spec: DataSpec = GLIOMA) -> None:
        super().__init__(config, spec)
        codes, widths = spec.modalities, config.widths
        self.head = Head("sigmoid", tuple(spec.regions))
        self.divisor = 2 ** (len(widths) - 1)
        self.generator = _Generator(codes, widths)
        self.encoders = nn.ModuleDict({code: DilatedEncoder(1, widths) for code in codes})
        self.correlations = nn.ModuleDict({code: _Correlation(len(codes), widths[-1]) for code in codes})
        self.fusions = nn.ModuleList(DualAttention(len(codes), width) for width in widths)
        self.segmentation = DualAttentionDecoder(widths, len(self.head.channels))

    # ------------------------------------------------------------------------------------------------ prediction

    def encode(self, image: Tensor, available: Tensor, where: Where | None = None) -> Features:
        """The image: the generator reads all that is available at once. See `Method.encode`."""
        return {"image": zero_absent(image, available)}

    def decode(self, features: Features, available: Tensor, request: Request = EVERYTHING) -> Prediction:
        """Complete the set, and segment it; deterministic. See `Method.decode`."""
        completed = self.complete(zero_absent(features["image"], available), available)
        logits = image = synthesised = None
        if request.wants("logits"):
            logits = self._segment(completed)[0]
        if request.wants("image"):
            image, synthesised = completed, torch.ones_like(available)
        return Prediction(logits=logits, image=image, synthesised=synthesised)

    def complete(self, image: Tensor, available: Tensor) -> Tensor:
        """Generated sequences where absent, the image itself elsewhere.

        Parameters
        ----------
        image : Tensor, shape (B, M, *S)
            0 where not available.
        available : Tensor of bool, shape (B, M)
        """
        channels = []
        for i, code in enumerate(self.spec.modalities):
            channel = image[:, i : i + 1]
            if not available[:, i].all():
                made = self.generator(image, available, code)
                channel = torch.where(spread(available[:, i : i + 1], 5), channel, made.to(channel.dtype))
            channels.append(channel)
        return torch.cat(channels, dim=1)

    def _segment(self, completed: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits, and the latents of all modalities."""
        pyramids = [encoder(completed[:, i : i + 1]) for i, encoder in enumerate(self.encoders.values())]
        levels = [list(maps) for maps in zip(*pyramids, strict=True)]
        fused = [fuse(maps) for fuse, maps in zip(self.fusions, levels, strict=True)]
        return self.segmentation(fused), levels[-1]

    # ---------------------------------------------------------------------------------------------------- training

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        """Dice, generation of everything present from the other shown sequences, and correlation of the latents."""
        assert batch.label is not None
        image = zero_absent(batch.image, batch.available)
        made, error, channels = [], [], []
        for i, code in enumerate(self.spec.modalities):
            sources = batch.available.clone()
            sources[:, i] = False
            made.append(self.generator(zero_absent(image, sources), sources, code))
            # Where nothing else is shown there is nothing to make it from.
            learned = batch.present[:, i] & sources.any(dim=1)
            difference = torch.where(spread(learned, 4), made[i][:, 0].float() - batch.image[:, i], 0.0)
            error.append(difference.abs().flatten(1).mean(dim=1))
            channels.append(torch.where(spread(batch.available[:, i : i + 1], 5), image[:, i : i + 1], made[i]))
        logits, latents = self._segment(torch.cat(channels, dim=1))
        target = self.head.target(batch.label, self.spec)
        terms = {
            "dice": dice_regions(logits.float().sigmoid(), target),
            "generation": torch.stack(error).sum() / batch.present.sum(),
            "correlation": self.correlation(latents),
        }
        config = self.config
        weights = {"generation": config.generation_weight, "correlation": config.correlation_weight}
        return StepOutput.of({k: v for k, v in terms.items() if len(latents) > 1 or k == "dice"}, weights)

    def correlation(self, latents: list[Tensor]) -> Tensor:
        """Mean divergence between each latent and what each other one expresses of it.

        Parameters
        ----------
        latents : list of Tensor, each of shape (B, C, *S)
            Of all modalities, given or generated.
        """
        divergences = [latents[0].new_zeros(len(latents[0]), dtype=torch.float32)]
        for i, estimator in enumerate(self.correlations.values()):
            expressed = estimator(latents[i])
            divergences += [position_divergence(latents[j], expressed[j]) for j in range(len(latents)) if j != i]
        return torch.stack(divergences).sum(dim=0).mean() / max(len(divergences) - 1, 1)

    def optimizer_settings(self, stage: Stage, turn: str) -> OptimizerSettings:
        """Adam with a constant learning rate."""
        return OptimizerSettings("adam", lr=self.config.lr)
