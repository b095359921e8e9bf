from __future__ import annotations

import gzip
import shutil
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from anymri.data.datasets.layout import native_grid, write_array
from anymri.data.formats import write_dicom, write_png_masks
from anymri.data.nifti import read_image
from anymri.data.selectors import parse_source, recode, select, source_files
from anymri.types import UserError

SHAPE = (6, 7, 8)
VOLUME = np.random.default_rng(0).integers(0, 900, SHAPE).astype(np.int16)
GRID = native_grid(SHAPE, (3.0, 2.0, 1.5))


@pytest.mark.parametrize(
    ("text", "path", "channel", "values"),
    [
        ("a/b.nii.gz", "a/b.nii.gz", None, {}),
        ("a/b.nii.gz#2", "a/b.nii.gz", 2, {}),
        ("a/masks#63=1,126=2", "a/masks", None, {63: 1, 126: 2}),
        ("a/masks#*=1", "a/masks", None, {-1: 1}),
        ("b.nii#1,4=3", "b.nii", 1, {4: 3}),
        ("a#1/b.nii", "a#1/b.nii", None, {}),
        ("case #7 t1.nii", "case #7 t1.nii", None, {}),
        ("#3", "#3", None, {}),
    ],
)
def test_selectors(text: str, path: str, channel: int | None, values: dict[int, int]) -> None:
    source = parse_source(text)
    assert (source.path.as_posix(), source.channel, dict(source.values)) == (path, channel, values)
    assert select(source.path, channel, values) == Path(text)


def test_a_file_whose_name_looks_like_a_selector_is_itself(tmp_path: Path) -> None:
    path = tmp_path / "scan#2"
    path.touch()
    assert parse_source(path).channel is None
    assert source_files(path) == [path]
    assert source_files(tmp_path / "other#2") == []
    assert source_files(f"{path}#1") == [path]


def test_labels_are_recoded_all_at_once() -> None:
    label = np.array([0, 1, 2, 3, 7], np.uint8)
    assert recode(label, {1: 2, 2: 1}).tolist() == [0, 2, 1, 3, 7]
    assert recode(label, {-1: 1, 7: 2}).tolist() == [0, 1, 1, 1, 2]
    assert recode(label, {}).tolist() == label.tolist()


# -------------------------------------------------------------------------------------------------------- channels


@pytest.mark.parametrize("name", ["four.nii", "four.nii.gz"])
def test_one_channel_of_a_4d_file(tmp_path: Path, name: str) -> None:
    stack = np.random.default_rng(1).normal(size=(5, 6, 7, 3)).astype(np.float32)
    nib.save(nib.Nifti1Image(stack, np.diag([1.0, 2, 3, 1])), tmp_path / name)
    for channel in range(3):
        volume = read_image(tmp_path / f"{name}#{channel}")
        np.testing.assert_array_equal(volume.array, stack[..., channel].transpose(2, 1, 0))
        assert volume.geometry.shape == (5, 6, 7)
        assert volume.geometry.spacing_mm == (3.0, 2.0, 1.0)
    with pytest.raises(UserError, match="has 3 channels, 0 to 2"):
        read_image(tmp_path / f"{name}#3")
    with pytest.raises(UserError, match="is 4D"):
        read_image(tmp_path / name)
    nib.save(nib.Nifti1Image(stack[..., 0], np.eye(4)), tmp_path / f"three-{name}")
    with pytest.raises(UserError, match="has no channels"):
        read_image(tmp_path / f"three-{name}#0")
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(len(whole) * 0.9)])
    with pytest.raises(UserError, match="truncated"):
        read_image(tmp_path / f"{name}#2")


def test_only_the_channel_asked_for_is_unpacked(tmp_path: Path) -> None:
    # What is done with one channel takes some times its size, so that there are many.
    stack = np.zeros((64, 64, 64, 24), np.float32)
    stack[..., 0] = np.random.default_rng(0).normal(size=(64, 64, 64))
    nib.save(nib.Nifti1Image(stack, np.eye(4)), tmp_path / "a.nii.gz")
    tracemalloc.start()
    read_image(tmp_path / "a.nii.gz#0")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < stack.nbytes / 2


# ----------------------------------------------------------------------------------------------------- other files


