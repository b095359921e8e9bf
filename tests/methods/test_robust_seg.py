"""RobustSeg: the port's numbers, gates, modulation, and images of hidden modalities."""

from dataclasses import replace

import pytest
import record_robust_seg as recording
import torch
from conftest import build_preset, make_batch
from named_numbers import state_dict
from parity import Golden, parameters
from recorder import images, label

from anymri.errors import UserError
from anymri.losses.segmentation import dice_plain
from anymri.methods import StepContext
from anymri.methods.robust_seg import RobustSeg, RobustSegConfig, modulate
from anymri.types import GLIOMA

ALL = torch.ones(1, 4, dtype=torch.bool)
SIZE = (16, 16, 16)
TO_OURS = [recording.ORDER.index(code) for code in GLIOMA.modalities]


@pytest.fixture(scope="module")
def golden():
    return Golden("robust_seg")


@pytest.fixture(scope="module")
def imported(golden):
    weights = state_dict(golden.shapes)
    return RobustSeg.import_state_dict({f"module.{key}": value for key, value in weights.items()})


@pytest.fixture
def network():
    return build_preset(RobustSeg, "tiny").eval()


# -------------------------------------------------------------------------------------------------- the PyTorch port


def test_every_module_has_the_ports_size_but_for_its_layer_norms(golden):
    theirs = golden.parameters
    with torch.device("meta"):
        network = RobustSeg(RobustSegConfig())
    assert parameters(network.contents["flair"]) == theirs["ce_flair"] == 1_466_496
    assert parameters(network.styles["flair"]) == theirs["se_flair"] == 2_765_000
    assert parameters(network.segmentation) == theirs["mask_de"] == 586_388
    fusions = sum(theirs[f"{part}_c{level}"] for part in ("att", "fusion") for level in range(1, 5))
    assert parameters(network.fusions) == fusions == 103_696 + 87_280
    image = network.images["flair"]
    bare = parameters(image) - parameters(image.norms)
    assert bare == theirs["image_de_flair"] - theirs["image_de_flair.layer_norm"]


def test_styles_are_the_ports(golden, imported):
    image = images(recording.ORDER, recording.SIZE)[:, :1].transpose(2, 4)
    with torch.inference_mode():
        style = imported.styles["flair"](image)
        scale, shift = imported.images["flair"].modulation(style)
    for name, value in (("style", style), ("scale", scale), ("shift", shift)):
        expected = torch.from_numpy(golden.values[name])
        torch.testing.assert_close(value[0], expected, atol=1e-4 * expected.std().item(), rtol=1e-4)


@pytest.mark.slow
def test_logits_are_the_ports(golden, imported):
    # Theirs holds arrays (x, y, z).
    image = images(recording.ORDER, recording.SIZE)[:, TO_OURS].transpose(2, 4)
    with torch.inference_mode():
        features = imported.encode(image, ALL)
        for subset in recording.SUBSETS:
            logits = imported.decode(features, GLIOMA.available(subset.split("+"))[None]).logits
            assert golden.difference(subset, logits.transpose(2, 4)) <= 1e-4, subset
        swapped = imported.predict(image[:, [1, 0, 2, 3]], ALL).logits
        assert golden.difference(recording.SUBSETS[-1], swapped.transpose(2, 4)) > 1e-2


@pytest.mark.slow
def test_losses_are_the_ports_but_for_its_dice_and_its_mean_over_channels(golden, imported, monkeypatch):
    """The port has no penalty on kernels: its optimiser decays them. Its image decoders differ, so images are given."""
    shown = GLIOMA.available(recording.LOSS_SUBSET.split("+"))[None]
    batch = make_batch((recording.SIZE,) * 3, ALL, shown)._replace(
        image=images(recording.ORDER, recording.SIZE)[:, TO_OURS].transpose(2, 4),
        label=label(recording.SIZE).transpose(1, 3),
    )
    for code, decoder in imported.images.items():
        given, modulation = recording.rebuilt(code).transpose(2, 4), decoder.modulation
        monkeypatch.setattr(decoder, "forward", lambda content, style, image=given, of=modulation: (image, *of(style)))
    caught = []
    hook = imported.segmentation.register_forward_hook(lambda module, given, logits: caught.append(logits))
    with torch.inference_mode():
        logs = imported.training_step(batch, StepContext(imported.stages[0])).logs
    hook.remove()
    theirs = golden.losses()
    assert float(logs["cross_entropy"]) == pytest.approx(theirs["cross_entropy"], rel=1e-4)
    assert float(logs["reconstruction"]) == pytest.approx(0.1 * theirs["reconstruction"], rel=1e-4)
    # The official code's last axis holds the channels and is summed over; the port's holds one voxel.
    channels = imported.config.widths[-1]
    assert float(logs["kl"]) == pytest.approx(0.1 * channels * theirs["kl"], rel=1e-4)
    # Theirs is RFNet's Dice; ours is the official one, with the prediction squared.
    probability, target = caught[0].softmax(dim=1), imported.head.target(batch.label, GLIOMA)
    assert float(dice_plain(probability, target)) == pytest.approx(theirs["dice_plain"], rel=1e-4)
    assert float(logs["dice"]) != pytest.approx(theirs["dice_plain"], rel=1e-2)


