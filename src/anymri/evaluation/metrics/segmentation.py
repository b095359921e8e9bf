"""Segmentation metrics: overlap, volume and surface distance of masks, each with its empty-case rule.

Masks are boolean arrays of any dimension, usually (D, H, W); `spacing_mm` has their axis order. An undefined
ratio (0/0) is never silently dropped: every function says what an empty mask gives. The general rule is that two
empty masks agree perfectly and one empty mask is the worst result.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "average_surface_distance",
    "bounding_box",
    "dice",
    "dice_et_min500mm3",
    "hausdorff",
    "iou",
    "normalised_surface_dice",
    "precision",
    "relative_volume_error",
    "sensitivity",
    "specificity",
    "volume_ml",
]

Mask = NDArray[np.bool_]
Image = NDArray[np.floating]

#: Voxels of the box for each surface voxel from which on a tree is faster than a distance transform (measured).
TREE_VOXELS = 8


# --------------------------------------------------------------------------------------------------------------
# Overlap
# --------------------------------------------------------------------------------------------------------------


def _as_masks(prediction: Mask, reference: Mask) -> tuple[Mask, Mask]:
    prediction, reference = np.asarray(prediction), np.asarray(reference)
    if prediction.shape != reference.shape:
        raise ValueError(f"prediction {prediction.shape} and reference {reference.shape} differ in shape")
    if prediction.dtype != bool or reference.dtype != bool:
        raise ValueError(f"masks must be boolean, not {prediction.dtype} and {reference.dtype}")
    return prediction, reference


def _counts(prediction: Mask, reference: Mask) -> tuple[int, int, int]:
    """Voxels in both, in the prediction, in the reference."""
    prediction, reference = _as_masks(prediction, reference)
    both = int(np.count_nonzero(prediction & reference))
    return both, int(np.count_nonzero(prediction)), int(np.count_nonzero(reference))


def dice(prediction: Mask, reference: Mask) -> float:
    """Dice coefficient, 2 |P and R| / (|P| + |R|).

    Parameters
    ----------
    prediction, reference : ndarray of bool, shape (D, H, W)

    Returns
    -------
    float
        In [0, 1]. Both empty: 1. One empty: 0.

    Raises
    ------
    ValueError
        If the shapes differ or an array is not boolean (true of all metrics of masks here).
    """
    both, predicted, real = _counts(prediction, reference)
    return 2 * both / (predicted + real) if predicted + real else 1.0


def iou(prediction: Mask, reference: Mask) -> float:
    """Intersection over union (Jaccard index). Both empty: 1. One empty: 0.

    Parameters
    ----------
    prediction, reference : ndarray of bool, shape (D, H, W)
    """
    both, predicted, real = _counts(prediction, reference)
    union = predicted + real - both
    return both / union if union else 1.0


def sensitivity(prediction: Mask, reference: Mask) -> float:
    """Share of the reference that was found (recall). Both empty: 1. One empty: 0.

    Parameters
    ----------
    prediction, reference : ndarray of bool, shape (D, H, W)

    Notes
    -----
    With an empty reference the ratio is 0/0; a prediction there is counted as a failure (0) so that the metric
    cannot be better than Dice by predicting tumour where there is none.
    """
    both, predicted, real = _counts(prediction, reference)
    if real == 0:
        return float(predicted == 0)
    return both / real


def precision(prediction: Mask, reference: Mask) -> float:
    """Share of the prediction that is right (positive predictive value). Both empty: 1. One empty: 0.

    Parameters
    ----------
    prediction, reference : ndarray of bool, shape (D, H, W)
    """
    both, predicted, real = _counts(prediction, reference)
    if predicted == 0:
        return float(real == 0)
    return both / predicted


def specificity(prediction: Mask, reference: Mask) -> float:
    """Share of the voxels outside the reference that stayed unmarked. A reference that fills the image: 1.

    Parameters
    ----------
    prediction, reference : ndarray of bool, shape (D, H, W)

    Notes
    -----
    Depends on how much background the image has; compare it only within one data set and crop.
    """
    both, predicted, real = _counts(prediction, reference)
    outside = np.asarray(reference).size - real
    return 1 - (predicted - both) / outside if outside else 1.0


# --------------------------------------------------------------------------------------------------------------
# Volume
# --------------------------------------------------------------------------------------------------------------


def volume_ml(mask: Mask, spacing_mm: Sequence[float]) -> float:
    """Volume of a mask in millilitres; empty: 0.

    Parameters
    ----------
    mask : ndarray of bool, shape (D, H, W)
    spacing_mm : sequence of float
        Voxel size along each axis.
    """
    return float(np.count_nonzero(mask)) * float(np.prod(spacing_mm)) / 1000


def relative_volume_error(prediction: Mask, reference: Mask) -> float:
    """Signed volume error (V_P - V_R) / V_R; positive = too large.

    Parameters
    ----------
    prediction, reference : ndarray of bool, shape (D, H, W)

    Returns
    -------
    float
        Both empty: 0. Only the reference empty: NaN, as no finite ratio exists. Only the prediction empty: -1.
    """
    _, predicted, real = _counts(prediction, reference)
    if real == 0:
        return 0.0 if predicted == 0 else float("nan")
    return (predicted - real) / real


def dice_et_min500mm3(
    prediction: Mask, reference: Mask, spacing_mm: Sequence[float], minimum_mm3: float = 500.0
) -> float:
    """Dice of enhancing tumour after emptying a prediction smaller than 0.5 ml.

    Parameters
    ----------
    prediction, reference : ndarray of bool, shape (D, H, W)
        Enhancing tumour.
    spacing_mm : sequence of float
    minimum_mm3 : float, default=500.0
        A prediction of less total volume is replaced by nothing. The reference is never touched.

    Notes
    -----
    The field removes fewer than 500 voxels at 1 mm; in volume the rule holds on every grid. Empty cases as `dice`.
    """
    prediction, reference = _as_masks(prediction, reference)
    if volume_ml(prediction, spacing_mm) * 1000 < minimum_mm3:
        prediction = np.zeros_like(prediction)
    return dice(prediction, reference)


# --------------------------------------------------------------------------------------------------------------
# Surface distance
# --------------------------------------------------------------------------------------------------------------


def _diagonal_mm(shape: Sequence[int], spacing_mm: Sequence[float]) -> float:
    return float(np.linalg.norm(np.asarray(shape, float) * np.asarray(spacing_mm, float)))


def _surface(mask: Mask) -> Mask:
    """Voxels of the mask with a face on its outside; the image's edge counts as outside."""
    from scipy.ndimage import binary_erosion

    return mask & ~binary_erosion(mask)


