"""nnU-Net v2 checkpoints of github.com/MIC-DKFZ/nnUNet: translation to our parameter names."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from anymri.methods.authors.naming import Translation, rename

__all__ = ["SOURCES", "translate"]

_WHAT = "a plain nnU-Net v2 with regions WT, TC, ET, 1 mm voxels and windows of 128; give its entry 'network_weights'"
#: Channels are in our order.
SOURCES = {"official": f"{_WHAT}, of all four sequences", "official:<subset>": f"{_WHAT}, of that subset"}

_RULES = (
    (r"encoder\.stages\.(\d+)\.0\.convs", r"network.down.\1"),
    (r"decoder\.stages\.(\d+)\.convs", r"network.up.\1"),
    (r"decoder\.transpconvs", "network.enlarge"),
    (r"decoder\.seg_layers", "network.heads"),
)
#: Second names of the same weights.
_UNUSED = r".*\.all_modules\..*|decoder\.encoder\..*"


def translate(theirs: Mapping[str, Tensor], source: str) -> Translation:
    """One network.

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
    return {"subset": source.partition(":")[2] or None}, rename(theirs, _RULES, _UNUSED)
