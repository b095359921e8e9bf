"""Prepare a run: resolve and check everything before anything is written."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from anymri.config import RunConfig, TrainingSection, load_run_config, result_changing, run_id, write_run_config
from anymri.data.hiding import draw_hidden
from anymri.data.loading import PatchLoader
from anymri.data.samplers import make_sampler
from anymri.methods import Method, PerSubsetModels, create
from anymri.moved import hand_on
from anymri.protocol.finite import is_finite
from anymri.protocol.method import divisors
from anymri.protocol.weights_file import check_weights, weights_digest
from anymri.records import read_record, write_record
from anymri.training.code import training_code
from anymri.training.memory import check_steps
from anymri.training.run_records import RunCard
from anymri.training.subjects import StageSubjects, choose_subjects, labelled, part_of_split, repeated
from anymri.types import Sampler, Stage, UserError

if TYPE_CHECKING:
    from anymri.data.cache import Cache

__all__ = ["PreparedRun", "made_by_other_code", "open_run_folder", "plain_stage", "prepare", "seed_from"]

#: Fields of `Stage` that runs of earlier versions do not know.
NEWER_FIELDS = ("needs", "subjects", "ema", "shared")


@dataclass(frozen=True, kw_only=True)
class PreparedRun:
    """A run, ready to start.

    Parameters
    ----------
    config : RunConfig
        Resolved: the method's whole configuration is in it.
    method : Method
        With starting weights and the training set's median statistics.
    stages : tuple of Stage
        After the overrides of the configuration.
    samplers : tuple of Sampler
    loaders : tuple of PatchLoader
        One a stage, like the samplers; empty for classical methods.
    cache : Cache
    training_subjects, validation_subjects : tuple of str
        Training: all that have what some stage needs.
    stage_subjects : tuple of StageSubjects
        Who takes part in each stage; pools with every subject as often as it is shown.
    facts : dict
        Content of ``run.json``: run id, identity (hash of everything that changes the weights), fingerprint of the
        data set, subjects, dropped subjects and why, stages, number of parameters, hash of the code.
    unset : dict of str to Tensor
        Starting values of the buffers that are not finite by design.
    """

    config: RunConfig
    method: Method
    stages: tuple[Stage, ...]
    samplers: tuple[Sampler, ...]
    loaders: tuple[PatchLoader, ...]
    cache: Cache
    training_subjects: tuple[str, ...]
    validation_subjects: tuple[str, ...]
    stage_subjects: tuple[StageSubjects, ...]
    facts: dict[str, Any]
    unset: dict[str, Tensor]


def seed_from(*parts: int | str) -> int:
    """Seed that depends on the parts and on nothing else, in [0, 2^63)."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def prepare(config: RunConfig) -> PreparedRun:
    """Build method, stages and subject lists.

    Raises
    ------
    UserError
        If method, sampler, augmentation or a key is unknown, weights or data do not fit, or no subject is left.
    """
    from anymri.data.cache import Cache

    cache = Cache(config.data.cache)
    method = _build_method(config, cache)
    unset = {name: value.clone() for name, value in method.named_buffers() if not is_finite(value)}
    stages = _resolve_stages(method, config.training)
    check_steps(method, stages, config.training)
    part = part_of_split(config, cache, config.data.train_part)
    hidden = draw_hidden(cache, part, config.data.hide, config.training.seed)
    cache = Cache(cache.folder, hidden, facts=method.uses)
    chosen = tuple(choose_subjects(cache, part, method, stage) for stage in stages)
    for stage, of_stage in zip(stages, chosen, strict=True):
        if not of_stage.trained:
            why = "; ".join(f"{count} {reason}" for reason, count in of_stage.reasons.items()) or "the part is empty"
            where = f" for stage {stage.name}" if _chooses(stage) else ""
            raise UserError(
                f"{config.data.cache}: no training subject left{where} ({why}); choose other data or another method"
            )
    # A stage may draw on all in its pools, also where its own batches are of one kind.
    training = _among(part, (name for of_stage in chosen for pool in of_stage.pools.values() for name in pool))
    if method.head is not None and not labelled(cache, training):
        raise UserError(f"{config.data.cache}: no training subject has a label map; {method.name} needs some that have")
    validation: tuple[str, ...] = ()
    if config.data.split is not None and config.training.validate_every:
        validation = part_of_split(config, cache, config.data.validation_part)
        if method.head is not None:
            validation = labelled(cache, validation)
    _fill_median_statistics(method, cache, training)
    shown = repeated(training, config.data.repeat)
    loaders = tuple(
        _loader(cache, _among(shown, of_stage.trained), stage, config.training)
        for stage, of_stage in (() if method.classical else zip(stages, chosen, strict=True))
    )
    resolved = _resolved(config, method)
    return PreparedRun(
        config=resolved,
        method=method,
        stages=stages,
        samplers=tuple(make_sampler(stage.sampler, method.spec) for stage in stages),
        loaders=loaders,
        cache=cache,
        training_subjects=training,
        validation_subjects=validation,
        stage_subjects=tuple(
            one._replace(pools={role: _among(shown, names) for role, names in one.pools.items()}) for one in chosen
        ),
        facts=_facts(resolved, cache, method, stages, training, validation)
        | {"dropped_subjects": dict(Counter(chosen[0].left_out[name] for name in part if name not in set(training)))}
        | _stage_facts(stages, chosen),
        unset=unset,
    )


