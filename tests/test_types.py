"""The shared words: subsets, heads, intensity scales."""

import pytest
import torch

from anymri.types import GLIOMA, STATISTICS, DataSpec, Head, Intensity


def test_fifteen_subsets_in_the_order_of_the_specification():
    subsets = GLIOMA.subsets()
    assert len(subsets) == 15
    assert subsets[0] == ("t1",)
    assert subsets[-1] == GLIOMA.modalities
    assert GLIOMA.parse_subset("flair + t1c") == ("t1c", "flair")
    assert GLIOMA.subset_name(GLIOMA.available(("flair", "t1c"))) == "t1c+flair"


@pytest.mark.parametrize("text", ["", "t1+t1", "t1ce"])
def test_a_wrong_subset_is_refused(text):
    with pytest.raises(ValueError, match="modalities|not one of"):
        GLIOMA.parse_subset(text)


def test_a_modality_named_twice_is_refused():
    with pytest.raises(ValueError, match="twice"):
        DataSpec(modalities=("t1", "t1"))


def test_softmax_target_is_one_hot_in_the_order_of_the_channels():
    head = Head("softmax", ("background", "ncr", "edema", "et"))
    target = head.target(torch.tensor([[0, 1, 2, 3]]))
    torch.testing.assert_close(target[0], torch.eye(4))


def test_sigmoid_target_names_regions():
    head = Head("sigmoid", ("et", "tc", "wt"))
    target = head.target(torch.tensor([[0, 1, 2, 3]]))
    assert target[0].tolist() == [[0, 0, 0, 1], [0, 1, 0, 1], [0, 1, 1, 1]]


@pytest.mark.parametrize("kind", ["unit", "symmetric", "mean"])
def test_intensity_goes_there_and_back(kind):
    statistics = torch.tensor([100.0, 20.0, 10.0, 200.0, 12.0, 20.0, 180.0, 195.0]).reshape(1, 1, len(STATISTICS))
    raw = torch.tensor([50.0, 100.0, 150.0]).reshape(1, 1, 3)
    cached = (raw - 100) / 20
    cached[0, 0, 1] = 1e-3  # a brain voxel is never exactly 0 in the cache
    scale = Intensity(kind)
    mapped = scale.apply(cached, statistics)
    torch.testing.assert_close(scale.invert(mapped, statistics), cached, atol=1e-4, rtol=0)
    background = scale.apply(torch.zeros(1, 1, 1), statistics).item()
    assert background == {"unit": 0.0, "symmetric": -1.0, "mean": 0.0}[kind]
