"""MMCFormer checkpoints of github.com/xmindflow/MMCFormer: translation to our parameter names."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from anymri.methods.authors.naming import DISJOINT_HEAD, Translation, available_first, rename
from anymri.types import GLIOMA

__all__ = ["SOURCES", "translate"]

SOURCES = {
    "official": "the released example of MMCFormer, which sees T1c alone; give the whole checkpoint",
    "official:<subset>": "MMCFormer for that subset; give the whole checkpoint",
}
#: Layers that their network has and never calls.
_UNUSED = r"decoder_2\.(concat_linear|layer_former_\d)\..*"

_RULES: tuple[tuple[str, str], ...] = (
    *((rf"enc\.patch_embed{i + 1}\.proj", f"encoder.levels.{i}.embed") for i in range(3)),
    *((rf"enc\.patch_embed{i + 1}\.norm", f"encoder.levels.{i}.embed_norm") for i in range(3)),
    *((rf"enc\.block{i + 1}", f"encoder.levels.{i}.blocks") for i in range(3)),
    *((rf"enc\.norm{i + 1}", f"encoder.levels.{i}.norm") for i in range(3)),
    *((rf"decoder_{2 - i}\.layer_up", f"enlarge.{i}") for i in range(3)),
    *((rf"decoder_{1 - i}\.concat_linear", f"mixes.{i}") for i in range(2)),
    *((rf"decoder_{1 - i}\.layer_former_{n + 1}", f"blocks.{i}.{n}") for i in range(2) for n in range(2)),
    (r"decoder_0\.last_layer", "last"),
    (r"decoder_recon\.concat_linear", "reconstruction.mix"),
    (r"decoder_recon\.layer_former_2", "reconstruction.block"),
    (r"decoder_recon\.last_layer", "reconstruction.last"),
    (r"cls_projection", "reconstruction.prompts"),
)

#: Layers of a block.
_BLOCK = {
    ".norm1.": ".attention_norm.",
    ".norm2.": ".perceptron_norm.",
    ".attn.reprojection.": ".attention.project.",
    ".attn.": ".attention.",
    ".mlp.fc1.": ".expand.",
    ".mlp.dwconv.dwconv.": ".neighbours.",
    ".mlp.attention_norm.": ".hidden_norm.",
    ".mlp.fc2.": ".shrink.",
}


def _turn(key: str, value: Tensor) -> Tensor:
    """A weight for arrays (z, x, y), ours for (z, y, x)."""
    if ".attention." in key and value.ndim == 5:
        return value.flatten(1)  # a layer on tokens
    if value.ndim == 5:
        return value.transpose(3, 4).contiguous()
    level = re.fullmatch(r"enlarge\.(\d)\.expand\.weight", key)
    if level:
        scale = 4 if level.group(1) == "2" else 2
        return value.unflatten(0, (scale, scale, scale, -1)).transpose(1, 2).flatten(0, 3).contiguous()
    return value


def _path(theirs: Mapping[str, Tensor], taken: list[int]) -> dict[str, Tensor]:
    """One path; `taken` are the places of our channels among theirs."""
    theirs = dict(theirs)
    prompts = theirs.pop("enc.cls_token")
    path = {}
    for key, value in rename(theirs, _RULES, _UNUSED).items():
        if ".blocks." in f".{key}" or ".block." in key:
            for old, new in _BLOCK.items():
                key = key.replace(old, new)
        path[key] = _turn(key, value)
    stem = "encoder.levels.0.embed.weight"
    path[stem] = path[stem][:, taken]
    path["last.weight"] = path["last.weight"][DISJOINT_HEAD]
    path["encoder.prompts"] = prompts[0].T.contiguous()
    return path


def translate(theirs: Mapping[str, Mapping[str, Tensor]], source: str) -> Translation:
    """MMCFormer of four sequences.

    Parameters
    ----------
    theirs : mapping
        With the entries ``model_full`` and ``model_missing``.
    source : str
        See `SOURCES`.

    Raises
    ------
    KeyError, ValueError
        If a weight is missing or unknown, or the subset is.
    """
    subset = source.partition(":")[2] or "t1c"
    own = GLIOMA.parse_subset(subset)
    order = available_first(own)
    everything = [order.index(code) for code in GLIOMA.modalities]
    ours: dict[str, Tensor] = {}
    for key, value in _path(theirs["model_full"], everything).items():
        ours[key if key.startswith("reconstruction.") else f"full.{key}"] = value
    ours["reconstruction.last.weight"] = ours["reconstruction.last.weight"][torch.tensor(everything)]
    missing = _path(theirs["model_missing"], [order.index(code) for code in own])
    ours |= {f"missing.{key}": value for key, value in missing.items()}
    return {"subset": subset}, ours
