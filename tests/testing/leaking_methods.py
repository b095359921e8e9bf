"""Small methods that each leak in one plausible way, and some that do not."""

from __future__ import annotations

from dataclasses import replace

import torch
from late_fusion import LateFusion
from torch import nn

from anymri.losses.segmentation import cross_entropy
from anymri.nn.fusion import masked_moments
from anymri.protocol.method import Preset, zero_absent
from anymri.protocol.per_subset import PerSubset
from anymri.protocol.request import EVERYTHING
from anymri.types import Head, Prediction, StepOutput


class Clean(LateFusion):
    name = "clean"
    __doc__ = LateFusion.__doc__


class EarlyFusion(LateFusion):
    # One network over all channels, the absent ones filled with zeros.
    name = "early_fusion"
    __doc__ = LateFusion.__doc__

    def __init__(self, config, spec):
        super().__init__(config, spec)
        del self.encoders
        self.network = nn.Sequential(nn.Conv3d(len(spec.modalities), 2 * config.width, 3, padding=1), nn.ReLU())

    def encode(self, image, available, where=None):
        return {"image": zero_absent(image, available)}

    def decode(self, features, available, request=EVERYTHING):
        return Prediction(logits=self.classifier(self.network(zero_absent(features["image"], available))))


class Staged(LateFusion):
    # All that a stage offers: subjects of its own, hooks, a frozen follower with dropout, a further batch, an average.
    name = "staged"
    __doc__ = LateFusion.__doc__
    info = replace(LateFusion.info, untrained={r"follower\..*": "follows the classifier"})
    presets = {
        name: replace(preset, stages=(replace(preset.stages[0], needs=("flair",), ema=0.9),))
        for name, preset in LateFusion.presets.items()
    }

    def __init__(self, config, spec):
        super().__init__(config, spec)
        self.follower = nn.Sequential(nn.Conv3d(2 * config.width, len(self.head.channels), 1), nn.Dropout(0.5))
        self.register_buffer("level", torch.zeros(()))
        self.register_buffer("share", torch.ones(()))

    def turns(self, stage):
        return {"main": [{"params": [*self.encoders.parameters(), *self.classifier.parameters()]}]}

    def start_stage(self, stage, cohort):
        self.follower[0].load_state_dict(self.classifier.state_dict())
        self.follower[0].bias += 1
        self.level.copy_(torch.cat([self.seen(batch) for batch in cohort.volumes]).abs().mean())

    def seen(self, batch):
        return zero_absent(batch.image, batch.available)

    def after_step(self, stage, turn, ctx):
        for mine, theirs in zip(self.follower.parameters(), self.classifier.parameters(), strict=True):
            mine.lerp_(theirs, 0.1)

    def end_epoch(self, stage, epoch, cohort):
        self.share *= 0.9

    def training_step(self, batch, ctx):
        assert self.training
        assert not self.follower.training
        own, complete = (super(Staged, self).training_step(one, ctx) for one in (batch, ctx.next_batch("complete")))
        features = self.encode(batch.image, batch.available)
        shown = [code for code in self.spec.modalities if code in features]
        rows = batch.available[:, [self.spec.index(code) for code in shown]]
        moments = torch.cat(masked_moments([features[code] for code in shown], rows), dim=1)
        distance = (self.classifier(moments) - self.follower(moments).detach()).float().square().mean()
        terms = {"own": own.loss, "complete": complete.loss, "follow": self.level.clamp(0.1, 0.5) * distance}
        return StepOutput.of(terms, {"complete": float(self.share)})


class Tutored(PerSubset):
    # A teacher of all sequences, trained once for the students of all subsets.
    name = "tutored"
    info = replace(LateFusion.info)
    presets = {
        name: Preset((replace(preset.stages[0], name="teach", needs="complete", shared=True), preset.stages[0]))
        for name, preset in LateFusion.presets.items()
    }
    outputs = ("logits",)
    __doc__ = LateFusion.__doc__

    def __init__(self, config, spec):
        super().__init__(config, spec)
        self.head = Head("softmax", ("background", *spec.labels))
        self.build_networks(len(spec.modalities), len(self.subset_modalities))

    def build_networks(self, everything, own):
        self.teacher = nn.Conv3d(everything, len(self.head.channels), 1)
        self.student = nn.Conv3d(own, len(self.head.channels), 1)

    def predict_subset(self, sources, available):
        return Prediction(logits=self.student(sources))

    def turns(self, stage):
        return {"main": [{"params": list((self.teacher if stage.shared else self.student).parameters())}]}

    def teach(self, batch):
        return self.teacher(zero_absent(batch.image, batch.present)).float()

    def training_step(self, batch, ctx):
        target = self.head.target(batch.label, self.spec)
        if ctx.stage.shared:
            return StepOutput.of({"cross_entropy": cross_entropy(self.teach(batch), target)})
        logits = self.student(self.take_own(batch.image, batch.present)).float()
        return StepOutput.of({"distance": (logits - self.teach(batch).detach()).square().mean()})


