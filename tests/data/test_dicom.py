"""DICOM studies: what each series is, what is left out and why, what is chosen, and that no name gets out."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anymri.data.dicom import Series, is_dicom_study, open_study, read_series, scan_series, scan_study
from anymri.data.formats import write_dicom
from anymri.data.geometry import Geometry
from anymri.data.nifti import read_image
from anymri.data.raw.source import Found, find_raw
from anymri.types import UserError

pydicom = pytest.importorskip("pydicom")
NAME = "Doe^Jane"
MODEL = ["t1", "t1c", "t2", "flair"]
T1, T2 = {"RepetitionTime": 500, "EchoTime": 10}, {"RepetitionTime": 5000, "EchoTime": 100}
FLAIR = {"RepetitionTime": 9000, "EchoTime": 120, "InversionTime": 2500}
Edit = Callable[[Any, int], None]


def grid(slices: int = 12, gap_mm: float = 3.0) -> Geometry:
    return Geometry(np.diag([-1.0, -1.0, gap_mm, 1.0]), (24, 20, slices))


def image(slices: int = 12, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 900, (slices, 20, 24)).astype(np.int16)


def write(
    folder: Path,
    text: str,
    *,
    slices: int = 12,
    gap_mm: float = 3.0,
    seed: int = 0,
    edit: Edit | None = None,
    **tags: object,
) -> list[Path]:
    """A series of one study for each parent folder; every header names a person."""
    write_dicom(folder, image(slices, seed), grid(slices, gap_mm), f"{folder.parent.name}/{folder.name}")
    files = sorted(folder.iterdir())
    for number, file in enumerate(files):
        header = pydicom.dcmread(file)
        header.SeriesDescription, header.PatientName, header.PatientID = text, NAME, "77"
        for tag, value in tags.items():
            setattr(header, tag, value)
        if edit:
            edit(header, number)
        header.save_as(file)
    return files


def used(found: list[Series]) -> dict[str, int]:
    return {series.modality: series.number for series in found if series.modality}


def find(folder: Path, **options: Any) -> Found:
    return find_raw(folder, {}, MODEL, **options)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """T1 (twice), FLAIR with a gap, localiser; every header names a person."""
    texts = {"a_t1": f"T1 {NAME}", "b_t1": "T1 repeat", "c_flair": "FLAIR", "d_loc": "localizer"}
    for folder, text in texts.items():
        write(tmp_path / "study" / folder, text)
    (tmp_path / "study" / "c_flair" / "IMG-0006.dcm").unlink()
    return tmp_path / "study"


def test_series_are_used_or_left_out_with_a_reason(study: Path) -> None:
    found = scan_series(study)
    assert [series.modality for series in found] == [None, "t1", None, None]
    for series, word in zip(found, ("duplicate", "description", "incomplete", "localiser"), strict=True):
        assert word in series.reason
    assert "Doe" not in str([series.describe() for series in found])


def test_what_is_not_used_is_noted(study: Path) -> None:
    choice, gap, others = find(study).notes
    assert choice == "T1-weighted: series 1 and 2 can be used; 2 was taken (of equals the last)"
    assert gap.startswith("FLAIR: series 3 is not used: incomplete: 1 slice is missing in between; ")
    assert gap.endswith("the largest part without a gap has 6 of 11 slices (18 mm), too few")
    assert others == "1 other series was left out: 1 localiser"


def test_objects_of_no_known_class_and_zeros_behind_pixels_are_told(tmp_path: Path) -> None:
    files = write(tmp_path / "study" / "a", "FLAIR", slices=14)
    files[3].write_bytes(files[3].read_bytes() + bytes(80))
    header = pydicom.dcmread(files[-1])
    del header.Rows, header.Columns
    header.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4999"  # of the standard, which knows no such
    header.save_as(files[-1])
    header = pydicom.dcmread(files[0])
    del header.file_meta.TransferSyntaxUID
    header.save_as(files[0], implicit_vr=True, little_endian=True, enforce_file_format=False)
    notes = read_image(tmp_path / "study" / "a").notes
    assert any("1 of its files hold zeros behind their pixels" in note for note in notes), notes
    assert any(files[-1].name in note and files[0].name in note for note in notes), notes


def test_the_user_can_choose_another_series(study: Path) -> None:
    found = scan_series(study, {"t1": 1})
    assert [series.number for series in found if series.modality == "t1"] == [1]
    with pytest.raises(UserError, match="no series 9"):
        scan_series(study, {"t1": 9})
    chosen = find_raw(study, {"t1": "1"}, MODEL)
    assert not any(note.startswith("T1-weighted") for note in chosen.notes)


def test_a_zip_archive_reads_as_its_folder(study: Path, tmp_path: Path) -> None:
    archive = tmp_path / "study.zip"
    with zipfile.ZipFile(archive, "w") as target:
        for file in sorted(study.rglob("*.dcm")):
            target.write(file, f"../../{file.parent.name}/{file.name}")
    assert is_dicom_study(archive)
    with open_study(archive) as folder:
        assert [series.modality for series in scan_series(folder)] == [None, "t1", None, None]
    assert not folder.exists()


def test_what_is_wrong_with_an_archive_names_the_archive(tmp_path: Path) -> None:
    archive = tmp_path / "notes.zip"
    with zipfile.ZipFile(archive, "w") as target:
        target.writestr("notes.txt", "nothing to see")
    with pytest.raises(UserError, match=r"^.*notes\.zip: holds no DICOM image; give"), open_study(archive) as folder:
        scan_series(folder)


def test_a_study_without_a_usable_series_is_refused_with_the_reasons(study: Path, tmp_path: Path) -> None:
    archive = tmp_path / "study.zip"
    with zipfile.ZipFile(archive, "w") as target:
        for number, file in enumerate(sorted((study / "b_t1").iterdir())):
            content = file.read_bytes()
            target.writestr(file.name, content[: len(content) // 2] if number == 4 else content)
    with pytest.raises(
        UserError, match=r"^[^\n]*study\.zip: holds no usable t1 [^\n]*missing[^\n]*1 DICOM file is damaged"
    ):
        find_raw(archive, {}, ["t1"])


def test_a_read_series_carries_no_name(study: Path) -> None:
    volume = read_series(scan_series(study)[1])
    assert volume.geometry.header is None
    assert volume.geometry.orientation_known
    assert volume.array.shape == (12, 20, 24)
    assert volume.source == "DICOM series 2"


# People and studies


@pytest.mark.parametrize(
    "other", [{"PatientID": "78"}, {"PatientName": "Roe^Ann"}, {"PatientBirthDate": "19700101"}], ids=str
)
def test_images_of_two_people_are_refused_without_their_names(tmp_path: Path, other: dict[str, str]) -> None:
    write(tmp_path / "study" / "1", "T1", PatientBirthDate="19600101", **T1)
    write(tmp_path / "study" / "2", "T2", **({"PatientBirthDate": "19600101"} | other), **T2)
    with pytest.raises(UserError, match=r"study: holds images of 2 patients; [^\n]*$") as refused:
        find(tmp_path / "study")
    told = str(refused.value).replace(str(tmp_path), "")  # pytest numbers its folders
    assert not any(text in told for text in ("Doe", "Roe", "78", "1970"))


def test_one_person_written_in_two_ways_is_one(tmp_path: Path) -> None:
    write(tmp_path / "study" / "1", "T1", PatientBirthDate="19600101", **T1)
    write(tmp_path / "study" / "2", "T2", edit=lambda header, _: setattr(header, "PatientName", "DOE^JANE^^"), **T2)
    assert used(scan_series(tmp_path / "study")) == {"t1": 1, "t2": 2}


def two_studies(folder: Path, **later: str) -> Path:
    write(folder / "old" / "1", "T1", StudyInstanceUID="1.2.1", StudyDate="20240131", **T1)
    write(folder / "old" / "2", "T2", StudyInstanceUID="1.2.1", StudyDate="20240131", **T2)
    write(folder / "new" / "1", "FLAIR", **({"StudyInstanceUID": "1.2.2", "StudyDate": "20240905"} | later), **FLAIR)
    return folder


@pytest.mark.parametrize("later", [{}, {"StudyInstanceUID": "1.2.1"}, {"StudyDate": "20240131"}], ids=str)
def test_several_studies_are_listed_and_one_is_to_be_chosen(tmp_path: Path, later: dict[str, str]) -> None:
    two_studies(tmp_path, **later)
    with pytest.raises(UserError) as refused:
        find(tmp_path)
    text = str(refused.value)
    assert "holds 2 studies" in text
    assert "--study" in text
    assert "\n" not in text
    assert "2 series, t1, t2" in text
    assert "1 series, flair" in text
    assert sorted(sorted(find(tmp_path, session=n).images) for n in "12") == [["flair"], ["t1", "t2"]]


def test_a_study_is_chosen_by_number_or_date(tmp_path: Path) -> None:
    two_studies(tmp_path)
    for choice in ("1", "2024-01-31", "20240131"):
        found = find(tmp_path, session=choice)
        assert {*found.images} == {"t1", "t2"}
        assert "2024" not in str((found.notes, found.reasons))
    with pytest.raises(UserError, match="no one study '3'"):
        find(tmp_path, session="3")


def test_a_study_identifier_of_its_own_in_every_file_is_no_choice(tmp_path: Path) -> None:
    write(tmp_path / "s" / "1", "T1", edit=lambda header, n: setattr(header, "StudyInstanceUID", f"1.2.{n}"), **T1)
    assert used(scan_series(tmp_path / "s")) == {"t1": 1}


# Parts of a series


def test_magnitude_and_phase_in_one_series_are_parted(tmp_path: Path) -> None:
    def edit(header: Any, number: int) -> None:
        header.ImageType = ["ORIGINAL", "PRIMARY", "M" if part == 0 else "P", "ND"]
        header.SeriesInstanceUID, header.StudyInstanceUID = "1.2.3", "1.2"

    for part in (1, 0):
        write(tmp_path / f"{1 - part}", "T2 TSE", seed=part, edit=edit, **T2)
    found = find(tmp_path)
    assert set(found.images) == {"t2"}
    np.testing.assert_array_equal(found.images["t2"].array[:, ::-1, ::-1].ravel().sum(), image(seed=0).sum())
    assert found.notes == ("1 other series was left out: 1 phase image",)


def test_two_echoes_in_one_series_are_pd_and_t2(tmp_path: Path) -> None:
    def edit(header: Any, number: int) -> None:
        header.EchoTime, header.RepetitionTime = (15, 90)[part], 3000
        header.SeriesInstanceUID, header.StudyInstanceUID = "1.2.3", "1.2"

    for part in (0, 1):
        write(tmp_path / str(part), "T2 TSE", seed=part, edit=edit)
    found = scan_series(tmp_path)
    assert {series.modality: read_series(series).array.sum() for series in found} == {
        "t2": image(seed=1).sum(),
        "pd": image(seed=0).sum(),
    }
    assert find(tmp_path).notes == ("1 other series was left out: 1 proton-density-weighted image",)


def test_ge_marks_phase_in_a_field_of_its_own(tmp_path: Path) -> None:
    def edit(header: Any, number: int) -> None:
        block = header.private_block(0x43, "GEMS_PARM_01", create=True)
        block.add_new(0x2F, "SS", 1)

    write(tmp_path / "s" / "1", "T2", edit=edit, **T2)
    assert scan_series(tmp_path / "s")[0].reason == "phase image, by its image type"


def enhanced(folder: Path, echoes: dict[float, np.ndarray], text: str = "T2 TSE", slope: float = 1.0) -> Path:
    """One multi-frame file; the n-th slice's scale is n + 1 times `slope`."""
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset

    def item(**fields: object) -> list[Dataset]:
        dataset = Dataset()
        for name, value in fields.items():
            setattr(dataset, name, value)
        return [dataset]

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4.1", "1.2.5"
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    file = FileDataset(str(folder / "e"), {}, file_meta=meta, preamble=b"\0" * 128)
    slices, rows, columns = next(iter(echoes.values())).shape
    file.SOPClassUID, file.SeriesInstanceUID, file.Modality = meta.MediaStorageSOPClassUID, "1.2.6", "MR"
    file.SeriesDescription, file.Rows, file.Columns, file.NumberOfFrames = text, rows, columns, slices * len(echoes)
    file.SamplesPerPixel, file.PhotometricInterpretation, file.PixelRepresentation = 1, "MONOCHROME2", 0
    file.BitsAllocated, file.BitsStored, file.HighBit = 16, 16, 15
    shared = Dataset()
    shared.PixelMeasuresSequence = item(PixelSpacing=[2, 1], SliceThickness=3)
    shared.PlaneOrientationSequence = item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    shared.MRTimingAndRelatedParametersSequence = item(RepetitionTime=3000.0)
    file.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for echo in echoes:
        for number in range(slices):
            frame = Dataset()
            frame.PlanePositionSequence = item(ImagePositionPatient=[-12, -20, 3 * number])
            frame.MREchoSequence = item(EffectiveEchoTime=echo)
            frame.MRImageFrameTypeSequence = item(FrameType=["ORIGINAL", "PRIMARY", "M", "NONE"])
            frame.PixelValueTransformationSequence = item(RescaleIntercept=0, RescaleSlope=slope * (number + 1))
            frames.append(frame)
    file.PerFrameFunctionalGroupsSequence = frames
    file.PixelData = np.concatenate(list(echoes.values())).astype(np.uint16).tobytes()
    folder.mkdir(parents=True)
    file.save_as(folder / "e", enforce_file_format=True)
    return folder


