"""U-Net of cWDM and WFM: translation of its weights to the names of `anymri.nn.diffusion_unet`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from anymri.methods.authors.naming import Translation, swap_axes

__all__ = ["THEIR_BANDS", "translate_unet"]

#: Bands of (D, H, W) among theirs of (x, y, z): the letters of a band turn round with the axes.
THEIR_BANDS = [int(f"{band:03b}"[::-1], 2) for band in range(8)]
#: Layers of a residual block.
_LAYERS = {
    "in_layers.0": "norm_1",
    "in_layers.2": "conv_1",
    "emb_layers.1": "time",
    "out_layers.0": "norm_2",
    "out_layers.3": "conv_2",
    "skip_connection": "shortcut",
}
_OUTSIDE = {
    "time_embed.0": "time.0",
    "time_embed.2": "time.2",
    "label_emb": "classes",
    "out.0": "norm",
    "out.2": "last",
}


def translate_unet(theirs: Mapping[str, Tensor]) -> Translation:
    """Sizes and weights of the U-Net, under ``network.``.

    Parameters
    ----------
    theirs : mapping of str to Tensor

    Raises
    ------
    KeyError, ValueError
        If a weight is missing or unknown.
    """
    places = sorted(
        {tuple(map(int, found)) for key in theirs for found in re.findall(r"output_blocks\.(\d+)\.(\d+)", key)}
    )
    up = {f"output_blocks.{outer}.{inner}": f"up.{number}" for number, (outer, inner) in enumerate(places)}
    ours = {_our_name(key, up): value for key, value in swap_axes(theirs).items()}
    whole = ours.pop("first.weight").unflatten(1, (-1, 8))[:, :, THEIR_BANDS]
    ours["state.weight"], ours["conditions"] = whole[:, 0], whole[:, 1:]
    ours["state.bias"] = ours.pop("first.bias")
    ours |= {f"last.{part}": ours[f"last.{part}"][THEIR_BANDS] for part in ("weight", "bias")}
    return _sizes(ours), {f"network.{key}": value.contiguous() for key, value in ours.items()}


def _our_name(theirs: str, up: Mapping[str, str]) -> str:
    path, _, part = theirs.rpartition(".")
    if path in _OUTSIDE:
        return f"{_OUTSIDE[path]}.{part}"
    if path == "input_blocks.0.0":
        return f"first.{part}"
    match = re.fullmatch(r"(input_blocks\.\d+\.0|middle_block\.\d+|output_blocks\.\d+\.\d+)\.(.*)", path)
    if match is None:
        raise KeyError(theirs)
    block, layer = match[1], _LAYERS[match[2]]
    if block in up:
        return f"{up[block]}.{layer}.{part}"
    stage, number = block.split(".")[:2]
    return f"down.{int(number) - 1}.{layer}.{part}" if stage == "input_blocks" else f"middle.{number}.{layer}.{part}"


def _sizes(ours: Mapping[str, Tensor]) -> dict[str, Any]:
    """Settings of the network that its weights show; groups are the published 32."""
    count = sum(bool(re.fullmatch(r"down\.\d+\.conv_1\.weight", key)) for key in ours)
    up = sum(bool(re.fullmatch(r"up\.\d+\.conv_1\.weight", key)) for key in ours)
    levels = up - count  # one block more on the way up at every level
    blocks = (count - levels + 1) // levels
    widths = [len(ours[f"down.{level * (blocks + 1)}.conv_1.weight"]) for level in range(levels)]
    return {"widths": widths, "blocks": blocks}
