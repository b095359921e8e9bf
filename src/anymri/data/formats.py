"""Image formats other than plain NIfTI: reading and writing.

What is opened: ``.mha .mhd .nrrd .nhdr``, a folder with one DICOM series, and a folder of PNG masks, one per slice,
beside the DICOM series they were drawn on. `anymri.data.selectors` parses paths.
"""

from __future__ import annotations

import hashlib
import locale
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymri.data.geometry import Geometry, to_native
from anymri.data.header import Grid
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

#: File endings read through SimpleITK, and ITK's reader for each.
FOREIGN = {".mha": "MetaImageIO", ".mhd": "MetaImageIO", ".nrrd": "NrrdImageIO", ".nhdr": "NrrdImageIO"}
#: Bytes in which a text header has to end.
_MAX_HEADER_BYTES = 2**16
#: What is said of an image without directions.
_NO_DIRECTIONS = (
    "the header does not say how the image is oriented (it has no directions), so that left and right, and perhaps "
    "front and back, are a guess; export the image again with its orientation"
)
#: Largest factor by which zlib unpacks.
_MAX_RATIO = 1032
#: Left-posterior (DICOM, ITK) to right-anterior (NIfTI) coordinates.
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@contextmanager
def _own_locale() -> Iterator[None]:
    """Undo what ITK's DICOM code does to the process: it leaves the C locale, in which text files are read as ASCII."""
    before = locale.setlocale(locale.LC_ALL)
    try:
        yield
    finally:
        locale.setlocale(locale.LC_ALL, before)


def is_foreign(path: Path) -> bool:
    """Whether a path is to be opened by `read_foreign`."""
    return path.suffix.lower() in FOREIGN or path.is_dir()


# --------------------------------------------------------------------------------------------------------------
# Reading
# --------------------------------------------------------------------------------------------------------------


@_own_locale()
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
    files = _series_files(path)
    if files:
        return _read_series(path, files, max_voxels)
    masks = sorted(file for file in path.glob("*.png") if not file.name.startswith("."))
    if masks:
        return _read_png_masks(path, masks, max_voxels)
    raise UserError(
        f"{path}: is a folder without a DICOM series; name a .nii or .nii.gz file or the folder of one series"
    )


def _read_file(path: Path, max_voxels: int) -> tuple[NDArray[Any], Grid]:
    import SimpleITK as sitk

    if not path.is_file():
        raise UserError(f"{path}: no such file; check the path")
    reader = sitk.ImageFileReader()
    reader.SetImageIO(FOREIGN[path.suffix.lower()])  # ITK itself knows some endings in small letters only
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        raise UserError(f"{path}: is damaged or of another format; copy or download the file again") from None
    size = reader.GetSize()
    _check_volume(str(path), size, reader.GetNumberOfComponents(), max_voxels)
    # A detached header (.nhdr, .mhd) has its voxels in another file, whose size ITK checks.
    attached = path.suffix.lower() in (".mha", ".nrrd")
    if attached and path.stat().st_size * _MAX_RATIO < np.prod(size, dtype=np.int64):
        raise UserError(f"{path}: is truncated, its header promises {size} voxels; copy or download the file again")
    try:
        values, affine = _take_apart(reader.Execute())
    except RuntimeError:
        raise UserError(f"{path}: its voxels are missing or damaged; copy or download the file again") from None
    known, notes = _doubts(_text_header(path))
    return values, Grid(affine, known, notes)


def _text_header(path: Path) -> dict[str, str]:
    """Fields of a MetaImage or NRRD header, names in small letters."""
    with path.open("rb") as file:
        block = file.read(_MAX_HEADER_BYTES)
    fields: dict[str, str] = {}
    for line in block.split(b"\n"):
        name, sign, value = line.decode("latin-1").partition("=" if path.suffix.lower() in (".mha", ".mhd") else ":")
        fields[name.strip().lower()] = value.strip()
        if not line.strip() or (sign and name.strip().lower() == "elementdatafile"):
            break  # the voxels follow
    return fields


def _doubts(fields: Mapping[str, str]) -> tuple[bool, tuple[str, ...]]:
    """Whether a text header says how the image is oriented, and notes on what is doubtful."""
    meta = "dimsize" in fields
    if meta:
        known = any(name in fields for name in ("transformmatrix", "orientation", "rotation"))
    else:
        known = "space" in fields and "space directions" in fields
    notes = [] if known else [_NO_DIRECTIONS]
    spacing = fields.get("elementspacing" if meta else "spacings", "")
    if "-" in re.sub(r"e-", "", spacing.lower()):
        notes.append(f"the header has a negative voxel size ({spacing}), read as a mirrored axis; check left and right")
    return known, tuple(notes)


def _check_volume(source: str, size: Sequence[int], components: int, max_voxels: int) -> None:
    text = " x ".join(str(n) for n in size)
    if components != 1:
        raise UserError(f"{source}: has {components} values a voxel; give a plain greyscale volume")
    if len(size) != 3 or min(size) < 2:
        raise UserError(f"{source}: is not a volume ({text}); give one 3D volume")
    if int(np.prod(size, dtype=np.int64)) > max_voxels:
        raise UserError(f"{source}: its header promises {text} voxels, more than are read; crop or resample it")


