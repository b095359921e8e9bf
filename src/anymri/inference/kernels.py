"""Batch-size-invariant fp32 kernels for CPU inference.

PyTorch picks a convolution's program by the size of the batch: on a processor, one window in fp32 goes through its own
matrix product unless it is large, several go through oneDNN. The two add in another order, so a window's logits
depended on its batch by up to 1e-4 of their standard deviation, and a single window took up to ten times as long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["SameKernels"]

Sizes = int | Sequence[int]


class SameKernels(TorchFunctionMode):
    """Context in which a window is computed alike in a batch of any size, in fp32 on a processor.

    Parameters
    ----------
    rows : int
        Most windows in one batch.

    Notes
    -----
    Convolutions go to oneDNN always, transposed ones never (PyTorch has no public call for theirs). Products and
    sigmoids of one vector per window are computed row by row: a product of one row adds in another order, and the last
    few numbers of a sigmoid are not rounded as those that fill a vector register. Everything else is left alone, and
    so is everything on a GPU.
    """

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows = rows

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _CONVOLUTIONS and _is_plain(args):
            return _convolve(func, *args, **kwargs)
        if func in _TRANSPOSED and _is_plain(args):
            with _without_onednn():
                return func(*args, **kwargs)
        if func in _BY_ROW and _is_plain(args) and args[0].ndim == 2:
            values = args[0]
            if 1 < len(values) <= self.rows:
                return torch.cat([func(values[row : row + 1], *args[1:], **kwargs) for row in range(len(values))])
        return func(*args, **kwargs)


_CONVOLUTIONS = (torch.conv2d, torch.conv3d)
_TRANSPOSED = (torch.conv_transpose2d, torch.conv_transpose3d)
_BY_ROW = (torch.nn.functional.linear, torch.sigmoid, torch.Tensor.sigmoid)


def _is_plain(args: tuple[Any, ...]) -> bool:
    """Whether a call's first argument is in fp32 on a processor."""
    return bool(args) and args[0].device.type == "cpu" and args[0].dtype == torch.float32


def _convolve(
    func: Callable[..., Tensor],
    values: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    usable = torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled
    if not usable or isinstance(padding, str) or values.ndim != weight.ndim:
        return func(values, weight, bias, stride, padding, dilation, groups)
    axes = weight.ndim - 2
    steps = ([size] * axes if isinstance(size, int) else list(size) for size in (padding, stride, dilation))
    padded, strided, dilated = steps
    # The layout of the memory picks the program too, and tokens folded into a volume can have one for a single window
    # and another for several.
    values, weight = values.contiguous(), weight.contiguous()
    return torch.mkldnn_convolution(values, weight, bias, padded, strided, dilated, groups)


@contextmanager
def _without_onednn() -> Iterator[None]:
    """`torch.backends.mkldnn.flags` would also touch settings of other devices, and warn of them."""
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(before)
