"""Artifacts of an uneven magnetic field: susceptibility, fat and water, coil sensitivity.

References
----------
.. [1] J. F. Schenck, The role of magnetic susceptibility in magnetic resonance imaging, Med Phys 23(6), 1996,
   DOI 10.1118/1.597854: susceptibilities of air and tissue, field of a sphere, chemical shift of fat.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from anymri.phantom.settings import Grid

__all__ = ["dephase", "displace", "find_cavities", "opposed_phase", "shift", "sphere_field_ppm"]

#: Susceptibility of air less that of tissue, ppm; see [1]_.
_AIR_PPM = 9.4
#: Air-filled cavities below the brain: MNI coordinates (z, y, x) of the middle, and radius, in mm. By eye: where
#: echo-planar images lose signal, above the ethmoid sinus and above the ear canals.
_CAVITIES = {
    "ethmoid sinus": ((-36.0, 44.0, 0.0), 14.0),
    "left ear": ((-44.0, -24.0, -56.0), 10.0),
    "right ear": ((-44.0, -24.0, 56.0), 10.0),
}


def find_cavities(coordinates_mm: np.ndarray, grid: Grid) -> dict[str, tuple[np.ndarray, float]]:
    """Where a subject's air-filled cavities lie.

    Parameters
    ----------
    coordinates_mm : ndarray, shape (3, D, H, W)
        MNI coordinates (z, y, x) of every voxel.
    grid : Grid

    Returns
    -------
    dict of str to tuple
        Centre (D, H, W) in mm from the start of the imaged volume, and radius in mm.
    """
    step = max(1, round(4.0 / grid.spacing_mm))
    coarse = coordinates_mm[:, ::step, ::step, ::step]
    found = {}
    for name, (centre, radius_mm) in _CAVITIES.items():
        squared = sum((axis - middle) ** 2 for axis, middle in zip(coarse, centre, strict=True))
        place = np.array(np.unravel_index(int(np.argmin(squared)), coarse.shape[1:])) * step
        found[name] = ((place + np.array(grid.start) + 0.5) * grid.spacing_mm, radius_mm)
    return found


def sphere_field_ppm(axes_mm: list[np.ndarray], centre_mm: np.ndarray, radius_mm: float) -> np.ndarray:
    """Change of the main field around a sphere of air in tissue, relative, in ppm (closed form of [1]_).

    Parameters
    ----------
    axes_mm : list of ndarray
        Coordinates along D, H, W, shaped to broadcast; the main field points along D.
    centre_mm : ndarray, shape (3,)
    radius_mm : float

    Returns
    -------
    ndarray, shape (D, H, W)
        ``chi / 3 (a / r)^3 (3 cos^2 - 1)`` outside, 0 inside.
    """
    z, y, x = (axis - middle for axis, middle in zip(axes_mm, centre_mm, strict=True))
    squared = np.maximum(z**2 + y**2 + x**2, 1e-9)
    field = _AIR_PPM / 3 * radius_mm**3 * squared**-1.5 * (3 * z**2 / squared - 1)
    return np.where(squared > radius_mm**2, field, 0.0)


def displace(image: np.ndarray, voxels: np.ndarray, axis: int) -> np.ndarray:
    """Geometric distortion: signal is moved along one axis, and heaped up or spread out; its sum stays.

    Parameters
    ----------
    image : ndarray, shape (D, H, W)
    voxels : ndarray, shape (D, H, W)
        How far each voxel's signal moves.
    axis : int
        Direction of the slowest encoding.

    Notes
    -----
    Each voxel is split in four along the axis, so that stretched regions have no gaps. What leaves the array is lost.
    """
    parts = 4
    source, moved = (np.moveaxis(array, axis, 2) for array in (image, voxels))
    rows, size = source.shape[0] * source.shape[1], source.shape[2]
    source, moved = source.reshape(rows, size), moved.reshape(rows, size)
    start = np.arange(rows)[:, None] * size
    result = np.zeros(rows * size)
    slope = np.gradient(moved, axis=1)
    for part in range(parts):
        offset = (part + 0.5) / parts - 0.5
        place = np.arange(size) + offset + moved + offset * slope
        below = np.floor(place).astype(int)
        for neighbour in (0, 1):
            weight = np.maximum(0.0, 1 - np.abs(place - below - neighbour)) * source / parts
            index = below + neighbour
            inside = (index >= 0) & (index < size)
            result += np.bincount((index + start)[inside], weight[inside], minlength=rows * size)
    shape = np.moveaxis(image, axis, 2).shape
    return np.moveaxis(result.reshape(shape), 2, axis)


def dephase(image: np.ndarray, field_hz: np.ndarray, te_s: float) -> np.ndarray:
    """Drop-out: spins of one voxel lose phase to each other where the field has a slope; gradient echo.

    Parameters
    ----------
    image : ndarray, shape (D, H, W)
    field_hz : ndarray, shape (D, H, W)
        Off-resonance.
    te_s : float
        Echo time.

    Notes
    -----
    Signal times ``|sinc(slope x TE)|`` along each axis, the slope per voxel taken as constant within it.
    """
    for axis in range(3):
        image = image * np.abs(np.sinc(np.gradient(field_hz, axis=axis) * te_s))
    return image


def shift(image: np.ndarray, voxels: float, axis: int) -> np.ndarray:
    """Move an image along one axis by any number of voxels, linearly interpolated; 0 comes in."""
    offset = [0.0, 0.0, 0.0]
    offset[axis] = voxels
    return ndimage.shift(image, offset, order=1, mode="constant", prefilter=False)


def opposed_phase(water: np.ndarray, fat: np.ndarray, angle: float) -> np.ndarray:
    """Phase cancellation: magnitude of water and fat that point `angle` radians apart; they cancel where they mix."""
    return np.abs(water + fat * np.exp(1j * angle))
