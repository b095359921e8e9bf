"""Names of sequences as other programs and data sets write them."""

from __future__ import annotations

import re

from anymri.modalities import MODALITIES

__all__ = ["modality_of"]

#: Spelling, in small letters and without separators, to modality code.
_SPELLINGS = {
    "t1n": "t1",
    "t1w": "t1",
    "t1native": "t1",
    "t1ce": "t1c",
    "t1gd": "t1c",
    "t1wgd": "t1c",
    "t1wce": "t1c",
    "t1post": "t1c",
    "t1contrast": "t1c",
    "gado": "t1c",
    "t2w": "t2",
    "t2f": "flair",
    "t2flair": "flair",
    "t2wflair": "flair",
    "pdw": "pd",
    "protondensity": "pd",
    "dwib1000": "dwi",
    "tracew": "dwi",
    "inphase": "t1_in",
    "outphase": "t1_out",
    "opposedphase": "t1_out",
    "t2spir": "t2_spir",
    "rcbf": "cbf",
    "rcbv": "cbv",
}


def modality_of(name: str) -> str | None:
    """Modality code that a name such as ``"T1ce"``, ``"T2-FLAIR"`` or ``"t1_in"`` stands for; None if unknown."""
    lower = name.strip().lower()
    if lower in MODALITIES:
        return lower
    plain = re.sub(r"[^a-z0-9]", "", lower)
    plain = re.sub(r"(mri|mr|scan|image|weighted)$", "", plain)
    return plain if plain in MODALITIES else _SPELLINGS.get(plain)