def test_official_weights_are_refused_in_one_line():
    with pytest.raises(UserError, match=r"unknown source 'official' of robust_seg weights; known: port"):
        RobustSeg.import_state_dict({}, "official")


# ------------------------------------------------------------------------------------------------------- the claims


def test_modulation_sets_mean_and_deviation_of_every_channel():
    scale, shift = torch.tensor([[2.0, -3.0]]), torch.tensor([[5.0, -1.0]])
    x = modulate(torch.randn(1, 2, 8, 8, 8), scale, shift).flatten(2)
    torch.testing.assert_close(x.mean(dim=2), shift, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(x.std(dim=2, correction=0), scale.abs(), atol=1e-3, rtol=1e-3)


def test_gates_lie_between_zero_and_one_and_scale_their_own_modality(network, monkeypatch):
    fusion = network.fusions[0]
    kept = {code: torch.randn(1, 8, 4, 4, 4) for code in ("t1c", "flair")}
    gates = fusion.gates(kept)
    assert gates.shape == (1, 4, 4, 4, 4)
    assert 0 < gates.min() < gates.max() < 1
    seen = {}
    monkeypatch.setattr(fusion.join, "forward", lambda gated: seen.update(gated) or gated["t1c"])
    fusion(kept)
    for code in kept:
        torch.testing.assert_close(seen[code], kept[code] * gates[:, [GLIOMA.index(code)]])


def test_hidden_modalities_are_rebuilt_and_teach_the_content_that_is_shown(network):
    batch = make_batch(SIZE, ALL, GLIOMA.available(("t1c",))[None])
    content = network._fuse(network.encode(batch.image, batch.present), batch.available)[-1]
    hidden = torch.tensor([[True, False, False, False]])  # only T1 is rebuilt, only T1c is shown
    reconstruction, _ = network._rebuild(batch._replace(present=hidden), content)
    reconstruction.backward()
    assert network.contents["t1c"].stages[0].first.conv.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in network.contents["t1"].parameters())
    assert network.images["t1"].last.weight.grad.abs().sum() > 0


def test_what_lies_outside_is_mirrored_in_image_decoders(network):
    even = torch.ones(1, network.config.widths[-1], 4, 4, 4)
    with torch.inference_mode():
        image, _, _ = network.images["t1"](even, torch.randn(1, network.config.style_size))
    assert image.abs().max() > 0.1
    assert image.std() < 1e-4 * image.abs().max()


def test_only_what_is_present_is_rebuilt(network):
    present = torch.tensor([[True, False, True, True]])
    batch = make_batch(SIZE, present, GLIOMA.available(("t2",))[None])
    network.training_step(batch, StepContext(network.stages[0])).loss.backward()
    # The penalty reaches every kernel; biases of the last layers only learn from images.
    assert network.images["t1c"].last.bias.grad is None
    assert network.images["t1"].last.bias.grad is not None


def test_the_segmentation_needs_neither_styles_nor_images(network):
    image = torch.randn(1, 4, *SIZE)
    with torch.inference_mode():
        before = network.predict(image, ALL).logits
        for parameter in (*network.styles.parameters(), *network.images.parameters()):
            parameter.fill_(torch.nan)
        assert torch.equal(network.predict(image, ALL).logits, before)


def test_a_training_step_rebuilds_every_sequence_from_the_contents_of_the_shown_ones(network, monkeypatch):
    for name in ("weighted_cross_entropy", "dice_squared_prediction"):
        monkeypatch.setattr(f"anymri.methods.robust_seg.{name}", lambda *given: torch.zeros(()))
    network.config = replace(network.config, penalty=0.0)
    batch = make_batch(SIZE, ALL, GLIOMA.available(("t1c",))[None])
    network.training_step(batch, StepContext(network.stages[0])).loss.backward()
    first = {code: content.stages[0].first.conv.weight.grad for code, content in network.contents.items()}
    assert [code for code, gradient in first.items() if gradient is not None and gradient.any()] == ["t1c"]
    assert all(decoder.last.weight.grad.any() for decoder in network.images.values())
