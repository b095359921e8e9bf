"""The networks of ResViT: residual blocks of convolutions and a shared transformer, and a discriminator of patches.

Norms take the statistics of the slice at hand, in training and in prediction: the authors' batch norms see one slice at
a time and are in training mode at test as well.
"""

from __future__ import annotations

import re
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anymri.nn.blocks import InstanceNorm
from anymri.nn.slices import from_slices, to_slices
from anymri.types import UserError

__all__ = [
    "KEY_BIAS",
    "KEY_BIAS_REASON",
    "TOKEN",
    "ResViTDiscriminator",
    "ResViTGenerator",
    "ResViTSizes",
    "check_size",
    "networks_in_turn",
    "synthesise",
]

#: What one token covers of a slice, in voxels: the encoder halves twice, a block with a transformer twice more.
TOKEN = 16
KEY_BIAS = r"generator\.transformer\.layers\.\d+\.key\.bias"
KEY_BIAS_REASON = "adds the same to all scores of a query, which the softmax takes away; not added"


class ResViTSizes(Protocol):
    """What the networks read of a method's settings, see `anymri.methods.resvit.ResViTConfig`."""

    @property
    def size(self) -> tuple[int, int]:
        """Slices (H, W), in voxels."""

    @property
    def width(self) -> int:
        """Channels of the first layer."""

    @property
    def blocks(self) -> int:
        """Blocks of the bottleneck."""

    @property
    def transformer_blocks(self) -> tuple[int, ...]:
        """Which of them hold a transformer, counted from 1."""

    @property
    def hidden(self) -> int:
        """Width of a token."""

    @property
    def heads(self) -> int:
        """Attention heads."""

    @property
    def layers(self) -> int:
        """Layers of the transformer."""

    @property
    def mlp(self) -> int:
        """Hidden width of its perceptrons."""

    @property
    def dropout(self) -> float:
        """Of tokens and in perceptrons."""


def _norm_relu(conv: nn.Module, channels: int) -> list[nn.Module]:
    return [conv, InstanceNorm(channels), nn.ReLU(inplace=True)]


def _down(before: int, after: int) -> list[nn.Module]:
    return _norm_relu(nn.Conv2d(before, after, 3, 2, 1, bias=False), after)


def _up(before: int, after: int) -> list[nn.Module]:
    return _norm_relu(nn.ConvTranspose2d(before, after, 3, 2, 1, output_padding=1, bias=False), after)


def _same(before: int, after: int, size: int = 3) -> nn.Conv2d:
    return nn.Conv2d(before, after, size, padding=size // 2, bias=False)


class _TransformerLayer(nn.Module):
    """Self-attention and a perceptron, each behind a layer norm and added to its input."""

    def __init__(self, config: ResViTSizes) -> None:
        super().__init__()
        width = config.hidden
        self.heads = config.heads
        self.attention_norm, self.perceptron_norm = (nn.LayerNorm(width, eps=1e-6) for _ in range(2))
        self.query, self.key, self.value, self.project = (nn.Linear(width, width) for _ in range(4))
        self.expand, self.shrink = nn.Linear(width, config.mlp), nn.Linear(config.mlp, width)
        self.dropout = nn.Dropout(config.dropout)
        for linear in (self.expand, self.shrink):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.normal_(linear.bias, std=1e-6)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.attention_norm(tokens)
        key = F.linear(x, self.key.weight)  # its bias is kept for the authors' weights, see KEY_BIAS_REASON
        parts = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (self.query(x), key, self.value(x)))
        mixed = F.scaled_dot_product_attention(*parts)
        tokens = tokens + self.project(mixed.transpose(1, 2).flatten(2))
        hidden = self.dropout(F.gelu(self.expand(self.perceptron_norm(tokens))))
        return tokens + self.dropout(self.shrink(hidden))


class _Transformer(nn.Module):
    def __init__(self, config: ResViTSizes) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_TransformerLayer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.hidden, eps=1e-6)

    def forward(self, tokens: Tensor) -> Tensor:
        for layer in self.layers:
            tokens = layer(tokens)
        return self.norm(tokens)


