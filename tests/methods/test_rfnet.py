"""RFNet: the authors' numbers, region-aware fusion, warm-up, and what may bend the region maps."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_batch

from anymri.errors import UserError
from anymri.losses.class_weighted import cross_entropy_and_dice
from anymri.methods import StepContext
from anymri.methods.rfnet import RFNet, RFNetConfig
from anymri.nn.res_encoder import StackedConv
from anymri.types import GLIOMA

GOLDEN = Path(__file__).parents[1] / "golden"
sys.path.insert(0, str(GOLDEN))

import record_rfnet as recording  # noqa: E402
from named_numbers import sample, state_dict  # noqa: E402

SIZE = (16, 16, 16)
#: From our channel order to the authors' and back.
TO_THEIRS = [GLIOMA.index(code) for code in recording.ORDER]
TO_OURS = [recording.ORDER.index(code) for code in GLIOMA.modalities]


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "rfnet.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def imported(golden):
    theirs = state_dict(json.loads(str(golden["shapes"])))
    return RFNet.import_state_dict({f"module.{key}": value for key, value in theirs.items()}, "retrained")


@pytest.fixture
def network():
    torch.manual_seed(0)
    return RFNet(RFNetConfig.build({**RFNet.presets["tiny"].config, "preset": "tiny"})).eval()


# -------------------------------------------------------------------------------------------------- the authors' code


def test_every_module_has_the_authors_size(golden):
    theirs = json.loads(str(golden["about"]))["parameters"]
    with torch.device("meta"):
        network = RFNet(RFNetConfig())
    ours = {name: sum(p.numel() for p in child.parameters()) for name, child in network.named_children()}
    assert ours == {
        "encoders": sum(size for name, size in theirs.items() if name.endswith("_encoder")),
        "fusion": theirs["decoder_fuse"],
        "auxiliary": theirs["decoder_sep"],
    }
    assert sum(ours.values()) == 8_984_960


def test_logits_are_the_authors(golden, imported):
    # Theirs holds arrays (x, y, z).
    image = recording.images(1)[:, TO_OURS].transpose(2, 4)
    with torch.inference_mode():
        features = imported.encode(image, torch.ones(1, 4, dtype=torch.bool))
        for subset in recording.SUBSETS:
            logits = imported.decode(features, GLIOMA.available(subset.split("+"))[None]).logits.transpose(2, 4)
            expected, std = golden[f"{subset}.logits"], golden[f"{subset}.moments"][1]
            assert std > 0.1
            assert np.abs(sample(logits) - expected).max() <= 1e-4 * std, subset
            np.testing.assert_allclose([logits.mean(), logits.std()], golden[f"{subset}.moments"], atol=1e-4 * std)
        swapped = imported.encode(image[:, [1, 0, 2, 3]], torch.ones(1, 4, dtype=torch.bool))
        logits = imported.decode(swapped, torch.ones(1, 4, dtype=torch.bool)).logits.transpose(2, 4)
        assert np.abs(sample(logits) - expected).max() > 1e-2


def test_losses_are_the_authors(golden, imported):
    shown = torch.stack([GLIOMA.available(subset.split("+")) for subset in recording.LOSS_SUBSETS])
    batch = make_batch((recording.SIZE,) * 3, torch.ones_like(shown), shown)
    batch = batch._replace(
        image=recording.images(2)[:, TO_OURS].transpose(2, 4), label=recording.label(2).transpose(1, 3)
    )
    with torch.inference_mode():
        logs = imported.training_step(batch, StepContext(imported.stages[0], progress=0.5)).logs
    assert {key.removeprefix("loss.") for key in golden if key.startswith("loss.")} == set(logs)
    for name, value in logs.items():
        assert float(value) == pytest.approx(float(golden[f"loss.{name}"]), rel=1e-5), name


def test_foreign_weights_are_refused_in_one_line(golden):
    theirs = state_dict(json.loads(str(golden["shapes"])))
    with pytest.raises(UserError, match="unknown source 'paper' of rfnet weights; known: official, retrained"):
        RFNet.import_state_dict(theirs, "paper")
    del theirs["decoder_sep.seg_layer.weight"]
    with pytest.raises(UserError, match="are not those of RFNet for four classes"):
        RFNet.import_state_dict(theirs)


# ------------------------------------------------------------------------------------------------------- the claims


def one_step(network, progress, backward="loss"):
    everything = torch.ones(1, 4, dtype=torch.bool)
    network.zero_grad(set_to_none=True)
    output = network.training_step(
        make_batch(SIZE, everything, everything), StepContext(network.stages[0], progress=progress)
    )
    output.loss.backward()
    return output


def test_the_fused_segmentation_is_not_learned_during_the_warm_up(network):
    start = network.config.warm_up
    assert start * 300 == pytest.approx(20)
    during, after = one_step(network, start - 1e-6), None
    assert (network.fusion.classifier.weight.grad == 0).all()
    assert network.fusion.maps[0].classifier.weight.grad.abs().sum() > 0
    assert network.auxiliary.classifier.weight.grad.abs().sum() > 0
    after = one_step(network, start)
    assert network.fusion.classifier.weight.grad.abs().sum() > 0
    fused = after.logs["fusion_cross_entropy"] + after.logs["fusion_dice"]
    assert (after.loss - during.loss).item() == pytest.approx(fused.item(), rel=1e-4)


def test_the_fused_segmentation_does_not_bend_the_region_maps(network):
    kept = [
        {code: feature[level] for code, feature in network.encode(torch.randn(1, 4, *SIZE), ALL).items()}
        for level in range(4)
    ]
    logits, maps = network.fusion(kept)
    logits.sum().backward()
    for branch in network.fusion.maps:
        assert all(parameter.grad is None for parameter in branch.parameters())
    assert [tuple(region_map.shape[2:]) for region_map in maps] == [(16,) * 3, (8,) * 3, (4,) * 3, (2,) * 3]


ALL = torch.ones(1, 4, dtype=torch.bool)


def test_training_judges_nine_segmentations_and_prediction_makes_one(network, monkeypatch):
    judged = {}

    def watch(name, probabilities, targets):
        judged[name] = [tuple(probability.shape) for probability in probabilities]
        return cross_entropy_and_dice(name, probabilities, targets)

    monkeypatch.setattr("anymri.methods.rfnet.cross_entropy_and_dice", watch)
    one_step(network, 0.5)
    whole = (1, 4, *SIZE)
    assert judged == {"fusion": [whole], "separate": [whole] * 4, "region_map": [whole] * 4}
    del network.auxiliary
    assert network.predict(torch.randn(1, 4, *SIZE), ALL).logits.shape == whole


def test_only_present_modalities_are_segmented_alone(network):
    batch = make_batch(SIZE, torch.tensor([[True, False, True, True]]), torch.tensor([[True, False, False, False]]))
    output = network.training_step(batch, StepContext(network.stages[0], progress=0.5))
    assert 0 < output.logs["separate_dice"] < 3
    output.loss.backward()
    assert all(parameter.grad is None for parameter in network.encoders["t1c"].parameters())
    assert network.encoders["flair"].stages[0].first.conv.weight.grad.abs().sum() > 0


def test_a_convolution_over_the_stack_is_a_sum_over_modalities():
    stacked = StackedConv(GLIOMA.modalities, 3, 5, kernel_size=3)
    parts = {code: torch.randn(2, 3, 4, 4, 4) for code in GLIOMA.modalities}
    weight = torch.cat([conv.weight for conv in stacked.convs.values()], dim=1)
    padded = torch.nn.functional.pad(torch.cat(list(parts.values()), dim=1), [1] * 6, mode="reflect")
    torch.testing.assert_close(stacked(parts), torch.nn.functional.conv3d(padded, weight), atol=1e-5, rtol=1e-4)


def test_a_window_of_one_coarse_voxel_is_accepted(network):
    with torch.inference_mode():
        assert network.predict(torch.randn(1, 4, 8, 8, 8), ALL).logits.isfinite().all()
