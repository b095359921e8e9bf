"""CoNeS checkpoints of github.com/cyjdswx/CoNeS: translation to our parameter names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from anymri.methods.authors.naming import Translation
from anymri.types import GLIOMA

__all__ = ["FRESH", "SOURCES", "translate"]

SOURCES = {
    "official:<sources>-><target>": "CoNeS with those sources, in the order of its channels, e.g. "
    "'official:t2->t1c'; give latest_net_G.pth"
}
#: Prediction does not use the discriminators, whose weights are another file.
FRESH = r"discriminators\..*"
#: The authors' names and ours; theirs count the pyramid from the coarse end.
_RULES = (
    (r"encoder\.conv1", "encoder.first"),
    (r"encoder\.bn1", "encoder.norm"),
    (r"encoder\.layer(\d)\.(\d+)\.conv(\d)", r"encoder.levels.<\1>.\2.convs.<\3>"),
    (r"encoder\.layer(\d)\.(\d+)\.bn(\d)", r"encoder.levels.<\1>.\2.norms.<\3>"),
    (r"encoder\.layer(\d)\.(\d+)\.shortcut", r"encoder.levels.<\1>.\2.shortcut"),
    (r"encoder\.toplayer", "encoder.lateral.3"),
    (r"latlayers", "encoder.codes"),
    (r"discriminator\.discriminator_(\d)\.model0\.0", r"discriminators.\1.first"),
    (r"discriminator\.discriminator_(\d)\.model4\.0", r"discriminators.\1.last"),
    (r"discriminator\.discriminator_(\d)\.model(\d)\.0\.0", r"discriminators.\1.middle.<\2>"),
)
#: Entries of a spectral norm.
_SPECTRAL = {"weight_orig": "weight", "weight_u": "left", "weight_v": "right"}


def translate(theirs: Mapping[str, Tensor], source: str) -> Translation:
    """One-to-one or many-to-one CoNeS.

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

    Notes
    -----
    Their slices have the axes (x, y): kernels are turned, and so are the places.
    """
    given, _, target = source.partition(":")[2].partition("->")
    channels = given.split("+")
    order = [channels.index(code) for code in GLIOMA.parse_subset(given)]
    ours: dict[str, Tensor] = {}
    for key, value in theirs.items():
        path, _, part = key.rpartition(".")
        name = f"{_our_path(path, part)}.{_SPECTRAL.get(part, part)}"
        if part == "weight_v":
            value = value.unflatten(0, (-1, 4, 4)).transpose(1, 2).flatten()
        ours[name] = value.transpose(2, 3) if value.ndim == 4 else value
    first = ours.pop("field.first.weight")
    values, places = first[:, : len(order)], first[:, len(order) :]
    ours["field.value.weight"], ours["field.place.weight"] = values[:, order], places
    ours["field.place.bias"] = ours.pop("field.first.bias")
    ours["encoder.first.weight"] = ours["encoder.first.weight"][:, order]
    for key in ours:
        if re.fullmatch(r"discriminators\.\d\.first\.weight", key):
            ours[key] = ours[key][:, [*order, len(order)]]
        elif key.startswith("field.") and key.endswith("weight"):
            ours[key] = ours[key][:, :, None, None]
    sizes = {
        "width": len(ours["encoder.first.weight"]),
        "blocks": [len({k.split(".")[3] for k in ours if k.startswith(f"encoder.levels.{i}.")}) for i in range(4)],
        "features": len(ours["encoder.lateral.3.weight"]),
        "hidden": len(values),
        "depth": 1 + sum(bool(re.fullmatch(r"field\.layers\.\d+\.weight", key)) for key in ours),
        "frequencies": places.shape[1] // 4,
    }
    if "discriminators.0.first.weight" in ours:
        sizes["judge_width"] = len(ours["discriminators.0.first.weight"])
    return {**sizes, "subset": given, "target": target}, {key: value.contiguous() for key, value in ours.items()}


def _our_path(theirs: str, part: str) -> str:
    """Our name of a module of the authors' generator, or discriminator if it begins so."""
    if match := re.fullmatch(r"decoder\.net\.(\d+)", theirs):
        return f"field.layers.{int(match[1]) - 1}" if int(match[1]) else "field.first"
    if match := re.fullmatch(r"encoder\.(smooth|latlayers)(\d)", theirs):
        return f"encoder.{'smooth' if match[1] == 'smooth' else 'lateral'}.{3 - int(match[2])}"
    for pattern, name in _RULES:
        if match := re.match(rf"{pattern}(?=\.|$)", theirs):
            new = match.expand(name) + theirs[match.end() :]
            return re.sub(r"<(\d+)>", lambda found: str(int(found[1]) - 1), new)  # counted from 1 there
    raise KeyError(f"{theirs}.{part}")
