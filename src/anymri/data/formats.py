"""Image formats other than plain NIfTI: reading and writing.

What is opened: ``.mha .mhd .nrrd .nhdr``, a folder with one DICOM series, and a folder of PNG masks, one per slice,
beside the DICOM series they were drawn on. `anymri.data.selectors` parses paths.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymri.data.geometry import Geometry, to_native
from anymri.data.header import Grid
from anymri.data.meta_image import read_meta_header
from anymri.data.nrrd import read_nrrd_header
from anymri.data.own_locale import own_locale
from anymri.data.text_header import LPS_TO_RAS
from anymri.data.text_voxels import read_text_voxels
from anymri.moved import hand_on
from anymri.types import UserError

__all__ = [
    "FOREIGN",
    "is_foreign",
    "read_foreign",
    "write_dicom",
    "write_foreign",
    "write_png_masks",
]

#: File endings of formats with a text header, and the reader of the header.
HEADERS = {
    ".mha": read_meta_header, ".mhd": read_meta_header, ".nrrd": read_nrrd_header, ".nhdr": read_nrrd_header,
}  # fmt: skip
FOREIGN = tuple(HEADERS)


def is_foreign(path: Path) -> bool:
    """Whether a path is to be opened by `read_foreign`."""
    return path.suffix.lower() in FOREIGN or path.is_dir()


# --------------------------------------------------------------------------------------------------------------
# Reading
# --------------------------------------------------------------------------------------------------------------


def read_foreign(path: Path, max_voxels: int) -> tuple[NDArray[Any], Grid]:
    """Read a volume that is no NIfTI file.

    Parameters
    ----------
    path : Path
        File, or folder of a DICOM series or of PNG masks.
    max_voxels : int
        Larger volumes are refused before they are read.

    Returns
    -------
    ndarray, shape (i, j, k)
        Values as stored, rescaled where the header says so.
    Grid
        Voxel index to world position in mm, RAS+, and what is doubtful about it.

    Raises
    ------
    UserError
        If it is not readable, not one 3D greyscale volume, too large, or slices are missing.
    """
    if not path.is_dir():
        return _read_file(path, max_voxels)
    from anymri.data.dicom.folder import read_png_masks, read_series_folder

    found = read_series_folder(path, max_voxels) or read_png_masks(path, max_voxels)
    if found is not None:
        return found
    raise UserError(
        f"{path}: is a folder without a DICOM series; name a .nii or .nii.gz file or the folder of one series"
    )


def _read_file(path: Path, max_voxels: int) -> tuple[NDArray[Any], Grid]:
    if not path.is_file():
        raise UserError(f"{path}: no such file; check the path")
    described = HEADERS[path.suffix.lower()](path, max_voxels)
    values, notes = read_text_voxels(path, described)
    grid = described.grid
    return values, grid._replace(notes=(*grid.notes, *notes))


# --------------------------------------------------------------------------------------------------------------
# Writing
# --------------------------------------------------------------------------------------------------------------


def _sitk_image(array: NDArray[Any], geometry: Geometry) -> Any:
    """SimpleITK volume of an array (D, H, W) on the native grid of `geometry`."""
    import SimpleITK as sitk

    affine = LPS_TO_RAS @ geometry.affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image = sitk.GetImageFromArray(np.ascontiguousarray(to_native(array, geometry).transpose(2, 1, 0)))
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    return image


def write_foreign(path: Path, array: NDArray[Any], geometry: Geometry) -> None:
    """Write one of the formats `FOREIGN`, uncompressed; not atomic, write into a temporary folder.

    Parameters
    ----------
    path : Path
    array : ndarray, shape (D, H, W)
    geometry : Geometry
        Native grid.
    """
    import SimpleITK as sitk

    sitk.WriteImage(_sitk_image(array, geometry), str(path), False)


@own_locale()
def write_dicom(
    folder: Path, array: NDArray[np.int16], geometry: Geometry, series: str, names: str = "IMG-{:04d}.dcm"
) -> None:
    """Write a DICOM series, one file per slice along the third native axis; not atomic.

    Parameters
    ----------
    folder : Path
        Created if need be.
    array : ndarray of int16, shape (D, H, W)
    geometry : Geometry
        Native grid.
    series : str
        Text the identifiers are made from; the same text gives the same identifiers. What stands before its last space
        or slash is the study. Nothing else of it is written.
    names : str
        Format of the file names; gets the slice number from 1 on.
    """
    import SimpleITK as sitk

    folder.mkdir(parents=True, exist_ok=True)
    image = _sitk_image(array, geometry)
    direction = image.GetDirection()
    tags = {
        "0008|0060": "MR",
        "0008|0020": "20000101",  # study date and time, which would else be those of the writing
        "0008|0030": "000000",
        "0008|0008": "DERIVED\\SECONDARY",
        "0020|000d": _identifier(f"study {re.sub('[^ /]*$', '', series)}"),
        "0020|000e": _identifier(f"series {series}"),
        "0020|0037": "\\".join(f"{direction[index]:.9g}" for index in (0, 3, 6, 1, 4, 7)),
        "0018|0088": f"{image.GetSpacing()[2]:.9g}",
        # ITK writes these only in a process that has read a DICOM file before; bytes must not depend on that.
        "0028|1052": "0",
        "0028|1053": "1",
        "0028|1054": "US",
    }
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for number in range(image.GetDepth()):
        one = image[:, :, number : number + 1]  # of three axes, or its spacing would be written as 1
        position = image.TransformIndexToPhysicalPoint((0, 0, number))
        own = {
            "0008|0018": _identifier(f"slice {number} {series}"),
            "0020|0032": "\\".join(f"{value:.9g}" for value in position),
            "0020|0013": str(number + 1),
        }
        for tag, value in (tags | own).items():
            one.SetMetaData(tag, value)
        writer.SetFileName(str(folder / names.format(number + 1)))
        writer.Execute(one)


def _identifier(text: str) -> str:
    """A DICOM identifier made from a text (root 2.25, as for UUIDs)."""
    return f"2.25.{int(hashlib.sha256(text.encode()).hexdigest()[:30], 16)}"


def write_png_masks(folder: Path, label: NDArray[np.uint8], geometry: Geometry, names: str) -> None:
    """Write a label map as PNG files, one per slice along the third native axis; not atomic.

    Parameters
    ----------
    folder : Path
        Created if need be.
    label : ndarray of uint8, shape (D, H, W)
    geometry : Geometry
        Native grid, that of the series beside it.
    names : str
        Format of the file names; gets the slice number from 1 on.
    """
    import SimpleITK as sitk

    folder.mkdir(parents=True, exist_ok=True)
    native = to_native(label, geometry)
    for number in range(native.shape[2]):
        one = sitk.GetImageFromArray(np.ascontiguousarray(native[:, :, number].T))
        sitk.WriteImage(one, str(folder / names.format(number + 1)))


__getattr__ = hand_on(__name__)
