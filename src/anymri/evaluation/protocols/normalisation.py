"""Intensity scaling of the published pipelines, to replay their protocols on raw images.

Every function takes the raw sequences of one subject, (M, D, H, W) with 0 outside the brain, and gives float32 of the
same shape. Those marked *leak* use all sequences for each: give only the available ones to see what that changes.
anymri itself uses `own_brain`, through `anymri.data.preprocess`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "NORMALISATIONS",
    "bright_foreground",
    "common_brain_unit",
    "histogram_cut",
    "minmax_volume",
    "own_brain",
    "percentile_minmax",
    "positive_everywhere",
    "union_everywhere",
]

Images = NDArray[np.floating]
Mask = NDArray[np.bool_]


def _zscore(image: Images, inside: Mask) -> Images:
    values = image[inside].astype(np.float64)
    if not values.size or values.std() == 0:
        raise ValueError("a sequence is empty or constant where its mean and deviation are taken")
    return (image - values.mean()) / values.std()


def own_brain(images: Images) -> Images:
    """z-score inside each sequence's own brain; 0 outside. The rule of anymri."""
    return _each(images, lambda image: np.where(image != 0, _zscore(image, image != 0), 0))


def union_everywhere(images: Images) -> Images:
    """z-score by the voxels where the *sum* of all sequences is above 0, applied everywhere (RFNet family, *leak*).

    Background becomes a negative constant, so a sequence replaced by zeros looks like brain of average brightness.
    """
    union = np.asarray(images).sum(axis=0) > 0
    return _each(images, lambda image: _zscore(image, union))


def minmax_volume(images: Images) -> Images:
    """Each sequence's minimum to 0 and maximum to 1, over the whole volume (SMU-Net, MMCFormer, ACN)."""

    def scale(image: Images) -> Images:
        low, high = float(image.min()), float(image.max())
        return (image - low) / (high - low) if high > low else np.zeros_like(image)

    return _each(images, scale)


def percentile_minmax(images: Images) -> Images:
    """Clip to the 1st and 99th percentile of the positive voxels, then minimum to 0 and maximum to 1 (M3AE)."""

    def clip(image: Images) -> Images:
        positive = image[image > 0]
        return np.clip(image, *np.percentile(positive, (1, 99))) if positive.size else image

    return minmax_volume(_each(images, clip))


def positive_everywhere(images: Images) -> Images:
    """z-score by each sequence's positive voxels, applied everywhere, background too (ProtoKD)."""
    return _each(images, lambda image: _zscore(image, image > 0))


def histogram_cut(images: Images) -> Images:
    """Cut at the end of the last histogram bin with 50 voxels or more, then z-score of the foreground (LCKD).

    The number of bins is unknown; 256 here.
    """

    def cut(image: Images) -> Images:
        inside = image != 0
        count, edges = np.histogram(image[inside], bins=256)
        full = np.flatnonzero(count >= 50)
        limit = edges[full[-1] + 1] if full.size else edges[-1]
        cut_off = np.minimum(image, limit)
        return np.where(inside, _zscore(cut_off, inside), 0)

    return _each(images, cut)


def common_brain_unit(images: Images) -> Images:
    """z-score inside the voxels where *no* sequence is 0, cut above at 3, then to [0, 1] (HAD-Net, *leak*).

    Outside that mask 0.
    """
    common = (np.asarray(images) != 0).all(axis=0)

    def scale(image: Images) -> Images:
        values = np.minimum(_zscore(image, common), 3)
        low, high = values[common].min(), values[common].max()
        return np.where(common, (values - low) / (high - low), 0)

    return _each(images, scale)


def bright_foreground(images: Images) -> Images:
    """z-score by the voxels brighter than the volume's mean, dilated by one voxel, applied everywhere (U-HVED).

    The published pipeline standardises histograms on the training set first, which is left out here.
    """
    from scipy.ndimage import binary_dilation

    return _each(images, lambda image: _zscore(image, binary_dilation(image > image.mean())))


def _each(images: Images, scale: Callable[[Images], Images]) -> Images:
    return np.stack([scale(image) for image in np.asarray(images, np.float64)]).astype(np.float32)


#: By the name that a protocol states.
NORMALISATIONS: dict[str, Callable[[Images], Images]] = {
    "own_brain": own_brain,
    "union_everywhere": union_everywhere,
    "minmax_volume": minmax_volume,
    "percentile_minmax": percentile_minmax,
    "positive_everywhere": positive_everywhere,
    "histogram_cut": histogram_cut,
    "common_brain_unit": common_brain_unit,
    "bright_foreground": bright_foreground,
}
