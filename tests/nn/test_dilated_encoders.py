"""Dilated encoders and dual attention: reach, sizes, and attention by hand."""

import torch

from anymri.nn.dilated_encoders import DilatedEncoder, DilatedResidual, DualAttention, FusedDecoder


def test_a_block_reaches_six_voxels_and_keeps_its_input():
    block = DilatedResidual(1)
    x = torch.randn(1, 1, 1, 1, 21, requires_grad=True)
    block(x)[0, 0, 0, 0, 10].backward()
    # The instance norm spreads the gradient everywhere; taken out, the reach is that of the two dilations.
    block.first_norm = block.second_norm = torch.nn.Identity()
    x.grad = None
    block(x)[0, 0, 0, 0, 10].backward()
    assert x.grad.flatten().nonzero().flatten().tolist() == [4, 6, 8, 10, 12, 14, 16]
    with torch.no_grad():
        block.second.weight.zero_()
        block.second.bias.zero_()
        assert torch.equal(block(x), x)


def test_attention_by_hand():
    attention = DualAttention(2, 2)
    x = torch.randn(3, 4, 2, 3, 4)
    pooled = x.mean(dim=(2, 3, 4))
    hidden = (pooled @ attention.squeeze.weight.T + attention.squeeze.bias).clamp_min(0)
    channels = torch.sigmoid(hidden @ attention.excite.weight.T + attention.excite.bias)
    places = torch.sigmoid(torch.einsum("bcdhw,c->bdhw", x, attention.places.weight.flatten()) + attention.places.bias)
    expected = torch.einsum("bcdhw,bc->bcdhw", x, channels) + torch.einsum("bcdhw,bdhw->bcdhw", x, places)
    torch.testing.assert_close(attention.attend(x), expected)
    assert attention([x[:, :2], x[:, 2:]]).shape == (3, 2, 2, 3, 4)


def test_levels_halve_and_the_decoder_comes_back():
    encoder, decoder = DilatedEncoder(1, (2, 3, 4)), FusedDecoder(2, (2, 3, 4))
    pyramids = [encoder(torch.randn(1, 1, 8, 8, 12)) for _ in range(2)]
    assert [tuple(level.shape[1:]) for level in pyramids[0]] == [(2, 8, 8, 12), (3, 4, 4, 6), (4, 2, 2, 3)]
    assert decoder(pyramids).shape == (1, 2, 8, 8, 12)
