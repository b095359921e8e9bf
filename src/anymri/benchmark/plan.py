"""Benchmark plan: methods x folds x seeds (x subsets, for systems with one network each), from one YAML file.

Nothing is trained here. A cell is one training and its evaluation; its name is a hash of all that changes its numbers,
so that a plan can be interrupted, started again and extended, and what is done stays done.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from anymri.bounds import Batch, Overlap, Seed, Triple, Whole, WrongSetting, fill
from anymri.config import FORBID, RunConfig, result_changing, run_id, validate_run_config
from anymri.data.cache import Cache
from anymri.methods import get_method
from anymri.settings_file import read_yaml
from anymri.types import DataSpec, UserError

__all__ = [
    "BenchmarkPlan",
    "Cell",
    "EvaluationSection",
    "MethodEntry",
    "load_plan",
    "plan_cells",
    "run_path",
    "table_path",
]

#: Settings of scoring that were added later; cells without them keep their names.
LATER = ("metrics", "downstream")


@dataclass(frozen=True, kw_only=True)
class EvaluationSection:
    """Evaluation settings for every model of a plan; the parameters of `anymri.evaluation.evaluate`.

    Parameters
    ----------
    part : {"train", "validation", "test"}, default="test"
    subsets : tuple of str or None, default=None
        Rows of the table, e.g. ``[flair, t1c+flair]``; None = every subset that a method serves.
    reference : Path or None, default=None
        Cache of the same files at their own spacing, to score there.
    precision : {"auto", "32", "bf16"}, default="auto"
    batch_size : int, default=1
    overlap : float, default=0.5
    window : tuple of int or None, default=None
        Of prediction (D, H, W); None = the training's patch.
    hd95, synthesis, pictures : bool, default=True
    metrics : {"standard", "full"}, default="standard"
    downstream : str or None, default=None
        Segmenter (weights file, run folder or bundled model) that is given the studies that methods complete.
    """

    __pydantic_config__: ClassVar[ConfigDict] = FORBID

    part: Literal["train", "validation", "test"] = "test"
    subsets: tuple[str, ...] | None = None
    reference: Path | None = None
    precision: Annotated[Literal["auto", "32", "bf16"], BeforeValidator(str)] = "auto"
    batch_size: Batch = 1
    overlap: Overlap = 0.5
    window: Triple | None = None
    hd95: bool = True
    synthesis: bool = True
    pictures: bool = True
    metrics: Literal["standard", "full"] = "standard"
    downstream: str | None = None


@dataclass(frozen=True, kw_only=True)
class MethodEntry:
    """One method of a plan, a column of the table.

    Parameters
    ----------
    name : str
        Registry name.
    preset : {"tiny", "paper"}, default="tiny"
    config : dict
        Fields of the method's configuration.
    training : dict
        Settings of `anymri.config.TrainingSection`; they win over the plan's.
    subsets : tuple of str or None, default=None
        For systems with one network per subset: the networks to train; None = those the plan scores.
    then : MethodEntry or None, default=None
        Segmenter of the studies that this method completes: together one column, e.g. ``resvit+unet``. Trained once for
        all entries that say the same. In a file also the name of another entry of the plan, which is then not trained
        again; an entry of its own shows its network all sequences, unless its ``training`` names a sampler.
    """

    __pydantic_config__: ClassVar[ConfigDict] = FORBID

    name: str
    preset: Literal["tiny", "paper"] = "tiny"
    config: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    subsets: tuple[str, ...] | None = None
    then: MethodEntry | None = None


@dataclass(frozen=True, kw_only=True)
class BenchmarkPlan:
    """A benchmark: one data set, one split, one way of training and scoring.

    Parameters
    ----------
    data : dict
        The section ``data`` of a run, without ``fold``.
    methods : tuple of MethodEntry
        A bare name is an entry with the preset ``tiny``.
    folds, seeds : tuple of int, default=(0,)
    training : dict
        Settings of `anymri.config.TrainingSection` for all methods.
    evaluation : EvaluationSection
    title : str, default=""
    """

    __pydantic_config__: ClassVar[ConfigDict] = FORBID

    data: dict[str, Any]
    methods: Annotated[tuple[MethodEntry, ...], Field(min_length=1, max_length=1000)]
    folds: Annotated[tuple[Whole, ...], Field(min_length=1, max_length=1000)] = (0,)
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1, max_length=1000)] = (0,)
    training: dict[str, Any] = field(default_factory=dict)
    evaluation: EvaluationSection = field(default_factory=EvaluationSection)
    title: str = ""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Cell of a benchmark: one training and its evaluation, or the evaluation of two trained networks as one system.

    Parameters
    ----------
    name : str
        Readable and unique: run id and a hash of how it is scored.
    config : RunConfig
        Of a system, that of the network that completes studies.
    evaluation : EvaluationSection
        `subsets` are those that this cell serves.
    parts : tuple of Cell, default=()
        Of a system: the cells that train the network that completes and the one that segments.
    scored : bool, default=True
        False = only trained, for a system.
    """

    name: str
    config: RunConfig
    evaluation: EvaluationSection
    parts: tuple[Cell, ...] = ()
    scored: bool = True

    @property
    def method(self) -> str:
        """Name of the method, or of the system, e.g. ``resvit+unet``."""
        return "+".join(part.config.method.name for part in self.parts) or self.config.method.name

    @property
    def kind(self) -> str:
        """Equal for cells that cost the same: method, preset and settings, whatever fold, seed and subset."""
        method = asdict(self.config.method)
        method["config"].pop("subset", None)
        training = asdict(self.config.training)
        training.pop("seed")
        rest = [part.kind for part in self.parts] if self.scored else ["only trained"]
        return json.dumps([method, training, *rest], sort_keys=True, default=str)


