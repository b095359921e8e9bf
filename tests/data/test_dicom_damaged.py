"""Damaged DICOM: what cannot be read is named, what contradicts itself is told, and no file takes the machine."""

from __future__ import annotations

import errno
import os
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anymri.data.datasets.layout import native_grid, write_array
from anymri.data.dicom import headers
from anymri.data.dicom.pixels import stream_size
from anymri.data.formats import write_dicom, write_png_masks
from anymri.data.geometry import Geometry
from anymri.data.index import find_study, index_dataset, not_used
from anymri.data.nifti import Volume, read_image
from anymri.data.preprocess import preprocess
from anymri.data.raw.source import find_raw
from anymri.types import Subject, UserError

pydicom = pytest.importorskip("pydicom")
GRID = Geometry(np.diag([-1.0, -1.0, 3.0, 1.0]), (24, 20, 12))
VOLUME = np.random.default_rng(0).integers(1, 900, (12, 20, 24)).astype(np.int16)
Edit = Callable[[Any, int], None]


@pytest.fixture
def series(tmp_path: Path) -> Path:
    write_dicom(tmp_path / "s", VOLUME, GRID, "x", "IM{:03d}.dcm")
    for file in (tmp_path / "s").iterdir():
        file.rename(file.with_suffix(""))  # as scanners name them
    return tmp_path / "s"


def edit(folder: Path, change: Edit, only: int | None = None) -> Path:
    """Change the header of every file, or of the n-th from 1 on."""
    for number, file in enumerate(sorted(folder.iterdir()), start=1):
        if only in (None, number):
            header = pydicom.dcmread(file)
            with pydicom.config.disable_value_validation():
                change(header, number)
                header.save_as(file)
    return folder


def refused(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_image(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text


def write_text(header: Any, name: str, value: Any) -> None:
    """A field with text, some of which its own type would not hold; None takes it away."""
    if value is None:
        delattr(header, name)
    elif name in ("Rows", "BitsAllocated"):
        setattr(header, name, value)
    else:
        text = [str(part) for part in value] if isinstance(value, list) else str(value)
        header[name] = pydicom.dataelem.DataElement(pydicom.datadict.tag_for_keyword(name), "LO", text)


# ------------------------------------------------------------------------------------------------ damaged files


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9])


def double(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:-300] + content[-600:])


def shorten(file: Path) -> None:
    header = pydicom.dcmread(file)
    header.PixelData = header.PixelData[:2]
    header.add_new(0xFFFCFFFC, "OB", b"\1" * 2000)
    header.save_as(file)


def lose(file: Path) -> None:
    file.unlink()
    file.symlink_to("elsewhere")


def pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def nest(file: Path) -> None:
    """Sequences 50,000 deep, in place of a name."""
    content = file.read_bytes()
    place = content.index(struct.pack("<HH", 0x10, 0x10))
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 2**32 - 1)
    deep = struct.pack("<HH2sHI", 0x8, 0x1140, b"SQ", 0, 2**32 - 1) + item
    file.write_bytes(content[:place] + deep * 50_000 + content[place:])


def overwrite(file: Path) -> None:
    file.write_bytes(b"nothing")


def empty(file: Path) -> None:
    file.write_bytes(b"")


DAMAGES = [cut, double, shorten, lose, pipe, nest, overwrite, empty]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_at_the_end_is_named(series: Path, damage: Callable[[Path], None]) -> None:
    damage(series / "IM012")
    volume = read_image(series)
    np.testing.assert_array_equal(volume.array, VOLUME[:11])
    assert volume.notes == ("1 DICOM file is damaged and could not be read (IM012); copy or export the study again",)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_in_the_middle_is_refused_by_name(series: Path, damage: Callable[[Path], None]) -> None:
    damage(series / "IM005")
    text = refused(series)
    assert "slices are missing" in text
    assert "IM005" in text


def test_a_series_of_nothing_but_damaged_files_is_refused_by_name(series: Path) -> None:
    for file in series.iterdir():
        file.write_bytes(file.read_bytes()[:300])
    assert "12 DICOM files are damaged and could not be read (IM001, IM002, IM003 and 9 more)" in refused(series)


