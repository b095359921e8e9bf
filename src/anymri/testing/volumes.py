"""Checks over whole volumes: encoding once for all subsets gives what one prediction per subset gives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from anymri.data.study import Study
from anymri.inference.kernels import SameKernels
from anymri.inference.sliding_window import SubjectPrediction, WindowSettings, predict_subject
from anymri.protocol.method import Method
from anymri.testing.batches import brains
from anymri.testing.candidate import Candidate
from anymri.testing.expect import demand, demand_same
from anymri.types import STATISTICS

__all__ = ["CHECKS"]

#: Largest difference of windows in a batch to windows alone, in standard deviations of the output.
BATCHED = 1e-5

Subset = tuple[str, ...]


class _Volume(NamedTuple):
    """A subject of two windows, and what is predicted for it window by window.

    Attributes
    ----------
    method : Method
    study : Study
    settings : WindowSettings
    predicted : dict of tuple of str to SubjectPrediction
    """

    method: Method
    study: Study
    settings: WindowSettings
    predicted: dict[Subset, SubjectPrediction]


def _volume(candidate: Candidate) -> _Volume:
    """Two windows along the last axis, a brain of its own for every modality, intensity statistics."""
    method = candidate.build()
    window = method.patch or candidate.size
    modalities = len(method.spec.modalities)
    shape = (*window[:2], window[2] + window[2] // 2)
    inside = brains(1, modalities, shape)[0]
    image = torch.where(inside, torch.randn(inside.shape, generator=torch.Generator().manual_seed(5)), 0.0)
    statistics = torch.arange(1.0, 1 + len(STATISTICS)).expand(modalities, -1).clone()
    method.median_statistics = statistics[None].clone()
    study, settings = Study.from_arrays(image.numpy(), statistics.numpy()), WindowSettings(window=window)
    return _Volume(method, study, settings, predict_subject(method, study, _chosen(method, candidate.rows), settings))


def _chosen(method: Method, rows: Tensor) -> list[Subset]:
    """A few subsets of each size, or the one that the method serves."""
    picked = rows[[0, 3, 5, 10, 14]] if len(rows) == 15 else rows[:1]
    return [tuple(code for code, shown in zip(method.spec.modalities, row, strict=True) if shown) for row in picked]


def all_subsets_at_once_are_the_plain_loop_bit_for_bit(candidate: Candidate) -> None:
    method, study, settings, together = candidate.once(_volume)
    for subset in together:
        alone = predict_subject(method, study, [subset], settings)[subset]
        for key in ("probability", "image", "class_probability"):
            words = f"{key} of {'+'.join(subset)} depends on the subsets predicted with it"
            demand_same(getattr(together[subset], key), getattr(alone, key), words)


def several_windows_at_a_time_agree_to_rounding(candidate: Candidate) -> None:
    method, study, settings, _ = candidate.once(_volume)
    assert settings.window is not None
    image, width = torch.from_numpy(study.image), settings.window[-1]
    windows = torch.stack([image[..., :width], image[..., -width:], image[..., 1 : width + 1]])
    row = candidate.rows[0] if "logits" not in method.outputs else candidate.rows[-1]
    available = row.expand(3, -1)
    with torch.inference_mode(), SameKernels(3):
        together = method.predict(windows, available)
        alone = [method.predict(windows[row : row + 1], available[:1]) for row in range(3)]
    for key in method.outputs:
        whole, parts = getattr(together, key), torch.cat([getattr(part, key) for part in alone])
        known = whole.isfinite()
        demand(torch.equal(known, parts.isfinite()), f"{key} is not finite in the same voxels")
        demand(known.any(), f"{key} is finite nowhere")
        gap = (whole - parts)[known].abs().max() / whole[known].std().clamp(min=1e-12)
        demand(gap <= BATCHED, f"{key}: {gap:.1e} standard deviations")


def a_volume_in_batches_of_windows_is_the_volume_one_window_at_a_time(candidate: Candidate) -> None:
    method, study, settings, single = candidate.once(_volume)
    several = predict_subject(method, study, list(single), replace(settings, batch_size=2))
    for subset in single:
        for key in ("probability", "image", "class_probability"):
            first, second = getattr(single[subset], key), getattr(several[subset], key)
            demand((first is None) == (second is None), f"{key} is there in one of both")
            if first is not None:
                torch.testing.assert_close(second, first, rtol=0, atol=1e-5, equal_nan=True)


CHECKS: tuple[Any, ...] = (
    all_subsets_at_once_are_the_plain_loop_bit_for_bit,
    several_windows_at_a_time_agree_to_rounding,
    a_volume_in_batches_of_windows_is_the_volume_one_window_at_a_time,
)
