"""mmFormer checkpoints of github.com/YaoZhang93/mmFormer: translation to our parameter names."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from anymri.methods.authors.naming import PADDING, Translation, swap_axes

__all__ = ["SOURCES", "translate"]

SOURCES = {
    "official": "mmFormer for four classes, as released; give the entry 'state_dict' of a checkpoint",
    "retrained": "mmFormer for four classes, trained with PyTorch 1.10 or later; give the entry 'state_dict'",
}

#: Our codes in the order of the authors' channels, and their names.
_ORDER = ("flair", "t1c", "t1", "t2")
_THEIRS = ("flair", "t1ce", "t1", "t2")
#: Levels of the encoders.
_LEVELS = 5


class _Renaming:
    """The authors' weights, collected under our names."""

    def __init__(self, theirs: Mapping[str, Tensor]) -> None:
        self.theirs = theirs
        self.ours: dict[str, Tensor] = {}

    def layer(self, name: str, prefix: str) -> None:
        """Weight and bias."""
        for part in ("weight", "bias"):
            self.ours[f"{name}.{part}"] = self.theirs[f"{prefix}.{part}"]

    def conv(self, name: str, prefix: str, lost_bias: bool = True) -> None:
        """A convolution whose bias may be lost behind a norm."""
        self.ours[f"{name}.conv.weight"] = self.theirs[f"{prefix}.weight"]
        self.ours[f"{name}.lost_bias" if lost_bias else f"{name}.conv.bias"] = self.theirs[f"{prefix}.bias"]

    def stacked(self, name: str, prefix: str) -> None:
        """A convolution over the stack of all modalities, cut by modality."""
        for code, part in zip(_ORDER, self.theirs[f"{prefix}.weight"].chunk(len(_ORDER), dim=1), strict=True):
            self.ours[f"{name}.convs.{code}.weight"] = part
        self.ours[f"{name}.lost_bias"] = self.theirs[f"{prefix}.bias"]

    def transformer(self, name: str, prefix: str) -> None:
        """Attention and perceptron of one layer."""
        attention, perceptron = f"{prefix}.cross_attention_list.0.fn", f"{prefix}.cross_ffn_list.0.fn"
        self.layer(f"{name}.attention_norm", f"{attention}.norm")
        self.ours[f"{name}.query_key_value.weight"] = self.theirs[f"{attention}.fn.qkv.weight"]
        self.layer(f"{name}.project", f"{attention}.fn.proj")
        self.layer(f"{name}.perceptron_norm", f"{perceptron}.norm")
        self.layer(f"{name}.expand", f"{perceptron}.fn.net.0")
        self.layer(f"{name}.shrink", f"{perceptron}.fn.net.3")

    def encoder(self, name: str, prefix: str) -> None:
        """Five stages of three convolutions, embedding, positions and transformer of one modality."""
        for level in range(_LEVELS):
            for number, part in enumerate(("first", "second", "third"), start=1):
                bare = ".conv" if level or number > 1 else ""
                lost = level < _LEVELS - 1 or part == "second"
                stage = f"{prefix}_encoder.e{level + 1}_c{number}{bare}"
                self.conv(f"{name}.pyramid.stages.{level}.{part}", stage, lost)
        self.layer(f"{name}.embed", f"{prefix}_encode_conv")
        table = self.theirs[f"{prefix}_pos"][0]
        grid = round(len(table) ** (1 / 3))
        self.ours[f"{name}.position"] = table.unflatten(0, (grid,) * 3).transpose(0, 2).flatten(0, 2)
        self.transformer(f"{name}.transformer", f"{prefix}_transformer")

    def decoder_level(self, name: str, prefix: str, last_bias: bool) -> None:
        """The three convolutions of one decoder level."""
        self.conv(f"{name}.shrink", f"{prefix}_c1.conv")
        self.conv(f"{name}.join", f"{prefix}_c2.conv")
        self.conv(f"{name}.out", f"{prefix}_out.conv", not last_bias)


def translate(theirs: Mapping[str, Tensor], source: str) -> Translation:
    """The released network of four sequences and four classes.

    Parameters
    ----------
    theirs : mapping of str to Tensor
    source : str
        See `SOURCES`.

    Raises
    ------
    KeyError
        If a weight is missing.
    """
    names, last = _Renaming(theirs), _LEVELS - 1
    for code, their_name in zip(_ORDER, _THEIRS, strict=True):
        names.encoder(f"encoders.{code}", their_name)
    names.transformer("transformer", "multimodal_transformer")
    names.stacked("join", "multimodal_decode_conv")
    for i in range(last):
        # Ours are listed in the order they run: coarsest first.
        names.decoder_level(f"fusion.levels.{last - 1 - i}", f"decoder_fuse.d{i + 1}", last_bias=True)
        names.decoder_level(f"auxiliary.levels.{last - 1 - i}", f"decoder_sep.d{i + 1}", last_bias=i == 0)
        names.stacked(f"fusion.stacked.{i}", f"decoder_fuse.RFM{i + 1}.fusion_layer.0.conv")
        names.layer(f"fusion.classifiers.{i + 1}", f"decoder_fuse.seg_d{i + 1}")
    names.conv("fusion.bottom", f"decoder_fuse.RFM{_LEVELS}.fusion_layer.0.conv")
    for i in range(_LEVELS):
        names.conv(f"fusion.second.{i}", f"decoder_fuse.RFM{i + 1}.fusion_layer.1.conv")
        names.conv(f"fusion.third.{i}", f"decoder_fuse.RFM{i + 1}.fusion_layer.2.conv", i < last)
    names.layer("fusion.classifiers.0", "decoder_fuse.seg_layer")
    names.layer("auxiliary.classifier", "decoder_sep.seg_layer")
    weights = swap_axes(names.ours)
    grid = round(len(weights[f"encoders.{_ORDER[0]}.position"]) ** (1 / 3))
    return {"join": "as_released", "padding": PADDING[source], "grid": grid}, weights
