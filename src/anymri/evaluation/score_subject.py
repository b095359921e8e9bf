"""Score one subject: rows of the model for every subset, of the synthesis baselines, of segmenters that follow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, islice
from typing import Any, NamedTuple

import numpy as np

from anymri.data.study import Study
from anymri.evaluation.baselines import BASELINES, Moments, collect_moments, fill_in
from anymri.evaluation.downstream import complete_study
from anymri.evaluation.scoring import (
    Score,
    Synthesis,
    score_classes,
    score_downstream,
    score_regions,
    score_regions_in_full,
    score_synthesis,
)
from anymri.evaluation.setup import Evaluation, Subset, describe_preset
from anymri.inference.labels import region_probability, regions
from anymri.inference.restore import Target, restore_probability
from anymri.inference.sliding_window import SubjectPrediction, iterate_subject
from anymri.types import Head, UserError

__all__ = ["PredictedCase", "open_case", "predict_cases", "predict_entry", "score_subject"]


Row = dict[str, Any]


@dataclass(frozen=True)
class _Case:
    """A subject, and what its predictions are held against.

    Parameters
    ----------
    study : Study
        On the grid of the model.
    truth : Study
        On the grid that is scored on.
    label : int array or None
        Of `truth`.
    synthesis : Synthesis or None
        Real sequences; None where synthesis is not scored.
    class_label : str or None
        The subject's class, where the data have classes and the model names them.
    """

    study: Study
    truth: Study
    label: Any
    synthesis: Synthesis | None
    class_label: str | None

    def on_truth(self, probability: Any, head: Head | None, channels: Sequence[int]) -> Any:
        """Probability of a segmentation from some channels, brought to the grid of `truth`."""
        if self.truth is self.study or head is None:
            return probability
        source, target = (Target.of(study, channels) for study in (self.study, self.truth))
        return restore_probability(probability, head, source, target)


class PredictedCase(NamedTuple):
    """A cached grid of a subject, the subsets that are scored on it, and the model's predictions of them."""

    case: _Case
    subsets: list[Subset]
    predictions: Iterator[tuple[Subset, SubjectPrediction]]


def predict_cases(work: Evaluation, subject: str) -> list[PredictedCase]:
    """Cached grids of a subject, predicted up to the first 16 subsets of each; the rest follows as it is read."""
    work.cache.verify(subject)
    predicted = []
    for study, subsets in work.cache.entries(subject, work.subsets_of(subject)):
        case = open_case(work, study)
        outputs = _outputs(work, case)
        predictions = predict_entry(work, study, subsets if outputs else [], outputs)
        first = list(islice(predictions, 1))
        predicted.append(PredictedCase(case, subsets, chain(first, predictions)))
    return predicted


def score_subject(
    work: Evaluation, subject: str, cases: list[PredictedCase], advance: Any = lambda: None
) -> Iterator[Row]:
    """Rows of one subject: the model's, then those of the synthesis baselines and of the complete study."""
    whole = work.cache.entry(subject)
    base = _row(work, subject, work.was_seen(whole, work.networks))
    for predicted in cases:
        yield from _score_case(work, predicted, base, advance)
    for case, subsets, _ in cases:
        if "image" in _outputs(work, case):
            yield from _score_baselines(work, case, subsets)
    case = open_case(work, whole)
    if "image" in _outputs(work, case):
        yield from _score_complete_study(work, case)


def _score_case(work: Evaluation, predicted: PredictedCase, base: Row, advance: Any) -> Iterator[Row]:
    """The model's rows."""
    case, _, predictions = predicted
    outputs = _outputs(work, case)
    for subset, prediction in predictions:
        if work.watch is not None:
            work.watch(case.study, subset, prediction)
        scores: list[Score] = []
        probability = None
        if "logits" in outputs:
            probability = case.on_truth(prediction.probability, prediction.head, _channels(work, subset))
        if work.saved is not None:
            work.saved.write(case.study, case.truth, subset, prediction, probability)
        if case.label is not None and probability is not None:
            scores += _score_regions(work, case, subset, probability, work.method)
        image = prediction.image if "image" in outputs else None
        if case.synthesis is not None and image is not None:
            scores += score_synthesis(case.synthesis, image.numpy(), prediction.synthesised.numpy(), subset)
        if case.class_label is not None and prediction.class_probability is not None:
            names = work.method.facts.class_label_names
            scores += score_classes(prediction.class_probability.tolist(), names, case.class_label)
        yield from _rows(work, base, subset, scores)
        if image is not None and case.label is not None and (work.downstream or work.then):
            made = {work.spec.modalities[i]: image[i].numpy() for i in np.flatnonzero(prediction.synthesised)}
            yield from _score_completed(work, case, base, subset, complete_study(case.study, subset, made, work.spec))
        advance()


