"""MM-GAN checkpoints of github.com/trane293/mm-gan: translation to our parameter names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from anymri.methods.authors.naming import Translation
from anymri.types import GLIOMA

__all__ = ["FRESH", "SOURCES", "translate"]

SOURCES = {"official": "MM-GAN's generator; give the entry 'state_dict' of generator_param_*.pkl"}
#: Prediction does not use the discriminator, whose weights are another file.
FRESH = r"discriminator\..*"
#: Their channels.
_ORDER = ("t1", "t2", "t1c", "flair")
#: Places of the discriminator's convolutions between norms and activations.
_LEVELS = {0: 0, 2: 1, 5: 2, 8: 3}


def translate(theirs: Mapping[str, Tensor], source: str) -> Translation:
    """MM-GAN of four sequences.

    Parameters
    ----------
    theirs : mapping of str to Tensor
        Weights of the discriminator may stand beside the generator's, under ``discriminator.``.
    source : str
        See `SOURCES`.

    Raises
    ------
    KeyError
        If a weight is unknown.

    Notes
    -----
    Their slices have the axes (x, y) and the channels t1, t2, t1c, flair; kernels are turned and channels ordered as
    here.
    """
    order = [_ORDER.index(code) for code in GLIOMA.modalities]
    pair = [*order, *(len(order) + place for place in order)]  # candidate and real of the discriminator
    ours = {}
    for key, value in theirs.items():
        name = _our_name(key)
        value = value.transpose(2, 3).contiguous() if value.ndim == 4 else value
        if name == "generator.down.0.conv.weight":
            value = value[:, order]
        elif name == "discriminator.levels.0.weight":
            value = value[:, pair]
        elif name.partition(".last.")[1]:
            value = value[order]
        ours[name] = value
    return {}, ours


def _our_name(theirs: str) -> str:
    """Our name of a weight of the authors' generator, or discriminator if it begins so."""
    if match := re.fullmatch(r"(down|up)(\d)\.model\.0\.weight", theirs):
        return f"generator.{match[1]}.{int(match[2]) - 1}.conv.weight"
    if match := re.fullmatch(r"final\.2\.(weight|bias)", theirs):
        return f"generator.last.{match[1]}"
    if (match := re.fullmatch(r"discriminator\.model\.(\d+)\.(weight|bias)", theirs)) is None:
        raise KeyError(theirs)
    place = int(match[1])
    return f"discriminator.last.{match[2]}" if place == 12 else f"discriminator.levels.{_LEVELS[place]}.{match[2]}"
