"""Pixels of DICOM slices: decoded within bounds, each slice by its own scale.

Compressed pixels that pydicom cannot decode go to ITK, but never with their header: it gets a file with nothing but the
pixels and their form, after the size inside the compressed stream was held against the header's.
"""

from __future__ import annotations

import struct
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymri.data.dicom.classify import numeric
from anymri.data.dicom.headers import Frame, numbers, read_dataset
from anymri.data.header import MAX_SPACING_ERROR, MAX_VOXELS, working_bytes
from anymri.data.own_locale import own_locale
from anymri.locks import scratch_folder
from anymri.memory import check_memory
from anymri.types import UserError

__all__ = ["doubt_frames", "read_pixels", "read_planes", "stack_affine"]

#: Largest ratio of two slices' scale factors; scanners that scale each slice by itself stay far below.
MAX_SCALE_RATIO = 1000
#: What ITK is told of pixels: their form, nothing of where and whose they are.
_FORM = (
    "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData",
)  # fmt: skip
#: Fields on which the value of a pixel depends beside its scale; one series has one of each.
_STORED = ("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation")
#: Fields that all slices of one series share. Their values are compared and never told.
_SHARED = (
    "StudyInstanceUID", "SOPClassUID", "PatientID", "PatientName", "PatientBirthDate", "StudyDate", "Modality",
    "ImageType", "SeriesNumber", "SeriesDescription", "ProtocolName", "ScanningSequence", "SequenceName", "EchoTime",
    "RepetitionTime", "InversionTime", "FlipAngle", "SliceThickness",
)  # fmt: skip
#: Share of the slices that are few: that differ from the others by damage, not by how the series was made.
_FEW = 0.1
#: Secondary capture, of one frame and of several.
_CLASSES = ("1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.7.3")
#: Markers of a JPEG or JPEG-LS stream that give the size of the image.
_SIZE_MARKERS = (0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7)


def stack_affine(name: str, frames: list[Frame]) -> NDArray[np.float64]:
    """Column, row and slice number to position in mm, RAS+.

    Parameters
    ----------
    name : str
        For messages.
    frames : list of Frame
        In order.

    Raises
    ------
    UserError
        If it is one slice, or its header does not say where the slices lie.
    """
    first, last = frames[0], frames[-1]
    spacing = numbers(first.facts.get("PixelSpacing"), 2)
    if len(frames) < 2:
        raise UserError(f"{name}: is a single slice; give a series of a whole head")
    if first.position is None or last.position is None or first.orientation is None or spacing is None:
        raise UserError(f"{name}: its header does not say where the slices lie; export the series again")
    if spacing.min() <= 0:
        raise UserError(f"{name}: its header gives pixels of {spacing[0]:g} x {spacing[1]:g} mm; export it again")
    affine = np.eye(4)
    affine[:3, 0] = first.orientation[0] * spacing[1]  # along a row: from column to column
    affine[:3, 1] = first.orientation[1] * spacing[0]
    affine[:3, 2] = (last.position - first.position) / (len(frames) - 1)
    affine[:3, 3] = first.position
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def read_planes(name: str, frames: list[Frame]) -> NDArray[np.float32]:
    """Values of slices as one array, shape (column, row, slice).

    Parameters
    ----------
    name : str
        For messages.
    frames : list of Frame
        In order.

    Raises
    ------
    UserError
        If a file is damaged, slices differ in size, or there are too many for the memory.
    """
    rows, columns = (int(frames[0].facts[key]) for key in ("Rows", "Columns"))
    shape = (columns, rows, len(frames))
    if rows * columns * len(frames) > MAX_VOXELS:
        raise UserError(f"{name}: has {columns} x {rows} x {len(frames)} voxels, more than are read; resample it")
    check_memory(name, working_bytes(shape, 4))
    values = np.empty(shape, np.float32)
    place = 0
    try:
        for place, pixels in enumerate(read_pixels(frames)):
            if pixels.shape != (rows, columns):
                raise UserError(f"{name}: its slices differ in size or have colours; give a plain greyscale series")
            values[:, :, place] = pixels.T
            place += 1
    except UserError:
        raise
    except Exception:  # whatever damaged pixels raise
        file = frames[min(place, len(frames) - 1)].file.name
        raise UserError(f"{name}: {file} is damaged or cannot be decoded; export the series again") from None
    return values


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
    file, stored = None, np.empty(0)
    for frame in frames:
        if frame.file != file:
            file, stored = frame.file, _decode(frame.file)
        pixels = stored if frame.index is None or stored.ndim == 2 else stored[frame.index]
        slope, intercept = _scale(frame)
        yield (pixels * np.float64(slope) + np.float64(intercept)).astype(np.float32)


def _scale(frame: Frame) -> tuple[float, float]:
    """Slope and intercept of a slice, 1 and 0 where its header has none."""
    found = []
    for name, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0)):
        said = frame.facts.get(name)
        number = default if said is None or said == "" else numeric(said)
        if number is None:
            raise ValueError("the scale factor is damaged")
        found.append(number)
    return found[0] or 1.0, found[1]


