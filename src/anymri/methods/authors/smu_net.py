"""SMU-Net checkpoints of github.com/rezazad68/smunet: translation to our parameter names."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from anymri.methods.authors.naming import GROUP_NORM_UNET, Translation, available_first, group_norm_path, swap_axes
from anymri.types import GLIOMA

__all__ = ["SOURCES", "translate"]

SOURCES = {
    "official": "SMU-Net for FLAIR, the first of the released list; give the whole checkpoint",
    "official:<subset>": "SMU-Net whose missing path was trained for that subset; give the whole checkpoint",
}
_RULES = ((r"unet\.convc", "style"), (r"unet\.convco", "join"), *GROUP_NORM_UNET)


def translate(theirs: Mapping[str, Mapping[str, Tensor]], source: str) -> Translation:
    """SMU-Net of four sequences.

    Parameters
    ----------
    theirs : mapping
        With the entries ``model_full``, ``model_missing`` and ``d_style``.
    source : str
        See `SOURCES`.

    Raises
    ------
    KeyError, ValueError
        If a weight is missing or unknown, or the subset is.
    """
    subset = source.partition(":")[2] or "flair"
    own = GLIOMA.parse_subset(subset)
    weights: dict[str, Tensor] = {}
    for entry, name, codes in (("model_full", "full", GLIOMA.modalities), ("model_missing", "missing", own)):
        path = group_norm_path(theirs[entry], codes, available_first(own), _RULES)
        weights |= {f"{name}.{key}": value for key, value in path.items()}
    # Ours pools between the last two layers.
    last = max(int(key.partition(".")[0]) for key in theirs["d_style"])
    for key, value in theirs["d_style"].items():
        number, _, part = key.partition(".")
        weights[f"discriminator.{int(number) + (int(number) == last)}.{part}"] = value
    return {"subset": subset}, swap_axes(weights)
