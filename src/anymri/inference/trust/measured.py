"""Measured accuracy with the sequences of a study, on cases the model had not seen, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from anymri.inference.words import join_words, name, sequence_names, title
from anymri.modalities import MODALITIES
from anymri.types import DataSpec
from anymri.zoo.card import ModelCard

__all__ = ["LOW_DICE", "low_warning", "measured_summary", "trust_line", "unknown_regions", "unknown_warnings"]

#: A region whose median Dice is below this is called low: in half of the patients less than a third of all the voxels
#: that were marked, or should have been, were both (Dice 1/2 is an intersection over union of 1/3).
LOW_DICE = 0.5
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


def measured_summary(card: ModelCard | None, spec: DataSpec, subset: Sequence[str]) -> dict[str, Any] | None:
    """Scores by region for these sequences, as ``trust.measured`` of result.json holds them.

    Parameters
    ----------
    card : ModelCard or None
    spec : DataSpec
    subset : sequence of str

    Returns
    -------
    dict or None
        ``regions``: region to the fields of `anymri.zoo.RegionScore`; ``low``: regions whose median is below
        `LOW_DICE`; ``on``: which cases. None if nothing was measured with these sequences.
    """
    scores = {} if card is None else card.measured(spec.subset_name(tuple(subset)))
    if card is None or not scores:
        return None
    return {
        "on": card.numbers.get("measured_on", "cases that were not in training"),
        "regions": {region: asdict(score) for region, score in scores.items()},
        "low": [region for region, score in scores.items() if score.median is not None and score.median < LOW_DICE],
    }


def low_warning(measured: Mapping[str, Any] | None, spec: DataSpec, subset: Sequence[str]) -> list[str]:
    """The sentence that comes before everything else where the largest region is mostly missed; else nothing."""
    if measured is None or not spec.regions:
        return []
    region = next(iter(spec.regions))
    if region not in measured["low"]:
        return []
    score = measured["regions"][region]
    missed = "tumours" if region == "whole_tumor" else f"of the {name(region)}"
    evidence = f"median Dice {score['median']:.2f} on {score['n']} unseen patients"
    source = sequence_names(subset)
    return [f"From {source} this model misses most {missed}: {evidence}. Do not use its outline or its volumes."]


def unknown_warnings(unknown: Mapping[str, str]) -> list[str]:
    """A sentence for every region that cannot be known; takes what `unknown_regions` gives."""
    return [f"{title(region)} is unknown: it {reason}." for region, reason in unknown.items()]


def trust_line(measured: Mapping[str, Any] | None, region: str) -> str:
    """What was measured of one region, in a few words."""
    score = None if measured is None else measured["regions"].get(region)
    if measured is None or score is None:
        return "not measured with these sequences"
    if score["median"] is None:
        return "not measured: no unseen patient had one"
    low = "low: " if region in measured["low"] else ""
    return f"{low}median Dice {score['median']:.2f} on {score['n']} unseen patients"
