"""Headers of MHA and NRRD files: the same as ITK reads, and nothing that a header can say breaks the program."""

import bz2
import gzip
import os
import re
import zlib

import numpy as np
import pytest

from anymri.data.datasets.layout import native_grid, write_array
from anymri.data.nifti import read_image
from anymri.types import UserError

SHAPE = (6, 7, 8)
VOLUME = np.random.default_rng(0).integers(0, 900, SHAPE).astype(np.int16)
GRID = native_grid(SHAPE, (3.0, 2.0, 1.5))
NATIVE = VOLUME.tobytes()  # first axis fastest, as files have it
MHA = """ObjectType = Image
NDims = 3
BinaryData = True
BinaryDataByteOrderMSB = False
CompressedData = False
TransformMatrix = 1 0 0 0 1 0 0 0 1
Offset = 1 2 3
ElementSpacing = 1.5 2 3
DimSize = 8 7 6
ElementType = MET_SHORT
ElementDataFile = LOCAL
"""
NRRD = """NRRD0004
# remark
type: short
dimension: 3
space: left-posterior-superior
sizes: 8 7 6
space directions: (1.5,0,0) (0,2,0) (0,0,3)
kinds: domain domain domain
endian: little
encoding: raw
space origin: (1,2,3)
patient:=nobody

"""


def write(folder, text, voxels=NATIVE, name=None):
    path = folder / (name or ("a.nrrd" if text.startswith("NRRD") else "a.mha"))
    path.write_bytes(text.encode() + voxels)
    return path


def changed(text, **fields):
    """Header with other values (None = without) of fields, whose names have _ for spaces; new ones come last."""
    lines, sign = text.split("\n"), ": " if text.startswith("NRRD") else " = "
    for name, value in fields.items():
        name = name.replace("_", " ")
        place = next((n for n, line in enumerate(lines) if line.startswith(name + sign)), None)
        if value is None:
            del lines[place]
        elif place is None:
            lines.insert(len(lines) - 2, f"{name}{sign}{value}")
        else:
            lines[place] = f"{name}{sign}{value}"
    return "\n".join(lines)


