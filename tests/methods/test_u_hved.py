"""U-HVED: the published size, its latent space and its divergence terms."""

import math
from functools import partial

import pytest
import record_u_hved as recording
import torch
from conftest import make_batch, run_turns
from named_numbers import state_dict
from parity import Golden, parameters
from recorder import images, label

from anymri.errors import UserError
from anymri.losses.reconstruction import gaussian_kl
from anymri.losses.segmentation import dice_plain
from anymri.methods import StepContext, create, u_hved
from anymri.methods.u_hved import UHVED
from anymri.nn.fusion import expert, product_of_experts
from anymri.protocol.noise import Noise
from anymri.protocol.request import Request
from anymri.types import GLIOMA

SIZE = (16, 16, 16)
EVERYTHING = torch.ones(1, 4, dtype=torch.bool)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return create("u_hved", preset="tiny", kl_stride=1).eval()


def test_published_size():
    with torch.device("meta"):
        network = create("u_hved")
    assert sum(parameter.numel() for parameter in network.parameters()) == 1_250_552
    assert (network.config.kl_weight, network.config.reconstruction_weight) == (0.1, 0.1)
    assert network.stages[0].epochs * network.stages[0].steps_per_epoch == 60_000


def test_kernels_start_by_the_rule_of_the_authors_framework(network):
    convs = [part for part in network.modules() if isinstance(part, torch.nn.Conv3d)]
    standard = torch.cat([(conv.weight * (conv.weight[0].numel() / 2) ** 0.5).flatten() for conv in convs])
    assert standard.mean().abs() < 0.01
    assert standard.std().item() == pytest.approx(1, abs=0.01)


def test_images_come_from_the_mean_and_the_segmentation_from_a_sample(network):
    image, available = torch.randn(1, 4, *SIZE), torch.tensor([[False, True, False, False]])
    with torch.inference_mode():
        mean = network.predict(image, available)
        first, second = (network.predict(image, available, request=Request(noise=Noise([seed]))) for seed in (1, 2))
    assert not torch.allclose(first.logits, second.logits)
    assert not torch.allclose(first.logits, mean.logits)
    assert torch.equal(first.image, mean.image)
    assert mean.synthesised.all()


def reference_divergence(network, features, available):
    """The published sum, written out for one row and complete data."""
    codes = GLIOMA.modalities
    gaussians = {code: [level.double().chunk(2, dim=1) for level in features[code]] for code in codes}

    def posterior(subset, level):
        total, weighted = 1.0, 0.0
        for code in subset:
            mean, log_variance = gaussians[code][level]
            precision = 1 / (log_variance.clamp(-50, 50).exp() + 1e-7)
            total, weighted = total + precision, weighted + precision * mean
        return weighted / total, (1 / total + 1e-7).log()

    drawn = tuple(code for code, shown in zip(codes, available[0].tolist(), strict=True) if shown)
    levels = []
    for level in range(4):
        q = posterior(drawn, level)
        subsets = [posterior(subset, level) for subset in GLIOMA.subsets()]
        levels.append(
            sum(gaussian_kl(*q, *a).mean() for a in subsets) / 14 + sum(gaussian_kl(*a).mean() for a in subsets) / 15
        )
    return sum(levels) / 4


@pytest.mark.parametrize("row", [[1, 0, 0, 0], [0, 1, 1, 0], [1, 1, 1, 1]])
def test_divergence_terms_of_complete_data(network, row):
    available = torch.tensor([row]).bool()
    with torch.no_grad():
        features = network.encode(torch.randn(1, 4, *SIZE), EVERYTHING)
        experts = network._experts(features, EVERYTHING)
        value = network._divergence(experts, available, EVERYTHING, torch.Generator())
        assert value.item() == pytest.approx(reference_divergence(network, features, available).item(), rel=1e-4)


