"""Score one subject: rows of the model for every subset, and of the synthesis baselines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from anymri.data.study import Study
from anymri.evaluation.baselines import BASELINES, Moments, collect_moments, fill_in
from anymri.evaluation.scoring import Score, Synthesis, score_regions, score_synthesis
from anymri.evaluation.seen import seen_in_training
from anymri.evaluation.setup import Evaluation, Subset, describe_preset
from anymri.inference.labels import regions
from anymri.inference.restore import restore_probability
from anymri.inference.sliding_window import SubjectPrediction, iterate_subject
from anymri.types import UserError

__all__ = ["predict_entry", "score_subject"]


def score_subject(work: Evaluation, subject: str, advance: Any = lambda: None) -> Iterator[dict[str, Any]]:
    """Rows of one subject: the model's, then those of the synthesis baselines."""
    work.cache.verify(subject)
    study = work.cache.entry(subject)
    truth = study if work.reference is None else _reference_study(work, study)
    label = None if truth.label is None else np.asarray(truth.label)
    subsets = work.subsets_of(subject)
    outputs = _outputs(work, label is not None)
    scored = "image" in outputs and work.asked.synthesis
    synthesis = Synthesis(study, work.spec) if scored else None
    base = _row(work, subject, seen_in_training(study, work.extra, work.same_data))
    for subset, prediction in predict_entry(work, study, subsets if outputs else [], outputs):
        if work.watch is not None:
            work.watch(study, subset, prediction)
        scores: list[Score] = []
        probability: Any = prediction.probability if "logits" in outputs else None
        if probability is not None and truth is not study:
            probability = restore_probability(probability, study.geometry.with_shape(truth.image.shape[1:]))
        if work.saved is not None:
            work.saved.write(study, truth, subset, prediction, probability)
        if label is not None and probability is not None:
            found = regions(probability, work.method.head, work.method.spec)
            scores += score_regions(found, label, work.spec, truth.spacing_mm, work.asked.hd95)
        image = prediction.image if synthesis is not None else None
        if synthesis is not None and image is not None:
            scores += score_synthesis(synthesis, image.numpy(), prediction.synthesised.numpy(), subset)
        yield from ({**base, "subset": work.spec.subset_name(subset), **asdict(score)} for score in scores)
        advance()
    if synthesis is not None:
        yield from _score_baselines(work, subject, synthesis, subsets)


def _reference_study(work: Evaluation, study: Study) -> Study:
    """The same subject in the reference cache, on a grid over the same box."""
    assert work.reference is not None
    found = work.reference.entry(study.subject_id)
    if not np.allclose(found.geometry.affine, study.geometry.affine) or found.geometry.shape != study.geometry.shape:
        raise UserError(
            f"{work.reference.folder}: {study.subject_id} was made from other files than in {work.cache.folder}; "
            "preprocess the same table of subjects twice"
        )
    return found


def _row(work: Evaluation, subject: str, seen: bool) -> dict[str, Any]:
    return {
        "run": work.run,
        "protocol": work.protocol,
        "preset": describe_preset(work.method),
        "method": work.method.name,
        "dataset": work.dataset,
        "fold": work.fold,
        "seed": work.seed,
        "subject": subject,
        "seen_in_training": seen,
    }


def _score_baselines(
    work: Evaluation, subject: str, synthesis: Synthesis, subsets: list[Subset]
) -> Iterator[dict[str, Any]]:
    others = [other for other in work.fitted_on or work.cache.subject_ids if other != subject]
    training = [_moments_of(work, other) for other in others]
    how = "" if work.fitted_on else "-others"
    for name in BASELINES:
        own = {"run": f"{name}-{work.dataset}-fold{work.fold}{how}", "preset": "", "method": name, "seed": 0}
        base = {**_row(work, subject, False), **own}
        for subset in subsets:
            available = {code: synthesis.reference[code] for code in subset}
            for target in synthesis.targets(subset):
                image = fill_in(name, training, work.spec, target, available)
                scores = [] if image is None else synthesis.score(target, image)
                yield from ({**base, "subset": work.spec.subset_name(subset), **asdict(score)} for score in scores)


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


def _outputs(work: Evaluation, labelled: bool) -> tuple[str, ...]:
    """What must be computed of a subject."""
    asked = work.asked.outputs or work.method.outputs
    saving = work.saved is not None
    useful = {"logits": (labelled or saving) and work.method.head is not None, "image": work.asked.synthesis or saving}
    return tuple(name for name in work.method.outputs if name in asked and useful.get(name, False))
