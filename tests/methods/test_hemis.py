"""HeMIS: sizes counted by hand, moments of the features, and slices on their own."""

import pytest
import torch
from conftest import build_preset
from parity import parameters

from anymri.methods.hemis import HeMIS, HeMISConfig
from anymri.nn.fusion import masked_moments
from anymri.types import GLIOMA, DataSpec

#: BraTS 2015 has one class more.
FIVE_CLASSES = DataSpec(
    GLIOMA.modalities,
    labels={"ncr": 1, "edema": 2, "net": 3, "et": 4},
    regions={"whole_tumor": ("ncr", "edema", "net", "et")},
)


@pytest.fixture
def network():
    return build_preset(HeMIS, "tiny").eval()


@pytest.mark.parametrize(("kernel", "front"), [(5, 40_421), (21, 73_701)])
def test_parameters_are_those_counted_by_hand(kernel, front):
    with torch.device("meta"):
        network = HeMIS(HeMISConfig(last_kernel=kernel), FIVE_CLASSES)
    # 5 x 5 kernels: 1 to 48, 48 to 48; then 96 to 16 and the last one.
    assert {parameters(back_end) for back_end in network.back_ends.values()} == {58_896}
    assert parameters(network.front) + parameters(network.classifier) == front


def test_one_modality_has_no_variance_and_two_share_their_mean(network):
    features = network.encode(torch.randn(1, 4, 3, 8, 8), torch.ones(1, 4, dtype=torch.bool))
    both = [features["t1"], features["flair"]]
    mean, variance = masked_moments(both, torch.tensor([[True, True]]))
    torch.testing.assert_close(mean, (both[0] + both[1]) / 2)
    torch.testing.assert_close(variance, ((both[0] - both[1]) / 2) ** 2)
    _, alone = masked_moments(both, torch.tensor([[True, False]]))
    assert (alone == 0).all()


def test_the_segmentation_is_what_mean_and_variance_give(network, monkeypatch):
    seen = []
    monkeypatch.setattr(network.front, "forward", lambda x: seen.append(x) or torch.zeros(1, 8, *x.shape[2:]))
    image = torch.randn(1, 4, 3, 8, 8)
    network.predict(image, GLIOMA.available(("t2",))[None])
    with torch.inference_mode():
        expected = network.back_ends["t2"](image[:, [GLIOMA.index("t2")]])
    assert torch.equal(seen[0][:, :12], expected)
    assert (seen[0][:, 12:] == 0).all()


def test_slices_do_not_see_each_other(network):
    image, available = torch.randn(1, 4, 5, 12, 12), GLIOMA.available(("t1", "t2"))[None]
    with torch.inference_mode():
        whole = network.predict(image, available).logits
        alone = network.predict(image[:, :, 2:3], available).logits
    torch.testing.assert_close(alone, whole[:, :, 2:3], atol=1e-5, rtol=1e-4)


def test_pooling_keeps_size_and_takes_the_largest_of_four(network):
    back_end = network.back_ends["t1"]
    image = torch.randn(1, 1, 1, 6, 6)
    with torch.inference_mode():
        before = torch.relu(back_end.second(torch.relu(back_end.first(image))))
        after = back_end(image)
    assert after.shape == before.shape
    assert torch.equal(after[..., 2, 3], before[..., 2:4, 3:5].amax(dim=(-2, -1)))
    assert torch.equal(after[..., 5, 5], before[..., 5, 5])


def test_a_single_modality_gives_finite_gradients(network):
    logits = network.predict(torch.randn(1, 4, 2, 8, 8), GLIOMA.available(("t1",))[None]).logits
    logits.square().mean().backward()
    assert network.back_ends["t1"].first.weight.grad.isfinite().all()
    assert network.back_ends["t2"].first.weight.grad is None
