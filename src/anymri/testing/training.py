"""Checks of `training_step`: what is not shown teaches only where the method says so, and everything learns."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import SkipTest
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from anymri.protocol.method import Method, StepContext
from anymri.testing.batches import POISONS, SUBSETS, draw_fewer, make_batch, poison
from anymri.testing.candidate import Candidate, only_synthesises
from anymri.testing.expect import demand, demand_same, same
from anymri.testing.stage import begin_stage, further_batch, needed
from anymri.testing.training_run import (
    START_STAGE,
    Recording,
    incomplete,
    modules_that_predict,
    record,
    run_turns,
    without_dropout,
)
from anymri.training.machine import trains_in_bf16
from anymri.types import UNLABELLED, Batch

__all__ = ["CHECKS"]

STEPS = 20


def _incomplete_batch(candidate: Candidate, present: Tensor | None = None) -> Batch:
    """Subjects that lack sequences, and are shown fewer than they have; NaN where not present."""
    usual, available = incomplete(candidate.method)
    return make_batch(candidate.training_size, usual if present is None else present, available, background=True)


def _trained(candidate: Candidate, batch: Batch, backward: bool = True) -> dict[str, dict]:
    """`run_turns`, or what `fit` leaves behind, of a new method; buffers (running statistics) too."""
    method = candidate.build()
    if method.classical:
        logs = method.fit([batch], StepContext(method.stages[0]))
        demand(bool(logs), "fit logs nothing")
        demand(all(value.isfinite().all() for value in logs.values()), "fit's logs are not finite")
        return {"fit": {"logs": logs, "buffers": dict(method.state_dict())}}
    results: dict[str, dict] = {}
    for turn, result in run_turns(method, batch, backward=backward).items():
        loss, logs = result["output"]
        results[turn] = {"loss": loss, "gradients": result["gradients"], "logs": logs}
    results["buffers"] = dict(method.named_buffers())
    return results


def what_is_not_present_never_reaches_loss_or_gradients(candidate: Candidate) -> None:
    """Nor running statistics: three contents of the channels that do not exist, one result."""
    batch = _incomplete_batch(candidate)
    first = _trained(candidate, batch)
    for turn, result in first.items():
        if "loss" in result:
            demand(result["loss"].isfinite(), f"{turn}: the loss is not finite where absent sequences are NaN")
            for key, gradient in result["gradients"].items():
                demand(gradient.isfinite().all(), f"{turn}: the gradient of {key} is not finite")
    for kind in POISONS if not batch.present.all() else ():
        other = batch._replace(image=poison(batch.image, ~batch.present, kind))
        for turn, result in _trained(candidate, other).items() if kind != "NaN" else ():
            demand_same(result, first[turn], f"{turn}: absent sequences hold {kind} instead of NaN")


def hidden_sequences_teach_only_where_declared(candidate: Candidate) -> None:
    """A sequence that is present but not shown changes no loss term but those of `info.learns_from_hidden`."""
    method = candidate.method
    batch = _incomplete_batch(candidate)
    hidden = batch.present & ~batch.available
    if method.classical:
        # Trained once for all subsets, or on `needs` alone.
        hidden &= ~method.spec.available(method.needs if isinstance(method.needs, tuple) else method.spec.modalities)
    if not hidden.any():
        raise SkipTest("everything present is learned from")
    statistics = torch.where(hidden[..., None], 3 * batch.statistics, batch.statistics)
    others = {
        kind: batch._replace(image=poison(batch.image, hidden, kind), statistics=statistics)
        for kind in ("another brain", "NaN")
    }
    if not needed(method).any():
        others["nothing, being absent"] = _incomplete_batch(candidate, batch.available)
    declared = method.info.learns_from_hidden
    read: set[str] = set()
    unread: set[str] = set()
    with without_dropout():
        first = _trained(candidate, batch, backward=not declared)
        for kind, other in others.items():
            for turn, result in _trained(candidate, other, backward=not declared).items():
                words = f"{turn}: sequences present but not shown hold {kind}"
                terms = result.get("logs", {})
                reading = {term: pattern for term in terms for pattern in declared if re.fullmatch(pattern, term)}
                if not reading and not (declared and turn == "buffers"):
                    demand_same(result, first[turn], words)
                for term, value in terms.items():
                    if term not in reading:
                        demand_same(value, first[turn]["logs"][term], f"{words}, {term}")
                    else:
                        changed = not same(value, first[turn]["logs"][term]).all()
                        (read if changed else unread).add(reading[term])
    for pattern in unread - read:
        raise AssertionError(f"info.learns_from_hidden names {pattern!r}, which reads nothing that is hidden")


def the_label_is_a_target_and_never_an_input(candidate: Candidate) -> None:
    """What the modules that predict compute in a training step is the same whatever the label."""
    batch, first = candidate.once(_two_rows), candidate.once(_recording)
    assert batch.label is not None
    other = torch.where(batch.label == 0, next(iter(candidate.method.spec.labels.values())), 0)
    second = _record(candidate, batch._replace(label=other))
    for (name, ours), (_, theirs) in zip(first.outputs, second.outputs, strict=True):
        demand_same(ours, theirs, f"{name} computes something else with another label")


def rows_of_a_batch_do_not_meet(candidate: Candidate) -> None:
    """Another second subject changes nothing of the first, unless `info.couples_rows` says why it may."""
    batch, recording = candidate.once(_two_rows), candidate.once(_recording)
    changed = batch.image.clone()
    changed[1] = changed[1].flip(-1) * 1.5
    coupled = None
    other = _record(candidate, batch._replace(image=changed))
    for (name, first), (_, second) in zip(recording.outputs, other.outputs, strict=True):
        if name.startswith(START_STAGE):
            continue
        # Wherever the batch axis lies, at least the first row's half of the numbers stays.
        demand(first.shape == second.shape, f"{name}: the shape depends on another row's values")
        if 2 * same(first, second).sum() < first.numel():
            coupled = name
            break
    if candidate.cls.info.couples_rows:
        demand(coupled is not None, "info.couples_rows is declared, but rows do not meet")
    else:
        demand(coupled is None, f"{coupled} lets one row change another, as batch statistics do")


def rows_without_a_label_map_leave_loss_and_gradients_finite(candidate: Candidate) -> None:
    """Where the method uses unlabelled subjects: one such row, and a batch of nothing else."""
    if "unlabelled" not in candidate.cls.uses:
        raise SkipTest("trains on labelled subjects alone")
    batch = candidate.once(_two_rows)
    assert batch.label is not None
    for rows in ([1], [0, 1]):
        label = batch.label.clone()
        label[rows] = UNLABELLED
        words = f"{len(rows)} of 2 rows without a label map"
        for turn, result in _trained(candidate, batch._replace(label=label)).items():
            if result.get("loss") is not None:
                demand(result["loss"].isfinite(), f"{turn}: the loss is not finite with {words}")
                for key, gradient in result["gradients"].items():
                    demand(gradient.isfinite().all(), f"{turn}: the gradient of {key} is not finite with {words}")


def batch_statistics_leave_out_rows_that_lack_the_sequence(candidate: Candidate) -> None:
    """Zeros that stand for an absent sequence enter no batch normalisation, declared or not."""
    if not any(isinstance(module, _BatchNorm) for module in candidate.method.modules()):
        return
    batch, recording = candidate.once(_two_rows), candidate.once(_recording)
    other = _record(candidate, batch._replace(image=1.5 * batch.image + 1))
    for (name, first), (_, second) in zip(recording.normalised, other.normalised, strict=True):
        for a, b in zip(first, second, strict=True):
            demand(not same(a, b).all(), f"{name} normalises a row that comes from nothing shown with the others")


def _two_rows(candidate: Candidate) -> Batch:
    """Two subjects that share no sequence, as far as the method allows; without background."""
    method = candidate.method
    available = torch.tensor([[1, 0, 1, 0], [0, 1, 0, 1]]).bool()
    present = torch.ones_like(available) if needed(method).any() else available
    if method.subsets != "any":
        available = method.spec.available(method.subset_modalities).expand_as(available)
        present = torch.ones_like(available)
    return make_batch(candidate.training_size, present, available)


def _recorded(candidate: Candidate) -> tuple[Method, set[str]]:
    """The method that takes all recorded steps, and which of its modules predict."""
    method = _by_gradients(candidate)
    return method, modules_that_predict(method, candidate.once(_two_rows))


def _record(candidate: Candidate, batch: Batch) -> Recording:
    return record(*candidate.once(_recorded), batch)


def _recording(candidate: Candidate) -> Recording:
    """Of `_two_rows` as they are."""
    return _record(candidate, candidate.once(_two_rows))


def _by_gradients(candidate: Candidate) -> Method:
    """A new method; classical systems, which `fit` trains, are left out."""
    if candidate.cls.classical:
        raise SkipTest("trained by fit")
    return candidate.build()


def gradients_reach_every_parameter_that_is_not_declared_untrained(candidate: Candidate) -> None:
    method = candidate.method
    reached = {
        key
        for result in ({} if method.classical else candidate.full_run()).values()
        for key, gradient in result["gradients"].items()
        if gradient.abs().sum() > 0
    }
    for key, _ in method.named_parameters():
        declared = any(re.fullmatch(pattern, key) for pattern in method.info.untrained)
        demand(declared or key in reached, f"{key} gets no gradient")
        demand(not (declared and key in reached), f"{key} is declared untrained but gets a gradient")


def every_logged_loss_term_is_positive_and_teaches(candidate: Candidate) -> None:
    method = _by_gradients(candidate)
    live: dict[int, tuple[Tensor, Tensor]] = {}
    detach = torch.Tensor.detach

    def remember(tensor: Tensor) -> Tensor:
        result = detach(tensor)
        live[id(result)] = (tensor, result)  # keeping the result keeps its id from being used again
        return result

    batch = candidate.full_batch(rows=1)
    parameters = list(method.parameters())
    with patch.object(torch.Tensor, "detach", remember):
        for stage in method.stages:
            for turn in begin_stage(method, stage, batch):
                live.clear()
                ctx = StepContext(
                    stage,
                    turn,
                    progress=0.5,
                    draw_available=draw_fewer,
                    next_batch=lambda role: further_batch(method, batch, role),
                )
                output = method.training_step(batch, ctx)
                demand(bool(output.logs), f"{stage.name}.{turn} logs no term")
                for term, value in output.logs.items():
                    demand(value > 0, f"{term} is {value.item():.3g}")
                    demand(id(value) in live, f"{term} is not detached: log `term.detach()`")
                    demand(_teaches(live[id(value)][0], parameters), f"{term} teaches no parameter")


def _teaches(term: Tensor, parameters: Sequence[Tensor]) -> bool:
    if not term.requires_grad:
        return False
    # Gradients of the nearest parameters cost little, and nearly always decide.
    for some in (_nearest(term, parameters), parameters):
        gradients = torch.autograd.grad(term, some, retain_graph=True, allow_unused=True)
        if any(gradient is not None and bool(gradient.abs().sum() > 0) for gradient in gradients):
            return True
    return False


def _nearest(term: Tensor, parameters: Sequence[Tensor], count: int = 4) -> list[Tensor]:
    """The parameters that a term depends on over the fewest operations."""
    wanted = {id(parameter) for parameter in parameters}
    found: list[Tensor] = []
    waiting, seen = deque([term.grad_fn]), {term.grad_fn}
    while waiting and len(found) < count:
        node: Any = waiting.popleft()
        leaf = getattr(node, "variable", None)
        if leaf is not None and id(leaf) in wanted:
            found.append(leaf)
        new = {nxt for nxt, _ in node.next_functions if nxt is not None} - seen
        waiting.extend(new)
        seen |= new
    return found or list(parameters)


def the_drawn_subset_decides_what_is_learned_from(candidate: Candidate) -> None:
    if candidate.cls.classical or candidate.method.subsets != "any":
        raise SkipTest("no subset is drawn")
    batch = candidate.full_batch(rows=1)._replace(available=SUBSETS[[1]])
    few, many = run_turns(candidate.build(), batch, backward=False), candidate.full_run()
    for turn, result in few.items():
        demand(result["output"].loss != many[turn]["output"].loss, f"{turn}: the subset drawn changes nothing")


def a_shared_stage_is_the_same_for_every_subset(candidate: Candidate) -> None:
    """It starts with the same weights and learns the same, or runs of several subsets could not share it."""
    shared = {stage.name for stage in candidate.method.stages if stage.shared}
    if not shared:
        raise SkipTest("no stage is shared")
    results = []
    for subset in ("t1c+flair", "t1"):
        method = candidate.build(subset=subset)
        batch = candidate.full_batch(method, rows=1)
        turns = run_turns(method, batch._replace(available=batch.present))
        results.append({turn: result for turn, result in turns.items() if turn.partition(".")[0] in shared})
    for turn, first in results[0].items():
        second = results[1][turn]
        demand_same(first["output"].loss, second["output"].loss, f"{turn}: the loss depends on the subset")
        demand(
            first["gradients"].keys() == second["gradients"].keys(), f"{turn}: what is trained depends on the subset"
        )
        for key, gradient in first["gradients"].items():
            demand_same(gradient, second["gradients"][key], f"{turn}: the gradient of {key} depends on the subset")


def bfloat16_autocast_trains(candidate: Candidate) -> None:
    # Without AMX oneDNN's weight gradients of small volumes read memory nobody wrote.
    if not trains_in_bf16("cpu"):
        raise SkipTest("no bfloat16 in hardware")
    method = _by_gradients(candidate)
    with torch.autocast("cpu", torch.bfloat16):
        results = run_turns(method, _incomplete_batch(candidate))
    for turn, result in results.items():
        demand(result["output"].loss.isfinite(), f"{turn}: the loss is not finite")
        demand(result["output"].loss.dtype == torch.float32, f"{turn}: the loss is not in 32 bits")
        demand(all(gradient.isfinite().all() for gradient in result["gradients"].values()), f"{turn}: gradients")


def twenty_steps_on_one_batch_lower_the_loss(candidate: Candidate) -> None:
    """By a tenth, in at most twenty steps."""
    method = _by_gradients(candidate).train()
    batch = candidate.full_batch(rows=1)
    if only_synthesises(method):  # no noise foretells another's; and within the scale of any method
        assert batch.label is not None
        batch = batch._replace(image=(0.25 * batch.label[:, None]).expand_as(batch.image))
    # What a discriminator loses the networks win, and the other way round: only their own loss must fall.
    losses: dict[str, list[float]] = {}
    for step in _steps(method, batch):
        for turn, loss in step.items():
            losses.setdefault(turn, []).append(loss)
        stuck = [
            turn
            for turn, values in losses.items()
            if not (len(values) > 3 and sum(values[-3:]) / 3 < 0.9 * values[0]) and not turn.startswith("discriminator")
        ]
        if not stuck:
            return
    raise AssertionError(f"{', '.join(stuck)}: the loss did not fall by a tenth in {STEPS} steps")


def _steps(method: Method, batch: Batch) -> Iterator[dict[str, float]]:
    """Loss of every turn, step by step; the last turn learns from it only if another step is asked for."""
    stage = method.stages[-1]
    optimizers = {
        turn: torch.optim.Adam(groups, lr=method.optimizer_settings(stage, turn).lr, fused=True)
        for turn, groups in begin_stage(method, stage, batch).items()
    }
    for _ in range(STEPS):
        losses = {}
        last = [*optimizers][-1]
        for turn, optimizer in optimizers.items():
            with torch.autocast("cpu", torch.bfloat16, enabled=trains_in_bf16("cpu")):
                ctx = StepContext(stage, turn, next_batch=lambda role: further_batch(method, batch, role))
                loss: Any = method.training_step(batch, ctx).loss
            if loss is not None:
                losses[turn] = loss.item()
            if turn == last:
                yield losses
            if loss is None:  # the turn skips this step
                continue
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                method.after_step(stage, turn, ctx)


CHECKS: tuple[Any, ...] = (
    what_is_not_present_never_reaches_loss_or_gradients,
    hidden_sequences_teach_only_where_declared,
    the_label_is_a_target_and_never_an_input,
    rows_of_a_batch_do_not_meet,
    rows_without_a_label_map_leave_loss_and_gradients_finite,
    batch_statistics_leave_out_rows_that_lack_the_sequence,
    gradients_reach_every_parameter_that_is_not_declared_untrained,
    every_logged_loss_term_is_positive_and_teaches,
    the_drawn_subset_decides_what_is_learned_from,
    a_shared_stage_is_the_same_for_every_subset,
    bfloat16_autocast_trains,
    twenty_steps_on_one_batch_lower_the_loss,
)
