"""ACN: the authors' numbers, co-training, what each turn moves, and the entropy map."""

import math
from dataclasses import replace

import pytest
import record_acn as recording
import torch
from conftest import build_preset, make_batch
from parity import Golden, parameters
from recorder import images, label

from anymri.errors import UserError
from anymri.losses.co_training import ramp_up
from anymri.methods import StepContext
from anymri.methods.acn import ACN, ACNConfig, entropy_map
from anymri.types import GLIOMA

ALL = torch.ones(1, 4, dtype=torch.bool)
TO_OURS = [recording.ORDER.index(code) for code in GLIOMA.modalities]


@pytest.fixture(scope="module")
def golden():
    return Golden("acn")


@pytest.fixture(scope="module")
def imported(golden):
    entries = {name: golden.filled(name) for name in ("model", "d_main", "d_feature")}
    return lambda subset: ACN.import_state_dict(
        {**entries, "model_mono": golden.filled(f"model_mono.{subset}")}, f"official:{subset}"
    )


@pytest.fixture
def network():
    return build_preset(ACN, "tiny", subset="t1c+flair").eval()


def full_batch(size=(16, 16, 16)):
    return make_batch(size, ALL, GLIOMA.available(("t1c", "flair"))[None])


# -------------------------------------------------------------------------------------------------- the authors' code


def test_every_module_has_the_authors_size(golden):
    with torch.device("meta"):
        network = ACN(ACNConfig(subset="t1c"))
    theirs = golden.parameters
    assert parameters(network.full) == theirs["model.unet"] == 4_704_228
    assert parameters(network.missing) == theirs["model_mono.unet"] == 4_702_932
    assert parameters(network.transfer) == theirs["model_mono.VID_branch"]
    assert parameters(network.entropy_discriminator) == theirs["d_main"] == 11_060_161
    assert parameters(network.knowledge_discriminator) == theirs["d_feature"] == 4_438_273


@pytest.mark.parametrize("subset", recording.SUBSETS)
def test_logits_are_the_authors(golden, imported, subset):
    network = imported(subset)
    # Theirs holds arrays (x, y, z) and the channels edema, ncr, et, background.
    image = images(recording.ORDER, recording.SIZE)[:, TO_OURS].transpose(2, 4)
    shown = GLIOMA.available(subset.split("+"))[None]
    with torch.inference_mode():
        for name, logits in (("full", network.full(image)[0]), (subset, network.predict(image, shown).logits)):
            assert golden.difference(name, logits[:, [1, 0, 2, 3]].transpose(2, 4)) <= 1e-4
        swapped = network.full(image[:, [1, 0, 2, 3]])[0][:, [1, 0, 2, 3]].transpose(2, 4)
        assert golden.difference("full", swapped) > 1e-2


def test_losses_are_the_authors(golden, imported, monkeypatch):
    network = imported("t1c")
    monkeypatch.setattr(network, "config", ACNConfig(subset="t1c", transfer_from="missing"))
    batch = full_batch((recording.SIZE,) * 3)._replace(
        image=images(recording.ORDER, recording.SIZE)[:, TO_OURS].transpose(2, 4),
        label=label(recording.SIZE).transpose(1, 3),
    )
    shared: dict = {}
    logs = {}
    with torch.inference_mode():
        for turn in ("networks", "discriminators"):
            output = network.training_step(batch, StepContext(network.stages[0], turn, progress=0.5, shared=shared))
            logs |= output.logs
    expected = golden.losses()
    total = expected.pop("co_training")
    assert set(logs) == set(expected)
    for name, value in expected.items():
        assert float(logs[name]) == pytest.approx(value, rel=1e-4), name
    co_training = 0.2 * logs["dice_full"] + 0.8 * logs["dice_missing"] + 10 * logs["consistency"]
    assert float(co_training) == pytest.approx(total, rel=1e-4)


def test_foreign_sources_are_refused():
    with pytest.raises(UserError, match="unknown source 'paper' of acn weights"):
        ACN.import_state_dict({}, "paper")


# ------------------------------------------------------------------------------------------------------- the claims


def test_the_ramp_starts_low_and_ends_at_ten():
    assert ramp_up(0, 20) == pytest.approx(10 * math.exp(-5))
    assert ramp_up(10, 20) == pytest.approx(10 * math.exp(-5 / 4))
    assert ramp_up(20, 20) == ramp_up(300, 20) == 10


def test_the_entropy_of_equal_channels_is_one_and_shared():
    equal = entropy_map(torch.full((1, 4, 2, 2, 2), 0.3))
    torch.testing.assert_close(equal, torch.full_like(equal, 0.25))


def test_a_certain_channel_leaves_no_entropy():
    """Of the softmax: sigmoids, which it is taken of, reach 1 and never make it certain."""
    certain = torch.zeros(1, 4, 2, 2, 2)
    certain[:, 1] = 200.0
    torch.testing.assert_close(entropy_map(certain), torch.zeros_like(certain), atol=1e-6, rtol=0)


def test_transfer_starts_with_variance_five_and_is_least_where_the_regression_is_right(network):
    torch.testing.assert_close(network.transfer.variance(), torch.full((32,), 5.0))
    features = torch.randn(1, 32, 2, 2, 2)
    right = network.transfer.regressor(features)
    least = network.transfer(features, right)
    assert least.item() == pytest.approx(0.5 * math.log(5), rel=1e-5)
    assert network.transfer(features, right + 1) > least


def test_the_missing_path_regresses_the_features_of_the_full_one(network, monkeypatch):
    seen = []
    forward = network.transfer.forward
    monkeypatch.setattr(network.transfer, "forward", lambda *given: seen.append(given) or forward(*given))
    batch = full_batch()
    with torch.inference_mode():
        network.training_step(batch, StepContext(network.stages[0], "networks"))
        (features, target) = seen[0]
        assert torch.equal(features, network.missing(network.take_own(batch.image, batch.present))[1])
        assert torch.equal(target, network.full(batch.image)[1])


def test_the_discriminators_turn_gives_the_paths_no_gradient_and_theirs_the_full_path_no_transfer(network):
    judged = network.training_step(full_batch(), StepContext(network.stages[0], "discriminators"))
    judged.loss.backward()
    assert all(parameter.grad is None for parameter in (*network.full.parameters(), *network.missing.parameters()))
    gradients = []
    for weight in (0.0, 5.0):
        network.zero_grad()
        network.config = replace(network.config, transfer_weight=weight)
        network.training_step(full_batch(), StepContext(network.stages[0], "networks")).loss.backward()
        gradients.append([[p.grad.clone() for p in path.parameters()] for path in (network.full, network.missing)])
    (full, missing), (full_with, missing_with) = gradients
    assert all(torch.equal(a, b) for a, b in zip(full, full_with, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(missing, missing_with, strict=True))


def test_prediction_needs_no_full_path(network):
    batch = full_batch()
    with torch.inference_mode():
        before = network.predict(batch.image, batch.available).logits
        for parameter in network.full.parameters():
            parameter.fill_(torch.nan)
        assert torch.equal(network.predict(batch.image, batch.available).logits, before)