def _take_apart(image: Any) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Array (i, j, k) and RAS+ affine of a SimpleITK volume."""
    import SimpleITK as sitk

    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).transpose(2, 1, 0), _LPS_TO_RAS @ affine


def _series_files(folder: Path) -> list[str]:
    """Files of the one DICOM series in a folder, in the order of their positions; empty if there is no DICOM file."""
    import SimpleITK as sitk

    if not any(not file.name.startswith(".") and _is_dicom(file) for file in folder.iterdir()):
        return []
    found = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    if len(found) > 1:
        raise UserError(f"{folder}: holds {len(found)} DICOM series; give each series a folder of its own")
    return list(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), found[0])) if found else []


def _is_dicom(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as handle:
        return handle.read(132)[128:] == b"DICM"


def _read_series(folder: Path, files: list[str], max_voxels: int) -> tuple[NDArray[Any], Grid]:
    import SimpleITK as sitk

    damaged = f"{folder}: a DICOM file is damaged or has no pixels; copy or export the series again"
    if len(files) < 2:
        raise UserError(f"{folder}: is a single slice; give the folder of a whole series")
    size, positions = _slice_positions(files, damaged)
    _check_volume(str(folder), (*size, len(files)), 1, max_voxels)
    steps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    if steps.min() < 1e-3 or np.ptp(steps) > 0.1 * np.median(steps):
        raise UserError(
            f"{folder}: slices are missing or doubled (gaps of {steps.min():.4g} to {steps.max():.4g} mm); "
            "export the whole series again"
        )
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(files)
    # Each slice is rescaled by its own slope; in the type of the first slice the others would be rounded.
    reader.SetOutputPixelType(sitk.sitkFloat32)
    try:
        image = reader.Execute()
    except RuntimeError:
        raise UserError(damaged) from None
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise UserError(f"{folder}: has colour values; give a plain greyscale series")
    values, affine = _take_apart(image)
    known = _has_orientation(files[0])
    return values, Grid(affine, known, () if known else (_NO_DIRECTIONS,))


def _has_orientation(file: str) -> bool:
    """Whether a DICOM file says how its slice lies in the patient (single frames do so at the top level)."""
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(file)
    reader.ReadImageInformation()
    return bool(reader.HasMetaDataKey("0020|0037"))


def _slice_positions(files: Iterable[str], damaged: str) -> tuple[tuple[int, int], NDArray[np.float64]]:
    """In-plane size (columns, rows) and the position (x, y, z) in mm of every slice."""
    import SimpleITK as sitk

    size, positions = (0, 0), []
    for file in files:
        reader = sitk.ImageFileReader()
        reader.SetFileName(file)
        try:
            reader.ReadImageInformation()
        except RuntimeError:
            raise UserError(damaged) from None
        size = (reader.GetSize()[0], reader.GetSize()[1])
        positions.append(reader.GetOrigin())
    return size, np.asarray(positions)


def _read_png_masks(folder: Path, masks: list[Path], max_voxels: int) -> tuple[NDArray[Any], Grid]:
    """Masks on the grid of the series beside them: the n-th file name belongs to the n-th DICOM file name."""
    import SimpleITK as sitk

    series = next((files for files in map(_series_files, _folders_beside(folder)) if files), None)
    if series is None:
        raise UserError(f"{folder}: PNG masks without a DICOM series beside them; their grid is unknown")
    if len(series) != len(masks):
        raise UserError(f"{folder}: {len(masks)} masks for {len(series)} slices; copy the whole folder again")
    values, grid = _read_series(Path(series[0]).parent, series, max_voxels)
    order = np.argsort([Path(file).name for file in series]).argsort()
    label = np.zeros(values.shape, np.uint8)
    for place, rank in enumerate(order):
        file = masks[rank]
        try:
            reader = sitk.ImageFileReader()
            reader.SetFileName(str(file))
            reader.ReadImageInformation()
            if reader.GetSize() != values.shape[:2] or reader.GetNumberOfComponents() != 1:
                raise UserError(f"{file}: is not a greyscale mask of {values.shape[0]} x {values.shape[1]} pixels")
            label[:, :, place] = sitk.GetArrayFromImage(reader.Execute()).T
        except RuntimeError:
            raise UserError(f"{file}: is damaged; copy or download the file again") from None
    return label, grid


def _folders_beside(folder: Path) -> list[Path]:
    """Folders next to `folder` and the folders in these, sorted."""
    beside = [path for path in folder.parent.iterdir() if path.is_dir() and path != folder]
    return sorted([*beside, *(inner for path in beside for inner in path.iterdir() if inner.is_dir())])


# --------------------------------------------------------------------------------------------------------------
# Writing
# --------------------------------------------------------------------------------------------------------------


def _sitk_image(array: NDArray[Any], geometry: Geometry) -> Any:
    """SimpleITK volume of an array (D, H, W) on the native grid of `geometry`."""
    import SimpleITK as sitk

    affine = _LPS_TO_RAS @ geometry.affine
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


@_own_locale()
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