def load_plan(path: Path | str) -> BenchmarkPlan:
    """Read a plan.

    Raises
    ------
    UserError
        If the file cannot be read, a key is unknown or a value does not fit.
    """
    path = Path(path)
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise UserError(f"{path}: no plan in it; write the keys data and methods")
    entries = values.get("methods")
    if isinstance(entries, list):
        entries = [{"name": entry} if isinstance(entry, str) else entry for entry in entries]
        values["methods"] = [_with_segmenter(entry, entries, values.get("training")) for entry in entries]
    try:
        return fill(BenchmarkPlan, values)
    except WrongSetting as wrong:
        if wrong.kind in ("unexpected_keyword_argument", "extra_forbidden"):
            raise UserError(f"{path}: unknown key {wrong.key}; {_known_keys(wrong.place)}") from None
        raise UserError(f"{path}: {wrong.key} = {wrong.value}: {wrong.reason}") from None


def _with_segmenter(entry: Any, entries: list[Any], training: Any) -> Any:
    """An entry whose key ``then`` holds a whole entry: a copy of the plan's own of that name, or one of its own."""
    then = entry.get("then") if isinstance(entry, dict) else None
    if isinstance(then, str):
        named = [other for other in entries if isinstance(other, dict) and other.get("name") == then]
        named = [other for other in named if "then" not in other]
        if len(named) != 1:
            raise UserError(f"plan: then: {then}: {len(named)} entries of that name; write a whole entry instead")
        sampler = training.get("sampler") if isinstance(training, dict) else None
        then = named[0]
    elif isinstance(then, dict):
        sampler = "all"
    else:
        return entry
    return {**entry, "then": {**then, "training": {"sampler": sampler, **(then.get("training") or {})}}}


