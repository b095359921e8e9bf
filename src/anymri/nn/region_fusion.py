"""Region-aware fusion: weight the modalities per tissue region, by maps of the regions learned on the way.

The decoder of RFNet, on which other published systems are built. Features of a level are a dictionary by modality code,
(B, C, *S) each and 0 where a row lacks the modality, as `anymri.nn.res_encoder.keep_available` gives them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anymri.nn.res_encoder import SLOPE, ConvNormAct, DecoderLevel, PaddingRule, StackedConvNormAct

__all__ = ["ModalityWeights", "RegionFusion", "RegionFusionDecoder", "RegionMap", "StackEmbedding"]


class StackEmbedding(nn.Module):
    """Three convolutions from the stacked features of all modalities to one feature map.

    Parameters
    ----------
    codes : tuple of str
        Modality codes.
    channels : int
        Of one modality's features.
    inner, out : int
        Channels between the convolutions, and of the result.
    padding : {"reflect", "zeros"}
    """

    def __init__(self, codes: tuple[str, ...], channels: int, inner: int, out: int, padding: PaddingRule) -> None:
        super().__init__()
        self.stacked = StackedConvNormAct(codes, channels, inner)
        self.second = ConvNormAct(inner, inner, 3, 1, padding)
        self.third = ConvNormAct(inner, out, 1)

    def forward(self, kept: dict[str, Tensor]) -> Tensor:
        """Map features by modality code, (B, channels, *S) each, to (B, out, *S)."""
        return self.third(self.second(self.stacked(kept)))


class RegionMap(nn.Module):
    """Probability of every class from the stacked features and, below the coarsest level, the decoder's.

    Parameters
    ----------
    codes : tuple of str
        Modality codes.
    channels, classes : int
        Channels of one modality's features (of the decoder's too), and number of classes.
    hidden : int
        Channels before the classifier.
    padding : {"reflect", "zeros"}
    coarsest : bool
        Whether there are no features of the decoder yet.
    """

    def __init__(
        self, codes: tuple[str, ...], channels: int, classes: int, hidden: int, padding: PaddingRule, coarsest: bool
    ) -> None:
        super().__init__()
        self.embedding = StackEmbedding(codes, channels, max(channels // 4, 1), channels, padding)
        self.hidden = ConvNormAct(channels if coarsest else 2 * channels, hidden, 1)
        self.classifier = nn.Conv3d(hidden, classes, kernel_size=1)
        nn.init.kaiming_normal_(self.classifier.weight)

    def forward(self, kept: dict[str, Tensor], flow: Tensor | None) -> Tensor:
        """Probabilities (B, classes, *S) that sum to 1 at every voxel; `flow` (B, channels, *S) is the decoder's."""
        x = self.embedding(kept)
        x = x if flow is None else torch.cat([flow, x], dim=1)
        return self.classifier(self.hidden(x)).float().softmax(dim=1)


class ModalityWeights(nn.Module):
    """One region's weight in (0, 1) of every modality, from the region's mean features and its share.

    Parameters
    ----------
    codes : tuple of str
        Modality codes.
    channels : int
        Of one modality's features.
    hidden : int
        Units between the mean features and the weights.
    """

    def __init__(self, codes: tuple[str, ...], channels: int, hidden: int) -> None:
        super().__init__()
        self.mean = nn.ModuleDict({code: nn.Linear(channels, hidden, bias=False) for code in codes})
        self.share = nn.Linear(1, hidden)
        self.weight = nn.ModuleDict({code: nn.Linear(hidden, 1) for code in codes})
        # Initialised like one layer over all modalities and the share.
        inputs = len(codes) * channels + 1
        for layer in (*self.mean.values(), self.share):
            nn.init.normal_(layer.get_parameter("weight"), std=math.sqrt(2 / inputs))
        nn.init.uniform_(self.share.bias, -1 / math.sqrt(inputs), 1 / math.sqrt(inputs))
        for layer in self.weight.values():
            nn.init.kaiming_normal_(layer.get_parameter("weight"))

    def forward(self, means: dict[str, Tensor], share: Tensor) -> Tensor:
        """Weights (B, N) of the N modalities of `means`, each (B, C); `share` has shape (B, 1)."""
        hidden = self.share(share)
        for code, mean in means.items():
            hidden = hidden + self.mean[code](mean)
        hidden = F.leaky_relu(hidden, SLOPE)
        return torch.cat([self.weight[code](hidden) for code in means], dim=1).sigmoid()