def _channels(work: Evaluation, subset: Subset) -> list[int]:
    return [work.spec.index(code) for code in subset]


def open_case(work: Evaluation, study: Study) -> _Case:
    """A cached subject, and what its predictions are held against."""
    truth = study if work.reference is None else _reference_study(work, study)
    label = None if truth.label is None else np.asarray(truth.label)
    scored = work.asked.synthesis and "image" in (work.asked.outputs or work.method.outputs)
    synthesis = Synthesis(study, work.spec, work.asked.metrics == "full") if scored else None
    known = work.then is None and study.class_label in (work.method.facts.class_label_names or ())
    return _Case(study, truth, label, synthesis, study.class_label if known else None)


def _rows(work: Evaluation, base: Row, subset: Subset, scores: Sequence[Score]) -> Iterator[Row]:
    for score in scores:
        yield {**base, "subset": work.spec.subset_name(subset), **asdict(score)}


def _score_regions(work: Evaluation, case: _Case, subset: Subset, probability: Any, method: Any) -> list[Score]:
    """Scores of a segmentation on the grid of the truth."""
    found = regions(probability, method.head, method.spec)
    scores = score_regions(found, case.label, work.spec, case.truth.spacing_mm, work.asked.hd95)
    if work.asked.metrics == "full":
        scores += score_regions_in_full(
            found,
            case.label,
            work.spec,
            case.truth.spacing_mm,
            probability=region_probability(probability, method.head, method.spec),
            brain=case.truth.brain(_channels(work, subset)),
        )
    return scores


# --------------------------------------------------------------------------------------------------------------
# Completed studies
# --------------------------------------------------------------------------------------------------------------


def _score_completed(work: Evaluation, case: _Case, base: Row, subset: Subset, completed: Any) -> Iterator[Row]:
    """What the segmenters make of the study that the model completed.

    Raises
    ------
    UserError
        If the system's first half leaves a sequence out that its second half needs.
    """
    yield from _score_downstream(work, case, base, subset, completed)
    if work.then is None:
        return
    if completed is None:
        shown = work.spec.subset_name(subset)
        raise UserError(f"{work.run}: not every missing sequence is made from {shown}; take another model for it")
    probability = case.on_truth(
        work.then.probability(completed, _shown_statistics(work, case, subset)),
        work.then.method.head,
        _channels(work, subset),
    )
    yield from _rows(work, base, subset, _score_regions(work, case, subset, probability, work.then.method))


def _score_downstream(work: Evaluation, case: _Case, base: Row, subset: Subset, completed: Any) -> Iterator[Row]:
    """Rows of ``downstream_dice``; none where a sequence is missing that nobody made."""
    segmenter = work.downstream
    if segmenter is None or completed is None or case.label is None:
        return
    statistics, head, spec = _shown_statistics(work, case, subset), segmenter.method.head, segmenter.method.spec
    assert head is not None

    def segment(image: Any) -> Any:
        found = case.on_truth(segmenter.probability(image, statistics), head, _channels(work, subset))
        return regions(found, head, spec)

    seen = base["seen_in_training"] or work.was_seen(case.study, [segmenter.method])
    scores = score_downstream(segment, completed, case.label, work.spec)
    yield from _rows(work, {**base, "seen_in_training": seen}, subset, scores)


def _shown_statistics(work: Evaluation, case: _Case, subset: Subset) -> Any:
    """Statistics of the sequences shown; NaN for all others, also those that exist."""
    shown = np.array([code in subset for code in work.spec.modalities])
    return np.where(shown[:, None], case.study.statistics, np.float32("nan"))


