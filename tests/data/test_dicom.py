"""DICOM studies: what each series is, what is left out and why, and that no name gets out."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from anymri.data.dicom import classify_header, is_dicom_study, open_study, read_series, scan_series
from anymri.data.formats import write_dicom
from anymri.data.geometry import Geometry
from anymri.data.nifti import read_image
from anymri.data.raw.source import find_raw
from anymri.types import UserError

pydicom = pytest.importorskip("pydicom")
NAME = "Doe^Jane"


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        ({"SeriesDescription": "AX T1 MPRAGE"}, "t1"),
        ({"SeriesDescription": "T1 post GAD"}, "t1c"),
        ({"SeriesDescription": "t1_tse", "ContrastBolusAgent": "Gadovist"}, "t1c"),
        ({"SeriesDescription": "t2_tirm_dark-fluid"}, "flair"),
        ({"SeriesDescription": "T2W"}, "t2"),
        ({"SeriesDescription": "DWI b1000"}, None),
        ({"RepetitionTime": 9000, "EchoTime": 120, "InversionTime": 2500}, "flair"),
        ({"RepetitionTime": 500, "EchoTime": 10}, "t1"),
        ({"RepetitionTime": 500, "EchoTime": 10, "ContrastBolusAgent": "Gd"}, "t1c"),
        ({"RepetitionTime": 5000, "EchoTime": 100}, "t2"),
        ({"RepetitionTime": 3000, "EchoTime": 15}, "pd"),
        ({}, None),
    ],
)
def test_the_header_tells_the_modality(facts: dict, code: str | None) -> None:
    assert classify_header(facts)[0] == code


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """T1 (twice), FLAIR with a gap, localiser; every header names a person."""
    array = np.random.default_rng(0).integers(1, 900, (12, 20, 24)).astype(np.int16)
    geometry = Geometry(np.diag([-1.0, -1.0, 3.0, 1.0]), (24, 20, 12))
    texts = {"a_t1": f"T1 {NAME}", "b_t1": "T1 repeat", "c_flair": "FLAIR", "d_loc": "localizer"}
    for folder, text in texts.items():
        write_dicom(tmp_path / "study" / folder, array, geometry, folder)
        for file in (tmp_path / "study" / folder).iterdir():
            header = pydicom.dcmread(file)
            header.SeriesDescription, header.PatientName = text, NAME
            header.save_as(file)
    (tmp_path / "study" / "c_flair" / "IMG-0006.dcm").unlink()
    return tmp_path / "study"


def test_series_are_used_or_left_out_with_a_reason(study: Path) -> None:
    found = scan_series(study)
    assert [series.modality for series in found] == [None, "t1", None, None]
    for series, word in zip(found, ("duplicate", "description", "incomplete", "localiser"), strict=True):
        assert word in series.reason
    assert "Doe" not in str([series.describe() for series in found])


def test_the_user_can_choose_another_series(study: Path) -> None:
    found = scan_series(study, {"t1": 1})
    assert [series.number for series in found if series.modality == "t1"] == [1]
    with pytest.raises(UserError, match="no series 9"):
        scan_series(study, {"t1": 9})


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
    with pytest.raises(UserError, match=r"^.*notes\.zip: holds no DICOM image"), open_study(archive) as folder:
        scan_series(folder)


def test_what_is_wrong_with_a_series_names_the_study(study: Path, tmp_path: Path) -> None:
    archive = tmp_path / "study.zip"
    with zipfile.ZipFile(archive, "w") as target:
        for number, file in enumerate(sorted((study / "b_t1").iterdir())):
            content = file.read_bytes()
            target.writestr(file.name, content[: len(content) // 2] if number == 4 else content)
    with pytest.raises(UserError, match=r"^.*study\.zip: DICOM series 1: [^\n]*; [^\n]*$"):
        find_raw(archive, {}, ["t1"])


def test_a_read_series_carries_no_name(study: Path) -> None:
    volume = read_series(scan_series(study)[1])
    assert volume.geometry.header is None
    assert volume.array.shape == (12, 20, 24)
    assert volume.source == "DICOM series 2"


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
