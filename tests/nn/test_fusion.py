"""Fusion of whichever modalities are there: moments and products of Gaussians."""

import math

import pytest
import torch

from anymri.nn.fusion import expert, masked_mean, masked_moments, product_of_experts


def features(count, *shape):
    return list(torch.randn(count, *shape))


def test_moments_by_hand():
    stack = [torch.tensor([[[1.0]]]), torch.tensor([[[4.0]]]), torch.tensor([[[100.0]]])]
    mean, variance = masked_moments(stack, torch.tensor([[True, True, False]]))
    assert (mean.item(), variance.item()) == (2.5, 2.25)  # population variance


def test_the_mean_alone_is_the_mean_of_the_moments_and_drops_what_is_absent():
    stack = features(3, 2, 4, 5)
    shown = torch.tensor([[True, False, True], [False, True, False]])
    stack[1][0], stack[0][1] = torch.nan, torch.nan
    mean = masked_mean(stack, shown)
    torch.testing.assert_close(mean[0], (stack[0][0] + stack[2][0]) / 2)
    assert torch.equal(mean[1], stack[1][1])
    assert torch.equal(mean, masked_moments(stack, shown)[0])


def test_one_modality_has_variance_zero_and_a_finite_gradient():
    stack = [x.requires_grad_() for x in features(3, 2, 4, 5)]
    mean, variance = masked_moments(stack, torch.tensor([[False, True, False]] * 2))
    assert torch.equal(mean, stack[1])
    assert torch.equal(variance, torch.zeros_like(variance))
    (mean.sum() + variance.sum()).backward()
    assert stack[1].grad.isfinite().all()


def test_equal_features_have_variance_zero():
    x = torch.randn(1, 4, 5)
    mean, variance = masked_moments([x, x.clone()], torch.ones(1, 2, dtype=torch.bool))
    assert torch.equal(mean, x)
    assert torch.equal(variance, torch.zeros_like(x))


def test_the_mean_of_two_is_the_mean_of_the_single_means():
    stack = features(2, 1, 4, 5)
    both, _ = masked_moments(stack, torch.tensor([[True, True]]))
    first, _ = masked_moments(stack, torch.tensor([[True, False]]))
    second, _ = masked_moments(stack, torch.tensor([[False, True]]))
    torch.testing.assert_close(both, (first + second) / 2)


def test_absent_features_reach_neither_result_nor_gradient():
    shown = torch.tensor([[True, False], [True, True]])
    results = []
    for hidden in (torch.nan, 7.0):
        first, second = torch.ones(2, 3, 4, requires_grad=True), torch.ones(2, 3, 4)
        second[0] = hidden
        second.requires_grad_()
        mean, variance = masked_moments([first, second], shown)
        (mean.sum() + variance.sum()).backward()
        assert second.grad[0].abs().sum() == 0
        results.append((mean.detach(), variance.detach(), first.grad))
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


def test_the_product_of_no_expert_is_the_prior():
    mean, log_variance = product_of_experts([expert(*features(2, 1, 3, 4))], torch.tensor([[False]]))
    assert torch.equal(mean, torch.zeros(1, 3, 4))
    torch.testing.assert_close(log_variance, torch.zeros(1, 3, 4), atol=1e-6, rtol=0)


def test_one_unit_expert_halves_mean_and_variance():
    mean, log_variance = product_of_experts([expert(torch.tensor([[3.0]]), torch.zeros(1, 1))], torch.tensor([[True]]))
    assert mean.item() == pytest.approx(1.5, abs=1e-5)
    assert log_variance.exp().item() == pytest.approx(0.5, abs=1e-5)


def test_two_experts_by_hand():
    experts = [
        expert(torch.tensor([[1.0]]), torch.tensor([[math.log(0.5)]])),
        expert(torch.tensor([[-2.0]]), torch.tensor([[math.log(0.25)]])),
    ]
    mean, log_variance = product_of_experts(experts, torch.tensor([[True, True]]))
    assert mean.item() == pytest.approx((2 * 1 + 4 * -2) / 7, abs=1e-5)
    assert log_variance.exp().item() == pytest.approx(1 / 7, abs=1e-5)


def test_an_expert_never_adds_variance_and_their_order_is_irrelevant():
    experts = [expert(*features(2, 1, 3, 4)) for _ in range(3)]
    everything = torch.ones(1, 3, dtype=torch.bool)
    _, one = product_of_experts(experts, torch.tensor([[True, False, False]]))
    mean, three = product_of_experts(experts, everything)
    assert (three <= one).all()
    other, _ = product_of_experts(experts[::-1], everything)
    torch.testing.assert_close(mean, other)


def test_an_absent_expert_may_hold_anything():
    present, absent = expert(*features(2, 1, 3, 4)), (torch.full((1, 3, 4), torch.nan),) * 2
    shown = torch.tensor([[True, False]])
    mean, log_variance = product_of_experts([present, absent], shown)
    alone = product_of_experts([present], shown[:, :1])
    assert torch.equal(mean, alone[0])
    assert torch.equal(log_variance, alone[1])
