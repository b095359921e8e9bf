"""White matter hyperintensities of presumed vascular origin, and lacunes.

References
----------
.. [1] C. DeCarli et al., Anatomical mapping of white matter hyperintensities, Stroke 36(1), 2005,
   DOI 10.1161/01.STR.0000150668.58689.f2: they grow outwards from the ventricles as their volume rises.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from anymri.phantom.anatomy import Anatomy
from anymri.phantom.noise import smooth_noise
from anymri.phantom.pathology.foci import Focus, draw_places, paint_foci
from anymri.phantom.pathology.healthy import make_vessels
from anymri.phantom.pathology.tissue import Tissue, combine, fill, level_for_volume, sigmoid

__all__ = ["grow_hyperintensities"]


def _drive(generator: np.random.Generator, anatomy: Anatomy) -> np.ndarray:
    """How readily a voxel turns bright: next to the ventricles first, then in spots deep in white matter."""
    grid = anatomy.grid
    near = ndimage.gaussian_filter(anatomy.ventricle, 5.0 / grid.spacing_mm)
    deep = ndimage.gaussian_filter(anatomy.white, 3.0 / grid.spacing_mm)
    noise = smooth_noise(generator, grid, 8.0) + 0.6 * smooth_noise(generator, grid, 4.0)
    noise = 0.8 * noise + 0.6 * noise[:, :, ::-1]  # both sides alike, roughly
    lower = anatomy.coordinates_mm[0] < -18
    callosum = np.exp(-((anatomy.coordinates_mm[2] / 9) ** 2))  # has ventricles on both sides, but is spared
    drive = noise + generator.uniform(5, 12) * np.sqrt(near) + 2.0 * (deep - 0.8)
    return drive - 3.0 * lower - 2.5 * callosum


def _make_lacunes(generator: np.random.Generator, anatomy: Anatomy) -> tuple[np.ndarray, int]:
    """Share of up to three old holes of 4 to 12 mm in deep white matter, and how many."""
    grid = anatomy.grid
    count = int(generator.integers(1, 4)) if generator.uniform() < 0.25 else 0
    step = max(1, round(3.0 / grid.spacing_mm))
    white, ventricle = (array[::step, ::step, ::step] for array in (anatomy.white, anatomy.ventricle))
    deep = np.where(anatomy.coordinates_mm[0, ::step, ::step, ::step] > -10, white**2 * (ventricle < 0.1), 0.0)
    places = draw_places(generator, ndimage.gaussian_filter(deep, 2.0) ** 3 * deep, count)
    centres = (places * step + np.array(grid.start) + 0.5) * grid.spacing_mm
    radii = generator.uniform(2.0, 6.0, (count, 1)) * np.exp(generator.normal(0, 0.2, (count, 3)))
    foci = [Focus(centre, radius) for centre, radius in zip(centres, radii, strict=True)]
    score, nearest = paint_foci(grid, foci)
    return np.where(nearest >= 0, sigmoid((1 - np.where(nearest >= 0, score, 2.0)) / 0.12), 0.0), count


def grow_hyperintensities(generator: np.random.Generator, anatomy: Anatomy) -> Tissue:
    """Fill white matter hyperintensities into a subject's anatomy.

    Parameters
    ----------
    generator : numpy.random.Generator
    anatomy : Anatomy

    Returns
    -------
    Tissue
        Labels 1: lesion, 2: other pathology (lacunes).

    Notes
    -----
    Volume: log-normal, median 8 ml, kept within 0.3 and 80 ml: a level set of a drive that falls with the distance
    from the ventricles, so that more volume means the same places and more around them, as [1]_ found. A quarter of
    the subjects have one to three lacunes. The numbers are ours.
    """
    volume_ml = float(np.clip(8 * np.exp(generator.normal(0, 1.0)), 0.3, 80))
    drive = _drive(generator, anatomy)
    allowed = anatomy.brain & (anatomy.white > 0.5) & (anatomy.ventricle < 0.3)
    limit = -level_for_volume(-drive, allowed, volume_ml, anatomy.grid.spacing_mm)
    lacune, count = _make_lacunes(generator, anatomy)
    softness = generator.uniform(0.1, 0.3)
    host = anatomy.white + 0.3 * anatomy.grey
    spots = sigmoid((drive - limit) / softness) * host * generator.uniform(0.7, 1.0) * (anatomy.white > 0.2)
    spots = spots * (1 - anatomy.ventricle) * (1 - lacune)
    shares = combine(anatomy, {"wmh": spots, "blood": make_vessels(generator, anatomy)})
    shares = fill(shares, lacune, {"csf": lacune}, anatomy.brain)
    label = (allowed & (drive > limit)).astype(np.uint8)
    label[anatomy.brain & (lacune > 0.5)] = 2
    parameters = {"kind": "white_matter_hyperintensities", "volume_ml": volume_ml, "lacunes": count}
    return Tissue(shares, label, anatomy.brain, anatomy.grid, parameters)
