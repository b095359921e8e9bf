"""Methods by name: one visible table; other packages add theirs by the entry point group ``anymri.methods``.

Listing and citing read ``catalogue.json``, which ``tools/write_methods_reference.py`` writes from the classes: neither
imports torch or builds a network.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anymri.bounds import short
from anymri.errors import UserError
from anymri.methods._citations import OWN, Cited, Entry, method_entries
from anymri.moved import hand_on

if TYPE_CHECKING:
    from anymri.protocol.method import Method, MethodConfig, MethodInfo, Preset, StepContext, SubsetNotTrained
    from anymri.protocol.per_subset import PerSubset, PerSubsetModels
    from anymri.types import DataSpec

__all__ = [
    "PerSubsetModels", "Method", "MethodConfig", "MethodInfo", "PerSubset", "PluginWarning", "Preset", "StepContext",
    "SubsetNotTrained", "citations", "create", "describe_method", "describe_methods", "get_method", "list_methods",
    "load",
]  # fmt: skip

#: Registry name to ``module:class``; alphabetical. Imported on first use.
METHODS: dict[str, str] = {
    "acn": "anymri.methods.acn:ACN",
    "cg_mcg": "anymri.methods.cg_mcg:CGMCG",
    "cgan3d": "anymri.methods.cgan3d:CGAN3D",
    "choi": "anymri.methods.choi:Choi",
    "cmim": "anymri.methods.cmim:CMIM",
    "cones": "anymri.methods.cones:CoNeS",
    "cwdm": "anymri.methods.cwdm:CWDM",
    "fgmf": "anymri.methods.fgmf:FGMF",
    "had_net": "anymri.methods.had_net:HADNet",
    "hemis": "anymri.methods.hemis:HeMIS",
    "hf_gan": "anymri.methods.hf_gan:HFGAN",
    "hi_net": "anymri.methods.hi_net:HiNet",
    "kd_net": "anymri.methods.kd_net:KDNet",
    "kdd_net": "anymri.methods.kdd_net:KDDNet",
    "lce_net": "anymri.methods.lce_net:LCENet",
    "m3ae": "anymri.methods.m3ae:M3AE",
    "maml": "anymri.methods.maml:MAML",
    "mgp_vae": "anymri.methods.mgp_vae:MGPVAE",
    "mm_gan": "anymri.methods.mm_gan:MMGAN",
    "mmcformer": "anymri.methods.mmcformer:MMCFormer",
    "mmformer": "anymri.methods.mmformer:MmFormer",
    "nnunet_per_subset": "anymri.methods.nnunet_per_subset:NnUNetPerSubset",
    "pimms": "anymri.methods.pimms:PIMMS",
    "replica": "anymri.methods.replica:Replica",
    "resvit": "anymri.methods.resvit:ResViT",
    "resvit_unified": "anymri.methods.resvit:UnifiedResViT",
    "rfnet": "anymri.methods.rfnet:RFNet",
    "robust_seg": "anymri.methods.robust_seg:RobustSeg",
    "rs_net": "anymri.methods.rs_net:RSNet",
    "shen_gao": "anymri.methods.shen_gao:ShenGao",
    "smu_net": "anymri.methods.smu_net:SMUNet",
    "threshold": "anymri.methods.threshold:Threshold",
    "u_hemis": "anymri.methods.u_hemis:UHeMIS",
    "u_hved": "anymri.methods.u_hved:UHVED",
    "unet": "anymri.methods.unet:UNet",
    "urn": "anymri.methods.urn:URN",
    "wfm": "anymri.methods.wfm:WFM",
}
#: What `describe_methods` says of each method of the table, as the classes said when the file was written.
CATALOGUE = Path(__file__).with_name("catalogue.json")


class PluginWarning(UserWarning):
    """A method of another package cannot be used; the message says why."""


def _plugins() -> tuple[dict[str, EntryPoint], list[str]]:
    """Methods of other packages by name, and in a sentence each those that are refused for their name."""
    found: dict[str, EntryPoint] = {}
    refused = []
    for point in sorted(entry_points(group="anymri.methods"), key=lambda point: (point.name, point.value)):
        taken = "a built-in method" if point.name in METHODS else _said_of(found.get(point.name))
        if point.name in found and found[point.name].value == point.value:
            continue  # one package, found by two paths
        if taken:
            refused.append(f"{_said_of(point)} is left out: {point.name} is the name of {taken}; it needs another name")
        else:
            found[point.name] = point
    return found, refused


def _said_of(point: EntryPoint | None) -> str:
    """Which method of which package an entry point is."""
    if point is None:
        return ""
    package = point.dist.name if point.dist is not None else point.module
    return f"the method {point.name} of the package {package}"


def list_methods() -> list[str]:
    """Names of all methods, sorted; a plug-in of a taken name is left out."""
    return sorted([*METHODS, *_plugins()[0]])


def get_method(name: str) -> type[Method]:
    """Class of a method.

    Raises
    ------
    UserError
        If there is no such method, or the package it comes from is broken.
    """
    if name in METHODS:
        module, _, attribute = METHODS[name].partition(":")
        return getattr(import_module(module), attribute)
    from anymri.protocol.method import Method

    plugins, _ = _plugins()
    if name not in plugins:
        raise UserError(f"unknown method {name!r}; known: {', '.join(sorted([*METHODS, *plugins]))}")
    try:
        cls = plugins[name].load()
    except Exception as error:  # whatever somebody else's module raises
        raise UserError(_broken(plugins[name], error)) from error
    if not (isinstance(cls, type) and issubclass(cls, Method)):
        raise UserError(f"{_said_of(plugins[name])}: {plugins[name].value} is no Method; mend or remove the package")
    return cls


def _broken(point: EntryPoint, error: Exception) -> str:
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    return f"{_said_of(point)} cannot be used ({reason}); mend or remove the package"


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
        If method, preset or a config key is unknown, a value does not fit, or the values make no network or one that
        does not fit into memory.
    """
    from anymri.protocol.size import check_size
    from anymri.types import GLIOMA

    cls = get_method(name)
    if preset not in cls.presets:
        raise UserError(f"unknown preset {preset!r} of {name}; known: {', '.join(cls.presets)}")
    values = {**cls.presets[preset].config, **config, "preset": preset}
    settings, spec = cls.Config.build(values), spec or GLIOMA
    try:
        check_size(cls, settings, spec)
        return cls(settings, spec)
    except (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError) as error:
        if not config:
            raise
        told = ", ".join(f"{key} = {short(value)}" for key, value in config.items())
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"method.config: {told} make no network of {name} ({reason[:200]}); mend them") from error


