"""KDD-Net: one teacher per sequence, from all subjects that have it, for a student of several sequences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from anymri.bounds import PositiveNumber, Rate, Size, Weights, Width
from anymri.protocol.method import MethodConfig, MethodInfo, Preset, StepContext
from anymri.protocol.per_subset import PerSubset
from anymri.types import (
    GLIOMA,
    Batch,
    DataSpec,
    OptimizerSettings,
    Prediction,
    Stage,
    StepOutput,
    UserError,
)

__all__ = ["KDDNet", "KDDNetConfig", "block_means", "softened_divergence"]


@dataclass(frozen=True, kw_only=True)
class KDDNetConfig(MethodConfig):
    """Settings of KDD-Net.

    Parameters
    ----------
    classes : int
        How many classes subjects are told apart in.
    blocks : int
        Blocks along each axis whose means are a sequence's features; source: ours.
    hidden : int
        Width of all layers; source: ours, the paper's is unknown.
    dropout : float
        After each hidden layer; source: code.
    distillation_weights : tuple of float
        Weight of each teacher, in the order of the sequences (alpha and beta of two); further ones have the last one's.
        Source: ours, the paper searched for them.
    temperature : float
        Divides logits before they are compared; source: ours, the paper searched for it.
    lr : float
        Learning rate of teachers and student; source: code.
    """

    classes: Annotated[int, Field(ge=2, le=1000)] = 2
    blocks: Size = 8
    hidden: Width = 64
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    distillation_weights: Weights = (0.5,)
    temperature: PositiveNumber = 2.0
    lr: Rate = 1e-3


def block_means(sources: Tensor, blocks: int) -> Tensor:
    """Mean intensity of equal blocks of each channel: the features that stand for pre-extracted ones.

    Parameters
    ----------
    sources : Tensor, shape (B, M, D, H, W)
    blocks : int
        Along each axis.

    Returns
    -------
    Tensor of float32, shape (B, M, blocks^3)
    """
    return F.adaptive_avg_pool3d(sources.float(), blocks).flatten(2)


def softened_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """``T^2 KL(softmax(teacher / T) || softmax(student / T))``, mean over rows.

    Parameters
    ----------
    student, teacher : Tensor, shape (B, K)
        Logits.
    temperature : float
    """
    log_p = (student.float() / temperature).log_softmax(dim=1)
    log_q = (teacher.float() / temperature).log_softmax(dim=1)
    return temperature**2 * (log_q.exp() * (log_q - log_p)).sum(dim=1).mean()


def _two_layers(features: int, hidden: int, dropout: float) -> list[nn.Module]:
    return [
        nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(dropout),
        nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout),
    ]  # fmt: skip


class _Student(nn.Module):
    """Two layers for each sequence, and one over all of them."""

    def __init__(self, codes: tuple[str, ...], features: int, config: KDDNetConfig) -> None:
        super().__init__()
        self.branches = nn.ModuleDict(
            {code: nn.Sequential(*_two_layers(features, config.hidden, config.dropout)) for code in codes}
        )
        self.classifier = nn.Linear(len(codes) * config.hidden, config.classes)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, M, F) to (B, K)."""
        seen = [branch(features[:, i]) for i, branch in enumerate(self.branches.values())]
        return self.classifier(torch.cat(seen, dim=1))