def test_two_echoes_in_one_multi_frame_file_are_pd_and_t2(tmp_path: Path) -> None:
    folder = enhanced(tmp_path / "s", {15.0: image(seed=0), 90.0: image(seed=1)}, slope=0.1)
    found = scan_series(folder)
    assert [series.modality for series in found] == ["t2", "pd"]  # what the description means goes first
    for series, seed in zip(found, (1, 0), strict=True):
        volume = read_series(series)
        scale = 0.1 * np.arange(1, 13)[:, None, None]
        np.testing.assert_allclose(volume.array[:, ::-1, ::-1], image(seed=seed) * scale, rtol=1e-6)
        np.testing.assert_allclose(volume.geometry.affine @ [2, 3, 4, 1], [10, 14, 12, 1])


def test_files_without_preamble_are_read(tmp_path: Path) -> None:
    for file in write(tmp_path / "s" / "1", "T1", **T1):
        file.write_bytes(file.read_bytes()[132:])
    assert is_dicom_study(tmp_path / "s")
    found = find(tmp_path / "s")
    np.testing.assert_array_equal(found.images["t1"].array.sum(), image().sum())


def save_implicit(header: Any, file: Path) -> None:
    plain = pydicom.dataset.Dataset()
    plain.update({element.tag: element for element in header})
    encoding = {"implicit_vr": True, "little_endian": True, "force_encoding": True}
    pydicom.dcmwrite(file, plain, enforce_file_format=False, **encoding)


