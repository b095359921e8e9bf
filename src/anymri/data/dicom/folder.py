"""Folder of one DICOM series, and masks drawn on it as PNG files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymri.data.dicom.headers import Frame, describe_damaged, read_files
from anymri.data.dicom.pixels import doubt_frames, read_planes, stack_affine
from anymri.data.dicom.slices import sparse
from anymri.data.dicom.source import DicomSource
from anymri.data.header import Grid, check_size
from anymri.data.text_header import NO_DIRECTIONS
from anymri.types import UserError

__all__ = ["read_png_masks", "read_series_folder", "series_frames"]

#: Part of a step by which steps between slices may differ.
_TOLERANCE = 0.1
#: A slice without a direction is taken to be axial, as ITK takes it.
_AXIAL = [1, 0, 0, 0, 1, 0]


def read_series_folder(folder: Path, max_voxels: int) -> tuple[NDArray[np.float32], Grid] | None:
    """Volume of the one DICOM series in a folder; None if there is no DICOM file.

    Parameters
    ----------
    folder : Path
    max_voxels : int
        Larger volumes are refused before they are read.

    Returns
    -------
    ndarray, shape (i, j, k)
        Values, rescaled where the header says so.
    Grid
        Files that could not be read are named in its notes.

    Raises
    ------
    UserError
        If there are several series, slices are missing, or the files are damaged.
    """
    found = series_frames(folder)
    return None if found is None else _read_frames(folder, *found, max_voxels)


def series_frames(folder: Path) -> tuple[list[Frame], list[Path]] | None:
    """Slices of the one series in a folder, in the order of their positions, and the files that cannot be read.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    UserError
        If there are several series, or DICOM files of which none can be read.
    """
    frames, damaged, others = read_files(sorted(path for path in folder.iterdir() if path.name[0] != "."))
    if not frames:
        if damaged:
            raise UserError(f"{folder}: {describe_damaged(damaged, folder)}")
        if others:
            raise UserError(f"{folder}: its DICOM files hold no image; give the folder of one series")
        return None
    names = {str(frame.facts.get("SeriesInstanceUID") or "") for frame in frames}
    if len(names) > 1:
        raise UserError(f"{folder}: holds {len(names)} DICOM series; give each series a folder of its own")
    if any(frame.position is None for frame in frames):
        raise UserError(f"{folder}: its header does not say where the slices lie; export the series again")
    axes = frames[0].orientation
    normal = np.cross(*(np.reshape(_AXIAL, (2, 3)) if axes is None else axes))
    depth = np.array([frame.position for frame in frames], float) @ normal
    return [frames[index] for index in np.argsort(depth, kind="stable")], damaged


def _read_frames(
    folder: Path, frames: list[Frame], damaged: list[Path], max_voxels: int
) -> tuple[NDArray[np.float32], Grid]:
    lost = (describe_damaged(damaged, folder),) if damaged else ()
    because = f" ({lost[0].partition(';')[0]})" if lost else ""
    if len(frames) < 2:
        raise UserError(f"{folder}: is a single slice{because}; give the folder of a whole series")
    known = frames[0].orientation is not None
    if not known and frames[0].facts.get("ImageOrientationPatient") is not None:
        raise UserError(f"{folder}: its slices have no usable direction; export the series again")
    if not known:
        frames = [replace(frame, facts={**frame.facts, "ImageOrientationPatient": _AXIAL}) for frame in frames]
    rows, columns = (int(frames[0].facts[key]) for key in ("Rows", "Columns"))
    check_size(str(folder), (columns, rows, len(frames)), int(frames[0].facts["SamplesPerPixel"] or 1), max_voxels)
    if not all(frames[0].same_grid(frame) for frame in frames):
        raise UserError(f"{folder}: its slices differ in size, voxel size or direction; export the series again")
    steps = np.linalg.norm(np.diff([frame.position for frame in frames if frame.position is not None], axis=0), axis=1)
    if steps.min() < 1e-3 or np.ptp(steps) > _TOLERANCE * np.median(steps):
        raise UserError(
            f"{folder}: slices are missing or doubled (gaps of {steps.min():.4g} to {steps.max():.4g} mm){because}; "
            "export the whole series again"
        )
    affine = stack_affine(str(folder), frames)
    values = read_planes(str(folder), frames)
    doubts = (*doubt_frames(frames), *sparse(frames[0], float(np.median(steps))))
    notes = (*lost, *(() if known else (NO_DIRECTIONS,)), *doubts)
    return values, Grid(affine, known, notes, DicomSource(tuple(frames)) if known else None)


def read_png_masks(folder: Path, max_voxels: int) -> tuple[NDArray[np.uint8], Grid] | None:
    """Masks on the grid of the series beside them: the n-th file name belongs to the n-th DICOM file name.

    Parameters
    ----------
    folder : Path
        Of PNG files, one per slice.
    max_voxels : int
        Larger volumes are refused before they are read.

    Returns
    -------
    ndarray, shape (i, j, k)
    Grid

    Raises
    ------
    UserError
        If there is no series, or not a mask for each of its slices.
    """
    masks = sorted(file for file in folder.glob("*.png") if not file.name.startswith("."))
    if not masks:
        return None
    beside = next(
        ((place, found) for place in _folders_beside(folder) if (found := series_frames(place)) is not None), None
    )
    if beside is None:
        raise UserError(f"{folder}: PNG masks without a DICOM series beside them; their grid is unknown")
    place, (frames, damaged) = beside
    if len(frames) != len(masks):
        lost = f" ({describe_damaged(damaged, place).partition(';')[0]})" if damaged else ""
        raise UserError(f"{folder}: {len(masks)} masks for {len(frames)} slices{lost}; copy the whole folder again")
    values, grid = _read_frames(place, frames, damaged, max_voxels)
    order = np.argsort([frame.file.name for frame in frames]).argsort()
    label = np.zeros(values.shape, np.uint8)
    for slice_number, rank in enumerate(order):
        label[:, :, slice_number] = _read_mask(masks[rank], values.shape[:2])
    return label, grid


def _read_mask(file: Path, size: tuple[int, ...]) -> NDArray[np.uint8]:
    """Pixels (column, row) of one greyscale PNG file; its size is judged before anything is unpacked."""
    from PIL import Image

    try:
        with Image.open(file, formats=("PNG",)) as picture:
            if picture.size != size or picture.mode not in ("L", "1", "I;16"):
                raise UserError(f"{file}: is not a greyscale mask of {size[0]} x {size[1]} pixels")
            pixels: NDArray[Any] = np.asarray(picture.convert("L") if picture.mode == "1" else picture)
    except UserError:
        raise
    except Exception:  # whatever a damaged picture raises
        raise UserError(f"{file}: is damaged; copy or download the file again") from None
    if pixels.max(initial=0) > 255:
        raise UserError(f"{file}: has values beyond 255; give masks of 8 bits")
    return pixels.T.astype(np.uint8)


def _folders_beside(folder: Path) -> list[Path]:
    """Folders next to `folder` and the folders in these, sorted."""
    beside = [path for path in folder.parent.iterdir() if path.is_dir() and path != folder]
    return sorted([*beside, *(inner for path in beside for inner in path.iterdir() if inner.is_dir())])
