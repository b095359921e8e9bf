"""Forty malformed subjects and two good ones in a cohort: a reason in one line each, the good ones made, no more."""

import gzip
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from anymri.data.cache import Cache
from anymri.data.nifti import read_image
from anymri.data.preprocess import preprocess
from anymri.types import Subject, UserError

SHAPE = (20, 18, 16)


def brain(seed=0):
    array = np.zeros(SHAPE, np.int16)
    array[4:-4, 4:-4, 4:-4] = np.random.default_rng(seed).integers(1, 900, (12, 10, 8))
    return array


def save(path, array=None, affine=None, seed=0):
    image = nib.Nifti1Image(brain(seed) if array is None else array, np.eye(4) if affine is None else affine)
    image.to_filename(path)
    return path


def written(path, content):
    path.write_bytes(content)
    return path


def plain(folder, seed=0):
    """Bytes of a good file without compression."""
    return save(folder / "plain.nii", seed=seed).read_bytes()


def header(folder, **fields):
    """A good file with other header fields."""
    content = plain(folder)
    changed = nib.Nifti1Header(content[:348], check=False)
    for name, value in fields.items():
        changed[name] = value
    return written(folder / "t1.nii", changed.binaryblock + content[348:])


def spoiled(value):
    array = brain().astype(np.float32)
    array[8, 8, 8] = value
    return array


def cut(folder, share, packed=True):
    content = gzip.compress(plain(folder)) if packed else plain(folder)
    return written(folder / ("t1.nii.gz" if packed else "t1.nii"), content[: int(len(content) * share)])


def bomb(folder, name="t1.nii.gz"):
    """Three hundred MiB of zeros behind a good volume, in 1.3 MB."""
    with gzip.open(folder / name, "wb", compresslevel=1) as file:
        file.write(plain(folder))
        for _ in range(300):
            file.write(bytes(2**20))
    return folder / name


def labels(value=2, shape=SHAPE, dtype=np.uint8):
    array = np.zeros(shape, dtype)
    array[8:11, 8:11, 8:11] = value
    return array


def loop(folder):
    (folder / "t1.nii.gz").symlink_to("t1.nii.gz")
    return folder / "t1.nii.gz"


def pair(folder):
    nib.Nifti1Pair(brain(), np.eye(4)).to_filename(folder / "t1.hdr")
    return folder / "t1.hdr"


