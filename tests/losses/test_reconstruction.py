"""Reconstruction, divergence and weight penalty, against numbers done by hand."""

import math

import pytest
import torch
from torch import nn

from anymri.losses.reconstruction import gaussian_kl, masked_l1, masked_mean_squared_error, weight_penalty


def test_mean_squared_error_counts_present_channels_only():
    image = torch.zeros(2, 2, 1, 1, 2, requires_grad=True)
    target = torch.tensor([[[1.0, 3.0], [torch.nan] * 2], [[torch.nan] * 2, [2.0, 0.0]]]).reshape(2, 2, 1, 1, 2)
    present = torch.tensor([[True, False], [False, True]])
    loss = masked_mean_squared_error(image, target, present)
    assert loss.item() == pytest.approx((1 + 9 + 4 + 0) / 4)
    loss.backward()
    assert image.grad.isfinite().all()
    assert image.grad[0, 1].abs().sum() == 0
    assert masked_mean_squared_error(image, target, torch.zeros(2, 2, dtype=torch.bool)) == 0


def test_divergence_of_gaussians_by_hand():
    mean, log_variance = torch.tensor([1.0]), torch.tensor([math.log(4.0)])
    assert gaussian_kl(mean, log_variance, mean, log_variance).item() == pytest.approx(0, abs=1e-6)
    assert gaussian_kl(mean, log_variance).item() == pytest.approx(0.5 * (-math.log(4) - 1 + 4 + 1), abs=1e-5)
    # KL(N(1, 4) || N(3, 2)) = (ln(2/4) - 1 + (4 + 4) / 2) / 2
    other = gaussian_kl(mean, log_variance, torch.tensor([3.0]), torch.tensor([math.log(2.0)]))
    assert other.item() == pytest.approx(0.5 * (math.log(0.5) - 1 + 4), abs=1e-5)


def test_weight_penalty_is_the_mean_over_convolutions():
    layers = nn.Sequential(nn.Conv3d(1, 1, 1), nn.Conv3d(1, 2, 1), nn.Linear(3, 3))
    with torch.no_grad():
        layers[0].weight.fill_(2.0)
        layers[1].weight.fill_(3.0)
    assert weight_penalty(layers).item() == pytest.approx((0.5 * 4 + 0.5 * 18) / 2)


def test_mean_absolute_error_counts_chosen_voxels_only():
    image = torch.zeros(1, 2, 1, 1, 2, requires_grad=True)
    target = torch.tensor([1.0, -3.0, torch.nan, 2.0]).reshape(1, 2, 1, 1, 2)
    where = torch.tensor([True, True, False, False]).reshape(1, 2, 1, 1, 2)
    loss = masked_l1(image, target, where)
    assert loss.item() == pytest.approx(2.0)
    loss.backward()
    assert image.grad.flatten().tolist() == [-0.5, 0.5, 0.0, 0.0]
