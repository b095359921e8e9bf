"""CG-MCG: what the generator may read and is told, the completed set, and the quadratic correlation by hand."""

import pytest
import torch
from conftest import build_preset, make_batch

from anymri.methods import StepContext
from anymri.methods.cg_mcg import CGMCG
from anymri.types import GLIOMA

ALL = torch.ones(1, 4, dtype=torch.bool)
THREE = GLIOMA.available(("t1", "t2", "flair"))[None]


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    return build_preset(CGMCG, "tiny", widths=(2, 4))


@torch.inference_mode()
def test_the_generator_follows_the_condition_and_reads_what_is_shown_alone(tiny):
    image = torch.randn(1, 4, 8, 8, 8)
    first = tiny.generator(image, THREE, "t1c")
    changed = image.clone()
    changed[:, 1] += 5
    assert torch.equal(tiny.generator(changed, THREE, "t1c"), first)
    assert (tiny.generator(image, THREE, "flair") - first).abs().max() > 1e-4
    changed[:, 0] += 5
    assert (tiny.generator(changed, THREE, "t1c") - first).abs().max() > 1e-4


@torch.inference_mode()
def test_the_completed_set_holds_what_is_given_and_makes_the_rest(tiny):
    image = torch.randn(1, 4, 8, 8, 8)
    shown = torch.where(THREE[..., None, None, None], image, 0)
    completed = tiny.complete(shown, THREE)
    assert torch.equal(completed[:, [0, 2, 3]], image[:, [0, 2, 3]])
    torch.testing.assert_close(completed[:, 1:2], tiny.generator(shown, THREE, "t1c"))
    torch.testing.assert_close(tiny.predict(image, THREE).image, completed)


def test_no_sequence_is_made_from_itself_while_training(tiny):
    batch, seen = make_batch((8, 8, 8), ALL, ALL), []
    tiny.generator.register_forward_hook(lambda module, given, result: seen.append(given))
    tiny.training_step(batch, StepContext(tiny.stages[0]))
    assert [target for _, _, target in seen] == list(GLIOMA.modalities)
    for i, (image, shown, _) in enumerate(seen):
        assert image[:, i].abs().max() == 0
        assert shown.tolist() == [[j != i for j in range(4)]]


def test_generation_is_the_mean_absolute_error_of_what_is_present(tiny):
    batch, made = make_batch((8, 8, 8), ALL, THREE), []
    tiny.generator.register_forward_hook(lambda module, given, result: made.append(result.detach()))
    output = tiny.training_step(batch, StepContext(tiny.stages[0]))
    logs = {name: value.item() for name, value in output.logs.items()}
    assert logs["generation"] == pytest.approx((torch.cat(made, dim=1) - batch.image).abs().mean().item(), rel=1e-5)
    expected = logs["dice"] + logs["generation"] + 0.1 * logs["correlation"]
    assert output.loss.item() == pytest.approx(expected, rel=1e-5)


def test_one_latent_expresses_another_by_a_square_a_factor_and_a_constant(tiny):
    latent = torch.randn(1, 4, 3, 3, 3)
    estimator = tiny.correlations["t1"]
    blocks = estimator.out(torch.nn.functional.leaky_relu(estimator.hidden(latent.mean(dim=(2, 3, 4))), 0.01))
    a, b, c = blocks.reshape(4, 3, 4)[2].reshape(3, 1, 4, 1, 1, 1)
    torch.testing.assert_close(estimator(latent)[2], a * latent**2 + b * latent + c)


def test_correlation_vanishes_where_every_latent_is_what_the_others_say(tiny):
    latents = list(torch.randn(4, 1, 4, 3, 3, 3))
    assert tiny.correlation(latents) > 1e-3
    for estimator in tiny.correlations.values():
        torch.nn.init.zeros_(estimator.out.weight)
        estimator.out.bias.data = torch.tensor([0.0, 1.0, 0.5]).repeat_interleave(4).repeat(4)
    assert tiny.correlation([latents[0]] * 4).abs() < 1e-5
    # Of a generated sequence too: its generator learns from the term.
    image = torch.randn(1, 4, 8, 8, 8) * THREE[..., None, None, None]
    tiny.correlation(tiny._segment(tiny.complete(image, THREE))[1]).backward()
    assert tiny.generator.decoder.last.weight.grad.abs().sum() > 0