COLOUR = np.zeros(SHAPE, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
WIDE, SHEARED = np.diag([1e6, 1, 1, 1]), np.array([[1, 1, 0, 0], [0, 0.01, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])

#: One file as T1: name to (how to make it, word of the reason).
ONE = {
    "gone": (lambda f: f / "t1.nii.gz", "no such file"),
    "link to itself": (loop, "no such file"),
    "empty file": (lambda f: written(f / "t1.nii.gz", b""), "not a NIfTI"),
    "text": (lambda f: written(f / "t1.nii.gz", b"see e-mail"), "not a NIfTI"),
    "gzip of text": (lambda f: written(f / "t1.nii.gz", gzip.compress(b"x" * 999)), "NIfTI"),
    "random bytes": (lambda f: written(f / "t1.nii", np.random.default_rng(0).bytes(5000)), "NIfTI"),
    "short header": (lambda f: written(f / "t1.nii", plain(f)[:200]), "header is cut off"),
    "half a gzip": (lambda f: cut(f, 0.5), "truncated"),
    "last bytes lost": (lambda f: cut(f, 0.999), "truncated"),
    "half a file": (lambda f: cut(f, 0.6, packed=False), "truncated"),
    "wrong checksum": (lambda f: written(f / "t1.nii.gz", gzip.compress(plain(f))[:-8] + bytes(8)), "damaged"),
    "bomb behind the voxels": (bomb, "more data than its header"),
    "promises 32767 cubed": (lambda f: header(f, dim=[3, 32767, 32767, 32767, 1, 1, 1, 1]), "more than are read"),
    "promises 600 cubed": (lambda f: header(f, dim=[3, 600, 600, 600, 1, 1, 1, 1]), "truncated"),
    "no dimension": (lambda f: header(f, dim=[0] * 8), ""),
    "negative dimension": (lambda f: header(f, dim=[3, -20, 18, 16, 1, 1, 1, 1]), ""),
    "unknown type": (lambda f: header(f, datatype=9999), ""),
    "header and image apart": (pair, "pair"),
    "2D": (lambda f: save(f / "t1.nii.gz", brain()[8]), "single slice"),
    "4D": (lambda f: save(f / "t1.nii.gz", np.stack([brain(), brain(1)], -1)), "4D"),
    "colour": (lambda f: save(f / "t1.nii.gz", COLOUR), "colour"),
    "complex": (lambda f: save(f / "t1.nii.gz", brain().astype(np.complex64)), "complex"),
    "a NaN": (lambda f: save(f / "t1.nii.gz", spoiled(np.nan)), "NaN"),
    "an infinity": (lambda f: save(f / "t1.nii.gz", spoiled(np.inf)), "infinite"),
    "all zero": (lambda f: save(f / "t1.nii.gz", brain() * 0), "empty"),
    "constant": (lambda f: save(f / "t1.nii.gz", np.full(SHAPE, 7, np.int16)), "constant"),
    "one value in the brain": (lambda f: save(f / "t1.nii.gz", (brain() > 0) * np.float32(4.5)), "constant"),
    "not skull-stripped": (lambda f: save(f / "t1.nii.gz", brain() + np.int16(100)), "skull-stripped"),
    "singular affine": (lambda f: header(f, sform_code=1, srow_x=[0, 0, 0, 0]), "singular"),
    "NaN affine": (lambda f: header(f, sform_code=1, srow_x=[np.nan, 0, 0, 0]), "finite"),
    "kilometres": (lambda f: save(f / "t1.nii.gz", affine=WIDE), "plausible"),
    "sheared": (lambda f: save(f / "t1.nii.gz", affine=SHEARED), "sheared"),
    "label map as image": (lambda f: save(f / "t1.nii.gz", labels()), "label map"),
    "folder without DICOM": (lambda f: (f / "t1").mkdir() or f / "t1", ""),
}
#: A second file beside a good T1: name to (column, how to make it, word of the reason).
BESIDE = {
    "other grid": ("flair", lambda f: save(f / "b.nii.gz", brain(1)[:-1]), "another shape"),
    "other place": ("flair", lambda f: save(f / "b.nii.gz", affine=np.diag([1, 1, 2, 1]), seed=1), "another affine"),
    "same image twice": ("flair", lambda f: save(f / "b.nii.gz"), "same image"),
    "unknown label": ("label", lambda f: save(f / "b.nii.gz", labels(9)), "unknown label"),
    "fractions in the label": ("label", lambda f: save(f / "b.nii.gz", labels(1.5, dtype=np.float32)), "whole"),
    "image as label": ("label", lambda f: save(f / "b.nii.gz", seed=2), "label"),
    "label on another grid": ("label", lambda f: save(f / "b.nii.gz", labels(2, (20, 18, 15))), "shape"),
}


def cohort(folder):
    """Subjects, and the word that the reason of each malformed one holds."""
    subjects, words = [], {}
    for name, (make, word) in ONE.items():
        (folder / name).mkdir()
        subjects.append(Subject(name, {"t1": make(folder / name)}))
        words[name] = word
    for name, (column, make, word) in BESIDE.items():
        (folder / name).mkdir()
        first, second = save(folder / name / "a.nii.gz"), make(folder / name)
        images = {"t1": first} | ({} if column == "label" else {column: second})
        subjects.append(Subject(name, images, second if column == "label" else None))
        words[name] = word
    return subjects, words


def test_forty_malformed_subjects_do_not_stop_the_two_good_ones(tmp_path):
    subjects, words = cohort(tmp_path)
    assert len(words) >= 40
    for name, place in (("first", 0), ("last", len(subjects) + 1)):
        subjects.insert(place, Subject(name, {"t1": save(tmp_path / f"{name}.nii.gz", seed=place)}))
    report = preprocess(subjects, tmp_path / "cache", progress=False)
    assert report.done == ["first", "last"]
    assert set(report.failed) == set(words)
    for name, word in words.items():
        reason = report.failed[name]
        assert word in reason, (name, reason)
        assert "\n" not in reason, name
        assert ";" in reason, f"{name}: no remedy: {reason}"
        assert not reason.split(":")[0].endswith("Error"), f"{name}: not a message for people: {reason}"
    written_files = {path.name for path in (tmp_path / "cache").iterdir()}
    assert written_files == {"dataset.json", "first.json", "first.npy", "last.json", "last.npy"}
    assert Cache(report).subject_ids == ("first", "last")


MEASURED = """
import resource, sys, time
from anymri.data.nifti import read_image
from anymri.types import UserError
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
try:
    read_image(sys.argv[1])
except UserError as error:
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(time.process_time() - start, grown / 1024)
"""


def test_a_decompression_bomb_costs_little(tmp_path):
    packed = bomb(tmp_path)
    assert packed.stat().st_size < 2e6
    answer = subprocess.run(
        [sys.executable, "-c", MEASURED, str(packed)], capture_output=True, encoding="utf-8", check=True
    )
    seconds, mebibytes = map(float, answer.stdout.split())
    assert seconds < 1
    assert mebibytes < 200


#: Fields of the header that say where the voxels are and what they mean, with their bytes.
FIELDS = {"dim": (40, 16), "datatype": (70, 4), "pixdim": (76, 32), "vox_offset": (108, 4), "scale": (112, 8)}
FIELDS |= {"codes": (252, 4), "quaternion": (256, 24), "rows": (280, 48), "magic": (344, 4)}


@settings(max_examples=100, deadline=None, derandomize=True)
@given(field=st.sampled_from(sorted(FIELDS)), content=st.binary(min_size=48, max_size=48), start=st.integers(0, 47))
def test_any_header_is_read_or_refused_in_one_line(field, content, start):
    with tempfile.TemporaryDirectory() as name:
        good = bytearray(plain(Path(name)))
        offset, length = FIELDS[field]
        start %= length
        good[offset + start : offset + length] = content[: length - start]
        path = written(Path(name) / "fuzzed.nii", bytes(good))
        message, volume = "", None
        try:
            volume = read_image(path)
        except UserError as error:
            message = str(error)
        if volume is None:
            assert message.startswith(f"{path}: ")
            assert "\n" not in message
        else:
            assert volume.array.ndim == 3
            assert np.isfinite(volume.array).all()