def doubt_frames(frames: list[Frame]) -> tuple[str, ...]:
    """Doubts about a series whose slices were read: directions and scale factors that cannot all be meant.

    Parameters
    ----------
    frames : list of Frame
    """
    doubts = []
    if frames[0].orientation is not None:
        lengths = np.linalg.norm(frames[0].orientation, axis=1)
        if np.abs(lengths - 1).max() > MAX_SPACING_ERROR:
            text = f"{lengths[0]:.4g} and {lengths[1]:.4g}"
            doubts.append(f"its directions have lengths of {text} in place of 1; distances and volumes may be wrong")
    slopes, intercepts = zip(*(_scale(frame) for frame in frames), strict=True)
    if not 0 < max(slopes) <= MAX_SCALE_RATIO * min(slopes):
        extent = f"{min(slopes):g} to {max(slopes):g}"
        doubts.append(f"the scale factors of its slices range from {extent}; intensities may be wrong")
    elif min(slopes) == max(slopes) and min(intercepts) != max(intercepts):
        extent = f"{min(intercepts):g} to {max(intercepts):g}"
        doubts.append(f"a number from {extent} is added to the values of its slices; intensities may be wrong")
    if len({tuple(str(frame.facts.get(name)) for name in _STORED) for frame in frames}) > 1:
        doubts.append("its slices differ in how their values are stored (bits and sign); intensities may be wrong")
    doubts += _doubt_strangers(frames)
    padded = {frame.file for frame in frames if frame.facts.get("Padding", 0) >= 16}
    if padded and len(padded) < len({frame.file for frame in frames}):  # of all: a habit of the program that wrote them
        doubts.append(f"{len(padded)} of its files hold zeros behind their pixels; the pixels may be shifted")
    return tuple(doubts)


def _doubt_strangers(frames: list[Frame]) -> list[str]:
    """A doubt where the header of a few slices says otherwise than all the others do."""
    strange: dict[str, list[str]] = {}
    for name in _SHARED:
        told = [str(frame.facts.get(name)) for frame in frames]
        usual, count = Counter(told).most_common(1)[0]
        if len(frames) - max(1, int(_FEW * len(frames))) <= count < len(frames):
            strange[name] = [frame.file.name for frame, value in zip(frames, told, strict=True) if value != usual]
    files = sorted({file for found in strange.values() for file in found})
    if not files:
        return []
    listed = f"{', '.join(files[:3])}{f' and {len(files) - 3} more' if len(files) > 3 else ''}"
    fields = ", ".join(strange)
    return [f"the header of {listed} differs from the other slices' in {fields}; damaged, or of another series"]


def _decode(file: Path) -> NDArray[Any]:
    """Values of a file as stored, shape (rows, columns) or (frames, rows, columns)."""
    import pydicom

    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        check_memory(file.name, 2 * file.stat().st_size)
        with file.open("rb") as handle:
            header = read_dataset(handle)
        if not header.file_meta.get("TransferSyntaxUID"):
            header.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
        count = int(header.get("NumberOfFrames") or 1)
        voxels = count * int(header.Rows) * int(header.Columns) * int(header.get("SamplesPerPixel") or 1)
        if not 0 < voxels <= MAX_VOXELS:
            raise ValueError("there are more pixels than are read")
        check_memory(file.name, 4 * voxels * max(1, int(header.BitsAllocated) // 8))
        try:
            return header.pixel_array
        except (RuntimeError, NotImplementedError):  # compressed in a way that only ITK can decode here
            return _decode_by_itk(header, count)


def _decode_by_itk(header: Any, count: int) -> NDArray[Any]:
    import pydicom
    import SimpleITK as sitk

    for frame in pydicom.encaps.generate_frames(header.PixelData, number_of_frames=count):
        if stream_size(frame) != (header.Rows, header.Columns, header.get("SamplesPerPixel", 1)):
            raise ValueError("the compressed stream has another size than the header")
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = header.file_meta.TransferSyntaxUID
    meta.MediaStorageSOPClassUID = pydicom.uid.UID(_CLASSES[count > 1])
    meta.MediaStorageSOPInstanceUID = pydicom.uid.UID("2.25.1")
    with scratch_folder() as folder, own_locale():
        file = folder / "pixels.dcm"
        plain = pydicom.dataset.FileDataset(str(file), {}, preamble=b"\0" * 128, file_meta=meta)
        plain.SOPClassUID, plain.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        for name in _FORM:
            if name in header:
                plain.add(header[name])
        plain.save_as(file, enforce_file_format=True)
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(str(file))
        values = sitk.GetArrayFromImage(reader.Execute())
    return values if count > 1 else values[0]


def stream_size(stream: bytes) -> tuple[int, int, int]:
    """Rows, columns and values a pixel by a JPEG, JPEG-LS or JPEG 2000 stream itself.

    Raises
    ------
    ValueError
        If the stream does not say, or says it in more tiles than pixels.
    """
    start = stream.find(b"\xff\x4f\xff\x51", 0, 4096)
    try:
        if start >= 0:
            right, bottom, left, top, width, height = struct.unpack_from(">6I", stream, start + 8)
            (values,) = struct.unpack_from(">H", stream, start + 40)
            rows, columns = bottom - top, right - left
            if not min(rows, columns, width, height) > 0 or right // width * (bottom // height) > 65535:
                raise ValueError("the stream has no plausible tiles")
            return rows, columns, values
        place = stream.index(b"\xff\xd8") + 2
        while True:
            sign, marker, length = struct.unpack_from(">BBH", stream, place)
            if sign != 0xFF:
                raise ValueError("the stream is damaged")
            if marker in _SIZE_MARKERS:
                _, rows, columns, values = struct.unpack_from(">BHHB", stream, place + 4)
                return rows, columns, values
            place += 1 if marker == 0xFF else 2 + length
    except struct.error:
        raise ValueError("the stream ends too early") from None
