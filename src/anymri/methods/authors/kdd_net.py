"""KDD-Net checkpoints of github.com/illidanlab/incomplete-multimodal-kd: translation to our parameter names."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from anymri.methods.authors.naming import Translation, rename
from anymri.types import GLIOMA

__all__ = ["SOURCES", "translate"]

_GIVE = "give the weights student, teacher1 and teacher2, for as many features as blocks of an image"
SOURCES = {
    "official": f"KDD-Net of T1 and FLAIR; {_GIVE}",
    "official:<subset>": f"KDD-Net of two other sequences, in our order; {_GIVE}",
}
_TEACHER = ((r"fc1", "0"), (r"fc2", "3"), (r"fc3", "6"))


def translate(theirs: Mapping[str, Mapping[str, Tensor]], source: str) -> Translation:
    """Student and teachers.

    Parameters
    ----------
    theirs : mapping
        With the entries ``student``, ``teacher1`` and ``teacher2``.
    source : str
        See `SOURCES`.

    Raises
    ------
    KeyError, ValueError
        If a weight is missing or unknown, the subset is, or features are no number of blocks.
    """
    subset = source.partition(":")[2] or "t1+flair"
    first, second = GLIOMA.parse_subset(subset)
    rules = [
        (rf"fc{input_}{layer}", f"branches.{code}.{place}")
        for input_, code in ((1, first), (2, second))
        for layer, place in ((1, 0), (2, 3))
    ]
    weights = {
        f"student.{key}": value for key, value in rename(theirs["student"], [*rules, ("fc3", "classifier")]).items()
    }
    for name, code in (("teacher1", first), ("teacher2", second)):
        weights |= {f"teachers.{code}.{key}": value for key, value in rename(theirs[name], _TEACHER).items()}
    hidden, features = weights[f"student.branches.{first}.0.weight"].shape
    blocks = round(features ** (1 / 3))
    if blocks**3 != features:
        raise ValueError(f"{features} features are no cube of blocks")
    classes = len(weights["student.classifier.bias"])
    return {"subset": subset, "hidden": hidden, "blocks": blocks, "classes": classes}, weights