def _chooses(stage: Stage) -> bool:
    """Whether a stage has subjects of its own."""
    return stage.needs is not None or stage.subjects != "all"


def _among(shown: Iterable[str], subjects: Iterable[str]) -> tuple[str, ...]:
    chosen = set(subjects)
    return tuple(name for name in shown if name in chosen)


def _stage_facts(stages: tuple[Stage, ...], chosen: tuple[StageSubjects, ...]) -> dict[str, Any]:
    """How many subjects each stage with subjects of its own has, and why others are left out of it."""
    facts = {
        stage.name: {"subjects": len(one.trained), "left_out": one.reasons}
        for stage, one in zip(stages, chosen, strict=True)
        if _chooses(stage)
    }
    return {"stage_subjects": facts} if facts else {}


def open_run_folder(out: Path, plan: PreparedRun, resume: bool) -> bool:
    """Create the run folder, or recognise the run in it.

    Parameters
    ----------
    out : Path
    plan : PreparedRun
    resume : bool
        False removes an earlier run in the folder.

    Returns
    -------
    bool
        Whether this very run is finished already. A run that other code made, finished or not, is set aside under
        another name, said in one line, and begins anew: going on would mix two codes.

    Raises
    ------
    UserError
        If `out` is a file, holds something else, a run with other settings or data, or a damaged one.
    """
    from anymri.files import make_folder, remove_leftovers

    card = out / "run.json"
    if out.is_dir() and not card.is_file():
        remove_leftovers(out)
        foreign = [path.name for path in out.iterdir() if path.name != "config.yaml"]
        if foreign:
            raise UserError(f"{out}: holds {sorted(foreign)[0]} but no run; choose a new folder")
    make_folder(out)
    if card.is_file() and not resume:
        _remove_run(out)
    if card.is_file():
        stored = read_record(card, RunCard, "train into a new folder")
        if stored.identity != plan.facts["identity"]:
            raise UserError(f"{out}: holds another run ({_difference(out, stored, plan)}); choose a new folder")
        if not made_by_other_code(out, plan.facts["code"]):
            return _is_finished(out)
        print(_set_aside(out, str(stored.code)), file=sys.stderr)
        make_folder(out)
    write_run_config(plan.config, out / "config.yaml")
    write_record(card, {"format": 1, **plan.facts})
    return False


def _is_finished(out: Path) -> bool:
    """Whether the weights are there, whole and unchanged."""
    weights = out / "model.safetensors"
    if not weights.exists():
        return False
    try:
        check_weights(weights)
    except UserError as error:
        reason = str(error).rpartition(";")[0]
        raise UserError(f"{reason}; delete it and train again: the run goes on from its last checkpoint") from None
    return True


def made_by_other_code(run: Path, code: str | None) -> bool:
    """Whether a run folder says that other code than this trained it; False where either is not known."""
    try:
        stored = read_record(run / "run.json", RunCard, "train into a new folder").code
    except UserError:
        return False
    return None not in (stored, code) and stored != code


def _set_aside(out: Path, code: str) -> str:
    """Rename a run that other code made; returns the line that says so."""
    from anymri.files import inside

    names = [f"{out.name}.code-{code[:8]}{suffix}" for suffix in ("", *(f"-{number}" for number in range(2, 1000)))]
    kept = next(place for name in names if not (place := inside(out.parent, name)).exists())
    out.rename(kept)
    return f"anymri: {out}: was trained by other code than this version's; kept as {kept.name}, training anew"


