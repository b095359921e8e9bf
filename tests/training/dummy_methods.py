"""Small methods that each need one thing of their data; they share a network of two convolutions."""

from __future__ import annotations

import torch
from torch import nn

from anymri.losses.segmentation import cross_entropy
from anymri.methods import Method, MethodConfig, MethodInfo, Preset, StepContext
from anymri.protocol.method import zero_absent
from anymri.protocol.request import EVERYTHING
from anymri.types import GLIOMA, Batch, DataSpec, Graph, Head, OptimizerSettings, Prediction, Stage, StepOutput


class Small(Method):
    """Early fusion of zeros for what is absent; keeps the batches it was given."""

    name = "small"
    info = MethodInfo(title="Small", family="baseline", task="segmentation", year=2026, reference="test")
    presets = {"tiny": Preset((Stage("only", 1, 2, (12, 12, 12), "all", 3, augment="none"),))}

    def __init__(self, config: MethodConfig, spec: DataSpec = GLIOMA) -> None:
        super().__init__(config, spec)
        self.head = Head("softmax", ("background", *spec.labels))
        self.network = nn.Sequential(nn.Conv3d(len(spec.modalities), 6, 3, padding=1), nn.ReLU(), nn.Conv3d(6, 4, 1))
        self.seen: list[Batch] = []

    def encode(self, image, available, where=None):
        return {"image": zero_absent(image, available)}

    def decode(self, features, available, request=EVERYTHING):
        return Prediction(logits=self.network(zero_absent(features["image"], available)))

    def optimizer_settings(self, stage: Stage, turn: str) -> OptimizerSettings:
        return OptimizerSettings("sgd", lr=1e-2, betas=(0.0, 0.0))

    def supervised(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and cross-entropy."""
        self.seen.append(batch)
        logits = self.predict(batch.image, batch.available).logits
        return logits, cross_entropy(logits, self.head.target(batch.label, self.spec))

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        _, loss = self.supervised(batch)
        return StepOutput(loss, {"cross_entropy": loss.detach()})


class SelfTaught(Small):
    """Learns from unlabelled subjects too: a prediction should be certain, whatever it is."""

    name = "self_taught"
    uses = ("unlabelled",)

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        logits, loss = self.supervised(batch)
        logs = {"cross_entropy": loss.detach()}
        if not batch.labelled.all():
            others = logits[~batch.labelled]
            entropy = -(others.softmax(dim=1) * others.log_softmax(dim=1)).sum(dim=1).mean()
            loss, logs = loss + entropy, logs | {"entropy": entropy.detach()}
        return StepOutput(loss, logs)


class SiteLevels(Small):
    """Learns the mean intensity of each site, each from its own subjects alone."""

    name = "site_levels"
    uses = ("site",)

    def __init__(self, config: MethodConfig, spec: DataSpec = GLIOMA) -> None:
        super().__init__(config, spec)
        self.levels = nn.Parameter(torch.zeros(3))

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        _, loss = self.supervised(batch)
        known = batch.site >= 0
        mean = batch.image.flatten(1).nanmean(dim=1)
        level = (self.levels[batch.site.clamp_min(0)] - mean)[known].square().sum()
        return StepOutput(loss + level, {"cross_entropy": loss.detach(), "level": level.detach()})


class Classifier(Small):
    """Tells the class of a study from its mean intensities; segments beside it."""

    name = "classifier"
    uses = ("class_label",)

    def __init__(self, config: MethodConfig, spec: DataSpec = GLIOMA) -> None:
        super().__init__(config, spec)
        self.classes = nn.Linear(2 * len(spec.modalities), 2)

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        _, loss = self.supervised(batch)
        image = zero_absent(batch.image, batch.available).flatten(2)
        scores = self.classes(torch.cat([image.mean(dim=2), image.std(dim=2)], dim=1))
        error = nn.functional.cross_entropy(scores, batch.class_label, ignore_index=-1, reduction="sum")
        return StepOutput(loss + error, {"cross_entropy": loss.detach(), "class": error.detach()})


class OneByOne(Small):
    """Segments a single sequence, learned from subjects that each have another one; the others are unsupervised."""

    name = "one_by_one"
    uses = ("unlabelled",)
    presets = {"tiny": Preset((Stage("only", 6, 2, (12, 12, 12), "all", 3, unpaired=True),))}

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        labelled = batch.identity == torch.arange(len(batch.image))[:, None]
        self.seen += [batch, ctx.next_batch("same")]
        logits = self.predict(batch.image, labelled).logits
        loss = cross_entropy(logits, self.head.target(batch.label, self.spec))
        others = self.predict(batch.image, batch.available & ~labelled).logits
        certain = -others.log_softmax(dim=1).amax(dim=1).mean()
        return StepOutput(loss + 0.01 * certain, {"cross_entropy": loss.detach(), "certain": certain.detach()})


class VectorReader(Small):
    """Learns a number of each subject from its vector and its graph; subjects without either teach nothing of it."""

    name = "vector_reader"
    uses = ("tables",)

    def __init__(self, config: MethodConfig, spec: DataSpec = GLIOMA) -> None:
        super().__init__(config, spec)
        self.score = nn.Linear(2, 1)

    def training_step(self, batch: Batch, ctx: StepContext) -> StepOutput:
        _, loss = self.supervised(batch)
        errors = [self.error(arrays) for arrays in batch.arrays if "clinical" in arrays]
        error = torch.stack(errors).sum() if errors else loss.new_zeros(())
        return StepOutput(loss + error, {"cross_entropy": loss.detach(), "error": error.detach()})

    def error(self, arrays):
        graph = Graph.of(arrays, "functional")
        gathered = torch.zeros_like(graph.nodes).index_add(0, graph.edges[1], graph.nodes[graph.edges[0]])
        known = torch.cat([arrays["clinical"][:1], gathered.mean()[None]])
        return (self.score(known) - arrays["clinical"][1]).square().sum()


class VectorMean(Small):
    """Classical: the mean vector of the subjects that have one."""

    name = "vector_mean"
    uses = ("tables",)
    classical = True
    presets = {"tiny": Preset((Stage("only", 1, 1, None, "all"),))}

    def __init__(self, config: MethodConfig, spec: DataSpec = GLIOMA) -> None:
        super().__init__(config, spec)
        self.register_buffer("mean", torch.zeros(2))

    def fit(self, subjects, ctx: StepContext) -> dict[str, torch.Tensor]:
        self.mean = torch.stack([batch.arrays[0]["clinical"] for batch in subjects if batch.arrays[0]]).mean(dim=0)
        return {"first": self.mean[0]}