def save_big_endian(header: Any, file: Path) -> None:
    header.PixelData = header.pixel_array.astype(">i2").tobytes()
    header.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRBigEndian
    encoding = {"implicit_vr": False, "little_endian": False, "force_encoding": True}
    pydicom.dcmwrite(file, header, **encoding)


def save_deflated(header: Any, file: Path) -> None:
    header.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    header.save_as(file)


def save_run_length(header: Any, file: Path) -> None:
    header.compress(pydicom.uid.RLELossless)
    header.save_as(file)


@pytest.mark.parametrize("save", [save_implicit, save_big_endian, save_deflated, save_run_length])
def test_every_encoding_gives_the_same_voxels(tmp_path: Path, save: Callable[[Any, Path], None]) -> None:
    for file in write(tmp_path / "s" / "1", "T1", **T1):
        save(pydicom.dcmread(file), file)
    np.testing.assert_array_equal(find(tmp_path / "s").images["t1"].array, image())


def test_a_series_identifier_of_its_own_in_every_file_is_joined_by_number(tmp_path: Path) -> None:
    for name, tags in (("1", T1), ("2", FLAIR)):
        edit = lambda header, n, name=name: setattr(header, "SeriesInstanceUID", f"1.{name}.{n}")  # noqa: E731
        write(tmp_path / "s" / name, {"1": "T1", "2": "FLAIR"}[name], edit=edit, SeriesNumber=name, **tags)
    assert {*find(tmp_path / "s").images} == {"t1", "flair"}


