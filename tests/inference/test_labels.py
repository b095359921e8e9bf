"""The way back from probabilities to labels, by hand-made numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anymri.inference.labels import label_map, region_probability, regions
from anymri.types import GLIOMA, DataSpec, Head

SOFTMAX = Head("softmax", ("background", "ncr", "edema", "et"))
SIGMOID = Head("sigmoid", ("et", "tc", "wt"))


def columns(*voxels):
    """Probabilities of single voxels as (C, N, 1, 1)."""
    return torch.tensor(voxels).T[:, :, None, None]


def test_softmax_takes_the_largest():
    probability = columns([0.4, 0.3, 0.2, 0.1], [0.1, 0.5, 0.2, 0.2], [0.1, 0.2, 0.4, 0.3], [0.1, 0.2, 0.3, 0.4])
    assert label_map(probability, SOFTMAX).ravel().tolist() == [0, 1, 2, 3]
    assert label_map(probability, SOFTMAX).dtype == np.uint8
    found = regions(probability, SOFTMAX)
    assert found["whole_tumor"].ravel().tolist() == [False, True, True, True]
    assert found["tumor_core"].ravel().tolist() == [False, True, False, True]
    assert found["enhancing_tumor"].ravel().tolist() == [False, False, False, True]


def test_channel_order_follows_the_names():
    swapped = Head("softmax", ("et", "background", "edema", "ncr"))
    assert label_map(columns([0.9, 0.1, 0.0, 0.0], [0.0, 0.1, 0.0, 0.9]), swapped).ravel().tolist() == [3, 1]


def test_sigmoid_regions_are_scored_alone_and_painted_in_order():
    probability = columns([0.0, 0.0, 0.6], [0.0, 0.6, 0.6], [0.6, 0.6, 0.6], [0.6, 0.0, 0.0], [0.5, 0.5, 0.5])
    assert label_map(probability, SIGMOID).ravel().tolist() == [2, 1, 3, 3, 0]
    found = regions(probability, SIGMOID)
    assert list(found) == ["whole_tumor", "tumor_core", "enhancing_tumor"]
    assert found["whole_tumor"].ravel().tolist() == [True, True, True, False, False]
    assert found["enhancing_tumor"].ravel().tolist() == [False, False, True, True, False]


def test_threshold_of_the_head_counts():
    strict = Head("sigmoid", ("wt",), threshold=0.8)
    assert regions(columns([0.7], [0.9]), strict)["whole_tumor"].ravel().tolist() == [False, True]
    assert list(regions(columns([0.7]), strict)) == ["whole_tumor"]
    assert label_map(columns([0.7], [0.9]), strict).ravel().tolist() == [0, 2]


def test_sigmoid_labels_make_up_regions():
    head = Head("sigmoid", ("ncr", "edema"))
    found = regions(columns([0.9, 0.1], [0.1, 0.9]), head)
    assert found["whole_tumor"].ravel().tolist() == [True, True]
    assert found["tumor_core"].ravel().tolist() == [True, False]
    assert "enhancing_tumor" not in found
    assert label_map(columns([0.9, 0.1], [0.1, 0.9]), head).ravel().tolist() == [1, 2]


def test_other_specifications():
    organs = DataSpec(
        modalities=("t1_in", "t2_spir"),
        labels={"liver": 63, "spleen": 252},
        regions={"liver": ("liver",), "spleen": ("spleen",)},
    )
    head = Head("softmax", ("background", "liver", "spleen"))
    assert label_map(columns([0.1, 0.2, 0.7], [0.1, 0.8, 0.1]), head, organs).ravel().tolist() == [252, 63]
    flat = Head("sigmoid", ("spleen", "liver"))
    assert label_map(columns([0.9, 0.1], [0.1, 0.8]), flat, organs).ravel().tolist() == [252, 63]


def test_labels_survive_the_way_through_head_and_back():
    label = torch.randint(0, 4, (1, 5, 6, 7), generator=torch.Generator().manual_seed(1))
    for head in (SOFTMAX, SIGMOID, Head("sigmoid", ("wt", "tc", "et"))):
        assert np.array_equal(label_map(head.target(label)[0], head), label[0].numpy())
        for region, inside in regions(head.target(label)[0], head).items():
            assert np.array_equal(inside, np.isin(label[0].numpy(), GLIOMA.region_values(region)))


def test_region_probability_sums_labels():
    probability = columns([0.1, 0.2, 0.3, 0.4])
    found = region_probability(probability, SOFTMAX)
    assert [float(found[r].item()) for r in found] == pytest.approx([0.9, 0.6, 0.4])
    assert float(region_probability(columns([0.3, 0.4, 0.5]), SIGMOID)["tumor_core"].item()) == pytest.approx(0.4)


def test_a_wrong_number_of_channels_is_refused():
    with pytest.raises(ValueError, match="3 channels"):
        label_map(torch.zeros(3, 2, 2, 2), SOFTMAX)
