"""Efficient attention, linear in the number of tokens, on channels-last maps."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["EfficientAttention", "EfficientBlock", "EnlargeTokens"]


class EfficientAttention(nn.Module):
    """Efficient attention with one head [1]_.

    Parameters
    ----------
    width : int
        Channels of a token.

    Notes
    -----
    Keys are normalised over positions and queries over channels; the context, keys times values, has shape
    (width, width) whatever the number of tokens, and does not depend on their order.

    References
    ----------
    .. [1] Shen et al., "Efficient Attention: Attention with Linear Complexities", WACV 2021.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.keys = nn.Linear(width, width)
        self.queries = nn.Linear(width, width)
        self.values = nn.Linear(width, width)
        self.project = nn.Linear(width, width)

    def forward(self, tokens: Tensor, prompts: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Attend over tokens and, without layers of their own, prompts.

        Parameters
        ----------
        tokens : Tensor, shape (B, N, width)
        prompts : Tensor, shape (B, P, width), or None
            Stand in front of keys, queries and values as they are.

        Returns
        -------
        tokens : Tensor, shape (B, N, width)
        context : Tensor, shape (B, width, width)
        prompts : Tensor, shape (B, P, width), or None
        """
        keys, queries, values = self.keys(tokens), self.queries(tokens), self.values(tokens)
        if prompts is not None:
            prompts = prompts.to(keys.dtype)
            keys, queries, values = (torch.cat([prompts, x], dim=1) for x in (keys, queries, values))
        context = keys.softmax(dim=1).transpose(1, 2) @ values
        attended = queries.softmax(dim=2) @ context
        if prompts is not None:
            prompts, attended = attended[:, : prompts.shape[1]], attended[:, prompts.shape[1] :]
        return self.project(attended), context, prompts


class EfficientBlock(nn.Module):
    """Efficient attention, then a perceptron that also mixes neighbours; each behind a norm and added to its input.

    Parameters
    ----------
    width : int
        Channels of a token; the perceptron has four times as many.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = EfficientAttention(width)
        self.perceptron_norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.neighbours = nn.Conv3d(4 * width, 4 * width, 3, padding=1, groups=4 * width)
        self.hidden_norm = nn.LayerNorm(4 * width)
        self.shrink = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, prompts: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Map (B, D, H, W, width) to the same shape; also the attention's context and the prompts behind it."""
        size = tuple(x.shape[1:4])
        attended, context, prompts = self.attention(self.attention_norm(x).flatten(1, 3), prompts)
        x = x + attended.unflatten(1, size)
        hidden = self.expand(self.perceptron_norm(x))
        hidden = self.hidden_norm(self.neighbours(hidden.movedim(-1, 1)).movedim(1, -1) + hidden)
        return x + self.shrink(F.gelu(hidden)), context, prompts


class EnlargeTokens(nn.Module):
    """Turn every token of a map with channels last into a block of finer ones.

    Parameters
    ----------
    width : int
        Channels of a token.
    factor : int
        How many times as many numbers the layer makes of a token.
    scale : int
        Finer tokens along each axis.
    """

    def __init__(self, width: int, factor: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.expand = nn.Linear(width, factor * width, bias=False)
        self.norm = nn.LayerNorm(factor * width // scale**3)
        nn.init.xavier_uniform_(self.expand.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, D, H, W, width) to (B, scale * D, scale * H, scale * W, factor * width / scale^3)."""
        s = self.scale
        x = self.expand(x).unflatten(4, (s, s, s, -1))  # (B, D, H, W, s, s, s, C)
        x = x.permute(0, 1, 4, 2, 5, 3, 6, 7).flatten(5, 6).flatten(3, 4).flatten(1, 2)
        return self.norm(x)
