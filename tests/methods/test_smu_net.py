"""SMU-Net: the authors' numbers, what style and content see, and which path each loss moves."""

import math
from dataclasses import replace

import pytest
import record_smu_net as recording
import torch
from conftest import build_preset, make_batch
from parity import Golden, parameters
from recorder import images, label

from anymri.errors import UserError
from anymri.losses.co_training import discriminator_bce, ramp_up
from anymri.methods import StepContext
from anymri.methods.smu_net import FULL, SMUNet, SMUNetConfig, style_distance
from anymri.types import GLIOMA

ALL = torch.ones(1, 4, dtype=torch.bool)
OWN = GLIOMA.available(("t1c", "flair"))[None]
TO_OURS = [recording.ORDER.index(code) for code in GLIOMA.modalities]


@pytest.fixture(scope="module")
def golden():
    return Golden("smu_net")


@pytest.fixture(scope="module")
def imported(golden):
    entries = {name: golden.filled(name) for name in ("model_full", "model_missing", "d_style")}
    return SMUNet.import_state_dict(entries, "official:flair+t1c")


@pytest.fixture
def network():
    return build_preset(SMUNet, "tiny", subset="t1c+flair").eval()


# -------------------------------------------------------------------------------------------------- the authors' code


def test_every_module_has_the_authors_size(golden):
    with torch.device("meta"):
        single, network = (SMUNet(SMUNetConfig(subset=subset)) for subset in ("t1c", "t1c+flair"))
    theirs = golden.parameters
    assert parameters(network.full) == theirs["model_full"] == 4_778_212
    assert parameters(network.missing) == theirs["model_missing"]
    assert parameters(single.missing) == 4_776_916
    assert parameters(network.discriminator) == theirs["d_style"] == 3_149_249


def test_logits_are_the_authors(golden, imported):
    # Theirs holds arrays (x, y, z) and the channels edema, ncr, et, background.
    image = images(recording.ORDER, recording.SIZE)[:, TO_OURS].transpose(2, 4)
    with torch.inference_mode():
        full, missing = imported.full(image).logits, imported.predict(image, OWN).logits
        swapped = imported.predict(image[:, [0, 3, 2, 1]], OWN).logits
    for name, logits in (("model_full", full), ("model_missing", missing)):
        assert golden.difference(name, logits[:, [1, 0, 2, 3]].transpose(2, 4)) <= 1e-4
    assert golden.difference("model_missing", swapped[:, [1, 0, 2, 3]].transpose(2, 4)) > 1e-2


def test_losses_are_the_authors(golden, imported, monkeypatch):
    # The discriminator takes larger maps than these; its score is compared below.
    monkeypatch.setattr(imported.discriminator, "forward", lambda style: style.mean())
    batch = make_batch((recording.SIZE,) * 3, ALL, OWN)._replace(
        image=images(recording.ORDER, recording.SIZE)[:, TO_OURS].transpose(2, 4),
        label=label(recording.SIZE).transpose(1, 3),
    )
    expected = golden.losses()
    with torch.inference_mode():
        output = imported.training_step(batch, StepContext(imported.stages[0], "networks", progress=0.5))
    logs = {**output.logs, "style": imported.config.style_weight * output.logs["style"]}
    for name in ("dice_full", "dice_missing", "consistency", "content", "style"):
        assert float(logs[name]) == pytest.approx(expected[name], rel=1e-4), name
    co_training = output.loss - imported.config.adversarial_weight * logs["style_adversarial"]
    assert float(co_training) == pytest.approx(expected["co_training"], rel=1e-4)


def test_the_discriminators_score_is_the_authors(golden, imported):
    cube = images(("style",), 32)[0, 0, :20, :24, :16][None, None]
    style = torch.cat([cube * scale for scale in range(1, 129)], dim=1).transpose(2, 4)
    with torch.inference_mode():
        score = imported.discriminator(style)
    assert score.shape == (1, 1, 1, 1, 1)
    assert float(score) == pytest.approx(float(golden.values["score"].item()), rel=1e-4)
    assert float(discriminator_bce(score, FULL)) == pytest.approx(golden.losses()["style_score"], rel=1e-4)


def test_foreign_sources_are_refused():
    with pytest.raises(UserError, match="unknown source 'paper' of smu_net weights"):
        SMUNet.import_state_dict({}, "paper")


# ------------------------------------------------------------------------------------------------------- the claims


def test_style_and_content_are_coarse_maps_of_one_shape(network):
    _, style, content = network.missing(torch.randn(2, 2, 16, 24, 32))
    assert style.shape == content.shape == (2, 32, 2, 3, 4)


def test_style_is_blind_to_places_and_content_is_not():
    first, second = torch.randn(2, 1, 6, 4, 4, 4)
    moved = second.flatten(2)[..., torch.randperm(64)].reshape_as(second)
    # The distances are small, and an absolute tolerance would let anything pass.
    torch.testing.assert_close(style_distance(first, moved), style_distance(first, second), rtol=1e-4, atol=0)
    assert not torch.isclose(((first - moved) ** 2).mean(), ((first - second) ** 2).mean())
    assert style_distance(first, first) == 0


def test_rows_have_gram_matrices_of_their_own():
    first, second = torch.randn(2, 2, 6, 4, 4, 4)
    alone = [style_distance(first[i : i + 1], second[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(style_distance(first, second), torch.stack(alone).mean(), rtol=1e-4, atol=0)


def test_the_ramp_starts_low_and_ends_at_ten():
    assert ramp_up(0, 20) == pytest.approx(10 * math.exp(-5))
    assert ramp_up(20, 20) == 10


@pytest.mark.parametrize("term", ["consistency", "content", "style", "adversarial"])
def test_each_agreement_moves_both_paths_and_the_adversary_the_missing_one_alone(network, monkeypatch, term):
    for name in {"dice_squared", "consistency"} - {term}:
        monkeypatch.setattr(f"anymri.methods.smu_net.{name}", lambda *probabilities: torch.zeros(()))
    kept = {f"{name}_weight": float(name == term) for name in ("content", "style", "adversarial")}
    network.config = replace(network.config, **kept)
    network.training_step(
        make_batch((16, 16, 16), ALL, OWN), StepContext(network.stages[0], "networks", progress=0.5)
    ).loss.backward()
    gradients = [path.encoder.levels[0].arrive.weight.grad for path in (network.full, network.missing)]
    moved = [gradient is not None and bool(gradient.any()) for gradient in gradients]
    assert moved == [term != "adversarial", True]
