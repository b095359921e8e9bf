"""HAD-Net checkpoints of github.com/SaverioVad/HAD_Net: translation to our parameter names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor

from anymri.methods.authors.naming import Translation, rename
from anymri.types import GLIOMA

__all__ = ["FRESH", "SOURCES", "translate"]

_GIVE = "give its weights, or a mapping with the entries student and, if at hand, teacher and discriminator"
SOURCES = {
    "official": f"HAD-Net's student of T1, T2 and FLAIR; {_GIVE}",
    "official:<subset>": f"HAD-Net's student trained for that subset; {_GIVE}",
}
#: The student alone is released as a result; the others only teach.
FRESH = r"(teacher|discriminator)\..*"
#: Order of channels there.
ORDER = ("flair", "t1c", "t1", "t2")

_LAYERS = ((r"conv1", "first"), (r"conv2", "second"))
_LEVELS = (*((f"conv_d{n}", f"down.{n - 1}") for n in range(1, 5)), ("conv_c5", "bottleneck"))
_UP = tuple((f"conv_u{n}", f"up.{4 - n}") for n in range(4, 0, -1))
_RULES = (
    *(
        (rf"{level}\.{layer}\.{part}", f"{ours}.{name}.{new}")
        for level, ours in _LEVELS
        for layer, name in _LAYERS
        for part, new in (("conv", "conv"), ("inst", "norm"))
    ),
    *(
        (rf"{level}\.{part}", f"{ours}.{new}")
        for level, ours in _UP
        for part, new in (
            (r"conv_up", "coarse"),
            (r"conv_left", "skip"),
            (r"inst", "norm"),
            (r"conv_out\.conv", "last.conv"),
            (r"conv_out\.inst", "last.norm"),
        )
    ),
    (r"conv_out", "head"),
)
_DISCRIMINATOR = (*((rf"disc_{n}\.0", f"layers.{n - 1}") for n in range(1, 5)), (r"disc_5", "score"))


def translate(theirs: Mapping[str, Any], source: str) -> Translation:
    """A student, and what taught it.

    Parameters
    ----------
    theirs : mapping
        Weights of a student, or such mappings by ``student``, ``teacher`` and ``discriminator``.
    source : str
        See `SOURCES`.

    Raises
    ------
    KeyError, ValueError
        If a weight is missing or unknown, or the subset is.
    """
    subset = source.partition(":")[2] or "t1+t2+flair"
    own = GLIOMA.parse_subset(subset)
    parts = cast(Mapping[str, Mapping[str, Tensor]], theirs if "student" in theirs else {"student": theirs})
    width = len(parts["student"]["conv_d1.conv1.conv.weight"])
    config: dict[str, Any] = {"subset": subset, "width": width, "discriminator_width": width}
    weights: dict[str, Tensor] = {}
    for name, codes in (("student", own), ("teacher", GLIOMA.modalities)):
        if name in parts:
            network = rename(parts[name], _RULES)
            stem, columns = "down.0.first.conv.weight", [code for code in ORDER if code in codes]
            network[stem] = network[stem][:, [columns.index(code) for code in codes]]
            weights |= {f"{name}.{key}": value for key, value in network.items()}
    if "discriminator" in parts:
        network = rename(parts["discriminator"], _DISCRIMINATOR)
        # Four channels of logits stand before the images.
        columns = [code for code in ORDER if code in own]
        order = [*range(4), *(4 + columns.index(code) for code in own)]
        network["layers.0.weight"] = network["layers.0.weight"][:, order]
        weights |= {f"discriminator.{key}": value for key, value in network.items()}
    return config, weights
