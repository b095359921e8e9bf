"""The decoder of fused maps by shape, the divergence between places by hand."""

import torch

from anymri.nn.dual_attention import DualAttentionDecoder, position_divergence


def test_the_decoder_returns_to_full_size_and_reads_every_level():
    fused = [torch.randn(1, 2, 8, 8, 12), torch.randn(1, 4, 4, 4, 6), torch.randn(1, 6, 2, 2, 3)]
    decoder = DualAttentionDecoder((2, 4, 6), 5)
    before = decoder(fused)
    assert before.shape == (1, 5, 8, 8, 12)
    for level in range(3):
        changed = [m + torch.randn(m.shape) if i == level else m for i, m in enumerate(fused)]
        assert (decoder(changed) - before).abs().max() > 1e-3


def test_divergence_by_hand():
    actual = torch.tensor([[[0.0, 0.0, 0.0, 0.0]]]).reshape(1, 1, 1, 2, 2)
    expressed = torch.log(torch.tensor([0.5, 0.25, 0.125, 0.125])).reshape(1, 1, 1, 2, 2)
    # Uniform P: mean of log(1/4 / q) = (log 1/2 + log 1 + 2 log 2) / 4 = log 2 / 4.
    torch.testing.assert_close(position_divergence(actual, expressed), torch.tensor([0.25]) * torch.tensor(2.0).log())
    torch.testing.assert_close(position_divergence(expressed + 3, expressed), torch.zeros(1), atol=1e-6, rtol=0)
