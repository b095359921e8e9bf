"""Learning rate by hand, optimisers by their settings, moving average by hand."""

import pytest
import torch
from torch import nn

from anymri.training.optimization import WeightAverage, lr_factor, make_optimizer, set_lr
from anymri.types import OptimizerSettings


@pytest.mark.parametrize(
    ("settings", "progress", "expected"),
    [
        (OptimizerSettings(), 0.7, 1.0),
        (OptimizerSettings(schedule="poly", power=0.9), 0.0, 1.0),
        (OptimizerSettings(schedule="poly", power=0.9), 0.5, 0.5**0.9),
        (OptimizerSettings(schedule="cosine"), 0.5, 0.5),
        (OptimizerSettings(schedule="cosine"), 1.0, 0.0),
        # Five divisions by 4 at sixths of the stage.
        (OptimizerSettings(schedule="step"), 0.16, 1.0),
        (OptimizerSettings(schedule="step"), 1 / 6, 1 / 4),
        (OptimizerSettings(schedule="step"), 2 / 6, 1 / 16),
        (OptimizerSettings(schedule="step"), 5 / 6, 4.0**-5),
        (OptimizerSettings(schedule="step"), 0.999, 4.0**-5),
        (OptimizerSettings(schedule="poly", power=1.0, hold=0.5), 0.5, 1.0),
        (OptimizerSettings(schedule="poly", power=1.0, hold=0.5), 0.75, 0.5),
        # A tenth of warm-up in steps of a hundredth: the first step has a tenth of the rate, not none.
        (OptimizerSettings(warmup=0.1), 0.0, 0.1),
        (OptimizerSettings(warmup=0.1), 0.04, 0.5),
        (OptimizerSettings(warmup=0.1), 0.09, 1.0),
        (OptimizerSettings(warmup=0.1, schedule="cosine"), 0.5, 0.5),
    ],
)
def test_rate_follows_progress(settings, progress, expected):
    assert lr_factor(settings, progress, 0.01) == pytest.approx(expected, abs=1e-12)


def test_groups_keep_their_ratio_to_the_rate():
    layers = nn.Linear(2, 2), nn.Linear(2, 2)
    groups = [{"params": layers[0].parameters(), "lr": 1e-4}, {"params": layers[1].parameters()}]
    optimizer = make_optimizer(groups, OptimizerSettings("adamw", lr=1e-3, weight_decay=0.1, betas=(0.8, 0.9)), lr=1e-2)
    assert isinstance(optimizer, torch.optim.AdamW)
    set_lr(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([5e-4, 5e-3])
    assert optimizer.param_groups[0]["betas"] == (0.8, 0.9)
    assert optimizer.param_groups[1]["weight_decay"] == 0.1


def test_the_momentum_of_sgd_looks_ahead_where_asked():
    parameters = [{"params": nn.Linear(1, 1).parameters()}]
    optimizer = make_optimizer(parameters, OptimizerSettings("sgd", nesterov=True))
    assert optimizer.param_groups[0]["nesterov"]


def test_the_first_beta_is_the_momentum_of_sgd():
    optimizer = make_optimizer([{"params": nn.Linear(1, 1).parameters()}], OptimizerSettings("sgd", betas=(0.7, 0.0)))
    assert optimizer.param_groups[0]["momentum"] == 0.7


def test_a_parameter_whose_first_gradient_comes_late_moves_as_in_its_first_step():
    early, late = (nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = make_optimizer([{"params": [early, late]}], OptimizerSettings("sgd", lr=0.1, betas=(0.9, 0.0)))
    early.grad = torch.ones(2)
    optimizer.step()
    assert torch.equal(late, torch.ones(2))
    late.grad = torch.ones(2)
    optimizer.step()
    torch.testing.assert_close(late, torch.full((2,), 0.9))
    torch.testing.assert_close(early, torch.full((2,), 1 - 0.1 - 0.19))


def test_average_of_the_weights_by_hand():
    layer = nn.BatchNorm1d(1)
    average = WeightAverage(layer, decay=0.5)
    with torch.no_grad():
        layer.weight.fill_(11.0)
    average.update()  # decay (1 + 0) / (10 + 0)
    assert average.values["weight"].item() == pytest.approx(0.1 * 1 + 0.9 * 11)
    for _ in range(20):
        average.update()
    with torch.no_grad():
        layer.weight.fill_(13.0)
    before = average.values["weight"].item()
    average.update()  # by now the decay itself
    assert average.values["weight"].item() == pytest.approx(0.5 * before + 0.5 * 13)
    with average.applied():
        assert layer.weight.item() == average.values["weight"].item()
    assert layer.weight.item() == 13.0
    assert "num_batches_tracked" not in average.values


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_one_kernel_over_all_parameters_updates_channels_last_weights_rightly(name):
    """Against torch's plain loop; gradients have other strides than weights where an axis has length one."""
    found = []
    for fused in (True, False):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv3d(1, 3, 3), nn.Tanh(), nn.Conv3d(3, 4, 1))
        net.to(memory_format=torch.channels_last_3d)
        optimizer = make_optimizer([{"params": net.parameters()}], OptimizerSettings(name, lr=0.1, weight_decay=0.1))
        assert optimizer.param_groups[0]["fused"]
        optimizer.param_groups[0]["fused"] = fused
        for step in range(3):
            image = torch.randn(2, 1, 6, 6, 6, generator=torch.Generator().manual_seed(step))
            optimizer.zero_grad()
            net(image.contiguous(memory_format=torch.channels_last_3d)).pow(3).mean().backward()
            optimizer.step()
        found.append([parameter.detach().clone() for parameter in net.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
