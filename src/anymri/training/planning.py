"""Spacing, patch and batch of a training, from what the cohort looks like and from the memory at hand.

The decisions go into a file before anything is trained, each with its reason; whatever the user writes wins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import ConfigDict, NonNegativeFloat, PositiveFloat, PositiveInt

from anymri.config import RunConfig, TrainingSection, override, to_plain, validate_run_config
from anymri.data.fingerprint import Fingerprint, take_fingerprint
from anymri.data.split import make_split, write_split
from anymri.files import make_folder, replace_file
from anymri.methods import Method, create, get_method
from anymri.protocol.method import divisors
from anymri.records import RECORD, read_record, write_record
from anymri.training.memory import StepMemory, memory_at_hand
from anymri.types import DataSpec, Stage, Subject, UserError

__all__ = [
    "TrainingPlan",
    "plan_cohort",
    "plan_path",
    "plan_training",
    "read_plan_spacing",
    "split_small_or_large",
    "write_plan",
]

#: Share of the free memory that a training step may take; the rest is for kernels, loading and other programs.
MEMORY_SHARE = 0.6
#: Share of the median brain that a patch has to cover, else the spacing is made coarser (nnU-Net's "lowres" rule).
COVERAGE = 0.25
#: An axis is coarse if its spacing is this many times that of the others (nnU-Net's rule).
ANISOTROPIC = 3.0
#: How often a planned training validates.
VALIDATIONS = 4
#: Patients below which none is kept for validation.
FEWEST_TO_SPLIT = 5


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """Training plan: what was decided, and why.

    Parameters
    ----------
    spacing_mm : tuple of float
        Of the cache, (D, H, W).
    config : RunConfig
        Configuration for `anymri.training.train`, with patch and batch size.
    step_gib, memory_gib : float
        Estimated memory of one training step, and what it may take.
    reasons : dict of str to str
        Decision to one line.
    fingerprint : Fingerprint
    """

    spacing_mm: tuple[float, float, float]
    config: RunConfig
    step_gib: float
    memory_gib: float
    reasons: dict[str, str]
    fingerprint: Fingerprint

    def summary(self) -> dict[str, Any]:
        """The decisions and their reasons, plain."""
        training = self.config.training
        return {
            "spacing_mm": list(self.spacing_mm),
            "patch": None if training.patch is None else list(training.patch),
            "batch_size": training.batch_size,
            "step_gib": self.step_gib,
            "memory_gib": self.memory_gib,
            "reasons": self.reasons,
        }

    def describe(self) -> str:
        """The same for people, a line each."""
        values = self.summary()
        names = [name for name in ("spacing_mm", "patch", "batch_size") if values[name] is not None]
        lines = [f"{name:>10} {values[name]} ({self.reasons[name]})" for name in names]
        if self.step_gib:
            lines.append(
                f"    memory {self.step_gib:.2g} GiB a step, of {self.memory_gib:.3g} ({self.reasons['memory']})"
            )
        return "\n".join(lines)


def plan_cohort(
    table: Path | str,
    method: dict[str, Any],
    cache: Path,
    split: Path | None = None,
    *,
    overrides: Sequence[str] | None = None,
    spacing: str | None = None,
    memory_gib: float | None = None,
) -> TrainingPlan:
    """Plan the training of a table of subjects; see `plan_training`.

    Parameters
    ----------
    table : path-like
        ``subjects.csv``.
    method : dict
        Section ``method`` of the configuration.
    cache : Path
        Where the cache will be.
    split : Path or None, default=None
        With one, the configuration also validates, four times.
    overrides : sequence of str or None, default=None
        ``KEY=VALUE`` of the configuration.
    spacing : str or None, default=None
        One number or three with commas between, in mm.
    memory_gib : float or None, default=None

    Raises
    ------
    UserError
        If an override does not fit, no subject can be read, or the memory does not suffice.
    """
    from anymri.data.index import read_subjects
    from anymri.data.preprocess import parse_spacing
    from anymri.data.specification import read_spec

    values: dict[str, Any] = {"method": dict(method), "data": {"cache": str(cache)}, "training": {}}
    if split is not None:
        values["data"]["split"] = str(split)
    for text in overrides or ():
        override(values, text)
    config = validate_run_config(values, "plan")
    given = None if spacing is None else parse_spacing([_number(part) for part in spacing.split(",")])
    fingerprint = take_fingerprint(read_subjects(table, check_files=False))
    made = plan_training(fingerprint, config, read_spec(table), spacing_mm=given, memory_gib=memory_gib)
    if split is None or "validate_every" in values["training"]:
        return made
    method_class = get_method(config.method.name)
    epochs = made.config.training.epochs or method_class.presets[config.method.preset].stages[0].epochs
    training = replace(made.config.training, validate_every=max(1, epochs // VALIDATIONS))
    return replace(made, config=replace(made.config, training=training))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan  # refused by name in parse_spacing


def split_small_or_large(subjects: Sequence[Subject], path: Path) -> Path | None:
    """Keep a fifth of the patients for validation; with fewer than five patients train on all.

    Returns
    -------
    Path or None
        The split file.
    """
    if len({subject.patient or subject.subject_id for subject in subjects}) < FEWEST_TO_SPLIT:
        return None
    return write_split(path, make_split(subjects, fractions=(0.8, 0.2, 0.0), stratify="sequences"))


def plan_training(
    fingerprint: Fingerprint,
    config: RunConfig,
    spec: DataSpec,
    *,
    spacing_mm: Sequence[float] | None = None,
    memory_gib: float | None = None,
) -> TrainingPlan:
    """Decide on spacing, patch and batch size.

    Parameters
    ----------
    fingerprint : Fingerprint
    config : RunConfig
        Method and paths; ``training.patch`` and ``training.batch_size`` are kept where they are set.
    spec : DataSpec
        Of the cohort.
    spacing_mm : sequence of float or None, default=None
        (D, H, W); None = decide.
    memory_gib : float or None, default=None
        Memory that a training step may take; None = a share of what is free here.

    Returns
    -------
    TrainingPlan

    Raises
    ------
    UserError
        If even the smallest patch does not fit into the memory.

    Notes
    -----
    As in nnU-Net [1]_: the median spacing, of a coarse axis the 10th percentile; the largest patch that fits, no larger
    than the brain; a coarser spacing where that patch covers less than a quarter of the median brain. Otherwise than
    there, the patch is no larger than the method's own of its preset, one network is planned and not several, and
    memory is that of a real training step, measured at two small patches and continued along a line.

    References
    ----------
    .. [1] Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation",
       Nature Methods 18, 2021.
    """
    method = create(config.method.name, spec=spec, preset=config.method.preset, **config.method.config)
    stages = [stage for stage in method.stages if stage.patch is not None and not method.classical]
    reasons: dict[str, str] = {}
    spacing = _choose_spacing(fingerprint, spacing_mm, reasons)
    if not stages:
        reasons["patch"] = "the method takes whole volumes"
        return TrainingPlan(
            spacing_mm=spacing, config=config, step_gib=0.0, memory_gib=0.0, reasons=reasons, fingerprint=fingerprint
        )
    budget = memory_gib or memory_at_hand(config.training) * MEMORY_SHARE
    reasons["memory"] = "given" if memory_gib else f"{MEMORY_SHARE:.0%} of what is free on this machine"
    stage = max(stages, key=lambda stage: stage.batch_size * math.prod(stage.patch or ()))
    memory = StepMemory(method, stage)
    patch, batch = _choose_patch(method, stage, config.training, memory, budget, reasons)
    if spacing_mm is None:
        spacing = _coarsen(spacing, fingerprint.brain_mm, patch, reasons)
    if config.training.patch is None:
        patch = _within_brain(method, patch, fingerprint.brain_mm, spacing, reasons)
    training = replace(config.training, patch=patch, batch_size=batch)
    return TrainingPlan(
        spacing_mm=spacing,
        config=replace(config, training=training),
        step_gib=round(memory.gib(patch, batch), 2),
        memory_gib=round(budget, 2),
        reasons=reasons,
        fingerprint=fingerprint,
    )


# --------------------------------------------------------------------------------------------------------------
# Decisions
# --------------------------------------------------------------------------------------------------------------


def _choose_spacing(
    fingerprint: Fingerprint, given: Sequence[float] | None, reasons: dict[str, str]
) -> tuple[float, float, float]:
    if given is not None:
        reasons["spacing_mm"] = "given"
        return float(given[0]), float(given[1]), float(given[2])
    reasons["spacing_mm"] = f"median of {fingerprint.opened} subjects"
    spacing = list(fingerprint.spacing_mm)
    coarse = int(np.argmax(spacing))
    if spacing[coarse] > ANISOTROPIC * max(value for axis, value in enumerate(spacing) if axis != coarse):
        spacing[coarse] = max(fingerprint.finest_spacing_mm[coarse], min(spacing))
        reasons["spacing_mm"] += ", 10th percentile along the coarse axis"
    return spacing[0], spacing[1], spacing[2]


def _choose_patch(
    method: Method,
    stage: Stage,
    training: TrainingSection,
    memory: StepMemory,
    budget: float,
    reasons: dict[str, str],
) -> tuple[tuple[int, int, int], int]:
    """The method's own patch and batch size, less where the memory does not suffice."""
    assert stage.patch is not None
    patch, batch = list(training.patch or stage.patch), training.batch_size or stage.batch_size
    own = f"the {method.config.preset} preset's"
    reasons["patch"] = "given" if training.patch else own
    reasons["batch_size"] = "given" if training.batch_size else own
    shrinkable = training.patch is None and method.patch is None
    while memory.gib(patch, batch) > budget:
        longest, steps = int(np.argmax(patch)), divisors(method)
        if batch > 1 and training.batch_size is None:
            batch -= 1
            reasons["batch_size"] = f"{own} {stage.batch_size} does not fit into {budget:.1f} GiB"
        elif shrinkable and patch[longest] > 2 * steps[longest]:
            patch[longest] -= steps[longest]
            reasons["patch"] = f"{own} {_times(stage.patch)} does not fit into {budget:.1f} GiB"
        else:
            raise UserError(
                f"{method.name}: a training step takes about {memory.gib(patch, batch):.1f} GiB, {budget:.1f} GiB are "
                "at hand; choose the preset tiny, a smaller patch, or another machine"
            )
    return (patch[0], patch[1], patch[2]), batch


