"""Acquisition effects: texture, limited resolution, coil sensitivity and noise."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from scipy import ndimage

from anymri.phantom.artifacts.coverage import thick_slices
from anymri.phantom.artifacts.kspace import filter_slices
from anymri.phantom.noise import smooth_noise
from anymri.phantom.settings import Grid

__all__ = ["Artifacts", "apply_artifacts", "draw_artifacts", "draw_texture", "rician_noise"]


@dataclass(frozen=True)
class Artifacts:
    """Strength of every artifact of one sequence.

    Parameters
    ----------
    texture : tuple of float
        Relative strength of the fine, middle and coarse texture of `draw_texture`; signs may differ by sequence.
    blur_mm : float
        Standard deviation of the in-plane point spread.
    slice_axis : int
        Array axis of the slice direction (0 axial, 1 coronal, 2 sagittal).
    slice_mm : float
        Slice thickness; 0 for a three-dimensional acquisition.
    bias : float
        Standard deviation of the logarithm of the sensitivity.
    noise : float
        Standard deviation of the noise of each channel, relative to the mean brain signal.
    csf_flow : float
        Share of CSF signal that inflow brings back in patches (FLAIR).
    gamma : float
        Exponent of the final grey scale; 1 changes nothing.
    edge : float
        Relative change of the outermost millimetres, where skull-stripping cuts through partial volume.
    remnants : float
        Relative brightness of patches of dura that skull-stripping left.
    cut_mm : float
        Width of a side of the brain, left (positive) or right, that the acquisition missed: almost dark; 0 for none.
    in_plane_mm : float
        Width of a measured voxel within the slice; 0 for that of the picture, unfiltered.
    gap_mm : float
        Between slices.
    image_filter : str
        One of `anymri.phantom.artifacts.scanner.FILTERS`, used if `in_plane_mm` is above 0.
    """

    texture: tuple[float, float, float]
    blur_mm: float
    slice_axis: int
    slice_mm: float
    bias: float
    noise: float
    csf_flow: float = 0.0
    gamma: float = 1.0
    edge: float = 0.0
    remnants: float = 0.0
    cut_mm: float = 0.0
    in_plane_mm: float = 0.0
    gap_mm: float = 0.0
    image_filter: str = "none"

    def to_dict(self) -> dict:
        """Plain values for the provenance file."""
        return {**asdict(self), "texture": list(self.texture)}


def draw_artifacts(generator: np.random.Generator, sequence: str, contrast: str) -> Artifacts:
    """Draw the artifact strengths of one sequence.

    Parameters
    ----------
    generator : numpy.random.Generator
    sequence : {"t1", "t1c", "t2", "flair"}
    contrast : {"physics", "random"}
        ``random`` draws from other, mostly wider ranges.
    """
    wide = contrast == "random"
    fine, middle, coarse = (float(value) for value in generator.normal(0, [0.03, 0.03, 0.02 if wide else 0.03]))
    thick = generator.uniform() < (0.5 if wide else 0.3)
    edge = (float(generator.uniform(-0.6, 0.1)), float(generator.uniform(-0.6, 1.5))) if wide else (0.0, 0.0)
    cut_mm = float(generator.uniform(-25, 25)) if wide and generator.uniform() < 0.06 else 0.0
    return Artifacts(
        texture=(fine, middle, coarse),
        blur_mm=float(generator.uniform(0.3, 1.1 if wide else 0.8)),
        slice_axis=int(generator.choice(3, p=[0.7, 0.15, 0.15])),
        slice_mm=float(generator.uniform(2.0, 6.0 if wide else 4.0)) if thick else 0.0,
        bias=float(generator.uniform(0.02, 0.10 if wide else 0.12)),
        noise=float(generator.uniform(0.005, 0.05)),
        csf_flow=float(generator.uniform(0, 0.8)) if sequence == "flair" else 0.0,
        gamma=float(np.exp(generator.normal(0, 0.2))) if wide else 1.0,
        edge=edge[0],
        remnants=edge[1],
        cut_mm=cut_mm,
    )


def draw_texture(generator: np.random.Generator, grid: Grid) -> np.ndarray:
    """Three fields (3, D, H, W) of unit strength, fine to coarse, that all sequences of a subject share."""
    return np.stack([smooth_noise(generator, grid, scale_mm) for scale_mm in (2.5, 6.0, 22.0)])


def rician_noise(generator: np.random.Generator, signal: np.ndarray, sigma: float) -> np.ndarray:
    """Magnitude of a signal with Gaussian noise in both channels.

    Parameters
    ----------
    generator : numpy.random.Generator
    signal : ndarray
        Magnitude without noise.
    sigma : float
        Standard deviation of each channel, in units of the signal.
    """
    real, imaginary = generator.standard_normal((2, *signal.shape)) * sigma
    return np.sqrt((signal + real) ** 2 + imaginary**2)


def _cut(image: np.ndarray, brain: np.ndarray, cut_mm: float, grid: Grid) -> np.ndarray:
    """Almost no signal within `cut_mm` of the brain's left (positive) or right end."""
    columns = np.nonzero(brain.any(axis=(0, 1)))[0]
    place_mm = (np.arange(brain.shape[2]) - columns[0]) * grid.spacing_mm
    if cut_mm < 0:
        place_mm = (columns[-1] - np.arange(brain.shape[2])) * grid.spacing_mm
    return np.where(place_mm < abs(cut_mm), 0.05, image)


