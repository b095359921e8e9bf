"""Run configuration: settings of one training run, YAML plus ``--set key=value``, validated once.

Nothing but this module reads a run's YAML, and nothing after it checks types again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import BeforeValidator, ConfigDict, Field

from anymri.bounds import Batch, Count, Rate, Seed, Share, Threads, Triple, Whole, WrongSetting, fill, short
from anymri.errors import UserError
from anymri.files import replace_text
from anymri.settings_file import parse_yaml, read_yaml

__all__ = [
    "DataSection",
    "MethodSection",
    "RunConfig",
    "TrainingSection",
    "load_run_config",
    "override",
    "result_changing",
    "run_id",
    "to_plain",
    "validate_run_config",
    "write_run_config",
]

#: Training settings that leave the weights as they are: machine, speed and how often something is written.
NOT_RESULT_CHANGING = ("device", "threads", "checkpoint_every")

FORBID = ConfigDict(extra="forbid")
_Text = BeforeValidator(lambda value: str(value) if isinstance(value, int) else value)
#: How often a subject is shown in one pass.
Times = Annotated[int, Field(ge=1, le=10_000)]


@dataclass(frozen=True, kw_only=True)
class MethodSection:
    """Method of a run, and its size.

    Parameters
    ----------
    name : str
        Name in `anymri.methods.list_methods`.
    preset : {"tiny", "paper"}, default="tiny"
    config : dict
        Fields of the method's own configuration; they win over the preset's.
    """

    __pydantic_config__: ClassVar[ConfigDict] = FORBID

    name: str
    preset: Literal["tiny", "paper"] = "tiny"
    config: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class DataSection:
    """Subjects of a run. Relative paths start at the working directory.

    Parameters
    ----------
    cache : Path
        Folder written by ``anymri preprocess``.
    split : Path or None, default=None
        ``split.json``; None trains on every subject of the cache.
    fold : int, default=0
    train_part, validation_part : str
        Parts of the fold to learn from and to watch.
    repeat : dict of str to int, default={}
        How often a training subject is shown in each pass, by pattern of its id, e.g. ``{"BraTS2021_*": 10}`` where
        few real studies are mixed with many phantoms. The first pattern that fits counts; without one, once.
    hide : dict of str to str or float, default={}
        Sequences of training subjects that are treated as never acquired, by pattern of the subject's id: the sequences
        themselves, e.g. ``{"siteB_*": "t2+flair"}``, or the probability with which a subject is made incomplete by a
        subset drawn for it once, e.g. ``{"*": 0.5}``. The first pattern that fits counts; without one, nothing is
        hidden. See `anymri.data.hiding.draw_hidden`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = FORBID

    cache: Path
    split: Path | None = None
    fold: Whole = 0
    train_part: str = "train"
    validation_part: str = "validation"
    repeat: dict[str, Times] = field(default_factory=dict)
    hide: dict[str, Share | str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TrainingSection:
    """Training settings. None takes the value of the method's own stages.

    Parameters
    ----------
    epochs, steps_per_epoch, batch_size : int or None, default=None
        Replace the value in every stage.
    patch : tuple of int or None, default=None
        Training crop (D, H, W) in voxels of the cache.
    sampler : str or None, default=None
        Subset sampler, e.g. ``"uniform_subset"`` or ``"fixed:t1c+flair"``.
    lr : float or None, default=None
        Learning rate; groups with a rate of their own keep their ratio to it.
    seed : int, default=0
    precision : {"auto", "32", "bf16"}, default="auto"
        ``auto``: bf16 on a GPU that computes it and on a CPU with AMX, else 32 bits. On other CPUs gradients of very
        small volumes can be wrong in bf16.
    accumulate : int, default=1
        Micro-batches an optimiser step.
    ema : float or None, default=None
        Decay of the exponential moving average of the weights; None = each stage's own, usually none.
    augment : str or None, default=None
        Name in `anymri.data.augment.AUGMENTATIONS`; None = the method's own.
    foreground : float or None, default=None
        Share of crops centred on a labelled voxel; None = the method's own. 0 where a lesion is in nearly every crop
        anyway: networks trained mostly on lesions find one in every window. More for small, rare lesions.
    transplants : float, default=0.0
        Share of training rows that get the lesion of another training subject too, images and label map; all subjects
        must lie in one space. See `anymri.data.transplant`.
    checkpoint_every : int, default=1
        Epochs between checkpoints.
    validate_every : int, default=0
        Epochs between validations; 0 = never, then a stage that would keep its best epoch keeps the last.
    threads : int or None, default=None
        Processor threads; None leaves torch's choice.
    device : str, default="auto"
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"`` or ``"auto"``.
    init : str or None, default=None
        Weights to start from: a model of the zoo or a safetensors file.
    """

    __pydantic_config__: ClassVar[ConfigDict] = FORBID

    epochs: Count | None = None
    steps_per_epoch: Count | None = None
    batch_size: Batch | None = None
    patch: Triple | None = None
    sampler: str | None = None
    lr: Rate | None = None
    seed: Seed = 0
    precision: Annotated[Literal["auto", "32", "bf16"], _Text] = "auto"
    accumulate: Batch = 1
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    augment: str | None = None
    foreground: Share | None = None
    transplants: Share = 0.0
    checkpoint_every: Count = 1
    validate_every: Whole = 0
    threads: Threads | None = None
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = "auto"
    init: str | None = None


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Settings of one training run.

    Parameters
    ----------
    method : MethodSection
    data : DataSection
    training : TrainingSection
    """

    __pydantic_config__: ClassVar[ConfigDict] = FORBID

    method: MethodSection
    data: DataSection
    training: TrainingSection = field(default_factory=TrainingSection)


SECTIONS = {"method": MethodSection, "data": DataSection, "training": TrainingSection}


def load_run_config(path: Path | str, overrides: list[str] | tuple[str, ...] = ()) -> RunConfig:
    """Read a run's YAML.

    Parameters
    ----------
    path : path-like
    overrides : list of str, default=()
        ``"training.epochs=5"``: dotted key and value, the value read as YAML. They win over the file.

    Raises
    ------
    UserError
        If the file cannot be read, a key is unknown (names the nearest known one) or a value does not fit.
    """
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise UserError(f"{path}: no settings in it; write the sections method, data and training")
    for text in overrides:
        override(values, text)
    return validate_run_config(values, str(path))


def validate_run_config(values: dict[str, Any], source: str = "configuration") -> RunConfig:
    """Build a `RunConfig` from plain nested values.

    Parameters
    ----------
    values : dict
        The sections ``method``, ``data`` and ``training``.
    source : str
        Named at the start of messages.

    Raises
    ------
    UserError
        If a key is unknown or missing, or a value does not fit.
    """
    _check_keys(values, source)
    try:
        return fill(RunConfig, values)
    except WrongSetting as wrong:
        if wrong.kind in ("missing", "missing_argument"):
            raise UserError(f"{source}: {wrong.key} is missing; write it or pass --set {wrong.key}=VALUE") from None
        raise UserError(f"{source}: {wrong.key} = {wrong.value} does not fit: {wrong.reason}") from None


def to_plain(config: RunConfig) -> dict[str, Any]:
    """Nested dictionaries, lists and scalars that `validate_run_config` reads back."""
    return json.loads(json.dumps(asdict(config), default=os.fspath))


def write_run_config(config: RunConfig, path: Path) -> None:
    """Write the settings as YAML, atomically."""
    replace_text(path, yaml.safe_dump(to_plain(config), sort_keys=False))


def result_changing(config: RunConfig) -> dict[str, Any]:
    """The plain settings that the weights depend on: without machine, speed and paths."""
    plain = to_plain(config)
    del plain["data"]["cache"], plain["data"]["split"]
    if not plain["data"]["hide"]:  # a run without it keeps the identity it had before there was such a key
        del plain["data"]["hide"]
    if not plain["training"]["transplants"]:  # likewise
        del plain["training"]["transplants"]
    for key in NOT_RESULT_CHANGING:
        del plain["training"][key]
    return plain


def run_id(config: RunConfig, fingerprint: str) -> str:
    """Name a run: readable prefix, then a hash of everything that changes the result.

    Parameters
    ----------
    config : RunConfig
    fingerprint : str
        Fingerprint of the data, see `anymri.data.cache.Cache.fingerprint`.

    Returns
    -------
    str
        E.g. ``"u_hved-tiny-phantom40-fold0-seed0-1f3a9c04"``: letters, digits and ``-_``.
    """
    content = json.dumps([result_changing(config), fingerprint], sort_keys=True)
    digest = hashlib.sha256(content.encode()).hexdigest()[:8]
    data, training = config.data, config.training
    subset = config.method.config.get("subset")
    parts = [
        config.method.name,
        config.method.preset,
        subset,
        data.cache.name,
        f"fold{data.fold}",
        f"seed{training.seed}",
    ]
    return "-".join([*(re.sub(r"[^A-Za-z0-9_]+", "_", part) for part in parts if part), digest])


def override(values: dict[str, Any], text: str) -> None:
    """Set one ``key.sub=VALUE`` in nested plain values."""
    key, equals, value = text.partition("=")
    names, source = key.strip().split("."), f"--set {short(text, plain=True)}"
    if not equals or not all(names):
        raise UserError(f"{source}: not KEY=VALUE; write e.g. --set training.epochs=5")
    parsed = parse_yaml(value, source)
    place = values
    for name in names[:-1]:
        inner = place.get(name)
        if inner is None:
            inner = place[name] = {}
        if not isinstance(inner, dict):
            raise UserError(f"{source}: {name} is a value, not a section; see the keys of the configuration")
        place = inner
    place[names[-1]] = parsed


def _check_keys(values: dict[str, Any], source: str) -> None:
    """Refuse unknown keys by name, with the nearest known one."""
    if not isinstance(values, dict):
        raise UserError(f"{source}: no settings in it; write the sections method, data and training")
    _check_names(values, RunConfig, "", source)
    for name, section in SECTIONS.items():
        inner = values.get(name, {})
        if not isinstance(inner, dict):
            raise UserError(f"{source}: {name} = {short(inner)} is not a section; write its keys indented below it")
        _check_names(inner, section, f"{name}.", source)


def _check_names(values: dict[str, Any], section: type, prefix: str, source: str) -> None:
    assert is_dataclass(section)
    known = [entry.name for entry in fields(section)]
    for key in values:
        if key in known:
            continue
        close = get_close_matches(short(key, plain=True), known, 1)
        hint = f"did you mean {prefix}{close[0]}?" if close else f"known: {', '.join(prefix + name for name in known)}"
        raise UserError(f"{source}: unknown key {prefix}{short(key, plain=True)}; {hint}")
