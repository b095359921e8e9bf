"""DICOM segmentation object of a result: one segment per label, over the slices of its source series."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from anymri.inference.output.dicom_object import (
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
from anymri.inference.output.result import Result
from anymri.inference.pictures import label_colours
from anymri.inference.words import title
from anymri.types import UserError

__all__ = ["FILE", "write_dicom_seg"]

#: Name of the object in the folder of a result.
FILE = "segmentation.dcm"


class Concept(NamedTuple):
    """A code of a public terminology."""

    value: str
    scheme: str
    meaning: str


_ABNORMAL = Concept("49755003", "SCT", "Morphologically Abnormal Structure")
#: Property type of every label name that has a code of its own (CID 7151 and 7159).
TYPES = {
    "ncr": Concept("6574001", "SCT", "Necrosis"),
    "edema": Concept("79654002", "SCT", "Edema"),
    "et": Concept("C113842", "NCIt", "Enhancing Lesion"),
    "infarct": Concept("55641003", "SCT", "Infarct"),
    "wmh": Concept("110702", "DCM", "White Matter T2 Hyperintensity"),
}
#: Of any other label.
OTHER_TYPE = Concept("52988006", "SCT", "Lesion")
_BRAIN = Concept("12738006", "SCT", "Brain")


def write_dicom_seg(result: Result, folder: Path, options: OutputOptions) -> None:
    """Write ``segmentation.dcm``.

    Parameters
    ----------
    result : Result
    folder : Path
        Of the result.
    options : OutputOptions

    Raises
    ------
    UserError
        If the model does not segment, or the chosen sequence did not come as DICOM.
    """
    code, source = pick_source(result, "--outputs dicom-seg", options.seg_series)
    label = result.label_on(code)
    if label is None:
        raise UserError(
            f"--outputs dicom-seg: model {result.provenance['model']} completes and does not segment; leave it out"
        )
    with own_rules():
        dataset = _make_object(result, code, as_planes(label, source), options)
        save_object(dataset, folder / FILE, options.deidentify)


def _make_object(result: Result, code: str, planes: Any, options: OutputOptions) -> Any:
    """The object, with identifiers that follow from the source and the voxels."""
    from highdicom import PixelMeasuresSequence
    from highdicom.seg import Segmentation

    source = result.sources[code]
    slices = references(source.slices)
    headers = stand_ins(source, options.deidentify)
    numbers = np.zeros(256, np.uint8)
    for number, value in enumerate(result.spec.labels.values(), start=1):
        numbers[value] = number
    origin = (*(real.instance for real in slices), *algorithm(result).values(), planes.tobytes())
    series = derived_uid("segmentation series", *origin)
    date, time = series_date(source, options.deidentify)
    dataset = Segmentation(
        source_images=headers,
        pixel_array=numbers[planes],
        segmentation_type="BINARY",
        segment_descriptions=_segments(result),
        series_instance_uid=series,
        series_number=9001,
        sop_instance_uid=derived_uid("segmentation", series),
        instance_number=1,
        pixel_measures=PixelMeasuresSequence(
            pixel_spacing=headers[0].PixelSpacing,
            slice_thickness=headers[0].SliceThickness,
            spacing_between_slices=headers[0].SpacingBetweenSlices,
        ),
        omit_empty_frames=False,  # readers that take the frames for the grid would get fewer slices
        content_label="RESEARCH",
        content_description="Automatic segmentation, for research use only",
        content_date=date,
        content_time=time,
        series_description=f"RESEARCH ONLY: anymri {result.provenance['model']}"[:64],
        specific_character_set=None,
        **algorithm(result),
    )
    dataset.BurnedInAnnotation, dataset.ContentCreatorName = "NO", ""
    organisation = derived_uid("dimensions", series)
    for sequence in (dataset.DimensionOrganizationSequence, dataset.DimensionIndexSequence):
        for item in sequence:
            item.DimensionOrganizationUID = organisation
    put_references(dataset, slices)
    return dataset


def _segments(result: Result) -> list[Any]:
    """Description of one segment for each label, numbered from 1 on in the order of the specification."""
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription
    from highdicom.sr import CodedConcept
    from pydicom.sr.codedict import codes

    facts = result.provenance
    made_by = AlgorithmIdentificationSequence(
        name=f"anymri {facts['model']}"[:64],
        family=codes.DCM.ArtificialIntelligence,
        version=str(facts["program"])[:64],
        parameters={"method": str(facts["method"]), "weights_sha256": facts["weights_sha256"] or "in memory"},
    )
    guessed = {
        label: reason.partition(";")[0]
        for region, reason in result.unknown.items()
        for label in result.spec.regions[region]
    }
    colours = label_colours(result.spec)
    found = []
    for number, label in enumerate(result.spec.labels, start=1):
        guess = " (guess)" if label in guessed else ""
        segment = SegmentDescription(
            segment_number=number,
            segment_label=f"{title(label)[: 64 - len(guess)]}{guess}",
            segmented_property_category=CodedConcept(*_ABNORMAL),
            segmented_property_type=CodedConcept(*TYPES.get(label, OTHER_TYPE)),
            algorithm_type="AUTOMATIC",
            algorithm_identification=made_by,
            anatomic_regions=[CodedConcept(*_BRAIN)],
            display_color=CIELabColor.from_rgb(*colours[label]),
        )
        why = f" A guess: {guessed[label]}." if label in guessed else ""
        segment.SegmentDescription = f"For research use only.{why}"
        found.append(segment)
    return found
