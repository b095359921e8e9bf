"""Regions and label maps from averaged probabilities: the only argmax and threshold of the program."""

from __future__ import annotations

from typing import Any

import numpy as np

from anymri.types import GLIOMA, DataSpec, Head

__all__ = ["label_map", "region_probability", "regions"]

Array = np.ndarray[Any, Any]


def regions(probability: Any, head: Head, spec: DataSpec = GLIOMA) -> dict[str, Array]:
    """Boolean map of every region the head can tell.

    Parameters
    ----------
    probability : array or Tensor of float, shape (C, *S)
        Probability of every channel of `head`, averaged over windows.
    head : Head
        Meaning of the channels.
    spec : DataSpec

    Returns
    -------
    dict of str to bool array, shape (*S)
        By region name, in the order of ``spec.regions``. A softmax head scores by the label of the largest
        probability; a sigmoid head by its channel of that name above ``head.threshold``, or, where it has none,
        by the union of its channels that lie inside the region. A region without any channel is left out.
    """
    values = _checked(probability, head)
    found: dict[str, Array] = {}
    if head.kind == "softmax":
        labels: Array = _argmax_labels(values, head, spec)
        known = _known_values(head, spec)
        for region in spec.regions:
            if known & set(spec.region_values(region)):
                inside = np.zeros(256, bool)
                inside[list(spec.region_values(region))] = True
                found[region] = inside[labels]
        return found
    for region in spec.regions:
        channels = _region_channels(head, region, spec)
        if channels:
            found[region] = np.logical_or.reduce(values[channels] > head.threshold)
    return found


def label_map(probability: Any, head: Head, spec: DataSpec = GLIOMA) -> Array:
    """Integer label map.

    Parameters
    ----------
    probability : array or Tensor of float, shape (C, *S)
    head : Head
    spec : DataSpec

    Returns
    -------
    int array, shape (*S)
        Values of ``spec.labels``. A softmax head gives the label of the largest probability. The regions of a
        sigmoid head are painted from the largest to the smallest, each with the label that is in it but in no
        smaller region: for glioma whole tumour = 2, then tumour core = 1, then enhancing tumour = 3.
    """
    values = _checked(probability, head)
    if head.kind == "softmax":
        return _argmax_labels(values, head, spec)
    painted = np.zeros(values.shape[1:], _dtype(spec))
    for region, inside in regions(values, head, spec).items():
        painted[inside] = _painted_value(region, spec)
    for index, channel in enumerate(head.channels):
        if channel in spec.labels and not _names_region(channel, head, spec):
            painted[values[index] > head.threshold] = spec.labels[channel]
    return painted


def region_probability(probability: Any, head: Head, spec: DataSpec = GLIOMA) -> dict[str, Array]:
    """Probability of every region: sum of its labels (softmax) or its channel (sigmoid).

    Parameters
    ----------
    probability : array or Tensor of float, shape (C, *S)
    head : Head
    spec : DataSpec

    Returns
    -------
    dict of str to float32 array, shape (*S)
    """
    values = _checked(probability, head)
    result = {}
    for region in spec.regions:
        wanted = set(spec.region_values(region))
        if head.kind == "softmax":
            channels = [i for i, name in enumerate(head.channels) if wanted & set(head.values(name, spec))]
            if channels:
                result[region] = _accumulate(np.add, values, channels)
        else:
            channels = _region_channels(head, region, spec)
            if channels:
                result[region] = _accumulate(np.maximum, values, channels)
    return result


def _accumulate(operation: np.ufunc, values: Array, channels: list[int]) -> Array:
    """Sum or maximum of some channels without a copy of all of them."""
    total = values[channels[0]].astype(np.float32)
    for channel in channels[1:]:
        operation(total, values[channel], out=total)
    return total


def _dtype(spec: DataSpec) -> Any:
    """Smallest type that holds every label value: uint8 or, where a value needs it, uint16 or uint32."""
    return np.min_scalar_type(max((0, *spec.labels.values())))


def _checked(probability: Any, head: Head) -> Array:
    values = np.asarray(probability.cpu() if hasattr(probability, "cpu") else probability)
    if values.shape[0] != len(head.channels):
        raise ValueError(f"{values.shape[0]} channels of probability for a head of {len(head.channels)}")
    return values


def _argmax_labels(values: Array, head: Head, spec: DataSpec) -> Array:
    """Label of the channel with the largest value, the first one of equals."""
    table = [head.values(channel, spec)[0] for channel in head.channels]
    # Channel by channel: numpy's argmax along a leading axis is many times slower.
    largest = values[0].copy()
    labels = np.full(values.shape[1:], table[0], _dtype(spec))
    for channel, value in zip(values[1:], table[1:], strict=True):
        labels[channel > largest] = value
        np.maximum(largest, channel, out=largest)
    return labels


def _known_values(head: Head, spec: DataSpec) -> set[int]:
    return {value for channel in head.channels for value in head.values(channel, spec)}


def _names_region(channel: str, head: Head, spec: DataSpec) -> bool:
    """Whether a sigmoid channel is read as one of the regions."""
    values = set(head.values(channel, spec))
    return any(values == set(spec.region_values(region)) for region in spec.regions)


def _region_channels(head: Head, region: str, spec: DataSpec) -> list[int]:
    """Channels of a sigmoid head that make up a region: the one of its name, else all that lie inside it."""
    wanted = set(spec.region_values(region))
    values = [set(head.values(channel, spec)) for channel in head.channels]
    exact = [index for index, held in enumerate(values) if held == wanted]
    return exact[:1] or [index for index, held in enumerate(values) if held <= wanted]


def _painted_value(region: str, spec: DataSpec) -> int:
    """Label value that is in the region but in no smaller region inside it."""
    own = set(spec.region_values(region))
    inner = [set(spec.region_values(other)) for other in spec.regions if other != region]
    rest = own.difference(*(values for values in inner if values < own))
    return min(rest or own)
