"""Names and sentences in which a result is told to people."""

from __future__ import annotations

from collections.abc import Sequence

from anymri.modalities import MODALITIES
from anymri.types import DataSpec

__all__ = ["join_words", "name", "scope", "sequence_names", "title"]

#: The field's regions and labels.
_NAMES = {
    "whole_tumor": "whole tumour",
    "tumor_core": "tumour core",
    "enhancing_tumor": "enhancing tumour",
    "ncr": "necrotic / non-enhancing core",
    "edema": "oedema / infiltration",
    "et": "enhancing tumour",
}


def name(code: str) -> str:
    """Region or label as people write it, e.g. ``"whole tumour"``."""
    return _NAMES.get(code, code.replace("_", " "))


def title(code: str) -> str:
    """`name` with a capital letter, at the beginning of a sentence or a row."""
    words = name(code)
    return words[:1].upper() + words[1:]


def join_words(words: Sequence[str]) -> str:
    """``"T1, T1c and T2"``."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def sequence_names(codes: Sequence[str]) -> str:
    """``"T1 alone"`` or ``"T1 and FLAIR"``."""
    names = [MODALITIES[code].short_name for code in codes]
    return f"{names[0]} alone" if len(names) == 1 else join_words(names)


def scope(spec: DataSpec) -> str:
    """What a model of these regions takes every study for."""
    if "whole_tumor" in spec.regions:
        return (
            "This model always looks for a tumour. It knows no other disease and no healthy brain: what it marks in "
            "multiple sclerosis, stroke or after surgery is not a measurement of anything."
        )
    wanted = join_words([name(region) for region in spec.regions])
    return f"This model always looks for {wanted}, in whatever it is given; it knows nothing else."
