"""Brain mask of a head: the average brain as prior, grey values learnt from the image itself.

Works with any single sequence, since nothing is assumed of how bright a tissue is.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anymri.data.geometry import Geometry
from anymri.data.raw.grids import Matrix, covered, sample
from anymri.data.raw.registration import Working, fit_brain, is_slab
from anymri.data.raw.template import load_template

__all__ = ["BrainEstimate", "estimate_brain"]

#: Voxel size of the estimate, in mm.
STEP_MM = 2.0
#: How far the brain's surface may lie from the registered average's: standard deviation in mm.
DOUBT_MM = 3.0
#: Beyond this distance from the registered average brain nothing can be brain, in mm.
REACH_MM = 12.0
#: Gaussians that describe what is not brain: bone and air, muscle and skin, fat.
OTHERS = 3
#: Rounds of estimation, and weight of a voxel's neighbours in the later half of them.
ROUNDS, NEIGHBOURS = 24, 2.0
#: How often the average brain is fitted anew to what was found, and the estimate repeated.
REFITS = 4
#: Radius that cuts the bridges between brain and the rest, in mm.
BRIDGE_MM = 4.0


class BrainEstimate(NamedTuple):
    """Brain estimate of one head.

    Attributes
    ----------
    probability : ndarray of float32, shape (D, H, W)
        Of brain.
    geometry : Geometry
        Grid of `probability`.
    tissue_means : dict of str to float
        Mean grey value of ``csf``, ``grey`` and ``white``.
    """

    probability: NDArray[np.float32]
    geometry: Geometry
    tissue_means: dict[str, float]


def estimate_brain(
    array: NDArray[np.float32], geometry: Geometry, mni_to_image: Matrix, frame: Geometry, frame_to_image: Matrix
) -> BrainEstimate:
    """Probability of brain.

    Parameters
    ----------
    array : ndarray of float32, shape (D, H, W)
        One sequence, bias corrected.
    geometry : Geometry
        Its grid.
    mni_to_image : ndarray of float64, shape (4, 4)
        From `anymri.data.raw.registration.register_template`.
    frame : Geometry
        Grid to work on, of about `STEP_MM`.
    frame_to_image : ndarray of float64, shape (4, 4)

    Returns
    -------
    BrainEstimate

    Notes
    -----
    Expectation maximisation of a Gaussian mixture with spatial priors (as in unified segmentation, Ashburner and
    Friston, NeuroImage 26(3), 2005, without its deformation and bias): white, grey and CSF have the average brain's
    shares, blurred by `DOUBT_MM` across its surface, the remaining Gaussians share the rest. Later rounds favour what
    the neighbours are. Grey values show the brain's surface better than mutual information does, so the average brain
    is then fitted to the brain that was found and the estimate is repeated, `REFITS` times.
    """
    image = sample(array, geometry, frame, frame_to_image)
    seen = covered(geometry, frame, frame_to_image)
    mni_to_frame: Matrix = np.linalg.inv(frame_to_image) @ mni_to_image
    refits = 0 if is_slab(geometry) else REFITS  # the shape of a brain cannot be seen in a slab
    for number in range(refits + 1):
        priors, near = _priors(frame, np.linalg.inv(mni_to_frame))
        posterior, means = _mixture(image, priors, near & seen)
        brain = _clean(posterior[:3].sum(axis=0), priors[:3].sum(axis=0), frame.spacing_mm[0])
        if number < refits:
            mni_to_frame = fit_brain(Working(brain, frame), seen, mni_to_frame)
    return BrainEstimate(brain, frame, dict(zip(("csf", "grey", "white"), means[:3].tolist(), strict=True)))


def _priors(frame: Geometry, frame_to_mni: Matrix) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Prior of csf, grey, white and other, shape (4, D, H, W), and where brain is possible at all."""
    template = load_template(2)
    step = template.geometry.spacing_mm[0]
    blurred = ndimage.gaussian_filter(template.brain, DOUBT_MM / step, truncate=4)
    csf = np.clip(template.brain - template.grey - template.white, 0, 1)
    tissue = [ndimage.gaussian_filter(share, 1.0) + 1e-3 for share in (csf, template.grey, template.white)]
    # Shares inside; beyond the surface they go on as CSF and grey matter, as at the surface.
    total = sum(tissue)
    shares = [share / total for share in tissue]
    maps = [sample(blurred * share, template.geometry, frame, frame_to_mni, smooth=False) for share in shares]
    brain = np.clip(sum(maps), 0, 1)
    away = ndimage.distance_transform_edt(sample(template.brain, template.geometry, frame, frame_to_mni) < 0.5)
    near = away * frame.spacing_mm[0] <= REACH_MM
    return np.stack([*maps, 1 - brain]).astype(np.float32), near


