"""MAML checkpoints of github.com/YaoZhang93/MAML: translation to our parameter names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from anymri.methods.authors.naming import Translation, rename
from anymri.types import GLIOMA

__all__ = ["SOURCES", "translate"]

_WHAT = "a MAML of four modalities at 1 mm, levels halved alike; give its entry 'state_dict'"
#: Channels are taken to be in our order: the code has no data set of ours and names none.
SOURCES = {"official": _WHAT}

_BRANCH = r"modality_specific_models\.(\d)"
#: The last level down and all levels up are split into two stacks of one convolution.
_RULES = (
    (rf"{_BRANCH}\.conv_blocks_context\.(\d+)\.blocks\.(\d)\.conv", r"branches.\1.down.\2.\3.conv"),
    (rf"{_BRANCH}\.conv_blocks_context\.(\d+)\.blocks\.(\d)\.instnorm", r"branches.\1.down.\2.\3.norm"),
    (rf"{_BRANCH}\.conv_blocks_context\.(\d+)\.(\d)\.blocks\.0\.conv", r"branches.\1.down.\2.\3.conv"),
    (rf"{_BRANCH}\.conv_blocks_context\.(\d+)\.(\d)\.blocks\.0\.instnorm", r"branches.\1.down.\2.\3.norm"),
    (rf"{_BRANCH}\.conv_blocks_localization\.(\d+)\.(\d)\.blocks\.0\.conv", r"branches.\1.up.\2.\3.conv"),
    (rf"{_BRANCH}\.conv_blocks_localization\.(\d+)\.(\d)\.blocks\.0\.instnorm", r"branches.\1.up.\2.\3.norm"),
    (rf"{_BRANCH}\.tu", r"branches.\1.enlarge"),
    (rf"{_BRANCH}\.seg_outputs", r"branches.\1.heads"),
    (r"modality_aware_modules\.(\d)\.0", r"gates.\1.first.conv"),
    (r"modality_aware_modules\.(\d)\.1", r"gates.\1.first.norm"),
    (r"modality_aware_modules\.(\d)\.3", r"gates.\1.second"),
    (r"fusion", "fusion"),
    (r"output", "classifier"),
)


def translate(theirs: Mapping[str, Tensor], source: str) -> Translation:
    """One network; its widths are read from the weights.

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
    numbered = rename(theirs, _RULES)
    kernel, bias = numbered.pop("fusion.weight"), numbered.pop("fusion.bias")
    ours = {"joining_bias": bias}
    for key, value in numbered.items():
        part, _, rest = key.partition(".")
        number, _, name = rest.partition(".")
        ours[key if part == "classifier" else f"{part}.{GLIOMA.modalities[int(number)]}.{name}"] = value
    width = len(bias)
    for code, part_of_kernel in zip(GLIOMA.modalities, kernel.split(width, dim=1), strict=True):
        ours[f"joining.{code}.weight"] = part_of_kernel.contiguous()
    levels = [
        key for key in ours if re.fullmatch(rf"branches\.{GLIOMA.modalities[0]}\.down\.\d+\.0\.conv\.weight", key)
    ]
    levels.sort(key=lambda key: int(key.split(".")[3]))
    return {"widths": tuple(len(ours[key]) for key in levels)}, ours
