"""Normalisation, resizing and the hetero-modal encoder and decoder."""

import pytest
import torch
from torch import nn

from anymri.nn.blocks import InstanceNorm, enlarge
from anymri.nn.hetero_modal import ModalityEncoder, SkipDecoder


def test_instance_norm_equals_torch_and_accepts_one_voxel():
    ours, theirs = InstanceNorm(3, eps=1e-6), nn.InstanceNorm3d(3, eps=1e-6, affine=True)
    with torch.no_grad():
        for norm in (ours, theirs):
            norm.weight.copy_(torch.tensor([1.0, 2.0, 3.0]))
            norm.bias.copy_(torch.tensor([0.0, 1.0, -1.0]))
    x = torch.randn(2, 3, 4, 5, 6)
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours(torch.randn(1, 3, 1, 1, 1)).flatten(), ours.bias, atol=1e-3, rtol=0)


def test_centred_and_corner_resizing_of_a_ramp():
    ramp = torch.arange(4.0).reshape(1, 1, 4, 1, 1).expand(1, 1, 4, 4, 4)
    centred = enlarge(ramp, (8, 8, 8))[0, 0, :, 3, 3]
    corner = enlarge(ramp, (8, 8, 8), "corner")[0, 0, :, 3, 3]
    torch.testing.assert_close(centred, torch.tensor([0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]))
    torch.testing.assert_close(corner, torch.tensor([0, 0.5, 1, 1.5, 2, 2.5, 3, 3]))
    with pytest.raises(ValueError, match="doubles"):
        enlarge(ramp, (9, 8, 8), "corner")


def test_parameter_counts_of_the_published_encoder_and_decoders():
    def count(module):
        return sum(parameter.numel() for parameter in module.parameters())

    widths = (8, 16, 32, 64)
    assert count(ModalityEncoder(widths, 0.02)) == 221_560
    assert count(SkipDecoder((16, 32, 64, 128), widths, 4, 0.02)) == 210_608
    assert count(SkipDecoder((4, 8, 16, 32), widths, 1, 0.02)) == 72_860
    assert count(SkipDecoder((4, 8, 16, 32), widths, 4, 0.02)) == 72_872


def test_encoder_levels_halve_and_widen():
    levels = ModalityEncoder((2, 4, 6), 0.02)(torch.randn(1, 1, 8, 16, 12))
    assert [tuple(level.shape[1:]) for level in levels] == [(2, 8, 16, 12), (4, 4, 8, 6), (6, 2, 4, 3)]


def test_instance_norm_gives_the_same_numbers_in_either_memory_layout():
    norm = InstanceNorm(8, eps=1e-6)
    for rows in (1, 2):
        plain = torch.randn(rows, 8, 4, 6, 5, requires_grad=True)
        last = plain.detach().to(memory_format=torch.channels_last_3d).requires_grad_()
        torch.testing.assert_close(norm(last), norm(plain))
        weight = torch.randn_like(plain)
        for x in (plain, last):
            (norm(x) * weight).sum().backward()
        torch.testing.assert_close(last.grad, plain.grad, atol=1e-5, rtol=1e-4)
