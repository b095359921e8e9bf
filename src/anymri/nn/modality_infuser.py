"""A transformer over feature maps that is told which sequence to make of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["ModalityInfuser"]


class _Layer(nn.Module):
    """Self-attention and a perceptron, each behind a layer norm and added to its input."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.perceptron_norm = (nn.LayerNorm(width, eps=1e-6) for _ in range(2))
        self.query, self.value, self.project = (nn.Linear(width, width) for _ in range(3))
        # A bias would add the same to all scores of a query, which the softmax takes away.
        self.key = nn.Linear(width, width, bias=False)
        self.lost_key_bias = nn.Parameter(torch.zeros(width))
        self.expand, self.shrink = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)
        for linear in (self.expand, self.shrink):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.normal_(linear.bias, std=1e-6)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.attention_norm(tokens)
        query, key, value = (
            part(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        rate = self.dropout.p if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=rate)
        tokens = tokens + self.dropout(self.project(mixed.transpose(1, 2).flatten(2)))
        hidden = self.dropout(F.silu(self.expand(self.perceptron_norm(tokens))))
        return tokens + self.dropout(self.shrink(hidden))


class ModalityInfuser(nn.Module):
    """Transformer that turns feature maps into those of a target sequence.

    Parameters
    ----------
    modalities : int
    places : int
        Pixels of the feature maps; the table of positions fits no other number.
    width : int
        Channels of the maps.
    layers, heads : int
    dropout : float

    Notes
    -----
    Keys have a bias, `lost_key_bias`, for authors' weights only: the softmax takes it away, and it is not added.
    """

    def __init__(self, modalities: int, places: int, width: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.target = nn.Sequential(
            nn.Linear(modalities, width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.embed = nn.Conv2d(width, width, 1)
        self.position = nn.Parameter(torch.zeros(1, places, width))
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(_Layer(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        """Features (N, width, H, W) of a target, given as one-hot rows (N, modalities), from maps of that shape."""
        tokens = self.dropout(self.embed(x).flatten(2).transpose(1, 2) + self.position)
        tokens = tokens + self.target(target.to(tokens.dtype))[:, None]
        for layer in self.layers:
            tokens = layer(tokens)
        return self.norm(tokens).transpose(1, 2).unflatten(2, x.shape[2:])
