"""MGP-VAE weights of github.com/hamghalam/MGP-VAE: translation to our parameter names."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from anymri.methods.authors.naming import Translation, rename

__all__ = ["FRESH", "SOURCES", "translate"]

SOURCES = {"official": "the auto-encoder of MGP-VAE's first stage; give its weights"}
#: What the first stage does not have: the process, embeddings and the sums of a training.
FRESH = r"process\..*|embeddings\..*|gram|cross|square|count|mean_embedding|subjects|first_row"
_RULES = (
    *(
        (rf"{cells}\.(\d+)\.conv{number}", rf"auto_encoder.{ours}.\1.{layer}")
        for cells, ours in (("econv", "down"), ("dconv", "up"))
        for number, layer in ((1, "first"), (2, "second"))
    ),
    (r"dense_zm", "auto_encoder.mean"),
    (r"dense_zs", "auto_encoder.deviation"),
    (r"dense_dec", "auto_encoder.start"),
)


def translate(theirs: Mapping[str, Tensor], source: str) -> Translation:
    """MGP-VAE with a trained auto-encoder.

    Parameters
    ----------
    theirs : mapping
        Of the auto-encoder, with or without its constant ``vy``.
    source : str
        See `SOURCES`.

    Raises
    ------
    KeyError, ValueError
        If a weight is missing or unknown.
    """
    width, colours = theirs["econv.0.conv1.weight"].shape[:2]
    steps = sum(key.startswith("econv") and key.endswith("conv1.weight") for key in theirs)
    flat, latent = theirs["dense_dec.weight"].shape
    size = math.isqrt(flat // width) * 2**steps
    config = {"size": size, "width": width, "steps": steps, "latent": latent, "colours": colours}
    return config, rename(theirs, _RULES, unused="vy")