def _coarsen(
    spacing: tuple[float, float, float],
    brain_mm: Sequence[float],
    patch: Sequence[int],
    reasons: dict[str, str],
) -> tuple[float, float, float]:
    """Make the finest axes coarser until a patch covers a quarter of the brain, then round up to 0.1 mm."""
    values = np.array(spacing)
    brain = np.array(brain_mm)
    while np.prod(np.minimum(patch, brain / values)) < COVERAGE * np.prod(brain / values):
        values[values <= values.min() * 1.03] *= 1.03
    if (values == spacing).all():
        return spacing
    values = np.where(values == spacing, values, np.ceil(values * 10 - 1e-6) / 10)
    reasons["spacing_mm"] += f"; made coarser so that a patch covers {COVERAGE:.0%} of the median brain"
    return float(values[0]), float(values[1]), float(values[2])


def _within_brain(
    method: Method,
    patch: tuple[int, int, int],
    brain_mm: Sequence[float],
    spacing: Sequence[float],
    reasons: dict[str, str],
) -> tuple[int, int, int]:
    if method.patch is not None:
        return patch
    needed = [
        max(2 * step, math.ceil(brain / value / step) * step)
        for brain, value, step in zip(brain_mm, spacing, divisors(method), strict=True)
    ]
    smaller = [min(pair) for pair in zip(patch, needed, strict=True)]
    if smaller != list(patch):
        reasons["patch"] += "; no larger than the median brain"
    return smaller[0], smaller[1], smaller[2]


