"""Live tensors: the bytes that operations hold at once, and refusal of windows that would hold more than there is."""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from anymri.errors import UserError
from anymri.memory import free_bytes
from anymri.protocol.method import divisors
from anymri.types import Where

__all__ = ["LiveTensors", "check_window", "storage_key"]

#: A window holds at most so many times the bytes of its image; where that fits, no window is measured.
LARGEST_GROWTH = 200
#: An estimate refuses only what takes so many times the free memory: other programs may end, and it may be too high.
DOUBT = 1.5


def check_window(method: Any, window: Sequence[int], batch_size: int) -> None:
    """Refuse windows that do not fit into the memory at hand, before the first one.

    Parameters
    ----------
    method : Method or PerSubsetModels
        In evaluation mode, on the device of prediction.
    window : sequence of int
        (D, H, W) in voxels, multiples of the divisors.
    batch_size : int
        Windows at a time.

    Raises
    ------
    UserError
        If they would take more than there is: by their images alone, or as two small windows foretell.
    """
    device = next(iter((*method.parameters(), *method.buffers()))).device
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_bytes()
    needed = batch_size * math.prod(window) * len(method.spec.modalities) * 4
    if needed * LARGEST_GROWTH < free:
        return
    if needed <= DOUBT * free and method.patch is None:
        small = [min(size, step * max(2, -(-16 // step))) for size, step in zip(window, divisors(method), strict=True)]
        wide = [*small[:2], min(2 * small[2], window[2])]
        peaks = [_window_bytes(method, size, device) for size in (small, wide)]
        more = max(math.prod(wide) - math.prod(small), 1)
        needed = int((peaks[1] - peaks[0]) / more * math.prod(window) * batch_size)
    if needed > DOUBT * free:
        raise UserError(
            f"window {'x'.join(map(str, window))}, {batch_size} at a time: takes about {needed / 2**30:,.1f} GiB of "
            f"memory, and {free / 2**30:.1f} GiB are free; choose a smaller window (--window) or fewer at a time"
        )


def _window_bytes(method: Any, size: Sequence[int], device: torch.device) -> int:
    """Highest number of bytes that one window holds beside the weights."""
    spec = method.spec
    subset = spec.modalities if method.subsets == "any" else spec.parse_subset(method.subsets[0])
    available = spec.available(subset)[None].to(device)
    image = torch.zeros(1, len(spec.modalities), *size, device=device)
    corner = torch.zeros(1, 3, dtype=torch.int64, device=device)
    where = Where(corner, torch.tensor([list(size)], device=device), corner.bool())
    known = {storage_key(tensor) for tensor in (*method.parameters(), *method.buffers())}
    with torch.inference_mode(), LiveTensors(known=known) as live:
        method.decode(method.encode(image, available, where), available)
    return live.peak


def storage_key(tensor: Tensor) -> int:
    """Number of the memory that a tensor and its views share."""
    return int(tensor.untyped_storage()._cdata)


class LiveTensors(TorchDispatchMode, AbstractContextManager["LiveTensors"]):
    """Counts the bytes of tensors that operations make, as long as they live.

    Parameters
    ----------
    known : set of int
        Storages that existed before and are not counted.

    Attributes
    ----------
    peak : int
        Highest number of bytes alive at once. Views share their tensor's storage and count nothing more.
    """

    def __init__(self, known: set[int]) -> None:
        super().__init__()
        self.known = known
        self.peak = 0
        self._alive = 0
        self._views: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and note what it made."""
        result = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._note(tensor)
        return result

    def _note(self, tensor: Tensor) -> None:
        key, size = storage_key(tensor), int(tensor.untyped_storage().nbytes())
        if key in self.known:
            return
        if key not in self._views:
            self._views[key] = 0
            self._alive += size
            self.peak = max(self.peak, self._alive)
        self._views[key] += 1
        weakref.finalize(tensor, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._views[key] -= 1
        if not self._views[key]:
            del self._views[key]
            self._alive -= size
