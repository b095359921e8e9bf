"""Checks of what a method says of itself, and of its weights on disk."""

from __future__ import annotations

import re
from typing import Any

from anymri.data.samplers import SAMPLERS
from anymri.locks import scratch_folder
from anymri.protocol.facts import TrainingFacts
from anymri.protocol.method import Method, divisors
from anymri.testing.candidate import Candidate, predict_pair
from anymri.testing.expect import demand, demand_same
from anymri.types import GLIOMA

__all__ = ["CHECKS"]


def saved_weights_predict_the_same(candidate: Candidate) -> None:
    method = candidate.method
    with scratch_folder() as folder:
        path = folder / "model.safetensors"
        method.save(path, TrainingFacts(window=(16, 16, 16)))
        again = type(method).load(path, GLIOMA)
        demand([file.name for file in folder.iterdir()] == [path.name], "saving leaves other files")
    demand(again.config == method.config, "the configuration is not saved as it is")
    demand_same(
        predict_pair(candidate, method=again), candidate.once(predict_pair), "loaded weights predict something else"
    )


def a_method_says_who_it_is(candidate: Candidate) -> None:
    cls, info = candidate.cls, candidate.cls.info
    demand(cls.predict is Method.predict, "predict is not overridden")
    demand(set(cls.presets) == {"paper", "tiny"}, "presets are paper and tiny")
    for field in ("title", "family", "task", "reference", "novelty", "weakness"):
        demand(bool(getattr(info, field)), f"info.{field} is empty")
    demand(1970 < info.year < 2100, f"info.year = {info.year}")
    tasks = ("segmentation", "synthesis", "segmentation and synthesis", "classification")
    demand(info.task in tasks, f"info.task = {info.task!r}; one of {', '.join(tasks)}")
    # Papers of PMLR have no DOI: volume and pages find them.
    found = info.family == "baseline" or info.doi or info.arxiv or re.search("PMLR|unpublished", info.reference)
    demand(bool(found), "info names no doi or arxiv; without a paper, begin info.reference with 'unpublished'")
    for section in ("Parameters", "Notes"):
        demand(f"{section}\n    ---" in (cls.__doc__ or ""), f"the docstring has no section {section}")


def tiny_has_the_skeleton_of_paper(candidate: Candidate) -> None:
    paper, tiny = candidate.preset("paper"), candidate.preset("tiny")
    ours, theirs = ({re.sub(r"\.\d+", ".*", key) for key in method.state_dict()} for method in (tiny, paper))
    demand(ours == theirs, f"names of weights differ: {', '.join(sorted(ours ^ theirs)[:3])}")
    size = sum(parameter.numel() for parameter in tiny.parameters())
    demand(size < 1_000_000, f"tiny has {size} parameters")
    demand([stage.name for stage in paper.stages] == [stage.name for stage in tiny.stages], "stages differ")


def stages_use_known_samplers_and_windows_the_network_accepts(candidate: Candidate) -> None:
    for preset in ("paper", "tiny"):
        method = candidate.preset(preset)
        for stage in method.stages:
            demand(stage.sampler in SAMPLERS, f"{stage.sampler!r} is not one of {', '.join(SAMPLERS)}")
            fits = all(size % step == 0 for size, step in zip(stage.patch or (), divisors(method), strict=False))
            demand(fits, f"{preset}: a patch of {stage.patch} is no multiple of {divisors(method)}")


CHECKS: tuple[Any, ...] = (
    saved_weights_predict_the_same,
    a_method_says_who_it_is,
    tiny_has_the_skeleton_of_paper,
    stages_use_known_samplers_and_windows_the_network_accepts,
)
