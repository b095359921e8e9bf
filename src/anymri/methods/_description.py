"""Description of a method's settings, stages and optimisers, as plain values for people and scripts."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import asdict, fields
from typing import Any

from anymri.protocol.method import Method
from anymri.types import Stage

__all__ = ["SHARED_DEVIATIONS", "config_fields", "deviations_of", "preset_stages"]

#: Where every trained method departs from its paper alike.
SHARED_DEVIATIONS = (
    "bfloat16 on GPUs and processors that have it, with the preset paper too; precision 32 computes in 32 bits",
)
#: ``name, name : type`` of a numpydoc section, and the lines indented below it.
_ENTRY = re.compile(r"^(\w+(?:, \w+)*) : (.+)\n((?:[ ]{4}.*\n?|\n)*)", re.MULTILINE)


def deviations_of(cls: type[Method]) -> list[str]:
    """Every admitted departure from paper and released code: the method's own, then what all share."""
    return [*cls.info.deviations, *(() if cls.classical else SHARED_DEVIATIONS)]


def config_fields(cls: type[Method]) -> list[dict[str, Any]]:
    """Every field of a method's configuration.

    Returns
    -------
    list of dict
        ``name``, ``type`` and ``description`` (of the docstring, with the unit where there is one), ``default``, and
        ``presets``: the value in each preset.
    """
    told: dict[str, tuple[str, str]] = {}
    for config in reversed(cls.Config.__mro__):
        told |= _documented(config)
    rows = []
    for entry in fields(cls.Config):
        if entry.name == "preset":
            continue
        default = getattr(cls.Config(), entry.name)
        kind, description = told.get(entry.name, ("", ""))
        values = {name: preset.config.get(entry.name, default) for name, preset in cls.presets.items()}
        rows.append(
            {"name": entry.name, "type": kind, "default": default, "presets": values, "description": description}
        )
    return rows


def _documented(cls: type) -> dict[str, tuple[str, str]]:
    """Type and description of every parameter in a numpydoc docstring."""
    section = re.search(r"^Parameters\n-+\n(.*?)(?=^\w[^\n]*\n-+\n|\Z)", inspect.getdoc(cls) or "", re.M | re.S)
    found = {}
    for names, kind, text in _ENTRY.findall(section.group(1) + "\n" if section else ""):
        plain = re.sub(r", default=.*|``", "", kind)
        for name in names.split(", "):
            found[name] = (plain, " ".join(text.split()).replace("``", ""))
    return found


def preset_stages(methods: dict[str, Method]) -> dict[str, list[dict[str, Any]]]:
    """Stages of each preset, with sampler, crops and the optimiser of every turn.

    Parameters
    ----------
    methods : dict of str to Method
        One instance per preset; their weights are not looked at.
    """
    return {
        preset: [_stage(method, number) for number in range(len(method.stages))] for preset, method in methods.items()
    }


def _stage(method: Method, number: int) -> dict[str, Any]:
    stage = method.stages[number]
    turns = {} if method.classical else dict(_turns(method, stage))
    return {**asdict(stage), "turns": turns}


def _turns(method: Method, stage: Stage) -> Iterator[tuple[str, dict[str, Any]]]:
    for turn, groups in method.turns(stage).items():
        settings = asdict(method.optimizer_settings(stage, turn))
        own = sorted({group["lr"] for group in groups if "lr" in group})
        yield turn, {**settings, **({"group_lr": own} if own else {})}
