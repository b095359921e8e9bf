"""Hi-Net: the authors' numbers, what a fusion block joins, and that streams teach only themselves."""

import pytest
import record_hi_net as recording
import torch
from conftest import build_preset, make_batch
from parity import Golden, parameters

from anymri.errors import UserError
from anymri.methods import StepContext, create
from anymri.methods.hi_net import HiNet, HiNetConfig, _Fusion
from anymri.types import GLIOMA, DataSpec

SHOWN = GLIOMA.available(recording.SOURCES)[None]
TASK = f"{'+'.join(recording.SOURCES)}->{recording.TARGET}"


@pytest.fixture(scope="module")
def golden():
    return Golden("hi_net")


@pytest.fixture(scope="module")
def weights(golden):
    judge = recording.filled(golden.shapes["discriminator"], "discriminator")
    return recording.filled(golden.shapes["generator"], "generator") | {
        f"discriminator.{key}": value for key, value in judge.items()
    }


@pytest.fixture
def imported(weights):
    return HiNet.import_state_dict(weights, f"official:{TASK}")


@pytest.fixture
def network():
    return build_preset(HiNet, "tiny", subset="t1+t2", target="flair")


def recorded_batch():
    """The recorded slices, (x, y) there, as one window (1, 4, 2, y, x)."""
    image = torch.cat([recording.slices(code) for code in GLIOMA.modalities], dim=1).transpose(2, 3)
    return make_batch((2, 16, 16), torch.ones(1, 4).bool(), SHOWN)._replace(image=image.transpose(0, 1)[None])


def terms(method, batch):
    """Every term of both turns, as the training loop runs them."""
    shared, logs = {}, {}
    for turn in method.turns(method.stages[0]):
        logs |= method.training_step(batch, StepContext(method.stages[0], turn, shared=shared)).logs
    return logs


# -------------------------------------------------------------------------------------------------- the authors' code


def test_both_networks_have_the_authors_size(golden):
    with torch.device("meta"):
        network = HiNet(HiNetConfig())
    assert parameters(network.generator) == golden.parameters["generator"] == 3_872_259
    assert parameters(network.discriminator) == golden.parameters["discriminator"] == 391_041
    with torch.device("meta"):
        assert parameters(HiNet(HiNetConfig(width=64)).generator) == 15_467_523
        assert network.discriminator(torch.empty(2, 1, 128, 128)).shape == (2, 1, 6, 6)


def test_images_are_the_authors(golden, imported):
    batch = recorded_batch()
    with torch.inference_mode():
        prediction = imported.predict(batch.image, SHOWN)
        again = imported.generator.reconstruct(imported.generator.encode(batch.image[0, [0, 2]].transpose(0, 1)))
        turned = imported.predict(batch.image.transpose(3, 4), SHOWN)
        score = imported.discriminator(recording.slices(recording.TARGET).transpose(2, 3))
    place = GLIOMA.index(recording.TARGET)
    assert prediction.synthesised.tolist() == [[False, False, False, True]]
    made = {recording.TARGET: prediction.image[0, place, :, None], **again}
    for name, image in made.items():
        assert golden.difference(name, image.transpose(2, 3).contiguous()) <= 1e-4, name
    assert golden.difference(recording.TARGET, turned.image[0, place, :, None].transpose(2, 3).contiguous()) > 1e-2
    theirs = torch.from_numpy(golden.values["score"]).reshape(score.shape)
    torch.testing.assert_close(score.transpose(2, 3), theirs, rtol=1e-4, atol=1e-4)


def test_losses_are_the_authors_and_the_mended_norms_change_the_discriminator_alone(golden, weights, imported):
    expected = golden.losses()
    logs = terms(imported.train(), recorded_batch())
    assert logs.keys() == expected.keys()
    for name, value in logs.items():
        assert float(value) == pytest.approx(expected[name], rel=1e-4), name
    assert imported.config.discriminator_eps == 0.8
    mended = create("hi_net", subset="t1+t2", target="flair")
    mended.load_state_dict(HiNet.import_state_dict(weights, f"official:{TASK}").state_dict())
    logs = terms(mended.train(), recorded_batch())
    assert HiNetConfig().discriminator_eps == 1e-5
    changed = {name for name, value in logs.items() if float(value) != pytest.approx(expected[name], rel=1e-2)}
    assert changed == {"gan", "real", "fake"}