def test_each_slice_has_its_own_scale(tmp_path: Path) -> None:
    def edit(header: Any, number: int) -> None:
        header.RescaleSlope, header.RescaleIntercept = ("1", "0") if number == 0 else ("0.05", "-7")

    write(tmp_path / "s" / "1", "T1", edit=edit, **T1)
    expected = image().astype(np.float64)
    expected[1:] = expected[1:] * 0.05 - 7
    volume = find(tmp_path / "s").images["t1"]
    np.testing.assert_allclose(volume.array, expected, atol=1e-4)


# Slices


def test_slices_are_ordered_by_place_whatever_their_files_are_called(tmp_path: Path) -> None:
    files = write(tmp_path / "s" / "1", "T1", **T1)
    for file, number in zip(files, np.random.default_rng(3).permutation(len(files)), strict=True):
        file.rename(file.with_name(f"{number:02d}.dcm"))
    np.testing.assert_array_equal(find(tmp_path / "s").images["t1"].array, image())


def test_a_gap_leaves_the_largest_part_that_was_measured(tmp_path: Path) -> None:
    files = write(tmp_path / "s" / "1", "T1", slices=30, **T1)
    for file in files[20:22]:
        file.unlink()
    found = find(tmp_path / "s")
    (note,) = found.notes
    assert note.startswith("T1-weighted: series 1: 2 slices are missing in between; ")
    assert note.endswith("has 20 of 28 slices (60 mm) and was taken, the rest of the head is not seen")
    np.testing.assert_array_equal(found.images["t1"].array, image(30)[:20])


