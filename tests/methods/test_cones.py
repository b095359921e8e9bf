"""CoNeS: the authors' numbers, a field of single points that codes shift, and discriminators of bounded slope."""

import math

import pytest
import record_cones as recording
import torch
from conftest import build_preset, make_batch
from parity import Golden, parameters

from anymri.errors import UserError
from anymri.methods import StepContext, cones
from anymri.methods.cones import CoNeS, CoNeSConfig, place_codes
from anymri.types import GLIOMA

TASKS = [f"{given}->{target}" for given, target in recording.TASKS]
#: Our names of the loss terms and theirs.
TERMS = {
    "l1": "L1", "gan": "GAN", "feature": "GAN_Feat", "code": "latent_loss", "fake": "D_Fake", "real": "D_real",
}  # fmt: skip


@pytest.fixture(scope="module")
def golden():
    return Golden("cones")


@pytest.fixture
def network():
    return build_preset(CoNeS, "tiny", size=(32, 32), subset="t1+flair", target="t2").eval()


def imported(golden, task):
    judge = {
        f"discriminator.{key}": value
        for key, value in recording.filled(golden.shapes[f"{task}.discriminator"], f"{task}.discriminator").items()
    }
    return CoNeS.import_state_dict({**recording.filled(golden.shapes[task], task), **judge}, f"official:{task}")


def image():
    """The recorded slices as one window (1, 4, 2, y, x)."""
    return (
        torch.cat([recording.slices(code) for code in GLIOMA.modalities], dim=1).transpose(0, 1).transpose(2, 3)[None]
    )


# -------------------------------------------------------------------------------------------------- the authors' code


def test_the_networks_have_the_authors_size(golden):
    with torch.device("meta"):
        assert parameters(CoNeS(CoNeSConfig(subset="t2", target="t1c"))) == golden.parameters["published"]


@pytest.mark.parametrize("task", TASKS)
def test_slices_and_losses_are_the_authors(golden, monkeypatch, task):
    given, _, target = task.partition("->")
    method, shown = imported(golden, task), GLIOMA.available(given.split("+"))[None]
    batch = make_batch((2, 2, 2), torch.ones(1, 4).bool(), shown)._replace(image=image())
    drawn = torch.stack([recording.noise(name).transpose(2, 3) for name in ("fake", "real")])
    monkeypatch.setattr(cones, "draw_noise", lambda *_: drawn)
    logs = {}
    with torch.inference_mode():
        made = method.predict(image(), shown).image[0, GLIOMA.index(target), :, None]
        method.train()
        for turn in method.turns(method.stages[0]):
            logs |= method.training_step(batch, StepContext(method.stages[0], turn)).logs
    assert golden.difference(task, made.transpose(2, 3).contiguous()) <= 1e-4
    assert golden.difference(task, made.transpose(2, 3).flip(2).contiguous()) > 1e-2
    expected = golden.losses()
    for ours, theirs in TERMS.items():
        assert float(logs[ours]) == pytest.approx(expected[f"{task}.{theirs}"], rel=1e-4), ours


# ------------------------------------------------------------------------------------------------------------ the field


def test_places_are_sines_of_shares_of_the_way():
    codes = place_codes((8, 4), 3)[0]
    assert codes.shape == (12, 8, 4)
    for k in range(3):
        assert codes[4 * k, 3, 1] == pytest.approx(math.cos(2**k * math.pi * 3 / 8), abs=1e-6)
        assert codes[4 * k + 3, 3, 1] == pytest.approx(math.sin(2**k * math.pi * 1 / 4), abs=1e-6)


def test_places_of_a_finer_grid_hold_those_of_the_coarse_one():
    torch.testing.assert_close(place_codes((16, 8), 5)[..., ::2, ::2], place_codes((8, 4), 5))


def test_a_point_depends_on_its_own_codes_alone(network):
    codes = torch.randn(1, sum(network.field.shifts), 4, 4, requires_grad=True)
    made = network.field(torch.randn(1, 2, 4, 4), place_codes((4, 4), 7), codes)
    made[0, 0, 1, 2].backward()
    touched = codes.grad.abs().sum(dim=(0, 1)) > 0
    assert touched.nonzero().tolist() == [[1, 2]]


def test_every_layer_is_shifted_before_its_nonlinearity(network):
    """By hand: the field with shifts is the perceptron with other biases."""
    field, codes = network.field, torch.randn(1, sum(network.field.shifts), 1, 1)
    values, places = torch.randn(1, 2, 1, 1), place_codes((1, 1), 7)
    first, *others = codes.flatten().split(field.shifts)
    x = field.value.weight.flatten(1) @ values.flatten() + field.place.weight.flatten(1) @ places.flatten()
    x = x + field.place.bias + first
    for layer, shift in zip(field.layers, others, strict=True):
        x = layer.weight.flatten(1) @ torch.where(x > 0, x, 0.01 * x) + layer.bias + shift
    torch.testing.assert_close(field(values, places, codes).flatten(), x.tanh())


def test_codes_of_the_slice_matter(network):
    """What the encoder sees elsewhere in the slice changes a point whose own values stay."""
    sources = torch.randn(1, 2, 32, 32)
    other = sources.clone()
    other[..., :8, :] += 2.0
    before, after = network._make(sources)[0], network._make(other)[0]
    assert (before - after)[..., 16:, :].abs().max() > 1e-3


# ------------------------------------------------------------------------------------------------- the discriminators


def test_training_brings_the_largest_singular_value_to_one(network):
    conv = network.discriminators[0].middle[0].train()
    for _ in range(300):
        conv(torch.zeros(1, conv.weight.shape[1], 8, 8))
    weight = conv.weight.detach().flatten(1)
    largest = float(torch.linalg.matrix_norm(weight, ord=2))
    assert float(conv.left @ weight @ conv.right) == pytest.approx(largest, rel=1e-2)


def test_slices_that_are_no_multiple_of_eight_are_refused():
    with pytest.raises(UserError, match="multiples of 8"):
        build_preset(CoNeS, "tiny", size=(30, 32))
