"""Size of a network, told from its settings before any memory is taken for it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch

from anymri.errors import UserError
from anymri.memory import free_bytes

if TYPE_CHECKING:
    from anymri.protocol.config import MethodConfig
    from anymri.types import DataSpec

__all__ = ["check_size", "weights_bytes"]


def weights_bytes(cls: Any, config: MethodConfig, spec: DataSpec) -> int:
    """Bytes of a network's parameters and buffers; it is built without memory and leaves random numbers alone."""
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        network = cls(config, spec)
    return sum(tensor.nbytes for tensor in (*network.parameters(), *network.buffers()))


def check_size(cls: Any, config: MethodConfig, spec: DataSpec, source: object = "method.config") -> None:
    """Refuse a network whose weights do not fit into the memory at hand.

    Parameters
    ----------
    cls : type
        Method class.
    config : MethodConfig
    spec : DataSpec
    source : object, default="method.config"
        Where the settings are from, for the message.

    Raises
    ------
    UserError
        Then; names the settings that are larger than the published ones. Settings that are nowhere larger are not
        looked at: the check would take as long as the building.
    """
    published = [asdict(cls.Config()), *(preset.config for preset in cls.presets.values())]
    larger = {
        key: value
        for key, value in asdict(config).items()
        if _largest(value) > max(_largest(values.get(key)) for values in published)
    }
    if not larger:
        return
    needed, free = weights_bytes(cls, config, spec), free_bytes()
    if needed > free:
        told = ", ".join(f"{key} = {value}" for key, value in larger.items())
        raise UserError(
            f"{source}: the weights of {cls.name} would take {needed / 2**30:,.1f} GiB of memory, and "
            f"{free / 2**30:.1f} GiB are free; choose less than {told}"
        )


def _largest(value: Any) -> float:
    """Largest number in a setting, or its length if that is more; 0 where it holds none."""
    if isinstance(value, (list, tuple)):
        return max(len(value), *(_largest(part) for part in value), 0)
    return float(value) if isinstance(value, (int, float)) else 0.0