@pytest.mark.parametrize("step", [1, 2])
def test_slices_at_uneven_places_are_not_used(tmp_path: Path, step: int) -> None:
    def edit(header: Any, number: int) -> None:
        header.ImagePositionPatient = [0, 0, 3 * number + (number // step % 2)]

    write(tmp_path / "s" / "1", "T1", slices=20, edit=edit, **T1)
    with pytest.raises(UserError, match="unevenly spaced"):
        find(tmp_path / "s")


def test_slices_that_are_there_twice_are_dropped(tmp_path: Path) -> None:
    files = write(tmp_path / "s" / "1", "T1", **T1)
    for file in files[3:5]:
        shutil.copy(file, file.with_name(f"copy-{file.name}"))
    found = find(tmp_path / "s")
    assert found.notes == ("T1-weighted: series 1: copies of slices were dropped (2)",)
    np.testing.assert_array_equal(found.images["t1"].array, image())


def test_a_slice_made_anew_is_noted(tmp_path: Path) -> None:
    files = write(tmp_path / "s" / "1", "T1", **T1)
    header = pydicom.dcmread(files[5])
    header.InstanceNumber, header.PixelData = 99, header.pixel_array[::-1].tobytes()
    header.save_as(files[5].with_name("anew.dcm"))
    found = find(tmp_path / "s")
    (note,) = found.notes
    assert note == "T1-weighted: series 1: places with images that differ (1 too many): the first of each was taken"
    np.testing.assert_array_equal(found.images["t1"].array, image())


def test_repeats_in_one_series_are_parted(tmp_path: Path) -> None:
    for repeat in (1, 2):
        tags = {"SeriesInstanceUID": "1.2.3", "StudyInstanceUID": "1.2", "AcquisitionNumber": repeat}
        write(tmp_path / str(repeat), "T1", seed=repeat, **tags, **T1)
    found = scan_series(tmp_path)
    assert used(found) == {"t1": 2}
    for series in found:
        np.testing.assert_array_equal(read_series(series).array, image(seed=series.number))


def test_a_time_series_is_left_out(tmp_path: Path) -> None:
    for repeat in range(6):
        tags = {"SeriesInstanceUID": "1.2.3", "StudyInstanceUID": "1.2", "TemporalPositionIdentifier": repeat}
        write(tmp_path / str(repeat), "T1", seed=repeat, **tags, **T1)
    (series,) = scan_series(tmp_path)
    assert series.reason == "a time series of 6 images"


def test_every_second_slice_missing_is_doubted(tmp_path: Path) -> None:
    tags = {"SpacingBetweenSlices": 3, "SliceThickness": 3}
    files = write(tmp_path / "s" / "1", "T1", slices=24, **tags, **T1)
    for file in files[::2]:
        file.unlink()
    (note,) = find(tmp_path / "s").notes
    assert "6 mm apart where the header says 3 mm" in note


def test_three_directions_are_no_volume(tmp_path: Path) -> None:
    def edit(header: Any, number: int) -> None:
        header.ImageOrientationPatient = [[1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, -1], [0, 1, 0, 0, 0, -1]][number % 3]

    write(tmp_path / "s" / "1", "T2", edit=edit, **T2)
    assert "lie in 3 directions" in scan_series(tmp_path / "s")[0].reason


def test_a_localiser_without_words_is_no_missing_t1(tmp_path: Path) -> None:
    def edit(header: Any, number: int) -> None:
        header.ImageOrientationPatient = [[1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, -1], [0, 1, 0, 0, 0, -1]][number % 3]

    write(tmp_path / "s" / "1", "", edit=edit, RepetitionTime=8, EchoTime=3)
    write(tmp_path / "s" / "2", "T2", **T2)
    assert find(tmp_path / "s").notes == ("1 other series was left out: 1 incomplete series",)


def test_damaged_files_are_counted(tmp_path: Path) -> None:
    files = write(tmp_path / "s" / "1", "T1", slices=30, **T1)
    for file in files[25:27]:
        file.write_bytes(file.read_bytes()[:-100])
    (tmp_path / "s" / "x.dcm").write_bytes(b"nonsense")
    (tmp_path / "s" / "notes.txt").write_text("nothing")
    assert scan_study(tmp_path / "s").damaged == 3
    assert find(tmp_path / "s").notes[-1] == (
        "3 DICOM files are damaged and could not be read (1/IMG-0026.dcm, 1/IMG-0027.dcm, x.dcm); copy or export the "
        "study again"
    )


# Choice between several


def test_a_finer_or_fuller_or_original_series_stays(tmp_path: Path) -> None:
    original = {"ImageType": ["ORIGINAL", "PRIMARY"]}
    write(tmp_path / "s" / "1", "T1", slices=40, gap_mm=3, **original, **T1)
    write(tmp_path / "s" / "2", "T1", slices=20, gap_mm=6, **original, **T1)
    write(tmp_path / "s" / "3", "T1", slices=12, gap_mm=1, **original, **T1)
    write(tmp_path / "s" / "4", "T1", slices=60, gap_mm=2, **T1)
    found = scan_series(tmp_path / "s")
    assert used(found) == {"t1": 1}
    assert [series.reason.partition("(")[2] for series in found[1:]] == [
        "its voxels are smaller)",
        "it covers more of the head)",
        "it is original, the other derived)",
    ]
    assert find(tmp_path / "s").notes[0].startswith("T1-weighted: series 1, 2, 3 and 4 can be used; 1 was taken (")


def test_the_next_best_is_read_where_the_best_is_damaged(tmp_path: Path) -> None:
    write(tmp_path / "s" / "1", "T1", slices=12, **T1)
    files = write(tmp_path / "s" / "2", "T1", slices=40, **T1)
    header = pydicom.dcmread(files[7])
    header.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLossless
    header.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8 damaged"])
    header["PixelData"].is_undefined_length = True
    header.save_as(files[7])
    found = find(tmp_path / "s")
    assert found.images["t1"].source == "DICOM series 1"
    assert (
        "T1-weighted: series 2 is not used: IMG-0008.dcm is damaged or cannot be decoded; export the series again"
        in found.notes
    )


def test_a_contradiction_is_noted(tmp_path: Path) -> None:
    write(tmp_path / "s" / "1", "T1", **T1)
    write(tmp_path / "s" / "2", f"T2 {NAME}", **T1)
    (note,) = find(tmp_path / "s").notes
    assert note.startswith("T2-weighted: series 2 is not used: description says t2, but ")
    assert note.endswith("repetition time 500 ms, echo time 10 ms do not fit it")


def test_other_kinds_are_counted_in_one_sentence(tmp_path: Path) -> None:
    write(tmp_path / "s" / "1", "T2", **T2)
    for number, text in enumerate(("localizer", "scout", "SWI", "T2 map"), start=2):
        write(tmp_path / "s" / str(number), text)
    assert find(tmp_path / "s").notes == (
        "4 other series were left out: 2 localisers, 1 susceptibility or T2* image, 1 map",
    )


@pytest.mark.parametrize(
    ("text", "kind", "reason"),
    [
        ("AX T2 GRE", "M", "susceptibility or T2* image, by its description"),
        ("T2 STIR", "M", "STIR image, by its description"),
        ("T2 TSE", "P", "phase image, by its image type"),
        ("T2 map", "M", "map, by its description"),
    ],
)
def test_what_bears_the_name_of_a_sequence_that_is_missing_has_its_own_sentence(
    tmp_path: Path, text: str, kind: str, reason: str
) -> None:
    write(tmp_path / "s" / "1", "FLAIR", **FLAIR)
    write(tmp_path / "s" / "2", text, ImageType=["ORIGINAL", "PRIMARY", kind, "ND"], **T2)
    assert find(tmp_path / "s").notes == (f"T2-weighted: series 2 is not used: {reason}",)


# What people choose, and what headers lack


def test_a_series_that_people_choose_is_read_and_its_fault_said(tmp_path: Path) -> None:
    write(tmp_path / "s" / "1", "T1", slices=6, **T1)
    write(tmp_path / "s" / "2", "T2", **T2)
    found = find_raw(tmp_path / "s", {"t1": "1"}, MODEL)
    assert found.images["t1"].array.shape[0] == 6
    assert found.notes == ("T1-weighted: series 1: incomplete: 6 slices",)


def test_what_is_no_volume_cannot_be_chosen(tmp_path: Path) -> None:
    def edit(header: Any, number: int) -> None:
        header.ImageOrientationPatient = [[1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, -1], [0, 1, 0, 0, 0, -1]][number % 3]

    write(tmp_path / "s" / "1", "localizer", edit=edit)
    with pytest.raises(UserError, match=r"s: series 1 is not one volume [^\n]*; choose another"):
        find_raw(tmp_path / "s", {"t2": "1"}, MODEL)


def test_series_without_identifiers_are_held_apart_by_their_words(tmp_path: Path) -> None:
    def edit(header: Any, number: int) -> None:
        del header.SeriesInstanceUID, header.StudyInstanceUID

    write(tmp_path / "s" / "1", "T1", edit=edit, **T1)
    write(tmp_path / "s" / "2", "FLAIR", edit=edit, **FLAIR)
    assert used(scan_series(tmp_path / "s")) == {"t1": 1, "flair": 2}


@pytest.mark.parametrize("name", ["ImageOrientationPatient", "ImagePositionPatient"])
def test_slices_without_a_place_are_not_used(tmp_path: Path, name: str) -> None:
    write(tmp_path / "s" / "1", "T1", edit=lambda header, _: delattr(header, name), **T1)
    with pytest.raises(UserError, match="its header does not say where the slices lie"):
        find(tmp_path / "s")


def test_unweighted_images_of_a_diffusion_series_are_no_t2(tmp_path: Path) -> None:
    for weighting in (0, 1000):
        tags = {"SeriesInstanceUID": "1.2.3", "StudyInstanceUID": "1.2", "DiffusionBValue": float(weighting)}
        write(tmp_path / str(weighting), "", **tags, **T2)
    (series,) = scan_series(tmp_path)
    assert series.reason == "diffusion image, by its image type"


def test_a_header_that_promises_too_much_is_damaged(tmp_path: Path) -> None:
    files = write(tmp_path / "s" / "1", "T1", slices=30, **T1)
    header = pydicom.dcmread(files[-1])
    header.Rows = header.Columns = 65535
    header.save_as(files[-1])
    assert scan_study(tmp_path / "s").damaged == 1


def test_a_ct_beside_the_mri_is_counted_alone(tmp_path: Path) -> None:
    write(tmp_path / "s" / "1", "head", Modality="CT", StudyInstanceUID="1.9")
    write(tmp_path / "s" / "2", "T1", **T1)
    assert find(tmp_path / "s").notes == ("1 other series was left out: 1 series that is no MRI",)


def test_side_files_of_an_archive_are_not_taken_for_damaged_images(tmp_path: Path) -> None:
    files = write(tmp_path / "s" / "1", "T1", **T1)
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as target:
        for file in files:
            target.write(file, f"s/{file.name}")
            target.writestr(f"__MACOSX/s/._{file.name}", b"Mac")
        target.writestr("s/readme.txt", "nothing")
    assert find(tmp_path / "s.zip").notes == ()


def test_a_series_told_by_its_image_alone_is_doubted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anymri.data.raw.identify.identify_contrast", lambda volume: ("t2", "bright CSF"))
    write(tmp_path / "s" / "1", "")
    found = find(tmp_path / "s")
    assert set(found.images) == {"t2"}
    assert found.notes == ("T2-weighted: series 1 was taken by the look of its image; its header does not tell",)


# Real headers and images


def test_real_series_lie_where_their_nifti_lies(shared_data: Path) -> None:
    folder = shared_data / "dicom" / "openms_patient12_study1"
    found = {series.modality: series for series in scan_series(folder)}
    assert set(found) == {"t1", "t2", "flair"}
    for code, series in found.items():
        volume = read_series(series)
        whole = read_image(shared_data / "openms_raw" / "patient12_study1" / f"{code}.nii.gz")
        step = whole.geometry.affine_dhw.copy()
        step[:3, 3] += 16 * step[:3, 0]
        np.testing.assert_allclose(volume.geometry.affine_dhw, step, atol=1e-3)
        np.testing.assert_array_equal(volume.array, whole.array[16:32])


def test_real_series_give_no_note(shared_data: Path) -> None:
    assert find(shared_data / "dicom" / "openms_patient12_study1").notes == ()


@pytest.mark.parametrize(
    ("name", "code", "reason"),
    [
        ("bad_slicecount", "flair", "incomplete: 2 slices"),
        ("bad_sliceincrement", None, "is no MRI"),
        ("compressed_generic", "flair", "incomplete: 4 slices"),
        ("compressed_j2k", "flair", "incomplete: 4 slices"),
        ("compressed_jpeg", "flair", "incomplete: 4 slices"),
        ("compressed_jpegls", "flair", "incomplete: 4 slices"),
        ("compressed_rle", "flair", "incomplete: 4 slices"),
        ("ge_mr750_t1", "t1", "incomplete: 4 slices"),
        ("ge_pioneer_t1_mprage", "t1", "description says t1"),
        ("hitachi_echelon", "pd", "incomplete: 4 slices"),
        ("hyperfine_flair_multiframe", "flair", "incomplete: 8 slices"),
        ("philips_achieva_enhanced", "t1", "incomplete: 8 slices"),
        ("philips_intera_flair3d", "flair", "incomplete: 4 slices"),
        ("siemens_multiframe", None, "incomplete: 8 slices"),
        ("siemens_trio_flair3d", "flair", "incomplete: 4 slices"),
    ],
)
def test_real_headers_of_vendors(shared_data: Path, name: str, code: str | None, reason: str) -> None:
    (series,) = scan_series(shared_data / "dicom" / "vendors" / name)
    assert (series.named, series.reason) == (code, reason)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "siemens_trio_flair3d",
            r"\(series 1: FLAIR, incomplete: 4 slices\); give a folder [^(]*\(--series flair=1\)",
        ),
        ("bad_sliceorientation", r"\(series 1 and 2: T2-weighted, incomplete: 2 slices\); give a folder with [^(]*"),
        ("bad_sliceincrement", r"\(series 1: is no MRI\); give a folder with one of T1, FLAIR"),
    ],
)
def test_a_refusal_says_of_each_series_what_it_is(shared_data: Path, name: str, told: str) -> None:
    with pytest.raises(UserError, match=rf"vendors/{name}: holds no usable t1, flair {told}$"):
        find_raw(shared_data / "dicom" / "vendors" / name, {}, ["t1", "flair"])


