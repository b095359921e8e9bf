"""The result of a run: its weights and what prediction and evaluation must know about them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from anymri.data.cache import SUBJECT_FACTS
from anymri.evaluation.seen import training_images
from anymri.protocol.facts import TrainingFacts
from anymri.protocol.finite import find_non_finite
from anymri.training.preparation import PreparedRun
from anymri.types import Stage, UserError
from anymri.zoo import open_model

__all__ = ["require_finite_weights", "save_model", "window_of"]


def save_model(plan: PreparedRun, out: Path) -> None:
    """Write ``model.safetensors``: its presence says that the run is finished.

    Raises
    ------
    UserError
        If a weight is NaN or infinite.
    """
    require_finite_weights(plan, out, "at the end of training")
    entry = plan.cache.entry(plan.training_subjects[0])
    head = plan.method.head
    window = window_of(plan, plan.stages[-1])
    images = set(training_images(plan.cache, plan.training_subjects))
    if plan.config.training.init is not None:
        images |= set(open_model(plan.config.training.init).facts.training_images or ())
    names = {f"{key}_names": tuple(plan.facts[key]["names"]) for key in SUBJECT_FACTS if key in plan.facts}
    facts = TrainingFacts(
        run=plan.facts["run"],
        preset=plan.config.method.preset,
        seed=plan.config.training.seed,
        fold=plan.config.data.fold,
        spacing_mm=plan.cache.spacing_mm or entry.spacing_mm,
        window=window,
        head=asdict(head) if head else None,
        dataset_fingerprint=plan.facts["dataset_fingerprint"],
        training_subjects=plan.training_subjects,
        training_images=tuple(sorted(images)),
        dropped_subjects=plan.facts["dropped_subjects"],
        hidden=plan.facts.get("hidden"),
        code=plan.facts["code"],
        **names,
    )
    plan.method.eval().save(out / "model.safetensors", facts)


def require_finite_weights(plan: PreparedRun, out: Path, when: str) -> None:
    """Stop a training whose weights are no numbers any more, also where its loss does not show it.

    Raises
    ------
    UserError
        If a weight or a buffer became NaN or infinite.
    """
    if wrong := find_non_finite(plan.method.state_dict(), plan.unset):
        where = f"{len(wrong)} tensors, first {wrong[0]}"
        raise UserError(f"{out}: the weights hold NaN or infinite values {when} ({where}); lower training.lr")


def window_of(plan: PreparedRun, stage: Stage) -> tuple[int, int, int] | None:
    """Window to predict with: the method's own or the training crop."""
    return plan.method.patch or stage.patch
