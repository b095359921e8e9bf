"""Region-aware fusion: what is summed inside a region, what its weights see, and how the layers start."""

import pytest
import torch

from anymri.nn.region_fusion import ModalityWeights, RegionFusion
from anymri.types import GLIOMA


@pytest.fixture
def fusion():
    torch.manual_seed(0)
    return RegionFusion(GLIOMA.modalities, channels=8, classes=4, hidden=32, padding="reflect")


def test_all_weights_one_and_hard_regions_sum_the_modalities_inside_each_region(fusion, monkeypatch):
    kept = {code: torch.randn(1, 8, 4, 4, 4) for code in ("t1c", "flair")}
    regions = torch.nn.functional.one_hot(torch.randint(0, 4, (1, 4, 4, 4)), 4).movedim(-1, 1).float()
    for layer in fusion.weights:
        monkeypatch.setattr(layer, "forward", lambda means, share: torch.ones(1, len(means)))
    fused = fusion.fuse(kept, regions).unflatten(1, (4, 8))
    for k in range(4):
        torch.testing.assert_close(fused[:, k], (kept["t1c"] + kept["flair"]) * regions[:, k : k + 1])


def test_weights_see_the_mean_inside_the_region_and_its_share(fusion, monkeypatch):
    regions = torch.rand(1, 4, 4, 4, 4).softmax(dim=1)
    features = torch.randn(1, 8, 4, 4, 4)
    seen = []
    for layer in fusion.weights:
        monkeypatch.setattr(layer, "forward", lambda means, share: (seen.append((means, share)), torch.ones(1, 2))[1])
    fusion.fuse({"t1": torch.zeros_like(features), "t2": features}, regions)
    for k, (means, share) in enumerate(seen):
        assert (means["t1"] == 0).all()
        expected = (features * regions[:, k : k + 1]).sum((2, 3, 4)) / regions[:, k : k + 1].sum((2, 3, 4))
        torch.testing.assert_close(means["t2"], expected)
        assert share.item() == pytest.approx(regions[:, k].mean().item(), rel=1e-4)


def test_the_layers_behind_the_modality_weights_start_as_one_layer_over_their_stack():
    torch.manual_seed(0)
    layer = ModalityWeights(GLIOMA.modalities, 16, 128)
    whole = torch.nn.Linear(4 * 16 + 1, 128)
    bound = whole.in_features**-0.5
    assert whole.bias.abs().max() <= bound
    assert 0.9 * bound < layer.share.bias.abs().max() <= bound
    stacked = torch.cat([*(part.weight for part in layer.mean.values()), layer.share.weight], dim=1)
    assert stacked.std().item() == pytest.approx((2 / whole.in_features) ** 0.5, rel=0.05)