class _Context(nn.Module):
    """What a block needs around the shared transformer: smaller images, tokens, and the way back."""

    def __init__(self, config: ResViTSizes) -> None:
        super().__init__()
        width, (rows, columns) = config.width, (side // TOKEN for side in config.size)
        self.down = nn.Sequential(*_down(4 * width, 8 * width), *_down(8 * width, 16 * width))
        self.embed = nn.Conv2d(16 * width, config.hidden, 1)
        self.position = nn.Parameter(torch.zeros(1, rows * columns, config.hidden))
        self.dropout = nn.Dropout(config.dropout)
        self.up = nn.Sequential(*_up(config.hidden, 8 * width), *_up(8 * width, 4 * width))
        self.compress = nn.Sequential(
            *_norm_relu(_same(8 * width, 4 * width), 4 * width),
            _same(4 * width, 4 * width),
            InstanceNorm(4 * width),
        )
        self.shortcut = nn.Sequential(_same(8 * width, 4 * width, 1), InstanceNorm(4 * width))

    def forward(self, x: Tensor, transformer: nn.Module) -> Tensor:
        maps = self.embed(self.down(x))
        tokens = transformer(self.dropout(maps.flatten(2).transpose(1, 2) + self.position))
        x = torch.cat([self.up(tokens.transpose(1, 2).unflatten(2, maps.shape[2:])), x], dim=1)
        return (self.compress(x) + self.shortcut(x)).relu_()


class _Block(nn.Module):
    """Aggregated residual transformer block; without its context it is a residual block of convolutions."""

    def __init__(self, config: ResViTSizes, with_transformer: bool) -> None:
        super().__init__()
        channels = 4 * config.width
        self.context = _Context(config) if with_transformer else None
        self.residual = nn.Sequential(
            nn.ReflectionPad2d(1),
            *_norm_relu(nn.Conv2d(channels, channels, 3, bias=False), channels),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3, bias=False),
            InstanceNorm(channels),
        )

    def forward(self, x: Tensor, transformer: nn.Module | None) -> Tensor:
        if self.context is not None and transformer is not None:
            x = self.context(x, transformer)
        return x + self.residual(x)


class ResViTGenerator(nn.Module):
    """Encoder, residual blocks of which some look at the whole slice, decoder with a last tanh.

    Parameters
    ----------
    in_channels, out_channels : int
    config : ResViTSizes
    """

    def __init__(self, in_channels: int, out_channels: int, config: ResViTSizes) -> None:
        super().__init__()
        width = config.width
        self.encoder = nn.Sequential(
            nn.ReflectionPad2d(3),
            *_norm_relu(nn.Conv2d(in_channels, width, 7, bias=False), width),
            *_down(width, 2 * width),
            *_down(2 * width, 4 * width),
        )
        self.transformer = _Transformer(config)
        self.blocks = nn.ModuleList(
            _Block(config, number in config.transformer_blocks) for number in range(1, config.blocks + 1)
        )
        self.decoder = nn.Sequential(
            *_up(4 * width, 2 * width),
            *_up(2 * width, width),
            nn.ReflectionPad2d(3),
            nn.Conv2d(width, out_channels, 7),
            nn.Tanh(),
        )

    def forward(self, x: Tensor, transformers: bool = True) -> Tensor:
        """Map sources to targets, both within [-1, 1]; without transformers, as in the first stage."""
        x = self.encoder(x)
        for block in self.blocks:
            x = block(x, self.transformer if transformers else None)
        for layer in self.decoder:  # one by one, so that the bottleneck is not held until the end
            x = layer(x)
        return x

    def convolutional(self) -> list[nn.Parameter]:
        """Parameters of the network without transformers."""
        extra = re.compile(r"transformer\.|blocks\.\d+\.context\.")
        return [parameter for name, parameter in self.named_parameters() if not extra.match(name)]


class ResViTDiscriminator(nn.Sequential):
    """PatchGAN: one map of scores from sources and targets.

    Parameters
    ----------
    channels : int
        Of both together.
    width : int
        Channels of the first layer.
    """

    def __init__(self, channels: int, width: int) -> None:
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for level, stride in enumerate((2, 2, 1)):
            before, after = width * 2**level, width * 2 ** (level + 1)
            layers += [nn.Conv2d(before, after, 4, stride, 1, bias=False), InstanceNorm(after), nn.LeakyReLU(0.2)]
        super().__init__(*layers, nn.Conv2d(8 * width, 1, 4, 1, 1))
        for layer in self:
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, 0.0, 0.02)
            elif isinstance(layer, InstanceNorm):
                nn.init.normal_(layer.weight, 1.0, 0.02)


# --------------------------------------------------------------------------------------------------------------
# On windows (B, channels, D, H, W)
# --------------------------------------------------------------------------------------------------------------


def check_size(config: ResViTSizes) -> None:
    """Refuse slices that are not whole tokens.

    Raises
    ------
    UserError
    """
    if any(side % TOKEN for side in config.size):
        raise UserError(f"method.config.size = {list(config.size)}: give multiples of {TOKEN}")


def synthesise(generator: ResViTGenerator, image: Tensor, config: ResViTSizes, transformers: bool = True) -> Tensor:
    """Targets (B, targets, D, H, W) from sources (B, sources, D, H, W).

    Raises
    ------
    UserError
        If slices have another size than the tables of positions.
    """
    if image.shape[3:] != config.size:
        have, want = ("x".join(map(str, size)) for size in (image.shape[3:], config.size))
        raise UserError(f"resvit: slices of {have} voxels, not {want}; set method.config.size, not training.patch")
    return from_slices(generator(to_slices(image), transformers), image.shape[2])


def networks_in_turn(
    generator: ResViTGenerator, discriminator: nn.Module, transformers: bool
) -> dict[str, list[dict[str, Any]]]:
    """Parameters of the discriminator's turn, then of the generator's, with or without its transformers."""
    trained = list(generator.parameters()) if transformers else generator.convolutional()
    return {"discriminator": [{"params": list(discriminator.parameters())}], "generator": [{"params": trained}]}
