"""Formats of a result: what other programs read is what was predicted, says where it is from, and names nobody."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from anymri.data.dicom import DicomSource, read_series, scan_series
from anymri.data.formats import write_dicom
from anymri.data.geometry import Geometry
from anymri.data.raw.source import find_raw
from anymri.errors import UserError
from anymri.inference.output.bids import ROOT, join_bids
from anymri.inference.output.deidentify import SEED, without_names
from anymri.inference.output.dicom_mr import store_values
from anymri.inference.output.formats import OUTPUTS, check_outputs
from anymri.inference.output.result import Result, SourceSeries, View
from anymri.inference.output.surface import region_surface
from anymri.inference.output.write import write_result
from anymri.types import GLIOMA

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")
NAME = "Doe^Jane"
SLICES, ROWS, COLUMNS = 16, 20, 24


def oblique() -> Geometry:
    """Slices turned about two axes, stored from head to foot."""
    a, b = 0.3, 0.2
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    turn = turn @ np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-0.9, -1.1, -3.0])
    affine[:3, 3] = 31, -20, 40
    return Geometry(affine, (COLUMNS, ROWS, SLICES))


def label_map() -> np.ndarray:
    """Every label, none of them the same in two mirrored halves."""
    label = np.zeros((SLICES, ROWS, COLUMNS), np.uint8)
    label[4:11, 5:12, 6:13] = 2
    label[5:8, 6:9, 7:12] = 1
    label[9, 6:8, 7:9] = 3
    return label


def write_source(folder: Path) -> None:
    image = np.random.default_rng(0).integers(1, 900, (SLICES, ROWS, COLUMNS)).astype(np.int16)
    write_dicom(folder, image, oblique(), "study/t1")
    for file in folder.iterdir():
        header = pydicom.dcmread(file)
        header.SeriesDescription, header.PatientName, header.PatientID = "T1", NAME, "77"
        header.PatientSex, header.PatientBirthDate, header.StudyDate = "W", "19500101", "20240531"
        header.StudyDescription, header.InstitutionName = f"of {NAME}", "Clinic of Doe"
        header.SliceThickness = 2.5
        header.save_as(file)


def as_multi_frame(folder: Path, target: Path) -> None:
    """The slices of a series as frames of one enhanced object, the last first, with frames of another echo between."""
    from pydicom.dataset import Dataset

    headers = sorted((pydicom.dcmread(file) for file in folder.iterdir()), key=lambda one: -one.InstanceNumber)
    many = pydicom.dcmread(next(folder.iterdir()))

    def item(**fields: object) -> list[Any]:
        one = Dataset()
        for name, value in fields.items():
            setattr(one, name, value)
        return [one]

    many.SOPClassUID = many.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4.1"
    many.SOPInstanceUID = many.file_meta.MediaStorageSOPInstanceUID = "1.2.5"
    shared, frames, pixels = Dataset(), [], []
    shared.PixelMeasuresSequence = item(PixelSpacing=many.PixelSpacing, SliceThickness=2.5)
    shared.PlaneOrientationSequence = item(ImageOrientationPatient=many.ImageOrientationPatient)
    for header in headers:
        for echo in (90.0, 10.0):
            frame = Dataset()
            frame.PlanePositionSequence = item(ImagePositionPatient=header.ImagePositionPatient)
            frame.MREchoSequence = item(EffectiveEchoTime=echo)
            frames.append(frame)
            pixels.append(header.pixel_array + int(echo))
    for name in ("PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient", "SliceThickness"):
        delattr(many, name)
    many.SharedFunctionalGroupsSequence, many.PerFrameFunctionalGroupsSequence = [shared], frames
    many.NumberOfFrames, many.RepetitionTime = len(frames), 500
    many.PixelData = np.stack(pixels).astype(np.int16).tobytes()
    target.mkdir()
    many.save_as(target / "many.dcm")


def result_of(folder: Path, name: str = "study") -> Result:
    """A result on the grid of the T1 in a folder, with a completed T1c."""
    volume = read_series(next(series for series in scan_series(folder, {"t1": 1}) if series.modality == "t1"))
    label = label_map()
    brain = np.zeros(label.shape, bool)
    brain[1:-1, 2:-2, 2:-2] = True
    completed = np.where(brain, np.random.default_rng(1).normal(0, 2, label.shape), 0).astype(np.float16)
    counts = {region: float(np.isin(label, GLIOMA.region_values(region)).sum()) for region in GLIOMA.regions}
    view = View(
        images={"t1": volume.array},
        label=label,
        completed={"t1c": completed.astype(np.float32)},
        probability={"whole_tumor": (label > 0).astype(np.float32)},
        entropy=None,
        geometry=volume.geometry,
    )
    return Result(
        name=name,
        volumes_ml={**counts, "enhancing_tumor": None},
        unknown={"enhancing_tumor": "needs T1c, which was not given; a guess"},
        available=("t1",),
        missing=("t1c", "t2", "flair"),
        label_values=dict(GLIOMA.labels),
        trust={"measured": None, "regions": {}},
        warnings=("T1: Doe_Jane/brain of mother.nii.gz is not used",),
        provenance={
            "program": "anymri 0", "model": "a_model", "method": "unet", "weights_sha256": "ab" * 32,
            "inputs": {"t1": {"name": "Doe_Jane_T1.nii.gz", "sha256_of_voxels": "00"}},
        },
        spec=GLIOMA,
        view=view,
        sources={"t1": SourceSeries(volume.dicom, volume.geometry)},
    )  # fmt: skip


@pytest.fixture(scope="module", params=["classic", "multi-frame"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    write_source(folder / "classic")
    if request.param == "multi-frame":
        as_multi_frame(folder / "classic", folder / "multi-frame")
    return folder / request.param


@pytest.fixture(scope="module")
def written(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    result = result_of(source)
    return result, write_result(result, tmp_path_factory.mktemp("out") / "result", outputs=tuple(OUTPUTS))


def places(dataset: Any, frame: int | None = None) -> np.ndarray:
    """Position of a slice in mm, DICOM axes."""
    if frame is not None and "PerFrameFunctionalGroupsSequence" in dataset:
        dataset = dataset.PerFrameFunctionalGroupsSequence[frame].PlanePositionSequence[0]
    return np.array(dataset.ImagePositionPatient, float)


def test_the_segmentation_object_has_the_voxels_at_their_places(written: tuple[Result, Path]) -> None:
    _, folder = written
    label = nib.load(folder / "segmentation.nii.gz")
    dataset = pydicom.dcmread(folder / "segmentation.dcm")
    to_index = np.linalg.inv(label.affine) @ np.diag([-1, -1, 1, 1])
    shared = dataset.SharedFunctionalGroupsSequence[0]
    axes = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(2, 3)
    spacing = shared.PixelMeasuresSequence[0].PixelSpacing
    assert float(shared.PixelMeasuresSequence[0].SliceThickness) == 2.5
    assert float(shared.PixelMeasuresSequence[0].SpacingBetweenSlices) == pytest.approx(3)
    found = np.zeros(label.shape, np.uint8)
    for number, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        segment = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        rows, columns = np.nonzero(dataset.pixel_array[number])
        points = (
            places(dataset, number) + np.outer(columns, axes[0] * spacing[1]) + np.outer(rows, axes[1] * spacing[0])
        )
        index = to_index[:3, :3] @ points.T + to_index[:3, 3:]
        assert np.abs(index - index.round()).max(initial=0) < 1e-3
        found[tuple(index.round().astype(int))] = segment
    assert np.array_equal(found, np.asarray(label.dataobj))
    assert dataset.NumberOfFrames == 3 * SLICES  # empty slices too


def test_the_segmentation_object_refers_to_each_slice_of_its_source(source: Path, written: tuple[Result, Path]) -> None:
    _, folder = written
    dataset = pydicom.dcmread(folder / "segmentation.dcm")
    originals = {one.SOPInstanceUID: one for one in map(pydicom.dcmread, source.iterdir())}
    first = next(iter(originals.values()))
    (series,) = dataset.ReferencedSeriesSequence
    named = [item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence]
    assert sorted(named) == sorted(originals)
    assert series.SeriesInstanceUID == first.SeriesInstanceUID
    assert dataset.FrameOfReferenceUID == first.get("FrameOfReferenceUID", dataset.FrameOfReferenceUID)
    assert dataset.StudyInstanceUID == first.StudyInstanceUID
    for number, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        (item,) = frame.DerivationImageSequence[0].SourceImageSequence
        original = originals[item.ReferencedSOPInstanceUID]
        assert item.ReferencedSOPClassUID == original.SOPClassUID
        place = item.get("ReferencedFrameNumber")
        assert (place is None) == (len(originals) > 1)
        if place is not None:  # of the echo that was read, not of the other
            group = original.PerFrameFunctionalGroupsSequence[place - 1]
            assert group.MREchoSequence[0].EffectiveEchoTime == 10
        assert np.allclose(places(original, None if place is None else place - 1), places(dataset, number), atol=1e-4)
    assert [item.SegmentLabel for item in dataset.SegmentSequence][2].endswith("(guess)")
    assert dataset.PatientName == NAME
    assert dataset.PatientSex == ""  # the source's "W" is no value of the standard
    assert "RESEARCH" in dataset.ContentLabel


def test_completed_series_are_marked_and_lie_on_their_source(source: Path, written: tuple[Result, Path]) -> None:
    _, folder = written
    files = sorted((folder / "completed" / "t1c_synthetic").iterdir())
    image = nib.load(folder / "completed" / "t1c_synthetic.nii.gz")
    assert len(files) == SLICES
    for file in files:
        dataset = pydicom.dcmread(file)
        assert dataset.SyntheticData == "YES"
        assert dataset.ImageType[0] == "DERIVED"
        assert dataset.SeriesDescription.startswith("SYNTHETIC")
        index = np.linalg.inv(image.affine) @ np.append(places(dataset) * (-1, -1, 1), 1)
        plane = np.asarray(image.dataobj)[:, :, round(index[2])].T
        scale = dataset.RealWorldValueMappingSequence[0]
        values = dataset.pixel_array * scale.RealWorldValueSlope + scale.RealWorldValueIntercept
        assert np.abs(index[:2]).max() < 1e-3
        assert np.array_equal(dataset.pixel_array > 0, plane != 0)
        assert np.abs(np.where(plane != 0, values - plane, 0)).max() <= scale.RealWorldValueSlope / 2
    again = scan_series(folder / "completed" / "t1c_synthetic")
    assert [series.modality for series in again] == [None]  # nobody predicts from it


def test_the_same_result_gives_the_same_bytes(written: tuple[Result, Path], tmp_path: Path) -> None:
    result, folder = written
    again = write_result(result, tmp_path / "again", outputs=tuple(OUTPUTS))
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert [file for file in files if (folder / file).read_bytes() != (again / file).read_bytes()] == []


def test_nothing_of_the_person_is_left(source: Path, tmp_path: Path) -> None:
    folder = write_result(result_of(source, "Jane Doe 1950"), tmp_path / "r", outputs=tuple(OUTPUTS), deidentify=True)
    content = b"".join(file.read_bytes() for file in folder.rglob("*") if file.suffix in (".dcm", ".json"))
    content += re.sub(rb"base64,[A-Za-z0-9+/=]+", b"", (folder / "report.html").read_bytes())
    for word in (b"Doe", b"Jane", b"1950", b"mother", b"Clinic", b"20240531"):
        assert word not in content, word
    originals = {one.SOPInstanceUID for one in map(pydicom.dcmread, source.iterdir())}
    for file in folder.rglob("*.dcm"):
        dataset = pydicom.dcmread(file)
        assert dataset.PatientID == ""
        assert dataset.PatientIdentityRemoved == "YES"
        assert not any(uid.encode() in file.read_bytes() for uid in originals)
    assert "Doe" not in str([path.name for path in folder.rglob("*")])


def test_a_de_identified_object_fits_the_copy_that_dicognito_makes(source: Path, tmp_path: Path) -> None:
    from dicognito.anonymizer import Anonymizer

    copy = [pydicom.dcmread(file) for file in source.iterdir()]
    for dataset in copy:
        Anonymizer(seed=SEED).anonymize(dataset)
    instances = {str(dataset.SOPInstanceUID) for dataset in copy}
    folder = write_result(result_of(source), tmp_path / "r", outputs=("dicom-seg",), deidentify=True)
    dataset = pydicom.dcmread(folder / "segmentation.dcm")
    assert dataset.StudyInstanceUID == copy[0].StudyInstanceUID
    (series,) = dataset.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == copy[0].SeriesInstanceUID
    assert {item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence} == instances
    items = [
        frame.DerivationImageSequence[0].SourceImageSequence[0] for frame in dataset.PerFrameFunctionalGroupsSequence
    ]
    assert {item.ReferencedSOPInstanceUID for item in items} == instances


@pytest.mark.parametrize(
    ("encoding", "name"),
    [("ISO_IR 100", "Müller^Jörg"), (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"), (None, "A")],
)
def test_names_in_any_alphabet_are_handed_on(encoding: Any, name: str, tmp_path: Path) -> None:
    write_source(tmp_path / "source")
    for file in (tmp_path / "source").iterdir():
        header = pydicom.dcmread(file)
        header.SpecificCharacterSet, header.PatientName = encoding, name
        header.save_as(file)
    folder = write_result(result_of(tmp_path / "source"), tmp_path / "r", outputs=("dicom-seg", "dicom-mr"))
    for file in folder.rglob("*.dcm"):
        dataset = pydicom.dcmread(file)
        assert dataset.SpecificCharacterSet == "ISO_IR 192"
        assert str(dataset.PatientName) == name


def test_names_that_only_a_folder_knows_are_taken_out(source: Path) -> None:
    result = replace(result_of(source), warnings=("brain of mother (2) is not used: T1 twice",))
    assert "mother" not in str(without_names(result, ["brain of mother (2)"]).warnings)


def test_what_cannot_be_written_is_refused_in_one_line(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such format; choose of nifti, dicom-seg"):
        check_outputs("nifti,dicom")
    with pytest.raises(UserError, match="names no format"):
        check_outputs(" , ")
    result = result_of(source)
    with pytest.raises(UserError, match="did not come as DICOM; give the DICOM study, or leave dicom-seg out"):
        write_result(replace(result, sources={}), tmp_path / "r", outputs=("dicom-seg",))
    with pytest.raises(UserError, match="--seg-series flair: no sequence of the study that came as DICOM"):
        write_result(result, tmp_path / "r", outputs=("dicom-seg",), seg_series="flair")
    gone = DicomSource(
        tuple(replace(frame, file=tmp_path / "gone.dcm") for frame in result.sources["t1"].slices.frames)
    )
    lost = replace(result, sources={"t1": SourceSeries(gone, result.view.geometry)})
    with pytest.raises(UserError, match="cannot be read any more"):
        write_result(lost, tmp_path / "r", outputs=("dicom-seg",))
    assert not (tmp_path / "r").exists()


def test_the_headers_of_an_archive_are_there_when_its_files_are_gone(source: Path, tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "study"), "zip", source)
    volume = find_raw(Path(archive), {"t1": "1"}, ["t1"]).images["t1"]
    files = list(source.iterdir())
    assert not any(file.exists() for file in volume.dicom.headers)
    assert {header.SOPInstanceUID for header in volume.dicom.headers.values()} == {
        pydicom.dcmread(file).SOPInstanceUID for file in files
    }


def test_a_result_without_nifti_holds_none(source: Path, tmp_path: Path) -> None:
    folder = write_result(result_of(source), tmp_path / "r", outputs=("dicom-seg",))
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "result.json", "segmentation.dcm"]


def test_bids_derivatives_name_the_study_and_what_they_were_made_of(source: Path, tmp_path: Path) -> None:
    result = result_of(source)
    entry = {**result.provenance["inputs"]["t1"], "name": "sub-07_ses-2_T1w.nii.gz"}
    result = replace(result, provenance={**result.provenance, "inputs": {"t1": entry}})
    folders = [write_result(result, tmp_path / "a", outputs=("bids",))]
    folders.append(write_result(result_of(source, "case 1/2"), tmp_path / "b", outputs=("bids",)))
    root = join_bids([*folders, source], tmp_path / "all")
    assert root == tmp_path / "all" / ROOT
    assert sorted(path.name for path in root.iterdir() if path.is_dir()) == ["sub-07", "sub-case12"]
    anat = root / "sub-07" / "ses-2" / "anat"
    facts = json.loads((anat / "sub-07_ses-2_dseg.json").read_text())
    assert facts["Sources"] == ["bids:raw:sub-07/ses-2/anat/sub-07_ses-2_T1w.nii.gz"]
    assert json.loads((folders[0] / ROOT / "dataset_description.json").read_text())["DatasetLinks"] == {"raw": "../../"}
    assert np.array_equal(np.unique(nib.load(anat / "sub-07_ses-2_dseg.nii.gz").dataobj), [0, 1, 2, 3])
    assert (root / "dseg.tsv").read_text().splitlines()[3].startswith("2\tOedema")
    synthetic = json.loads((anat / "sub-07_ses-2_ce-gadolinium_desc-synthetic_T1w.json").read_text())
    assert synthetic["Synthetic"] is True
    with pytest.raises(UserError, match="has the same BIDS name as"):
        join_bids([folders[0], write_result(result, tmp_path / "c", outputs=("bids",))], tmp_path / "twice")


@pytest.mark.parametrize("voxels", [[(3, 3, 3)], [(2, 3, 3), (3, 4, 3)], None])
def test_a_surface_is_closed_and_holds_the_volume_of_its_voxels(voxels: list[tuple[int, int, int]] | None) -> None:
    pytest.importorskip("trimesh")
    region = label_map() > 0
    if voxels:  # alone, and touching by an edge
        region = np.zeros((8, 8, 8), bool)
        region[tuple(np.transpose(voxels))] = True
    affine = oblique().affine_dhw if voxels is None else np.diag([-2.0, 1.0, 3.0, 1.0])
    mesh = region_surface(region, affine)
    wanted = region.sum() * abs(np.linalg.det(affine[:3, :3]))
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.volume == pytest.approx(wanted, rel=0.02)
    middle = affine @ np.append(np.argwhere(region).mean(axis=0), 1)
    assert np.abs(mesh.center_mass - middle[:3] * (-1, -1, 1)).max() < 0.5
    assert region_surface(np.zeros((3, 3, 3), bool), affine) is None


def test_values_are_stored_with_no_more_than_half_a_step_lost() -> None:
    values = np.array([0, -3.2, -0.0004, 0.1, 9.7], np.float32)
    stored = store_values(values)
    assert stored.values.dtype == np.uint16
    assert stored.values[0] == 0
    assert (stored.values[1:] > 0).all()
    back = stored.values[1:] * stored.slope + stored.intercept
    assert np.abs(back - values[1:]).max() <= stored.slope / 2 < 2e-4
    assert not store_values(np.zeros(3, np.float32)).values.any()
