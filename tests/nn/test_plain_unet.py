"""The plain U-Net: its sizes, and what its two halves hand over. Its numbers are compared in test_nnunet_per_subset."""

import torch
from torch import nn
from torch.nn import functional as F

from anymri.nn.plain_unet import ConvNormAct, PlainUNet

THREE, ONE, TWO = (3, 3, 3), (1, 1, 1), (2, 2, 2)


def test_a_bias_before_the_norm_changes_nothing():
    layer, x = ConvNormAct(2, 3), torch.randn(1, 2, 4, 5, 6)
    nn.init.normal_(layer.conv.bias)
    expected = F.leaky_relu(F.instance_norm(layer.conv(x)), 0.01)
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-4)


def test_levels_halve_what_their_strides_say_and_join_again():
    network = PlainUNet(2, 4, (3, 5, 7), (THREE,) * 3, (ONE, TWO, (1, 2, 2)))
    skips = network.encode(torch.randn(1, 2, 8, 8, 12))
    assert [tuple(skip.shape[1:]) for skip in skips] == [(3, 8, 8, 12), (5, 4, 4, 6), (7, 4, 2, 3)]
    features = network.decode(skips)
    assert [tuple(feature.shape[1:]) for feature in features] == [(5, 4, 4, 6), (3, 8, 8, 12)]
    assert network.heads[-1](features[-1]).shape == (1, 4, 8, 8, 12)
