"""First line of a result: what was found, from which sequences, and how far to trust it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anymri.inference.trust.measured import first_sentences, is_low
from anymri.inference.words import join_words, name, sequence_names

if TYPE_CHECKING:
    from anymri.inference.output.result import Result

__all__ = ["first_line", "is_usable"]


def is_usable(result: Result) -> bool:
    """Whether nothing that was measured speaks against using this result at all."""
    return not first_sentences(result.trust, result.spec, result.available)


def first_line(result: Result) -> str:
    """One or two plain sentences that stand above everything else of a result.

    Parameters
    ----------
    result : Result

    Returns
    -------
    str
        Never a volume where the result is not usable.
    """
    source = sequence_names(result.available)
    if result.view.label is None:
        made = [code for code in result.missing if code in result.view.completed]
        return f"From {source}: {sequence_names(made).removesuffix(' alone') if made else 'nothing'} filled in."
    if not is_usable(result):
        return " ".join(first_sentences(result.trust, result.spec, result.available))
    return f"From {source} the model marked {_found(result)}. {_trust(result)}"


def _found(result: Result) -> str:
    """Volumes of all regions, the largest first."""
    known = {region: volume for region, volume in result.volumes_ml.items() if volume is not None}
    if not any(known.values()):
        return f"no {name(next(iter(result.spec.regions)))}, which does not mean that there is none"
    parts = [f"{name(region)} {volume:.1f} ml" for region, volume in known.items()]
    unknown = "".join(f"; how much {name(region)} there is cannot be known" for region in result.unknown)
    return join_words(parts) + unknown


def _trust(result: Result) -> str:
    """What is expected in this study, or was measured with these sequences in others, region by region."""
    measured = result.trust["measured"]
    if measured is None:
        return "How far to trust this model with these sequences was not measured."
    scores = {
        region: score
        for region, score in measured["regions"].items()
        if score["median"] is not None and region in result.volumes_ml and region not in result.unknown
    }
    if not scores:
        return "How far to trust this model with these sequences was not measured."
    if expected := result.trust.get("expected"):
        low = {region: " (low)" if is_low(result.trust, region) else "" for region in expected}
        parts = [
            f"{values['low']:.2f} to {values['high']:.2f}{low[region]} for {name(region)}"
            for region, values in expected.items()
        ]
        return f"Expected Dice with these sequences: {join_words(parts)}."
    count = max(score["n"] for score in scores.values())
    parts = [
        f"{score['median']:.2f}{' (low)' if region in measured['low'] else ''} for {name(region)}"
        for region, score in scores.items()
    ]
    patients = "unseen patients" if count > 1 else "unseen patient"
    return f"Median Dice on {count} {patients} with these sequences: {join_words(parts)}."
