"""The head around a brain, so that artifacts act on all that a scanner sees before the skull is stripped."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from anymri.phantom.artifacts.acquisition import Artifacts, rician_noise
from anymri.phantom.artifacts.coverage import thick_slices
from anymri.phantom.artifacts.table import Scan
from anymri.phantom.noise import smooth_noise
from anymri.phantom.settings import MAPS, Grid

__all__ = ["Shell", "cut_back", "draw_shell", "put_in_head", "show_head"]

#: How far beyond the brain's box the head is drawn, where the imaged volume allows it.
_MARGIN_MM = 16.0
#: Signal of fat relative to the brain's mean, by eye: short T1 makes it bright in T1, turbo echoes in T2; suppressed
#: in diffusion and SPIR, absent from maps of diffusion and blood supply.
_FAT_SIGNAL = {"t1": 1.5, "t1c": 1.4, "t2": 1.1, "flair": 0.9, "pd": 1.0, "mprage": 1.6, "dir": 1.0, "t1_in": 1.7}
_FAT_SIGNAL |= {"t1_out": 1.6, "dwi": 0.1, "t2_spir": 0.1} | dict.fromkeys(MAPS, 0.0)
#: The same where fat is suppressed, for pictures of the head.
_FAT_SUPPRESSED = {"t2_spir": 0.1, "dwi": 0.05}


@dataclass(frozen=True)
class Shell:
    """What lies around a brain.

    Parameters
    ----------
    grid : Grid
        Larger than that of the brain.
    fat, water : ndarray of float64, shape (D, H, W)
        Share of fat (marrow, scalp) and of other tissue that gives signal (skin, dura); 0 in the brain.
    """

    grid: Grid
    fat: np.ndarray
    water: np.ndarray


def _place(inner: Grid, outer: Grid) -> tuple[slice, slice, slice]:
    """Where a box lies in a larger one."""
    depth, height, width = (
        slice(start - first, stop - first)
        for start, stop, first in zip(inner.start, inner.stop, outer.start, strict=True)
    )
    return depth, height, width


def draw_shell(generator: np.random.Generator, brain: np.ndarray, grid: Grid) -> Shell:
    """Draw skull and scalp as layers around a brain.

    Parameters
    ----------
    generator : numpy.random.Generator
    brain : ndarray of bool, shape (D, H, W)
    grid : Grid

    Notes
    -----
    From the brain outwards, about: 2 mm dura, 3 mm bone, 2 mm marrow, 3 mm bone, 4 mm fat, 2 mm skin, all thicker in
    some places than in others. There are no eyes, no face and no neck.
    """
    margin = int(np.ceil(_MARGIN_MM / grid.spacing_mm))
    whole = Grid.whole(grid.spacing_mm)
    first, second, third = (max(0, start - margin) for start in grid.start)
    ends = tuple(min(end, stop + margin) for end, stop in zip(whole.stop, grid.stop, strict=True))
    outer = Grid(grid.spacing_mm, (first, second, third), (ends[0], ends[1], ends[2]))
    outside = np.ones(outer.shape, bool)
    outside[_place(grid, outer)] = ~brain
    depth_mm = ndimage.distance_transform_edt(outside) * grid.spacing_mm
    depth_mm = depth_mm * np.exp(0.15 * smooth_noise(generator, outer, 40.0))

    def layer(start_mm: float, stop_mm: float) -> np.ndarray:
        return np.clip(np.minimum(depth_mm - start_mm, stop_mm - depth_mm) / grid.spacing_mm + 0.5, 0, 1) * outside

    fat = np.maximum(0.4 * layer(5.0, 7.0), layer(10.0, 14.0))
    water = np.maximum(0.3 * layer(0.0, 2.0), 0.7 * layer(14.0, 16.0)) * (1 - fat)
    return Shell(outer, fat, water)


def put_in_head(scan: Scan, shell: Shell, sequence: str) -> Scan:
    """The scan of a brain with the head around it; what is seen in the end stays the brain."""
    fat_signal = shell.fat * _FAT_SIGNAL.get(sequence, 1.2) * scan.level
    image = fat_signal + shell.water * scan.level
    seen = np.zeros(shell.grid.shape, bool)
    where = _place(scan.grid, shell.grid)
    image[where] += np.where(scan.seen, scan.image, 0)
    seen[where] = scan.seen
    fat = np.divide(fat_signal, image, out=np.zeros_like(image), where=image > 0)
    return replace(scan, image=image, seen=seen, fat=fat, grid=shell.grid)


def show_head(generator: np.random.Generator, scan: Scan, shell: Shell, sequence: str, acquired: Artifacts) -> Scan:
    """The scan of a brain in its head and in air, over the whole imaged volume, not stripped.

    Parameters
    ----------
    generator : numpy.random.Generator
    scan : Scan
        Of the brain, acquired.
    shell : Shell
    sequence : str
    acquired : Artifacts
        Resolution and noise, for what lies around the brain.

    Returns
    -------
    Scan
        `seen` is still the brain, against which artifacts are measured.

    Notes
    -----
    The brain is that of the stripped image, to the last bit; scalp and skull have no bias field, and the brain does not
    blur into them. Bone and air give noise only.
    """
    whole = Grid.whole(scan.grid.spacing_mm)
    strength = _FAT_SUPPRESSED.get(sequence, _FAT_SIGNAL.get(sequence, 1.2))
    layers = [ndimage.gaussian_filter(share, acquired.blur_mm / whole.spacing_mm) for share in (shell.fat, shell.water)]
    fat, water = (
        thick_slices(layer, acquired.slice_axis, acquired.slice_mm, whole.spacing_mm, acquired.gap_mm)
        for layer in layers
    )
    fat, water = fat * strength * scan.level, water * scan.level
    image, share = np.zeros(whole.shape), np.zeros(whole.shape)
    image[shell.grid.slices] = fat + water
    share[shell.grid.slices] = np.divide(fat, fat + water, out=np.zeros_like(fat), where=fat + water > 0)
    image = rician_noise(generator, image, acquired.noise * scan.level)
    seen = np.zeros(whole.shape, bool)
    seen[scan.grid.slices] = scan.seen
    image[seen], share[seen] = scan.image[scan.seen], 0.0
    return replace(scan, image=image, seen=seen, fat=share, grid=whole)


def cut_back(scan: Scan, grid: Grid) -> Scan:
    """The part of a scan that lies in a smaller box."""
    where = _place(grid, scan.grid)
    fat = None if scan.fat is None else scan.fat[where]
    return replace(scan, image=scan.image[where], seen=scan.seen[where], fat=fat, grid=grid)
