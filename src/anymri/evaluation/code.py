"""Hash of the code that scored a model, and what is told of how it was trained."""

from __future__ import annotations

from functools import cache
from typing import Any

from anymri.methods import Method, PerSubsetModels
from anymri.source_code import code_hash

__all__ = ["scoring_code", "training_of"]

#: Modules that scores depend on besides the method's own: windows, masks, metrics, baselines.
SCORING = (
    "anymri.data.resample",
    "anymri.evaluation.baselines",
    "anymri.evaluation.downstream",
    "anymri.evaluation.metrics.calibration",
    "anymri.evaluation.metrics.lesionwise",
    "anymri.evaluation.metrics.segmentation",
    "anymri.evaluation.metrics.synthesis",
    "anymri.evaluation.score_subject",
    "anymri.evaluation.scoring",
    "anymri.evaluation.setup",
    "anymri.inference.kernels",
    "anymri.inference.labels",
    "anymri.inference.restore",
    "anymri.inference.sliding_window",
    "anymri.inference.subject",
)


def scoring_code(cls: type[Method]) -> str | None:
    """Hash of a method's code, of what it imports from anymri, and of prediction and metrics.

    Returns
    -------
    str or None
        See `anymri.source_code.code_hash`. None for a class without a source file.
    """
    return _hash(cls.__module__)


@cache
def _hash(module: str) -> str | None:
    return code_hash([module], SCORING)


def training_of(method: Method | PerSubsetModels) -> list[dict[str, Any]]:
    """What the weights say of their training, one entry per network.

    Returns
    -------
    list of dict
        ``subset``, ``subjects`` (how many), ``dropped`` (reason to number of subjects that were left out) and ``code``
        (see `anymri.training.code.training_code`), each None where the weights do not say.
    """
    found = []
    for member in method.every if isinstance(method, PerSubsetModels) else [method]:
        facts = member.facts
        subjects = facts.training_subjects
        found.append(
            {
                "subset": None if member.subsets == "any" else "/".join(member.subsets),
                "subjects": None if subjects is None else len(subjects),
                "dropped": facts.dropped_subjects,
                "code": facts.code,
            }
        )
    return found
