"""Where a network computes."""

import pytest
import torch
from torch import nn

from anymri.errors import UserError
from anymri.inference.device import device_of, find_device


def test_auto_is_a_gpu_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert find_device().type == "cuda"
    assert find_device("cuda:1") == torch.device("cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert find_device() == torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("cuda:2", "no such device"),
        ("mps", "no such device"),
        ("gpu", "no name"),
        ("cpu:1", "no name"),
        ("", "no name"),
    ],
)
def test_a_device_that_is_not_there_is_refused(name, problem, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match=f"--device={name}: {problem}"):
        find_device(name, "--device")


def test_device_of_a_network_with_buffers_only():
    network = nn.Module()
    network.register_buffer("numbers", torch.zeros(1, device="meta"))
    assert device_of(network) == torch.device("meta")
