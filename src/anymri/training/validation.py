"""Dice of every subset on the validation subjects while a run goes on."""

from __future__ import annotations

from typing import Any, Literal

from anymri.data.cache import Cache
from anymri.methods import Method

__all__ = ["validate"]


def validate(
    method: Method,
    cache: Cache,
    subjects: tuple[str, ...],
    window: tuple[int, int, int] | None,
    precision: Literal["32", "bf16"],
) -> dict[str, dict[str, float]]:
    """Segment every validation subject from every subset it has.

    Parameters
    ----------
    method : Method
        Left in evaluation mode.
    cache : Cache
    subjects : tuple of str
        With label maps.
    window : tuple of int or None
        Window (D, H, W), the one trained with; windows overlap by a quarter, for speed.
    precision : {"32", "bf16"}

    Returns
    -------
    dict of str to dict of str to float
        Subset name to region to Dice, mean over subjects. Empty for a method without segmentation.
    """
    import numpy as np
    import torch

    from anymri.evaluation.metrics import dice
    from anymri.inference.labels import regions
    from anymri.inference.sliding_window import predict_subject

    if method.head is None:
        return {}
    method.eval()
    spec = method.spec
    values: dict[str, dict[str, list[float]]] = {}
    for subject in subjects:
        study = cache.entry(subject)
        has = {code for code in spec.modalities if study.present[spec.index(code)]}
        predicted: dict[Any, Any] = predict_subject(
            method,
            torch.from_numpy(np.array(study.image, dtype=np.float32)),
            torch.from_numpy(np.array(study.statistics)),
            torch.from_numpy(np.array(study.boxes)),
            [subset for subset in _served(method) if has.issuperset(subset)],
            window=window,
            overlap=0.25,
            outputs=("logits",),
            subject_id=subject,
            precision=precision,
        )
        label = np.asarray(study.label)
        for subset, prediction in predicted.items():
            for region, inside in regions(prediction.probability, method.head, spec).items():
                counted = label != (-1 if spec.ignore is None else spec.ignore)
                score = dice(inside & counted, np.isin(label, spec.region_values(region)))
                values.setdefault(spec.subset_name(subset), {}).setdefault(region, []).append(float(score))
    return {subset: {region: sum(v) / len(v) for region, v in by.items()} for subset, by in values.items()}


def _served(method: Method) -> list[tuple[str, ...]]:
    if method.subsets == "any":
        return method.spec.subsets()
    return [method.spec.parse_subset(subset) for subset in method.subsets]
