"""The 3D cGAN: its equations by hand, the pair that the discriminator sees, and context across slices."""

import math

import pytest
import torch
from conftest import build_preset, make_batch

from anymri.errors import UserError
from anymri.methods import StepContext, create
from anymri.methods.cgan3d import CGAN3D, CGAN3DConfig
from anymri.types import GLIOMA

SHOWN = GLIOMA.available(("t1",))[None]
SMALL = {"widths": (4, 8), "discriminator_widths": (4, 8)}


@pytest.fixture
def network():
    return build_preset(CGAN3D, "tiny", subset="t1", target="flair", **SMALL)


def batch_of(size=(8, 8, 12)):
    return make_batch(size, torch.ones(1, 4).bool(), SHOWN)


def negative_log(probability):
    return -probability.log().mean().item()


@pytest.mark.parametrize("turn", ["generator", "discriminator"])
def test_losses_are_the_published_equations(network, turn):
    batch = batch_of()
    source, real = batch.image[:, :1], batch.image[:, 3:]
    with torch.no_grad():
        made = network.generator(source)
        taken_real, taken_made = (network.discriminator(source, image).sigmoid() for image in (real, made))
    loss, logs = network.training_step(batch, StepContext(network.stages[0], turn))
    if turn == "discriminator":
        expected = {"real": negative_log(taken_real), "fake": negative_log(1 - taken_made)}
        assert loss.item() == pytest.approx(sum(expected.values()), rel=1e-5)
    else:
        expected = {"gan": negative_log(taken_made), "l1": (made - real).abs().mean().item()}
        assert loss.item() == pytest.approx(expected["gan"] + 100 * expected["l1"], rel=1e-5)
    assert {name: value.item() for name, value in logs.items()} == pytest.approx(expected, rel=1e-5)


def test_an_undecided_discriminator_loses_the_logarithm_of_two_for_each_image(network):
    for parameter in network.discriminator.parameters():
        torch.nn.init.zeros_(parameter)
    loss, logs = network.training_step(batch_of(), StepContext(network.stages[0], "discriminator"))
    assert logs["real"].item() == pytest.approx(math.log(2))
    assert loss.item() == pytest.approx(2 * math.log(2))


def test_the_discriminator_sees_the_pair_of_source_and_target(network):
    seen, batch = [], batch_of()
    network.discriminator.levels.register_forward_pre_hook(lambda module, given: seen.append(given[0].detach()))
    network.training_step(batch, StepContext(network.stages[0], "discriminator"))
    real, made = seen
    assert torch.equal(real, batch.image[:, [0, 3]])
    assert torch.equal(made[:, 0], batch.image[:, 0])
    assert not torch.allclose(made[:, 1], batch.image[:, 3])
    with torch.no_grad():
        first = network.discriminator(batch.image[:, :1], batch.image[:, 3:])
        other = network.discriminator(batch.image[:, 1:2], batch.image[:, 3:])
    assert not torch.allclose(first, other, atol=1e-3), "the same target beside another source"


def test_a_discriminators_step_teaches_no_generator(network):
    network.training_step(batch_of(), StepContext(network.stages[0], "discriminator")).loss.backward()
    assert all(parameter.grad is None for parameter in network.generator.parameters())


def test_a_slice_is_made_with_its_neighbours(network):
    """Two dimensions could not: the middle slice of the synthesis follows the slices around it."""
    image, shown = torch.randn(1, 4, 8, 8, 8), SHOWN
    other = image.clone()
    other[:, :, 6:] = 0
    with torch.inference_mode():
        first, second = (network.eval().predict(x, shown).image[0, 3, 4] for x in (image, other))
    assert not torch.allclose(first, second, atol=1e-4)


def test_the_paper_makes_flair_of_t1():
    with torch.device("meta"):
        method = CGAN3D(CGAN3DConfig())
    assert (method.subset_modalities, method.target) == (("t1",), "flair")
    assert method.divisor == 32
    assert method.discriminator(*torch.empty(2, 1, 1, 64, 64, 64, device="meta")).shape == (1, 1, 8, 8, 8)


def test_two_sources_are_refused_in_one_line():
    with pytest.raises(UserError, match=r"cgan3d makes one sequence of 1, not of 2; name 1$"):
        create("cgan3d", subset="t1+t2", target="flair")


def test_training_brings_the_synthesis_nearer(network):
    torch.manual_seed(0)
    smooth = torch.nn.functional.avg_pool3d(torch.randn(1, 1, 8, 8, 12), 3, 1, 1)
    batch = batch_of()._replace(image=torch.cat([smooth, smooth, smooth, -smooth], dim=1))
    optimizer = torch.optim.Adam(network.generator.parameters(), lr=1e-2)
    errors = []
    for _ in range(25):
        loss, logs = network.training_step(batch, StepContext(network.stages[0], "generator"))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(float(logs["l1"]))
    assert errors[-1] < 0.5 * errors[0]
