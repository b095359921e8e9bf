"""Encoding a volume once for all subsets gives what one prediction a subset gives: the promise of `predict_subject`."""

from __future__ import annotations

import torch
from conftest import size_for

from anymri.inference.kernels import SameKernels
from anymri.inference.sliding_window import predict_subject
from anymri.types import STATISTICS

#: Largest difference of windows in a batch to windows alone, in standard deviations of the output.
BATCHED = 1e-5


def volume(method):
    """Two windows along the last axis, a brain box of its own for every modality, intensity statistics."""
    generator = torch.Generator().manual_seed(5)
    window = size_for(method)
    modalities = len(method.spec.modalities)
    shape = (*window[:2], window[2] + window[2] // 2)
    image = torch.randn((modalities, *shape), generator=generator)
    boxes = torch.zeros((modalities, 2, 3), dtype=torch.int64)
    for m in range(modalities):
        boxes[m] = torch.tensor([[0, m % 2, 1], [shape[0], shape[1] - m, shape[2] - m % 3]])
        inside = torch.zeros(shape, dtype=torch.bool)
        inside[tuple(slice(int(a), int(b)) for a, b in boxes[m].T)] = True
        image[m][~inside] = 0
    statistics = torch.arange(1.0, 1 + len(STATISTICS)).expand(modalities, -1).clone()
    method.median_statistics = statistics[None].clone()
    return (image, statistics, boxes), window


def chosen(method, rows):
    """A few subsets of each size, or the one that the method serves."""
    picked = rows[[0, 3, 5, 10, 14]] if len(rows) == 15 else rows[:1]
    return [tuple(code for code, shown in zip(method.spec.modalities, row, strict=True) if shown) for row in picked]


def test_all_subsets_at_once_are_the_plain_loop_bit_for_bit(method, rows):
    subject, window = volume(method)
    subsets = chosen(method, rows)
    together = predict_subject(method, *subject, subsets, window=window, precision="32")
    for subset in subsets:
        alone = predict_subject(method, *subject, [subset], window=window, precision="32")[subset]
        for key in ("probability", "image"):
            first, second = getattr(together[subset], key), getattr(alone, key)
            assert (first is None) == (second is None)
            if first is not None:
                assert torch.equal(first.nan_to_num(7.0), second.nan_to_num(7.0)), (subset, key)


def test_several_windows_at_a_time_agree_to_rounding(method, rows):
    (image, _, _), window = volume(method)
    width = window[-1]
    windows = torch.stack([image[..., :width], image[..., -width:], image[..., 1 : width + 1]])
    chosen = rows[0] if "logits" not in method.outputs else rows[-1]
    available = chosen.expand(3, -1)
    with torch.inference_mode(), SameKernels(3):
        together = method.predict(windows, available)
        alone = [method.predict(windows[row : row + 1], available[:1]) for row in range(3)]
    for key in method.outputs:
        whole, parts = getattr(together, key), torch.cat([getattr(part, key) for part in alone])
        known = whole.isfinite()
        assert torch.equal(known, parts.isfinite())
        assert known.any()
        gap = (whole - parts)[known].abs().max() / whole[known].std().clamp(min=1e-12)
        assert gap <= BATCHED, f"{key}: {gap:.1e} standard deviations"


def test_a_volume_in_batches_of_windows_is_the_volume_one_window_at_a_time(method, rows):
    subject, window = volume(method)
    subsets = chosen(method, rows)
    options = {"window": window, "overlap": 0.7, "precision": "32"}
    single = predict_subject(method, *subject, subsets, **options)
    several = predict_subject(method, *subject, subsets, batch_size=3, **options)
    for subset in subsets:
        for key in ("probability", "image"):
            first, second = getattr(single[subset], key), getattr(several[subset], key)
            assert (first is None) == (second is None)
            if first is not None:
                torch.testing.assert_close(second, first, rtol=0, atol=1e-5, equal_nan=True)
