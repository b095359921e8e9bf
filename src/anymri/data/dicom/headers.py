"""DICOM files of a study and the header fields that decide; one `Frame` for each slice, whatever file it lies in."""

from __future__ import annotations

import errno
import os
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from shutil import copyfileobj, disk_usage
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from anymri.data.header import MAX_SPACING_ERROR, MAX_VOXELS
from anymri.files import write_reason
from anymri.locks import scratch_folder
from anymri.memory import free_bytes
from anymri.types import UserError

__all__ = [
    "Frame", "describe_damaged", "is_dicom_study", "may_be_file", "numbers", "open_study", "read_dataset",
    "read_files", "read_headers",
]  # fmt: skip

#: Largest content of a zip archive that is unpacked, in bytes, and most files.
MAX_UNPACKED_BYTES = 16 * 2**30
MAX_FILES = 100_000
#: Most that the files of an archive, or a deflated file, unpack to: this many bytes, or as many for each of theirs.
PLAUSIBLE_BYTES, PLAUSIBLE_RATIO = 2**28, 100
#: Refusals to write that say nothing of the archive that is unpacked.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
#: Files that are named in a message.
_NAMED = 3
#: Fields that may follow the pixels: padding and signatures, of either order of bytes.
_AFTER_PIXELS = (b"\xfc\xff\xfc\xff", b"\xff\xfc\xff\xfc", b"\xfa\xff\xfa\xff", b"\xff\xfa\xff\xfa")
_DEFLATED = b"1.2.840.10008.1.2.1.99"
#: Names of files that claim to be DICOM even where their first bytes do not.
_ENDINGS = (".dcm", ".dicom", ".ima")
#: Fields that are read from a file, or from the functional groups of a multi-frame file.
_FIELDS = (
    "AcquisitionContrast", "AcquisitionNumber", "BitsAllocated", "BitsStored", "Columns", "ComplexImageComponent",
    "ContrastBolusAgent", "DiffusionBValue", "EchoPlanarPulseSequence", "EchoPulseSequence", "EchoTime", "FlipAngle",
    "HighBit", "ImageOrientationPatient", "ImagePositionPatient", "ImageType", "InstanceNumber", "InversionTime",
    "Modality", "NumberOfFrames", "PatientBirthDate", "PatientID", "PatientName", "PixelRepresentation", "PixelSpacing",
    "ProtocolName", "RepetitionTime", "RescaleIntercept", "RescaleSlope", "Rows", "SOPClassUID", "SamplesPerPixel",
    "ScanningSequence", "SequenceName", "SeriesDescription", "SeriesInstanceUID", "SeriesNumber", "SliceThickness",
    "SpacingBetweenSlices", "StudyDate", "StudyInstanceUID", "SyntheticData",
    "TemporalPositionIdentifier",
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

    def same_grid(self, other: Frame) -> bool:
        """Whether two slices have the same size, the same pixels and, within about a degree, direction."""
        if any(self.facts.get(name) != other.facts.get(name) for name in ("Rows", "Columns")):
            return False
        spacing, theirs = (numbers(frame.facts.get("PixelSpacing"), 2) for frame in (self, other))
        if (spacing is None) != (theirs is None):
            return False
        if (
            spacing is not None
            and theirs is not None
            and (np.abs(spacing - theirs) > MAX_SPACING_ERROR * np.abs(spacing)).any()
        ):
            return False
        if self.orientation is None or other.orientation is None:
            return self.orientation is other.orientation
        return bool(np.abs(self.orientation - other.orientation).max() < 0.02)


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
        If the archive is damaged, unpacks to too much, leads out of its folder, or finds no room.
    """
    if path.is_dir():
        yield path
        return
    with scratch_folder() as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                entries = _entries(archive)
                size, packed = sum(entry.file_size for entry in entries), path.stat().st_size
                most = min(MAX_UNPACKED_BYTES, max(PLAUSIBLE_BYTES, PLAUSIBLE_RATIO * packed))
                if len(entries) > MAX_FILES or size > most:
                    raise UserError(f"{path}: unpacks to more than is read; unpack it and give the study's folder")
                if size > disk_usage(folder).free:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                for number, entry in enumerate(entries):
                    name = f"{number:06d} {_plain_name(entry.filename.rstrip('/'))}"
                    if entry.is_dir():
                        (folder / name).mkdir()
                        continue
                    with archive.open(entry) as source, (folder / name).open("wb") as target:
                        start = source.read(132)
                        target.write(start)
                        if _begins_dicom(start) or name.lower().endswith(_ENDINGS):
                            copyfileobj(source, target)
        except UserError:
            raise
        except Exception as error:  # whatever a damaged archive raises
            if isinstance(error, OSError) and error.errno in _NO_ROOM:
                raise UserError(
                    f"{path}: cannot be unpacked to {folder.parent} ({write_reason(error)}); free some space there, "
                    "set TMPDIR to another folder, or unpack it yourself and give the study's folder"
                ) from None
            raise UserError(f"{path}: is a damaged or encrypted archive; copy or unpack it again") from None
        try:
            yield folder
        except UserError as error:  # people know the archive, not where it was unpacked
            raise UserError(str(error).replace(str(folder), str(path))) from None


def _entries(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """Files of an archive that are not hidden, and empty folders that stand in the place of a slice."""
    names = {entry.filename for entry in archive.infolist() if not _is_hidden(entry.filename.rstrip("/"))}
    above = {str(place) for name in names for place in PurePosixPath(name).parents}
    lone = {name for name in names if name.rstrip("/").lower().endswith(_ENDINGS) and name.rstrip("/") not in above}
    return [entry for entry in archive.infolist() if entry.filename in (lone if entry.is_dir() else names)]


def read_headers(folder: Path) -> tuple[list[Frame], list[Path]]:
    """Frames of all DICOM images below a folder, in the order of the files, and the DICOM files that are damaged."""
    frames, damaged, _ = read_files(_files(folder))
    return frames, damaged


def read_files(files: list[Path]) -> tuple[list[Frame], list[Path], int]:
    """Frames of all DICOM images among files.

    Parameters
    ----------
    files : list of Path
        A folder among them counts as damaged where it is named as a slice.

    Returns
    -------
    list of Frame
        In the order of the files.
    list of Path
        Files that are damaged: DICOM that cannot be read, and what is named like DICOM and is none.
    int
        Number of DICOM files that hold something else than an image.
    """
    import pydicom

    frames: list[Frame] = []
    damaged: list[Path] = []
    strange: list[Path] = []
    images, others = set(), 0
    # Warnings and validation messages of pydicom quote values.
    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        for file in files:
            if not _is_dicom(file):
                (damaged if file.suffix.lower() in _ENDINGS else strange).append(file)
                continue
            try:
                found = _read_frames(file)
            except Exception:  # whatever a damaged header raises
                damaged.append(file)
                continue
            frames += found
            others += not found
            images |= {_pattern(file)} if found else set()
    # Without an ending that says so, a file beside images that is named like them was an image.
    return frames, sorted([*damaged, *(file for file in strange if _pattern(file) in images)]), others


def _pattern(file: Path) -> tuple[Path, str]:
    """Folder and name of a file, whatever its numbers; a folder without a number is named like none."""
    name = re.sub(r"^\d{6} ", "", file.name)  # the number that `open_study` puts in front
    if file.is_dir() and not re.search(r"\d", name):
        return file, ""
    return file.parent, re.sub(r"\d+", "0", name) if re.search(r"\d", name) else ""


def describe_damaged(damaged: list[Path], folder: Path) -> str:
    """How many DICOM files could not be read, and which; a sentence with the remedy.

    Parameters
    ----------
    damaged : list of Path
    folder : Path
        Their paths are told from here on.
    """
    names = [f"{file.relative_to(folder).as_posix()}{'/' * file.is_dir()}" for file in damaged]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    files = "1 DICOM file is" if len(names) == 1 else f"{len(names)} DICOM files are"
    listed = f"{', '.join(names[:_NAMED])}{more}"
    return f"{files} damaged and could not be read ({listed}); copy or export the study again"


def read_dataset(handle: BinaryIO, **options: Any) -> Any:
    """Read a DICOM file by pydicom; one that unpacks to more than is plausible is refused before.

    Parameters
    ----------
    handle : binary file
    **options
        Of `pydicom.dcmread`.

    Raises
    ------
    Exception
        Of any kind, where the file is damaged.
    """
    import pydicom

    if _DEFLATED in handle.read(2**16):
        _refuse_bomb(handle)
    handle.seek(0)
    return pydicom.dcmread(handle, force=True, **options)


def _refuse_bomb(handle: BinaryIO) -> None:
    """Refuse a deflated file that unpacks to more than is plausible, at the price of unpacking it once."""
    from pydicom.filereader import _read_file_meta_info, read_preamble

    handle.seek(0)
    read_preamble(handle, True)
    if _read_file_meta_info(handle).get("TransferSyntaxUID") != _DEFLATED.decode():
        return
    packed = handle.read()
    engine, left = zlib.decompressobj(-zlib.MAX_WBITS), _most_bytes(len(packed))
    while packed and not engine.eof:
        left -= len(engine.decompress(packed, 2**24))
        packed = engine.unconsumed_tail
        if left < 0:
            raise ValueError("the file unpacks to more than is plausible")


def _most_bytes(packed: int) -> int:
    """Most that so many bytes of a packed study plausibly unpack to, within the memory at hand."""
    return min(max(PLAUSIBLE_BYTES, PLAUSIBLE_RATIO * packed), free_bytes() // 4)


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if may_be_file(path) or _stands_in(path)]


def _stands_in(folder: Path) -> bool:
    """Whether a folder is named as files are and holds none: it may stand in the place of one."""
    named = folder.suffix.lower() in _ENDINGS or re.search(r"\d", folder.name) is not None
    return named and not _is_hidden(folder.name) and not any(may_be_file(path) for path in folder.rglob("*"))


def may_be_file(path: Path) -> bool:
    """Whether something lies where a file should, and is not hidden: a link to nothing and a pipe too."""
    return not _is_hidden(path.name) and not path.is_dir()


def _plain_name(name: str) -> str:
    """Last part of a name in an archive, so that it leads nowhere else; its end where it is long."""
    plain = re.sub(r"[^\w. -]", "_", re.split(r"[/\\]", name)[-1], flags=re.ASCII)
    return plain[-100:]


def _is_hidden(name: str) -> bool:
    return name.rpartition("/")[2].startswith(".")


def _is_dicom(file: Path) -> bool:
    if not file.is_file():  # opening a pipe may never end
        return False
    try:
        with file.open("rb") as handle:
            return _begins_dicom(handle.read(132))
    except OSError:
        return False


def _begins_dicom(start: bytes) -> bool:
    """Whether 132 bytes begin as DICOM does, with its preamble or at once with the first group of fields."""
    if start[128:] == b"DICM":
        return True
    group, element = start[:2], int.from_bytes(start[2:4], "little")
    if group not in (b"\x02\x00", b"\x08\x00") or len(start) < 132 or element > 0x20:
        return False
    explicit = re.fullmatch(rb"[A-Z]{2}", start[4:6]) is not None
    return explicit or int.from_bytes(start[4:8], "little") < 1024


def _read_frames(file: Path) -> list[Frame]:
    """Frames of a file; none if it holds something else than an image."""
    with file.open("rb") as handle:
        header = read_dataset(handle, stop_before_pixels=True, specific_tags=_TAGS)
        if len(header.file_meta) and "TransferSyntaxUID" not in header.file_meta:
            raise ValueError("the file's own header is damaged: it does not say how the rest is written")
        facts = {name: header.get(name) for name in _FIELDS}
        if not facts["Rows"] or not facts["Columns"]:
            kind = header.file_meta.get("MediaStorageSOPClassUID") or facts["SOPClassUID"]
            # A class that the standard does not know is a damaged name of one, not another kind of object.
            unknown = kind is not None and (not kind.is_valid or (not kind.is_private and kind.name == kind))
            if kind is None or kind in _MR_CLASSES or unknown:
                raise ValueError("the header is cut off")
            return []
        count = 1 if facts["NumberOfFrames"] in (None, "") else int(facts["NumberOfFrames"])
        pixels = count * int(facts["Rows"]) * int(facts["Columns"])
        if not 0 < pixels <= MAX_VOXELS:
            raise ValueError("there are more pixels than are read")
        grey = int(facts["SamplesPerPixel"] or 1) == 1
        plain = (pixels * int(facts["BitsAllocated"] or 0) + 7) // 8
        facts["Padding"] = _check_pixels(handle, header.file_meta.get("TransferSyntaxUID"), count, plain, grey)
    facts["ContrastBolusAgent"] = facts["ContrastBolusAgent"] or _agent(header)
    facts["GEComponent"] = _ge_component(header)
    groups = header.get("PerFrameFunctionalGroupsSequence")
    if not groups:
        return [Frame(file, None if count == 1 else index, facts) for index in range(count)]
    if len(groups) < count:
        raise ValueError("frames are not described")
    shared = header.get("SharedFunctionalGroupsSequence")
    facts |= _group_facts(shared[0]) if shared else {}
    return [Frame(file, index, facts | _group_facts(groups[index])) for index in range(count)]


def _check_pixels(handle: BinaryIO, syntax: Any, frames: int, plain: int, exactly: bool) -> int:
    """Refuse a file that holds fewer pixels than its header promises or, `exactly`, more; zeros behind them, in bytes.

    The file is at its pixels; `plain` is what they take up in bytes where they are not compressed.
    """
    if syntax is not None and syntax.is_deflated:
        return 0  # the file is one stream
    compressed = syntax is not None and syntax.is_compressed
    start = handle.tell()
    left = handle.seek(0, 2) - start
    if left < (8 * frames if compressed else plain):
        raise ValueError("there are less pixels than the header promises")
    handle.seek(start)
    order: Literal["little", "big"] = "little" if syntax is None or syntax.is_little_endian else "big"
    element = handle.read(12)
    tag = element[:4] if order == "little" else element[1::-1] + element[3:1:-1]
    if compressed or not exactly or tag != b"\xe0\x7f\x10\x00":
        return 0
    head = 12 if element[4:6] in (b"OW", b"OB", b"UN") else 8
    length = int.from_bytes(element[head - 4 : head], order)
    if not plain <= length <= left - head:
        raise ValueError("there are less pixels than the header promises")
    handle.seek(start + head + plain)
    beyond = handle.read(min(length - plain, 2**20))
    handle.seek(start + head + length)
    behind = handle.read(2**20)
    told = behind[:4] in _AFTER_PIXELS
    if any(beyond) or (any(behind) and not told):
        raise ValueError("there are more pixels than the header promises")
    return len(beyond) + (0 if told else len(behind))


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