def _mixture(
    image: NDArray[np.float32], priors: NDArray[np.float32], use: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Posterior of csf, grey, white and of `OTHERS` more, and the means of all."""
    values = image[use].astype(np.float64)
    inner = priors[1][use] + priors[2][use] > 0.9
    unit = np.median(values[inner]) if inner.any() else np.median(values)
    values = np.clip(values / max(unit, 1e-6), 0, 4)
    prior = np.stack([*priors[:3], *([priors[3] / OTHERS] * OTHERS)])[:, use].astype(np.float64)
    # Start: brain tissue by the prior alone; the rest by thirds of its grey values.
    weight = prior.copy()
    outer = priors[3][use] > 0.5
    cuts = np.quantile(values[outer], np.linspace(0, 1, OTHERS + 1)) if outer.any() else np.linspace(0, 4, OTHERS + 1)
    place = np.clip(np.searchsorted(cuts, values, "right") - 1, 0, OTHERS - 1)
    weight[3:] = np.where(place == np.arange(OTHERS)[:, None], priors[3][use], 1e-3 * priors[3][use])
    full = np.zeros((3 + OTHERS, *image.shape), np.float32)
    means = np.zeros(3 + OTHERS)
    for number in range(ROUNDS):
        mass = weight.sum(axis=1) + 1e-9
        means = weight @ values / mass
        spread = np.sqrt((weight * (values - means[:, None]) ** 2).sum(axis=1) / mass + 0.03**2)
        # How the mass outside divides among its Gaussians is learnt; of the brain the prior knows.
        rest = mass[3:] / mass[3:].sum()
        density = np.exp(-0.5 * ((values - means[:, None]) / spread[:, None]) ** 2) / spread[:, None]
        weight = prior * density
        weight[3:] *= OTHERS * rest[:, None]
        if number >= ROUNDS // 2:
            weight *= np.exp(NEIGHBOURS * _around(full, use))
        weight /= weight.sum(axis=0) + 1e-30
        full[:, use] = weight
    return full, means * unit


def _around(posterior: NDArray[np.float32], use: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean over each voxel's surroundings: of the brain as a whole, and of each other Gaussian as other."""
    brain = ndimage.gaussian_filter(posterior[:3].sum(axis=0), 1.0)[use].astype(np.float64)
    other = ndimage.gaussian_filter(posterior[3:].sum(axis=0), 1.0)[use].astype(np.float64)
    return np.stack([*([brain] * 3), *([other] * (len(posterior) - 3))])


def _clean(brain: NDArray[np.float32], prior: NDArray[np.float32], step_mm: float) -> NDArray[np.float32]:
    """Keep the one piece that holds the middle of the brain: cut bridges, fill holes, smooth the surface."""
    inside = brain > 0.5
    radius = BRIDGE_MM / step_mm
    core = ndimage.distance_transform_edt(inside) > radius
    pieces, count = ndimage.label(core)
    if count == 0:
        return np.where(prior > 0.5, np.float32(1), np.float32(0))
    core = pieces == np.bincount(pieces.ravel(), weights=prior.ravel() * core.ravel())[1:].argmax() + 1
    opened = (ndimage.distance_transform_edt(~core) <= radius + 0.5) & inside
    filled = _fill(opened)
    return ndimage.gaussian_filter(filled.astype(np.float32), 0.7 * 2.0 / step_mm)


def _fill(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Close narrow clefts and fill holes."""
    padded = np.pad(inside, 4)
    ball = ndimage.distance_transform_edt(~padded) <= 3
    closed = ndimage.distance_transform_edt(ball) > 3
    return ndimage.binary_fill_holes(closed | padded)[4:-4, 4:-4, 4:-4]
