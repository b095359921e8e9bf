"""Unaligned raw phantom studies: each sequence on its own grid, with head motion between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anymri.phantom.anatomy import rotation
from anymri.phantom.artifacts.coverage import move_rigidly

__all__ = ["Placement", "draw_placement", "measure_slices", "write_unaligned"]

#: Array axes in the order in which a file stores them, slices last, by slice axis.
_STORED = {0: (2, 1, 0), 1: (2, 0, 1), 2: (1, 0, 2)}


@dataclass(frozen=True)
class Placement:
    """Placement of one sequence as it was measured.

    Parameters
    ----------
    slice_axis : int
        Array axis (D, H, W) of the slice direction.
    slice_mm : float
        Slice thickness, without gaps.
    angles_degrees, shift_mm : tuple of float
        Movement of the head since the first sequence, about and along D, H, W, the middle of the volume fixed.
    """

    slice_axis: int
    slice_mm: float
    angles_degrees: tuple[float, ...] = (0.0, 0.0, 0.0)
    shift_mm: tuple[float, ...] = (0.0, 0.0, 0.0)

    def matrix(self, shape: tuple[int, ...], spacing_mm: float) -> np.ndarray:
        """World position (RAS, mm) of a point of the anatomy to where this sequence shows it, shape (4, 4)."""
        turn = rotation(np.radians(np.array(self.angles_degrees)))
        middle = (np.array(shape) - 1) / 2
        move = np.eye(4)
        move[:3, :3] = turn
        move[:3, 3] = middle + np.array(self.shift_mm) / spacing_mm - turn @ middle
        world = _world(shape, spacing_mm)
        return world @ move @ np.linalg.inv(world)


def _world(shape: tuple[int, ...], spacing_mm: float) -> np.ndarray:
    """Voxel (d, h, w) of the common grid to world position."""
    from anymri.data.datasets.layout import native_grid

    return native_grid(shape, (spacing_mm,) * 3).affine_dhw


def draw_placement(
    seed: int, index: int, code: str, slice_axis: int, spacing_mm: float, *, first: bool = False
) -> Placement:
    """Draw how a sequence is measured; its own random stream.

    Parameters
    ----------
    seed, index : int
        Of the subject.
    code : str
        Sequence.
    slice_axis : int
    spacing_mm : float
        Voxel size of the phantom: no slice is thinner.
    first : bool, default=False
        The head has not moved yet.

    Notes
    -----
    Slices of 3 to 6 mm, or in three of ten sequences of one voxel; turned by 2 degrees and shifted by 2 mm (standard
    deviation, each axis). The numbers are ours.
    """
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index, 4, *code.encode()])))
    thick, slice_mm = generator.uniform() < 0.7, float(generator.uniform(3.0, 6.0))
    angles, shift = generator.normal(0, 2.0, (2, 3)).tolist()
    slice_mm = max(spacing_mm, slice_mm) if thick else spacing_mm
    return Placement(slice_axis, slice_mm) if first else Placement(slice_axis, slice_mm, tuple(angles), tuple(shift))


def measure_slices(image: np.ndarray, placement: Placement, spacing_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """One sequence on its own grid.

    Parameters
    ----------
    image : ndarray, shape (D, H, W)
        On the common grid.
    placement : Placement
    spacing_mm : float

    Returns
    -------
    slices : ndarray of float64
        (D, H, W), fewer along the slice axis; what does not fill a last slice is left out.
    affine : ndarray of float64, shape (4, 4)
        Voxel, in the order in which the file stores it, to world position in mm.
    """
    moved = image.astype(float)
    if any(placement.angles_degrees) or any(placement.shift_mm):
        moved = move_rigidly(moved, np.array(placement.angles_degrees), np.array(placement.shift_mm), spacing_mm)
    axis, ratio = placement.slice_axis, placement.slice_mm / spacing_mm
    count = max(1, int(image.shape[axis] / ratio + 1e-9))
    edges, voxels = np.arange(count)[:, None] * ratio, np.arange(image.shape[axis])
    share = np.clip(np.minimum(edges + ratio, voxels + 1) - np.maximum(edges, voxels), 0, None) / ratio
    slices = np.moveaxis(np.tensordot(share, moved, axes=(1, axis)), 0, axis)
    own = np.eye(4)
    own[axis, axis], own[axis, 3] = ratio, (ratio - 1) / 2
    stored = np.eye(4)
    stored[:3, :3] = 0
    for column, row in enumerate(_STORED[axis]):
        stored[row, column] = 1
    return slices, _world(image.shape, spacing_mm) @ own @ stored


def write_unaligned(
    root: Path,
    name: str,
    images: Mapping[str, np.ndarray],
    label: np.ndarray,
    spacing_mm: float,
    placements: Mapping[str, Placement],
) -> None:
    """Write one study in the layout ``folder``, each sequence on its own grid and the label map on the common one.

    Parameters
    ----------
    root : Path
    name : str
        Of the subject.
    images : dict of str to ndarray, shape (D, H, W)
        On the common grid, by modality code.
    label : ndarray of uint8, shape (D, H, W)
        Where the head was during the first sequence.
    spacing_mm : float
    placements : dict of str to Placement
    """
    from anymri.data.datasets.layout import native_grid
    from anymri.data.geometry import Geometry
    from anymri.data.nifti import write_image
    from anymri.files import replace_folder

    with replace_folder(root / name) as folder:
        for code, image in images.items():
            axis = placements[code].slice_axis
            slices, affine = measure_slices(image, placements[code], spacing_mm)
            first, second, third = (slices.shape[row] for row in _STORED[axis])
            geometry = Geometry(affine, (first, second, third))
            write_image(folder / f"{code}.nii.gz", np.rint(slices).astype(np.int16), geometry)
        write_image(folder / "seg.nii.gz", label, native_grid(label.shape, (spacing_mm,) * 3))
