"""Image measures that tell sequences apart: brightness of tissues against each other, and where an image is bright.

Nothing here changes when an image is multiplied by a number or shifted by one. Tissue is found by maps of an average
brain alone and by a mixture that starts from them; the numbers on the image minus its own local mean do not see a
bias field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anymri.data.appearance.brain_frame import STEP_MM

__all__ = ["Maps", "make_maps", "measure", "tissue_means"]

Array = NDArray[np.float32]
#: Least share of brain of a voxel of the frame that counts.
BRAIN_SHARE = 0.7
#: Depth that parts cortex from deep grey matter, and the outermost layers, in mm.
DEEP_MM, OUTER_MM, RIM_MM = 12.0, 8.0, 4.1
#: Width of the local mean, standard deviation in voxels of the frame.
LOCAL = 4.0
#: Rounds of the mixture of three tissues and an even background for lesions, and the weight of the latter.
ROUNDS, LESIONS = 12, 0.1


class Maps(NamedTuple):
    """The average brain in the frame.

    Attributes
    ----------
    brain, csf, grey, white, ventricle : ndarray of float32, shape (D, H, W)
        Mean share of each voxel.
    regions : dict of str to ndarray
        Weights of the places that are averaged over.
    local : dict of str to ndarray
        The tissues minus their own local means.
    """

    brain: Array
    csf: Array
    grey: Array
    white: Array
    ventricle: Array
    regions: Mapping[str, Array]
    local: Mapping[str, Array]


def make_maps(brain: Array, csf: Array, grey: Array, white: Array, ventricle: Array) -> Maps:
    """Average brain with what is derived from it.

    Parameters
    ----------
    brain, csf, grey, white, ventricle : ndarray of float32, shape (D, H, W)
    """
    inside = brain > 0.5
    depth_mm = ndimage.distance_transform_edt(inside) * STEP_MM
    regions = {
        "white": white**4,
        "cortex": grey**3 * (depth_mm <= DEEP_MM),
        "deep_grey": grey**3 * (depth_mm > DEEP_MM),
        "ventricle": ventricle**2 + np.float32(1e-6),
        "outer_csf": csf**2 * (depth_mm <= OUTER_MM),
        "rim": brain * (depth_mm <= RIM_MM),
    }
    local = {name: part - _local_mean(part, inside) for name, part in (("csf", csf), ("grey", grey), ("white", white))}
    return Maps(brain, csf, grey, white, ventricle, regions, local)


def measure(values: Array, share: Array, maps: Maps) -> dict[str, float]:
    """Numbers of one image in the frame.

    Parameters
    ----------
    values, share : ndarray of float32, shape (D, H, W)
        From `anymri.data.appearance.brain_frame.to_frame`.
    maps : Maps
    """
    inside = share > BRAIN_SHARE
    low, middle, high = np.percentile(values[inside], [5, 50, 95])
    image = np.where(inside, np.clip((values - middle) / max(high - low, 1e-9), -1.5, 1.5), 0).astype(np.float32)
    flat = np.where(inside, image - _local_mean(image, inside), 0).astype(np.float32)
    found: dict[str, float] = {}
    for name, weight in maps.regions.items():
        found |= _spread(name, image[inside], weight[inside], (0.1, 0.5, 0.9))
        if name != "rim":
            ends = (0.1, 0.9) if name in ("ventricle", "outer_csf") else ()
            found |= _spread(f"{name} local", flat[inside], weight[inside], ends)
    for title, part, places in (
        ("", image[inside], (1, 10, 25, 75, 90, 99)),
        (" local", flat[inside], (1, 5, 95, 99)),
    ):
        for name, *numbers in zip(("csf", "grey", "white"), *_mixture(part, maps, inside), strict=True):
            for what, number in zip(("mean", "width", "size"), numbers, strict=True):
                found[f"{name} tissue {what}{title}"] = float(number)
        found |= {f"percentile {place}{title}": float(np.percentile(part, place)) for place in places}
        found[f"skew{title}"] = float((((part - part.mean()) / (part.std() + 1e-9)) ** 3).mean())
    found["kurtosis local"] = float((((part - part.mean()) / (part.std() + 1e-9)) ** 4).mean())
    found["width local"] = float(part.std())
    for name, pattern in maps.local.items():
        found[f"{name} pattern"] = _correlation(part, pattern[inside])
    tissues = np.stack([maps.csf[inside], maps.grey[inside], maps.white[inside]], axis=1).astype(np.float64)
    shares = np.linalg.lstsq(tissues, image[inside].astype(np.float64), rcond=None)[0]
    found |= {f"{name} share": float(value) for name, value in zip(("csf", "grey", "white"), shares, strict=True)}
    found["explained"] = _correlation(image[inside], tissues @ shares)
    both = inside & inside[:, :, ::-1]
    found["symmetry"] = _correlation(image[both], image[:, :, ::-1][both])
    return found


def tissue_means(values: Array, share: Array, maps: Maps) -> dict[str, float]:
    """Brightness of ``csf``, ``grey`` and ``white`` in the image's own units.

    Parameters
    ----------
    values, share : ndarray of float32, shape (D, H, W)
    maps : Maps
    """
    inside = share > BRAIN_SHARE
    low, middle, high = np.percentile(values[inside], [5, 50, 95])
    size = max(float(high - low), 1e-9)
    means, _, _ = _mixture(np.clip((values[inside] - middle) / size, -1.5, 1.5), maps, inside)
    return dict(zip(("csf", "grey", "white"), (means * size + middle).tolist(), strict=True))


def _spread(name: str, values: Array, weight: Array, places: tuple[float, ...]) -> dict[str, float]:
    """Weighted mean and quantiles."""
    order = np.argsort(values)
    heap = np.cumsum(weight[order], dtype=np.float64)
    heap /= heap[-1] + 1e-12
    found = {f"{name} mean": float((values * weight).sum(dtype=np.float64) / (weight.sum(dtype=np.float64) + 1e-12))}
    for place in places:
        found[f"{name} {place:g}"] = float(values[order[min(int(np.searchsorted(heap, place)), len(order) - 1)]])
    return found


def _mixture(values: Array, maps: Maps, inside: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Mean, width and share of csf, grey and white by expectation maximisation from the average brain."""
    prior = np.stack([part[inside] for part in (maps.csf, maps.grey, maps.white)], axis=1).astype(np.float64) + 0.02
    prior /= prior.sum(axis=1, keepdims=True)
    x = values.astype(np.float64)[:, None]
    means = (prior**3 * x).sum(axis=0) / (prior**3).sum(axis=0)
    widths = np.full(3, float(x.std()) + 1e-6)
    mass = np.ones(3)
    even = LESIONS / (float(np.ptp(x)) + 1e-9)
    for _ in range(ROUNDS):
        weight = (1 - LESIONS) * prior * np.exp(-0.5 * ((x - means) / widths) ** 2) / (widths * np.sqrt(2 * np.pi))
        weight /= weight.sum(axis=1, keepdims=True) + even
        mass = weight.sum(axis=0) + 1e-9
        means = (weight * x).sum(axis=0) / mass
        widths = np.sqrt((weight * (x - means) ** 2).sum(axis=0) / mass + 0.03**2)
    return means, widths, mass / len(x)


def _local_mean(image: Array, inside: NDArray[np.bool_]) -> Array:
    weight = ndimage.gaussian_filter(inside.astype(np.float32), LOCAL, truncate=3)
    return ndimage.gaussian_filter(image * inside, LOCAL, truncate=3) / np.maximum(weight, 1e-3)


def _correlation(one: NDArray[Any], other: NDArray[Any]) -> float:
    if one.std() < 1e-9 or other.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])