def test_other_files_beside_a_series_are_no_damage(series: Path) -> None:
    (series / "LICENSE").write_text("free")
    (series / "notes 7.txt").write_text("none")
    (series / "away").symlink_to("nowhere")
    (series / ".IM013").write_bytes(b"Mac")
    assert read_image(series).notes == ()


def test_masks_for_a_series_that_lost_a_slice_are_refused_with_its_name(series: Path) -> None:
    write_png_masks(series.parent / "Ground", (VOLUME % 3).astype(np.uint8), GRID, "{:03d}.png")
    cut(series / "IM012")
    with pytest.raises(UserError, match=r"12 masks for 11 slices \(1 DICOM file is damaged[^\n]*IM012\)"):
        read_image(series.parent / "Ground", kind="label")


def archive(series: Path) -> Path:
    with zipfile.ZipFile(series.parent / "s.zip", "w", zipfile.ZIP_DEFLATED) as target:
        for file in sorted(series.iterdir()):
            target.writestr(f"x/../{file.name}", file.read_bytes())
    return series.parent / "s.zip"


def test_a_damaged_file_in_an_archive_is_named(series: Path) -> None:
    edit(series, lambda header, _: write_text(header, "SeriesDescription", "T1"))
    overwrite(series / "IM012")
    found = find_raw(archive(series), {}, ["t1"])
    assert "IM012" in found.notes[-1]
    np.testing.assert_array_equal(found.images["t1"].array, VOLUME[:11])


@pytest.mark.parametrize("value", range(0, 256, 37))
def test_an_archive_that_is_damaged_anywhere_is_refused_in_one_line(series: Path, value: int) -> None:
    path = archive(series)
    content = bytearray(path.read_bytes())
    for place in range(60, len(content) - 400, 977):
        content[place] = value
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"^[^\n]*s\.zip: [^\n]*$"):
        find_raw(path, {}, ["t1"])