class BuildsItsStudentFirst(Tutored):
    def build_networks(self, everything, own):
        self.student = nn.Conv3d(own, len(self.head.channels), 1)
        self.teacher = nn.Conv3d(everything, len(self.head.channels), 1)


class ShowsItsTeacherTheSubset(Tutored):
    def teach(self, batch):
        own = self.spec.available(self.subset_modalities)
        return self.teacher(zero_absent(batch.image, batch.present & own)).float()


def brain_of(image):
    """Where any channel is not background, (B, 1, *S)."""
    return (image != 0).any(dim=1, keepdim=True)


def standardised(image, inside):
    """Z-scores within a mask, (B, M, *S)."""
    inside = inside.expand_as(image)
    count = inside.flatten(2).sum(dim=2).clamp_min(1)[..., None, None, None]
    mean = torch.where(inside, image, 0.0).sum(dim=(2, 3, 4), keepdim=True) / count
    square = torch.where(inside, (image - mean) ** 2, 0.0).sum(dim=(2, 3, 4), keepdim=True) / count
    return (image - mean) / (square + 1e-6).sqrt()


# ------------------------------------------------------------------------------------------------------ prediction


class StandardisedInTheUnionOfAllBrains(Clean):
    def encode(self, image, available, where=None):
        return super().encode(standardised(image, brain_of(image)), available)


class StandardisedInTheUnionOfTheBrainsEncoded(Clean):
    def encode(self, image, available, where=None):
        return super().encode(standardised(image, brain_of(zero_absent(image, available))), available)


class CroppedToTheUnionOfAllBrains(Clean):
    def encode(self, image, available, where=None):
        inside = brain_of(image)
        box = torch.ones_like(inside)
        for axis in (2, 3, 4):
            others = [other for other in (2, 3, 4) if other != axis]
            box = box & inside.any(dim=others[0], keepdim=True).any(dim=others[1], keepdim=True)
        return {code: feature * box for code, feature in super().encode(image, available).items()}


class PlacedFromTheCentreOfAllBrains(Clean):
    def encode(self, image, available, where=None):
        inside = brain_of(image).float()
        line = torch.arange(image.shape[-1], dtype=torch.float32)
        centre = (inside * line).sum(dim=(1, 2, 3, 4)) / inside.sum(dim=(1, 2, 3, 4)).clamp_min(1)
        offset = (line - centre[:, None])[:, None, None, None] / len(line)
        return {code: feature + offset for code, feature in super().encode(image, available).items()}


class ScaledByTheLargestValueOfAll(Clean):
    def encode(self, image, available, where=None):
        largest = image.nan_to_num(0.0).abs().amax(dim=(1, 2, 3, 4), keepdim=True).clamp_min(1e-6)
        return super().encode(image / largest, available)


class NormalisedOverTheModalitiesEncoded(Clean):
    def encode(self, image, available, where=None):
        return super().encode(nn.functional.layer_norm(zero_absent(image, available), image.shape[1:]), available)


class MultipliedByTheMask(EarlyFusion):
    def encode(self, image, available, where=None):
        return {"image": image}

    def decode(self, features, available, request=EVERYTHING):
        image = features["image"] * available[..., None, None, None]
        return Prediction(logits=self.classifier(self.network(image)))


class WeighsAbsentFeaturesWithZero(Clean):
    def encode(self, image, available, where=None):
        return {code: encoder(image[:, i : i + 1]).relu() for i, (code, encoder) in enumerate(self.encoders.items())}

    def decode(self, features, available, request=EVERYTHING):
        stacked = torch.stack([features[code] for code in self.spec.modalities], dim=1)
        weights = available[..., None, None, None, None].float()
        mean = (stacked * weights).sum(dim=1) / weights.sum(dim=1)
        return Prediction(logits=self.classifier(torch.cat([mean, mean], dim=1)))


class AveragesEverythingEncoded(Clean):
    def decode(self, features, available, request=EVERYTHING):
        mean = torch.stack(list(features.values())).mean(dim=0)
        return Prediction(logits=self.classifier(torch.cat([mean, mean], dim=1)))


class KeepsTheFeaturesOfRowsThatLackTheModality(Clean):
    def decode(self, features, available, request=EVERYTHING):
        needed = [code for i, code in enumerate(self.spec.modalities) if available[:, i].any()]
        total = torch.stack([features[code] for code in needed]).sum(dim=0)
        mean = total / available.sum(dim=1)[:, None, None, None, None]
        return Prediction(logits=self.classifier(torch.cat([mean, mean], dim=1)))


class RemembersTheImage(Clean):
    def encode(self, image, available, where=None):
        self.seen = image.nan_to_num(0.0).mean(dim=(1, 2, 3, 4), keepdim=True)
        return super().encode(image, available)

    def decode(self, features, available, request=EVERYTHING):
        prediction = super().decode(features, available)
        return prediction._replace(logits=prediction.logits + self.seen)