@pytest.mark.parametrize("name", ["a.mha", "a.mhd", "a.nrrd", "a.nhdr"])
def test_itk_formats_have_the_grid_of_nifti(tmp_path: Path, name: str) -> None:
    write_array(tmp_path / name, VOLUME, GRID)
    write_array(tmp_path / "a.nii.gz", VOLUME, GRID)
    foreign, own = read_image(tmp_path / name), read_image(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(foreign.array, own.array)
    np.testing.assert_allclose(foreign.geometry.affine, own.geometry.affine, atol=1e-6)
    assert foreign.geometry.matches(own.geometry)
    assert len(source_files(tmp_path / name)) == 1


def test_an_oblique_grid_survives(tmp_path: Path) -> None:
    from anymri.data.geometry import Geometry

    turn = np.deg2rad(20)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, -1]]) * (
        1,
        2,
        3,
    )
    affine[:3, 3] = (10, -20, 30)
    grid = Geometry(affine, (8, 7, 6))
    for name in ("a.mha", "dicom"):
        if name == "dicom":
            write_dicom(tmp_path / name, VOLUME, grid, "x")
        else:
            write_array(tmp_path / name, VOLUME, grid)
        volume = read_image(tmp_path / name)
        np.testing.assert_array_equal(volume.array, VOLUME)
        # A series has no direction of its own: slices are stored along or against the file's third axis.
        np.testing.assert_allclose(volume.geometry.affine_dhw, grid.affine_dhw, atol=1e-5)


@pytest.mark.parametrize("name", ["a.MHA", "a.Mha", "a.NRRD", "a.NII.GZ", "a.Nii"])
def test_endings_are_read_in_any_case(tmp_path: Path, name: str) -> None:
    lower = tmp_path / name.lower()
    write_array(lower, VOLUME, GRID)
    expected = read_image(lower).array
    lower.rename(tmp_path / name)
    np.testing.assert_array_equal(read_image(tmp_path / name).array, expected)


@pytest.mark.parametrize(
    ("name", "removed"), [("a.mha", ["TransformMatrix"]), ("a.nrrd", ["space directions", "space:", "space origin"])]
)
def test_without_directions_left_and_right_are_a_guess(tmp_path: Path, name: str, removed: list[str]) -> None:
    write_array(tmp_path / name, VOLUME, GRID)
    assert read_image(tmp_path / name).geometry.orientation_known
    lines = (tmp_path / name).read_bytes().split(b"\n")
    kept = [line for line in lines if not line.startswith(tuple(word.encode() for word in removed))]
    (tmp_path / name).write_bytes(b"\n".join(kept))
    volume = read_image(tmp_path / name)
    assert not volume.geometry.orientation_known
    assert ["left and right" in note for note in volume.notes if "no voxel size" not in note] == [True]


def test_a_negative_voxel_size_mirrors_with_a_note(tmp_path: Path) -> None:
    write_array(tmp_path / "a.mha", VOLUME, GRID)
    good = read_image(tmp_path / "a.mha")
    content = (tmp_path / "a.mha").read_bytes()
    (tmp_path / "a.mha").write_bytes(content.replace(b"ElementSpacing = ", b"ElementSpacing = -"))
    volume = read_image(tmp_path / "a.mha")
    np.testing.assert_array_equal(volume.array, good.array[..., ::-1])
    assert ["negative voxel size" in note for note in volume.notes] == [True]


