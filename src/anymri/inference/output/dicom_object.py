"""DICOM objects of a result: what segmentation and completed series share with their source, and identifiers.

Identifiers follow from the source and the result, and dates are the source's, so that one prediction gives the same
bytes each time.
"""

from __future__ import annotations

import hashlib
import re
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymri.data.dicom import DicomSource
from anymri.data.geometry import to_native
from anymri.inference.output.deidentify import deidentify_object
from anymri.inference.output.result import Result, SourceSeries
from anymri.modalities import MODALITIES
from anymri.types import UserError

__all__ = ["ReferencedSlice", "algorithm", "as_planes", "derived_uid", "own_rules", "pick_source", "put_references",
           "save_object", "series_date", "stand_ins"]  # fmt: skip

#: MR Image Storage; what highdicom takes every source for, before the real class is put in.
MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
#: Fields that have to be there, perhaps empty, in objects of the same study.
_STUDY = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
          "StudyTime", "ReferringPhysicianName")  # fmt: skip
#: Beginning of the instance identifiers of stand-ins; below 2.25 no real one has two parts.
_STAND_IN = "2.25.0."
#: What is written where a source says no date, or it must not be told: these fields must not be empty.
NO_DATE, NO_TIME = "19000101", "000000"


@dataclass(frozen=True)
class ReferencedSlice:
    """A slice of a source, as other objects refer to it.

    Parameters
    ----------
    sop_class : str
    instance : str
    frame : int or None
        Number of the frame in a multi-frame object, from 1 on.
    """

    sop_class: str
    instance: str
    frame: int | None


@contextmanager
def own_rules() -> Iterator[None]:
    """Let values of the source pass as they are, and keep warnings that quote them from the terminal."""
    import pydicom

    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        yield


def pick_source(result: Result, option: str, chosen: str | None = None) -> tuple[str, SourceSeries]:
    """Sequence whose series an object refers to: the chosen one, else that on whose grid the result is.

    Parameters
    ----------
    result : Result
    option : str
        For messages, e.g. ``"--outputs dicom-seg"``.
    chosen : str or None, default=None

    Returns
    -------
    code : str
    source : SourceSeries

    Raises
    ------
    UserError
        If the sequence did not come as DICOM, or its headers lack what a reference needs.
    """
    came = ", ".join(result.sources) or "none"
    if chosen is not None and chosen not in result.sources:
        raise UserError(f"--seg-series {chosen}: no sequence of the study that came as DICOM; choose of {came}")
    code = chosen or result.reference or next(iter(result.sources), "")
    if code not in result.sources:
        name = MODALITIES[code].long_name if code in MODALITIES else "the reference"
        raise UserError(f"{option}: the result is on the grid of {name}, which did not come as DICOM; of DICOM: {came}")
    headers = result.sources[code].slices.headers.values()
    for keyword in ("SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"):
        if any(not header.get(keyword) for header in headers):
            problem = f"the files of {MODALITIES[code].long_name} have no {keyword} to refer to"
            raise UserError(f"{option}: {problem}; export the study again, or leave this format out")
    series = {str(header.SeriesInstanceUID) for header in headers}
    if len(series) > 1:
        problem = f"the slices of {MODALITIES[code].long_name} are spread over {len(series)} series identifiers"
        raise UserError(f"{option}: {problem}; export the study again, or leave this format out")
    return code, result.sources[code]


def derived_uid(*parts: object) -> str:
    """Identifier that follows from what it is made of."""
    text = "\n".join(part.hex() if isinstance(part, bytes) else str(part) for part in parts)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, digest).int}"


def as_planes(array: NDArray[Any], source: SourceSeries) -> NDArray[Any]:
    """An array (D, H, W) as the slices of its source, shape (slice, row, column)."""
    return np.ascontiguousarray(to_native(array, source.geometry).transpose(2, 1, 0))


def references(slices: DicomSource) -> list[ReferencedSlice]:
    """The slices of a source as other objects refer to them."""
    found = []
    for frame in slices.frames:
        header = slices.headers[frame.file]
        number = None if frame.index is None else frame.index + 1
        found.append(ReferencedSlice(str(header.SOPClassUID), str(header.SOPInstanceUID), number))
    return found


