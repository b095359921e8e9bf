"""DICOM files of a study and the header fields that decide; one `Frame` for each slice, whatever file it lies in."""

from __future__ import annotations

import re
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymri.data.nifti import MAX_VOXELS
from anymri.types import UserError

__all__ = ["Frame", "is_dicom_study", "numbers", "open_study", "read_headers"]

#: Largest content of a zip archive that is unpacked, in bytes, and most files.
MAX_UNPACKED_BYTES = 16 * 2**30
MAX_FILES = 100_000
#: Names of files that claim to be DICOM even where their first bytes do not.
_ENDINGS = (".dcm", ".dicom", ".ima")
#: Fields that are read from a file, or from the functional groups of a multi-frame file.
_FIELDS = (
    "AcquisitionContrast", "AcquisitionNumber", "BitsAllocated", "Columns", "ComplexImageComponent",
    "ContrastBolusAgent", "DiffusionBValue", "EchoPlanarPulseSequence", "EchoPulseSequence", "EchoTime", "FlipAngle",
    "ImageOrientationPatient", "ImagePositionPatient", "ImageType", "InstanceNumber", "InversionTime", "Modality",
    "NumberOfFrames", "PatientBirthDate", "PatientID", "PatientName", "PixelSpacing", "ProtocolName",
    "RepetitionTime", "RescaleIntercept", "RescaleSlope", "Rows", "SOPClassUID", "SamplesPerPixel",
    "ScanningSequence", "SequenceName", "SeriesDescription", "SeriesInstanceUID", "SeriesNumber", "SliceThickness",
    "SpacingBetweenSlices", "StudyDate", "StudyInstanceUID", "TemporalPositionIdentifier",
)  # fmt: skip
#: What functional groups call by another name.
_OTHER_NAMES = {
    "ContrastBolusAgentAdministered": "ContrastGiven",
    "EffectiveEchoTime": "EchoTime",
    "FrameType": "ImageType",
    "InversionTimes": "InversionTime",
    "TemporalPositionIndex": "TemporalPositionIdentifier",
}
#: GE's private field of magnitude (0), phase (1), real (2) and imaginary (3).
_GE_COMPONENT = 0x0043102F
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "ContrastBolusAgentSequence")
_TAGS: list[Any] = [*_FIELDS, *_GROUPS, 0x00430010, _GE_COMPONENT]
#: MR Image Storage, classic, enhanced, and enhanced from classic.
_MR_CLASSES = tuple(f"1.2.840.10008.5.1.4.1.1.4{end}" for end in ("", ".1", ".4"))


@dataclass(frozen=True)
class Frame:
    """One slice.

    Parameters
    ----------
    file : Path
    index : int or None
        Place in a multi-frame file, from 0 on; None where the file is one slice.
    facts : mapping of str to Any
        Header fields; stays in memory.
    """

    file: Path
    index: int | None
    facts: Mapping[str, Any] = field(repr=False)

    @cached_property
    def position(self) -> NDArray[np.float64] | None:
        """Centre of the first pixel, in mm (DICOM axes), or None."""
        return numbers(self.facts.get("ImagePositionPatient"), 3)

    @cached_property
    def orientation(self) -> NDArray[np.float64] | None:
        """Directions along a row and along a column, shape (2, 3), or None."""
        axes = numbers(self.facts.get("ImageOrientationPatient"), 6)
        if axes is None or not 0.9 < np.linalg.norm(np.cross(axes[:3], axes[3:])) < 1.1:
            return None
        return axes.reshape(2, 3)


def numbers(value: Any, count: int) -> NDArray[np.float64] | None:
    """A header field as so many finite numbers, or None."""
    try:
        array = np.atleast_1d(np.array(value, dtype=np.float64))
    except (TypeError, ValueError):
        return None
    return array if array.shape == (count,) and np.isfinite(array).all() else None


def is_dicom_study(path: Path) -> bool:
    """Whether a path is a zip archive or a folder that holds a DICOM file somewhere."""
    if path.is_file():
        return path.suffix.lower() == ".zip" and zipfile.is_zipfile(path)
    return path.is_dir() and any(_is_dicom(file) for file in _files(path))


@contextmanager
def open_study(path: Path) -> Iterator[Path]:
    """Folder of a study; an archive is unpacked into a temporary one that is removed at the end.

    Raises
    ------
    UserError
        If the archive is damaged, unpacks to too much, or leads out of its folder.
    """
    if path.is_dir():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="anymri-") as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                entries = [
                    entry for entry in archive.infolist() if not entry.is_dir() and not _is_hidden(entry.filename)
                ]
                if len(entries) > MAX_FILES or sum(entry.file_size for entry in entries) > MAX_UNPACKED_BYTES:
                    raise UserError(f"{path}: unpacks to more than is read; unpack it and give the study's folder")
                for number, entry in enumerate(entries):
                    # Names inside are not used: they could lead elsewhere, or name a person.
                    claims = entry.filename.lower().endswith(_ENDINGS)
                    name = f"{number:06d}{'.dcm' if claims else ''}"
                    with archive.open(entry) as source, (Path(folder) / name).open("wb") as target:
                        shutil.copyfileobj(source, target)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, OSError):
            raise UserError(f"{path}: is a damaged or encrypted archive; copy or unpack it again") from None
        try:
            yield Path(folder)
        except UserError as error:  # people know the archive, not where it was unpacked
            raise UserError(str(error).replace(folder, str(path))) from None


