"""DICOM series of completed sequences: derived MR images on the grid of their source, marked synthetic everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anymri.inference.output.dicom_object import (
    MR_IMAGE,
    NO_DATE,
    algorithm,
    as_planes,
    derived_uid,
    own_rules,
    pick_source,
    put_references,
    references,
    save_object,
    series_date,
    stand_ins,
)
from anymri.inference.output.options import OutputOptions
from anymri.inference.output.result import NOTICE, Result, SourceSeries
from anymri.inference.words import join_words
from anymri.modalities import MODALITIES

__all__ = ["Stored", "store_values", "write_dicom_mr"]

#: Range of stored values for the brain; 0 is kept for what lies outside it.
LARGEST = 65535


#: Where an image lies: as its source says.
_PLACE = ("FrameOfReferenceUID", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns",
          "SliceThickness", "SpacingBetweenSlices")  # fmt: skip


class Stored(NamedTuple):
    """Values as 16-bit numbers: ``stored * slope + intercept`` is the z-score of the brain.

    Attributes
    ----------
    values : uint16 array
        0 where there is no brain.
    slope, intercept : float
    """

    values: NDArray[np.uint16]
    slope: float
    intercept: float


def store_values(array: NDArray[np.float32]) -> Stored:
    """Put z-scores into 16 bits by a step that is a power of two, so that nothing but its half is lost.

    Parameters
    ----------
    array : float32 array
        z-scores, 0 outside the brain.

    Returns
    -------
    Stored
    """
    brain = array != 0
    inside = array[brain].astype(np.float64)
    if not inside.size:
        return Stored(np.zeros(array.shape, np.uint16), 1.0, 0.0)
    slope = 2.0 ** np.ceil(np.log2(max(float(np.ptp(inside)), 2.0**-8) / (LARGEST - 2)))
    intercept = float(np.floor(inside.min() / slope) - 1) * slope
    values = np.zeros(array.shape, np.uint16)
    values[brain] = np.rint((inside - intercept) / slope)
    return Stored(values, float(slope), intercept)


def write_dicom_mr(result: Result, folder: Path, options: OutputOptions) -> None:
    """Write ``completed/<modality>_synthetic/0001.dcm`` and on, one file a slice; nothing if nothing was completed.

    Parameters
    ----------
    result : Result
    folder : Path
        Of the result.
    options : OutputOptions

    Raises
    ------
    UserError
        If the sequence on whose grid the result is did not come as DICOM.
    """
    _, source = pick_source(result, "--outputs dicom-mr")
    for number, (code, array) in enumerate(result.view.completed.items(), start=1):
        place = folder / "completed" / f"{code}_synthetic"
        place.mkdir(parents=True)
        with own_rules():
            stored = store_values(as_planes(array, source))
            for index, dataset in enumerate(_make_images(result, code, source, stored, number, options), start=1):
                save_object(dataset, place / f"{index:04d}.dcm", options.deidentify)


def _make_images(
    result: Result, code: str, source: SourceSeries, stored: Stored, number: int, options: OutputOptions
) -> Iterator[Any]:
    """One MR image for each slice of the source."""
    slices = references(source.slices)
    headers = stand_ins(source, options.deidentify)
    origin = (code, *(real.instance for real in slices), *algorithm(result).values(), stored.values.tobytes())
    series = derived_uid("synthetic series", *origin)
    template = _template(result, code, headers[0], series, number)
    date, time = series_date(source, options.deidentify)
    template.ContentDate, template.ContentTime = ("", "") if date == NO_DATE else (date, time)
    _put_marks(template, result, code)
    _put_sequence(template, source)
    _put_scale(template, stored)
    for index, header in enumerate(headers):
        dataset = deepcopy(template)
        dataset.SOPInstanceUID = derived_uid("synthetic image", series, index)
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.InstanceNumber = index + 1
        for keyword in _PLACE:
            setattr(dataset, keyword, header[keyword].value)
        dataset.SourceImageSequence = [_source_image(header)]
        put_references(dataset, slices)
        dataset.PixelData = stored.values[index].astype("<u2").tobytes()
        dataset["PixelData"].VR = "OW"
        yield dataset


def _template(result: Result, code: str, header: Any, series: str, number: int) -> Any:
    """What all images of a series share with their study, and what made them."""
    from highdicom.base import SOPClass

    dataset = SOPClass(
        study_instance_uid=header.StudyInstanceUID,
        series_instance_uid=series,
        series_number=9010 + number,
        sop_instance_uid=series,  # of each image, put in later
        sop_class_uid=MR_IMAGE,
        instance_number=1,
        modality="MR",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        patient_id=header.PatientID,
        patient_name=header.PatientName,
        patient_birth_date=header.PatientBirthDate,
        patient_sex=header.PatientSex,
        accession_number=header.AccessionNumber,
        study_id=header.StudyID,
        study_date=header.StudyDate,
        study_time=header.StudyTime,
        referring_physician_name=header.ReferringPhysicianName,
        series_description=f"SYNTHETIC {MODALITIES[code].short_name}, not acquired, RESEARCH ONLY",
        **algorithm(result),
    )
    dataset.copy_patient_and_study_information(header)
    return dataset


def _put_marks(dataset: Any, result: Result, code: str) -> None:
    """Say that the image is synthetic, of what it was made and by what."""
    from pydicom.dataset import Dataset

    made_from = join_words([MODALITIES[one].short_name for one in result.available])
    facts = algorithm(result)
    text = f"SYNTHETIC {MODALITIES[code].long_name}: computed from {made_from}, never acquired. {NOTICE}"
    dataset.ImageType = ["DERIVED", "SECONDARY", "OTHER", "SYNTHETIC"]
    dataset.SyntheticData = "YES"
    dataset.DerivationDescription = dataset.ImageComments = text
    dataset.BurnedInAnnotation = "NO"
    dataset.RecognizableVisualFeatures = "NO"  # the head around the brain is empty
    dataset.LossyImageCompression = "00"
    equipment = Dataset()
    equipment.PurposeOfReferenceCodeSequence = [_code("109102", "DCM", "Processing Equipment")]
    equipment.Manufacturer, equipment.ManufacturerModelName = facts["manufacturer"], facts["manufacturer_model_name"]
    equipment.SoftwareVersions, equipment.DeviceSerialNumber = facts["software_versions"], facts["device_serial_number"]
    equipment.ContributionDescription = text
    dataset.ContributingEquipmentSequence = [equipment]


def _put_sequence(dataset: Any, source: SourceSeries) -> None:
    """Fields of an MR image: what was never measured is empty, and the technique is given as research."""
    header = next(iter(source.slices.headers.values()))
    dataset.ScanningSequence, dataset.SequenceVariant, dataset.ScanOptions = "RM", "NONE", ""
    dataset.MRAcquisitionType = dataset.RepetitionTime = dataset.EchoTime = dataset.EchoTrainLength = None
    dataset.PatientPosition = str(header.get("PatientPosition") or "")
    dataset.PositionReferenceIndicator = ""
    dataset.BodyPartExamined = "BRAIN"


def _put_scale(dataset: Any, stored: Stored) -> None:
    """Form of the pixels, what they stand for, and a window that shows the brain.

    The plain scale factors of other kinds of images are not part of the standard's MR image.
    """
    from pydicom.dataset import Dataset

    inside = stored.values[stored.values > 0]
    low, high = np.percentile(inside, [0.5, 99.5]) if inside.size else (0.0, 1.0)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset.PixelPaddingValue = 0
    dataset["PixelPaddingValue"].VR = "US"
    dataset.WindowCenter, dataset.WindowWidth = round((low + high) / 2, 1), round(max(high - low, 1.0), 1)
    scale = Dataset()
    scale.RealWorldValueSlope, scale.RealWorldValueIntercept = stored.slope, stored.intercept
    scale.RealWorldValueFirstValueMapped, scale.RealWorldValueLastValueMapped = 1, LARGEST
    scale.LUTLabel, scale.LUTExplanation = "Z_SCORE", "z-score inside the brain"
    scale.MeasurementUnitsCodeSequence = [_code("1", "UCUM", "no units")]
    for keyword in ("RealWorldValueFirstValueMapped", "RealWorldValueLastValueMapped"):
        scale[keyword].VR = "US"
    dataset.RealWorldValueMappingSequence = [scale]


def _source_image(header: Any) -> Any:
    """Reference to the slice of the source at the same place."""
    from pydicom.dataset import Dataset

    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    item.PurposeOfReferenceCodeSequence = [_code("121322", "DCM", "Source image for image processing operation")]
    return item


def _code(value: str, scheme: str, meaning: str) -> Any:
    from highdicom.sr import CodedConcept

    return CodedConcept(value, scheme, meaning)
