"""Reading and writing NIfTI volumes; `header` judges their grid, `values` their voxels, `formats` other formats.

Nothing is allocated before the header was judged: its promise is held against a cap and against the size of the
file, and a gzip stream is never unpacked further than the header says.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import nibabel as nib
import numpy as np
from isal import igzip
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import DTypeLike, NDArray

from anymri.data.formats import is_foreign, read_foreign
from anymri.data.geometry import Geometry, from_native, to_native
from anymri.data.header import (
    MAX_VOXELS,
    MORE_DATA,
    Grid,
    check_affine,
    doubt_angles,
    doubt_place,
    mend_header,
    read_grid,
    unit_mm,
    working_bytes,
)  # fmt: skip
from anymri.data.packing import GZIP_ERRORS, MAX_TRAILING_BYTES, PACKING_RATIO
from anymri.data.same_image import refuse_same
from anymri.data.selectors import parse_source
from anymri.data.values import image_values, label_values, slope_of
from anymri.files import replace_file
from anymri.memory import check_memory
from anymri.types import UserError

__all__ = [
    "MAX_VOXELS",
    "Geometry",
    "Volume",
    "check_study",
    "from_native",
    "read_image",
    "to_native",
    "to_nibabel",
    "write_image",
]

READ_ERRORS: tuple[type[Exception], ...] = (*GZIP_ERRORS, OSError, ImageFileError, ValueError)

Kind = Literal["image", "label"]


class Volume(NamedTuple):
    """One image or label map in memory.

    Attributes
    ----------
    array : ndarray, shape (D, H, W)
        float32 intensities, or int16 labels (int32 where a value needs it).
    geometry : Geometry
        Native grid of the file.
    source : str
        Path, or ``"nibabel image"``, for messages.
    notes : tuple of str, default=()
        What was doubtful or had to be mended while reading, a plain sentence each; shown to people as warnings.
    dicom : anymri.data.dicom.DicomSource or None, default=None
        Slices it was read from, of a DICOM series; for results that refer to them.
    """

    array: NDArray[Any]
    geometry: Geometry
    source: str
    notes: tuple[str, ...] = ()
    dicom: Any = None


def read_image(image: str | Path | nib.spatialimages.SpatialImage, kind: Kind = "image") -> Volume:
    """Read one volume and refuse whatever is not one.

    Parameters
    ----------
    image : path or nibabel image
        ``.nii``, ``.nii.gz``, any other file or folder of `anymri.data.formats`, with or without a selector such as
        ``#2``; or an image in memory. Trailing dimensions of size 1 are dropped.
    kind : {"image", "label"}, default="image"
        What it has to be.

    Returns
    -------
    Volume
        Array (D, H, W), float32 (image) or int16 or int32 (label); the native geometry; notes on what was mended.

    Raises
    ------
    UserError
        If the file is missing, of an unknown format, truncated, not 3D, too large, has an unusable affine, holds
        infinite or constant values or NaN inside the image, or is a label map in place of an image or the reverse.
    """
    try:
        return _read_image(image, kind)
    except MemoryError:
        source = image if isinstance(image, (str, os.PathLike)) else "nibabel image"
        raise UserError(f"{source}: there is too little memory to read it; close other programs, or crop it") from None


def check_header(path: Path) -> None:
    """Refuse a NIfTI file for what its header says; no voxel is read.

    Parameters
    ----------
    path : Path

    Raises
    ------
    UserError
        As `read_image`, as far as the header tells.
    """
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with igzip.open(path, "rb") if packed else open(path, "rb") as stream:
            header = _parse_header(path, stream)
    except GZIP_ERRORS:
        raise UserError(f"{path}: the gzip stream is truncated or damaged; copy or download the file again") from None
    mend_header(header)
    shape, size = _check_header(str(path), header)
    _check_promise(path, packed, int(header["vox_offset"]) + size)
    check_affine(str(path), read_grid(header, shape).affine)


def _read_image(image: str | Path | nib.spatialimages.SpatialImage, kind: Kind) -> Volume:
    recoded: Mapping[int, int] = {}
    header = None
    if isinstance(image, (str, os.PathLike)):
        source, place = str(image), parse_source(image)
        recoded = place.values
        if is_foreign(place.path):
            raw, grid = read_foreign(place.path, MAX_VOXELS)
        else:
            header, raw, grid = _read_file(place.path, place.channel)
    else:
        source, grid, header, raw = _take_nibabel(image)
    check_affine(source, grid.affine)
    slope, intercept = (1.0, 0.0) if header is None else slope_of(source, header)
    replaced: tuple[str, ...] = ()
    if kind == "label":
        values = label_values(source, raw, slope, intercept, recoded)
    else:
        values, replaced = image_values(source, raw, slope, intercept, recoded)
    array = np.ascontiguousarray(from_native(values, grid.affine))
    doubts = (*doubt_angles(grid.affine), *doubt_place(grid.affine, values.shape))
    notes = (*grid.notes, *doubts, *replaced)
    return Volume(array, Geometry(grid.affine, values.shape, header, grid.known), source, notes, grid.dicom)


def _read_file(path: Path, channel: int | None) -> tuple[nib.Nifti1Header, NDArray[Any], Grid]:
    """Mended header, unscaled native array and grid of a file, or of one channel of a 4D file."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; check the path")
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with igzip.open(path, "rb") if packed else open(path, "rb") as stream:
            header = _parse_header(path, stream)
            mended = mend_header(header)
            channels = _split_channels(str(path), header, channel)
            shape, size = _check_header(str(path), header)
            start = int(header["vox_offset"])
            _check_promise(path, packed, start + size * channels)
            check_memory(str(path), working_bytes(shape, header.get_data_dtype().itemsize))
            # Only the channel asked for is kept; the others are passed over.
            skipped = start + size * (channel or 0)
            last = (channel or 0) == channels - 1
            data, rest = _read_voxels(path, stream, skipped, size, packed, start=start, to_end=last)
    except GZIP_ERRORS:
        raise UserError(f"{path}: the gzip stream is truncated or damaged; copy or download the file again") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check the file") from None
    grid = read_grid(header, shape)
    more = [MORE_DATA] if rest else []  # zeros, too: where something was put in, those around the head are left over
    grid = grid._replace(notes=(*mended, *grid.notes, *more))
    return header, data.view(header.get_data_dtype()).reshape(shape, order="F"), grid