def test_every_slice_of_a_series_has_its_own_scale_factor(tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    write_dicom(tmp_path / "series", VOLUME, GRID, "x")
    slopes = [1, 0.05, 2.5, 0.3, 7, 1]
    for file, slope in zip(sorted((tmp_path / "series").iterdir()), slopes, strict=True):
        header = pydicom.dcmread(file)
        header.RescaleSlope, header.RescaleIntercept = str(slope), "3"
        header.save_as(file)
    expected = VOLUME * np.array(slopes)[:, None, None] + 3
    np.testing.assert_allclose(read_image(tmp_path / "series").array, expected, rtol=1e-6)


def test_bad_files_are_refused_in_one_line(tmp_path: Path) -> None:
    write_array(tmp_path / "good.mha", VOLUME, GRID)
    whole = (tmp_path / "good.mha").read_bytes()
    (tmp_path / "cut.mha").write_bytes(whole[:-50])
    (tmp_path / "text.mha").write_text("hello")
    (tmp_path / "huge.mha").write_bytes(whole.replace(b"DimSize = 8 7 6", b"DimSize = 9000 9000 9000"))
    (tmp_path / "large.mha").write_bytes(whole.replace(b"DimSize = 8 7 6", b"DimSize = 500 500 500"))
    write_array(tmp_path / "alone.nhdr", VOLUME, GRID)
    (tmp_path / "alone.raw").unlink()
    (tmp_path / "folder").mkdir()
    for name, words in (
        ("cut.mha", "missing or damaged"),
        ("text.mha", "damaged or of another format"),
        ("huge.mha", "more than are read"),
        ("large.mha", "truncated"),
        ("alone.nhdr", "its data file alone.raw is missing"),
        ("none.mha", "no such file"),
        ("folder", "without a DICOM series"),
        ("none", "no such file"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            read_image(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert str(tmp_path / name) in str(caught.value)


# ------------------------------------------------------------------------------------------------------------ DICOM


def test_real_series_equal_their_nifti_files(shared_data: Path) -> None:
    """The series hold slices 16 to 31 of the native volumes; positions agree within 1e-3 mm."""
    for folder, name in (("t1w", "t1"), ("t2w", "t2"), ("flair", "flair")):
        series = read_image(shared_data / "dicom" / "openms_patient12_study1" / folder)
        whole = read_image(shared_data / "openms_raw" / "patient12_study1" / f"{name}.nii.gz")
        corners = np.array([[0, 0, 0, 1], [15, 0, 0, 1], [0, *np.array(series.array.shape[1:]) - 1, 1]]).T
        inside = np.linalg.inv(whole.geometry.affine_dhw) @ series.geometry.affine_dhw @ corners
        nearest = np.rint(inside)
        distance_mm = np.abs(whole.geometry.affine_dhw @ (inside - nearest)).max()
        assert distance_mm < 1e-3
        first, stop = nearest[:3, 0].astype(int), nearest[:3, 1].astype(int)
        assert abs(stop[0] - first[0]) == 15
        np.testing.assert_allclose(series.array, whole.array[first[0] : first[0] + 16], atol=1e-3)


def test_bad_series_are_refused(tmp_path: Path) -> None:
    write_dicom(tmp_path / "good", VOLUME, GRID, "one")
    shutil.copytree(tmp_path / "good", tmp_path / "gap")
    (tmp_path / "gap" / "IMG-0003.dcm").unlink()
    shutil.copytree(tmp_path / "good", tmp_path / "twice")
    shutil.copy(tmp_path / "good" / "IMG-0003.dcm", tmp_path / "twice" / "copy.dcm")
    write_dicom(tmp_path / "two", VOLUME, GRID, "one", "a{}.dcm")
    write_dicom(tmp_path / "two", VOLUME, GRID, "two", "b{}.dcm")
    shutil.copytree(tmp_path / "good", tmp_path / "cut")
    file = tmp_path / "cut" / "IMG-0004.dcm"
    file.write_bytes(file.read_bytes()[:-40])
    (tmp_path / "single").mkdir()
    shutil.copy(tmp_path / "good" / "IMG-0001.dcm", tmp_path / "single")
    for name, words in (
        ("gap", "slices are missing or doubled"),
        ("twice", "slices are missing or doubled"),
        ("two", "holds 2 DICOM series"),
        ("cut", r"damaged|slices are missing"),
        ("single", "single slice"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            read_image(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_masks_need_their_series(tmp_path: Path) -> None:
    label = (VOLUME % 3).astype(np.uint8)
    write_png_masks(tmp_path / "Ground", label, GRID, "{:03d}.png")
    with pytest.raises(UserError, match="their grid is unknown"):
        read_image(tmp_path / "Ground", kind="label")
    write_dicom(tmp_path / "DICOM_anon", VOLUME, GRID, "x")
    np.testing.assert_array_equal(read_image(tmp_path / "Ground", kind="label").array, label)
    (tmp_path / "Ground" / "002.png").write_bytes(b"\x89PNG")
    with pytest.raises(UserError, match=r"002\.png: is damaged"):
        read_image(tmp_path / "Ground", kind="label")


def test_no_identity_is_written(tmp_path: Path) -> None:
    import SimpleITK as sitk

    write_dicom(tmp_path / "a", VOLUME, GRID, "Jane Doe")
    content = b"".join(path.read_bytes() for path in (tmp_path / "a").iterdir())
    assert b"Jane" not in content
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(tmp_path / "a" / "IMG-0001.dcm"))
    reader.ReadImageInformation()
    assert reader.GetMetaData("0010|0010").strip() == ""


def test_a_gzip_bomb_behind_a_selector_is_refused(tmp_path: Path) -> None:
    header = nib.Nifti1Header()
    header.set_data_shape((600, 600, 600, 4))
    header.set_data_dtype(np.float64)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    (tmp_path / "bomb.nii.gz").write_bytes(gzip.compress(header.binaryblock + bytes(4 + 2**20)))
    with pytest.raises(UserError, match=r"truncated|more than are read"):
        read_image(tmp_path / "bomb.nii.gz#1")