def test_divergence_of_an_incomplete_row_equals_that_of_the_smaller_specification(network):
    present = torch.tensor([[False, True, False, True]])
    available = torch.tensor([[False, True, False, False]])
    with torch.no_grad():
        features = network.encode(torch.randn(1, 4, *SIZE), EVERYTHING)
        experts = network._experts(features, EVERYTHING)
        value = network._divergence(experts, available, present, torch.Generator())
        q = network._posterior(experts, available)
        sums = []
        for subset in (("t1c",), ("flair",), ("t1c", "flair")):
            a = network._posterior(experts, GLIOMA.available(subset)[None])
            sums.append(
                [(gaussian_kl(*x, *y).mean() / 2, gaussian_kl(*y).mean() / 3) for x, y in zip(q, a, strict=True)]
            )
        expected = sum(sum(pair) for levels in sums for pair in levels) / 4
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)


def test_divergence_of_a_mixed_batch_is_the_mean_of_its_rows(network):
    present = torch.tensor([[True, True, True, True], [False, True, False, True]])
    available = torch.tensor([[True, False, True, False], [False, True, False, False]])
    image = torch.randn(2, 4, *SIZE)

    def divergence(rows):
        experts = network._experts(network.encode(image[rows], EVERYTHING.expand(len(image[rows]), -1)), present[rows])
        return network._divergence(experts, available[rows], present[rows], torch.Generator()).item()

    with torch.no_grad():
        alone = (divergence(slice(0, 1)) + divergence(slice(1, 2))) / 2
        assert divergence(slice(0, 2)) == pytest.approx(alone, rel=1e-4)


def test_thinned_divergence_estimates_the_whole_one(network):
    coarse = create("u_hved", preset="tiny", kl_stride=2)
    experts = {i: [(torch.rand(1, 2, 8, 8, 8), torch.randn(1, 2, 8, 8, 8))] for i in range(4)}
    whole = network._divergence(experts, EVERYTHING, EVERYTHING, torch.Generator())
    generator = torch.Generator().manual_seed(0)
    draws = [coarse._divergence(experts, EVERYTHING, EVERYTHING, generator).item() for _ in range(100)]
    assert sum(draws) / 100 == pytest.approx(whole.item(), rel=0.02)
    assert len(set(draws)) > 4


def test_log_variances_are_clipped_before_the_exponential(network):
    experts = network._experts({"t1": [torch.full((1, 4, 1, 1, 1), 1e4)]}, torch.tensor([[True, False, False, False]]))
    assert experts[0][0][0].max().item() == pytest.approx(math.exp(-50), rel=1e-3)


def test_only_present_images_are_reconstructed(network):
    """A missing target is no target: its decoder gets no gradient from this row."""
    present = torch.tensor([[True, True, True, False]])
    result = run_turns(network, make_batch(SIZE, present, present))["train.main"]
    reached = {key for key, gradient in result["gradients"].items() if gradient.abs().sum() > 0}
    assert any(key.startswith("images.t1c.") for key in reached)
    # The weight penalty reaches all kernels, so look at a norm.
    assert "images.flair.levels.0.0.norm.weight" not in reached
    assert set(result["output"].logs) == {"cross_entropy", "dice", "kl", "reconstruction", "l2"}


def test_what_is_present_but_hidden_is_a_target(network):
    """Completion is learnt from sequences that exist and were not shown."""
    available = torch.tensor([[True, True, True, False]])
    result = run_turns(network, make_batch(SIZE, EVERYTHING, available))["train.main"]
    gradient = result["gradients"]["images.flair.levels.0.0.norm.weight"]
    assert gradient.abs().sum() > 0


# -------------------------------------------------------------------------------------------------- the PyTorch port


def port(golden):
    weights = state_dict(golden.shapes)
    return UHVED.import_state_dict({f"module.{key}": value for key, value in weights.items()})