class KDDNet(PerSubset[KDDNetConfig]):
    """KDD-Net [1]_: teachers of one sequence each, whose soft labels teach a student of all of them.

    Parameters
    ----------
    config : KDDNetConfig
        `subset` names the student's sequences; published: two.
    spec : DataSpec

    Notes
    -----
    One instance serves one subset; `PerSubsetModels` joins several. Each teacher learns the class from its sequence in
    every subject that has it, so that incomplete subjects help, then rests. The student learns from subjects that
    have all its sequences: cross-entropy plus, for each teacher on its own, the squared temperature times the
    divergence of the softened labels. Prediction uses the student alone.

    The paper's inputs are feature vectors from elsewhere. Here a sequence's features are the mean intensities of blocks
    of the window, which should be the whole brain.

    References
    ----------
    .. [1] Wang, Zhan, Thompson, Zhou, "Multimodal Learning with Incomplete Modalities by Knowledge Distillation",
       KDD 2020, DOI 10.1145/3394486.3403234.
    """

    name = "kdd_net"
    info = MethodInfo(
        title="KDD-Net",
        family="knowledge distillation",
        task="classification",
        year=2020,
        reference="Wang et al., KDD 2020",
        doi="10.1145/3394486.3403234",
        code="https://github.com/illidanlab/incomplete-multimodal-kd",
        parity="1e-4",
        novelty="Subjects that lack a sequence train the teacher of the one they have, whose soft labels carry it on.",
        weakness="Features are fixed, and the student needs all its sequences.",
        deviations=(
            "features are mean intensities of blocks of each image; the paper's came from elsewhere, which is unknown",
            "hidden width, distillation weights, temperature and epochs are ours; the paper's are unknown",
            "batches of one, as whole volumes differ in size; the paper's size is unknown",
            "a subject with one sequence gets no prediction; how the paper predicts for it is unknown",
            "the variants with attention over the features are left out",
        ),
    )
    presets = {
        "paper": Preset(
            (
                Stage("teachers", 100, 1, None, "all", augment="none", needs="any"),
                Stage("student", 100, 1, None, "all", augment="none"),
            )
        ),
        "tiny": Preset(
            (
                Stage("teachers", 15, 1, None, "all", steps_per_epoch=50, augment="none", needs="any"),
                Stage("student", 15, 1, None, "all", steps_per_epoch=50, augment="none"),
            ),
            {"blocks": 4, "hidden": 32},
        ),
    }
    needs: Literal["complete", "any"] | tuple[str, ...] = "any"
    uses = ("class_label", "unlabelled")
    outputs = ("class_logits",)

    def __init__(self, config: KDDNetConfig, spec: DataSpec = GLIOMA) -> None:
        super().__init__(config, spec)
        self.needs = self.subset_modalities
        features = config.blocks**3
        self.teachers = nn.ModuleDict(
            {
                code: nn.Sequential(
                    *_two_layers(features, config.hidden, config.dropout), nn.Linear(config.hidden, config.classes)
                )
                for code in self.subset_modalities
            }
        )
        self.student = _Student(self.subset_modalities, features, config)

    # ------------------------------------------------------------------------------------------------ prediction

    def predict_subset(self, sources: Tensor, available: Tensor) -> Prediction:
        """Classify by the student."""
        return Prediction(class_logits=self.student(block_means(sources, self.config.blocks)))

    # ---------------------------------------------------------------------------------------------------- training

    def turns(self, stage: Stage) -> dict[str, list[dict[str, Any]]]:
        """The stage's networks."""
        return {stage.name: [{"params": list(self.get_submodule(stage.name).parameters())}]}

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        """Cross-entropy of each teacher over the rows that have its sequence, or the student's loss."""
        labels = self._known_classes(batch)
        features = block_means(self.take_own(batch.image, batch.present), self.config.blocks)
        if ctx.turn == "teachers":
            terms = {}
            for number, (code, teacher) in enumerate(self.teachers.items()):
                rows = batch.present[:, self.spec.index(code)] & (labels >= 0)
                if rows.any():
                    logits = teacher(features[rows, number])
                    terms[f"teacher_{code}"] = F.cross_entropy(logits.float(), labels[rows])
            return StepOutput.of(terms)
        rows = labels >= 0
        if not rows.any():
            return StepOutput(None, {})
        logits = self.student(features[rows])
        terms = {"cross_entropy": F.cross_entropy(logits.float(), labels[rows])}
        weights = {}
        chosen = self.config.distillation_weights
        for number, (code, teacher) in enumerate(self.teachers.items()):
            with torch.no_grad():
                taught = teacher(features[rows, number])
            terms[f"distillation_{code}"] = softened_divergence(logits, taught, self.config.temperature)
            weights[f"distillation_{code}"] = chosen[min(number, len(chosen) - 1)]
        return StepOutput.of(terms, weights)

    def _known_classes(self, batch: Batch) -> Tensor:
        """Class numbers of the rows, -1 = unknown."""
        assert batch.class_label is not None
        if batch.class_label.max() >= self.config.classes:
            raise UserError(
                f"method.config.classes = {self.config.classes}: the cohort has class number "
                f"{int(batch.class_label.max())}; set it to the number of classes"
            )
        return batch.class_label

    def optimizer_settings(self, stage: Stage, turn: str) -> OptimizerSettings:
        """Adam at a constant rate."""
        return OptimizerSettings("adam", lr=self.config.lr)
