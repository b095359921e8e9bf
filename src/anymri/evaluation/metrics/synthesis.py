"""Synthesis metrics: error and similarity of a sequence and its real counterpart, inside a mask."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anymri.evaluation.metrics.segmentation import bounding_box

__all__ = ["data_range", "mae", "nmse", "psnr", "ssim", "ssim_map"]

Mask = NDArray[np.bool_]
Image = NDArray[np.floating]


def _inside(image: Image, reference: Image, inside: Mask) -> tuple[Image, Image]:
    image, reference, inside = np.asarray(image), np.asarray(reference), np.asarray(inside)
    if not image.shape == reference.shape == inside.shape:
        raise ValueError(f"image {image.shape}, reference {reference.shape} and mask {inside.shape} differ in shape")
    if inside.dtype != bool:
        raise ValueError(f"the mask must be boolean, not {inside.dtype}")
    return image[inside].astype(np.float64), reference[inside].astype(np.float64)


def data_range(reference: Image, inside: Mask) -> float:
    """Range that PSNR and SSIM refer to: p99.9 - p0.1 of the real reference inside a mask.

    Parameters
    ----------
    reference : ndarray of float, shape (D, H, W)
        The real image.
    inside : ndarray of bool, shape (D, H, W)
        Usually the brain. Empty: NaN.
    """
    values = np.asarray(reference)[np.asarray(inside)].astype(np.float64)
    if values.size == 0:
        return float("nan")
    low, high = np.percentile(values, (0.1, 99.9))
    return float(high - low)


def mae(image: Image, reference: Image, inside: Mask) -> float:
    """Mean absolute error inside a mask, in the images' unit; empty mask: NaN.

    Parameters
    ----------
    image, reference : ndarray of float, shape (D, H, W)
    inside : ndarray of bool, shape (D, H, W)
    """
    x, y = _inside(image, reference, inside)
    return float(np.abs(x - y).mean()) if x.size else float("nan")


def nmse(image: Image, reference: Image, inside: Mask) -> float:
    """Normalised mean squared error, sum (x - y)^2 / sum y^2, inside a mask; empty mask or zero reference: NaN.

    Parameters
    ----------
    image, reference : ndarray of float, shape (D, H, W)
    inside : ndarray of bool, shape (D, H, W)

    Notes
    -----
    On z-scores a constant 0 (the brain's mean) scores 1.
    """
    x, y = _inside(image, reference, inside)
    power = float(np.square(y).sum())
    return float(np.square(x - y).sum()) / power if power > 0 else float("nan")


def psnr(image: Image, reference: Image, inside: Mask, data_range: float) -> float:
    """Peak signal-to-noise ratio inside a mask, in dB.

    Parameters
    ----------
    image, reference : ndarray of float, shape (D, H, W)
    inside : ndarray of bool, shape (D, H, W)
    data_range : float
        Peak value, see `data_range`; stated because PSNR means nothing without it.

    Returns
    -------
    float
        10 log10(range^2 / MSE). Equal images: infinity. Empty mask: NaN.
    """
    x, y = _inside(image, reference, inside)
    if not x.size:
        return float("nan")
    error = float(np.square(x - y).mean())
    return float(10 * np.log10(data_range**2 / error)) if error > 0 else float("inf")


def ssim_map(image: Image, reference: Image, inside: Mask, data_range: float, window: int = 7) -> Image:
    """Structural similarity of every voxel.

    Parameters
    ----------
    image, reference : ndarray of float, shape (D, H, W)
    inside : ndarray of bool, shape (D, H, W)
        Usually the brain. Outside it both images are set to 0 first, so what a method leaves there does not count.
    data_range : float
        See `data_range`.
    window : int, default=7
        Edge of the cubic window in voxels, odd.

    Returns
    -------
    ndarray of float64, shape (D, H, W)
        At most 1; NaN more than a window away from the mask.

    Notes
    -----
    Wang et al. 2004 with a uniform window, K1 = 0.01, K2 = 0.03 and sample covariance, as scikit-image's default;
    at the image's edge values are mirrored.
    """
    from scipy.ndimage import uniform_filter

    _inside(image, reference, inside)
    similarity = np.full(np.shape(inside), np.nan)
    if not np.any(inside):
        return similarity
    box = bounding_box(np.asarray(inside), margin=window)
    mask = np.asarray(inside)[box]
    x = np.where(mask, np.asarray(image)[box], 0).astype(np.float64)
    y = np.where(mask, np.asarray(reference)[box], 0).astype(np.float64)
    mean_x, mean_y = uniform_filter(x, window), uniform_filter(y, window)
    count = window**x.ndim
    sample = count / (count - 1)
    variance_x = sample * (uniform_filter(x * x, window) - mean_x**2)
    variance_y = sample * (uniform_filter(y * y, window) - mean_y**2)
    covariance = sample * (uniform_filter(x * y, window) - mean_x * mean_y)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    similarity[box] = luminance * structure
    return similarity


def ssim(image: Image, reference: Image, inside: Mask, data_range: float, window: int = 7) -> float:
    """Mean structural similarity over the voxels of a mask; empty mask: NaN. See `ssim_map`.

    Parameters
    ----------
    image, reference : ndarray of float, shape (D, H, W)
    inside : ndarray of bool, shape (D, H, W)
    data_range : float
    window : int, default=7
    """
    values = ssim_map(image, reference, inside, data_range, window)[np.asarray(inside)]
    return float(values.mean()) if values.size else float("nan")
