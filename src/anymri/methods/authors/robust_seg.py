"""RobustSeg checkpoints of the PyTorch port in AImageLab-zip/IM-Fuse: translation to our parameter names.

The official checkpoints are TensorFlow's and cannot be read.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from anymri.methods.authors.naming import Translation, rename, swap_axes
from anymri.types import GLIOMA

__all__ = ["FRESH", "SOURCES", "translate"]

SOURCES = {"port": "RobustSeg of the port AImageLab-zip/IM-Fuse; give the entry 'state_dict' of its checkpoint"}
#: The port's layer norms are tied to windows of 80 voxels.
FRESH = r".*\.norms\..*"

#: The port's names of our modalities, in the order of its channels.
_PORT_CODES = {"flair": "flair", "t1c": "t1c", "t1": "t1", "t2": "t2"}


def translate(theirs: Mapping[str, Tensor], source: str) -> Translation:
    """RobustSeg of four sequences, with rectified gates as in the port.

    Parameters
    ----------
    theirs : mapping of str to Tensor
    source : str
        See `SOURCES`.

    Raises
    ------
    KeyError
        If a weight is missing or unknown.
    """
    weights = rename(theirs, _port_rules(), unused=r".*layer_norm.*|(att|fusion)_c\d.*")
    return {"gate_rectified": True}, swap_axes(weights | _port_fusions(theirs))


def _port_rules() -> list[tuple[str, str]]:
    """The port's names and ours, but for the layers over stacked modalities."""
    rules = [(r"mask_de\.seg_logit\.conv", "segmentation.classifier")]
    for level in range(3):
        for theirs, ours in (("c1", "shrink"), ("c2", "join"), ("out", "out")):
            rules.append((rf"mask_de\.d{3 - level}_{theirs}", f"segmentation.levels.{level}.{ours}"))
    for name, code in _PORT_CODES.items():
        for level in range(4):
            for number, part in enumerate(("first", "second", "third"), start=1):
                rules.append((rf"ce_{name}\.e{level + 1}_c{number}", f"contents.{code}.stages.{level}.{part}"))
        rules += [(rf"se_{name}\.c_{i}\.conv", f"styles.{code}.convs.{i}") for i in range(5)]
        rules += [(rf"se_{name}\.se_logit\.conv", f"styles.{code}.last")]
        image = rf"image_de_{name}\."
        for part, ours in (("linear_0", "layers.0"), ("linear_1", "layers.1"), ("mu", "scale"), ("sigma", "shift")):
            rules.append((rf"{image}mlp\.{part}\.linear", f"images.{code}.modulation.{ours}"))
        for block in range(4):
            for number, ours in ((1, "first"), (2, "second")):
                rules.append((rf"{image}res_{block}\.conv{number}\.conv", f"images.{code}.blocks.{block}.{ours}"))
        rules += [(rf"{image}conv_{i}\.conv", f"images.{code}.convs.{i}") for i in range(3)]
        rules += [(rf"{image}G_logit\.conv", f"images.{code}.last")]
    return rules


def _port_fusions(theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Layers over stacked modalities, cut by modality; gates in our order."""
    codes = list(_PORT_CODES.values())
    rows = [codes.index(code) for code in GLIOMA.modalities]
    ours = {}
    for level in range(4):
        gate, join = theirs[f"att_c{level + 1}.conv.weight"], theirs[f"fusion_c{level + 1}.conv.weight"]
        for code, gate_part, join_part in zip(codes, gate.chunk(4, dim=1), join.chunk(4, dim=1), strict=True):
            ours[f"fusions.{level}.gate.convs.{code}.weight"] = gate_part[rows]
            ours[f"fusions.{level}.join.convs.{code}.weight"] = join_part
        ours[f"fusions.{level}.gate_bias"] = theirs[f"att_c{level + 1}.conv.bias"][rows]
        ours[f"fusions.{level}.join.bias"] = theirs[f"fusion_c{level + 1}.conv.bias"]
    return ours