def test_sources_of_foreign_weights_are_named_in_their_order(weights):
    other = HiNet.import_state_dict(weights, "official:t2+t1->flair")
    first = weights["down_1_0.0.weight"].transpose(2, 3)
    assert torch.equal(other.generator.encoders["t2"].levels[0][0].conv.weight, first)
    assert other.subset_modalities == ("t1", "t2")


# ------------------------------------------------------------------------------------------------------------ claims


def test_a_fusion_block_joins_sum_product_and_maximum_with_what_was_fused_before():
    block, seen = _Fusion(1, 1, 0.2).eval(), []
    block.mix.register_forward_hook(lambda module, given, result: seen.append((given[0], result)))
    block.join.register_forward_hook(lambda module, given, result: seen.append((given[0], result)))
    one, other = torch.tensor([2.0, -3.0]).reshape(1, 1, 1, 2), torch.tensor([5.0, -1.0]).reshape(1, 1, 1, 2)
    block(one, other, torch.tensor([7.0, 8.0]).reshape(1, 1, 1, 2))
    (mixed, result), (joined, _) = seen
    assert mixed[0, :, 0].tolist() == [[7.0, -4.0], [10.0, 3.0], [5.0, -1.0]]
    assert torch.equal(joined[:, :1], result)
    assert joined[0, 1, 0].tolist() == [7.0, 8.0]


def test_the_loss_weighs_its_terms_as_published(network):
    batch = make_batch((2, 48, 48), torch.ones(1, 4).bool(), SHOWN)
    loss, logs = network.training_step(batch, StepContext(network.stages[0], "generator"))
    by_hand = logs["gan"] + 100 * logs["l1"] + 20 * logs["reconstruction_t1"] + 20 * logs["reconstruction_t2"]
    torch.testing.assert_close(loss, by_hand)
    loss, logs = network.training_step(batch, StepContext(network.stages[0], "discriminator"))
    torch.testing.assert_close(loss, (logs["real"] + logs["fake"]) / 2)


def test_a_reconstruction_teaches_its_own_stream_alone(network):
    generator = network.generator
    maps = generator.encode(torch.randn(2, 2, 16, 16))
    generator.reconstruct(maps)["t1"].square().mean().backward()
    taught = {
        name.split(".")[0] + "." + name.split(".")[1] for name, p in generator.named_parameters() if p.grad is not None
    }
    assert taught == {"encoders.t1", "reconstructions.t1"}


def test_the_discriminator_judges_the_synthesis_of_before_the_generators_step(network):
    batch, shared, seen = make_batch((2, 48, 48), torch.ones(1, 4).bool(), SHOWN), {}, []
    network.discriminator.register_forward_pre_hook(lambda module, given: seen.append(given[0].detach().clone()))
    network.training_step(batch, StepContext(network.stages[0], "generator", shared=shared))
    with torch.no_grad():
        network.generator.last.weight.mul_(-2)
    network.training_step(batch, StepContext(network.stages[0], "discriminator", shared=shared))
    made, real, fake = seen
    assert torch.equal(fake, made)
    assert torch.equal(real[:, 0], batch.image[0, GLIOMA.index("flair")])


@pytest.mark.parametrize("subset", ["t1", "t1+t1c+t2"])
def test_another_number_of_sources_is_refused_in_one_line(subset):
    count = len(subset.split("+"))
    with pytest.raises(UserError, match=rf"hi_net makes one sequence of 2, not of {count}; name 2$"):
        create("hi_net", subset=subset, target="flair")
    with pytest.raises(UserError, match="nothing to synthesise"):
        create("hi_net", DataSpec(("t1", "t2")), subset="t1+t2")
    assert create("hi_net", preset="tiny").subset_modalities == ("t1", "t1c")
