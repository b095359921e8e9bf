"""Reading, refusing and writing NIfTI files; the (D, H, W) axes."""

import gzip
import os
import resource
import time
import tracemalloc

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform

from anymri.data.lattice import Lattice
from anymri.data.nifti import Geometry, Volume, check_study, from_native, read_image, to_native, to_nibabel, write_image
from anymri.types import UserError

SHAPE = (12, 10, 8)


def values(shape=SHAPE, dtype=np.int16, seed=0):
    """Integers with many distinct values and an empty border."""
    array = np.zeros(shape, dtype)
    inner = tuple(slice(1, -1) for _ in shape)
    array[inner] = np.random.default_rng(seed).integers(1, 1000, array[inner].shape)
    return array


def save(path, array=None, affine=None, header=None):
    array = values() if array is None else array
    nib.Nifti1Image(array, np.eye(4) if affine is None else affine, header).to_filename(path)
    return path


def patched(path, **fields):
    """Rewrite header fields of an uncompressed file in place."""
    content = bytearray(path.read_bytes())
    header = nib.Nifti1Header(bytes(content[:348]), check=False)
    for name, value in fields.items():
        header[name] = value
    content[:348] = header.binaryblock
    path.write_bytes(content)
    return path


# ---------------------------------------------------------------------------------------------------------- axes


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LAS", "SAR", "PIR", "ILP", "ASL"])
def test_markers_in_three_corners_land_on_the_named_axes_and_come_back(tmp_path, codes):
    """World positions decide: D grows to superior, H to anterior, W to the right."""
    shape, spacing = (11, 13, 17), np.array([1.0, 1.5, 2.0])
    ras = np.diag([*spacing, 1.0])
    ras[:3, 3] = (-7, -5, -3)
    transform = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    image = np.zeros(shape, np.float32)
    image[2:9, 2:11, 2:15] = np.random.default_rng(0).uniform(10, 20, (7, 9, 13))
    image[0, 12, 0], image[10, 0, 0], image[0, 0, 16] = 100, 200, 300  # left-anterior-inferior, right, superior
    native = nib.orientations.apply_orientation(image, transform)
    affine = ras @ inv_ornt_aff(transform, shape)
    volume = read_image(save(tmp_path / "image.nii.gz", native, affine))
    assert volume.array.shape == (17, 13, 11)
    assert volume.geometry.spacing_mm == pytest.approx((2.0, 1.5, 1.0))
    assert volume.geometry.orientation == codes
    assert (volume.array[0, 12, 0], volume.array[0, 0, 10], volume.array[16, 0, 0]) == (100, 200, 300)
    np.testing.assert_allclose(volume.geometry.affine_dhw @ (16, 0, 0, 1), ras @ (0, 0, 16, 1), atol=1e-5)
    np.testing.assert_array_equal(to_native(volume.array, volume.geometry), native)
    np.testing.assert_array_equal(from_native(native, affine), volume.array)
    stacked = np.stack([volume.array, 2 * volume.array])
    np.testing.assert_array_equal(to_native(stacked, volume.geometry)[1], 2 * native)


def test_an_oblique_grid_takes_the_nearest_axes():
    angle = np.deg2rad(20)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-1, -1, 3])
    geometry = Geometry(affine, SHAPE)
    assert geometry.shape_dhw == (8, 10, 12)
    assert geometry.spacing_mm == pytest.approx((3, 1, 1))
    back = np.linalg.inv(geometry.affine) @ geometry.affine_dhw
    np.testing.assert_allclose(back @ (0, 0, 0, 1), (11, 9, 0, 1), atol=1e-12)


def test_to_native_refuses_another_grid():
    with pytest.raises(ValueError, match="not on the grid"):
        to_native(np.zeros((12, 10, 8)), Geometry(np.eye(4), SHAPE))


# ------------------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize("name", ["image.nii", "image.nii.gz"])
@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32, np.float64, ">i2"])
def test_values_and_affine_are_those_nibabel_reads(tmp_path, name, dtype):
    array = values().astype(dtype)
    path = save(tmp_path / name, array, np.diag([-1.0, 2, 3, 1]))
    volume = read_image(str(path))
    assert volume.array.dtype == np.float32
    assert volume.source == str(path)
    np.testing.assert_array_equal(to_native(volume.array, volume.geometry), array.astype(np.float32))
    np.testing.assert_array_equal(volume.geometry.affine, nib.load(path).affine)


