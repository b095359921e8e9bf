"""Skull-stripping check: whether an image shows a brain alone, as every model here expects, or a whole head.

Seen from the middle outwards a head is bright brain, dark skull, bright scalp. That order needs no air: it is there
too when the air was set to 0, the face was cut away or the field of view is tight.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anymri.data.geometry import Geometry
from anymri.data.nifti import Volume
from anymri.data.raw.bias import foreground
from anymri.data.raw.grids import sample, upright_grid, world_box
from anymri.threads import map_parts
from anymri.types import UserError

__all__ = [
    "BRAIN_ML",
    "LARGEST_ML",
    "NOT_BRAIN",
    "SKULL_SHARE",
    "SMALLEST_ML",
    "check_stripped",
    "filled_ml",
    "refuse_head",
    "skull_share",
]

#: Volume of an adult's brain with the fluid around it, in ml; outside of it a warning.
BRAIN_ML = (600.0, 2200.0)
#: No brain, not even a newborn's, is smaller; none, not even with hydrocephalus, is larger.
SMALLEST_ML, LARGEST_ML = 100.0, 2500.0
#: Share of directions in which a skull is seen from which an image is a head. Of 13 gliomas, 2 studies of multiple
#: sclerosis and phantoms, stripped, at most 6 % show one (atrophy with dark sulci), of 10 defaced heads at least 30 %.
#: In slabs thinner than `THIN_MM` sulci alone may reach 27 %.
SKULL_SHARE, SKULL_SHARE_THIN, THIN_MM = 0.2, 0.35, 40.0
#: A shell is dark where it is below this share of the darker of what lies outside and inside.
DARK = 0.7
#: Where the skull's darkest part may lie below the surface, and where there is surely brain, in mm.
SKULL_DEPTH_MM, BRAIN_DEPTH_MM = (4.0, 18.0), (20.0, 40.0)
#: Sampling: voxel size and step of the rays in mm, number of rays, neighbours averaged (a cone of about 12 degrees,
#: in which the depth of the skull hardly changes but that of sulci does), fewest rays that end inside the image.
STEP_MM, RAYS, CONE, FEWEST = 2.0, 1500, 16, 100
#: Abdominal sequences and those in which bone is bright.
NOT_BRAIN = ("t1_in", "t1_out", "t2_spir", "ct")


def check_stripped(volumes: Mapping[str, Volume]) -> None:
    """Refuse whole heads, and what is too large or too small for any brain.

    Parameters
    ----------
    volumes : mapping of str to Volume
        Modality code to image; each is judged alone.

    Raises
    ------
    UserError
        Naming the first image that cannot be a stripped brain.
    """
    map_parts(_check_one, volumes)


def _check_one(code: str, volume: Volume) -> None:
    size_ml = filled_ml(volume.array != 0, volume.geometry)
    if code not in NOT_BRAIN and size_ml < SMALLEST_ML:
        raise UserError(
            f"{volume.source}: holds {size_ml:.1f} ml that are not 0, too little for a brain (an adult's has "
            f"{BRAIN_ML[0]:.0f} to {BRAIN_ML[1]:.0f} ml); check the brain mask and the voxel size in the header"
        )
    refuse_head(code, volume)


def refuse_head(code: str, volume: Volume) -> None:
    """Refuse a whole head, and what is too large for any brain.

    Parameters
    ----------
    code : str
        Modality; abdominal ones and those with bright bone are not judged.
    volume : Volume

    Raises
    ------
    UserError
        With the remedy, ``--raw``.
    """
    if code in NOT_BRAIN:
        return
    share = skull_share(volume.array, volume.geometry)
    thickness = min(size * step for size, step in zip(volume.array.shape, volume.geometry.spacing_mm, strict=True))
    if share > (SKULL_SHARE if thickness >= THIN_MM else SKULL_SHARE_THIN):
        raise UserError(
            f"{volume.source}: shows a whole head, not a stripped brain (a skull in {share:.0%} of the directions from "
            "its middle); say so (--raw), or strip the skull first"
        )
    size_ml = filled_ml(volume.array != 0, volume.geometry)
    if size_ml > LARGEST_ML:
        raise UserError(
            f"{volume.source}: holds {size_ml:.0f} ml that are not 0, more than any brain; if it shows a whole head, "
            "say so (--raw), else check the voxel size in the header"
        )


def filled_ml(filled: NDArray[np.bool_], geometry: Geometry) -> float:
    """Volume of a mask in ml.

    Parameters
    ----------
    filled : ndarray of bool, shape (D, H, W)
    geometry : Geometry
    """
    return float(filled.sum()) * float(abs(np.linalg.det(geometry.affine[:3, :3]))) / 1000


def skull_share(array: NDArray[Any], geometry: Geometry) -> float:
    """Share of directions from the middle in which a dark shell lies below a bright surface.

    Parameters
    ----------
    array : ndarray, shape (D, H, W)
        Any sequence in which bone is dark.
    geometry : Geometry

    Returns
    -------
    float
        0 to 1; 0 where too few directions end inside the image.
    """
    from scipy.spatial import cKDTree

    profile, directions = _profiles(np.abs(array), geometry)
    if len(profile) < FEWEST:
        return 0.0
    deep = slice(*(int(depth / STEP_MM) for depth in BRAIN_DEPTH_MM))
    level = np.median(profile[:, deep], axis=1, keepdims=True)
    profile = np.minimum(profile / np.maximum(level, 1e-6 * profile.max()), 2)
    cones = profile[cKDTree(directions).query(directions, CONE)[1]].mean(axis=1)
    brain = np.median(cones[:, deep], axis=1)
    first, last = (int(depth / STEP_MM) for depth in SKULL_DEPTH_MM)
    depth = [cones[:, k] / np.minimum(cones[:, :k].max(axis=1), brain).clip(1e-6) for k in range(first, last + 1)]
    return float((np.min(depth, axis=0) < DARK).mean())


def _profiles(array: NDArray[Any], geometry: Geometry) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Grey values by depth below the surface, shape (rays, depths), and the rays' directions, shape (rays, 3)."""
    image = sample(array, geometry, upright_grid(*world_box(geometry), STEP_MM))
    pieces, count = ndimage.label(foreground(image))
    if count == 0:
        return np.zeros((0, 1), np.float32), np.zeros((0, 3))
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    bright = (sizes > 0.02 * sizes.sum())[pieces]  # the scalp may be a piece of its own, specks of noise are not
    middle = np.argwhere(bright).mean(axis=0)
    # In a slab most of the surface that is seen lies in its plane, so the rays go there.
    extent = np.array(image.shape) / max(image.shape)
    directions = _directions() * extent
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    steps = np.arange(int(np.linalg.norm(image.shape)))
    places = (middle + steps[:, None, None] * directions).transpose(2, 1, 0)
    values = ndimage.map_coordinates(image, places, order=1, output=np.float32)
    seen = ndimage.map_coordinates(bright.astype(np.uint8), places, order=0) > 0
    surface = np.where(seen.any(axis=1), len(steps) - 1 - seen[:, ::-1].argmax(axis=1), 0)
    end = middle[:, None] + surface * directions.T
    size = np.array(image.shape)[:, None]
    depths = np.arange(int(BRAIN_DEPTH_MM[1] / STEP_MM) + 1)
    # Where the image ends before the head does the surface is not seen.
    kept = ((end > 2) & (end < size - 3)).all(axis=0) & (surface >= depths[-1])
    profile = values[np.arange(RAYS)[:, None], np.maximum(surface[:, None] - depths, 0)]
    return profile[kept], directions[kept]


def _directions() -> NDArray[np.float64]:
    """Directions spread evenly over the sphere (a Fibonacci lattice), shape (RAYS, 3)."""
    number = np.arange(RAYS) + 0.5
    height = 1 - 2 * number / RAYS
    angle = np.pi * (1 + np.sqrt(5)) * number
    around = np.sqrt(1 - height**2)
    return np.stack([height, around * np.sin(angle), around * np.cos(angle)], axis=1)