# -------------------------------------------------------------------------------------------------------- training


class MeasuresWhatIsHiddenBeforeTheStage(Staged):
    def seen(self, batch):
        return zero_absent(batch.image, batch.present)


class TrainsOnEverythingPresent(Clean):
    def training_step(self, batch, ctx):
        return super().training_step(batch._replace(available=batch.present), ctx)


class StandardisedByWhatIsHidden(Clean):
    def training_step(self, batch, ctx):
        known = zero_absent(batch.image, batch.present)
        known = known / known.abs().amax(dim=(1, 2, 3, 4), keepdim=True)
        return super().training_step(batch._replace(image=known), ctx)


class CountsWhatIsPresent(EarlyFusion):
    def training_step(self, batch, ctx):
        scale = batch.present.float().mean(dim=1)[:, None, None, None, None]
        return super().training_step(batch._replace(image=batch.image / scale), ctx)


class AddsTheLabelToTheImage(Clean):
    def training_step(self, batch, ctx):
        return super().training_step(batch._replace(image=batch.image + 0.1 * batch.label[:, None]), ctx)


class SeedsDropoutByTheImage(Clean):
    def training_step(self, batch, ctx):
        torch.manual_seed(int(batch.image.nan_to_num(0.0).abs().sum()))
        return super().training_step(batch._replace(image=nn.functional.dropout(batch.image, 0.2)), ctx)


class RunningMeanOfAllChannels(Clean):
    def __init__(self, config, spec):
        super().__init__(config, spec)
        self.register_buffer("running_mean", torch.zeros(()))

    def training_step(self, batch, ctx):
        self.running_mean.lerp_(batch.image.nan_to_num(0.0).mean(), 0.1)
        return super().training_step(batch, ctx)


class NormalisedOverTheBatch(Clean):
    def __init__(self, config, spec):
        super().__init__(config, spec)
        for code in spec.modalities:
            self.encoders[code] = nn.Sequential(self.encoders[code], nn.BatchNorm3d(config.width))


class NormalisedOverTheBatchAsDeclared(NormalisedOverTheBatch):
    """Says that rows meet; still zeros of rows that lack a modality enter its mean and variance."""

    info = replace(LateFusion.info, couples_rows="batch normalisation, as published")


class SaysThatItUsesUnlabelledSubjects(Clean):
    """Its loss knows nothing of rows without a label map."""

    uses = ("unlabelled",)

    def training_step(self, batch, ctx):
        logits = self.predict(batch.image, batch.available).logits
        error = (self.head.probability(logits) - self.head.target(batch.label, self.spec)).square().mean()
        return StepOutput.of({"error": error})


#: The check that must notice each.
NOTICED_BY = {
    StandardisedInTheUnionOfAllBrains: "absent_voxels_never_reach_the_prediction",
    StandardisedInTheUnionOfTheBrainsEncoded: "a_subset_decodes_the_same_from_more_features",
    CroppedToTheUnionOfAllBrains: "absent_voxels_never_reach_the_prediction",
    PlacedFromTheCentreOfAllBrains: "features_of_a_subset_come_from_its_sequences_alone",
    ScaledByTheLargestValueOfAll: "features_of_a_subset_come_from_its_sequences_alone",
    NormalisedOverTheModalitiesEncoded: "a_subset_decodes_the_same_from_more_features",
    MultipliedByTheMask: "absent_voxels_never_reach_the_prediction",
    WeighsAbsentFeaturesWithZero: "absent_voxels_never_reach_the_prediction",
    AveragesEverythingEncoded: "a_subset_decodes_the_same_from_more_features",
    KeepsTheFeaturesOfRowsThatLackTheModality: "a_batch_of_mixed_subsets_equals_its_rows",
    RemembersTheImage: "absent_voxels_never_reach_the_prediction",
    MeasuresWhatIsHiddenBeforeTheStage: "hidden_sequences_teach_only_where_declared",
    TrainsOnEverythingPresent: "hidden_sequences_teach_only_where_declared",
    StandardisedByWhatIsHidden: "hidden_sequences_teach_only_where_declared",
    CountsWhatIsPresent: "hidden_sequences_teach_only_where_declared",
    AddsTheLabelToTheImage: "the_label_is_a_target_and_never_an_input",
    SeedsDropoutByTheImage: "what_is_not_present_never_reaches_loss_or_gradients",
    RunningMeanOfAllChannels: "what_is_not_present_never_reaches_loss_or_gradients",
    SaysThatItUsesUnlabelledSubjects: "rows_without_a_label_map_leave_loss_and_gradients_finite",
    NormalisedOverTheBatch: "rows_of_a_batch_do_not_meet",
    BuildsItsStudentFirst: "a_shared_stage_is_the_same_for_every_subset",
    ShowsItsTeacherTheSubset: "a_shared_stage_is_the_same_for_every_subset",
    NormalisedOverTheBatchAsDeclared: "batch_statistics_leave_out_rows_that_lack_the_sequence",
}
