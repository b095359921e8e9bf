"""Convert authors' checkpoints to our parameter names: what several releases share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

__all__ = [
    "DISJOINT_HEAD",
    "GROUP_NORM_UNET",
    "PADDING",
    "Translation",
    "available_first",
    "group_norm_path",
    "rename",
    "swap_axes",
]

#: Values of a method's settings, and weights by our names.
Translation = tuple[dict[str, Any], dict[str, Tensor]]

#: How convolutions pad in weights of a source. The released ones of RFNet and mmFormer were trained with PyTorch 1.2,
#: whose 3D convolution took the setting "reflect" and padded with zeros.
PADDING = {"official": "zeros", "retrained": "reflect"}

#: The authors' names in the U-Net that ACN's and SMU-Net's code share, and ours. The letters count blocks.
GROUP_NORM_UNET: tuple[tuple[str, str], ...] = (
    (r"unet\.conv1a", "encoder.levels.0.arrive"),
    (r"unet\.conv1b", "encoder.levels.0.blocks.0"),
    *(
        (rf"unet\.conv{level}{letter}", f"encoder.levels.{level - 1}.blocks.{number}")
        for level in (2, 3, 4)
        for number, letter in enumerate("abcd")
    ),
    *((rf"unet\.ds{level}", f"encoder.levels.{level}.arrive") for level in (1, 2, 3)),
    *((rf"unet\.up{level}conva", f"decoder.levels.{4 - level}.shrink") for level in (4, 3, 2)),
    *((rf"unet\.up{level}convb", f"decoder.levels.{4 - level}.block") for level in (4, 3, 2)),
    (r"unet\.up1conv", "decoder.classifier"),
)

#: Places of our channels ncr, edema, et, background among those of ACN's and SMU-Net's code.
DISJOINT_HEAD = [1, 0, 2, 3]

#: Layers of the residual block.
_BLOCK = {".gn1.": ".first_norm.", ".conv1.": ".first.", ".gn2.": ".second_norm.", ".conv2.": ".second."}


def rename(theirs: Mapping[str, Tensor], rules: Iterable[tuple[str, str]], unused: str = "") -> dict[str, Tensor]:
    """The authors' weights under our names.

    Parameters
    ----------
    theirs : mapping of str to Tensor
    rules : iterable of (pattern, replacement)
        Tried in order at the start of a name, up to a dot.
    unused : str, default=""
        Regular expression of names to leave out.

    Raises
    ------
    KeyError
        If no rule knows a name.
    """
    rules = tuple(rules)
    ours = {}
    for key, value in theirs.items():
        if unused and re.fullmatch(unused, key):
            continue
        for pattern, name in rules:
            if re.match(rf"{pattern}\.", key):
                new = re.sub(rf"^{pattern}\.", f"{name}.", key)
                for old_part, new_part in _BLOCK.items():
                    new = new.replace(old_part, new_part)
                ours[new] = value
                break
        else:
            raise KeyError(key)
    return ours


def swap_axes(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Kernels trained on arrays (x, y, z), as read from NIfTI, for our axes (D, H, W) = (z, y, x)."""
    return {key: value.transpose(2, 4).contiguous() if value.ndim == 5 else value for key, value in weights.items()}


def available_first(own: tuple[str, ...]) -> tuple[str, ...]:
    """Order of channels in SMU-Net's and MMCFormer's code: modalities of the subset, then the others, as listed."""
    return tuple(sorted(("flair", "t1", "t1c", "t2"), key=lambda code: code not in own))


def group_norm_path(
    theirs: Mapping[str, Tensor],
    codes: tuple[str, ...],
    order: tuple[str, ...],
    rules: tuple[tuple[str, str], ...] = GROUP_NORM_UNET,
    unused: str = "",
) -> dict[str, Tensor]:
    """One path of ACN or SMU-Net under our names, channels in our order.

    Parameters
    ----------
    theirs : mapping of str to Tensor
    codes : tuple of str
        Modalities of the path, in our order.
    order : tuple of str
        All modalities, in theirs.
    rules, unused
        See `rename`.
    """
    path = rename(theirs, rules, unused)
    stem, head = "encoder.levels.0.arrive.weight", "decoder.classifier"
    columns = [code for code in order if code in codes]
    path[stem] = path[stem][:, [columns.index(code) for code in codes]]
    for part in ("weight", "bias"):
        path[f"{head}.{part}"] = path[f"{head}.{part}"][DISJOINT_HEAD]
    return path
