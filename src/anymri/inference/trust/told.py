"""Trust told in sentences and rows, for the report and the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anymri.inference.trust.measured import is_low
from anymri.inference.words import name, title
from anymri.modalities import MODALITIES
from anymri.types import DataSpec

__all__ = ["expected_rows", "gain_rows", "trust_sentences"]


def expected_rows(trust: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Expected Dice of every region that has one: ``name``, ``dice``, ``low``, ``high``, ``confidence``, ``n``."""
    return [{"name": title(region), **values} for region, values in trust.get("expected", {}).items()]


def gain_rows(trust: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What each missing sequence added to a region's Dice: ``sequence``, ``region``, ``mean``, ``error``, ``n``."""
    return [
        {"sequence": MODALITIES[code].short_name, "region": name(region), **gain}
        for code, regions in trust.get("gain", {}).items()
        for region, gain in regions.items()
    ]


def trust_sentences(trust: Mapping[str, Any], spec: DataSpec) -> list[str]:
    """Margin, cautious mask and limits of what is expected, in sentences.

    Parameters
    ----------
    trust : mapping
        Of a `Result`; see `anymri.inference.trust.expected.trust_in_study`.
    spec : DataSpec
    """
    found = trust.get("alarm")
    if not found or not spec.regions:
        return []
    if trust.get("contradictions"):
        return ["Images contradict their names or each other. No expected Dice or margin is given."]
    if found["raised"]:
        lies = f"The study lies {found['distance']:.1f} standard deviations from the patients measured"
        return [f"{lies}; they lie up to {found['limit']:.1f} from each other. No expected Dice or margin is given."]
    largest = next(iter(spec.regions))
    if is_low(trust, largest):
        return [f"No margin is told around a {name(largest)} whose outline is not to be used."]
    region = name(largest)
    sentences = []
    margin, cautious = trust["margin"], trust["cautious"]
    if margin is not None:
        where = f"Within {margin['mm']:.0f} mm around what is marked lies {margin['share']:.0%} of the {region} or more"
        sentences.append(f"{where}, with a probability of {margin['confidence']:.0%}.")
    if cautious is not None:
        where = f"{cautious['threshold']:.2g} or more ({cautious['volume_ml']:.0f} ml)"
        missed = f"at most {cautious['missed_share']:.0%} of it is missed on average"
        sentences.append(f"Where the probability of the {region} is {where}, {missed}.")
    else:
        sentences.append(f"No threshold of its probability promises to miss little of the {region} on average.")
    return sentences
