"""All methods by name. One visible table; other packages add theirs by the entry point group ``anymri.methods``."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from anymri.methods.base import (
    Method,
    MethodConfig,
    MethodInfo,
    Preset,
    StepContext,
    SubsetNotTrained,
    read_header,
)
from anymri.methods.per_subset import Family, PerSubset
from anymri.types import GLIOMA, DataSpec, UserError

__all__ = [
    "Family", "Method", "MethodConfig", "MethodInfo", "PerSubset", "Preset", "StepContext", "SubsetNotTrained",
    "create", "describe_method", "describe_methods", "get_method", "list_methods", "load",
]  # fmt: skip

#: Registry name to ``module:class``; alphabetical. Imported on first use.
METHODS: dict[str, str] = {
    "acn": "anymri.methods.acn:ACN",
    "hemis": "anymri.methods.hemis:HeMIS",
    "m3ae": "anymri.methods.m3ae:M3AE",
    "mm_gan": "anymri.methods.mm_gan:MMGAN",
    "mmcformer": "anymri.methods.mmcformer:MMCFormer",
    "mmformer": "anymri.methods.mmformer:MmFormer",
    "nnunet_per_subset": "anymri.methods.nnunet_per_subset:NnUNetPerSubset",
    "replica": "anymri.methods.replica:Replica",
    "resvit": "anymri.methods.resvit:ResViT",
    "resvit_unified": "anymri.methods.resvit_unified:UnifiedResViT",
    "rfnet": "anymri.methods.rfnet:RFNet",
    "robust_seg": "anymri.methods.robust_seg:RobustSeg",
    "smu_net": "anymri.methods.smu_net:SMUNet",
    "threshold": "anymri.methods.threshold:Threshold",
    "u_hemis": "anymri.methods.u_hemis:UHeMIS",
    "u_hved": "anymri.methods.u_hved:UHVED",
    "unet": "anymri.methods.unet:UNet",
}


def _table() -> dict[str, str]:
    return {**{point.name: point.value for point in entry_points(group="anymri.methods")}, **METHODS}


def list_methods() -> list[str]:
    """Names of all methods, sorted."""
    return sorted(_table())


def get_method(name: str) -> type[Method]:
    """Class of a method.

    Raises
    ------
    UserError
        If there is no such method.
    """
    table = _table()
    if name not in table:
        raise UserError(f"unknown method {name!r}; known: {', '.join(sorted(table))}")
    module, _, attribute = table[name].partition(":")
    return getattr(import_module(module), attribute)


def create(name: str, spec: DataSpec | None = None, preset: str = "paper", **config: Any) -> Method:
    """Build a method with fresh weights.

    Parameters
    ----------
    name : str
        Registry name, see `list_methods`.
    spec : DataSpec or None, default=None
        None = the four-sequence glioma specification.
    preset : {"paper", "tiny"}, default="paper"
    **config
        Fields of the method's `Config`; they win over the preset's.

    Raises
    ------
    UserError
        If method, preset or a config key is unknown.
    """
    cls = get_method(name)
    if preset not in cls.presets:
        raise UserError(f"unknown preset {preset!r} of {name}; known: {', '.join(cls.presets)}")
    values = {**cls.presets[preset].config, **config, "preset": preset}
    return cls(cls.Config.build(values), spec or GLIOMA)


def load(path: Path | str, spec: DataSpec | None = None) -> Method:
    """Read a weights file of any method."""
    return get_method(read_header(path)["name"]).load(path, spec)


def describe_methods() -> list[dict[str, Any]]:
    """What `anymri methods` lists: who each method is, what it serves and how large it is."""
    return [_who(name, _build_presets(name)) for name in list_methods()]


def describe_method(name: str) -> dict[str, Any]:
    """One method's entry of `describe_methods`, and all its settings, stages and optimisers.

    Raises
    ------
    UserError
        If there is no such method.
    """
    from anymri.methods._description import config_fields, preset_stages

    built = _build_presets(name)
    first = next(iter(built.values()))
    needs = first.needs if isinstance(first.needs, str) else list(first.needs)
    settings = {"config": config_fields(get_method(name)), "stages": preset_stages(built)}
    return {**_who(name, built), "needs": needs, "outputs": list(first.outputs), **settings}


def _build_presets(name: str) -> dict[str, Method]:
    """The method in every preset, without memory for its weights."""
    import torch

    with torch.device("meta"):
        return {preset: create(name, preset=preset) for preset in get_method(name).presets}


def _who(name: str, built: dict[str, Method]) -> dict[str, Any]:
    from anymri.methods._description import deviations_of

    cls = get_method(name)
    info = cls.info
    sizes = {preset: sum(p.numel() for p in method.parameters()) for preset, method in built.items()}
    return {
        "name": name,
        "title": info.title,
        "family": info.family,
        "task": info.task,
        "year": info.year,
        "reference": info.reference,
        "doi": info.doi,
        "arxiv": info.arxiv,
        "code": info.code,
        "subsets": subset_handling(cls),
        "parity": info.parity,
        "parameters": sizes,
        "novelty": info.novelty,
        "weakness": info.weakness,
        "deviations": deviations_of(cls),
    }


def subset_handling(cls: type[Method]) -> str:
    """How a method serves subsets: ``any`` with one network, ``per-subset`` with one network each, or ``fixed``."""
    return cls.subsets if isinstance(cls.subsets, str) else "fixed"
