"""U-HVED: product of per-modality Gaussian experts; segments and completes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from anymri.bounds import Rate, Size, Slope, Weight, Whole, Widths
from anymri.losses.reconstruction import gaussian_kl, masked_mean_squared_error, weight_penalty
from anymri.losses.segmentation import cross_entropy, dice_squared_prediction
from anymri.nn.blocks import ResizeRule
from anymri.nn.fusion import expert, product_of_experts
from anymri.nn.hetero_modal import ModalityEncoder, SkipDecoder, encode_each, init_he_normal
from anymri.protocol.method import Method, MethodConfig, MethodInfo, Preset, StepContext, zero_absent
from anymri.protocol.noise import Noise
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

__all__ = ["UHVED", "UHVEDConfig"]

#: Mean and log-variance of a Gaussian, each (B, C, *S).
Gaussian = tuple[Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class UHVEDConfig(MethodConfig):
    """Settings of U-HVED; defaults are the released code's.

    Parameters
    ----------
    widths : tuple of int
        Channels of each encoder level, finest first, all even: one half means, one half log-variances.
    slope : float
        Slope of the leaky ReLU below 0, as the authors' framework defines it.
    resize : {"centred", "corner", "ends"}
        ``corner`` repeats the half-voxel shift of the authors' framework; ``ends`` is the PyTorch port's rule.
    kl_weight, reconstruction_weight : float
        Weights of the two terms beside cross-entropy and Dice.
    kl_stride : int
        The divergence's mean over voxels uses every n-th voxel of each axis, from a random first one; 1 = all.
    lr : float
        First learning rate.
    lr_divisions : int
        How often it is divided by 4, at equal distances; `tiny` trains too briefly for all five.
    penalty : float
        Weight of the penalty on squared weights.
    """

    widths: Widths = (8, 16, 32, 64)
    slope: Slope = 0.02
    resize: ResizeRule = "centred"
    kl_weight: Weight = 0.1
    reconstruction_weight: Weight = 0.1
    kl_stride: Size = 1
    lr: Rate = 1e-3
    lr_divisions: Whole = 5
    penalty: Weight = 1e-5


class UHVED(Method[UHVEDConfig]):
    """U-HVED [1]_: hetero-modal variational encoder-decoder for segmentation and completion.

    Parameters
    ----------
    config : UHVEDConfig
    spec : DataSpec

    Notes
    -----
    At every level a modality's features are mean and log-variance of a Gaussian. The available ones are
    multiplied with the prior N(0, 1); one independent decoder per modality, and one for the segmentation, start
    from the product. Training decodes one sample of the product of the drawn subset; the images of all *present*
    modalities are reconstructed, and the divergence terms run over all subsets of the present modalities (with
    complete data: all 15, as published). Images are decoded from the posterior mean. The segmentation is decoded
    from one sample as published where noise is given, else from the mean.

    The official code is for TensorFlow 1. Logits and losses are compared with the PyTorch port in
    AImageLab-zip/IM-Fuse, whose slope is 0.01 and whose resizing joins the outermost voxel centres. Where its losses
    differ from the official ones, ours are those: its Dice has plain sums, its cross-entropy counts probabilities as at
    least 0.005, its divergences are averaged over 15 subsets with larger constants, and its optimiser decays weights
    instead of a penalty. Its weights come in with ``import_state_dict(..., source="port")``, kernels turned from arrays
    (x, y, z) to (z, y, x); its intensities are z-scores over the voxels where any sequence is positive.

    References
    ----------
    .. [1] Dorent et al., "Hetero-Modal Variational Encoder-Decoder for Joint Modality Completion and
       Segmentation", MICCAI 2019, arXiv:1907.11150.
    """

    name = "u_hved"
    info = MethodInfo(
        title="U-HVED",
        family="common latent space",
        task="segmentation and synthesis",
        year=2019,
        reference="Dorent et al., MICCAI 2019",
        doi="10.1007/978-3-030-32245-8_9",
        arxiv="1907.11150",
        code="https://github.com/ReubenDo/U-HVED",
        parity="1e-4 (PyTorch port)",
        novelty="Multi-modal variational auto-encoder with skip latents: one latent for completion and segmentation.",
        weakness="A product of experts is dominated by over-confident modalities.",
        deviations=(
            "z-score inside the brain, 0 outside, instead of histogram standardisation and whitening of everything",
            "resizing with aligned voxel centres; resize='corner' gives the released behaviour",
            "learning rate divided every 10 000 iterations; the released file's 10 would stop training at once",
            "segmentation from the posterior mean unless noise is asked for",
            "crops lie in the brain's box and are mirrored; theirs anywhere, also scaled by up to 10 %",
            "overlapping windows of prediction are averaged, not cut to their middle",
        ),
        learns_from_hidden={
            "reconstruction": "every sequence that is present is a target",
            "kl": "posteriors of all subsets of what is present are compared",
        },
    )
    presets = {
        "paper": Preset(
            (
                Stage(
                    "train",
                    300,
                    1,
                    (112,) * 3,
                    "size_then_subset",
                    steps_per_epoch=200,
                    augment="mirror",
                    foreground=0.0,
                ),
            ),
        ),
        "tiny": Preset(
            (
                Stage(
                    "train", 30, 1, (48,) * 3, "size_then_subset", steps_per_epoch=50, augment="mirror", foreground=0.0
                ),
            ),
            {"widths": (8, 16, 24, 32), "lr": 2e-3, "lr_divisions": 2, "kl_stride": 2},
        ),
    }
    outputs = ("logits", "image")
    head: Head

    def __init__(self, config: UHVEDConfig, spec: DataSpec = GLIOMA) -> None:
        super().__init__(config, spec)
        self.head = Head("softmax", ("background", *spec.labels))
        self.divisor = 2 ** (len(config.widths) - 1)
        self.encoders = nn.ModuleDict({code: ModalityEncoder(config.widths, config.slope) for code in spec.modalities})
        latent = tuple(width // 2 for width in config.widths)
        self.segmentation = SkipDecoder(latent, config.widths, len(self.head.channels), config.slope, config.resize)
        self.images = nn.ModuleDict(
            {code: SkipDecoder(latent, config.widths, 1, config.slope, config.resize) for code in spec.modalities}
        )
        init_he_normal(self)

    # ------------------------------------------------------------------------------------------------ prediction

    def encode(self, image: Tensor, available: Tensor, where: Where | None = None) -> Features:
        """Gaussian features of every modality that some row has, by code; see `Method.encode`."""
        return encode_each(self.encoders, zero_absent(image, available), available)

    def decode(self, features: Features, available: Tensor, request: Request = EVERYTHING) -> Prediction:
        """Segment from the product's mean, or a sample; images of all modalities from the mean. See `Method.decode`."""
        posterior = self._posterior(self._experts(features, available), available)
        means = [mean for mean, _ in posterior]
        logits = image = synthesised = None
        if request.wants("logits"):
            latent = means if request.noise is None else _sample(posterior, request.noise)
            logits = self.segmentation(_like_features(latent, features))
        if request.wants("image"):
            image = self._decode_images(_like_features(means, features))
            synthesised = torch.ones_like(available)
        return Prediction(logits=logits, image=image, synthesised=synthesised)

    def _decode_images(self, latent: list[Tensor]) -> Tensor:
        return torch.cat([decoder(latent) for decoder in self.images.values()], dim=1)

    def _experts(self, features: Features, available: Tensor) -> dict[int, list[Gaussian]]:
        """Precision and precision times mean, by modality number, for every level."""
        experts = {}
        for i, code in enumerate(self.spec.modalities):
            if available[:, i].any():
                # float32: precisions reach 1e7, beyond what bfloat16 can add up.
                halves = [level.float().contiguous().chunk(2, dim=1) for level in features[code]]
                experts[i] = [expert(mean, log_variance.clamp(-50, 50)) for mean, log_variance in halves]
        return experts

    def _posterior(self, experts: dict[int, list[Gaussian]], shown: Tensor) -> list[Gaussian]:
        """Product of the shown experts with the prior, for every level."""
        needed = [i for i in experts if shown[:, i].any()]
        levels = zip(*(experts[i] for i in needed), strict=True)
        return [product_of_experts(list(level), shown[:, needed]) for level in levels]

    # ---------------------------------------------------------------------------------------------------- training

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        """Cross-entropy, Dice, divergences of the subsets' posteriors, and reconstruction of what is present."""
        assert batch.label is not None
        config = self.config
        features = self.encode(batch.image, batch.present)
        experts = self._experts(features, batch.present)
        latent = _like_features(_sample(self._posterior(experts, batch.available), ctx.generator), features)
        target = self.head.target(batch.label, self.spec)
        logits = self.segmentation(latent)
        image = self._decode_images(latent)
        divergence = self._divergence(experts, batch.available, batch.present, ctx.generator)
        terms = {
            "cross_entropy": cross_entropy(logits, target),
            "dice": dice_squared_prediction(self.head.probability(logits.float()), target),
            "kl": config.kl_weight * divergence,
            "reconstruction": config.reconstruction_weight
            * masked_mean_squared_error(image, batch.image, batch.present),
            "l2": config.penalty * weight_penalty(self),
        }
        return StepOutput.of(terms)

    def _divergence(
        self, experts: dict[int, list[Gaussian]], available: Tensor, present: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Mean over levels of KL(drawn || every subset) and KL(every subset || prior)."""
        count = len(self.spec.subsets())
        subsets = torch.stack([self.spec.available(subset) for subset in self.spec.subsets()]).to(present.device)
        # Rows of an incomplete cohort count only the subsets of what they have.
        within = ~(subsets[None] & ~present[:, None]).any(dim=2)
        number = within.sum(dim=1)
        experts = self._thin(experts, generator)
        drawn = self._posterior(experts, available)
        total = torch.zeros(len(present), device=present.device)
        for s in range(count):
            rows = within[:, s]
            if not rows.any():
                continue
            shown = subsets[s].expand_as(present) & present
            posterior = self._posterior(experts, shown)
            to_subset, to_prior = _mean_divergences(drawn, posterior)
            # The released code divides by 14 though it adds 15 terms: the subset drawn adds 0.
            row_sum = to_subset / (number - 1).clamp_min(1) + to_prior / number
            total = total + torch.where(rows, row_sum, 0.0)
        return total.mean()

    def _thin(self, experts: dict[int, list[Gaussian]], generator: torch.Generator) -> dict[int, list[Gaussian]]:
        """Every n-th voxel of each axis, the same voxels for all modalities of a level."""
        n = self.config.kl_stride
        if n == 1:
            return experts
        first = torch.randint(0, n, (3,), generator=generator).tolist()

        def thin(x: Tensor) -> Tensor:
            # A level with fewer voxels than n on an axis keeps them all.
            steps = [
                slice(f, None, n) if size >= n else slice(None) for f, size in zip(first, x.shape[2:], strict=True)
            ]
            return x[(slice(None), slice(None), *steps)].contiguous()

        return {i: [(thin(a), thin(b)) for a, b in levels] for i, levels in experts.items()}

    def optimizer_settings(self, stage: Stage, turn: str) -> OptimizerSettings:
        """Adam whose learning rate is divided by 4 at equal distances."""
        config = self.config
        return OptimizerSettings(
            "adam", lr=config.lr, schedule="step", step_divisor=4.0, step_count=config.lr_divisions
        )


def _like_features(latent: list[Tensor], features: Features) -> list[Tensor]:
    """The latent in the precision and memory layout that the encoders, and so the decoders, compute in."""
    level = next(iter(features.values()))[0]
    layout = torch.contiguous_format if level.is_contiguous() else torch.channels_last_3d
    return [z.to(level.dtype, memory_format=layout) for z in latent]


def _mean_divergences(drawn: list[Gaussian], posterior: list[Gaussian]) -> tuple[Tensor, Tensor]:
    """KL(drawn || posterior) and KL(posterior || prior) of every row: mean over voxels, channels, then levels."""
    to_subset = [gaussian_kl(*a, *b).flatten(1).mean(dim=1) for a, b in zip(drawn, posterior, strict=True)]
    to_prior = [gaussian_kl(*b).flatten(1).mean(dim=1) for b in posterior]
    return torch.stack(to_subset).mean(dim=0), torch.stack(to_prior).mean(dim=0)


def _sample(posterior: list[Gaussian], source: torch.Generator | Noise) -> list[Tensor]:
    """One sample of every level; noise is drawn on the CPU so that it repeats on any device."""
    samples = []
    for level, (mean, log_variance) in enumerate(posterior):
        if isinstance(source, Noise):
            noise = source.normal(f"level{level}", mean.shape[1], mean.shape[2:], stride=2**level)
        else:
            noise = torch.randn(mean.shape, generator=source)
        samples.append(mean + (0.5 * log_variance).exp() * noise.to(mean))
    return samples
