"""Success checks of the steps of a raw study, by figures that do not depend on the sequence.

Mutual information alone cannot say it: its scale differs between sequences, and a bottle of water has as much of it
with the average head as a child's head has, since the outline takes part.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anymri.data.geometry import Geometry
from anymri.data.raw.grids import Matrix, covered, sample
from anymri.data.raw.registration import HEAD_RANK, Working
from anymri.data.raw.template import load_template

__all__ = ["GOOD_FIT", "LEAST_FIT", "dice", "match_sharpness", "template_brain", "tissue_fit"]

#: Depth below the brain's surface from which its inside is judged, in mm: the outline must not take part.
INSIDE_MM = 6.0
#: Fewest voxels of 2 mm (8 ml) that say anything.
FEWEST = 1000
#: Least `tissue_fit` of a brain that lies where it was found. Six images of heads and two slabs reach 0.13 to 0.46; the
#: same 18 mm off, and cubes, bottles, shells and noise, at most 0.01: this is the middle between the two.
LEAST_FIT = 0.04
#: Fit from which on nothing is doubted.
GOOD_FIT = 2 * LEAST_FIT
#: Shift at which `match_sharpness` compares, in mm: about the thickness of cortex.
SHIFT_MM = 4.0
#: Neighbourhood that a voxel is held against, standard deviation in mm: about a gyrus.
LOCAL_MM = 6.0


def tissue_fit(image: Working, mni_to_image: Matrix) -> float:
    """Share of the grey values' variance inside the brain that CSF, grey and white matter of the average explain.

    Parameters
    ----------
    image : Working
    mni_to_image : ndarray of float64, shape (4, 4)

    Returns
    -------
    float
        0 to 1; 0 where the image hardly meets the brain.

    Notes
    -----
    Linear regression on the three shares, so any contrast will do. What a polynomial of degree 2 in the position
    explains (coil shading, the roundness of a bottle) is taken out of both sides first.
    """
    inside, tissues = _inside()
    template = load_template(2)
    moved = sample(image.array, image.geometry, template.geometry, mni_to_image, outside=-1)
    used = inside & (moved >= 0)
    if used.sum() < FEWEST:
        return 0.0
    place = np.argwhere(used).astype(np.float64)
    place = (place - place.mean(axis=0)) / np.maximum(place.std(axis=0), 1)
    mixed = [place[:, i] * place[:, j] for i in range(3) for j in range(i, 3)]
    smooth = np.stack([np.ones(len(place)), *place.T, *mixed], axis=1)
    both = np.stack([moved[used], *tissues[:, used]], axis=1).astype(np.float64)
    both -= smooth @ np.linalg.lstsq(smooth, both, rcond=None)[0]
    values, shares = both[:, 0], both[:, 1:]
    total = float((values**2).sum())
    if total < 1e-9 * len(values):
        return 0.0
    rest = values - shares @ np.linalg.lstsq(shares, values, rcond=None)[0]
    return round(1 - float((rest**2).sum()) / total, 4)


@lru_cache(maxsize=1)
def _inside() -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Inside of the average brain, and its csf, grey and white, shape (3, D, H, W)."""
    template = load_template(2)
    depth_mm = ndimage.distance_transform_edt(template.brain > 0.5) * template.geometry.spacing_mm[0]
    csf = np.clip(template.brain - template.grey - template.white, 0, 1)
    return depth_mm > INSIDE_MM, np.stack([csf, template.grey, template.white])


def template_brain(grid: Geometry, grid_to_mni: Matrix) -> NDArray[np.bool_]:
    """Where the registered average brain lies on a grid.

    Parameters
    ----------
    grid : Geometry
    grid_to_mni : ndarray of float64, shape (4, 4)
    """
    template = load_template(2)
    return sample(template.brain, template.geometry, grid, grid_to_mni, smooth=False) > 0.5


def dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Overlap of two masks; 0 where both are empty."""
    return 2 * int((one & other).sum()) / max(1, int(one.sum()) + int(other.sum()))


def match_sharpness(
    reference: Working, moving: Working, reference_to_moving: Matrix, brain: NDArray[np.bool_]
) -> float:
    """Mutual information of two sequences over the brain, as a multiple of that with one of them shifted.

    Parameters
    ----------
    reference : Working
    moving : Working
    reference_to_moving : ndarray of float64, shape (4, 4)
    brain : ndarray of bool, shape (D, H, W)
        On the grid of `reference`.

    Returns
    -------
    float
        Mean over shifts by `SHIFT_MM` along six directions. Two sequences of one head fit in every gyrus, so that a
        shift costs most of what they share; two heads share only their coarse shape, and lose little. NaN where they
        hardly overlap.

    Notes
    -----
    Every voxel is first held against its surroundings (mean and deviation within about `LOCAL_MM`), or the shading of
    coils and the outline of a large oedema, which outlast any shift, would be most of what is shared.
    """
    reference, moving = _local(reference), _local(moving)
    shifts = [np.zeros(3), *(sign * SHIFT_MM * row for row in np.eye(3) for sign in (-1, 1))]
    shared = []
    for shift in shifts:
        moved = reference_to_moving.copy()
        moved[:3, 3] += moved[:3, :3] @ shift
        used = brain & covered(moving.geometry, reference.geometry, moved)
        if used.sum() < FEWEST:
            return float("nan")
        other = sample(moving.array, moving.geometry, reference.geometry, moved, smooth=False)
        shared.append(_shared(reference.array[used], other[used]))
    return round(shared[0] / max(float(np.mean(shared[1:])), 1e-6), 3)


def _local(image: Working) -> Working:
    """Grey values against the mean and deviation of the head around each voxel."""
    inside = (image.array >= HEAD_RANK).astype(np.float32)
    sigma = LOCAL_MM / image.geometry.spacing_mm[0]
    share = _blur(inside, sigma) + np.float32(1e-3)
    away = (image.array - _blur(image.array * inside, sigma) / share) * inside
    detail = away / np.sqrt(_blur(away**2, sigma) / share + np.float32(1e-4))
    return Working(detail.astype(np.float32), image.geometry, image.slab)


def _blur(values: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    return ndimage.gaussian_filter(values, sigma, truncate=2.5)


def _shared(one: NDArray[np.float32], other: NDArray[np.float32], bins: int = 24) -> float:
    """Mutual information in nats of the ranks of two sets of grey values."""
    levels = np.linspace(0, 100, bins + 1)[1:-1]
    ranks = [np.searchsorted(np.percentile(values, levels), values) for values in (one, other)]
    joint = np.bincount(ranks[0] * bins + ranks[1], minlength=bins * bins).reshape(bins, bins) / len(one)
    product = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    filled = joint > 0
    return float((joint[filled] * np.log(joint[filled] / product[filled])).sum())
