"""FGMF: what is generated and what is not, each term by hand, and who learns from what."""

from dataclasses import replace

import pytest
import torch
from conftest import build_preset, make_batch

from anymri.methods import StepContext
from anymri.methods.fgmf import FGMF, Correlation, emphasised_l1
from anymri.nn.dual_attention import position_divergence
from anymri.types import GLIOMA

ALL = torch.ones(1, 4, dtype=torch.bool)
OWN = GLIOMA.available(("t1c", "flair"))[None]
SIZE = (8, 8, 12)


@pytest.fixture
def network():
    return build_preset(FGMF, "tiny", widths=(2, 4)).eval()


@pytest.fixture
def batch():
    return make_batch(SIZE, ALL, OWN)


def step(network, batch):
    return network.training_step(batch, StepContext(network.stages[0]))


def moved(module):
    return any(parameter.grad is not None and bool(parameter.grad.any()) for parameter in module.parameters())


def test_given_channels_stay_what_they_are_and_missing_ones_are_generated(network, batch):
    generated = network.generate(batch.image, OWN)
    completed = network.complete(batch.image, generated, OWN)
    assert torch.equal(completed[OWN], batch.image[OWN])
    assert torch.equal(completed[~OWN], generated[~OWN])
    assert generated.shape == batch.image.shape


def test_the_segmentation_reads_the_generated_images(network, batch, monkeypatch):
    with torch.no_grad():
        before, whole = (network.predict(batch.image, row).logits for row in (OWN, ALL))
        generate = network.generate
        monkeypatch.setattr(network, "generate", lambda image, available: generate(image, available) + 1.0)
        assert not torch.allclose(network.predict(batch.image, OWN).logits, before, atol=1e-4)
        assert torch.equal(network.predict(batch.image, ALL).logits, whole)


def test_segmentation_alone_teaches_the_generator_what_is_missing(network, batch):
    network.config = replace(network.config, generation_weight=0.0, correlation_weight=0.0)
    step(network, batch).loss.backward()
    heads = {code: moved(head) for code, head in network.generator_heads.items()}
    assert heads == {"t1": True, "t1c": False, "t2": True, "flair": False}
    network.zero_grad()
    step(network, batch._replace(available=ALL)).loss.backward()
    assert not moved(network.generator_decoder)


def test_a_hidden_sequence_is_the_target_of_its_generation_alone(network, batch):
    other = batch._replace(image=torch.where(OWN.reshape(1, 4, 1, 1, 1), batch.image, 3.0))
    ours, theirs = step(network, batch).logs, step(network, other).logs
    assert ours["generation"] != theirs["generation"]
    assert {name: ours[name] for name in ("dice", "correlation")} == {
        name: theirs[name] for name in ("dice", "correlation")
    }


def test_generation_by_hand_weights_the_tumour_and_skips_what_does_not_exist():
    image = torch.tensor([[1.0, 2.0], [5.0, 5.0]]).reshape(1, 2, 1, 1, 2)
    target = torch.tensor([[0.0, 4.0], [torch.nan, torch.nan]]).reshape(1, 2, 1, 1, 2)
    inside = torch.tensor([False, True]).reshape(1, 1, 1, 2)
    present = torch.tensor([[True, False]])
    assert emphasised_l1(image, target, present, inside, 2.0) == pytest.approx((1 * 1 + 2 * 2) / 3)


def test_correlation_expresses_by_a_quadratic():
    correlation = Correlation(2)
    with torch.no_grad():
        correlation.second.weight.zero_()
        correlation.second.bias.copy_(torch.tensor([2.0, 0.5, 3.0, 1.0, -1.0, 4.0]))
    x = torch.randn(1, 2, 2, 2, 2)
    expected = torch.stack([2 * x[:, 0] ** 2 + 3 * x[:, 0] - 1, 0.5 * x[:, 1] ** 2 + x[:, 1] + 4], dim=1)
    torch.testing.assert_close(correlation(x), expected)


def test_divergence_by_hand_is_zero_where_maps_coincide_up_to_a_shift():
    features = torch.log(torch.tensor([1.0, 3.0])).reshape(1, 1, 1, 1, 2)
    expressed = torch.zeros(1, 1, 1, 1, 2)
    expected = 0.25 * torch.log(torch.tensor(0.5)) + 0.75 * torch.log(torch.tensor(1.5))
    torch.testing.assert_close(position_divergence(features, expressed), expected[None])
    assert float(position_divergence(features, features + 2)) == pytest.approx(0, abs=1e-6)


def test_only_given_modalities_express_others(network):
    coarsest = [torch.randn(2, 4, 2, 2, 3, requires_grad=True) for _ in GLIOMA.modalities]
    available = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0]]).bool()
    network.correlation(coarsest, available).backward()
    expressing = {name.split("_")[0] for name, module in network.correlations.items() if moved(module)}
    assert expressing == {"t1", "t1c"}
    pairs = [(0, i, j) for i in (0,) for j in (1, 2, 3)] + [(1, i, j) for i in (0, 1) for j in range(4) if j != i]
    codes = GLIOMA.modalities
    by_hand = []
    for row, i, j in pairs:
        expressed = network.correlations[f"{codes[i]}_{codes[j]}"](coarsest[i][row, None])
        by_hand.append(position_divergence(coarsest[j][row, None], expressed))
    torch.testing.assert_close(network.correlation(coarsest, available), torch.cat(by_hand).mean())


def test_the_loss_is_the_weighted_sum(network, batch):
    output = step(network, batch)
    expected = output.logs["dice"] + output.logs["generation"] + 0.1 * output.logs["correlation"]
    torch.testing.assert_close(output.loss.detach(), expected)
