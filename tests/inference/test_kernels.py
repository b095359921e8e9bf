"""A window is computed alike in a batch of any size."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import conv3d, linear

from anymri.inference.kernels import SameKernels

LAYERS = {
    "convolution": (nn.Conv3d(12, 16, 3, padding=1), (12, 8, 8, 8)),
    "strided": (nn.Conv3d(12, 16, 3, stride=2, padding=1, bias=False), (12, 8, 8, 8)),
    "grouped and dilated": (nn.Conv3d(12, 12, 3, padding=2, dilation=2, groups=3), (12, 8, 8, 8)),
    "one voxel": (nn.Conv3d(32, 8, 1), (32, 4, 4, 4)),
    "slices": (nn.Conv2d(12, 16, 3, padding=1, padding_mode="reflect"), (12, 8, 8)),
    "transposed": (nn.ConvTranspose3d(96, 48, 2, stride=2), (96, 2, 2, 2)),
    "product of one vector per window": (nn.Linear(32, 1), (32,)),
    "sigmoid of one vector per window": (nn.Sigmoid(), (4,)),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("rows", [2, 5, 8])
def test_a_window_alone_is_that_window_among_others(name, rows):
    layer, shape = LAYERS[name]
    windows = torch.randn((rows, *shape), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        plain = layer(windows)
        with SameKernels(rows):
            together, alone = layer(windows), [layer(windows[row : row + 1]) for row in range(rows)]
    assert torch.equal(together, torch.cat(alone))
    torch.testing.assert_close(together, plain)


def test_the_layout_of_the_memory_does_not_matter():
    """A part of a longer row of tokens, folded into a volume: channels last, with a batch stride of its own."""
    torch.manual_seed(0)
    layer = nn.Conv3d(256, 256, 1)
    tokens = torch.randn(3, 32, 256)[:, 8:16].transpose(1, 2).unflatten(2, (2, 2, 2))
    with torch.inference_mode(), SameKernels(3):
        assert torch.equal(layer(tokens), layer(tokens.contiguous()))
        assert torch.equal(layer(tokens)[:1], layer(tokens[:1]))


def test_what_it_does_not_know_is_left_alone():
    window, weight = torch.randn(1, 2, 4, 4, 4), torch.randn(3, 2, 3, 3, 3)
    with torch.inference_mode():
        for values, kernel, options in (
            (window, weight, {"padding": "same"}),
            (window[0], weight, {"padding": 1}),
            (window.double(), weight.double(), {"padding": (1, 0, 1), "stride": (1, 2, 1)}),
            (window.bfloat16(), weight.bfloat16(), {}),
        ):
            expected = conv3d(values, kernel, **options)
            with SameKernels(1):
                assert torch.equal(conv3d(values, kernel, **options), expected)
        many = torch.randn(9, 4)
        expected = linear(many, weight[:, :, 0, 0, :2].reshape(3, 4))
        with SameKernels(3):
            assert torch.equal(linear(many, weight[:, :, 0, 0, :2].reshape(3, 4)), expected)


def test_settings_are_put_back_after_an_error():
    layer = LAYERS["transposed"][0]
    with pytest.raises(RuntimeError), SameKernels(1):
        layer(torch.zeros(1, 1, 2, 2, 2))
    assert torch.backends.mkldnn.enabled