def read_headers(folder: Path) -> tuple[list[Frame], int]:
    """Frames of all DICOM images below a folder, in the order of the files, and the number of damaged DICOM files.

    Raises
    ------
    UserError
        If pydicom is missing.
    """
    try:
        import pydicom
    except ModuleNotFoundError:
        raise UserError("DICOM studies: need pydicom; pip install 'anymri[dicom]'") from None
    frames: list[Frame] = []
    damaged = 0
    # Warnings and validation messages of pydicom quote values.
    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        for file in _files(folder):
            if not _is_dicom(file):
                damaged += file.suffix.lower() in _ENDINGS
                continue
            try:
                frames += _read_frames(file)
            except Exception:  # whatever a damaged header raises
                damaged += 1
    return frames, damaged


def _files(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.rglob("*")) if file.is_file() and not _is_hidden(file.name)]


def _is_hidden(name: str) -> bool:
    return name.rpartition("/")[2].startswith(".")


def _is_dicom(file: Path) -> bool:
    """Whether a file begins as DICOM does, with its preamble or at once with the first group of fields."""
    with file.open("rb") as handle:
        start = handle.read(132)
    if start[128:] == b"DICM":
        return True
    group, element = start[:2], int.from_bytes(start[2:4], "little")
    if group not in (b"\x02\x00", b"\x08\x00") or len(start) < 132 or element > 0x20:
        return False
    explicit = re.fullmatch(rb"[A-Z]{2}", start[4:6]) is not None
    return explicit or int.from_bytes(start[4:8], "little") < 1024


def _read_frames(file: Path) -> list[Frame]:
    """Frames of a file; none if it holds something else than an image."""
    import pydicom

    with file.open("rb") as handle:
        header = pydicom.dcmread(handle, stop_before_pixels=True, force=True, specific_tags=_TAGS)
        rest = file.stat().st_size - handle.tell()
    facts = {name: header.get(name) for name in _FIELDS}
    if not facts["Rows"] or not facts["Columns"]:
        kind = header.file_meta.get("MediaStorageSOPClassUID") or facts["SOPClassUID"]
        if kind is None or kind in _MR_CLASSES:
            raise ValueError("the header is cut off")
        return []
    facts["ContrastBolusAgent"] = facts["ContrastBolusAgent"] or _agent(header)
    facts["GEComponent"] = _ge_component(header)
    count = int(facts["NumberOfFrames"] or 1)
    syntax = header.file_meta.get("TransferSyntaxUID")
    pixels = count * int(facts["Rows"]) * int(facts["Columns"])
    if pixels > MAX_VOXELS or rest < _least_bytes(syntax, count, pixels * int(facts["BitsAllocated"] or 0) // 8):
        raise ValueError("there are less pixels than the header promises")
    groups = header.get("PerFrameFunctionalGroupsSequence")
    if not groups:
        return [Frame(file, None if count == 1 else index, facts) for index in range(count)]
    if len(groups) < count:
        raise ValueError("frames are not described")
    shared = header.get("SharedFunctionalGroupsSequence")
    facts |= _group_facts(shared[0]) if shared else {}
    return [Frame(file, index, facts | _group_facts(groups[index])) for index in range(count)]


def _least_bytes(syntax: Any, frames: int, plain: int) -> int:
    """Fewest bytes that the pixels take up in a file of some transfer syntax."""
    if syntax is not None and syntax.is_deflated:
        return 0  # the file is one stream
    return plain if syntax is None or not syntax.is_compressed else 8 * frames


def _group_facts(item: Any) -> dict[str, Any]:
    """Known fields of the functional groups of one frame."""
    facts: dict[str, Any] = {}
    for group in item:
        if group.VR != "SQ" or group.tag.is_private or not group.value:
            continue
        for element in group.value[0]:
            name = _OTHER_NAMES.get(element.keyword, element.keyword)
            if name in _FIELDS or name == "ContrastGiven":
                several = element.keyword == "InversionTimes" and element.VM > 1
                facts[name] = element.value[0] if several else element.value
    # A frame refers to other objects, whose class is not its own.
    return {name: value for name, value in facts.items() if name != "SOPClassUID"}


def _agent(header: Any) -> str | None:
    """What an enhanced header says of a contrast agent: that there is one."""
    return "agent" if header.get("ContrastBolusAgentSequence") else None


def _ge_component(header: Any) -> int | None:
    try:
        value = header[_GE_COMPONENT].value
        return int(value if isinstance(value, (int, float)) else value[0])
    except (KeyError, TypeError, ValueError, IndexError):
        return None