def _build_method(config: RunConfig, cache: Cache) -> Method:
    """Method with seeded fresh weights, or with those of ``training.init``."""
    section, settings = config.method, config.training
    torch.manual_seed(seed_from(settings.seed, "weights"))
    if settings.init is None:
        return create(section.name, spec=cache.spec, preset=section.preset, **section.config)
    from anymri.zoo import open_model

    start = open_model(settings.init)
    if isinstance(start, PerSubsetModels):
        raise UserError(f"training.init={settings.init} holds several networks; name the run of one")
    if start.name != section.name:
        raise UserError(
            f"training.init={settings.init} holds weights of {start.name}, not {section.name}; set method.name"
        )
    if start.spec.modalities != cache.spec.modalities:
        have, want = ", ".join(start.spec.modalities), ", ".join(cache.spec.modalities)
        raise UserError(f"training.init={settings.init} was trained on {have}, the cache has {want}; use the same")
    # Sizes come from the weights; what the user writes wins and must still fit them.
    sizes = {key: value for key, value in asdict(start.config).items() if key != "preset"}
    method = create(section.name, spec=cache.spec, preset=section.preset, **{**sizes, **section.config})
    _take_weights(method, start, settings.init)
    return method


def _take_weights(method: Method, start: Method, source: str) -> None:
    """Copy weights; where the two have other labels or regions, output layers of another shape keep fresh weights."""
    own, given = method.state_dict(), start.state_dict()
    fresh = {key for key in own if key not in given or given[key].shape != own[key].shape}
    kept = 1 - sum(own[key].numel() for key in fresh) / sum(value.numel() for value in own.values())
    same_outputs = method.head == start.head and method.outputs == start.outputs
    if (fresh or set(given) - set(own)) and (same_outputs or kept < 0.9):
        raise UserError(f"training.init={source} does not fit method.config; leave sizes out of it")
    method.load_state_dict({**own, **{key: given[key] for key in own if key not in fresh}})


def _resolve_stages(method: Method, training: TrainingSection) -> tuple[Stage, ...]:
    keys = ("epochs", "steps_per_epoch", "batch_size", "patch", "sampler", "augment", "foreground")
    changes = {key: getattr(training, key) for key in keys if getattr(training, key) is not None}
    stages = tuple(replace(stage, **changes) for stage in method.stages)
    for stage, earlier in () if method.classical else zip(stages, (None, *stages), strict=False):
        if stage.shared and earlier is not None and not earlier.shared:
            raise ValueError(f"{method.name}: stage {stage.name} is shared, so the stages before it must be shared too")
        if stage.patch is None and stage.unpaired:
            raise UserError(f"stage {stage.name} mixes sequences of different subjects; set training.patch")
        if stage.patch is None and stage.batch_size != 1:
            raise UserError(f"stage {stage.name} trains on whole volumes; set training.batch_size=1 or training.patch")
        for size, step in zip(stage.patch or (), divisors(method), strict=False):
            if size % step:
                raise UserError(f"training.patch holds {size}; {method.name} needs multiples of {step}")
    return stages


def _loader(cache: Cache, subjects: tuple[str, ...], stage: Stage, settings: TrainingSection) -> PatchLoader:
    """Loader whose epoch is whole optimiser steps, each of ``training.accumulate`` micro-batches."""
    steps = stage.steps_per_epoch or math.ceil(len(subjects) / (stage.batch_size * settings.accumulate))
    return PatchLoader(
        cache,
        subjects,
        stage.patch,
        stage.batch_size,
        seed=settings.seed,
        augment=stage.augment,
        foreground=stage.foreground,
        unpaired=stage.unpaired,
        transplants=settings.transplants,
        steps_per_epoch=steps * settings.accumulate,
    )


def _fill_median_statistics(method: Method, cache: Cache, subjects: tuple[str, ...]) -> None:
    """Median over the training subjects; a modality that none has keeps what the starting weights know."""
    rows = torch.stack([_tensor(cache.entry(subject).statistics) for subject in subjects])
    median = rows.nanmedian(dim=0, keepdim=True).values
    known = method.get_buffer("median_statistics")
    known.copy_(torch.where(median.isnan(), known, median))


def _tensor(values: Any) -> Tensor:
    return torch.as_tensor(values).float()


