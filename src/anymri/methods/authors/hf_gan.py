"""HF-GAN checkpoints of github.com/SSTDV-Project/HF-GAN: translation to our parameter names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from anymri.methods.authors.naming import Translation
from anymri.types import GLIOMA

__all__ = ["FRESH", "SOURCES", "translate"]

SOURCES = {
    "official:<sources>": "HF-GAN with those sequences as sources, in the order of its channels, e.g. "
    "'official:t1+t1c+t2+flair'; give the generator's entry of the saved state"
}
#: Prediction does not use the discriminator, whose weights are another file.
FRESH = r"discriminator\..*"
#: Places of the discriminator's layers between activations.
_LEVELS = {0: "first", 2: "levels.0", 3: "norms.0", 5: "levels.1", 6: "norms.1", 8: "levels.2", 9: "norms.2"}
#: Layers of a residual block.
_BLOCK = {"block1.norm": "norm", "block1.proj": "conv", "res_conv": "shortcut"}

#: The authors' names and ours.
_RULES = (
    (r"conv_initial", "first"),
    (r"downs\.(\d)\.0", r"blocks.\1"),
    (r"downs\.(\d)\.1\.conv", r"halve.\1"),
    (r"encoder\.conv1", "join"),
    (r"decoder\.ups\.(\d)\.0", r"decoder.blocks.\1"),
    (r"decoder\.ups\.(\d)\.1\.conv", r"decoder.enlarge.\1"),
    (r"decoder\.conv_final\.0", "decoder.finest"),
    (r"decoder\.conv_final\.1", "decoder.norm"),
    (r"decoder\.conv_final\.3", "decoder.last"),
    (r"middle\.modality_embedding", "infuser.target"),
    (r"middle\.embedding\.position_embeddings", "infuser.position"),
    (r"middle\.embedding\.patch_embeddings", "infuser.embed"),
    (r"middle\.encoder_norm", "infuser.norm"),
    (r"middle\.layers\.(\d+)\.ffn_norm", r"infuser.layers.\1.perceptron_norm"),
    (r"middle\.layers\.(\d+)\.ffn\.fc1", r"infuser.layers.\1.expand"),
    (r"middle\.layers\.(\d+)\.ffn\.fc2", r"infuser.layers.\1.shrink"),
    (r"middle\.layers\.(\d+)\.attn\.out", r"infuser.layers.\1.project"),
    (r"middle\.layers\.(\d+)\.attn\.key\.bias", r"infuser.layers.\1.lost_key_bias"),
    (r"middle\.layers\.(\d+)\.attn\.(query|key|value)", r"infuser.layers.\1.\2"),
    (r"middle\.layers\.(\d+)\.attention_norm", r"infuser.layers.\1.attention_norm"),
)


def translate(theirs: Mapping[str, Tensor], source: str) -> Translation:
    """HF-GAN of four sequences.

    Parameters
    ----------
    theirs : mapping of str to Tensor
        Weights of the discriminator may stand beside the generator's, under ``discriminator.``.
    source : str
        See `SOURCES`.

    Raises
    ------
    KeyError, ValueError
        If a weight is missing or unknown, or not all four sequences are named.
    """
    codes = source.partition(":")[2].split("+")
    if sorted(codes) != sorted(GLIOMA.modalities):
        raise ValueError(f"name all of {', '.join(GLIOMA.modalities)} in the order of its channels")
    order = [codes.index(code) for code in GLIOMA.modalities]
    ours = {}
    for key, value in theirs.items():
        name = _our_name(key, codes)
        if name in ("generator.early.first.weight", "generator.infuser.target.0.weight"):
            value = value[:, order]
        elif name == "discriminator.classifier.weight":
            value = value[order]
        ours[name] = value
    width = len(theirs["encoder.encoder_early.conv_initial.bias"])
    blocks = [key for key in theirs if re.fullmatch(r"encoder\.encoder_early\.downs\.\d\.0\.block1\.proj\.bias", key)]
    side = round(theirs["middle.embedding.position_embeddings"].shape[1] ** 0.5) * 2 ** (len(blocks) - 1)
    return {
        "size": (side, side),
        "width": width,
        "multipliers": tuple(len(theirs[key]) // width for key in sorted(blocks)),
        "layers": sum(key.endswith("attn.out.bias") for key in theirs),
        "first_channel_attention": True,
    }, ours


def _our_name(theirs: str, codes: list[str]) -> str:
    """Our name of a weight of the authors' generator, or discriminator if it begins so."""
    if match := re.fullmatch(r"discriminator\.model\.(\d+)\.(\w+)", theirs):
        return f"discriminator.{_LEVELS[int(match[1])]}.{match[2]}"
    if match := re.fullmatch(r"discriminator\.(final|classifier)\.weight", theirs):
        return f"discriminator.{'score' if match[1] == 'final' else 'classifier'}.weight"
    if match := re.fullmatch(r"encoder\.attn_blocks\.(\d)\.attn\.([13])\.(\w+)", theirs):
        # Pooling takes a place there.
        return f"generator.attention.{[*codes, 'early'][int(match[1])]}.{int(match[2]) - 1}.{match[3]}"
    stream = ""
    if match := re.match(r"encoder\.(?:encoder_early|encoder_middles\.(\d))\.", theirs):
        stream = f"encoders.{codes[int(match[1])]}." if match[1] else "early."
        theirs = theirs[match.end() :]
    for pattern, name in _RULES:
        if match := re.match(rf"{pattern}(?=\.|$)", theirs):
            rest = theirs[match.end() :]
            for old, new in _BLOCK.items():
                rest = rest.replace(f".{old}.", f".{new}.")
            return f"generator.{stream}{match.expand(name)}{rest}"
    raise KeyError(theirs)
