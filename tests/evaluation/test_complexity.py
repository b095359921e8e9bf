"""Costs by hand for a convolution, against published counts for U-HVED, and as laws between subsets."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from anymri.evaluation.complexity import LiveTensors, cost_table, count_parameters, measure_cost, measure_costs
from anymri.methods import Method, MethodConfig, MethodInfo, Preset, create
from anymri.protocol.method import zero_absent
from anymri.protocol.request import EVERYTHING
from anymri.types import GLIOMA, Head, Prediction, Stage


class OneConvolution(Method):
    """Four sequences to eight channels in `encode`, eight to three in `decode`."""

    name = "one_convolution"
    info = MethodInfo(title="One convolution", family="test", task="segmentation", year=2026, reference="tests")
    presets = {"tiny": Preset((Stage("none", epochs=1, batch_size=1, patch=None, sampler="all"),))}
    head = Head(kind="sigmoid", channels=("wt", "tc", "et"))
    outputs = ("logits",)

    def __init__(self, config, spec=GLIOMA):
        super().__init__(config, spec)
        self.first = nn.Conv3d(4, 8, 3, padding=1, bias=False)
        self.second = nn.Conv3d(8, 3, 1)

    def encode(self, image, available, where=None):
        return {"features": self.first(zero_absent(image, available))}

    def decode(self, features, available, request=EVERYTHING):
        return Prediction(logits=self.second(features["features"]))


@pytest.fixture
def one_convolution():
    return OneConvolution(MethodConfig(preset="tiny"))


def test_operations_and_parameters_by_hand(one_convolution):
    cost = measure_cost(one_convolution, "t1c+flair", (8, 6, 4), repetitions=1)
    voxels = 8 * 6 * 4
    assert cost.parameters == 4 * 8 * 27 + 8 * 3 + 3
    assert cost.encode_gflop * 1e9 == pytest.approx(2 * voxels * 4 * 8 * 27)
    assert cost.decode_gflop * 1e9 == pytest.approx(2 * voxels * 8 * 3)
    assert (cost.method, cost.subset, cost.shape) == ("one_convolution", "t1c+flair", (8, 6, 4))


def test_peak_memory_by_hand(one_convolution):
    """Alive at the end of `encode`: image, shown copy and features; weights all the time."""
    cost = measure_cost(one_convolution, GLIOMA.modalities, (32, 32, 32), repetitions=1)
    volume = 32**3 * 4
    weights = 4 * cost.parameters
    floor = weights + volume * (4 + 4 + 8)
    assert floor <= cost.peak_mb * 2**20 <= floor + volume * 8


def test_times_add_up(one_convolution):
    cost = measure_cost(one_convolution, "t1", (8, 8, 8), repetitions=3)
    assert cost.encode_s > 0
    assert cost.decode_s > 0
    assert cost.windows_per_s == pytest.approx(1 / (cost.encode_s + cost.decode_s))
    assert cost.volumes_per_s(8) == pytest.approx(cost.windows_per_s / 8)


def test_live_tensors_counts_what_lives_together():
    """Three tensors of 4000 bytes are made, the first is dropped before the last; a view adds nothing."""
    start = torch.zeros(1000)
    with LiveTensors(known={start.untyped_storage()._cdata}) as live:
        first = start + 1
        second = first * 2
        view = second[10:20]
        del first
        third = second - 1
        assert view.numel() == 10
        del second, view, third
    assert live.peak == 8000


def test_every_sequence_more_is_encoded_once_more():
    method = create("u_hemis", preset="tiny")
    one, two = (measure_cost(method, subset, (16, 16, 16), repetitions=1) for subset in ("t1", "t1+flair"))
    assert two.encode_gflop == pytest.approx(2 * one.encode_gflop, rel=1e-6)
    assert two.decode_gflop == one.decode_gflop
    assert two.peak_mb > one.peak_mb


def test_published_size_and_operations_of_u_hved():
    """Its port: 1,250,552 parameters; 81.5 and 149.5 GFLOP for a 112-cube without and with the image decoders."""
    method = create("u_hved", preset="paper")
    scale = (112 / 16) ** 3
    found = {}
    for outputs in (("logits",), None):
        cost = measure_cost(method, GLIOMA.modalities, (16, 16, 16), repetitions=1, outputs=outputs)
        found[outputs] = scale * (cost.encode_gflop + cost.decode_gflop)
    assert count_parameters(method) == 1_250_552
    assert found[("logits",)] == pytest.approx(81.5, rel=0.01)
    assert found[None] == pytest.approx(149.5, rel=0.01)


def test_table_of_several_subsets(one_convolution):
    costs = measure_costs(one_convolution, (8, 8, 8), subsets=["flair+t1", "t2"], repetitions=1)
    table = cost_table(costs)
    assert table["subset"].tolist() == ["t1+flair", "t2"]
    assert len(measure_costs(one_convolution, (4, 4, 4), repetitions=1)) == 15
    assert {"encode_gflop", "decode_s", "peak_mb", "parameters"} <= set(table)


def test_mistakes_are_refused(one_convolution):
    with pytest.raises(ValueError, match="repetitions"):
        measure_cost(one_convolution, "t1", (8, 8, 8), repetitions=0)
    with pytest.raises(ValueError, match="pd"):
        measure_cost(one_convolution, "pd", (8, 8, 8))
