"""Back-end of HeMIS and PIMMS: feature maps of one image, slice by slice."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["SliceBackEnd", "slice_convolution"]


def slice_convolution(in_channels: int, out_channels: int, size: int) -> nn.Conv3d:
    """Convolution of odd size within slices that keeps their size."""
    return nn.Conv3d(in_channels, out_channels, (1, size, size), padding=(0, size // 2, size // 2))


class SliceBackEnd(nn.Module):
    """Two convolutions 5 x 5 and a pooling that keeps the size.

    Parameters
    ----------
    width : int
        Feature maps.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = slice_convolution(1, width, 5), slice_convolution(width, width, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 1, D, H, W) to (B, width, D, H, W)."""
        x = F.relu(self.second(F.relu(self.first(x))))
        # Features are not negative, so zero padding at the far edges is never the maximum.
        return F.max_pool3d(F.pad(x, (0, 1, 0, 1)), (1, 2, 2), stride=1)
