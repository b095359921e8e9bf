"""Dice or PSNR of every subset on the validation subjects while a run goes on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from anymri.data.cache import Cache
from anymri.data.study import Study
from anymri.methods import Method

if TYPE_CHECKING:
    from anymri.inference.sliding_window import WindowSettings

__all__ = ["validate", "validation_metric"]


def validation_metric(method: Method) -> Literal["Dice", "PSNR"] | None:
    """What a method is validated by: Dice if it segments, PSNR if it only makes images, nothing otherwise."""
    if method.head is not None:
        return "Dice"
    return "PSNR" if "image" in method.outputs else None


def validate(
    method: Method,
    cache: Cache,
    subjects: tuple[str, ...],
    settings: WindowSettings,
) -> dict[str, dict[str, float]]:
    """Predict every validation subject from every subset it has.

    Parameters
    ----------
    method : Method
        Left in evaluation mode.
    cache : Cache
    subjects : tuple of str
        With label maps, if the method segments.
    settings : WindowSettings

    Returns
    -------
    dict of str to dict of str to float
        Subset name to region to Dice, or to a sequence that exists and is not shown to PSNR (dB, in its brain); means
        over subjects. Empty without `validation_metric`.
    """
    from anymri.inference.sliding_window import predict_subject

    metric = validation_metric(method)
    if metric is None:
        return {}
    method.eval()
    spec = method.spec
    values: dict[str, dict[str, list[float]]] = {}
    for subject in subjects:
        present = cache.entry(subject).present
        has = {code for code in spec.modalities if present[spec.index(code)]}
        outputs = ("logits",) if metric == "Dice" else ("image",)
        score = _dice if metric == "Dice" else _psnr
        for study, subsets in cache.entries(subject, (one for one in _served(method) if has.issuperset(one))):
            predicted = predict_subject(method, study, subsets, settings, outputs=outputs)
            for subset, target, value in score(method, study, predicted):
                values.setdefault(spec.subset_name(subset), {}).setdefault(target, []).append(value)
    return {subset: {target: sum(v) / len(v) for target, v in by.items()} for subset, by in values.items()}


Scored = list[tuple[tuple[str, ...], str, float]]


def _dice(method: Method, study: Study, predicted: dict[Any, Any]) -> Scored:
    import numpy as np

    from anymri.evaluation.metrics import dice
    from anymri.inference.labels import regions

    assert method.head is not None
    spec, label = method.spec, np.asarray(study.label)
    counted = label != (-1 if spec.ignore is None else spec.ignore)
    return [
        (subset, region, float(dice(inside & counted, np.isin(label, spec.region_values(region)))))
        for subset, prediction in predicted.items()
        for region, inside in regions(prediction.probability, method.head, spec).items()
    ]


def _psnr(method: Method, study: Study, predicted: dict[Any, Any]) -> Scored:
    from anymri.evaluation.metrics import psnr
    from anymri.evaluation.scoring import Synthesis

    real, scored = Synthesis(study, method.spec), []
    for subset, prediction in predicted.items():
        for target in real.targets(subset):
            channel = method.spec.index(target)
            if prediction.synthesised[channel]:
                image = prediction.image[channel].numpy()
                value = psnr(image, real.reference[target], real.brain[target], real.range[target])
                scored += [] if math.isnan(value) else [(subset, target, value)]
    return scored


def _served(method: Method) -> list[tuple[str, ...]]:
    if method.subsets == "any":
        return method.spec.subsets()
    return [method.spec.parse_subset(subset) for subset in method.subsets]