def _parse_header(path: Path, stream: Any) -> nib.Nifti1Header:
    """Read a NIfTI-1 or NIfTI-2 header of either byte order."""
    first = stream.read(4)
    sizes = {int.from_bytes(first, "little"), int.from_bytes(first, "big")} if len(first) == 4 else set()
    header_class = nib.Nifti1Header if 348 in sizes else nib.Nifti2Header if 540 in sizes else None
    not_nifti = f"{path}: is not a NIfTI file; give a .nii or .nii.gz file"
    if header_class is None:
        raise UserError(not_nifti)
    block = first + stream.read(header_class.template_dtype.itemsize - 4)
    if len(block) < header_class.template_dtype.itemsize:
        raise UserError(f"{path}: the header is cut off; copy or download the file again")
    try:
        header = header_class(block, check=False)
        magic = bytes(header["magic"])[:3].rstrip(b"\0")
    except (HeaderDataError, WrapStructError, ValueError):
        raise UserError(not_nifti) from None
    if magic == b"ni1" or magic == b"ni2":
        raise UserError(f"{path}: is the header of a .hdr/.img pair; convert the pair to .nii.gz")
    if magic not in (b"n+1", b"n+2"):
        raise UserError(not_nifti)
    return header


def _check_header(source: str, header: Any) -> tuple[tuple[int, int, int], int]:
    """Shape (i, j, k) and size in bytes of the voxels, if both are acceptable."""
    try:
        shape = tuple(int(size) for size in header.get_data_shape())
        dtype = header.get_data_dtype()
    except (HeaderDataError, WrapStructError, ValueError, KeyError):
        raise UserError(f"{source}: has a damaged header; convert or download the file again") from None
    if dtype.kind not in "iuf":
        kind = {"c": "complex", "V": "colour"}.get(dtype.kind, "unknown")
        raise UserError(f"{source}: has {kind} values; give a plain greyscale volume")
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    size_text = " x ".join(str(size) for size in shape)
    if any(size < 1 for size in shape) or not shape:
        raise UserError(f"{source}: is empty (size {size_text or 0}); give a volume with voxels")
    if len(shape) > 3:
        raise UserError(f"{source}: is {len(shape)}D ({size_text}); give one 3D volume or a channel (name.nii.gz#0)")
    if len(shape) < 3 or 1 in shape:
        raise UserError(f"{source}: is a single slice ({size_text}); give a 3D volume")
    voxels = shape[0] * shape[1] * shape[2]
    if voxels > MAX_VOXELS:
        raise UserError(f"{source}: its header promises {size_text} voxels, more than are read; crop or resample it")
    return (shape[0], shape[1], shape[2]), voxels * dtype.itemsize


