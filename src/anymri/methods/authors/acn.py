"""ACN checkpoints of github.com/Wangyixinxin/ACN: translation to our parameter names."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from anymri.methods.authors.naming import DISJOINT_HEAD, Translation, group_norm_path, swap_axes
from anymri.types import GLIOMA

__all__ = ["SOURCES", "translate"]

#: Channels of a subset there are in the order of the authors' list of modalities.
SOURCES = {
    "official": "the released example of ACN, which sees T1c alone; give the whole checkpoint",
    "official:<subset>": "ACN for that subset; give the whole checkpoint",
}
#: The authors' list of modalities, by our codes.
_ORDER = ("t1", "t2", "flair", "t1c")
_TRANSFER = "VID_branch."


def translate(theirs: Mapping[str, Mapping[str, Tensor]], source: str) -> Translation:
    """ACN of four sequences.

    Parameters
    ----------
    theirs : mapping
        With the entries ``model``, ``model_mono``, ``d_main`` and ``d_feature``.
    source : str
        See `SOURCES`.

    Raises
    ------
    KeyError, ValueError
        If a weight is missing or unknown, or the subset is.
    """
    subset = source.partition(":")[2] or "t1c"
    weights: dict[str, Tensor] = {}
    for entry, name, codes in (
        ("model", "full", GLIOMA.modalities),
        ("model_mono", "missing", GLIOMA.parse_subset(subset)),
    ):
        path = group_norm_path(theirs[entry], codes, _ORDER, unused=r"(vae|VID)_branch\..*")
        weights |= {f"{name}.{key}": value for key, value in path.items()}
    weights |= {
        f"transfer.{key.removeprefix(_TRANSFER)}": value
        for key, value in theirs["model_mono"].items()
        if key.startswith(_TRANSFER)
    }
    judge = dict(theirs["d_main"])
    judge["0.weight"] = judge["0.weight"][:, DISJOINT_HEAD]
    weights |= {f"entropy_discriminator.{key}": value for key, value in judge.items()}
    weights |= {f"knowledge_discriminator.{key}": value for key, value in theirs["d_feature"].items()}
    return {"subset": subset}, swap_axes(weights)
