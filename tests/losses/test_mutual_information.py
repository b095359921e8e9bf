"""Bounds of the mutual information, against Gaussians whose information is known."""

import math

import pytest
import torch

from anymri.losses.mutual_information import BOUNDS, donsker_varadhan, info_nce, jensen_shannon

COUNT, DIMENSIONS = 1500, 2


def pairs(rho):
    """Pairs of Gaussians of that correlation in every dimension."""
    generator = torch.Generator().manual_seed(0)
    first, noise = torch.randn(2, COUNT, DIMENSIONS, generator=generator)
    return first, rho * first + math.sqrt(1 - rho**2) * noise


def truth(rho):
    return -0.5 * DIMENSIONS * math.log(1 - rho**2)


def log_ratio(first, second, rho):
    """``log p(u, v) - log p(u) p(v)``, the critic with which the bound of Donsker and Varadhan is the information."""
    rest = 1 - rho**2
    u, v = first[:, None], second[None]
    return (-0.5 * math.log(rest) - (rho**2 * (u**2 + v**2) - 2 * rho * u * v) / (2 * rest)).sum(dim=2)


def test_bounds_by_hand():
    scores = torch.tensor([[2.0, 0.0], [1.0, 3.0]])
    assert donsker_varadhan(scores).item() == pytest.approx(2.5 - math.log((1 + math.e) / 2))
    assert info_nce(scores).item() == pytest.approx(
        (2 - math.log(math.e**2 + 1) + 3 - math.log(math.e + math.e**3)) / 2 + math.log(2)
    )

    def softplus(x):
        return math.log(1 + math.exp(x))

    expected = -(softplus(-2) + softplus(-3)) / 2 - (softplus(0) + softplus(1)) / 2
    assert jensen_shannon(scores).item() == pytest.approx(expected)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8])
def test_the_best_critic_gives_the_information(rho):
    scores = log_ratio(*pairs(rho), rho)
    assert donsker_varadhan(scores).item() == pytest.approx(truth(rho), abs=0.06)
    assert info_nce(scores).item() == pytest.approx(truth(rho), abs=0.06)


@pytest.mark.parametrize("bound", BOUNDS.values())
def test_more_information_is_a_larger_bound_and_none_the_least(bound):
    found = [bound(log_ratio(*pairs(rho), rho)).item() for rho in (0.0, 0.4, 0.7, 0.9)]
    assert found == sorted(found)
    assert found[0] == pytest.approx(bound(torch.zeros(4, 4)).item(), abs=1e-5)
    # A critic that is right about other features than these is worse than the right one.
    first, second = pairs(0.7)
    assert bound(log_ratio(first, second, -0.7)) < bound(log_ratio(first, second, 0.7))


def test_info_nce_never_exceeds_the_logarithm_of_the_number_of_pairs():
    scores = 1000 * torch.eye(8)
    assert info_nce(scores).item() == pytest.approx(math.log(8), abs=1e-6)
    assert info_nce(scores) <= math.log(8) + 1e-6
    assert jensen_shannon(scores).item() == pytest.approx(-math.log(2))


@pytest.mark.parametrize("bound", BOUNDS.values())
def test_one_sample_has_nothing_to_compare_with(bound):
    for wrong in (torch.zeros(1, 1), torch.zeros(2, 3)):
        with pytest.raises(ValueError, match="not those of at least two samples"):
            bound(wrong)