def load(path: Path | str, spec: DataSpec | None = None) -> Method:
    """Read a weights file of any method."""
    from anymri.protocol.weights_file import read_header

    return get_method(read_header(path).name).load(path, spec)


def describe_methods(stored: bool = True) -> list[dict[str, Any]]:
    """What `anymri methods` lists: who each method is, what it serves and how large it is.

    Parameters
    ----------
    stored : bool, default=True
        Whether to read built-in methods from ``catalogue.json``; False asks their classes, which takes seconds. One
        that the file does not have yet is asked in either case, as are methods of other packages.

    Warns
    -----
    PluginWarning
        For each method of another package that is broken or has a taken name; it is left out.
    """
    plugins, refused = _plugins()
    catalogue = _catalogue() if stored else {}
    rows = []
    for name in sorted([*METHODS, *plugins]):
        try:
            rows.append(catalogue.get(name) or _who(name, _build_presets(name)))
        except Exception as error:
            if name in METHODS:
                raise
            refused.append(str(error) if isinstance(error, UserError) else _broken(plugins[name], error))
    for sentence in refused:
        warnings.warn(sentence, PluginWarning, stacklevel=2)
    return rows


def _catalogue() -> dict[str, dict[str, Any]]:
    """Stored rows of `describe_methods` by name."""
    from anymri.methods._catalogue_rows import read_catalogue

    rows = read_catalogue(CATALOGUE) if CATALOGUE.exists() else []
    return {row["name"]: row for row in rows if row["name"] in METHODS}


def citations(names: Sequence[str]) -> list[Entry]:
    """What to cite for methods, each paper once.

    Parameters
    ----------
    names : sequence of str
        Registry names; empty = the program itself.

    Returns
    -------
    list of Entry
        ``entry.bibtex()`` is the text.

    Raises
    ------
    UserError
        If there is no such method.
    """
    import anymri

    catalogue = _catalogue()
    cited = {name: _cited(catalogue.get(name) or vars(get_method(name).info)) for name in names}
    entries = [entry for name, info in cited.items() for entry in method_entries(name, info)]
    own = Entry("software", "anymri", {**OWN, "version": anymri.__version__})
    needed = not names or any(info.reference == "anymri" for info in cited.values())
    return list({entry.key: entry for entry in [*entries, *([own] if needed else [])]}.values())


def _cited(facts: Mapping[str, Any]) -> Cited:
    return Cited(**{key: facts[key] for key in Cited._fields})


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


def __getattr__(name: str) -> Any:
    """Names of the protocol, imported on first use because they need torch."""
    if name in __all__ or name == "read_header":
        # Spelt out, so that `source_code` finds the module that a name is from.
        from anymri.protocol.method import (  # noqa: F401
            Method,
            MethodConfig,
            MethodInfo,
            Preset,
            StepContext,
            SubsetNotTrained,
        )
        from anymri.protocol.per_subset import PerSubset, PerSubsetModels  # noqa: F401
        from anymri.protocol.weights_file import read_header  # noqa: F401

        return locals()[name]
    return _find_moved(name)


_find_moved = hand_on(__name__)
