"""Voxels of one DICOM series, slice by slice with each slice's own scale."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anymri.data.dicom.classify import numeric
from anymri.data.dicom.headers import Frame, numbers
from anymri.data.formats import _own_locale
from anymri.data.nifti import MAX_VOXELS, Volume, read_image
from anymri.types import UserError

if TYPE_CHECKING:
    from anymri.data.dicom.series import Series

__all__ = ["read_pixels", "read_series"]


def read_series(series: Series) -> Volume:
    """Voxels of one series.

    Parameters
    ----------
    series : Series

    Returns
    -------
    Volume
        Its header holds geometry alone.

    Raises
    ------
    UserError
        If its slices do not make a volume, or their pixels are damaged.
    """
    import nibabel as nib

    name = f"DICOM series {series.number}"
    affine = _affine(name, series.frames)
    rows, columns = (int(series.frames[0].facts[key]) for key in ("Rows", "Columns"))
    if rows * columns * len(series.frames) > MAX_VOXELS:
        raise UserError(
            f"{name}: has {columns} x {rows} x {len(series.frames)} voxels, more than are read; resample it"
        )
    values = np.empty((columns, rows, len(series.frames)), np.float32)
    try:
        for place, pixels in enumerate(read_pixels(series.frames)):
            values[:, :, place] = _plane(name, pixels, rows, columns)
    except UserError:
        raise
    except Exception:  # whatever damaged pixels raise
        raise UserError(f"{name}: a file is damaged or cannot be decoded; export the series again") from None
    try:
        volume = read_image(nib.Nifti1Image(values, affine))
    except UserError as error:
        raise UserError(f"{name}: {str(error).partition(': ')[2] or error}") from None
    return volume._replace(geometry=replace(volume.geometry, header=None), source=name)


def _affine(name: str, frames: list[Frame]) -> NDArray[np.float64]:
    """Column, row and slice number to position in mm, RAS+."""
    first, last = frames[0], frames[-1]
    spacing = numbers(first.facts.get("PixelSpacing"), 2)
    if len(frames) < 2:
        raise UserError(f"{name}: is a single slice; give a series of a whole head")
    if first.position is None or last.position is None or first.orientation is None or spacing is None:
        raise UserError(f"{name}: its header does not say where the slices lie; export the series again")
    affine = np.eye(4)
    affine[:3, 0] = first.orientation[0] * spacing[1]  # along a row: from column to column
    affine[:3, 1] = first.orientation[1] * spacing[0]
    affine[:3, 2] = (last.position - first.position) / (len(frames) - 1)
    affine[:3, 3] = first.position
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _plane(name: str, pixels: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float32]:
    if pixels.shape != (rows, columns):
        raise UserError(f"{name}: its slices differ in size or have colours; give a plain greyscale series")
    return pixels.T


def read_pixels(frames: Iterable[Frame]) -> Iterator[NDArray[np.float32]]:
    """Values of slices, each of shape (rows, columns), scaled as its own header says.

    Parameters
    ----------
    frames : iterable of Frame
        A file is decoded once for all frames that follow each other.

    Raises
    ------
    Exception
        Of any kind, where a file is damaged.
    """
    file, stored, scaled = None, np.empty(0), False
    for frame in frames:
        if frame.file != file:
            file, (stored, scaled) = frame.file, _decode(frame.file)
        pixels = stored if frame.index is None or stored.ndim == 2 else stored[frame.index]
        slope, intercept = (numeric(frame.facts.get(name)) for name in ("RescaleSlope", "RescaleIntercept"))
        if not scaled:
            pixels = pixels * np.float64(slope or 1) + np.float64(intercept or 0)
        yield pixels.astype(np.float32)


def _decode(file: Path) -> tuple[NDArray[Any], bool]:
    """Values of a file, shape (rows, columns) or (frames, rows, columns), and whether they are scaled already."""
    import pydicom

    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        header = pydicom.dcmread(file, force=True)
        if not header.file_meta.get("TransferSyntaxUID"):
            header.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
        try:
            return header.pixel_array, False
        except (RuntimeError, NotImplementedError):  # compressed in a way that only ITK can decode here
            return _read_by_itk(file, int(header.get("NumberOfFrames") or 1))


@_own_locale()
def _read_by_itk(file: Path, frames: int) -> tuple[NDArray[Any], bool]:
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(file))
    values = sitk.GetArrayFromImage(reader.Execute())
    return (values if frames > 1 else values[0]), True
