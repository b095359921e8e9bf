"""Cost of a method: parameters, floating-point operations, time and memory, for each subset of sequences.

Encoding and decoding are measured apart, because a study is encoded once and decoded for every subset of interest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from anymri.inference.kernels import SameKernels
from anymri.inference.live_tensors import LiveTensors, storage_key
from anymri.methods import Method, PerSubsetModels
from anymri.protocol.request import Request

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Cost", "count_parameters", "cost_table", "measure_cost", "measure_costs"]

MEGA = 2**20


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Cost of one window for one subset, encoding and decoding apart.

    Parameters
    ----------
    method, subset : str
    shape : tuple of int
        Window (D, H, W).
    parameters : int
        Of the whole network, whatever the subset.
    encode_gflop, decode_gflop : float
        10^9 floating-point operations; a multiply-add counts two. Convolutions, matrix products and attention alone,
        as torch counts them: norms, activations and resizing are left out.
    encode_s, decode_s : float
        Median wall-clock seconds.
    windows_per_s : float
        1 / (encode_s + decode_s).
    peak_mb : float
        Highest use during both, in 2^20 bytes, weights included. On a GPU what the allocator handed out; on a
        processor the tensors alive at once, without the workspace of kernels.
    device : str
    threads : int
        Of torch on a processor.
    """

    method: str
    subset: str
    shape: tuple[int, int, int]
    parameters: int
    encode_gflop: float
    decode_gflop: float
    encode_s: float
    decode_s: float
    windows_per_s: float
    peak_mb: float
    device: str
    threads: int

    def volumes_per_s(self, windows: int = 1) -> float:
        """Volumes a second for a volume of so many windows, each encoded and decoded once."""
        return self.windows_per_s / windows


def count_parameters(method: torch.nn.Module) -> int:
    """Number of parameters; shared ones count once, buffers do not count."""
    return sum(parameter.numel() for parameter in method.parameters())


def measure_cost(
    method: Method | PerSubsetModels,
    subset: Sequence[str] | str,
    shape: Sequence[int],
    *,
    repetitions: int = 3,
    outputs: tuple[str, ...] | None = None,
    device: torch.device | str = "cpu",
) -> Cost:
    """Cost of a method for one subset.

    Parameters
    ----------
    method : Method or PerSubsetModels
        Put into evaluation mode and moved to the device.
    subset : sequence of str or str
        E.g. ``"t1c+flair"``. Sequences outside it are NaN, as for an incomplete study.
    shape : sequence of int
        Window (D, H, W) in voxels, a multiple of the method's divisor.
    repetitions : int, default=3
        Timed calls, of which the median counts; one call before them is not timed.
    outputs : tuple of str or None, default=None
        What to decode; None = all that the method gives.
    device : torch.device or str, default="cpu"

    Returns
    -------
    Cost

    Raises
    ------
    ValueError
        If the subset names an unknown sequence or `repetitions` is below 1.
    """
    if repetitions < 1:
        raise ValueError(f"repetitions is {repetitions}; at least one call must be timed")
    place = torch.device(device)
    method = method.to(place).eval()
    spec = method.spec
    codes = spec.parse_subset(subset)
    available = spec.available(codes)[None].to(place)
    image = torch.full((1, len(spec.modalities), *shape), torch.nan, device=place)
    generator = torch.Generator().manual_seed(0)
    image[available] = torch.randn((len(codes), *shape), generator=generator).to(place)

    with torch.inference_mode():
        flops, seconds = _measure_parts(method, image, available, outputs, repetitions)
        with SameKernels(1):
            peak = _peak_bytes(
                method,
                lambda: method.decode(method.encode(image, available), available, Request(outputs=outputs)),
                image,
            )
    first, second, third = (int(size) for size in shape)
    return Cost(
        method=method.name,
        subset=spec.subset_name(codes),
        shape=(first, second, third),
        parameters=count_parameters(method),
        encode_gflop=flops[0] / 1e9,
        decode_gflop=flops[1] / 1e9,
        encode_s=seconds[0],
        decode_s=seconds[1],
        windows_per_s=1 / max(sum(seconds), 1e-9),
        peak_mb=peak / MEGA,
        device=place.type,
        threads=torch.get_num_threads(),
    )


def measure_costs(
    method: Method | PerSubsetModels,
    shape: Sequence[int],
    *,
    subsets: Sequence[str] | None = None,
    repetitions: int = 3,
    device: torch.device | str = "cpu",
) -> list[Cost]:
    """Cost of a method for several subsets; None = all that it serves. See `measure_cost`."""
    spec = method.spec
    served = spec.subsets() if method.subsets == "any" else [spec.parse_subset(name) for name in method.subsets]
    chosen = served if subsets is None else [spec.parse_subset(name) for name in subsets]
    return [measure_cost(method, subset, shape, repetitions=repetitions, device=device) for subset in chosen]


def cost_table(costs: Sequence[Cost]) -> pd.DataFrame:
    """Costs as a table with the fields of `Cost` as columns."""
    import pandas as pd

    return pd.DataFrame([asdict(cost) for cost in costs])


# --------------------------------------------------------------------------------------------------------------
# Measuring
# --------------------------------------------------------------------------------------------------------------


def _measure_parts(
    method: Method | PerSubsetModels,
    image: Tensor,
    available: Tensor,
    outputs: tuple[str, ...] | None,
    repetitions: int,
) -> tuple[tuple[int, int], tuple[float, float]]:
    """Operations and seconds of encoding and of decoding."""
    features = method.encode(image, available)

    def encode() -> Any:
        return method.encode(image, available)

    def decode() -> Any:
        return method.decode(features, available, Request(outputs=outputs))

    with SameKernels(1):  # as windows are predicted; operations are counted without, where the counter knows them
        seconds = _median_s(encode, repetitions, image.device), _median_s(decode, repetitions, image.device)
    return (_count_flops(encode), _count_flops(decode)), seconds


def _count_flops(call: Callable[[], Any]) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


def _median_s(call: Callable[[], Any], repetitions: int, place: torch.device) -> float:
    call()
    seconds = []
    for _ in range(repetitions):
        _wait(place)
        start = time.perf_counter()
        call()
        _wait(place)
        seconds.append(time.perf_counter() - start)
    return sorted(seconds)[len(seconds) // 2]


def _wait(place: torch.device) -> None:
    if place.type == "cuda":
        torch.cuda.synchronize(place)


def _peak_bytes(method: torch.nn.Module, call: Callable[[], Any], image: Tensor) -> int:
    place = image.device
    if place.type == "cuda":
        torch.cuda.reset_peak_memory_stats(place)
        call()
        _wait(place)
        return int(torch.cuda.max_memory_allocated(place))
    held = {storage_key(tensor): tensor.untyped_storage().nbytes() for tensor in [*_state(method), image]}
    with LiveTensors(known=set(held)) as live:
        call()
    return sum(held.values()) + live.peak


def _state(method: torch.nn.Module) -> list[Tensor]:
    return [*method.parameters(), *method.buffers()]
