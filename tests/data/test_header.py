"""What a NIfTI header says of the grid: mended, doubted, refused."""

import nibabel as nib
import numpy as np
import pytest

from anymri.data.nifti import check_study, read_image, write_image
from anymri.types import UserError

SHAPE = (12, 10, 8)
AFFINE = np.array([[-1.5, 0, 0, 9], [0, -2, 0, 10], [0, 0, 3, -7], [0, 0, 0, 1.0]])


def save(path, affine=AFFINE, codes=(1, 1), **fields):
    """A small image with both forms set, then header fields of the file overwritten."""
    array = np.zeros(SHAPE, np.int16)
    array[1:-1, 1:-1, 1:-1] = np.random.default_rng(0).integers(1, 1000, (10, 8, 6))
    image = nib.Nifti1Image(array, affine)
    image.set_qform(affine, codes[0])
    image.set_sform(affine, codes[1])
    image.to_filename(path)
    content = bytearray(path.read_bytes())
    header = nib.Nifti1Header(bytes(content[:348]), check=False)
    for name, value in fields.items():
        header[name] = value
    content[:348] = header.binaryblock
    path.write_bytes(content)
    return path


def test_a_header_in_order_is_read_without_a_word(tmp_path):
    turn = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.1, 0.2, 0.3) @ np.diag([-1.1, 0.9, 2.5]), (90, -126, 7))
    for number, codes in enumerate([(1, 1), (1, 0), (0, 4), (2, 4)]):
        for affine in (AFFINE, turn):
            assert read_image(save(tmp_path / f"{number}.nii", affine, codes)).notes == ()


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"pixdim": [0, 1.5, 2, 3, 1, 1, 1, 1], "sform_code": 0}, "qfac"),
        ({"vox_offset": 0}, "vox_offset"),
        ({"vox_offset": np.nan}, "vox_offset"),
        ({"pixdim": [1, -1.5, 2, 3, 1, 1, 1, 1]}, "voxel size"),
        ({"pixdim": [1, 1.5, 0, 3, 1, 1, 1, 1]}, "voxel size"),
        ({"pixdim": [1, np.nan, np.inf, 3, np.nan, 1, 1, 1]}, "voxel size"),
        ({"quatern_b": np.nan}, "qform is damaged"),
        ({"qoffset_x": np.inf}, "qform is damaged"),
        ({"srow_x": [0, 0, 0, 0]}, "sform is damaged"),
        ({"srow_y": [0, np.nan, 0, 0]}, "sform is damaged"),
    ],
)
def test_what_other_readers_mend_is_read_with_a_note(tmp_path, fields, word):
    good = read_image(save(tmp_path / "good.nii"))
    mended = read_image(save(tmp_path / "bad.nii", **fields))
    np.testing.assert_array_equal(mended.array, good.array)
    np.testing.assert_allclose(mended.geometry.affine, AFFINE, atol=1e-5)
    assert mended.geometry.orientation_known
    assert [word in note for note in mended.notes] == [True]
    written = nib.load(write_image(tmp_path / "out.nii", mended.array, mended.geometry))
    np.testing.assert_allclose(written.affine, AFFINE, atol=1e-5)
    assert all(np.isfinite(written.header[name]).all() for name in ("pixdim", "quatern_b", "qoffset_x", "srow_y"))


def test_a_quaternion_that_rounding_made_too_long_is_read(tmp_path):
    """(0.6, 0.8, 0.002) is 2e-6 longer than 1, which nibabel refuses."""
    path = save(tmp_path / "a.nii", codes=(1, 0), quatern_b=0.6, quatern_c=0.8, quatern_d=0.002)
    affine = read_image(path).geometry.affine
    np.testing.assert_allclose(np.linalg.norm(affine[:3, :3], axis=0), (1.5, 2, 3), rtol=1e-5)
    with pytest.raises(UserError, match="finite"):
        read_image(save(tmp_path / "b.nii", codes=(1, 0), quatern_b=3.0))


def test_trailing_dimensions_of_zero_are_none(tmp_path):
    assert read_image(save(tmp_path / "a.nii", dim=[4, *SHAPE, 0, 0, 0, 0])).array.shape == SHAPE[::-1]


@pytest.mark.parametrize(("shift_mm", "told"), [(450, False), (-520, True), (65_000, True)])
def test_an_image_farther_from_the_origin_than_a_scanner_is_wide_is_told(tmp_path, shift_mm, told):
    """By its middle, so that neither size nor direction of the axes matters."""
    affine = AFFINE.copy()
    affine[:3, 3] = -affine[:3, :3] @ [5.5, 4.5, 3.5] + (0, 0, shift_mm)
    notes = read_image(save(tmp_path / "a.nii", affine)).notes
    assert [f"lies {abs(shift_mm) / 1000:.3g} m from the origin" in note for note in notes] == [True] * told


def test_forms_that_disagree_are_named_with_the_distance(tmp_path):
    moved = AFFINE.copy()
    moved[2, 3] += 5
    rows = dict(zip(("srow_x", "srow_y", "srow_z"), moved[:3], strict=True))
    (note,) = read_image(save(tmp_path / "a.nii", **rows)).notes
    assert "up to 5.0 mm apart" in note
    mirrored = AFFINE @ np.diag([-1.0, 1, 1, 1])
    rows = dict(zip(("srow_x", "srow_y", "srow_z"), mirrored[:3], strict=True))
    (note,) = read_image(save(tmp_path / "b.nii", **rows)).notes
    assert "left and right may be swapped" in note
    assert read_image(save(tmp_path / "c.nii", codes=(0, 1), **rows)).notes == ()


def test_two_voxel_sizes_are_named(tmp_path):
    (note,) = read_image(save(tmp_path / "a.nii", codes=(0, 1), pixdim=[1, 1.5, 2, 5, 1, 1, 1, 1])).notes
    assert "1.5 x 2 x 3 mm by its sform" in note
    assert "1.5 x 2 x 5 mm by its pixdim" in note


@pytest.mark.parametrize(("code", "factor"), [(1, 1e-3), (3, 1e3)])
def test_the_unit_of_length_is_honoured_and_kept(tmp_path, code, factor):
    scaled = AFFINE.copy()
    scaled[:3] *= factor
    for codes in ((1, 1), (1, 0), (0, 2)):
        path = save(tmp_path / "a.nii", scaled, codes, xyzt_units=code)
        for read in (read_image(path), read_image(nib.load(path))):
            np.testing.assert_allclose(read.geometry.affine, AFFINE, rtol=1e-5, atol=1e-5)
            assert read.notes == ()
            written = nib.load(write_image(tmp_path / "out.nii", read.array, read.geometry))
            np.testing.assert_array_equal(written.affine, nib.load(path).affine)
            assert written.header["xyzt_units"] == code
    other = np.random.default_rng(1).random(read.array.shape, np.float32)
    check_study({"t1": read, "t2": read_image(save(tmp_path / "b.nii"))._replace(array=other)})


def test_a_unit_that_no_scan_can_have_is_read_as_millimetres(tmp_path):
    for code, name in ((1, "metre"), (3, "micrometre")):
        read = read_image(save(tmp_path / "a.nii", xyzt_units=code))
        np.testing.assert_array_equal(read.geometry.affine, AFFINE)
        assert name in read.notes[0]