def _known_keys(place: Sequence[int | str]) -> str:
    """The keys that stand where an unknown one was found, the nearest first."""
    section = {"methods": MethodEntry, "evaluation": EvaluationSection}.get(str(place[0]), BenchmarkPlan)
    known = [entry.name for entry in fields(section if len(place) > 1 else BenchmarkPlan)]
    close = get_close_matches(str(place[-1]), known, 1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"


def _check_repeated(plan: BenchmarkPlan) -> None:
    """Refuse settings that the plan's own keys would overwrite."""
    entries = [*plan.methods, *(entry.then for entry in plan.methods if entry.then is not None)]
    trainings = (plan.training, *(entry.training for entry in entries))
    wrong = {
        "data.fold": ("folds", "fold" in plan.data),
        "training.seed": ("seeds", any("seed" in part for part in trainings)),
        "config.subset": ("subsets", any("subset" in entry.config for entry in entries)),
    }
    for key, (instead, there) in wrong.items():
        if there:
            raise UserError(f"plan: {key} has no effect here; write {instead} instead")


def plan_cells(plan: BenchmarkPlan) -> list[Cell]:
    """All cells of a plan, checked: methods, settings and subsets exist, and no two cells are the same.

    The order is fold, seed, method, so that a table is complete for one fold and seed before the next begins.

    Raises
    ------
    UserError
        If an entry does not fit.
    """
    _check_repeated(plan)
    cache = Cache(validate_run_config({"method": {"name": "none"}, "data": plan.data}, "plan").data.cache)
    wanted = _read_subsets(plan.evaluation.subsets, cache.spec, "evaluation.subsets")
    cells: dict[str, Cell] = {}
    for fold in plan.folds:
        for seed in plan.seeds:
            group: dict[str, Cell] = {}
            for entry in plan.methods:
                for cell in _entry_cells(plan, entry, cache, (fold, seed), wanted):
                    if cell.name in group or cell.name in cells:
                        raise UserError(f"plan: {entry.name} with the same settings is listed twice; remove one")
                    group[cell.name] = cell
            systems = {name: cell for name, cell in group.items() if cell.parts}
            trained = {part.name: replace(part, scored=False) for cell in systems.values() for part in cell.parts}
            plain = {name: cell for name, cell in group.items() if not cell.parts}
            cells |= plain | {name: part for name, part in trained.items() if name not in plain} | systems
    return list(cells.values())


def _read_subsets(names: Sequence[str] | None, spec: DataSpec, key: str) -> list[str]:
    try:
        chosen = spec.subsets() if names is None else [spec.parse_subset(name) for name in names]
    except ValueError as error:
        raise UserError(f"plan: {key}: {error}") from None
    return [spec.subset_name(subset) for subset in chosen]


def _entry_cells(
    plan: BenchmarkPlan, entry: MethodEntry, cache: Cache, fold_seed: tuple[int, int], wanted: list[str]
) -> list[Cell]:
    method = get_method(entry.name)
    per_subset = method.subsets == "per-subset"
    if entry.subsets is not None and not per_subset:
        raise UserError(f"plan: {entry.name} serves any subset with one network; remove its key subsets")
    if not per_subset:
        cells = [_cell(plan, entry, cache, fold_seed, None, wanted if plan.evaluation.subsets else None)]
    else:
        served = [name for name in wanted if method.source_count in (None, len(cache.spec.parse_subset(name)))]
        own = served if entry.subsets is None else _read_subsets(entry.subsets, cache.spec, f"{entry.name}.subsets")
        cells = [_cell(plan, entry, cache, fold_seed, subset, [subset]) for subset in own if subset in wanted]
    if entry.then is None:
        return cells
    segmenter = _segmenter_cell(plan, entry, entry.then, cache, fold_seed, wanted)
    return [_system(cell, segmenter) for cell in cells]


def _segmenter_cell(
    plan: BenchmarkPlan,
    entry: MethodEntry,
    then: MethodEntry,
    cache: Cache,
    fold_seed: tuple[int, int],
    wanted: list[str],
) -> Cell:
    """The cell that trains the segmenter of an entry; the plan's own where that is the same."""
    if "image" not in get_method(entry.name).outputs:
        raise UserError(f"plan: {entry.name} completes no sequences; remove its key then")
    if "logits" not in get_method(then.name).outputs or then.then is not None:
        raise UserError(f"plan: then: {then.name} is no segmenter; name a method that segments by itself")
    if get_method(then.name).subsets == "per-subset":
        full = cache.spec.subset_name(cache.spec.modalities)
        return _cell(plan, then, cache, fold_seed, full, [full])
    return _cell(plan, then, cache, fold_seed, None, wanted if plan.evaluation.subsets else None)


def _system(completer: Cell, segmenter: Cell) -> Cell:
    prefix, _, _ = completer.name.rpartition("-")
    digest = hashlib.sha256(f"{completer.name} {segmenter.name}".encode()).hexdigest()[:6]
    name = f"{prefix}-then_{segmenter.config.method.name}-{digest}"
    return replace(completer, name=name, parts=(completer, segmenter))


def _cell(
    plan: BenchmarkPlan,
    entry: MethodEntry,
    cache: Cache,
    fold_seed: tuple[int, int],
    subset: str | None,
    scored: list[str] | None,
) -> Cell:
    config = entry.config if subset is None else {**entry.config, "subset": subset}
    values = {
        "method": {"name": entry.name, "preset": entry.preset, "config": config},
        "data": {**plan.data, "fold": fold_seed[0]},
        "training": {**plan.training, **entry.training, "seed": fold_seed[1]},
    }
    run = validate_run_config(values, f"plan, {entry.name}")
    get_method(entry.name).Config.build({**config, "preset": entry.preset})
    how = replace(plan.evaluation, subsets=None if scored is None else tuple(scored))
    if "image" not in get_method(entry.name).outputs:
        how = replace(how, downstream=None)
    return Cell(name=f"{run_id(run, cache.fingerprint())}-{_digest(run, how)}", config=run, evaluation=how)


def _digest(run: RunConfig, evaluation: EvaluationSection) -> str:
    """Six digits of a hash over what changes a cell's numbers; settings that came later count where they are set."""
    how = asdict(evaluation)
    for name in LATER:
        if how[name] == getattr(EvaluationSection(), name):
            del how[name]
    content = json.dumps([result_changing(run), how], sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:6]


def run_path(out: Path, cell: Cell) -> Path:
    """Where a cell's network is trained."""
    return out / "runs" / cell.name


def table_path(out: Path, cell: Cell) -> Path:
    """Where a finished cell's results lie."""
    return out / "results" / f"{cell.name}.parquet"