def _within_slices(image: np.ndarray, artifacts: Artifacts, grid: Grid) -> np.ndarray:
    """The image at the resolution that was measured within its slices."""
    if not artifacts.in_plane_mm:
        return image
    first, second = (axis for axis in range(3) if axis != artifacts.slice_axis)
    return filter_slices(image, (first, second), artifacts.in_plane_mm, grid.spacing_mm, artifacts.image_filter)


def apply_artifacts(
    generator: np.random.Generator,
    image: np.ndarray,
    brain: np.ndarray,
    csf: np.ndarray,
    texture: np.ndarray,
    artifacts: Artifacts,
    grid: Grid,
) -> np.ndarray:
    """Make an acquired image of an ideal one.

    Parameters
    ----------
    generator : numpy.random.Generator
    image : ndarray of float64, shape (D, H, W)
        Signal without artifacts, 0 outside the brain.
    brain : ndarray of bool, shape (D, H, W)
    csf : ndarray of float64, shape (D, H, W)
        Share of CSF.
    texture : ndarray of float64, shape (3, D, H, W)
    artifacts : Artifacts
    grid : Grid

    Returns
    -------
    ndarray of float64, shape (D, H, W)
        Mean brain signal 1; 0 outside the brain.
    """
    image = image / image[brain].mean()
    if artifacts.csf_flow:
        patches = np.clip(smooth_noise(generator, grid, 14.0) - 0.5, 0, 1.5)
        image = image + artifacts.csf_flow * patches * csf
    image = image * np.exp(sum(strength * layer for strength, layer in zip(artifacts.texture, texture, strict=True)))
    if artifacts.edge or artifacts.remnants:
        patches = np.clip(smooth_noise(generator, grid, 9.0) - 0.6, 0, 1)
        depth_mm = (ndimage.distance_transform_edt(brain) - 0.5) * grid.spacing_mm
        image = image * (1 + np.exp(-depth_mm / 2.0) * (artifacts.edge + artifacts.remnants * patches)).clip(0.05)
    # blur within the brain only: skull-stripping came after the acquisition
    sigma = artifacts.blur_mm / grid.spacing_mm
    weight = brain.astype(float)
    blurred, weight = (
        thick_slices(
            ndimage.gaussian_filter(_within_slices(array, artifacts, grid), sigma, truncate=3.0),
            artifacts.slice_axis,
            artifacts.slice_mm,
            grid.spacing_mm,
            artifacts.gap_mm,
        )
        for array in (image * brain, weight)
    )
    image = blurred / np.maximum(weight, 1e-3)
    image = image * np.exp(artifacts.bias * smooth_noise(generator, grid, 70.0))
    if artifacts.cut_mm:
        image = _cut(image, brain, artifacts.cut_mm, grid)
    image = rician_noise(generator, image, artifacts.noise)
    image = np.where(brain, image, 0.0)
    image = image / image[brain].mean()
    return image**artifacts.gamma if artifacts.gamma != 1 else image
