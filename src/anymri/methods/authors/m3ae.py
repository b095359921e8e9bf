"""Fine-tuned M3AE checkpoints of github.com/ccarliu/m3ae: translation to our parameter names."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from anymri.methods.authors.naming import GROUP_NORM_UNET, Translation, rename
from anymri.types import GLIOMA

__all__ = ["FRESH", "SOURCES", "translate"]

SOURCES = {"official": "fine-tuned M3AE; give the entry 'state_dict' of its checkpoint"}
#: The reconstruction head is gone once a network is fine-tuned.
FRESH = r"reconstruction\..*"


def translate(theirs: Mapping[str, Tensor], source: str) -> Translation:
    """M3AE of four sequences, whose channels are in our order.

    Parameters
    ----------
    theirs : mapping of str to Tensor
    source : str
        See `SOURCES`.

    Raises
    ------
    KeyError
        If a weight is missing or unknown.
    """
    theirs = dict(theirs)
    learned = theirs.pop("limage")[0]
    weights = rename(theirs, (*GROUP_NORM_UNET, (r"unet\.ds_out", "deep")))
    weights |= {f"learned_image.{code}": image for code, image in zip(GLIOMA.modalities, learned, strict=True)}
    return {"image_shape": tuple(learned.shape[1:])}, weights