def bounding_box(mask: Mask, margin: int = 0) -> tuple[slice, ...]:
    """Smallest box around a mask that is not empty, enlarged by a margin within the image.

    Parameters
    ----------
    mask : ndarray of bool, shape (D, H, W)
    margin : int, default=0
        In voxels, on each side.
    """
    box: list[slice] = []
    for axis in range(mask.ndim):
        inside = mask[tuple(box)]  # cut along the axes before: each pass has less to read
        places = np.flatnonzero(inside.any(axis=tuple(i for i in range(mask.ndim) if i != axis)))
        box.append(slice(int(places[0]), int(places[-1]) + 1))
    sides = zip(box, mask.shape, strict=True)
    return tuple(slice(max(side.start - margin, 0), min(side.stop + margin, size)) for side, size in sides)


def _surface_distances(prediction: Mask, reference: Mask, spacing_mm: Sequence[float]) -> tuple[Image, Image]:
    """Distance in mm of each surface voxel of P to the surface of R, and the reverse; both masks not empty."""
    from scipy.ndimage import distance_transform_edt

    # All surface voxels lie in the box of the union, so distances inside it are those of the whole image; and what
    # lies beyond the box is outside both masks, as `_surface` assumes.
    box = bounding_box(prediction | reference)
    surface_p, surface_r = _surface(prediction[box]), _surface(reference[box])
    sampling = tuple(float(value) for value in spacing_mm)
    points = int(np.count_nonzero(surface_p)) + int(np.count_nonzero(surface_r))
    if points * TREE_VOXELS < surface_p.size:
        return _nearest(surface_p, surface_r, sampling)
    to_r = distance_transform_edt(~surface_r, sampling=sampling)[surface_p]
    to_p = distance_transform_edt(~surface_p, sampling=sampling)[surface_r]
    return to_r, to_p


