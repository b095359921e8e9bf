"""nnU-Net per subset: its planner's and its network's numbers, levels of supervision, and what a subset changes."""

import json

import pytest
import record_nnunet_per_subset as recording
import torch
from conftest import build_preset, make_batch
from parity import Golden, parameters
from recorder import images

from anymri.errors import UserError
from anymri.losses.segmentation import level_weights
from anymri.methods import StepContext
from anymri.methods.nnunet_per_subset import NnUNetPerSubset, NnUNetPerSubsetConfig, plan_topology
from anymri.types import GLIOMA

ALL = torch.ones(1, 4, dtype=torch.bool)


@pytest.fixture(scope="module")
def golden():
    return Golden("nnunet_per_subset")


@pytest.fixture(scope="module")
def imported(golden):
    return NnUNetPerSubset.import_state_dict(golden.filled("network"))


@pytest.mark.parametrize("number", range(len(recording.PLANNED)))
def test_topologies_are_nnunets(golden, number):
    strides, kernels, patch = json.loads(str(golden.values["plans"]))[number]
    plan = plan_topology(*recording.PLANNED[number])
    assert [list(stride) for stride in plan.strides] == strides
    assert [list(kernel) for kernel in plan.kernels] == kernels
    assert list(plan.patch) == patch


def test_the_network_has_nnunets_size(golden):
    with torch.device("meta"):
        network = NnUNetPerSubset(NnUNetPerSubsetConfig()).network
    assert parameters(network.down) == golden.parameters["encoder"]
    upward = parameters(network.enlarge) + parameters(network.up) + parameters(network.heads)
    assert upward == golden.parameters["decoder"]


def test_logits_are_nnunets(golden, imported):
    image = images(recording.ORDER, recording.SIZE)
    with torch.inference_mode():
        features = imported.network(image)
        for level in range(2):
            logits = imported.network.heads[-1 - level](features[-1 - level])
            assert golden.difference(f"level{level}", logits) <= 1e-4
        swapped = imported.network.heads[-1](imported.network(image[:, [1, 0, 2, 3]])[-1])
        assert golden.difference("level0", swapped) > 1e-2


def test_foreign_sources_are_refused():
    with pytest.raises(UserError, match="unknown source 'v1' of nnunet_per_subset weights"):
        NnUNetPerSubset.import_state_dict({}, "v1")


# ------------------------------------------------------------------------------------------------------- the claims


def test_a_window_of_128_has_logits_at_five_sizes():
    with torch.device("meta"):
        method = NnUNetPerSubset(NnUNetPerSubsetConfig(subset="flair"))
        features = method.network(torch.zeros(1, 1, 128, 128, 128))
    assert method.plan.widths == (32, 64, 128, 256, 320, 320)
    assert [feature.shape[-1] for feature in features] == [8, 16, 32, 64, 128]
    weights = level_weights(len(features) - 1)
    assert sum(weights) == pytest.approx(1)
    assert weights[0] == 2 * weights[1] == 8 * weights[3]


def test_the_subset_changes_the_first_convolution_alone():
    shapes = []
    for subset in ("flair", "t1c+flair"):
        with torch.device("meta"):
            method = build_preset(NnUNetPerSubset, "tiny", subset=subset)
        shapes.append({key: value.shape for key, value in method.state_dict().items()})
    assert [key for key in shapes[0] if shapes[0][key] != shapes[1][key]] == ["network.down.0.0.conv.weight"]


def test_the_subset_of_all_is_the_network_of_every_channel():
    whole, named = (build_preset(NnUNetPerSubset, "tiny", subset=subset).eval() for subset in (None, "flair+t2+t1c+t1"))
    image = torch.randn(1, 4, 16, 16, 16)
    assert whole.subsets == named.subsets
    with torch.inference_mode():
        expected = whole.network.heads[-1](whole.network(image)[-1])
        for method in (whole, named):
            assert torch.equal(method.predict(image, ALL).logits, expected)


def test_a_perfect_and_a_wrong_segmentation_have_the_losses_one_expects(monkeypatch):
    method = build_preset(NnUNetPerSubset, "tiny", subset="flair")
    batch = make_batch((16, 16, 16), ALL, GLIOMA.available(("flair",))[None])
    signs = 2 * method.head.target(batch.label) - 1
    sizes = (4, 8, 16)
    for i in range(len(method.network.heads)):
        method.network.heads[i] = torch.nn.Identity()
    for scale, dice, entropy in ((30.0, 0.0, 0.0), (-30.0, 1.0, 30.0)):
        levels = [scale * torch.nn.functional.interpolate(signs, size=size, mode="nearest-exact") for size in sizes]
        monkeypatch.setattr(method.network, "forward", lambda x, levels=levels: levels)
        logs = method.training_step(batch, StepContext(method.stages[0])).logs
        assert float(logs["dice"]) == pytest.approx(dice, abs=1e-3)
        assert float(logs["cross_entropy"]) == pytest.approx(entropy, abs=1e-3)


def test_windows_too_small_for_a_network_are_refused():
    with pytest.raises(UserError, match="too small for a U-Net"):
        NnUNetPerSubset(NnUNetPerSubsetConfig(window=(8, 8, 8)))