@pytest.mark.parametrize("intercept", [0.0, -50.0])
def test_the_scale_factor_is_applied_and_zero_stays_exactly_zero(tmp_path, intercept):
    path = patched(save(tmp_path / "a.nii"), scl_slope=0.1, scl_inter=intercept)
    volume = read_image(path)
    expected = np.asarray(nib.load(path).dataobj)
    np.testing.assert_allclose(to_native(volume.array, volume.geometry), expected, atol=1e-4)
    if intercept:
        stored = values()
        stored[1:3] = 500  # 500 * 0.1 - 50
        save(tmp_path / "b.nii", stored)
        volume = read_image(patched(tmp_path / "b.nii", scl_slope=0.1, scl_inter=intercept))
        assert (to_native(volume.array, volume.geometry)[1:3] == 0).all()


def test_trailing_dimensions_of_one_are_dropped_and_nifti2_is_read(tmp_path):
    assert read_image(save(tmp_path / "4d.nii.gz", values()[..., None])).array.shape == SHAPE[::-1]
    nib.Nifti2Image(values(), np.eye(4)).to_filename(tmp_path / "two.nii.gz")
    volume = read_image(tmp_path / "two.nii.gz")
    written = write_image(tmp_path / "out.nii.gz", volume.array, volume.geometry)
    assert isinstance(nib.load(written), nib.Nifti2Image)


def test_a_nibabel_image_in_memory_reads_like_its_file(tmp_path):
    affine = np.diag([-2.1, 0.9, 1, 1])  # not representable in the header's float32
    path = save(tmp_path / "image.nii.gz", affine=affine)
    expected = read_image(path)
    in_memory = nib.Nifti1Image(values(), affine)
    for image in (in_memory, nib.load(path), nib.Spm99AnalyzeImage(values(), affine)):
        volume = read_image(image)
        np.testing.assert_array_equal(volume.array, expected.array)
        np.testing.assert_array_equal(to_nibabel(volume.array, volume.geometry).affine, image.affine)
        np.testing.assert_allclose(volume.geometry.affine, affine, atol=1e-6)
    scaled = nib.load(patched(save(tmp_path / "scaled.nii"), scl_slope=2))
    np.testing.assert_array_equal(read_image(scaled).array, 2 * expected.array[:, :, ::-1])


def test_a_pigz_stream_of_several_members_is_read(tmp_path):
    content = save(tmp_path / "image.nii").read_bytes()
    (tmp_path / "image.nii.gz").write_bytes(gzip.compress(content[:1000]) + gzip.compress(content[1000:]))
    np.testing.assert_array_equal(read_image(tmp_path / "image.nii.gz").array, read_image(tmp_path / "image.nii").array)


def test_labels_are_whole_numbers_and_may_be_empty(tmp_path):
    label = np.zeros(SHAPE, np.float32)
    assert read_image(save(tmp_path / "empty.nii.gz", label), "label").array.dtype == np.int16
    label[2:4] = 4
    assert set(np.unique(read_image(save(tmp_path / "seg.nii.gz", label), "label").array)) == {0, 4}


# ------------------------------------------------------------------------------------------------------ refusing


