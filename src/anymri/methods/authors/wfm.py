"""WFM checkpoints of github.com/yalcintur/WFM: translation to our parameter names."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from anymri.methods.authors._wavelet_unet import translate_unet
from anymri.methods.authors.naming import Translation

__all__ = ["SOURCES", "translate"]

SOURCES = {"official": "WFM for all four targets; give wfm_unified_*.pt"}


def translate(theirs: Mapping[str, Tensor], source: str) -> Translation:
    """WFM of four sequences, whose classes and conditions have the order t1, t1c, t2, flair.

    Parameters
    ----------
    theirs : mapping of str to Tensor
    source : str
        See `SOURCES`.

    Raises
    ------
    KeyError, ValueError
        If a weight is missing or unknown.
    """
    return translate_unet(theirs)
