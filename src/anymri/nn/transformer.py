"""A plain transformer layer over tokens."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["TransformerLayer"]


class TransformerLayer(nn.Module):
    """Self-attention and a perceptron, each behind a layer norm and added to its input.

    Parameters
    ----------
    width : int
        Channels of a token.
    heads : int
        Attention heads; divides `width`.
    hidden : int
        Channels inside the perceptron.
    dropout : float
        Of attention weights, of what attention gives (before and after the sum over heads is returned), and in the
        perceptron.
    """

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.project = nn.Linear(width, width)
        self.perceptron_norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, hidden)
        self.shrink = nn.Linear(hidden, width)

    def attend(self, tokens: Tensor) -> Tensor:
        """Multi-head self-attention of (B, N, width)."""
        query, key, value = (
            self.query_key_value(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        )
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        return self._drop(self.project(mixed.transpose(1, 2).flatten(2)))

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, N, width) to the same shape."""
        tokens = tokens + self._drop(self.attend(self.attention_norm(tokens)))
        hidden = self._drop(F.gelu(self.expand(self.perceptron_norm(tokens))))
        return tokens + self._drop(self.shrink(hidden))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)
