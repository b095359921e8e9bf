"""RFNet checkpoints of github.com/dyh127/RFNet: translation to our parameter names."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from anymri.methods.authors.naming import PADDING, Translation, swap_axes

__all__ = ["SOURCES", "translate"]

SOURCES = {
    "official": "RFNet for four classes, as released; give the entry 'state_dict' of a BraTS 2018 or 2020 checkpoint",
    "retrained": "RFNet for four classes, trained with PyTorch 1.10 or later; give the entry 'state_dict'",
}

#: The authors' names of our modalities, in the order of their channels.
MODALITIES = {"flair": "flair", "t1ce": "t1c", "t1": "t1", "t2": "t2"}


class _Renaming:
    """The authors' weights, collected under our names."""

    def __init__(self, theirs: Mapping[str, Tensor]) -> None:
        self.theirs = theirs
        self.ours: dict[str, Tensor] = {}

    def layer(self, name: str, prefix: str) -> None:
        """Weight and bias of one layer."""
        for part in ("weight", "bias"):
            self.ours[f"{name}.{part}"] = self.theirs[f"{prefix}.{part}"]

    def embedding(self, name: str, prefix: str) -> None:
        """Three convolutions, the first of them over the stack of all modalities."""
        parts = self.theirs[f"{prefix}.0.conv.weight"].chunk(len(MODALITIES), dim=1)
        for code, part in zip(MODALITIES.values(), parts, strict=True):
            self.ours[f"{name}.stacked.convs.{code}.weight"] = part
        self.ours[f"{name}.stacked.bias"] = self.theirs[f"{prefix}.0.conv.bias"]
        self.layer(f"{name}.second.conv", f"{prefix}.1.conv")
        self.layer(f"{name}.third.conv", f"{prefix}.2.conv")

    def encoder(self, name: str, prefix: str) -> None:
        """Four stages of three convolutions."""
        for level in range(4):
            for number, part in enumerate(("first", "second", "third"), start=1):
                self.layer(f"{name}.stages.{level}.{part}.conv", f"{prefix}.e{level + 1}_c{number}.conv")

    def decoder_level(self, name: str, prefix: str) -> None:
        """The three convolutions of one decoder level."""
        for part, suffix in (("shrink", "c1"), ("join", "c2"), ("out", "out")):
            self.layer(f"{name}.{part}.conv", f"{prefix}_{suffix}.conv")

    def modality_weights(self, name: str, prefix: str) -> None:
        """One region's two layers, cut by modality."""
        first, last = (self.theirs[f"{prefix}.{number}.weight"].flatten(1) for number in (0, 2))
        self.ours[f"{name}.share.weight"] = first[:, -1:]
        self.ours[f"{name}.share.bias"] = self.theirs[f"{prefix}.0.bias"]
        parts = first[:, :-1].chunk(len(MODALITIES), dim=1)
        for i, (code, part) in enumerate(zip(MODALITIES.values(), parts, strict=True)):
            self.ours[f"{name}.mean.{code}.weight"] = part
            self.ours[f"{name}.weight.{code}.weight"] = last[i : i + 1]
            self.ours[f"{name}.weight.{code}.bias"] = self.theirs[f"{prefix}.2.bias"][i : i + 1]


def translate(theirs: Mapping[str, Tensor], source: str) -> Translation:
    """RFNet of four sequences and four classes.

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
    names = _Renaming(theirs)
    for their_name, code in MODALITIES.items():
        names.encoder(f"encoders.{code}", f"{their_name}_encoder")
    for level in range(3):
        names.decoder_level(f"fusion.levels.{level}", f"decoder_fuse.d{level + 1}")
        # Ours are listed in the order they run: coarsest first.
        names.decoder_level(f"auxiliary.levels.{2 - level}", f"decoder_sep.d{level + 1}")
    names.layer("fusion.classifier", "decoder_fuse.seg_layer")
    names.layer("auxiliary.classifier", "decoder_sep.seg_layer")
    for level in range(4):
        name, prefix = f"fusion.maps.{level}", f"decoder_fuse.prm_generator{level + 1}"
        names.embedding(f"{name}.embedding", f"{prefix}.embedding_layer")
        names.layer(f"{name}.hidden.conv", f"{prefix}.prm_layer.0.conv")
        names.layer(f"{name}.classifier", f"{prefix}.prm_layer.1")
        name, prefix = f"fusion.fusions.{level}", f"decoder_fuse.RFM{level + 1}"
        names.embedding(f"{name}.shortcut", f"{prefix}.short_cut")
        for part in range(3):
            names.layer(f"{name}.regions.{part}.conv", f"{prefix}.region_fusion.fusion_layer.{part}.conv")
        for region in range(4):
            names.modality_weights(f"{name}.weights.{region}", f"{prefix}.modal_fusion.{region}.weight_layer")
    return {"padding": PADDING[source]}, swap_axes(names.ours)
