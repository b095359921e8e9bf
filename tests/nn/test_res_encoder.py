"""The residual U-Net: encoder and decoder of one pyramid, for any number of channels."""

import torch

from anymri.nn.res_encoder import PyramidDecoder, ResidualEncoder, ResidualUNet


def test_a_unet_is_its_encoder_and_its_decoder():
    torch.manual_seed(0)
    network = ResidualUNet(3, (4, 8), 5)
    image = torch.randn(2, 3, 4, 6, 8)
    levels = network.encoder(image)
    assert [tuple(level.shape) for level in levels] == [(2, 4, 4, 6, 8), (2, 8, 2, 3, 4)]
    assert network(image).shape == (2, 5, 4, 6, 8)
    torch.testing.assert_close(network(image), network.decoder(levels))


def test_published_sizes_of_rfnet():
    with torch.device("meta"):
        parts = ResidualEncoder((16, 32, 64, 128)), PyramidDecoder((16, 32, 64, 128), 4)
    assert [sum(p.numel() for p in part.parameters()) for part in parts] == [1_466_496, 586_388]