def test_an_archive_that_unpacks_to_more_than_is_plausible_is_refused(
    series: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(headers, "PLAUSIBLE_BYTES", 10_000)
    path = series.parent / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("a.dcm", bytes(10**7))
    with pytest.raises(UserError, match="unpacks to more than is read"):
        find_raw(path, {}, ["t1"])


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_an_archive_that_finds_no_room_is_not_called_damaged(
    series: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(source: Any, target: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(headers, "copyfileobj", refuse)
    with pytest.raises(UserError, match=rf"s\.zip: cannot be unpacked .*{os.strerror(code)}.*; free .*TMPDIR"):
        find_raw(archive(series), {}, ["t1"])


def test_an_archive_larger_than_the_room_is_told_before_it_is_unpacked(
    series: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(headers, "disk_usage", lambda folder: shutil.disk_usage(folder)._replace(free=100))
    monkeypatch.delattr(headers, "copyfileobj")
    with pytest.raises(UserError, match=r"s\.zip: cannot be unpacked .*; free .*TMPDIR"):
        find_raw(archive(series), {}, ["t1"])


def test_what_is_no_dicom_is_not_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("film.avi", bytes(10**6))
    with headers.open_study(tmp_path / "a.zip") as folder:
        assert sum(file.stat().st_size for file in folder.iterdir()) < 1000


def test_a_deflated_file_that_unpacks_to_more_than_is_plausible_is_damaged(
    series: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = pydicom.dcmread(series / "IM012")
    header.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    header.save_as(series / "IM012")
    assert read_image(series).notes == ()
    start = (series / "IM012").read_bytes()
    engine = zlib.compressobj(wbits=-15)
    place = 144 + int.from_bytes(start[140:144], "little")  # behind the group of the file itself
    packed = engine.compress(zlib.decompress(start[place:], -15) + bytes(10**7)) + engine.flush()
    (series / "IM012").write_bytes(start[:place] + packed)
    monkeypatch.setattr(headers, "PLAUSIBLE_BYTES", 10**6)
    assert "IM012" in read_image(series).notes[0]


# --------------------------------------------------------------------------------------------- compressed pixels


def jpeg(rows: int, columns: int, values: int = 1) -> bytes:
    frame = struct.pack(">BBHBHHB", 0xFF, 0xC3, 11, 16, rows, columns, values)
    return b"\xff\xd8\xff\xe0\x00\x04ab" + frame + b"\xff\xda" + bytes(20)


def jpeg_2000(rows: int, columns: int, tile: int = 64) -> bytes:
    return b"\xff\x4f\xff\x51" + struct.pack(">HHIIIIIIIIH", 41, 0, columns, rows, 0, 0, tile, tile, 0, 0, 1) + bytes(9)


def test_the_size_in_a_compressed_stream_is_found() -> None:
    assert stream_size(jpeg(20, 24)) == (20, 24, 1)
    assert stream_size(jpeg(7, 9, 3)) == (7, 9, 3)
    assert stream_size(jpeg_2000(20, 24)) == (20, 24, 1)
    for wrong in (
        b"",
        b"\xff\xd8",
        b"\xff\xd8 damaged",
        jpeg(20, 24)[:14],
        jpeg_2000(20, 24)[:20],
        jpeg_2000(20, 24, 0),
    ):
        with pytest.raises(ValueError, match=r"stream|subsection"):
            stream_size(wrong)
    with pytest.raises(ValueError, match="tiles"):
        stream_size(jpeg_2000(60_000, 60_000, 1))


@pytest.mark.parametrize(
    ("syntax", "stream"), [("JPEGLossless", jpeg(65535, 65535)), ("JPEG2000Lossless", jpeg_2000(2**31, 2**31, 2**31))]
)
def test_no_native_decoder_sees_a_stream_of_another_size_than_the_header(
    series: Path, monkeypatch: pytest.MonkeyPatch, syntax: str, stream: bytes
) -> None:
    def compress(header: Any, number: int) -> None:
        header.file_meta.TransferSyntaxUID = getattr(pydicom.uid, syntax)
        header.PixelData = pydicom.encaps.encapsulate([stream])
        header["PixelData"].is_undefined_length = True

    edit(series, compress, only=4)
    monkeypatch.setattr("SimpleITK.ImageFileReader", lambda: pytest.fail("was decoded"))
    assert "IM004 is damaged or cannot be decoded" in refused(series)


# ------------------------------------------------------------------------------------------------ contradictions


def told(volume: Volume, word: str) -> bool:
    return [word in note for note in volume.notes] == [True]


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("ImageOrientationPatient", [0] * 6, "direction"),
        ("ImageOrientationPatient", [2, 0, 0, 0, 1, 0], "direction"),
        ("ImageOrientationPatient", [1, 0, 0], "direction"),
        ("PixelSpacing", [0, 1], "pixels of 0 x 1"),
        ("PixelSpacing", [-1, 1], "pixels of -1 x 1"),
        ("PixelSpacing", ["nan", "1"], "where the slices lie"),
        ("PixelSpacing", None, "where the slices lie"),
        ("ImagePositionPatient", None, "where the slices lie"),
        ("ImagePositionPatient", [0, 0, 0], "missing or doubled"),
        ("Rows", 65535, "damaged"),
        ("NumberOfFrames", 10**9, "damaged"),
        ("NumberOfFrames", -1, "damaged"),
        ("BitsAllocated", 13, "damaged"),
        ("RescaleSlope", "nan", "damaged"),
    ],
)
def test_what_cannot_be_is_refused(series: Path, name: str, value: Any, word: str) -> None:
    assert word in refused(edit(series, lambda header, _: write_text(header, name, value)))


def test_a_slice_that_differs_from_the_others_is_refused(series: Path) -> None:
    for name, value in (("PixelSpacing", [1, 1.5]), ("ImageOrientationPatient", [0, 1, 0, 1, 0, 0])):
        folder = Path(shutil.copytree(series, series.parent / name))
        assert "differ" in refused(edit(folder, lambda header, _, n=name, v=value: setattr(header, n, v), only=5))


def test_what_is_doubtful_is_told(series: Path) -> None:
    def tilt(header: Any, number: int) -> None:
        header.ImagePositionPatient = [0, number, 3 * number]

    def lengthen(header: Any, number: int) -> None:
        header.ImageOrientationPatient = [1.05, 0, 0, 0, 1, 0]

    def invert(header: Any, number: int) -> None:
        header.RescaleSlope = "-1" if number == 3 else "1"

    def add(header: Any, number: int) -> None:
        header.RescaleIntercept = "3" if number == 3 else "0"

    def store(header: Any, number: int) -> None:
        header.BitsStored = 12 if number == 3 else 16
        header.HighBit = header.BitsStored - 1

    words = {"off right angles": tilt, "lengths of 1.05": lengthen, "from -1 to 1": invert, "from 0 to 3": add}
    for word, change in {**words, "how their values are stored": store}.items():
        assert told(read_image(edit(Path(shutil.copytree(series, series.parent / word)), change)), word)


@pytest.mark.parametrize(
    ("name", "value"),
    [("StudyInstanceUID", "1.2.3"), ("ImageType", ["ORIGINAL"]), ("PatientID", "77"), ("Modality", None)],
)
def test_a_slice_whose_header_says_otherwise_than_all_others_is_named(series: Path, name: str, value: Any) -> None:
    def other(header: Any, _: int) -> None:
        if value is None:
            header.pop(name, None)
        else:
            setattr(header, name, value)

    (note,) = read_image(edit(series, other, only=3)).notes
    assert f"the header of IM003 differs from the other slices' in {name}" in note
    assert str(value) not in note, "values can tell of a person"
    assert read_image(edit(series, other)).notes == (), "of all slices it is what the series says"


def test_a_folder_in_the_place_of_a_slice_is_named(series: Path, tmp_path: Path) -> None:
    last = series / "IM012"
    content = last.read_bytes()
    last.unlink()
    last.mkdir()
    (series / "notes").mkdir()
    (note,) = read_image(series).notes
    assert "could not be read (IM012/)" in note
    assert [found.name for found in headers.read_headers(tmp_path)[1]] == ["IM012"]
    (last / "IM012").write_bytes(content)
    assert headers.read_headers(tmp_path)[1] == [], "in a study, what lies in the folder is read"


def test_a_folder_in_the_place_of_a_slice_of_an_archive_is_named(series: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        for file in sorted(series.iterdir())[:-1]:
            archive.write(file, f"s/{file.name}.dcm")
        archive.mkdir("s/IM012.dcm")
    with headers.open_study(tmp_path / "s.zip") as folder:
        assert [found.name.partition(" ")[2] for found in headers.read_headers(folder)[1]] == ["IM012.dcm"]


def test_a_series_without_direction_is_read_as_axial_and_doubted(series: Path) -> None:
    volume = read_image(edit(series, lambda header, _: delattr(header, "ImageOrientationPatient")))
    np.testing.assert_array_equal(volume.array, VOLUME)
    assert not volume.geometry.orientation_known
    assert told(volume, "left and right")


def test_preprocess_tells_what_reading_left_doubtful(tmp_path: Path) -> None:
    brain = np.where(np.arange(24) < 4, 0, VOLUME).astype(np.int16)
    write_dicom(tmp_path / "s", brain, GRID, "x")
    cut(sorted((tmp_path / "s").iterdir())[-1])
    report = preprocess([Subject("one", {"t1": tmp_path / "s"})], tmp_path / "cache", progress=False)
    assert report.done == ["one"]
    (doubt,) = report.doubts["one"]
    assert doubt.startswith("t1: 1 DICOM file is damaged and could not be read (IMG-0012.dcm)")


def test_links_to_nothing_and_pipes_are_named_where_studies_are_looked_for(tmp_path: Path) -> None:
    (tmp_path / "case").mkdir()
    write_array(tmp_path / "case" / "t1.nii.gz", VOLUME, native_grid(VOLUME.shape, (3.0, 1.0, 1.0)))
    (tmp_path / "case" / "flair.nii.gz").symlink_to("annex")
    os.mkfifo(tmp_path / "case" / "t2.nii.gz")
    notes = (
        "flair.nii.gz: not used; it is a link to a file that is not there",
        "t2.nii.gz: not used; it is no plain file",
    )
    assert find_study(tmp_path / "case").notes == notes
    assert sorted(not_used(tmp_path, index_dataset(tmp_path))) == [f"case/{note}" for note in notes]
