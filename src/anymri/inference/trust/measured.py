"""Measured accuracy in words: what a calibration says of these sequences and of this study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from anymri.inference.trust.calibration import Calibration
from anymri.inference.words import join_words, name, sequence_names, title
from anymri.modalities import MODALITIES
from anymri.types import DataSpec

__all__ = [
    "LOW_DICE", "best_addition", "first_sentences", "is_low", "measured_summary", "trust_line", "unknown_regions",
    "unknown_warnings",
]  # fmt: skip

#: A region whose median Dice is below this is called low: in half of the patients less than a third of all the voxels
#: that were marked, or should have been, were both (Dice 1/2 is an intersection over union of 1/3).
LOW_DICE = 0.5
#: Smallest mean gain in Dice for which a sequence is recommended.
LEAST_GAIN = 0.05
#: Features of the whole study in words.
_FEATURES = {
    "brain_ml": "the size of the brain",
    "log_ml": "the marked volume",
    "border_entropy": "how sure the model is at the border",
    "soft_dice": "how sure the model is",
    "largest_part": "how scattered the marked region is",
}
#: Regions that are defined by what one of these sequences shows: without it nobody can see them.
_SHOWN_BY = {"enhancing_tumor": ("t1c",)}


def unknown_regions(regions: Sequence[str], subset: Sequence[str]) -> dict[str, str]:
    """Regions that cannot be known from these sequences, with the reason.

    Parameters
    ----------
    regions : sequence of str
    subset : sequence of str
        Sequences that were given.
    """
    reasons = {}
    for region in regions:
        needed = _SHOWN_BY.get(region)
        if needed and not set(needed) & set(subset):
            names = join_words([MODALITIES[code].short_name for code in needed])
            reasons[region] = (
                f"needs {names}, which was not given; what the segmentation marks as {name(region)} is a guess from "
                "the other sequences and counts to the regions around it"
            )
    return reasons


def measured_summary(calibration: Calibration | None, spec: DataSpec, subset: Sequence[str]) -> dict[str, Any] | None:
    """Scores by region for these sequences, as ``trust.measured`` of result.json holds them.

    Parameters
    ----------
    calibration : Calibration or None
    spec : DataSpec
    subset : sequence of str

    Returns
    -------
    dict or None
        ``regions``: region to the fields of `anymri.zoo.RegionScore`; ``low``: regions whose median is below
        `LOW_DICE`; ``on``: which cases. None if nothing was measured with these sequences.
    """
    known = None if calibration is None else calibration.subsets.get(spec.subset_name(tuple(subset)))
    if calibration is None or known is None:
        return None
    scores = {region: cell.score for region, cell in known.regions.items()}
    return {
        "on": calibration.measured_on,
        "regions": {region: asdict(score) for region, score in scores.items()},
        "low": [region for region, score in scores.items() if score.median is not None and score.median < LOW_DICE],
    }


def first_sentences(trust: Mapping[str, Any], spec: DataSpec, subset: Sequence[str]) -> list[str]:
    """What comes before everything else: a subset or a study whose outline must not be used, a study unlike others.

    Parameters
    ----------
    trust : mapping
        Of a `Result`: ``measured`` and, of a calibrated model, what `anymri.inference.trust.expected.trust_in_study`
        gives.
    spec : DataSpec
    subset : sequence of str
    """
    contradictions = trust.get("contradictions", [])
    if trust.get("measured") is None or not spec.regions:
        return [*contradictions]
    return [*contradictions, *_low_sentence(trust, next(iter(spec.regions)), subset), *_alarm_sentence(trust)]


def _low_sentence(trust: Mapping[str, Any], region: str, subset: Sequence[str]) -> list[str]:
    """Whether the largest region is mostly missed: from these sequences, or in this study."""
    measured, expected = trust["measured"], trust.get("expected", {}).get(region)
    if expected is not None and expected["low"] >= LOW_DICE:
        return []
    missed = "tumours" if region == "whole_tumor" else f"of the {name(region)}"
    if region in measured["low"]:
        score = measured["regions"][region]
        evidence = f"median Dice {score['median']:.2f} on {score['n']} unseen patients"
        first = f"Not usable from {sequence_names(subset)}: this model misses most {missed} ({evidence})."
        return [f"{first} Do not use its outline or its volumes."]
    if expected is not None and expected["dice"] < LOW_DICE:
        evidence = f"{_expected_words(expected)}, by {expected['n']} unseen patients"
        return [f"The outline of the {name(region)} is probably bad in this study: {evidence}."]
    return []


def _alarm_sentence(trust: Mapping[str, Any]) -> list[str]:
    found = trust.get("alarm")
    if not found or not found["raised"]:
        return []
    most = join_words(list(dict.fromkeys(map(_feature_words, found["differs_in"])))[:3] or ["many small things"])
    n = max(score["n"] for score in trust["measured"]["regions"].values())
    who = f"the {n} unseen patients on whom the model was measured"
    return [f"This study is unlike {who}, above all in {most}: how far to trust its result is not known."]


def _feature_words(feature: str) -> str:
    """A feature of `anymri.inference.trust.features.study_features` in words."""
    code, _, what = feature.partition("_")
    if code not in MODALITIES:
        return _FEATURES[feature]
    image = MODALITIES[code].short_name
    words = {"sharpness": f"the sharpness of {image}", "marked": f"how bright the marked region is in {image}"}
    return words.get(what, f"the grey values of {image}")


def _expected_words(expected: Mapping[str, Any]) -> str:
    return f"expected Dice {expected['low']:.2f} to {expected['high']:.2f}"


def best_addition(trust: Mapping[str, Any]) -> list[str]:
    """The sentence on the missing sequence that would add most, if one certainly adds.

    Parameters
    ----------
    trust : mapping
        ``gain`` is what the sequence added to the same unseen patients. It counts as certain where it is at least
        `LEAST_GAIN` and twice its standard error.
    """
    if trust.get("contradictions") or trust.get("alarm", {}).get("raised"):
        return []
    gains = [
        (gain["mean"], code, region, gain["n"])
        for code, regions in trust.get("gain", {}).items()
        for region, gain in regions.items()
        if gain["error"] is not None and gain["mean"] >= max(LEAST_GAIN, 2 * gain["error"])
    ]
    if not gains:
        return []
    mean, code, region, n = max(gains)
    where = f"the Dice of the {name(region)} was higher by {mean:.2f} with it, on average of {n} unseen patients"
    return [f"Acquiring {MODALITIES[code].short_name} would add most: {where}."]


def unknown_warnings(unknown: Mapping[str, str], guesses: Mapping[str, Mapping[str, Any]] | None = None) -> list[str]:
    """A sentence for every region that cannot be known.

    Parameters
    ----------
    unknown : mapping of str to str
        What `unknown_regions` gives.
    guesses : mapping or None, default=None
        Region to the expected Dice of what is marked all the same.
    """
    sentences = []
    for region, reason in unknown.items():
        guess = (guesses or {}).get(region)
        worth = "" if guess is None else f" ({_expected_words(guess)})"
        sentences.append(f"{title(region)} is unknown: it {reason}{worth}.")
    return sentences


def trust_line(trust: Mapping[str, Any], region: str) -> str:
    """What is expected of one region in this study and was measured in others, in a few words.

    Parameters
    ----------
    trust : mapping
        As of `first_sentences`.
    region : str
    """
    measured, expected = trust.get("measured"), trust.get("expected", {}).get(region)
    score = None if measured is None else measured["regions"].get(region)
    if measured is None or score is None:
        return "not measured with these sequences"
    if trust.get("contradictions"):
        return "not known: images contradict their names or each other"
    if trust.get("alarm", {}).get("raised"):
        return "not known: unlike the patients measured"
    if score["median"] is None:
        return "not measured: no unseen patient had one"
    low = "low: " if is_low(trust, region) else ""
    words = "" if expected is None else f"{_expected_words(expected)}, "
    return f"{low}{words}median Dice {score['median']:.2f} on {score['n']} unseen patients"


def is_low(trust: Mapping[str, Any], region: str) -> bool:
    """Whether a region is called low: by what is expected in this study, else by the median of others."""
    measured, expected = trust.get("measured"), trust.get("expected", {}).get(region)
    if expected is not None:
        return bool(expected["dice"] < LOW_DICE)
    return measured is not None and region in measured["low"]
