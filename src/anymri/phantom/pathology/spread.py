"""Mass effect and oedema of tumours."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from anymri.phantom.anatomy import Anatomy, Shape
from anymri.phantom.noise import smooth_noise
from anymri.phantom.pathology.tissue import connected, level_for_volume, sigmoid

__all__ = ["mass_effect", "spread_edema"]


def mass_effect(shape: Shape, centres_mm: np.ndarray, radii_mm: np.ndarray, strength: float) -> np.ndarray:
    """Displacement of tissue by growing masses.

    Parameters
    ----------
    shape : Shape
    centres_mm : ndarray of float64, shape (F, 3)
        Middle of each mass (D, H, W) in mm from the start of the imaged volume.
    radii_mm : ndarray of float64, shape (F, 3)
        Half axes.
    strength : float
        Largest displacement, relative to the radius.

    Returns
    -------
    ndarray of float64, shape (3, D, H, W)
        In mm; away from the masses, fading over 25 mm and towards the skull.
    """
    push_mm = np.zeros_like(shape.coordinates_mm)
    axes = shape.grid.axes_mm()
    inside = np.clip(2 * shape.depth() - 1, 0, 1)  # the skull holds the brain's surface in place
    for centre, radii in zip(centres_mm, radii_mm, strict=True):
        offset = [axis - middle for axis, middle in zip(axes, centre, strict=True)]
        distance = np.sqrt(sum(part**2 for part in offset)) + 1e-6
        radius = float(radii.mean())
        size = strength * radius * np.minimum(distance / radius, 1) * np.exp(-np.maximum(distance - radius, 0) / 25)
        size *= inside
        for row in range(3):
            push_mm[row] += size * offset[row] / distance
    return push_mm


def spread_edema(
    generator: np.random.Generator, anatomy: Anatomy, core: np.ndarray, score: np.ndarray, volume_ml: float
) -> tuple[np.ndarray, np.ndarray]:
    """Oedema around a core: spreads through white matter, little into grey, not into CSF.

    Parameters
    ----------
    generator : numpy.random.Generator
    anatomy : Anatomy
    core : ndarray of bool, shape (D, H, W)
    score : ndarray of float64, shape (D, H, W)
        Distance from the core, growing outwards.
    volume_ml : float
        Of the oedema, before what does not touch the core is dropped.

    Returns
    -------
    share : ndarray of float64, shape (D, H, W)
        0 to 1.
    mask : ndarray of bool, shape (D, H, W)
    """
    grid = anatomy.grid
    blur = 1.5 / grid.spacing_mm
    speed = 0.12 + ndimage.gaussian_filter(anatomy.white, blur) + 0.25 * ndimage.gaussian_filter(anatomy.grey, blur)
    reach = (
        score / speed * np.exp(0.22 * smooth_noise(generator, grid, 13.0) + 0.12 * smooth_noise(generator, grid, 6.0))
    )
    allowed = anatomy.brain & ~core & (anatomy.ventricle < 0.3) & (anatomy.csf < 0.6)
    limit = level_for_volume(reach, allowed, volume_ml, grid.spacing_mm)
    mask = connected(allowed & (reach < limit), core)
    softness = generator.uniform(0.03, 0.10)
    share = sigmoid((1 - reach / limit) / softness)
    near = ndimage.binary_dilation(mask | core, iterations=max(1, round(4 / grid.spacing_mm)))
    level = generator.uniform(0.65, 1.1) * (1 + 0.25 * smooth_noise(generator, grid, 15.0))
    return share * near * np.clip(level, 0.3, 1.0), mask
