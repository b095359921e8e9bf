"""Voxels of one DICOM series, slice by slice with each slice's own scale."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from anymri.data.dicom.pixels import doubt_frames, read_pixels, read_planes, stack_affine
from anymri.data.dicom.source import DicomSource
from anymri.data.nifti import Volume, read_image
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
    affine = stack_affine(name, series.frames)
    values = read_planes(name, series.frames)
    try:
        volume = read_image(nib.Nifti1Image(values, affine))
    except UserError as error:
        raise UserError(f"{name}: {str(error).partition(': ')[2] or error}") from None
    notes = (*volume.notes, *doubt_frames(series.frames))
    geometry = replace(volume.geometry, header=None)
    return volume._replace(geometry=geometry, source=name, notes=notes, dicom=DicomSource(tuple(series.frames)))
