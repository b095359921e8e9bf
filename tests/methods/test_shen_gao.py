"""Shen & Gao: what is fused, the terms by hand, and whose weights each turn moves."""

import math
from dataclasses import replace

import pytest
import torch
from conftest import build_preset, make_batch, run_turns
from torch.nn import functional as F

from anymri.methods import StepContext
from anymri.methods.shen_gao import ShenGao
from anymri.types import GLIOMA, Head

SIZE = (8, 8, 8)
ALL = torch.ones(1, 4, dtype=torch.bool)
FEW = GLIOMA.available(("t1", "flair"))[None]


@pytest.fixture
def network():
    return build_preset(ShenGao, "tiny", widths=(4, 8), discriminator_widths=(8,)).eval()


def test_an_absent_sequence_is_an_encoded_channel_of_zeros(network):
    """Encoders without a shift: zeros in, zeros out, so dropping a channel and zeroing it are one."""
    image = torch.randn(1, 4, *SIZE)
    zeroed = torch.where(FEW[..., None, None, None], image, 0.0)
    features = network.encode(zeroed, ALL)
    assert all((level == 0).all() for level in features["t2"])
    torch.testing.assert_close(network.decode(features, ALL).logits, network.predict(image, FEW).logits)


def test_each_level_is_one_convolution_over_all_sequences(network):
    features = network.encode(torch.randn(1, 4, *SIZE), ALL)
    stacked = torch.cat([features[code][1] for code in GLIOMA.modalities], dim=1)
    weight = torch.cat([network.joins[1].convs[code].weight for code in GLIOMA.modalities], dim=1)
    expected = F.leaky_relu(F.instance_norm(F.conv3d(stacked, weight)), 0.2)
    torch.testing.assert_close(network._join(features, ALL)[1], expected, atol=1e-5, rtol=1e-4)


def test_the_terms_by_hand(network):
    batch = make_batch(SIZE, ALL, FEW)
    results = run_turns(network, batch)
    output, judged = (results[f"train.{turn}"]["output"] for turn in ("network", "discriminator"))
    g = Head("softmax", ("background", "ncr", "edema", "et")).target(batch.label)
    total = 0.0
    with torch.inference_mode():
        scores = {}
        for name, shown in (("full", ALL), ("dropped", FEW)):
            features = network.encode(batch.image, shown)
            logits = network.decode(features, shown).logits
            p = logits.softmax(1)
            entropy = F.cross_entropy(logits, batch.label).item()
            dice = 1 - sum(2 * (p * g)[0, c].sum() / (p[0, c].sum() + g[0, c].sum()) for c in range(4)).item() / 4
            assert output.logs[f"{name}_cross_entropy"].item() == pytest.approx(entropy, rel=1e-4)
            assert output.logs[f"{name}_dice"].item() == pytest.approx(dice, rel=1e-4)
            total += entropy + dice
            scores[name] = network.discriminator(network._join(features, shown)[-1]).sigmoid()
    adversarial = -scores["dropped"].log().mean().item()
    assert output.logs["adversarial"].item() == pytest.approx(adversarial, rel=1e-4)
    assert output.loss.item() == pytest.approx(total + 0.01 * adversarial, rel=1e-4)
    expected = -scores["full"].log().mean().item() - (1 - scores["dropped"]).log().mean().item()
    assert judged.loss.item() == pytest.approx(expected, rel=1e-4)


def test_with_nothing_dropped_features_are_the_same_and_a_discriminator_at_a_half_loses_log_4(network):
    batch = make_batch(SIZE, ALL, ALL)
    for full, dropped in zip(*network._both(batch), strict=True):
        assert torch.equal(full, dropped)
    for parameter in network.discriminator.parameters():
        torch.nn.init.zeros_(parameter)
    output = network.training_step(batch, StepContext(network.stages[0], "discriminator"))
    assert output.loss.item() == pytest.approx(math.log(4))


def test_each_turn_moves_its_own_weights(network):
    results = run_turns(network, make_batch(SIZE, ALL, FEW))
    parts = {turn: {key.partition(".")[0] for key in result["gradients"]} for turn, result in results.items()}
    assert parts == {"train.network": {"encoders", "joins", "decoder"}, "train.discriminator": {"discriminator"}}


def test_the_adversary_adapts_the_dropped_case_and_leaves_the_complete_one(network, monkeypatch):
    """The claim. Encoders of hidden sequences would get its gradient through the complete case alone."""
    for name in ("cross_entropy", "dice_plain"):
        monkeypatch.setattr(f"anymri.methods.shen_gao.{name}", lambda first, target: 0 * first.sum())
    network.config = replace(network.config, adversarial_weight=1.0)
    network.training_step(make_batch(SIZE, ALL, FEW), StepContext(network.stages[0], "network")).loss.backward()
    moved = {
        code: bool(encoder.stages[0].first.conv.weight.grad.abs().sum() > 0)
        for code, encoder in network.encoders.items()
    }
    assert moved == {"t1": True, "t1c": False, "t2": False, "flair": True}


def test_a_step_against_the_adversary_makes_dropped_features_look_complete(network):
    batch = make_batch(SIZE, ALL, FEW)

    def looks_complete():
        return network.discriminator(network._both(batch)[1][-1]).sigmoid().mean()

    before = looks_complete()
    weights = [p for part in (network.encoders, network.joins) for p in part.parameters() if p.ndim > 1]
    score = network.training_step(batch, StepContext(network.stages[0], "network")).logs["adversarial"]
    assert score.item() > 0
    loss = F.softplus(-network.discriminator(network._both(batch)[1][-1])).mean()
    gradients = torch.autograd.grad(loss, weights, allow_unused=True)
    with torch.no_grad():
        for weight, gradient in zip(weights, gradients, strict=True):
            if gradient is not None:
                weight -= 0.5 * gradient
    assert looks_complete() > before
