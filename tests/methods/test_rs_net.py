"""RS-Net: two heads on shared features, the terms by hand, and dropout that says where the synthesis is unsure."""

import pytest
import torch
from conftest import build_preset, make_batch, run_turns
from torch.nn import functional as F

from anymri.errors import UserError
from anymri.methods import StepContext
from anymri.methods.rs_net import RSNet
from anymri.protocol.noise import Noise
from anymri.protocol.request import Request
from anymri.types import GLIOMA

SIZE = (8, 8, 8)
ALL = torch.ones(1, 4, dtype=torch.bool)
OWN = GLIOMA.available(("t1", "t1c", "t2"))[None]
NARROW = {"widths": (4, 8), "latent": 4, "head_width": 4}


def build(**config):
    return build_preset(RSNet, "tiny", **{**NARROW, "subset": "t1+t1c+t2", **config}).eval()


@pytest.fixture
def network():
    return build()


def test_the_target_is_made_from_latent_maps_and_one_real_source(network):
    image = torch.randn(1, 4, *SIZE)
    with torch.inference_mode():
        prediction = network.predict(image, OWN)
        latent = network.trunk(image[:, :3])
        expected = network.regression(torch.cat([latent, image[:, :1]], dim=1))
        torch.testing.assert_close(prediction.logits, network.segmentation(latent))
    torch.testing.assert_close(prediction.image[:, 3], expected[:, 0])
    assert prediction.image[:, :3].isnan().all()
    assert prediction.synthesised.tolist() == [[False, False, False, True]]


@pytest.mark.parametrize(("subset", "target", "guide", "column"), [
    ("t1+t2", "flair", None, 0),
    ("t1c+t2+flair", "t1", None, 2),
    ("t1c+t2", "flair", "t2", 1),
])  # fmt: skip
def test_the_guide_is_t1_or_the_first_by_name_or_the_one_that_is_asked_for(subset, target, guide, column):
    network = build(subset=subset, target=target, guide=guide)
    assert network._guide_column == column
    assert network.needs == (*subset.split("+"), target)


def test_a_guide_that_is_no_source_is_refused():
    with pytest.raises(UserError, match="guide = 'flair': not one of the sources t1, t1c, t2"):
        build(guide="flair")


def test_the_terms_by_hand():
    network = build(dropout=0.0, regression_weight=2.0, segmentation_weight=0.5)
    batch = make_batch(SIZE, ALL, OWN)
    output = run_turns(network, batch)["train.main"]["output"]
    with torch.inference_mode():
        prediction = network.predict(batch.image, OWN)
    regression = ((prediction.image[:, 3] - batch.image[:, 3]) ** 2).mean().item()
    segmentation = F.cross_entropy(prediction.logits, batch.label).item()
    assert output.logs["regression"].item() == pytest.approx(regression, rel=1e-4)
    assert output.logs["segmentation"].item() == pytest.approx(segmentation, rel=1e-4)
    assert output.loss.item() == pytest.approx(2 * regression + 0.5 * segmentation, rel=1e-4)


@pytest.mark.parametrize("other", ["regression", "segmentation"])
def test_each_loss_alone_trains_the_shared_features_and_not_the_other_head(other):
    network = build(**{f"{other}_weight": 0.0})
    gradients = run_turns(network, make_batch(SIZE, ALL, OWN))["train.main"]["gradients"]
    assert gradients["trunk.encoder.stages.0.first.conv.weight"].abs().sum() > 0
    assert not any(key.startswith(f"{other}.") for key in gradients)


def test_without_the_segmentation_head_the_synthesis_is_the_same(network):
    image = torch.randn(1, 4, *SIZE)
    before = network.predict(image, OWN).image
    for parameter in network.segmentation.parameters():
        torch.nn.init.zeros_(parameter)
    torch.testing.assert_close(network.predict(image, OWN).image, before, equal_nan=True)


def test_passes_with_dropout_differ_and_without_dropout_coincide():
    image = torch.randn(1, 4, *SIZE)
    uncertainty = build().uncertainty(image, OWN, passes=6)
    assert uncertainty.mean.shape == uncertainty.variance.shape == (1, *SIZE)
    assert (uncertainty.variance >= 0).all()
    assert (uncertainty.variance > 0).float().mean() > 0.9
    certain = build(dropout=0.0)
    mean, variance = certain.uncertainty(image, OWN, passes=3)
    torch.testing.assert_close(mean, certain.predict(image, OWN).image[:, 3])
    assert variance.max() < 1e-10


def test_the_variance_is_that_of_the_passes_by_hand(network):
    image = torch.randn(1, 4, *SIZE)
    passes = [
        network.predict(image, OWN, request=Request(noise=Noise([f"5|{number}|0"]))).image[:, 3] for number in range(3)
    ]
    mean = sum(passes) / 3
    found = network.uncertainty(image, OWN, passes=3, seed=5)
    torch.testing.assert_close(found.mean, mean)
    torch.testing.assert_close(found.variance, sum((x - mean) ** 2 for x in passes) / 3)


def test_dropped_latent_values_are_zero_and_the_others_keep_the_mean(network):
    latent = torch.ones(1, 4, 16, 16, 16)
    dropped = network._drop(latent, Noise(["a"]))
    assert dropped.unique().tolist() == pytest.approx([0.0, 1.25])
    assert (dropped == 0).float().mean().item() == pytest.approx(0.2, abs=0.01)
    assert dropped.mean().item() == pytest.approx(1, abs=0.01)
    # A later window drops the same where it overlaps.
    later = network._drop(latent, Noise(["a"], torch.tensor([[0, 0, 4]])))
    assert torch.equal(later[..., :-4], dropped[..., 4:])


def test_training_drops_too(network):
    network.train()
    batch = make_batch(SIZE, ALL, OWN)
    losses = {network.training_step(batch, StepContext(network.stages[0])).loss.item() for _ in range(3)}
    assert len(losses) == 3
