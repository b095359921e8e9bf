"""cWDM checkpoints of github.com/pfriedri/cwdm: translation to our parameter names."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from anymri.methods.authors._wavelet_unet import translate_unet
from anymri.methods.authors.naming import Translation
from anymri.types import GLIOMA

__all__ = ["SOURCES", "translate"]

SOURCES = {"official:<target>": "cWDM for that target, e.g. 'official:t1c'; give brats_*.pt"}


def translate(theirs: Mapping[str, Tensor], source: str) -> Translation:
    """Network of one target, conditioned on three sequences, which are in the order t1, t1c, t2, flair.

    Parameters
    ----------
    theirs : mapping of str to Tensor
    source : str
        See `SOURCES`.

    Raises
    ------
    KeyError, ValueError
        If a weight is missing or unknown, or the target is.
    """
    target = GLIOMA.modalities[GLIOMA.index(source.partition(":")[2])]
    sizes, weights = translate_unet(theirs)
    given = GLIOMA.subset_name([code for code in GLIOMA.modalities if code != target])
    return {**sizes, "subset": given, "target": target}, weights
