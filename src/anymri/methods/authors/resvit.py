"""ResViT checkpoints of github.com/icon-lab/ResViT: translation to our parameter names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from anymri.methods.authors.naming import Translation
from anymri.types import GLIOMA

__all__ = ["FRESH", "SOURCES", "translate"]

SOURCES = {
    "official:<sources>-><target>": "ResViT with those sources, in the order of its channels, e.g. "
    "'official:t1+t2->flair'; give latest_net_G.pth"
}
#: Prediction does not use the discriminator, whose weights are another file.
FRESH = r"discriminator\..*"
#: The shared transformer once more; and running statistics: batch norms see one slice and are never averaged, as if
#: they were instance norms.
_UNUSED = r"art_\d\.transformer\..*|.*(running_mean|running_var|num_batches_tracked)"
#: Voxels of a slice's side that a token covers.
_TOKEN = 16

#: The authors' names and ours.
_RULES = (
    (r"encoder_1\.1", "encoder.1"),
    (r"encoder_1\.2", "encoder.2"),
    (r"encoder_2\.0", "encoder.4"),
    (r"encoder_2\.1", "encoder.5"),
    (r"encoder_3\.0", "encoder.7"),
    (r"encoder_3\.1", "encoder.8"),
    (r"decoder_1\.0", "decoder.0"),
    (r"decoder_1\.1", "decoder.1"),
    (r"decoder_2\.0", "decoder.3"),
    (r"decoder_2\.1", "decoder.4"),
    (r"decoder_3\.1", "decoder.7"),
    (r"transformer_encoder\.encoder_norm", "transformer.norm"),
    (r"transformer_encoder\.layer\.(\d+)\.attention_norm", r"transformer.layers.\1.attention_norm"),
    (r"transformer_encoder\.layer\.(\d+)\.ffn_norm", r"transformer.layers.\1.perceptron_norm"),
    (r"transformer_encoder\.layer\.(\d+)\.ffn\.fc1", r"transformer.layers.\1.expand"),
    (r"transformer_encoder\.layer\.(\d+)\.ffn\.fc2", r"transformer.layers.\1.shrink"),
    (r"transformer_encoder\.layer\.(\d+)\.attn\.(query|key|value)", r"transformer.layers.\1.\2"),
    (r"transformer_encoder\.layer\.(\d+)\.attn\.out", r"transformer.layers.\1.project"),
    (r"art_(\d)\.downsample\.(\d)", r"blocks.\1.context.down.\2"),
    (r"art_(\d)\.embeddings\.patch_embeddings", r"blocks.\1.context.embed"),
    (r"art_(\d)\.embeddings\.positional_encoding", r"blocks.\1.context.position"),
    (r"art_(\d)\.upsample\.(\d)", r"blocks.\1.context.up.\2"),
    (r"art_(\d)\.cc\.block\.(\d)", r"blocks.\1.context.compress.\2"),
    (r"art_(\d)\.cc\.skip\.(\d)", r"blocks.\1.context.shortcut.\2"),
    (r"art_(\d)\.residual_cnn\.0\.conv_block\.(\d)", r"blocks.\1.residual.\2"),
)


def translate(theirs: Mapping[str, Tensor], source: str) -> Translation:
    """One-to-one or many-to-one ResViT.

    Parameters
    ----------
    theirs : mapping of str to Tensor
        Weights of ``latest_net_D.pth`` may stand beside the generator's, under ``discriminator.``.
    source : str
        See `SOURCES`.

    Raises
    ------
    KeyError, ValueError
        If a weight is missing or unknown, or a source is.
    """
    given, _, target = source.partition(":")[2].partition("->")
    channels = given.split("+")
    order = [channels.index(code) for code in GLIOMA.parse_subset(given)]
    side = _TOKEN * round(theirs["art_1.embeddings.positional_encoding"].shape[1] ** 0.5)
    ours = {}
    for key, value in theirs.items():
        if re.fullmatch(_UNUSED, key):
            continue
        name = _our_name(key)
        if name == "generator.encoder.1.weight":
            value = value[:, order]
        elif name == "discriminator.0.weight":
            value = value[:, [*order, len(order)]]
        ours[name] = value
    return {"subset": given, "target": target, "size": (side, side)}, ours


def _our_name(theirs: str) -> str:
    """Our name of a weight of the authors' generator, or discriminator if it begins so."""
    if match := re.fullmatch(r"discriminator\.model\.(.*)", theirs):
        return f"discriminator.{match[1]}"
    for pattern, name in _RULES:
        if match := re.match(rf"{pattern}(?=\.|$)", theirs):
            new = match.expand(name) + theirs[match.end() :]
            # Blocks are counted from 1 there.
            return "generator." + re.sub(r"^blocks\.(\d)", lambda found: f"blocks.{int(found[1]) - 1}", new)
    raise KeyError(theirs)