def test_every_module_has_the_ports_size():
    theirs = Golden("u_hved").parameters
    with torch.device("meta"):
        network, sibling = create("u_hved"), create("u_hemis")
    for encoder in (*network.encoders.values(), *sibling.encoders.values()):
        assert parameters(encoder) == theirs["flair_encoder"] == 221_560
    assert {parameters(decoder) for decoder in network.images.values()} == {theirs["flair_decoder"]}
    assert parameters(network.segmentation) == theirs["seg_decoder"]


def test_logits_and_images_are_the_ports():
    golden = Golden("u_hved")
    network = port(golden)
    # Theirs holds arrays (x, y, z).
    image = images(GLIOMA.modalities, recording.SIZE).transpose(2, 4)
    with torch.inference_mode():
        features = network.encode(image, EVERYTHING)
        for subset in recording.SUBSETS:
            shown = GLIOMA.available(subset.split("+"))[None]
            prediction = network.decode(features, shown)
            assert golden.difference(subset, prediction.logits.transpose(2, 4)) <= 1e-4, subset
            if subset == recording.SUBSETS[0]:
                flair = prediction.image[:, [3]].transpose(2, 4)
                assert golden.difference("image.flair", flair) <= 1e-4
        swapped = network.predict(image[:, [1, 0, 2, 3]], EVERYTHING, request=Request(outputs=("logits",))).logits
        assert golden.difference(recording.SUBSETS[-1], swapped.transpose(2, 4)) > 1e-2


def test_losses_are_the_ports_but_for_its_constants(monkeypatch):
    """The port's: 1e-5 in products, 1e-2 in divergences, 15 where the official code has 14, and no penalty."""
    golden = Golden("u_hved")
    network, shown = port(golden), torch.stack([GLIOMA.available(row.split("+")) for row in recording.LOSS_SUBSETS])
    network.segmentation.last.weight.data.mul_(recording.SOFTER)
    batch = make_batch((recording.SIZE,) * 3, torch.ones_like(shown), shown)._replace(
        image=images(GLIOMA.modalities, recording.SIZE, rows=2).transpose(2, 4),
        label=label(recording.SIZE, rows=2).transpose(1, 3),
    )
    monkeypatch.setattr(torch, "randn", lambda shape, generator: recording.noise(shape).transpose(2, 4))
    caught = []
    network.segmentation.register_forward_hook(lambda module, given, logits: caught.append(logits))

    def step():
        with torch.inference_mode():
            return network.training_step(batch, StepContext(network.stages[0])).logs

    # Sampled latents are those of the decoders: the official constant, in the port too.
    logs, theirs = step(), golden.losses()
    probability = caught[-1].softmax(dim=1)
    assert probability.min() > 0.005
    assert float(logs["cross_entropy"]) == pytest.approx(theirs["cross_entropy"], rel=1e-4)
    assert float(logs["reconstruction"]) == pytest.approx(0.1 * theirs["reconstruction"], rel=1e-4)
    # Theirs is RFNet's Dice; ours is the official one, with the prediction squared.
    target = network.head.target(batch.label, GLIOMA)
    assert float(dice_plain(probability, target)) == pytest.approx(theirs["dice_plain"], rel=1e-4)
    assert float(logs["dice"]) != pytest.approx(theirs["dice_plain"], rel=1e-2)

    monkeypatch.setattr(u_hved, "expert", partial(expert, eps=1e-5))
    monkeypatch.setattr(u_hved, "product_of_experts", partial(product_of_experts, eps=1e-5))
    monkeypatch.setattr(u_hved, "gaussian_kl", partial(gaussian_kl, eps=1e-2))
    divergence = theirs["kl_to_subsets"] * 15 / 14 + theirs["kl_to_prior"]
    assert float(step()["kl"]) == pytest.approx(0.1 * divergence, rel=1e-4)


def test_official_weights_are_refused_in_one_line():
    with pytest.raises(UserError, match=r"unknown source 'official' of u_hved weights; known: port"):
        UHVED.import_state_dict({}, "official")