def test_two_scans_in_one_real_series_are_parted(shared_data: Path) -> None:
    found = scan_series(shared_data / "dicom" / "vendors" / "bad_sliceorientation")
    assert [(series.named, series.reason) for series in found] == [("t2", "incomplete: 2 slices")] * 2
    assert {series.facts["EchoTime"] for series in found} == {90, 120}


@pytest.mark.parametrize(
    "name",
    [
        "compressed_generic", "compressed_j2k", "compressed_jpeg", "compressed_jpegls", "compressed_rle", "ge_mr750_t1",
        "ge_pioneer_t1_mprage", "hitachi_echelon", "hyperfine_flair_multiframe", "philips_achieva_enhanced",
        "philips_intera_flair3d", "siemens_multiframe", "siemens_trio_flair3d",
    ],
)  # fmt: skip
def test_voxels_are_those_of_an_independent_converter(shared_data: Path, tmp_path: Path, name: str) -> None:
    program = Path(sys.prefix) / "bin" / "dcm2niix"
    if not program.is_file():
        pytest.skip("dcm2niix is not installed")
    folder = shared_data / "dicom" / "vendors" / name
    command = [program, "-b", "n", "-z", "n", "-f", "image", "-o", tmp_path, folder]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    (file,) = tmp_path.glob("image*.nii")
    expected, volume = read_image(file), read_series(scan_series(folder)[0])
    np.testing.assert_allclose(volume.geometry.affine_dhw, expected.geometry.affine_dhw, atol=2e-3)
    scale = float(expected.array.max() / volume.array.max())  # Philips has two scales
    np.testing.assert_allclose(volume.array * scale, expected.array, rtol=1e-4, atol=1e-3)
