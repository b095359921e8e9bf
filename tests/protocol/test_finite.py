"""NaN and infinity in weights: what is refused when a file is read, and what may stay."""

import pytest
import torch
from torch import nn

from anymri.methods import Method, MethodConfig, MethodInfo, Preset, create, get_method
from anymri.protocol.finite import find_non_finite, has_finite_logits, is_finite
from anymri.types import GLIOMA, Prediction, Stage, UserError


class Masked(Method):
    """A network with every kind of tensor that a weights file may hold."""

    name = "masked"
    info = MethodInfo(title="Masked", family="baseline", task="segmentation", year=2026, reference="none")
    presets = {preset: Preset((Stage("train", 1, 1, None, "all"),)) for preset in ("paper", "tiny")}

    def __init__(self, config=MethodConfig(), spec=GLIOMA):
        super().__init__(config, spec)
        self.convolution, self.norm = nn.Conv3d(4, 3, 3), nn.BatchNorm3d(3)
        self.gain = nn.Parameter(torch.tensor(1.0))
        self.short = nn.Parameter(torch.zeros(3, dtype=torch.bfloat16))
        self.register_buffer("mask", torch.zeros(2, 2).masked_fill(torch.eye(2) == 0, -torch.inf))
        self.register_buffer("table", torch.zeros(1))  # of any size, as trees are


TENSORS = (
    "convolution.weight", "convolution.bias", "norm.weight", "norm.running_mean", "norm.running_var", "gain", "short",
    "mask", "table",
)  # fmt: skip


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("name", TENSORS)
def test_one_value_that_is_no_number_is_refused_by_name(tmp_path, name, bad):
    method = Masked()
    method.table = torch.zeros(5)
    method.save(tmp_path / "whole.safetensors")
    Masked.load(tmp_path / "whole.safetensors")
    with torch.no_grad():
        method.state_dict()[name].view(-1)[-1] = bad
    path = tmp_path / "bad.safetensors"
    method.save(path)
    with pytest.raises(UserError) as error:
        Masked.load(path)
    assert str(error.value) == (
        f"{path}: the weights of masked hold NaN or infinite values in 1 of {len(method.state_dict())} tensors, "
        f"first {name}; get the file anew or train again"
    )


def test_what_fresh_buffers_hold_may_stay_and_only_that(tmp_path):
    method, path = Masked(), tmp_path / "a.safetensors"
    assert method.median_statistics.isnan().all()
    method.median_statistics[0, :2] = 7  # two modalities known, two that no training subject had
    method.save(path)
    assert torch.equal(Masked.load(path).mask, method.mask)
    method.median_statistics[0, 3, 0] = torch.inf
    method.save(path)
    with pytest.raises(UserError, match="first median_statistics"):
        Masked.load(path)


@pytest.mark.parametrize("leaf", ["threshold", "value"])
def test_trees_hold_numbers_too(tmp_path, leaf):
    method = create("replica", preset="tiny", subset="t1", target="t2")
    getattr(method.forests[1], leaf)[0] = torch.nan
    method.save(tmp_path / "trees.safetensors")
    with pytest.raises(UserError, match=rf"first forests\.1\.{leaf}; get the file anew"):
        get_method("replica").load(tmp_path / "trees.safetensors")


def test_finite_is_neither_nan_nor_infinite():
    values = torch.tensor([3e38, -3e38, 1e-45])
    assert is_finite(values)
    assert is_finite(values[:0])
    assert is_finite(torch.tensor([2**62]))
    for bad in (torch.nan, torch.inf, -torch.inf):
        assert not is_finite(torch.cat([values, torch.tensor([bad])]))
    assert find_non_finite({"a": values, "b": values * 10, "c": values / 0}, {}) == ["b", "c"]


def test_logits_of_channels_that_are_not_there_do_not_count():
    named = torch.zeros(2, 4, 4)
    named[0, 1] = torch.nan
    shown = torch.tensor([True, False, True, True])
    assert has_finite_logits(Prediction(modality_logits=named), 0, shown)
    assert not has_finite_logits(Prediction(modality_logits=named), 0, ~shown)
    assert has_finite_logits(Prediction(modality_logits=named), 1, ~shown)
    assert has_finite_logits(Prediction(), 0, shown)