def _split_channels(source: str, header: Any, channel: int | None) -> int:
    """Number of channels of a file; the header becomes that of one channel, if one was asked for."""
    if channel is None:
        return 1
    shape = header.get_data_shape()
    if len(shape) != 4:
        raise UserError(f"{source}: has no channels (it is {len(shape)}D), but channel {channel} was asked for")
    if not channel < shape[3]:
        raise UserError(f"{source}: has {shape[3]} channels, 0 to {shape[3] - 1}; channel {channel} was asked for")
    header.set_data_shape(shape[:3])
    return int(shape[3])


def _check_promise(path: Path, packed: bool, promised: int) -> None:
    """Refuse a file that cannot hold the bytes its header promises."""
    ratio = PACKING_RATIO["gzip" if packed else "raw"]
    if path.stat().st_size * ratio < promised:
        raise UserError(f"{path}: is truncated, its header promises {promised} bytes; copy or download the file again")


def _read_voxels(
    path: Path, stream: Any, first: int, size: int, packed: bool, *, start: int, to_end: bool
) -> tuple[NDArray[np.uint8], bytes]:
    """Read exactly `size` bytes from byte `first` on and, `to_end`, the rest: of a gzip stream with its checksum.

    `start` is where the voxels of the file begin. Also gives the rest, as far as it was read.
    """
    position = stream.tell()
    if not position <= start <= position + MAX_TRAILING_BYTES * 64:
        raise UserError(f"{path}: has a damaged header (voxels at byte {start}); download the file again")
    stream.seek(first)
    data = np.empty(size, np.uint8)
    view, filled = data.data, 0
    while filled < size:
        count = stream.readinto(view[filled : filled + 2**24])
        if not count:
            raise UserError(f"{path}: is truncated ({filled} of {size} bytes); copy or download the file again")
        filled += count
    rest = stream.read(MAX_TRAILING_BYTES + 1) if to_end else b""
    if packed and len(rest) > MAX_TRAILING_BYTES:
        raise UserError(f"{path}: holds more data than its header promises; convert or download the file again")
    return data, rest


def _take_nibabel(image: nib.spatialimages.SpatialImage) -> tuple[str, Grid, Any, NDArray[Any]]:
    """Message name, grid, a NIfTI header with this grid, and the unscaled values of a nibabel image."""
    if not isinstance(image, nib.spatialimages.SpatialImage):
        raise UserError(f"{type(image).__name__}: is neither a path nor a nibabel image; give one of these")
    source = image.get_filename() or "nibabel image"
    shape, _ = _check_header(source, image.header)
    grid, header = _grid_of(source, image, shape)
    check_affine(source, grid.affine)
    try:
        data: Any = image.dataobj
        scaled = hasattr(data, "get_unscaled")
        values = np.asarray(data.get_unscaled() if scaled else data).reshape(shape)
    except READ_ERRORS:
        raise UserError(f"{source}: its voxels cannot be read; copy or download the file again") from None
    header.set_data_shape(shape)
    header.set_data_dtype(values.dtype)
    header["scl_slope"], header["scl_inter"] = (data.slope, data.inter) if scaled else (1, 0)
    return source, grid, header, values


def _grid_of(source: str, image: nib.spatialimages.SpatialImage, shape: tuple[int, ...]) -> tuple[Grid, Any]:
    """Grid of a nibabel image, and a mended NIfTI header with this grid."""
    stored = None if image.affine is None else np.asarray(image.affine, dtype=np.float64)
    if isinstance(image, nib.Nifti1Pair):
        header = image.header.copy()
        header["vox_offset"] = header.single_vox_offset  # nibabel forgets it; there is no file to be read
    else:
        stored = np.eye(4) if stored is None else stored
        check_affine(source, stored)
        header = nib.Nifti1Image(np.zeros((1, 1, 1), np.uint8), stored).header
    mended = mend_header(header)
    grid = read_grid(header, shape)
    affine = grid.affine if stored is None else np.diag([unit_mm(header)] * 3 + [1]) @ stored
    if not np.array_equal(affine, grid.affine):  # in memory it may be more precise than the header, or another one
        header.set_sform(stored, code=int(header["sform_code"]) or 1)
        grid = grid._replace(affine=affine, known=True)
    return grid._replace(notes=(*mended, *grid.notes)), header


