"""Evaluation setup: a model, a data set and what is asked of them, checked and ready to run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import nn

from anymri.data.cache import Cache
from anymri.data.split import read_split
from anymri.data.study import Study
from anymri.evaluation.baselines import Moments
from anymri.evaluation.code import scoring_code, training_of
from anymri.evaluation.complexity import count_parameters
from anymri.evaluation.downstream import FrozenSegmenter
from anymri.evaluation.saved import SavedPredictions
from anymri.evaluation.seen import seen_in_training
from anymri.inference.device import device_of, find_device
from anymri.inference.sliding_window import SubjectPrediction, WindowSettings
from anymri.methods import Method, PerSubsetModels, SubsetNotTrained
from anymri.protocol.facts import TrainingFacts
from anymri.protocol.weights_file import weights_digest
from anymri.types import DataSpec, UserError
from anymri.version import __version__
from anymri.zoo import open_model

__all__ = ["EvaluationSettings", "Evaluation", "Subset", "describe_preset"]

Subset = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """Evaluation settings: what to score and how to predict; see `evaluate`.

    Raises
    ------
    UserError
        If a value does not fit.
    """

    outputs: tuple[str, ...] | None = None
    windows: WindowSettings = field(default_factory=WindowSettings)
    device: str = "auto"
    hd95: bool = True
    synthesis: bool = True
    metrics: Literal["standard", "full"] = "standard"
    downstream: str | None = None
    then: str | None = None

    def __post_init__(self) -> None:
        if self.metrics not in ("standard", "full"):
            raise UserError(f"metrics {self.metrics}: unknown; choose standard or full")
        if self.outputs is not None and "image" not in self.outputs and (self.downstream or self.then):
            raise UserError(f"outputs {', '.join(self.outputs)}: a segmenter needs the completed study; add image")


@dataclass
class Evaluation:
    """A model, a data set and what is asked of them.

    Parameters
    ----------
    method : Method or PerSubsetModels
        In evaluation mode.
    cache : Cache
    asked : EvaluationSettings
    subsets : list of tuple of str
    seed : int
    subjects : list of str
    fold : int
    fitted_on : list of str
        Subjects of the baselines; empty = for each subject the others of the cache.
    reference : Cache or None
        Where to score segmentation, if not in `cache`.
    watch : callable or None
        Called with study, subset and prediction of everything that is scored.
    saved : SavedPredictions or None
        Where predictions are kept.
    downstream : FrozenSegmenter or None
        What it makes of completed studies is scored beside the model.
    then : FrozenSegmenter or None
        Second half of a system whose first half, the model, completes the study: what is scored is what it segments.
    """

    method: Any
    cache: Cache
    asked: EvaluationSettings
    subsets: list[Subset]
    seed: int
    subjects: list[str] = field(default_factory=list)
    fold: int = 0
    fitted_on: list[str] = field(default_factory=list)
    reference: Cache | None = None
    watch: Callable[[Study, Subset, SubjectPrediction], None] | None = None
    saved: SavedPredictions | None = None
    moments: dict[str, Moments] = field(default_factory=dict)
    downstream: FrozenSegmenter | None = None
    then: FrozenSegmenter | None = None

    # ------------------------------------------------------------------------------------------------ preparation

    @classmethod
    def prepare(
        cls,
        model: Path | str | Method | PerSubsetModels,
        cache: Path | str | Cache,
        asked: EvaluationSettings,
        subsets: Sequence[str] | None = None,
        seed: int = 0,
    ) -> Evaluation:
        """Open model and cache and check that they fit.

        Raises
        ------
        UserError
            If they do not.
        """
        cache = cache if isinstance(cache, Cache) else Cache(cache)
        in_memory = isinstance(model, Method | PerSubsetModels)
        method = model if isinstance(model, Method | PerSubsetModels) else open_model(model)
        if asked.device != "auto" or not in_memory:
            method.to(find_device(asked.device))
        facts = method.facts
        if method.spec.modalities != cache.spec.modalities:
            raise UserError(
                f"{cache.folder}: holds {', '.join(cache.spec.modalities)}, the model takes "
                f"{', '.join(method.spec.modalities)}; preprocess the same modalities in the same order"
            )
        _check_spacing(cache, facts)
        method.eval()
        chosen = _parse_subsets(subsets, method)
        seed = facts.seed if facts.seed is not None else seed
        work = cls(method, cache, asked, chosen, seed, fold=facts.fold or 0)
        if asked.downstream is not None:
            work.downstream = _open_segmenter(asked.downstream, work)
        if asked.then is not None:
            work.then = _open_segmenter(asked.then, work)
        return work

    def choose_subjects(self, split: Path | None, fold: int, part: str, subjects: Sequence[str] | None) -> None:
        """Decide whom to score and whom to fit the baselines on.

        Raises
        ------
        UserError
            If a subject, fold or part does not exist or nobody is left.
        """
        known = set(self.cache.subject_ids)
        chosen = list(self.cache.subject_ids)
        if split is not None:
            read = read_split(split)
            chosen, self.fold = list(read.part(part, fold)), fold
            self.fitted_on = [subject for subject in read.part("train", fold) if subject in known]
        if subjects is not None:
            chosen = list(dict.fromkeys(subjects))
        unknown = [subject for subject in chosen if subject not in known]
        if unknown:
            raise UserError(f"{self.cache.folder}: subject {unknown[0]} is not in this cache; preprocess it first")
        if not chosen:
            raise UserError(f"{split or self.cache.folder}: part {part} of fold {fold} is empty; choose another")
        self.subjects = chosen

    @property
    def spec(self) -> DataSpec:
        """Modalities, labels and regions of the data."""
        return self.cache.spec

    @property
    def dataset(self) -> str:
        """Name of the data: the cache's folder, or the folder around it where that is just called cache."""
        folder = self.cache.folder.resolve()
        return folder.parent.name if folder.name == "cache" else folder.name

    @property
    def protocol(self) -> str:
        """How it is scored: on the cache's grid, or on that of the files."""
        return "anymri" if self.reference is None else "anymri-native"

    @property
    def networks(self) -> list[Any]:
        """The model, and the segmenter that works on what it completes."""
        return [self.method] if self.then is None else [self.method, self.then.method]

    @property
    def run(self) -> str:
        """Name of the run that made the weights; of both runs where a segmenter follows."""
        return "+".join(_run_name(network) for network in self.networks)

    @property
    def system(self) -> str:
        """Name of the method; of both where a segmenter follows, e.g. ``resvit+unet``."""
        return "+".join(network.name for network in self.networks)

    @property
    def windows(self) -> WindowSettings:
        """How volumes are cut; in windows of the training's size unless another was asked for."""
        return self.asked.windows.trained_as(self.method.facts)

    def subsets_of(self, subject: str) -> list[Subset]:
        """Subsets that lie within what the subject has."""
        present = self.cache.sidecar(subject).present
        return [subset for subset in self.subsets if set(subset) <= set(present)]

    def facts(self) -> dict[str, Any]:
        """What is stored beside the table."""
        return {
            "run": self.run,
            "protocol": self.protocol,
            "method": self.system,
            "dataset": self.dataset,
            "fold": self.fold,
            "seed": self.seed,
            "modalities": list(self.spec.modalities),
            "subsets": [self.spec.subset_name(subset) for subset in self.subsets],
            "subjects": list(self.subjects),
            "dataset_fingerprint": self.fingerprint,
            "reference_fingerprint": self.reference.fingerprint() if self.reference else "",
            "weights": weights_digest(self.method),
            "parameters": sum(count_parameters(network) for network in self.networks),
            "training": training_of(self.method),
            "code": scoring_code(type(_members(self.method)[0])),
            "metrics": self.asked.metrics,
            "downstream": None if self.downstream is None else _segmenter_facts(self.downstream),
            "then": None if self.then is None else _segmenter_facts(self.then),
            "settings": {
                "spacing_mm": list(self.cache.spacing_mm),
                "window": list(self.windows.window or ()),
                "overlap": self.windows.overlap,
                "batch_size": self.windows.batch_size,
                "precision": self.windows.precision,
                "device": device_of(self.method).type,
            },
            "versions": {"anymri": __version__, "torch": torch.__version__, "numpy": np.__version__},
        }

    @cached_property
    def fingerprint(self) -> str:
        """Of the cache; reading every sidecar once is enough."""
        return self.cache.fingerprint()

    def identity(self) -> str:
        """Hash of everything that the rows of one subject depend on."""
        facts = {key: value for key, value in self.facts().items() if key != "subjects"}
        content = json.dumps([facts, asdict(self.asked), self.fitted_on], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def was_seen(self, study: Study, networks: Sequence[Any]) -> bool:
        """Whether one of the networks was trained on this study."""
        return any(seen_in_training(study, network.facts, self._same_data(network)) for network in networks)

    def _same_data(self, network: Any) -> bool:
        """Whether weights come from this data set, by fingerprint or name; True if they say nothing."""
        stored = network.facts.dataset_fingerprint
        if stored is None:
            return True
        return stored == self.fingerprint or f"-{self.dataset}-" in f"-{_run_name(network)}-"


def _run_name(network: Any) -> str:
    return str(network.facts.run or network.name)


def _members(method: Any) -> list[Method]:
    return method.every if isinstance(method, PerSubsetModels) else [method]


def _segmenter_facts(segmenter: FrozenSegmenter) -> dict[str, Any]:
    """What is stored of a segmenter beside the table."""
    method = segmenter.method
    return {
        "run": _run_name(method),
        "method": method.name,
        "preset": describe_preset(method),
        "weights": weights_digest(method),
        "training": training_of(method),
        "code": scoring_code(type(method)),
    }


def describe_preset(method: Method | PerSubsetModels) -> str:
    """Preset of a method and the settings in which it departs from the preset, e.g. ``tiny, missing=zero_fill``.

    Of a family, settings in which all its members agree.
    """
    members = _members(method)
    every = [asdict(member.config) for member in members]
    name = method.config.preset
    preset = type(members[0]).presets.get(name)
    usual = asdict(type(members[0]).Config.build({**(preset.config if preset else {}), "preset": name}))
    changed = [
        f"{key}={value}"
        for key, value in every[0].items()
        if key not in ("preset", "subset") and usual[key] != value and all(one[key] == value for one in every)
    ]
    return ", ".join([name, *changed])


# --------------------------------------------------------------------------------------------------------------
# Checks
# --------------------------------------------------------------------------------------------------------------


def _parse_subsets(subsets: Sequence[str] | None, method: Method | PerSubsetModels) -> list[Subset]:
    spec = method.spec
    named = spec.subsets() if method.subsets == "any" else [spec.parse_subset(name) for name in method.subsets]
    served = sorted(named, key=spec.subsets().index)
    if subsets is None:
        return served
    chosen = []
    for text in subsets:
        try:
            subset = spec.parse_subset(text)
        except ValueError as error:
            raise UserError(f"subset: {error}") from None
        if subset not in served:
            known = ", ".join(spec.subset_name(one) for one in served)
            raise SubsetNotTrained(f"{method.name} has no network for {spec.subset_name(subset)}; it serves {known}")
        if subset not in chosen:
            chosen.append(subset)
    return [subset for subset in served if subset in chosen]


def _other_spacing(cache: Cache, facts: TrainingFacts) -> tuple[str, str] | None:
    """Voxel sizes of the cache and of the training in words, where they are not the same."""
    trained = facts.spacing_mm
    if not trained or np.allclose(cache.spacing_mm, trained, rtol=0.1):
        return None
    have, want = ("x".join(f"{value:g}" for value in spacing) for spacing in (cache.spacing_mm, trained))
    return have, want


def _check_spacing(cache: Cache, facts: TrainingFacts) -> None:
    """Refuse a cache whose voxel size is not the one the weights were trained with."""
    if other := _other_spacing(cache, facts):
        have, want = other
        raise UserError(
            f"{cache.folder}: has {have} mm voxels, the model was trained at {want} mm; preprocess again at that"
        )


def _open_segmenter(model: str, work: Evaluation) -> FrozenSegmenter:
    """Open a segmenter of the studies that the model of an evaluation completes.

    Raises
    ------
    UserError
        If it is unknown, does not segment complete studies like these, or is the very model.
    """
    method, spec = open_model(model), work.spec
    full = spec.subset_name(spec.modalities)
    if method.spec.modalities != spec.modalities:
        reason = f"takes {', '.join(method.spec.modalities)}, the data have {', '.join(spec.modalities)}"
        raise UserError(f"{model}: {reason}; choose a segmenter of these modalities")
    if method.subsets != "any" and full not in method.subsets:
        raise UserError(f"{model}: serves {', '.join(method.subsets)}, not complete studies; choose another segmenter")
    if isinstance(method, PerSubsetModels):
        method = cast(Method, cast(nn.ModuleList, method.members[full])[0])
    if method.head is None or not set(method.spec.regions) & set(spec.regions):
        raise UserError(f"{model}: segments none of {', '.join(spec.regions)}; choose a model that does")
    if other := _other_spacing(work.cache, method.facts):
        raise UserError(f"{model}: was trained at {other[1]} mm, the data have {other[0]} mm; choose another segmenter")
    if "image" not in work.method.outputs:
        raise UserError(f"{work.method.name}: completes no sequences that {model} could segment; leave the latter out")
    if weights_digest(method) in {weights_digest(member) for member in _members(work.method)}:
        raise UserError(f"{model}: is the very model that is evaluated; choose another segmenter")
    method.to(device_of(work.method))
    return FrozenSegmenter(method, work.asked.windows.trained_as(method.facts))