def _resolved(config: RunConfig, method: Method) -> RunConfig:
    """The configuration with every field of the method's own."""
    values = {key: value for key, value in asdict(method.config).items() if key != "preset"}
    return replace(config, method=replace(config.method, config=json.loads(json.dumps(values))))


def _rename_settings(config: RunConfig, names: Mapping[str, str]) -> RunConfig:
    """The configuration with other names of the method's own settings."""
    values = {names.get(key, key): value for key, value in config.method.config.items()}
    return replace(config, method=replace(config.method, config=values))


def _facts(
    config: RunConfig,
    cache: Cache,
    method: Method,
    stages: tuple[Stage, ...],
    training: tuple[str, ...],
    validation: tuple[str, ...],
) -> dict[str, Any]:
    fingerprint = cache.fingerprint()
    # A run keeps the identity it had when its settings had other names.
    config = _rename_settings(config, {new: old for old, new in method.Config.renamed.items()})
    facts: dict[str, Any] = {
        "run": run_id(config, fingerprint),
        "dataset_fingerprint": fingerprint,
        "training_subjects": list(training),
        "validation_subjects": list(validation),
        "stages": [plain_stage(stage) for stage in stages],
        "start": weights_digest(method) if config.training.init else "fresh",
        **_subject_facts(cache, method, training),
    }
    content = json.dumps([result_changing(config), facts], sort_keys=True)
    facts["identity"] = hashlib.sha256(content.encode()).hexdigest()
    if cache.hidden:
        facts["hidden"] = {name: "+".join(codes) for name, codes in cache.hidden.items()}
    size = sum(p.numel() for p in method.parameters())
    return {**facts, "parameters": size, "code": training_code(type(method))}


def plain_stage(stage: Stage) -> dict[str, Any]:
    """Fields for ``run.json``; newer ones only where set, so that a run keeps the identity an older version gave it."""
    return {
        entry.name: json.loads(json.dumps(getattr(stage, entry.name)))
        for entry in fields(stage)
        if entry.name not in NEWER_FIELDS or getattr(stage, entry.name) != entry.default
    }


def _subject_facts(cache: Cache, method: Method, training: tuple[str, ...]) -> dict[str, Any]:
    """What the method uses: the cohort's sites and classes, each training subject's, and the fingerprint of tables."""
    facts: dict[str, Any] = {}
    for name, names in (("site", cache.sites), ("class_label", cache.class_labels)):
        if name not in method.uses:
            continue
        known = {subject: found for subject in training if (found := getattr(cache.entry(subject), name))}
        if not known:
            raise UserError(
                f"{cache.folder}: no training subject has a {name}, which {method.name} uses; fill the column {name} "
                "of the table of subjects and run anymri preprocess again"
            )
        facts[name] = {"names": list(names), "subjects": known}
    if "tables" in method.uses:
        if cache.tables is None or not set(training) & set(cache.tables.subject_ids):
            raise UserError(
                f"{cache.folder / 'tables'}: has no training subject, which {method.name} needs; write its vectors or "
                "graphs with anymri.data.tables"
            )
        facts["tables"] = cache.tables.fingerprint()
    return facts


def _difference(out: Path, stored: RunCard, plan: PreparedRun) -> str:
    """The first thing that differs between the stored run and this one, for the user."""
    try:
        renamed = plan.method.Config.renamed
        old = _flat(result_changing(_rename_settings(load_run_config(out / "config.yaml"), renamed)))
    except UserError:
        return "its config.yaml is damaged"
    new = _flat(result_changing(plan.config))
    for key in sorted({*old, *new}):
        if old.get(key) != new.get(key):
            return f"its {key} is {old.get(key)}, not {new.get(key)}"
    for key in ("training_subjects", "validation_subjects", "stages"):
        if getattr(stored, key) != plan.facts[key]:
            return f"its {key.replace('_', ' ')} differ"
    if stored.dataset_fingerprint != plan.facts["dataset_fingerprint"]:
        return "the data in the cache differ"
    if stored.start != plan.facts["start"]:
        return "its starting weights differ"
    return "of another version"


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat


def _remove_run(out: Path) -> None:
    """Remove what a run wrote; the card last, so that a kill in between leaves a run that can be removed again."""
    from anymri.training.checkpoint import CheckpointStore

    CheckpointStore(out).clear()
    for name in ("model.safetensors", "log.jsonl", "progress.png", "config.yaml", "run.json"):
        (out / name).unlink(missing_ok=True)


__getattr__ = hand_on(__name__)
