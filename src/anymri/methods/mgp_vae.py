"""MGP-VAE: an auto-encoder of slices whose codes, of all sequences and subjects, are one Gaussian process."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anymri.bounds import Count, Depth, PositiveNumber, Rate, Share, Size, Width
from anymri.losses.reconstruction import gaussian_kl
from anymri.nn.gaussian_process import GaussianProcess, Statistics, expand
from anymri.nn.slice_auto_encoder import SliceAutoEncoder
from anymri.nn.slices import to_slices
from anymri.protocol.method import Method, MethodConfig, MethodInfo, Preset, StepContext, zero_absent
from anymri.protocol.request import EVERYTHING, Request
from anymri.types import (
    GLIOMA,
    Batch,
    Cohort,
    DataSpec,
    Features,
    Intensity,
    OptimizerSettings,
    Prediction,
    Stage,
    StepOutput,
    UserError,
    Where,
)

__all__ = ["MGPVAE", "MGPVAEConfig", "standard_divergence"]


@dataclass(frozen=True, kw_only=True)
class MGPVAEConfig(MethodConfig):
    """Settings of MGP-VAE; defaults are the released code's where it has them.

    Parameters
    ----------
    size : int
        Height and width of the slices.
    width, steps, latent, colours : int
        Filters of the auto-encoder, how often it halves the slice, length of a code, and channels of a slice, which
        all hold the same grey values.
    embedding : int
        Length of a slice's embedding.
    slices : int
        Most slices of training subjects that there can be: rows of the table of embeddings.
    variance : float
        Of a pixel given its code.
    entropy : {"log", "released"}
        Entropy of a code: sum of log standard deviations, or half the sum of standard deviations, as GPPVAE's script
        (on which the release builds) has it by mistake.
    likeness : float
        Cosine of two sequences' embeddings before training; released: 0.
    ridge : float
        How strongly the embedding of a slice that was not trained on is drawn to the mean one, in variances of a code.
    lr, process_lr : float
        Learning rates of the auto-encoder and of the Gaussian process with its embeddings.
    """

    size: Size = 128
    width: Width = 32
    steps: Depth = 5
    latent: Width = 256
    colours: Literal[1, 3] = 3
    embedding: Width = 64
    slices: Count = 60_000
    variance: PositiveNumber = 2e-3
    entropy: Literal["log", "released"] = "log"
    likeness: Share = 0.0
    ridge: PositiveNumber = 1.0
    lr: Rate = 2e-4
    process_lr: Rate = 1e-3


class _Coded(NamedTuple):
    """Codes of n slices (n, L): mean, standard deviation and a sample; and the slices (n, colours, size, size)."""

    mean: Tensor
    deviation: Tensor
    sample: Tensor
    slices: Tensor


class _Embeddings(nn.Module):
    """Embeddings of slices and of sequences, used at length 1; their products are the features of codes."""

    def __init__(self, slices: int, length: int, sequences: int, likeness: float = 0.0) -> None:
        super().__init__()
        first = torch.ones(slices, 1)
        self.slices = nn.Parameter(torch.cat([first, 1e-3 * torch.randn(slices, length - 1)], dim=1))
        # The symmetric square root of the matrix of cosines.
        even = (math.sqrt(1 + (sequences - 1) * likeness) - math.sqrt(1 - likeness)) / sequences
        start = math.sqrt(1 - likeness) * torch.eye(sequences) + even
        self.sequences = nn.Parameter(start + 1e-3 * torch.randn(sequences, sequences))

    def of_sequences(self) -> Tensor:
        """(Q, Q), rows of length 1."""
        return F.normalize(self.sequences, dim=1)

    def features(self, slices: Tensor, sequences: Tensor) -> Tensor:
        """Features (n, Q * length) of embeddings of slices (n, length) and numbers of sequences (n,)."""
        # The sequence's part comes first, so that features are blocks of sequences.
        return (self.of_sequences()[sequences][:, :, None] * F.normalize(slices, dim=1)[:, None]).flatten(1)


class MGPVAE(Method[MGPVAEConfig]):
    """MGP-VAE [1]_: completion by a variational auto-encoder with a Gaussian process prior [2]_.

    Parameters
    ----------
    config : MGPVAEConfig
    spec : DataSpec
        At least two modalities.

    Notes
    -----
    Every slice of every sequence has a code. The codes of all subjects, slices and sequences are one Gaussian process
    whose covariance is the product of how alike two slices and how alike two sequences are. So a missing sequence's
    code is predicted from those of the same slice and from other subjects, and decoded.

    Stage *vae* trains the auto-encoder alone. Stage *gp* minimises squared error, minus entropy and the process's
    negative log-likelihood, whose gradient over all codes is carried to batches by its first-order Taylor
    coefficients. They follow from sums over all codes (`Statistics`), which are taken anew after every epoch.

    A slice that was not trained on has no row in the table of embeddings. Its embedding is the one that best explains
    its own codes (ridge regression to the mean embedding); then the posterior given all training codes and its own is
    exact, from the sums alone.

    The release holds auto-encoder, process and features, which are compared; the script of the second stage is not in
    it (stage *gp* follows GPPVAE's), nor is any segmentation: give the completed images to another method.

    References
    ----------
    .. [1] Hamghalam, Frangi, Lei, Simpson, "Modality Completion via Gaussian Process Prior Variational Autoencoders for
       Multi-Modal Glioma Segmentation", MICCAI 2021, arXiv:2107.03442.
    .. [2] Casale, Dalca, Saglietti, Listgarten, Fusi, "Gaussian Process Prior Variational Autoencoders", NeurIPS 2018,
       arXiv:1810.11738.
    """

    name = "mgp_vae"
    info = MethodInfo(
        title="MGP-VAE",
        family="common latent space",
        task="synthesis",
        year=2021,
        reference="Hamghalam et al., MICCAI 2021",
        arxiv="2107.03442",
        code="https://github.com/hamghalam/MGP-VAE",
        parity="1e-4 (parts)",
        novelty="Codes of all subjects and sequences are one Gaussian process: other subjects help to complete.",
        weakness="Slices without depth and one short code for each: blurred, and flickering from slice to slice.",
        deviations=(
            "the released code completes subjects it was trained on; the embedding of a new slice is solved for, ours",
            "a step after every batch with coefficients of the epoch's start, not one step after all batches",
            "codes are sampled anew at every step; the script of GPPVAE samples once an epoch",
            "the entropy is that of a Gaussian; entropy='released' is GPPVAE's half sum of standard deviations",
            "slices are cut or padded to the size, not resized, and scaled to [0, 1] by their own brain's range",
            "no segmentation network: the paper's is not in the release, and which one it is is not known",
            "the paper speaks of three dimensions; the release works on slices, and so does this",
            "a code's divergence counts L / 2 more, so that it is 0 at the prior; no gradient differs",
            "a slice's embedding does not depend on where the crop lies within the slice",
        ),
    )
    presets = {
        "paper": Preset(
            (
                Stage("vae", 100, 1, (16, 128, 128), "all", augment="none", foreground=0.0),
                Stage("gp", 50, 1, (16, 128, 128), "all", augment="none", foreground=0.0),
            )
        ),
        "tiny": Preset(
            (
                Stage("vae", 20, 1, (8, 64, 64), "all", steps_per_epoch=50, augment="none", foreground=0.0),
                Stage("gp", 10, 1, (8, 64, 64), "all", steps_per_epoch=50, augment="none", foreground=0.0),
            ),
            {
                "size": 64,
                "width": 16,
                "steps": 4,
                "latent": 64,
                "colours": 1,
                "embedding": 8,
                "slices": 6000,
                # Alike from the start: so short a training does not find out by itself.
                "likeness": 0.5,
                "lr": 2e-3,
                "process_lr": 5e-3,
            },
        ),
    }
    outputs = ("image",)
    spatial_dims = 2
    intensity = Intensity("unit")

    gram: Tensor
    cross: Tensor
    square: Tensor
    count: Tensor
    mean_embedding: Tensor
    subjects: Tensor
    first_row: Tensor

    def __init__(self, config: MGPVAEConfig, spec: DataSpec = GLIOMA) -> None:
        sequences = len(spec.modalities)
        if sequences < 2:
            raise UserError(f"mgp_vae: with {spec.modalities[0]} alone there is nothing to synthesise; add a sequence")
        if config.size % 2**config.steps:
            raise UserError(f"method.config.size = {config.size}: not a multiple of {2**config.steps}")
        super().__init__(config, spec)
        self.divisor = 2**config.steps
        self.patch = (8, config.size, config.size)
        self.stages = tuple(
            replace(stage, patch=(cast(Any, stage.patch)[0], config.size, config.size)) for stage in self.stages
        )
        self.auto_encoder = SliceAutoEncoder(config.size, config.width, config.steps, config.latent, config.colours)
        self.process = GaussianProcess()
        self.embeddings = _Embeddings(config.slices, config.embedding, sequences, config.likeness)
        rank = config.embedding * sequences
        for name, shape in (("gram", (rank, rank)), ("cross", (rank, config.latent)), ("square", ()), ("count", ())):
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("mean_embedding", F.one_hot(torch.tensor(0), config.embedding).float())
        # Hashes of the training subjects' names, and the row of each one's first slice.
        self.register_buffer("subjects", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("first_row", torch.zeros(1, dtype=torch.int64))

    # ------------------------------------------------------------------------------------------------ prediction

    def encode(self, image: Tensor, available: Tensor, where: Where | None = None) -> Features:
        """Mean code (B, D, latent) of every slice of every modality that some row has; see `Method.encode`."""
        image = zero_absent(image, available)
        depth = image.shape[2]
        return {
            code: self.auto_encoder.encode(self._colours(to_slices(image[:, i : i + 1])))[0].unflatten(0, (-1, depth))
            for i, code in enumerate(self.spec.modalities)
            if available[:, i].any()
        }

    def decode(self, features: Features, available: Tensor, request: Request = EVERYTHING) -> Prediction:
        """The missing sequences from the posterior mean of their codes; deterministic. See `Method.decode`."""
        first = next(iter(features.values()))
        shape = (len(available), len(self.spec.modalities), first.shape[1], self.config.size, self.config.size)
        image = first.new_full(shape, torch.nan)
        for row, shown in enumerate(available):
            missing = (~shown).nonzero().flatten()
            if len(missing):
                codes = torch.stack([features[self.spec.modalities[i]][row] for i in shown.nonzero().flatten()], dim=1)
                made = self.auto_encoder.decode(self.complete_codes(codes, shown).flatten(0, 1).to(first.dtype))
                image[row, missing] = made.float().mean(dim=1).unflatten(0, (-1, len(missing))).transpose(0, 1)
        return Prediction(image=image, synthesised=~available)

    def complete_codes(self, codes: Tensor, shown: Tensor) -> Tensor:
        """Codes of the missing sequences of n slices.

        Parameters
        ----------
        codes : Tensor, shape (n, S, latent)
            Of the S sequences that are shown.
        shown : Tensor of bool, shape (M,)

        Returns
        -------
        Tensor, shape (n, M - S, latent)
        """
        with torch.autocast(codes.device.type, enabled=False):
            numbers = torch.arange(len(shown), device=codes.device)
            own, missing, codes = numbers[shown], numbers[~shown], codes.double()
            embedding = self.embed(codes, own)
            seen, wanted = (self._features(embedding, chosen) for chosen in (own, missing))
            return self.process.complete(self.statistics(), seen, codes, wanted).float()

    def embed(self, codes: Tensor, sequences: Tensor) -> Tensor:
        """Embeddings (n, length) that explain the codes (n, S, latent) of the given sequences best."""
        mean = self.process.posterior(self.statistics())[0].unflatten(0, (-1, self.config.embedding))
        # What each part of an embedding adds to the code of each sequence, (S, length, latent).
        parts = torch.einsum("sq,qel->sel", self.embeddings.of_sequences().double()[sequences], mean)
        ridge = self.config.ridge * torch.eye(self.config.embedding, dtype=mean.dtype, device=mean.device)
        left = torch.einsum("sel,sfl->ef", parts, parts) + ridge
        right = torch.einsum("nsl,sel->ne", codes, parts) + self.mean_embedding.double() @ ridge
        return F.normalize(torch.linalg.solve(left, right.T).T, dim=1)

    def _features(self, embedding: Tensor, sequences: Tensor) -> Tensor:
        """Features (n, S, R) of n slices for each of S sequences."""
        slices = embedding.repeat_interleave(len(sequences), dim=0)
        return self.embeddings.features(slices, sequences.repeat(len(embedding))).unflatten(0, (len(embedding), -1))

    def statistics(self) -> Statistics:
        """Sums over the training's codes; zeros before stage *gp*."""
        return Statistics(self.gram, self.cross, self.square, self.count)

    def _colours(self, slices: Tensor) -> Tensor:
        return slices.expand(-1, self.config.colours, -1, -1)

    # ---------------------------------------------------------------------------------------------------- training

    def turns(self, stage: Stage) -> dict[str, list[dict[str, Any]]]:
        """The auto-encoder alone, then with the process and the embeddings, which have a rate of their own."""
        groups: list[dict[str, Any]] = [{"params": list(self.auto_encoder.parameters())}]
        if stage.name == "gp":
            params = [*self.process.parameters(), *self.embeddings.parameters()]
            groups.append({"params": params, "lr": self.config.process_lr})
        return {"main": groups}

    def start_stage(self, stage: Stage, cohort: Cohort) -> None:
        """Give every slice of the cohort its row, and take the first sums of their codes."""
        if stage.name != "gp":
            return
        depths = torch.tensor([volume.image.shape[2] for volume in cohort.volumes])
        if depths.sum() > self.config.slices:
            raise UserError(
                f"mgp_vae: the training subjects have {int(depths.sum()):,} slices; set method.config.slices so high"
            )
        device = self.first_row.device
        self.subjects = torch.tensor([_number(name) for name in cohort.subject_ids], device=device)
        self.first_row = torch.cat([torch.zeros(1, dtype=torch.int64), depths.cumsum(0)]).to(device)
        self._sum_up(cohort)

    def end_epoch(self, stage: Stage, epoch: int, cohort: Cohort) -> None:
        """Take the sums of all codes anew."""
        if stage.name == "gp":
            self._sum_up(cohort)

    def _sum_up(self, cohort: Cohort) -> None:
        sums = [torch.zeros_like(part) for part in self.statistics()]
        generator = torch.Generator().manual_seed(0)
        for volume in cohort.volumes:
            fitted = volume._replace(image=_fit(volume.image, self.config.size))
            coded, features = self._code(fitted, generator), self._features_of(fitted).double()
            sample = coded.sample.double()
            new = (features.T @ features, features.T @ sample, (sample**2).sum(), torch.tensor(float(len(sample))))
            for total, part in zip(sums, new, strict=True):
                total += part.to(total)
        self.gram, self.cross, self.square, self.count = sums
        used = self.embeddings.slices[: int(self.first_row[-1])]
        self.mean_embedding = F.normalize(F.normalize(used, dim=1).mean(dim=0), dim=0)

    def _shown_slices(self, batch: Batch) -> Tensor:
        """Row, sequence and slice of every slice that is shown and lies within its volume, (n, 3)."""
        depth = batch.image.shape[2]
        shown = batch.available[:, :, None].expand(-1, -1, depth)
        if batch.where is not None:
            place = batch.where.origin[:, :1] + torch.arange(depth, device=batch.where.origin.device)
            inside = (place >= 0) & (place < batch.where.volume_shape[:, :1])
            shown = shown & inside[:, None].to(shown.device)
        return shown.nonzero()

    def _code(self, batch: Batch, generator: torch.Generator) -> _Coded:
        """Codes of the shown slices."""
        row, sequence, number = self._shown_slices(batch).T
        slices = self._colours(batch.image[row, sequence, number][:, None])
        mean, deviation = self.auto_encoder.encode(slices)
        noise = torch.randn(mean.shape, generator=generator).to(mean)
        return _Coded(mean, deviation, mean + deviation * noise, slices)

    def _features_of(self, batch: Batch) -> Tensor:
        """Features (n, R) of the shown slices; their subjects have rows in the table."""
        row, sequence, number = self._shown_slices(batch).T
        names = torch.tensor([_number(name) for name in batch.subject_ids[: len(batch.image)]]).to(self.subjects)
        subject = (names[:, None] == self.subjects).int().argmax(dim=1)
        origin = torch.zeros_like(names) if batch.where is None else batch.where.origin[:, 0].to(names)
        table = (self.first_row[subject] + origin)[row] + number
        # Frames of the same subject have one depth; the bound guards the next subject's rows all the same.
        return self.embeddings.features(
            self.embeddings.slices[table.clamp(max=self.first_row[subject + 1][row] - 1)], sequence
        )

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        """Squared error, and the divergence of the codes from their prior; all by pixel."""
        coded = self._code(batch, ctx.generator)
        error = ((self.auto_encoder.decode(coded.sample).float() - coded.slices.float()) ** 2).mean()
        prior = standard_divergence(coded.mean, coded.deviation)
        if ctx.stage.name == "gp":
            prior = self._process_divergence(coded, self._features_of(batch))
        terms = {
            "reconstruction": error / (2 * self.config.variance),
            "divergence": prior.mean().float() / coded.slices[0].numel(),
        }
        return StepOutput.of(terms)

    def _process_divergence(self, coded: _Coded, features: Tensor) -> Tensor:
        """Negative log-likelihood of every code, with the gradient of its Taylor expansion, minus the entropy, (n,)."""
        known = self.statistics()
        codes, features = coded.sample.double(), features.double()
        at = self.process.coefficients(codes.detach(), features.detach(), known)
        linear = expand(at, codes, features, self.process.shares().double(), known.number)
        likelihood = at.likelihood + linear - linear.detach()
        deviation = coded.deviation.double()
        if self.config.entropy == "released":
            return likelihood - 0.5 * deviation.sum(dim=1)
        return likelihood - deviation.log().sum(dim=1) - codes.shape[1] / 2

    def optimizer_settings(self, stage: Stage, turn: str) -> OptimizerSettings:
        """Adam at a constant rate."""
        return OptimizerSettings("adam", lr=self.config.lr)


def standard_divergence(mean: Tensor, deviation: Tensor) -> Tensor:
    """Kullback-Leibler divergence of codes (n, L) from the standard normal, (n,)."""
    return gaussian_kl(mean, 2 * deviation.log(), eps=0.0).sum(dim=1)


def _number(name: str) -> int:
    """A subject's name as a number that fits a buffer."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")


def _fit(image: Tensor, size: int) -> Tensor:
    """Slices (B, M, D, H, W) cut around their middle, or padded with 0, to size x size."""
    margins = []
    for length in reversed(image.shape[3:]):
        before = (size - length) // 2
        margins += [before, size - length - before]
    return F.pad(image, margins)
