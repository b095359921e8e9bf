"""Hi-Net checkpoints of github.com/taozh2017/HiNet: translation to our parameter names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from anymri.methods.authors.naming import Translation

__all__ = ["FRESH", "SOURCES", "translate"]

SOURCES = {
    "official:<sources>-><target>": "Hi-Net with those two sources, in the order of its channels, e.g. "
    "'official:t1+t2->flair'; give generator_<epoch>.pkl"
}
#: Prediction does not use the discriminator, whose weights are another file.
FRESH = r"discriminator\..*"
#: What they add to the variance in the discriminator's norms.
_EPS = 0.8
#: Places of the discriminator's layers between activations.
_LEVELS = {0: "levels.0", 2: "levels.1", 3: "norms.0", 5: "levels.2", 6: "norms.1", 8: "levels.3", 9: "norms.2"}

#: The authors' names up to a convolution and its norm, and ours; `SOURCE` is a stream's number there, its code here.
_RULES = (
    (r"down_(\d)_SOURCE\.[01]\b", r"encoders.SOURCE.levels.\1.0"),
    (r"down_(\d)_SOURCE\.[34]\b", r"encoders.SOURCE.levels.\1.1"),
    (r"down_fu_([123])\.layer1\.[01]", r"fuse_down.\1.mix"),
    (r"down_fu_([123])\.layer2\.[01]", r"fuse_down.\1.join"),
    (r"down_fu_4\.[01]", "bottom.0"),
    (r"deconv_1_0\.[01]", "bottom.1"),
    (r"deconv_([234])_0\.layer1\.[01]", r"fuse_up.\1.mix"),
    (r"deconv_([234])_0\.layer2\.[01]", r"fuse_up.\1.join"),
    (r"deconv_5_0\.[01]", "finest"),
    (r"deconv_(\d)_DECODER\.[01]", r"reconstructions.SOURCE.layers.\1"),
)
#: Layers that are counted from 1 there, or from 2.
_FIRST = {"levels": 1, "fuse_down": 1, "layers": 1, "fuse_up": 2}


def translate(theirs: Mapping[str, Tensor], source: str) -> Translation:
    """Hi-Net of one task.

    Parameters
    ----------
    theirs : mapping of str to Tensor
        Weights of the discriminator may stand beside the generator's, under ``discriminator.``.
    source : str
        See `SOURCES`.

    Raises
    ------
    KeyError
        If a weight is unknown.

    Notes
    -----
    Their crop of 160 x 180 pixels is longer from front to back: slices have the axes (x, y), and kernels are turned.
    """
    given, _, target = source.partition(":")[2].partition("->")
    codes = given.split("+")
    ours = {
        _our_name(key, codes): value.transpose(2, 3).contiguous() if value.ndim == 4 else value
        for key, value in theirs.items()
    }
    width = theirs["out.0.weight"].shape[1]
    return {"subset": given, "target": target, "width": width, "discriminator_eps": _EPS}, ours


def _our_name(theirs: str, codes: list[str]) -> str:
    """Our name of a weight of the authors' generator, or discriminator if it begins so."""
    if match := re.fullmatch(r"discriminator\.model\.(\d+)\.(\w+)", theirs):
        return f"discriminator.{_LEVELS.get(int(match[1]), 'last')}.{match[2]}"
    path, _, last = theirs.rpartition(".")
    if match := re.fullmatch(r"out(\d?)\.0", path):
        stream = f"reconstructions.{codes[int(match[1]) - 1]}." if match[1] else ""
        return f"generator.{stream}last.{last}"
    layer = "norm" if path.endswith((".1", ".4")) else "conv"
    for number, code in enumerate(codes):
        for pattern, name in _RULES:
            pattern = pattern.replace("SOURCE", str(number)).replace("DECODER", str(number + 1))
            if match := re.fullmatch(pattern, path):
                new = re.sub(
                    r"(levels|fuse_down|layers|fuse_up)\.(\d)",
                    lambda found: f"{found[1]}.{int(found[2]) - _FIRST[found[1]]}",
                    match.expand(name).replace("SOURCE", code),
                )
                return f"generator.{new}.{layer}.{last}"
    raise KeyError(theirs)