def check_study(volumes: dict[str, Volume], label: Volume | None = None) -> None:
    """Check that the sequences of one study belong together.

    Parameters
    ----------
    volumes : dict of str to Volume
        Modality code to image.
    label : Volume or None, default=None
        Label map on the same grid.

    Raises
    ------
    UserError
        If there is no sequence, two files differ in shape or affine, or two sequences are the same image.
    """
    if not volumes:
        raise UserError("study: no sequence was given; name at least one image")
    everything = [*volumes.values(), *([label] if label is not None else [])]
    first = everything[0]
    for other in everything[1:]:
        if first.geometry.matches(other.geometry):
            continue
        what = "affine" if first.geometry.shape_dhw == other.geometry.shape_dhw else "shape"
        raise UserError(
            f"{other.source}: has another {what} than {first.source}; if the images are as they came from the scanner, "
            "say so (--raw), else resample the sequences to one grid"
        )
    refuse_same(volumes)


def write_image(
    path: str | Path,
    array: NDArray[Any],
    geometry: Geometry,
    dtype: DTypeLike | None = None,
    *,
    description: str = "",
) -> Path:
    """Write a volume on its native grid, byte for byte the same each time.

    Parameters
    ----------
    path : path-like
        ``.nii.gz`` or ``.nii``; an existing file is replaced.
    array : ndarray, shape (D, H, W)
    geometry : Geometry
        Native grid; the forms, codes and units of its header are kept.
    dtype : dtype-like or None, default=None
        Type on disk; see `to_nibabel`.
    description : str, default=""
        For the header; see `to_nibabel`.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    UserError
        If the name is not a NIfTI name or the disk refuses.
    ValueError
        If the array is not on the grid of `geometry`.
    """
    path = Path(path)
    if not path.name.endswith((".nii.gz", ".nii")):
        raise UserError(f"{path}: is not a NIfTI file name; end it in .nii.gz")
    content = to_nibabel(array, geometry, dtype, description=description).to_bytes()
    if path.name.endswith(".gz"):
        content = igzip.compress(content, 1, mtime=0)
    with replace_file(path) as handle:
        handle.write(content)
    return path


def to_nibabel(
    array: NDArray[Any], geometry: Geometry, dtype: DTypeLike | None = None, *, description: str = ""
) -> nib.Nifti1Image:
    """Make a nibabel image on the native grid of a volume.

    Parameters
    ----------
    array : ndarray, shape (D, H, W)
    geometry : Geometry
        Native grid; only the forms, codes and units of its header are taken over.
    dtype : dtype-like or None, default=None
        Type of the values (they are not scaled); None keeps the array's (bool becomes uint8, float float32).
    description : str, default=""
        For the header's ``descrip``, at most 79 letters of ASCII.

    Returns
    -------
    nibabel.Nifti1Image or nibabel.Nifti2Image

    Raises
    ------
    ValueError
        If the array is not on the grid of `geometry`.
    """
    if dtype is None:
        dtype = np.uint8 if array.dtype.kind == "b" else np.float32 if array.dtype.kind == "f" else array.dtype
    image = _image(np.asarray(to_native(array, geometry), dtype=dtype), geometry)
    image.header["descrip"] = description
    return image


def _image(native: NDArray[Any], geometry: Geometry) -> nib.Nifti1Image:
    """Nibabel image of an array (i, j, k) of the type wanted on disk."""
    if geometry.header is None:
        image = nib.Nifti1Image(native, geometry.affine)
        image.set_qform(geometry.affine, code=1)
        image.set_sform(geometry.affine, code=1)
        image.header.set_xyzt_units("mm")
        return image
    source = geometry.header
    image_class = nib.Nifti2Image if isinstance(source, nib.Nifti2Header) else nib.Nifti1Image
    header = image_class.header_class()
    header.set_data_shape(native.shape)
    header.set_data_dtype(native.dtype)
    forms = ("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")
    for name in (*forms, "srow_x", "srow_y", "srow_z", "xyzt_units"):
        header[name] = source[name]
    header["pixdim"][:4] = source["pixdim"][:4]
    affine = geometry.affine.copy()
    affine[:3] /= unit_mm(header)  # the numbers of the input's forms, in the input's unit
    return image_class(native, affine, header)
