"""U-HVED checkpoints of the PyTorch port in AImageLab-zip/IM-Fuse: translation to our parameter names.

The official checkpoints are TensorFlow's and cannot be read.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

from torch import Tensor

from anymri.methods.authors.naming import Translation, rename, swap_axes

__all__ = ["SOURCES", "translate"]

SOURCES = {"port": "U-HVED of the port AImageLab-zip/IM-Fuse; give the entry 'state_dict' of its checkpoint"}


def translate(theirs: Mapping[str, Tensor], source: str) -> Translation:
    """U-HVED of four sequences, with slope and resizing of the port.

    Parameters
    ----------
    theirs : mapping of str to Tensor
    source : str
        See `SOURCES`.

    Raises
    ------
    KeyError
        If a weight is unknown.
    """
    return {"slope": 0.01, "resize": "ends"}, swap_axes(rename(theirs, _port_rules()))


def _port_rules() -> list[tuple[str, str]]:
    """The port's names and ours."""
    rules = []
    encoders = {"t1": "t1", "t1ce": "t1c", "t2": "t2", "flair": "flair"}
    decoders = {"t1": "images.t1", "t1c": "images.t1c", "t2": "images.t2", "flair": "images.flair"}
    for theirs, code in encoders.items():
        rules.append((rf"{theirs}_encoder\.conv1", f"encoders.{code}.stem"))
        for i, j in product(range(4), range(2)):
            rules.append((rf"{theirs}_encoder\.e{i + 1}_c{j + 1}", f"encoders.{code}.levels.{i}.{j}"))
    for theirs, ours in {**decoders, "seg": "segmentation"}.items():
        rules.append((rf"{theirs}_decoder\.conv_out", f"{ours}.last"))
        for i, j in product(range(3), range(2)):
            rules.append((rf"{theirs}_decoder\.d{i + 1}_c{j + 1}", f"{ours}.levels.{i}.{j}"))
    return rules
