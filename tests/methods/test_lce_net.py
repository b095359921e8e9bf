"""LCE-Net: the expression of a latent by the others, by hand; what ties them; what stands for an absent modality."""

import pytest
import torch
from conftest import build_preset, make_batch

from anymri.methods import StepContext
from anymri.methods.lce_net import LCENet
from anymri.nn.dual_attention import position_divergence
from anymri.types import GLIOMA

ALL = torch.ones(1, 4, dtype=torch.bool)
PAIR = GLIOMA.available(("t1", "flair"))[None]


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    return build_preset(LCENet, "tiny", widths=(2, 4, 6))


def latents(rows=1):
    return list(torch.randn(4, rows, 6, 3, 3, 3))


def test_an_expression_is_linear_in_the_other_latents(tiny):
    given = latents()
    for i, estimator in enumerate(tiny.estimators.values()):
        factors = estimator(given[i]).reshape(4, 6, 1, 1, 1)
        expected = sum((factors[j] * given[j] for j in range(4) if j != i), factors[i].expand_as(given[i]))
        torch.testing.assert_close(tiny.express(given, ALL)[i], expected)


def test_with_its_coefficients_held_a_latent_has_no_part_in_its_own_expression(tiny):
    given = [latent.requires_grad_() for latent in latents()]
    for estimator in tiny.estimators.values():
        torch.nn.init.zeros_(estimator.out.weight)
    tiny.express(given, ALL)[1].sum().backward()
    assert given[1].grad.abs().max() == 0
    assert all(given[j].grad.abs().sum() > 0 for j in (0, 2, 3))


def test_the_divergence_vanishes_where_latents_are_such_combinations(tiny):
    given = latents(2)
    estimator = tiny.estimators["t2"]
    torch.nn.init.zeros_(estimator.out.weight)
    factors = estimator.out.bias.detach().reshape(4, 6, 1, 1, 1)
    given[2] = factors[0] * given[0] + factors[1] * given[1] + factors[3] * given[3] + factors[2]
    expressed = tiny.express(given, ALL.expand(2, 4))
    torch.testing.assert_close(position_divergence(given[2], expressed[2]), torch.zeros(2), atol=1e-5, rtol=0)
    assert position_divergence(given[0], expressed[0]).min() > 1e-3


def test_an_absent_modality_is_expressed_by_the_mean_coefficients_of_training(tiny):
    given = latents()
    given[1], given[2] = torch.zeros_like(given[1]), torch.zeros_like(given[2])
    mean = tiny.estimators["t1c"].mean
    mean.copy_(torch.randn(24))
    factors = mean.reshape(4, 6, 1, 1, 1)
    expected = factors[0] * given[0] + factors[3] * given[3] + factors[1]
    torch.testing.assert_close(tiny.express(given, PAIR)[1], expected)


def test_the_mean_follows_the_coefficients_of_what_is_present(tiny):
    batch = make_batch((8, 8, 8), PAIR, PAIR)
    ctx = StepContext(tiny.stages[0])
    tiny.training_step(batch, ctx)
    with torch.no_grad():
        latent = tiny.encode(batch.image, PAIR)["t1"][-1]
        tiny.after_step(tiny.stages[0], "main", ctx)
        expected = 0.1 * tiny.estimators["t1"](latent)[0]
    torch.testing.assert_close(tiny.estimators["t1"].mean, expected)
    assert tiny.estimators["t2"].mean.abs().max() == 0


def test_the_loss_is_the_weighted_sum(tiny):
    output = tiny.training_step(make_batch((8, 8, 8), ALL, PAIR), StepContext(tiny.stages[0]))
    logs = {name: value.item() for name, value in output.logs.items()}
    expected = logs["dice"] + 0.1 * logs["reconstruction"] + 0.1 * logs["correlation"]
    assert output.loss.item() == pytest.approx(expected, rel=1e-5)