def _times(patch: Sequence[int]) -> str:
    return "x".join(map(str, patch))


# --------------------------------------------------------------------------------------------------------------
# Files
# --------------------------------------------------------------------------------------------------------------


def plan_path(config: Path | str) -> Path:
    """Where the plan of a configuration lies: ``run.plan.json`` for ``run.yaml``."""
    config = Path(config)
    return config.with_name(f"{config.stem}.plan.json")


def write_plan(path: Path | str, plan: TrainingPlan) -> Path:
    """Write the configuration, and beside it the plan with its reasons.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    UserError
        If a file cannot be written.
    """
    import yaml

    path = Path(path)
    make_folder(path.parent)
    content = {key: value for key, value in asdict(plan).items() if key != "config"}
    content["patch"], content["batch_size"] = plan.config.training.patch, plan.config.training.batch_size
    write_record(plan_path(path), {"format": 1, **content})
    plain = to_plain(plan.config)
    standard = to_plain(validate_run_config({"method": {"name": plain["method"]["name"]}, "data": {"cache": ""}}))
    short = {
        section: {k: v for k, v in values.items() if k in ("name", "cache", "preset") or v != standard[section][k]}
        for section, values in plain.items()
    }
    with replace_file(path) as handle:
        handle.write(_comments(plan).encode())
        handle.write(yaml.safe_dump(short, sort_keys=False, default_flow_style=None).encode())
    return path


def _comments(plan: TrainingPlan) -> str:
    lines = ["Made by anymri plan; change what you like."]
    lines += [f"{name}: {reason}" for name, reason in plan.reasons.items()]
    lines += [f"cache spacing (D, H, W): {' x '.join(f'{value:g}' for value in plan.spacing_mm)} mm"]
    if plan.step_gib:
        lines += [f"a training step takes about {plan.step_gib:.2g} GiB of {plan.memory_gib:.2g} GiB"]
    return "".join(f"# {line}\n" for line in lines)


def read_plan_spacing(config: Path | str) -> tuple[float, float, float]:
    """Spacing (D, H, W) in mm of the plan beside a configuration.

    Raises
    ------
    UserError
        If there is no plan or it is damaged.
    """
    path = plan_path(config)
    if not path.exists():
        raise UserError(f"{path}: does not exist; make it with anymri plan, or give --spacing")
    return read_record(path, _PlanRecord, "make it anew with anymri plan").spacing_mm


@dataclass(frozen=True, kw_only=True)
class _PlanRecord:
    """Content of the plan beside a configuration."""

    __pydantic_config__: ClassVar[ConfigDict] = RECORD

    format: Literal[1]
    spacing_mm: tuple[PositiveFloat, PositiveFloat, PositiveFloat]
    step_gib: NonNegativeFloat
    memory_gib: NonNegativeFloat
    reasons: dict[str, str]
    fingerprint: Fingerprint
    patch: tuple[PositiveInt, PositiveInt, PositiveInt] | None
    batch_size: PositiveInt | None
