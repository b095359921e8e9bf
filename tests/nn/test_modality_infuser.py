"""The infuser of a target: attention as PyTorch computes it, and what the target and a key's bias do."""

import torch
from torch.nn import functional as F

from anymri.nn.modality_infuser import ModalityInfuser


def infuser():
    torch.manual_seed(0)
    network = ModalityInfuser(modalities=3, places=6, width=8, layers=1, heads=2, dropout=0.5).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network


def test_a_layer_is_attention_and_perceptron_behind_norms():
    network, (x, target) = infuser(), (torch.randn(2, 8, 2, 3), torch.eye(3)[[0, 2]])
    layer = network.layers[0]
    attention = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    projections = (layer.query, layer.key, layer.value)
    attention.in_proj_weight.data = torch.cat([projection.weight for projection in projections])
    attention.in_proj_bias.data = torch.cat([layer.query.bias, layer.lost_key_bias, layer.value.bias])
    attention.out_proj = layer.project
    with torch.no_grad():
        tokens = network.embed(x).flatten(2).transpose(1, 2) + network.position + network.target(target)[:, None]
        normed = layer.attention_norm(tokens)
        tokens = tokens + attention(normed, normed, normed, need_weights=False)[0]
        tokens = tokens + layer.shrink(F.silu(layer.expand(layer.perceptron_norm(tokens))))
        expected = network.norm(tokens).transpose(1, 2).reshape(2, 8, 2, 3)
        torch.testing.assert_close(network(x, target), expected, atol=1e-5, rtol=1e-4)


def test_another_target_gives_other_features():
    network, x = infuser(), torch.randn(1, 8, 2, 3)
    with torch.no_grad():
        first, second = (network(x, torch.eye(3)[[i]]) for i in (0, 1))
    assert not torch.allclose(first, second, atol=1e-2)