def stand_ins(source: SourceSeries, deidentify: bool) -> list[Any]:
    """One plain header for each slice of a source, multi-frame or not, for highdicom to refer to.

    Parameters
    ----------
    source : SourceSeries
    deidentify : bool
        Whether to leave out all of the person and of the study but its identifier.

    Returns
    -------
    list of pydicom.Dataset
        Their instance identifiers are numbers of the slices; `put_references` puts the real ones in.
    """
    from pydicom.dataset import Dataset

    frames, headers = source.slices.frames, source.slices.headers
    first = headers[frames[0].file]
    spacing = [float(value) for value in frames[0].facts["PixelSpacing"]]
    found = []
    for number, frame in enumerate(frames):
        plain = Dataset() if number or deidentify else _without_pixels(first)
        for keyword in _STUDY:
            plain.setdefault(keyword, "")
        _mend_study(plain)
        series = str(first.SeriesInstanceUID)
        plain.StudyInstanceUID = str(first.get("StudyInstanceUID") or derived_uid("study", series))
        plain.SeriesInstanceUID, plain.SOPInstanceUID = series, f"{_STAND_IN}{number + 1}"
        plain.SOPClassUID, plain.Modality = MR_IMAGE, "MR"
        plain.FrameOfReferenceUID = str(first.get("FrameOfReferenceUID") or derived_uid("frame of reference", series))
        plain.Rows, plain.Columns = int(frame.facts["Rows"]), int(frame.facts["Columns"])
        plain.PixelSpacing = spacing
        plain.SpacingBetweenSlices = slice_step_mm(source)
        plain.SliceThickness = frame.facts.get("SliceThickness") or plain.SpacingBetweenSlices
        plain.ImagePositionPatient = list(frame.facts["ImagePositionPatient"])
        plain.ImageOrientationPatient = list(frames[0].facts["ImageOrientationPatient"])
        found.append(plain)
    return found


def _without_pixels(header: Any) -> Any:
    """A copy of a header that says nothing of many frames."""
    plain = deepcopy(header)
    for keyword in ("NumberOfFrames", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        if keyword in plain:
            del plain[keyword]
    plain.remove_private_tags()
    return plain


def _mend_study(plain: Any) -> None:
    """Empty or drop what the source says in a form that the standard does not allow, so that it is not handed on."""
    from pydicom.config import RAISE
    from pydicom.valuerep import validate_value

    for element in list(plain):
        values = [element.value] if isinstance(element.value, str) or element.VM < 2 else element.value
        try:
            for value in values if element.VR in ("AS", "CS", "DA", "TM", "LO", "SH", "UI") else ():
                validate_value(element.VR, str(value or ""), RAISE)
        except ValueError:
            if element.keyword in _STUDY:
                element.value = ""
            else:
                del plain[element.tag]
    if str(plain.PatientSex) not in ("", "M", "F", "O"):
        plain.PatientSex = ""


def slice_step_mm(source: SourceSeries) -> float:
    """Distance of neighbouring slices by their places; what headers say of it is sometimes the gap alone."""
    return round(float(np.linalg.norm(source.geometry.affine[:3, 2])), 6)


def series_date(source: SourceSeries, deidentify: bool) -> tuple[str, str]:
    """Date and time that objects made from a source carry: the source's, never the clock's."""
    header = next(iter(source.slices.headers.values()))
    for kind in () if deidentify else ("Series", "Acquisition", "Content", "Study"):
        date = str(header.get(f"{kind}Date") or "")
        if re.fullmatch(r"\d{8}", date):
            time = str(header.get(f"{kind}Time") or "")
            return date, time if re.fullmatch(r"\d{6}(\.\d{1,6})?", time) else NO_TIME
    return NO_DATE, NO_TIME


def put_references(dataset: Any, slices: list[ReferencedSlice]) -> None:
    """Put the real class, instance and frame in the place of the numbers that `stand_ins` gave, in all sequences."""
    for element in dataset:
        if element.VR != "SQ":
            continue
        for item in element.value:
            put_references(item, slices)
            uid = str(item.get("ReferencedSOPInstanceUID") or "")
            if not uid.startswith(_STAND_IN):
                continue
            real = slices[int(uid.removeprefix(_STAND_IN)) - 1]
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = real.sop_class, real.instance
            if real.frame is not None and element.keyword == "SourceImageSequence":
                item.ReferencedFrameNumber = real.frame
        if element.keyword == "ReferencedInstanceSequence":  # a multi-frame object once
            seen = {str(item.ReferencedSOPInstanceUID): item for item in reversed(element.value)}
            element.value = list(reversed(seen.values()))


def algorithm(result: Result) -> dict[str, Any]:
    """What names program and model in every object, each within the 64 characters of a field."""
    program = str(result.provenance["program"])
    return {
        "manufacturer": "anymri",
        "manufacturer_model_name": str(result.provenance["model"])[:64],
        "software_versions": program[:64],
        "device_serial_number": str(result.provenance["weights_sha256"])[:64] or "in memory",
    }


def save_object(dataset: Any, path: Path, deidentify: bool) -> None:
    """Write a DICOM object, without the clock's time, and if asked for de-identified."""
    from pydicom import dcmread

    dataset.SpecificCharacterSet = "ISO_IR 192"  # UTF-8: viewers in a browser read no mixture of older ones
    for keyword in ("InstanceCreationDate", "InstanceCreationTime"):
        if keyword in dataset:
            del dataset[keyword]
    for item in dataset.get("ContributingEquipmentSequence", []):
        item.pop("ContributionDateTime", None)
    if deidentify:
        plain = BytesIO()  # read anew, since items that frames share would get a new identifier for each frame
        dataset.save_as(plain, enforce_file_format=True)
        dataset = dcmread(BytesIO(plain.getvalue()))
        deidentify_object(dataset)
    dataset.save_as(path, enforce_file_format=True)
