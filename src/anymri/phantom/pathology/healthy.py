"""Healthy extras: vessels and incidental white matter hyperintensities."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from anymri.phantom.anatomy import Anatomy
from anymri.phantom.noise import smooth_noise
from anymri.phantom.pathology.tissue import Tissue, combine, sigmoid
from anymri.phantom.settings import PhantomSettings

__all__ = ["healthy_tissue", "make_hyperintensities", "make_vessels"]


def make_hyperintensities(generator: np.random.Generator, anatomy: Anatomy, share: float) -> np.ndarray:
    """White matter hyperintensities: caps and bands at the ventricles and spots in deep white matter."""
    grid = anatomy.grid
    shown = generator.uniform() < share
    extent = generator.uniform(0.0, 1.0)
    near_ventricle = ndimage.gaussian_filter(anatomy.ventricle, 4.0 / grid.spacing_mm)
    field_ = smooth_noise(generator, grid, 7.0) + 0.5 * smooth_noise(generator, grid, 3.5)
    deep = ndimage.gaussian_filter(anatomy.white, 3.0 / grid.spacing_mm)
    drive = field_ + 6.0 * near_ventricle + 1.5 * (deep - 0.8)
    spots = sigmoid((drive - (3.4 - 1.4 * extent)) / 0.15)
    return spots * (anatomy.white > 0.3) * generator.uniform(0.5, 1.0) if shown else np.zeros(grid.shape)


def make_vessels(generator: np.random.Generator, anatomy: Anatomy) -> np.ndarray:
    """Thin winding vessels, mostly in sulci, and the sagittal sinus."""
    grid = anatomy.grid
    tube = smooth_noise(generator, grid, 13.0) ** 2 + smooth_noise(generator, grid, 13.0) ** 2
    fluid = ndimage.gaussian_filter(anatomy.csf, 1.5 / grid.spacing_mm) - anatomy.ventricle
    vessels = np.exp(-tube / 0.02) * np.clip(2.5 * fluid - 0.2, 0.05, 1)
    depth = ndimage.gaussian_filter(anatomy.brain.astype(float), 3.0 / grid.spacing_mm)
    z, y, x = anatomy.coordinates_mm
    sinus = sigmoid((3.0 - np.abs(x)) / 1.0) * sigmoid((0.78 - depth) / 0.05) * ((z > 0) & ((y < 0) | (z > 40)))
    return np.clip(np.maximum(vessels, 0.8 * sinus), 0, 1) * anatomy.brain


def healthy_tissue(generator: np.random.Generator, anatomy: Anatomy, settings: PhantomSettings) -> Tissue:
    """A brain without tumour: anatomy with hyperintensities and vessels.

    Parameters
    ----------
    generator : numpy.random.Generator
    anatomy : Anatomy
    settings : PhantomSettings
    """
    spots = make_hyperintensities(generator, anatomy, settings.wmh_share)
    shares = combine(anatomy, {"wmh": spots * anatomy.white, "blood": make_vessels(generator, anatomy)})
    label = np.zeros(anatomy.grid.shape, np.uint8)
    return Tissue(shares, label, anatomy.brain, anatomy.grid, {"kind": "none"})
