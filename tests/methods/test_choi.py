"""Choi's single-stage distillation: Barlow Twins by hand and by its properties, and who learns."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import build_preset, make_batch
from torch.nn import functional as F

from anymri.methods import StepContext
from anymri.methods.choi import Choi, barlow_twins, cross_correlation
from anymri.types import GLIOMA

ALL = torch.ones(1, 4, dtype=torch.bool)
OWN = GLIOMA.available(("t1c", "flair"))[None]


@pytest.fixture
def network():
    return build_preset(Choi, "tiny", subset="t1c+flair", widths=(8, 8, 8), blocks=(1, 1, 1), projected=4)


@pytest.fixture
def batch():
    return make_batch((8, 8, 12), ALL, OWN)


def step(network, batch):
    return network.training_step(batch, StepContext(network.stages[0]))


def moved(path):
    return any(parameter.grad is not None and bool(parameter.grad.any()) for parameter in path.parameters())


def decorrelated(rows=2, channels=3, size=(3, 4, 5)):
    """Maps whose channels are orthogonal over all voxels and rows."""
    samples = torch.randn(rows * 60, channels)
    orthogonal = torch.linalg.qr(samples - samples.mean(dim=0))[0]
    return orthogonal.reshape(rows, 60, channels).movedim(2, 1).reshape(rows, channels, *size)


def test_cross_correlation_is_that_of_an_independent_implementation():
    first, second = torch.randn(2, 2, 3, 4, 4, 4)
    samples = [x.movedim(1, -1).reshape(-1, 3).T.numpy() for x in (first, second)]
    expected = np.corrcoef(*samples)[:3, 3:]
    np.testing.assert_allclose(cross_correlation(first, second).numpy(), expected, atol=1e-5)


def test_barlow_twins_by_hand():
    # Two samples: the first channels agree, the second ones oppose each other and the first.
    first = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).reshape(1, 2, 1, 1, 2)
    second = torch.tensor([[1.0, -1.0], [1.0, -1.0]]).reshape(1, 2, 1, 1, 2)
    # C = [[1, 1], [-1, -1]]: the diagonal gives 0 + 4, the rest 1 + 1.
    assert float(barlow_twins(first, second, 0.5)) == pytest.approx(4 + 0.5 * 2, rel=1e-5)


def test_equal_decorrelated_bottlenecks_have_nothing_to_lose():
    z = decorrelated()
    assert float(barlow_twins(z, z, 5e-3)) == pytest.approx(0, abs=1e-4)
    swapped = barlow_twins(z, z[:, [1, 0, 2]], 5e-3)
    assert float(swapped) == pytest.approx(2 + 2 * 5e-3, rel=1e-3)


def test_scale_shift_and_order_of_samples_do_not_matter():
    first, second = torch.randn(2, 2, 3, 4, 4, 4)
    loss = barlow_twins(first, second, 5e-3)
    scale, shift = torch.tensor([0.5, 2.0, 7.0]).reshape(1, 3, 1, 1, 1), torch.randn(1, 3, 1, 1, 1)
    torch.testing.assert_close(barlow_twins(first * scale + shift, second, 5e-3), loss, rtol=1e-4, atol=1e-5)
    order = torch.randperm(64)
    moved_first, moved_second = (x.flatten(2)[..., order].reshape_as(x) for x in (first, second))
    torch.testing.assert_close(barlow_twins(moved_first, moved_second, 5e-3), loss, rtol=1e-4, atol=1e-5)
    assert not torch.isclose(barlow_twins(moved_first, second, 5e-3), loss, rtol=1e-2)


def test_constant_channels_give_a_finite_gradient():
    x = torch.zeros(1, 3, 2, 2, 2, requires_grad=True)
    barlow_twins(x, torch.randn(1, 3, 2, 2, 2), 5e-3).backward()
    assert x.grad.isfinite().all()


def test_one_step_trains_both_paths_and_barlow_twins_the_teacher_unless_told_otherwise(network, batch, monkeypatch):
    step(network, batch).loss.backward()
    assert moved(network.teacher)
    assert moved(network.student)
    monkeypatch.setattr("anymri.methods.choi._at_every_level", lambda logits, target: torch.zeros(()))
    for follows in (True, False):
        network.config = replace(network.config, teacher_follows=follows)
        network.zero_grad()
        step(network, batch).loss.backward()
        assert (moved(network.teacher), moved(network.student)) == (follows, True)


def test_cross_entropy_counts_every_level_of_the_decoder(network, batch):
    logs = step(network, batch).logs
    logits = network.student(network.take_own(batch.image, ALL)).logits
    assert [tuple(level.shape[2:]) for level in logits] == [(4, 4, 6), (8, 8, 12)]
    coarse = F.cross_entropy(logits[0], batch.label[:, 1::2, 1::2, 1::2])
    expected = 2 / 3 * F.cross_entropy(logits[1], batch.label) + 1 / 3 * coarse
    torch.testing.assert_close(logs["student_cross_entropy"], expected.detach())


def test_the_loss_is_the_weighted_sum(network, batch):
    output = step(network, batch)
    expected = output.logs["teacher_cross_entropy"] + output.logs["student_cross_entropy"]
    torch.testing.assert_close(output.loss.detach(), expected + 0.01 * output.logs["barlow_twins"])