def _score_complete_study(work: Evaluation, case: _Case) -> Iterator[Row]:
    """The segmenter on the real study, if it is complete: what no synthesis is expected to beat."""
    if work.downstream is not None and case.study.present.all():
        every = work.spec.modalities
        base = {**_row(work, case.study.subject_id, False), **_untrained("complete_study", work)}
        completed = complete_study(case.study, every, {}, work.spec)
        yield from _score_downstream(work, case, base, every, completed)


def _reference_study(work: Evaluation, study: Study) -> Study:
    """The same subject in the reference cache."""
    assert work.reference is not None
    found = work.reference.entry(study.subject_id)
    if not np.allclose(found.geometry.affine, study.geometry.affine) or found.geometry.shape != study.geometry.shape:
        raise UserError(
            f"{work.reference.folder}: {study.subject_id} was made from other files than in {work.cache.folder}; "
            "preprocess the same table of subjects twice"
        )
    return found


def _row(work: Evaluation, subject: str, seen: bool) -> Row:
    return {
        "run": work.run,
        "protocol": work.protocol,
        "preset": " + ".join(dict.fromkeys(describe_preset(network) for network in work.networks)),
        "method": work.system,
        "dataset": work.dataset,
        "fold": work.fold,
        "seed": work.seed,
        "subject": subject,
        "seen_in_training": seen,
    }


def _untrained(name: str, work: Evaluation) -> Row:
    """What rows say that are nobody's training."""
    how = "" if work.fitted_on or name not in BASELINES else "-others"
    return {"run": f"{name}-{work.dataset}-fold{work.fold}{how}", "preset": "", "method": name, "seed": 0}


def _score_baselines(work: Evaluation, case: _Case, subsets: list[Subset]) -> Iterator[Row]:
    if case.synthesis is None and work.downstream is None:
        return
    subject = case.study.subject_id
    others = [other for other in work.fitted_on or work.cache.subject_ids if other != subject]
    training = [_moments_of(work, other) for other in others]
    image = np.asarray(case.study.image, np.float32)
    for name in BASELINES:
        base = {**_row(work, subject, False), **_untrained(name, work)}
        for subset in subsets:
            available = {code: image[work.spec.index(code)] for code in subset}
            scored = [] if case.synthesis is None else case.synthesis.targets(subset)
            wanted = scored if work.downstream is None else work.spec.modalities
            filled = {
                target: fill_in(name, training, work.spec, target, available)
                for target in wanted
                if target not in subset
            }
            made = {target: image for target, image in filled.items() if image is not None}
            for target in scored:
                if target in made and case.synthesis is not None:
                    yield from _rows(work, base, subset, case.synthesis.score(target, made[target]))
            completed = None if work.downstream is None else complete_study(case.study, subset, made, work.spec)
            yield from _score_downstream(work, case, base, subset, completed)


def _moments_of(work: Evaluation, subject: str) -> Moments:
    if subject not in work.moments:
        work.moments[subject] = collect_moments(work.cache.entry(subject), work.spec)
    return work.moments[subject]


def predict_entry(
    work: Evaluation, study: Study, subsets: Sequence[Subset], outputs: tuple[str, ...]
) -> Iterator[tuple[Subset, SubjectPrediction]]:
    """Predictions of one cached subject, subset by subset."""
    if not subsets:
        return iter(())
    return iterate_subject(work.method, study, list(subsets), work.windows, outputs=outputs)


def _outputs(work: Evaluation, case: _Case) -> tuple[str, ...]:
    """What must be computed of a subject."""
    asked = work.asked.outputs or work.method.outputs
    if work.then is not None:
        return ("image",)
    saving, labelled = work.saved is not None, case.label is not None
    useful = {
        "logits": (labelled or saving) and work.method.head is not None,
        "image": work.asked.synthesis or saving or (labelled and work.downstream is not None),
        "class_logits": case.class_label is not None,
    }
    return tuple(name for name in work.method.outputs if name in asked and useful.get(name, False))