class RegionFusion(nn.Module):
    """Features fused region by region, beside a plain embedding of the stack; half of the channels each.

    Parameters
    ----------
    codes : tuple of str
        Modality codes.
    channels : int
        Of one modality's features and of the result; even.
    classes, hidden : int
        Number of regions, and units of `ModalityWeights`.
    padding : {"reflect", "zeros"}
    """

    def __init__(self, codes: tuple[str, ...], channels: int, classes: int, hidden: int, padding: PaddingRule) -> None:
        super().__init__()
        self.weights = nn.ModuleList(ModalityWeights(codes, channels, hidden) for _ in range(classes))
        self.regions = nn.Sequential(
            ConvNormAct(classes * channels, channels, 1),
            ConvNormAct(channels, channels, 3, 1, padding),
            ConvNormAct(channels, channels // 2, 1),
        )
        self.shortcut = StackEmbedding(codes, channels, channels, channels // 2, padding)

    def forward(self, kept: dict[str, Tensor], region_map: Tensor) -> Tensor:
        """Map features by modality code and `region_map` (B, classes, *S) to (B, channels, *S)."""
        return torch.cat([self.regions(self.fuse(kept, region_map)), self.shortcut(kept)], dim=1)

    def fuse(self, kept: dict[str, Tensor], region_map: Tensor) -> Tensor:
        """Weighted sum over modalities of the features inside each region, shape (B, K * C, *S).

        Parameters
        ----------
        kept : dict of str to Tensor
            Features (B, C, *S), 0 where absent.
        region_map : Tensor, shape (B, K, *S)
        """
        share = region_map.mean(dim=(2, 3, 4)) + 1e-7
        inside = (region_map / share[:, :, None, None, None]).flatten(2)
        voxels = inside.shape[2]
        # Mean features of region k: (B, K, C) by modality.
        means = {code: torch.einsum("bkv,bcv->bkc", inside / voxels, x.flatten(2)) for code, x in kept.items()}
        weights = torch.stack(
            [
                layer({code: mean[:, k] for code, mean in means.items()}, share[:, k : k + 1])
                for k, layer in enumerate(self.weights)
            ],
            dim=1,
        )
        stack = torch.stack(list(kept.values()), dim=1).flatten(2)
        # The region map is the same for all modalities, so it may follow their sum.
        weighted = torch.bmm(weights.to(stack.dtype), stack).unflatten(2, (-1, *region_map.shape[2:]))
        return (weighted * region_map[:, :, None].to(weighted.dtype)).flatten(1, 2)


class RegionFusionDecoder(nn.Module):
    """Decoder that predicts regions at every level and fuses the modalities by them.

    Parameters
    ----------
    codes : tuple of str
        Modality codes.
    classes : int
    widths : tuple of int
        Channels of each level of the encoders, finest first, all even.
    map_width : int
        Channels before the classifier of a region map.
    hidden : int
        Units between a region's mean features and its modality weights.
    padding : {"reflect", "zeros"}, default="reflect"
    """

    def __init__(
        self,
        codes: tuple[str, ...],
        classes: int,
        widths: tuple[int, ...],
        map_width: int,
        hidden: int,
        padding: PaddingRule = "reflect",
    ) -> None:
        super().__init__()
        last = len(widths) - 1
        self.maps = nn.ModuleList(
            RegionMap(codes, width, classes, map_width, padding, coarsest=i == last) for i, width in enumerate(widths)
        )
        self.fusions = nn.ModuleList(RegionFusion(codes, width, classes, hidden, padding) for width in widths)
        self.levels = nn.ModuleList(DecoderLevel(widths[i + 1], widths[i], padding) for i in range(last))
        self.classifier = nn.Conv3d(widths[0], classes, kernel_size=1)
        nn.init.kaiming_normal_(self.classifier.weight)

    def forward(self, kept: list[dict[str, Tensor]]) -> tuple[Tensor, list[Tensor]]:
        """Logits (B, K, *S) and the region maps (B, K, *S / 2^level), finest first, from `keep_available`'s levels."""
        last = len(self.levels)
        maps = [self.maps[last](kept[last], None)]
        # Detached: region maps are trained by their own loss only.
        flow = self.fusions[last](kept[last], maps[0].detach())
        for i in reversed(range(last)):
            level = self.levels[i]
            assert isinstance(level, DecoderLevel)
            flow = level.arrive(flow)
            maps.insert(0, self.maps[i](kept[i], flow))
            flow = level.merge(self.fusions[i](kept[i], maps[0].detach()), flow)
        return self.classifier(flow), maps