def _nearest(surface_p: Mask, surface_r: Mask, spacing_mm: tuple[float, ...]) -> tuple[Image, Image]:
    """Distances between two thin surfaces by trees of their voxels: what a distance transform gives, sooner."""
    from scipy.spatial import KDTree

    points = [np.argwhere(surface) * np.asarray(spacing_mm) for surface in (surface_p, surface_r)]
    trees = [KDTree(place, balanced_tree=False, compact_nodes=False) for place in points]
    return trees[1].query(points[0])[0], trees[0].query(points[1])[0]


def _check_spacing(mask: Mask, spacing_mm: Sequence[float]) -> None:
    if len(spacing_mm) != mask.ndim or any(not value > 0 for value in spacing_mm):
        raise ValueError(f"spacing_mm {tuple(spacing_mm)} must be {mask.ndim} positive numbers, one per axis")


def hausdorff(prediction: Mask, reference: Mask, spacing_mm: Sequence[float], percentile: float = 95) -> float:
    """Hausdorff distance in mm between two surfaces, robust by default (HD95).

    Parameters
    ----------
    prediction, reference : ndarray of bool, shape (D, H, W)
    spacing_mm : sequence of float
        Voxel size along each axis.
    percentile : float, default=95
        Of the surface distances in each direction, of which the larger counts; 100 = the classical distance.

    Returns
    -------
    float
        In mm. Both empty: 0. One empty: the image's diagonal, prod of shape and spacing (373.13 mm for
        240 x 240 x 155 voxels of 1 mm).

    Raises
    ------
    ValueError
        If shapes differ, an array is not boolean, or the spacing does not fit.

    Notes
    -----
    A surface voxel has a face on the outside of its mask; the image's edge is outside. The maximum of both
    directed percentiles is taken (as in MONAI and the BraTS tools), not the percentile of all distances together.
    """
    prediction, reference = _as_masks(prediction, reference)
    _check_spacing(prediction, spacing_mm)
    if not prediction.any() or not reference.any():
        return _diagonal_mm(prediction.shape, spacing_mm) if prediction.any() or reference.any() else 0.0
    to_r, to_p = _surface_distances(prediction, reference, spacing_mm)
    return float(max(np.percentile(to_r, percentile), np.percentile(to_p, percentile)))


def average_surface_distance(prediction: Mask, reference: Mask, spacing_mm: Sequence[float]) -> float:
    """Symmetric average surface distance in mm: the mean over the surface voxels of both masks.

    Parameters
    ----------
    prediction, reference : ndarray of bool, shape (D, H, W)
    spacing_mm : sequence of float

    Returns
    -------
    float
        In mm. Both empty: 0. One empty: the image's diagonal.
    """
    prediction, reference = _as_masks(prediction, reference)
    _check_spacing(prediction, spacing_mm)
    if not prediction.any() or not reference.any():
        return _diagonal_mm(prediction.shape, spacing_mm) if prediction.any() or reference.any() else 0.0
    return float(np.concatenate(_surface_distances(prediction, reference, spacing_mm)).mean())


def normalised_surface_dice(
    prediction: Mask, reference: Mask, spacing_mm: Sequence[float], tolerance_mm: float
) -> float:
    """Share of both surfaces that lies within a tolerance of the other surface.

    Parameters
    ----------
    prediction, reference : ndarray of bool, shape (D, H, W)
    spacing_mm : sequence of float
    tolerance_mm : float
        Largest distance that counts as agreement, included.

    Returns
    -------
    float
        In [0, 1]. Both empty: 1. One empty: 0.

    Notes
    -----
    Surface voxels are counted; the published definition weighs surface elements between the voxels by their area.
    The two differ by 0.05 at most for tumours of some ml at 1 mm, and by up to 0.4 for masks of a few voxels
    (``docs/reference/metrics.md``).
    """
    prediction, reference = _as_masks(prediction, reference)
    _check_spacing(prediction, spacing_mm)
    if tolerance_mm < 0:
        raise ValueError(f"tolerance_mm is {tolerance_mm}; it cannot be negative")
    if not prediction.any() or not reference.any():
        return float(not prediction.any() and not reference.any())
    distances = np.concatenate(_surface_distances(prediction, reference, spacing_mm))
    return float((distances <= tolerance_mm).mean())
