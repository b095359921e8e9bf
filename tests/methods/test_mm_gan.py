"""MM-GAN: the authors' numbers, and that real channels pass through untouched and teach nothing about themselves."""

import pytest
import record_mm_gan as recording
import torch
from conftest import build_preset, make_batch
from parity import Golden, parameters

from anymri.data.samplers import make_sampler
from anymri.errors import UserError
from anymri.losses.adversarial import least_squares
from anymri.methods import StepContext
from anymri.methods.mm_gan import MMGAN, MMGANConfig
from anymri.types import GLIOMA

ORDER = [recording.ORDER.index(code) for code in GLIOMA.modalities]


@pytest.fixture(scope="module")
def golden():
    return Golden("mm_gan")


@pytest.fixture(scope="module")
def imported(golden):
    judge = {f"discriminator.{key}": value for key, value in golden.filled("discriminator").items()}
    return MMGAN.import_state_dict({**golden.filled("generator"), **judge})


@pytest.fixture
def network():
    return build_preset(MMGAN, "tiny")


def slices():
    """The recorded slices as one window (1, 4, 2, y, x)."""
    return recording.slices()[:, ORDER].transpose(2, 3).transpose(0, 1)[None]


def theirs(image, codes):
    """Chosen channels of (1, 4, 2, y, x) as the authors' (2, m, x, y), in their order."""
    channels = [GLIOMA.index(code) for code in recording.ORDER if code in codes]
    return image[0, channels].transpose(0, 1).transpose(2, 3).contiguous()


# -------------------------------------------------------------------------------------------------- the authors' code


def test_both_networks_have_the_authors_size(golden):
    with torch.device("meta"):
        network = MMGAN(MMGANConfig())
    assert parameters(network.generator) == golden.parameters["generator"] == 54_407_172
    assert parameters(network.discriminator) == golden.parameters["discriminator"] == 2_794_432


@pytest.mark.parametrize("subset", recording.SUBSETS)
def test_syntheses_and_losses_are_the_authors(golden, imported, subset):
    shown = GLIOMA.available(subset.split("+"))[None]
    batch = make_batch((2, 16, 16), torch.ones(1, 4).bool(), shown)._replace(image=slices())
    missing = set(GLIOMA.modalities) - set(subset.split("+"))
    with torch.inference_mode():
        prediction = imported.predict(batch.image, shown)
        swapped = imported.predict(batch.image[:, [0, 3, 1, 2]], shown)
        logs = {}
        for turn in imported.turns(imported.stages[0]):
            logs |= imported.training_step(batch, StepContext(imported.stages[0], turn)).logs
    assert torch.equal(prediction.synthesised, ~shown)
    assert golden.difference(subset, theirs(prediction.image, missing)) <= 1e-4
    assert golden.difference(subset, theirs(swapped.image, missing)) > 1e-2
    expected = golden.losses()
    for name in ("gan", "l1", "real", "fake"):
        assert float(logs[name]) == pytest.approx(expected[f"{subset}.{name}"], rel=1e-4), name


def test_foreign_weights_of_another_source_are_refused(golden):
    with pytest.raises(UserError, match="known: official"):
        MMGAN.import_state_dict(golden.filled("generator"), source="port")


# ------------------------------------------------------------------------------------------------ implicit conditioning


def step(network, monkeypatch, turn, available):
    """Loss of one turn, the images the discriminator saw, and the generator's output with its gradient kept."""
    batch = make_batch((4, 32, 32), torch.ones_like(available), available)
    seen, made = [], []
    judge, generate = type(network.discriminator).forward, type(network.generator).forward

    def watch_judge(self, candidate, real):
        seen.append(candidate)
        return judge(self, candidate, real)

    def watch_generator(self, x):
        made.append(generate(self, x))
        if made[-1].requires_grad:
            made[-1].retain_grad()
        return made[-1]

    monkeypatch.setattr(type(network.discriminator), "forward", watch_judge)
    monkeypatch.setattr(type(network.generator), "forward", watch_generator)
    output = network.training_step(batch, StepContext(network.stages[0], turn))
    output.loss.backward()
    return batch, seen, made[0]


def test_real_channels_reach_the_discriminator_bit_for_bit_and_get_no_gradient(network, monkeypatch):
    available = torch.tensor([[1, 0, 0, 1], [0, 1, 1, 1]]).bool()
    batch, seen, made = step(network, monkeypatch, "generator", available)
    completed = seen[0].unflatten(0, (2, 4)).transpose(1, 2)
    assert torch.equal(completed[available], batch.image[available])
    assert not torch.equal(completed[~available], batch.image[~available])
    gradient = made.grad.unflatten(0, (2, 4)).transpose(1, 2)
    assert gradient[available].abs().max() == 0
    assert gradient[~available].abs().max() > 0


def test_the_discriminator_scores_each_sequence_and_knows_which_are_real(network, monkeypatch):
    with torch.device("meta"):
        scores = MMGAN(MMGANConfig()).discriminator(*torch.empty(2, 3, 4, 256, 256))
    assert scores.shape == (3, 4, 16, 16)
    labels = []

    def watch(score, label):
        labels.append(label)
        return least_squares(score, label)

    monkeypatch.setattr("anymri.methods.mm_gan.least_squares", watch)
    available = torch.tensor([[1, 0, 0, 1]]).bool()
    step(network, monkeypatch, "discriminator", available)
    real, completed = labels
    assert real == 1
    assert torch.equal(completed.squeeze(), available.float().expand(4, -1))


def test_at_epoch_five_one_sequence_is_missing():
    (stage,) = MMGAN.presets["paper"].stages
    sampler, generator = make_sampler(stage.sampler), torch.Generator().manual_seed(0)
    present = torch.ones(1, 4, dtype=torch.bool)
    drawn = torch.cat([sampler(present, 5 / stage.epochs, generator) for _ in range(200)])
    assert (drawn.sum(dim=1) == 3).all()
    assert not drawn.all(dim=0).any()


def test_training_lets_what_it_did_not_see_appear(network):
    """After a few steps on one slice pair the missing sequence is nearer to the truth than at the start."""
    torch.manual_seed(0)
    base = torch.rand(1, 1, 2, 32, 32)
    image = torch.cat([base, base**2, 1 - base, 0.5 + base], dim=1)
    shown = torch.tensor([[1, 1, 1, 0]]).bool()
    batch = make_batch((2, 32, 32), torch.ones(1, 4).bool(), shown)._replace(image=image)
    optimizer = torch.optim.Adam(network.generator.parameters(), lr=2e-3)
    errors = []
    for _ in range(25):
        loss, logs = network.training_step(batch, StepContext(network.stages[0], "generator"))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(float(logs["l1"]))
    assert errors[-1] < 0.5 * errors[0]