def refused(path):
    with pytest.raises(UserError) as caught:
        read_image(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    assert ";" in text
    assert len(text) < 400 + len(str(path))
    return text


# ------------------------------------------------------------------------------------------- the same as ITK reads

MET = {"i1": "CHAR", "u1": "UCHAR", "i2": "SHORT", "u2": "USHORT", "i4": "INT", "u4": "UINT"}
MET |= {"f4": "FLOAT", "f8": "DOUBLE"}
PACKED, AS_TEXT = zlib.compress(NATIVE), " ".join(map(str, VOLUME.ravel())).encode()
TURNED = "TransformMatrix = 0.6 0.8 0 -0.8 0.6 0 0 0 -1"
CASES = {
    **{f"mha {k}": (changed(MHA, ElementType=f"MET_{name}"), VOLUME.astype(k).tobytes()) for k, name in MET.items()},
    "mha big": (changed(MHA, BinaryDataByteOrderMSB="True"), VOLUME.astype(">i2").tobytes()),
    "mha zlib": (changed(MHA, CompressedData="True", CompressedDataSize=len(PACKED)), PACKED),
    "mha turned": (MHA.replace("TransformMatrix = 1 0 0 0 1 0 0 0 1", TURNED), NATIVE),
    "mha mirrored": (changed(MHA, ElementSpacing="1.5 -2 3"), NATIVE),
    "mha size for spacing": (MHA.replace("ElementSpacing", "ElementSize"), NATIVE),
    "nrrd": (NRRD, NATIVE),
    "nrrd big": (changed(NRRD, endian="big"), VOLUME.astype(">i2").tobytes()),
    "nrrd gzip": (changed(NRRD, encoding="gzip"), gzip.compress(NATIVE)),
    "nrrd text": (changed(NRRD, encoding="ascii"), AS_TEXT),
    "nrrd hex": (changed(NRRD, encoding="hex"), NATIVE.hex().encode()),
    "nrrd ras": (changed(NRRD, space="right-anterior-superior"), NATIVE),
    "nrrd las": (changed(NRRD, space="LAS"), NATIVE),
    "nrrd oblique": (changed(NRRD, space_directions="(0.9,1.2,0) (-1.6,1.2,0) (0,0,3)"), NATIVE),
    "nrrd spacings": (changed(NRRD, space=None, space_origin=None, space_directions=None, spacings="1.5 2 -3"), NATIVE),
    "nrrd byte skip": (changed(NRRD, byte_skip="5"), b"12345" + NATIVE),
    "nrrd at the end": (changed(NRRD, byte_skip="-1"), b"what" * 9 + NATIVE),
    "nrrd line skip": (changed(NRRD, line_skip="2"), b"one\ntwo\n" + NATIVE),
    "nrrd one value": (changed(NRRD, dimension="4", sizes="1 8 7 6", kinds="vector domain domain domain",
                               space_directions="none (1.5,0,0) (0,2,0) (0,0,3)"), NATIVE),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_values_and_place_are_those_that_itk_reads(tmp_path, name):
    import SimpleITK as sitk

    path = write(tmp_path, *CASES[name])
    volume, image = read_image(path), sitk.ReadImage(str(path))
    native = sitk.GetArrayFromImage(image).reshape(SHAPE)
    for index in ((0, 0, 0), (7, 0, 0), (1, 6, 2), (3, 4, 5)):
        place = np.diag([-1, -1, 1]) @ image.TransformIndexToPhysicalPoint(index)
        d, h, w = np.rint(np.linalg.inv(volume.geometry.affine_dhw) @ [*place, 1])[:3].astype(int)
        assert volume.array[d, h, w] == native[index[::-1]]
        np.testing.assert_allclose(volume.geometry.affine_dhw @ [d, h, w, 1], [*place, 1], atol=1e-5)


def test_packings_that_itk_does_not_read_here(tmp_path):
    expected = read_image(write(tmp_path, NRRD)).array
    for text, voxels in (
        (changed(NRRD, encoding="bz2"), bz2.compress(NATIVE)),
        (changed(MHA, BinaryData="False"), AS_TEXT),
        (changed(MHA, CompressedData="True"), gzip.compress(NATIVE)),
    ):
        np.testing.assert_array_equal(read_image(write(tmp_path, text, voxels)).array, expected)


@pytest.mark.parametrize("said", ["s%03d.raw 1 6 1", "LIST"])
@pytest.mark.parametrize("name", ["a.mhd", "a.nhdr"])
def test_a_file_for_each_slice_is_read_in_order(tmp_path, name, said):
    for number in range(6):
        (tmp_path / f"s{number + 1:03d}.raw").write_bytes(VOLUME[number].tobytes())
    listed = "".join(f"s{number + 1:03d}.raw\n" for number in range(6)) if said == "LIST" else ""
    text = changed(MHA, ElementDataFile=said) if name == "a.mhd" else f"{NRRD.strip()}\ndata file: {said}\n"
    expected = read_image(write(tmp_path, NRRD)).array
    np.testing.assert_array_equal(read_image(write(tmp_path, text + listed, b"", name)).array, expected)
    (tmp_path / "s004.raw").unlink()
    assert "s004.raw is missing" in refused(tmp_path / name)


# --------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("value", ["", "0", "-1", "nan", "2", "4", "99", "9" * 400, "1e9", "٣", "3 3", "x"])
@pytest.mark.parametrize(("text", "name"), [(MHA, "NDims"), (NRRD, "dimension")])
def test_any_number_of_axes_is_refused_but_three(tmp_path, text, name, value):
    refused(write(tmp_path, changed(text, **{name: value})))


@pytest.mark.parametrize("value", ["", "8 7", "8 7 6 1", "8 7 0", "8 -7 6", "nan 7 6", "8 7 6e0", "8 7 " + "6" * 30])
@pytest.mark.parametrize(("text", "name"), [(MHA, "DimSize"), (NRRD, "sizes")])
def test_sizes_that_are_none_are_refused(tmp_path, text, name, value):
    refused(write(tmp_path, changed(text, **{name: value})))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("text", "name"), [(MHA, "DimSize"), (NRRD, "sizes")])
def test_a_promise_that_the_file_cannot_hold_is_refused_before_anything_is_allocated(tmp_path, text, name, packed):
    assert "more than are read" in refused(write(tmp_path, changed(text, **{name: "65535 65535 65535"})))
    if packed:
        text = changed(text, **({"CompressedData": "True"} if text == MHA else {"encoding": "gzip"}))
    assert "truncated" in refused(write(tmp_path, changed(text, **{name: "600 600 600"})))


def test_no_image_is_read_that_the_memory_does_not_hold(tmp_path, monkeypatch):
    monkeypatch.setattr("anymri.memory.free_bytes", lambda: 2000)
    for path in (write(tmp_path, MHA), tmp_path / "a.nii", tmp_path / "a.nii.gz"):
        if not path.exists():
            write_array(path, VOLUME, GRID)
        assert "GiB of memory" in refused(path)


@pytest.mark.parametrize(
    "fields",
    [
        {"ElementSpacing": "0 2 3"}, {"ElementSpacing": "nan 2 3"}, {"ElementSpacing": "1e-30 2 3"},
        {"ElementSpacing": "1 2"}, {"TransformMatrix": "1 0 0 1 0 0 0 0 1"}, {"TransformMatrix": "0 0 0 0 0 0 0 0 0"},
        {"TransformMatrix": "1 0 0"}, {"Offset": "inf 0 0"}, {"Offset": "1e9 0 0"}, {"Rotation": "0 1 0 1 0 0 0 0 1"},
        {"ElementType": "MET_STRING"}, {"ElementNumberOfChannels": "3"}, {"BinaryDataByteOrderMSB": "1 1 1"},
        {"HeaderSize": "-2"}, {"Origin": "7 7 7"},
    ],
)  # fmt: skip
def test_an_mha_header_that_contradicts_itself_is_refused(tmp_path, fields):
    refused(write(tmp_path, changed(MHA, **fields)))


@pytest.mark.parametrize(
    "fields",
    [
        {"space_directions": "(0,0,0) (0,2,0) (0,0,3)"}, {"space_directions": "(1,0,0) (2,0,0) (0,0,3)"},
        {"space_directions": "(nan,0,0) (0,2,0) (0,0,3)"}, {"space_directions": "(1,0,0) (0,2,0)"},
        {"space_directions": "(1,0) (0,2) (0,0)"}, {"space_directions": "(1,0,0) (0,2,0) none"},
        {"kinds": "vector domain domain"}, {"kinds": "domain domain"}, {"space_dimension": "2"},
        {"space_origin": "(nan,0,0)"}, {"endian": None}, {"type": "block"}, {"encoding": "zrle"},
        {"byte_skip": "-2"}, {"line_skip": "99"}, {"spacings": "1 0 3"}, {"sizes ": "8 7 5"},
    ],
)  # fmt: skip
def test_an_nrrd_header_that_contradicts_itself_is_refused(tmp_path, fields):
    refused(write(tmp_path, changed(NRRD, **fields)))


def test_data_files_are_plain_names_beside_the_header(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.raw").write_bytes(NATIVE)
    (tmp_path / "in" / "link.raw").symlink_to(tmp_path / "secret.raw")
    os.mkfifo(tmp_path / "in" / "pipe.raw")
    names = ["../secret.raw", str(tmp_path / "secret.raw"), "link.raw", "pipe.raw", "/dev/zero", ".", "no.raw", ""]
    names += ["%s%n.raw 1 6 1", "s%03d.raw 1 6 0", "s%999999d.raw 1 6 1", "s%d.raw 1 999999 1", "LIST", "LIST 9"]
    for name in [*names, "ü\0.raw"]:
        detached = {"a.mhd": changed(MHA, ElementDataFile=name), "a.nhdr": f"{NRRD.strip()}\ndata file: {name}\n"}
        for file, text in detached.items():
            refused(write(tmp_path / "in", text, b"", file))


@pytest.mark.parametrize("content", [b"", b"NRRD0004", b"NRRD0004\ntype: short\n", b"NRRD0099\n\n", b"\xff\xfe" * 99])
@pytest.mark.parametrize("name", ["a.mha", "a.mhd", "a.nrrd", "a.nhdr"])
def test_a_header_without_an_end_is_refused(tmp_path, name, content):
    for tail in (b"", b"x" * 2**21, b"a: b\n" * 2**18, b"a = b\n" * 2**18, b"\n" * 2**20):
        (tmp_path / name).write_bytes(content + tail)
        refused(tmp_path / name)


@pytest.mark.parametrize("cut", [1, 300])
@pytest.mark.parametrize("name", ["mha i2", "mha zlib", "nrrd gzip", "nrrd text", "nrrd hex", "nrrd byte skip"])
def test_voxels_that_are_cut_off_are_refused(tmp_path, name, cut):
    text, voxels = CASES[name]
    if cut == 1 and "text" in name:
        voxels += b" "  # the last digit alone cannot be missed
        cut = 5
    refused(write(tmp_path, text, voxels[:-cut]))


def test_numbers_that_are_none_or_do_not_fit_their_type_are_refused(tmp_path):
    text, voxels = CASES["nrrd text"]
    for wrong in (b"nothing", b"99999", b"nan"):
        refused(write(tmp_path, text, wrong + b" " + voxels.split(b" ", 1)[1]))


def test_a_wrong_checksum_is_noticed(tmp_path):
    for name, at in (("mha zlib", -1), ("nrrd gzip", -5)):
        text, voxels = CASES[name]
        broken = bytearray(voxels)
        broken[at] ^= 1
        refused(write(tmp_path, text, bytes(broken)))


# ------------------------------------------------------------------------------------------------ what is told


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (changed(MHA, ElementSpacing=None), "no voxel size"),
        (changed(MHA, TransformMatrix="2 0 0 0 1 0 0 0 1"), "lengths of 2 x 1 x 1"),
        (changed(MHA, TransformMatrix="1 0 0 0.26 0.966 0 0 0 1"), "off right angles"),
        (changed(MHA, ElementToIntensityFunctionSlope="2"), "scale factor"),
        (changed(MHA, DistanceUnits="m"), "no scan"),
        (changed(MHA, DistanceUnits="furlong"), "not known"),
        (changed(MHA, DimSize="8 7 5"), "more data"),
        (changed(NRRD, spacings="1.5 2 9"), "two voxel sizes"),
        (changed(NRRD, space="scanner-xyz"), "left and right"),
        (changed(NRRD, space_units='"cm" "mm" "mm"'), "not known"),
    ],
)
def test_what_is_doubtful_is_read_with_one_note(tmp_path, text, word):
    volume = read_image(write(tmp_path, text))
    assert [word in note for note in volume.notes] == [True]
    assert volume.geometry.orientation_known == (word != "left and right")


def test_a_unit_of_length_that_can_be_meant_is_honoured(tmp_path):
    text = changed(MHA, ElementSpacing="0.15 0.2 0.3", DistanceUnits="cm")
    volume = read_image(write(tmp_path, text))
    assert volume.notes == ()
    np.testing.assert_allclose(volume.geometry.spacing_mm, (3, 2, 1.5))


def test_a_header_in_order_gives_no_note(tmp_path):
    for name in ("mha i2", "nrrd", "mha zlib", "nrrd gzip", "mha turned"):
        assert read_image(write(tmp_path, *CASES[name])).notes == ()


def test_a_message_shows_little_of_what_a_header_says(tmp_path):
    text = refused(write(tmp_path, changed(MHA, ElementType="MET_\x1b[31m" + "A" * 5000)))
    assert not re.search(r"[^ -~]", text.replace(str(tmp_path), ""))