def bad_files(folder):
    """Name, file and a word of the message."""
    nan, infinite = values().astype(np.float32), values().astype(np.float32)
    nan[3, 3, 3], infinite[4, 4, 4] = np.nan, np.inf
    text = folder / "text.nii.gz"
    text.write_text("hello")
    (folder / "none.nii").write_bytes(b"")
    (folder / "short.nii").write_bytes(save(folder / "x.nii").read_bytes()[:200])
    packed = gzip.compress(save(folder / "x.nii").read_bytes())
    (folder / "half.nii.gz").write_bytes(packed[: len(packed) // 2])
    (folder / "tail.nii.gz").write_bytes(packed[:-6])
    (folder / "crc.nii.gz").write_bytes(packed[:-8] + b"\0\0\0\0" + packed[-4:])
    (folder / "cut.nii").write_bytes(save(folder / "x.nii").read_bytes()[:-100])
    wide = np.eye(4)
    wide[0, 0] = 1e6
    sheared = np.eye(4)
    sheared[:3, 1] = (1, 0.01, 0)
    colour = np.zeros(SHAPE, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    mask = np.zeros(SHAPE, np.uint8)
    mask[4:6], mask[6:8] = 1, 4
    pair = nib.Nifti1Pair(values(), np.eye(4))
    pair.to_filename(folder / "pair.hdr")
    return {
        "missing": (folder / "nowhere.nii.gz", "no such file"),
        "folder": (folder, "folder"),
        "text": (text, "not a NIfTI"),
        "no bytes": (folder / "none.nii", "not a NIfTI"),
        "short header": (folder / "short.nii", "header is cut off"),
        "pair": (folder / "pair.hdr", "pair"),
        "half a gzip": (folder / "half.nii.gz", "truncated"),
        "gzip without its end": (folder / "tail.nii.gz", "truncated"),
        "gzip with a wrong checksum": (folder / "crc.nii.gz", "damaged"),
        "cut": (folder / "cut.nii", "truncated"),
        "2D": (save(folder / "2d.nii.gz", values((30, 30))), "single slice"),
        "one slice": (save(folder / "slice.nii.gz", values((30, 30, 1))), "single slice"),
        "4D": (save(folder / "4d.nii.gz", np.stack([values(), values()], -1)), "4D"),
        "5D": (save(folder / "5d.nii.gz", np.stack([values()[..., None]] * 3, -1)), "5D"),
        "no voxels": (patched(save(folder / "zero.nii"), dim=[3, 12, 0, 8, 1, 1, 1, 1]), "is empty"),
        "colour": (save(folder / "rgb.nii.gz", colour), "colour"),
        "complex": (save(folder / "complex.nii.gz", values().astype(np.complex64)), "complex"),
        "all zero": (save(folder / "zeros.nii.gz", np.zeros(SHAPE, np.int16)), "is empty"),
        "constant": (save(folder / "ones.nii.gz", np.full(SHAPE, 7, np.int16)), "constant"),
        "all NaN": (save(folder / "nans.nii.gz", np.full(SHAPE, np.nan, np.float32)), "every value"),
        "a NaN": (save(folder / "nan.nii.gz", nan), "1 values inside the image are NaN"),
        "an infinity": (save(folder / "inf.nii.gz", infinite), "1 values are infinite"),
        "singular": (patched(save(folder / "s.nii"), sform_code=1, srow_x=[0, 0, 0, 0]), "singular"),
        "sheared": (patched(save(folder / "h.nii"), sform_code=1, **_rows(sheared)), "sheared"),
        "huge voxels": (patched(save(folder / "w.nii"), sform_code=1, **_rows(wide)), "not plausible"),
        "NaN affine": (patched(save(folder / "n.nii"), sform_code=1, srow_x=[np.nan, 0, 0, 0]), "finite"),
        "mask": (save(folder / "seg.nii.gz", mask), "label map"),
    }


def _rows(affine):
    return {"srow_x": affine[0], "srow_y": affine[1], "srow_z": affine[2]}


def test_every_bad_file_is_refused_in_one_line_that_names_it(tmp_path):
    for name, (path, word) in bad_files(tmp_path).items():
        with pytest.raises(UserError) as caught:
            read_image(path)
        message = str(caught.value)
        assert message.startswith(f"{path}: "), name
        assert word in message, (name, message)
        assert ";" in message, name
        assert "\n" not in message, name


@pytest.mark.parametrize("name", ["big.nii", "big.nii.gz"])
@pytest.mark.parametrize("size", [32767, 600])
def test_a_header_that_promises_too_much_costs_nothing(tmp_path, name, size):
    """32767 cubed is beyond the cap; 600 cubed is allowed but cannot be in so small a file."""
    content = patched(save(tmp_path / "x.nii"), dim=[3, size, size, size, 1, 1, 1, 1]).read_bytes()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    tracemalloc.start()
    start = time.perf_counter()
    with pytest.raises(UserError, match="more than are read" if size == 32767 else "truncated, its header promises"):
        read_image(tmp_path / name)
    seconds, peak = time.perf_counter() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6
    assert seconds < 1


def test_a_gzip_bomb_behind_the_voxels_is_not_unpacked(tmp_path):
    content = save(tmp_path / "x.nii").read_bytes()
    with gzip.open(tmp_path / "bomb.nii.gz", "wb", compresslevel=1) as file:
        file.write(content)
        for _ in range(64):
            file.write(bytes(2**20))
    tracemalloc.start()
    with pytest.raises(UserError, match="more data than"):
        read_image(tmp_path / "bomb.nii.gz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_anything_behind_the_voxels_is_told_zeros_too(tmp_path, name):
    content = save(tmp_path / "whole.nii").read_bytes()
    assert read_image(tmp_path / "whole.nii").notes == ()
    (tmp_path / name).write_bytes(gzip.compress(content + bytes(4)) if name.endswith("gz") else content + bytes(4))
    assert any("more data than its header promises" in note for note in read_image(tmp_path / name).notes)


def test_four_dimensions_in_memory_are_refused_before_loading():
    with pytest.raises(UserError, match="4D"):
        read_image(nib.Nifti1Image(np.stack([values(), values()], -1), np.eye(4)))
    with pytest.raises(UserError, match="neither a path nor"):
        read_image(values())
    singular = nib.spatialimages.SpatialImage(values(), np.diag([1.0, 1, 0, 1]))
    with pytest.raises(UserError, match="singular"):
        read_image(singular)


@pytest.mark.parametrize(
    ("array", "word"),
    [(values() + np.float32(0.5), "label map"), (-values(), "label map"), (np.full(SHAPE, 2.0**24), "label map")],
)
def test_what_is_no_label_map_is_refused_as_one(tmp_path, array, word):
    with pytest.raises(UserError, match=word):
        read_image(save(tmp_path / "seg.nii.gz", array), "label")


def test_an_image_with_few_but_fractional_values_is_an_image(tmp_path):
    array = np.zeros(SHAPE, np.float32)
    array[2:6], array[6:9] = 0.25, 0.75
    assert read_image(save(tmp_path / "a.nii.gz", array)).array.max() == 0.75


# --------------------------------------------------------------------------------------------------------- study


def volume(array=None, affine=None, source="memory"):
    array = values() if array is None else array
    return Volume(
        array.astype(np.float32), Geometry(np.eye(4) if affine is None else affine, array.shape[::-1]), source
    )


def test_a_study_needs_one_grid_and_different_images(tmp_path):
    one, other = volume(source="a.nii"), volume(values(seed=1), source="b.nii")
    check_study({"t1": one, "t2": other})
    check_study({"t1": one}, label=other)
    shifted = np.eye(4)
    shifted[0, 3] = 5e-4
    check_study({"t1": one, "t2": volume(values(seed=1), shifted)})
    shifted[0, 3] = 0.1
    cases = {
        "another affine": {"t1": one, "t2": volume(values(seed=1), shifted, "b.nii")},
        "another shape": {"t1": one, "t2": volume(values((12, 10, 9)), source="b.nii")},
        "same image": {"t1": one, "t2": one._replace(source="b.nii")},
    }
    for word, volumes in cases.items():
        with pytest.raises(UserError, match=f"b.nii.*{word}.*a.nii"):
            check_study(volumes)
    with pytest.raises(UserError, match=r"seg.nii.*another affine"):
        check_study({"t1": one}, label=volume(affine=shifted, source="seg.nii"))
    with pytest.raises(UserError, match="no sequence"):
        check_study({})


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "ILA"])
def test_the_same_world_grid_in_another_storage_order_is_one_grid(tmp_path, codes):
    ras = np.diag([1.0, 2.0, 3.0, 1.0])
    save(tmp_path / "ras.nii.gz", affine=ras)
    transform = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    turned = nib.orientations.apply_orientation(values(), transform)
    save(tmp_path / "turned.nii.gz", turned, ras @ inv_ornt_aff(transform, SHAPE))
    one, other = (read_image(tmp_path / name) for name in ("ras.nii.gz", "turned.nii.gz"))
    check_study({"t1": one, "t2": other._replace(array=np.random.default_rng(1).permutation(other.array))})
    with pytest.raises(UserError, match="the same image as"):
        check_study({"t1": one, "t2": other})
    np.testing.assert_array_equal(one.array, other.array)
    shifted = other.geometry.affine + np.array([[0, 0, 0, 0.1]] + [[0] * 4] * 3)
    with pytest.raises(UserError, match="another affine"):
        check_study({"t1": one, "t2": other._replace(geometry=Geometry(shifted, other.geometry.shape))})


@pytest.mark.parametrize("codes", [(0, 0), (1, 0), (0, 4)])
def test_without_form_codes_left_and_right_are_a_guess(tmp_path, codes):
    path = patched(save(tmp_path / "a.nii", affine=np.diag([-1.0, -1, 1, 1])), qform_code=codes[0], sform_code=codes[1])
    for read in (read_image(path), read_image(nib.load(path))):
        assert read.geometry.orientation_known == (codes != (0, 0))
        assert Lattice(step=(2, 2, 2)).grid(read.geometry, (2, 2, 2)).orientation_known == (codes != (0, 0))
        assert [("left and right" in note) for note in read.notes] == ([True] if codes == (0, 0) else [])


def test_a_link_to_the_same_file_is_the_same_image(tmp_path):
    save(tmp_path / "a.nii.gz")
    os.link(tmp_path / "a.nii.gz", tmp_path / "b.nii.gz")
    one, other = (read_image(tmp_path / name) for name in ("a.nii.gz", "b.nii.gz"))
    with pytest.raises(UserError, match="same image"):
        check_study({"t1": one, "t2": other._replace(array=other.array + 1)})


# ------------------------------------------------------------------------------------------------------- writing


@pytest.mark.parametrize("codes", [(0, 0), (1, 0), (0, 2), (2, 4), (1, 1)])
def test_written_files_keep_affine_forms_codes_and_units(tmp_path, codes):
    affine = nib.affines.from_matvec(
        nib.eulerangles.euler2mat(0.1, 0.2, 0.3) @ np.diag([-1.1, 0.9, 2.5]), (90.3, -126.1, -72.7)
    )
    image = nib.Nifti1Image(values(), None)
    image.header.set_qform(affine, codes[0])
    image.header.set_sform(affine if codes[1] else None, codes[1])
    image.header.set_xyzt_units("mm", "sec")
    image.to_filename(tmp_path / "in.nii.gz")
    source = nib.load(tmp_path / "in.nii.gz")
    read = read_image(tmp_path / "in.nii.gz")
    write_image(tmp_path / "out.nii.gz", read.array, read.geometry, np.int16)
    written = nib.load(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(written.affine, source.affine)
    np.testing.assert_array_equal(np.asarray(written.dataobj), values())
    for name in ("qform_code", "sform_code", "xyzt_units", "quatern_b", "srow_y", "datatype"):
        np.testing.assert_array_equal(written.header[name], source.header[name])
    assert written.get_data_dtype() == np.int16


def test_the_same_volume_gives_the_same_bytes(tmp_path):
    geometry = Geometry(np.diag([-1.0, -1, 1, 1]), SHAPE)
    array = values(SHAPE[::-1])
    first = write_image(tmp_path / "a.nii.gz", array, geometry).read_bytes()
    time.sleep(1.1)  # a gzip header counts seconds
    assert write_image(tmp_path / "b.nii.gz", array.copy(order="F"), geometry).read_bytes() == first
    assert gzip.decompress(first) == write_image(tmp_path / "c.nii", array, geometry).read_bytes()
    assert write_image(tmp_path / "m.nii.gz", array > 3, geometry).exists()
    assert nib.load(tmp_path / "m.nii.gz").get_data_dtype() == np.uint8


def test_a_refused_write_leaves_nothing_and_keeps_the_old_file(tmp_path):
    geometry = Geometry(np.eye(4), (64, 64, 64))
    array = np.random.default_rng(0).normal(size=(64, 64, 64)).astype(np.float32)
    (tmp_path / "old.nii.gz").write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        for name in ("new.nii.gz", "old.nii.gz"):
            with pytest.raises(UserError, match=f"{name}: cannot be written.*free some space"):
                write_image(tmp_path / name, array, geometry)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == ["old.nii.gz"]
    assert (tmp_path / "old.nii.gz").read_bytes() == b"old"
    with pytest.raises(UserError, match="not a NIfTI file name"):
        write_image(tmp_path / "image.png", array, geometry)
    with pytest.raises(UserError, match="cannot be written"):
        write_image(tmp_path / "nowhere" / "image.nii.gz", array, geometry)


def test_real_files_go_through_unchanged(tmp_path, shared_data):
    folder = shared_data / "brats2021" / "BraTS2021_01478"
    read = read_image(folder / "flair.nii.gz")
    assert read.geometry.orientation == "LPS"
    write_image(tmp_path / "flair.nii.gz", read.array, read.geometry, np.int16)
    before, after = nib.load(folder / "flair.nii.gz"), nib.load(tmp_path / "flair.nii.gz")
    np.testing.assert_array_equal(np.asarray(after.dataobj), np.asarray(before.dataobj))
    np.testing.assert_array_equal(after.affine, before.affine)
    with pytest.raises(UserError, match="label map"):
        read_image(folder / "seg.nii.gz")
    with pytest.raises(UserError, match="another shape"):
        check_study({"t1": read, "t2": read_image(shared_data / "openms" / "patient07" / "t2.nii.gz")})
