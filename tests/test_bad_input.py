"""Bad input to ``anymri predict``: one line that names the file, the problem and the remedy; nothing left behind."""

import gzip
import os
import resource
import shutil
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from command_line import refused, run

from anymri.data.cache import Cache
from anymri.methods import create
from anymri.protocol.facts import TrainingFacts
from anymri.types import GLIOMA

SHAPE = (24, 20, 16)
#: Voxels large enough that the ball has the size of a brain.
AFFINE = np.diag([7.0, 7.0, 7.0, 1.0])


def brain(seed=0):
    """A ball of noise with nothing around it."""
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, size) for size in SHAPE), indexing="ij"))
    values = np.random.default_rng(seed).integers(200, 1000, SHAPE)
    return np.where((grid**2).sum(0) < 0.9, values, 0).astype(np.float32)


def save(path, array=None, affine=None, seed=0):
    array = brain(seed) if array is None else array
    nib.Nifti1Image(array, AFFINE if affine is None else affine).to_filename(path)
    return path


def with_header(path, **fields):
    """A good file with other header fields."""
    content = bytearray(save(path).read_bytes())
    header = nib.Nifti1Header(bytes(content[:348]), check=False)
    for name, value in fields.items():
        header[name] = value
    path.write_bytes(header.binaryblock + content[348:])
    return path


def spoiled(value):
    array = brain()
    array[12, 10, 8] = value
    return array


def truncated(path):
    packed = gzip.compress(save(path.with_name("whole.nii")).read_bytes())
    path.write_bytes(packed[: len(packed) // 2])
    return path


def written(path, content):
    path.write_bytes(content)
    return path


def label_map():
    array = np.zeros(SHAPE, np.uint8)
    array[8:12, 8:12, 8:12], array[9:11, 9:11, 9:11] = 2, 3
    return array


SINGULAR = {"sform_code": 1, "qform_code": 0, "srow_x": [0, 0, 0, 0]}
#: Name to (how to make the file, word of the message).
ONE_FILE = {
    "no such file": (lambda f: f / "nowhere.nii.gz", "no such file"),
    "a folder": (lambda f: f, "is a folder"),
    "not a NIfTI": (lambda f: written(f / "x.nii.gz", b"hello"), "not a NIfTI"),
    "a broken NIfTI": (lambda f: written(f / "x.nii", b"\x5c\x01\0\0" + bytes(344)), "not a NIfTI"),
    "truncated gzip": (lambda f: truncated(f / "x.nii.gz"), "truncated"),
    "truncated": (lambda f: written(f / "x.nii", save(f / "y.nii").read_bytes()[:-9]), "truncated"),
    "4D": (lambda f: save(f / "x.nii.gz", np.stack([brain(), brain()], -1)), "4D"),
    "2D": (lambda f: save(f / "x.nii.gz", brain()[8]), "single slice"),
    "empty": (lambda f: save(f / "x.nii.gz", np.zeros(SHAPE, np.float32)), "is empty"),
    "no voxels": (lambda f: with_header(f / "x.nii", dim=[3, 24, 0, 16, 1, 1, 1, 1]), "is empty"),
    "constant": (lambda f: save(f / "x.nii.gz", np.full(SHAPE, 3, np.float32)), "constant"),
    "constant brain": (lambda f: save(f / "x.nii.gz", (brain() > 0).astype(np.float32) * 4.5), "constant"),
    "all NaN": (lambda f: save(f / "x.nii.gz", np.full(SHAPE, np.nan, np.float32)), "every value is NaN"),
    "some NaN": (lambda f: save(f / "x.nii.gz", spoiled(np.nan)), "NaN"),
    "some Inf": (lambda f: save(f / "x.nii.gz", spoiled(np.inf)), "infinite"),
    "singular affine": (lambda f: with_header(f / "x.nii", **SINGULAR), "singular"),
    "32767 cubed": (lambda f: with_header(f / "x.nii", dim=[3, *[32767] * 3, 1, 1, 1, 1]), "promises 32767 x 32767"),
    "a label map": (lambda f: save(f / "x.nii.gz", label_map()), "label map"),
    "with a skull": (lambda f: save(f / "x.nii.gz", brain() + 100), "--raw"),
    "a line break": (lambda f: f / "a\nb.nii.gz", "no such file"),
}
#: Name to (how to make the second file from the folder and the first, word of the message).
TWO_FILES = {
    "another shape": (lambda f, one: save(f / "x.nii.gz", brain(1)[:-2]), "another shape"),
    "another affine": (lambda f, one: save(f / "x.nii.gz", brain(1), np.diag([7, 7, 8, 1])), "another affine"),
    "the same file": (lambda f, one: one, "the same image"),
    "a copy": (lambda f, one: shutil.copy(one, f / "x.nii.gz"), "the same image"),
    "a link": (lambda f, one: (f / "x.nii.gz").symlink_to(one) or f / "x.nii.gz", "the same image"),
    "a hard link": (lambda f, one: os.link(one, f / "x.nii.gz") or f / "x.nii.gz", "the same image"),
    "packed otherwise": (lambda f, one: save(f / "x.nii"), "the same image"),
    "bad": (lambda f, one: save(f / "x.nii.gz", spoiled(np.nan)), "NaN"),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny network with random weights that segments and completes."""
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    method = create("unet", preset="tiny", width=2, depth=2, completion=1.0)
    method.save(path, TrainingFacts(spacing_mm=(2.0, 2.0, 2.0), window=(8, 8, 8)))
    return path


@pytest.fixture
def place(tmp_path):
    """Folder in which the result should appear."""
    folder = tmp_path / "place"
    folder.mkdir()
    return folder


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    return folder


def test_the_good_study_of_these_tests_is_taken(files, place, model):
    answer = run("predict", "--flair", save(files / "good.nii.gz"), "-m", model, "-o", place / "result", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["result"] == str(place / "result")
    assert set(answer.json["completed"]) == {"t1", "t1c", "t2"}
    assert {path.name for path in (place / "result").iterdir()} == {
        "segmentation.nii.gz", "completed", "result.json", "report.html",
    }  # fmt: skip
    assert [path.name for path in place.iterdir()] == ["result"]


@pytest.mark.parametrize("name", ONE_FILE)
def test_a_bad_file_is_refused(files, place, model, name):
    make, word = ONE_FILE[name]
    path = make(files)
    line = refused(run("predict", "--flair", path, "-m", model, "-o", place / "result"), word)
    assert str(path).replace("\n", " ") in line
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("name", TWO_FILES)
def test_files_that_do_not_belong_together_are_refused(files, place, model, name):
    make, word = TWO_FILES[name]
    first = save(files / "first.nii.gz")
    second = make(files, first)
    refused(run("predict", "--t1", first, "--flair", second, "-m", model, "-o", place / "result"), second, word)
    assert list(place.iterdir()) == []


def test_no_sequence_at_all_is_refused(files, place, model):
    refused(run("predict", "-m", model, "-o", place / "result"), "no sequence was given", "--flair")
    refused(run("predict", files, "-m", model, "-o", place / "result"), files, "no sequence recognised")
    refused(run("predict", files / "no", "-m", model, "-o", place / "result"), files / "no", "does not exist")
    path = save(files / "good.nii.gz")
    refused(run("predict", files, "--flair", path, "-m", model, "-o", place / "result"), "not both")
    assert list(place.iterdir()) == []


def test_what_is_unknown_is_refused(files, place, model):
    flair = ("predict", "--flair", save(files / "good.nii.gz"), "-o", place / "result")
    refused(run(*flair, "-m", "nobody"), "unknown model 'nobody'")
    refused(run(*flair, "-m", files), files, "no model.safetensors")
    refused(run(*flair, "-m", files / "good.nii.gz"), files / "good.nii.gz", "weights file")
    refused(run(*flair, "-m", model, "--labels", "brats2099"), "--labels brats2099", "brats2021")
    refused(run(*flair, "-m", model, "--precision", "64"), "--precision 64")
    refused(run(*flair, "-m", model, "--flare", "x"), "--flare", "--flair")
    assert list(place.iterdir()) == []


def test_a_taken_place_is_refused_before_any_work(files, place, tmp_path):
    """The model does not exist, so that a line about the place shows that the place was looked at first."""
    taken = written(tmp_path / "taken", b"mine")
    (place / "mine.txt").write_text("mine")
    flair = ("predict", "--flair", save(files / "good.nii.gz"), "-m", "nobody")
    refused(run(*flair, "-o", taken), taken, "a file is where")
    refused(run(*flair, "-o", taken / "below"), taken, "a file is where")
    refused(run(*flair, "-o", place), place, "is not empty", "--overwrite")
    refused(run(*flair, "-o", place, "--overwrite"), place, "not replaced")
    assert taken.read_bytes() == b"mine"
    assert [path.name for path in place.iterdir()] == ["mine.txt"]


def test_a_full_disk_leaves_nothing(files, place, model):
    """In a process of its own, which may write files of at most 2000 bytes."""
    flair = save(files / "good.nii.gz")
    command = [
        sys.executable,
        "-B",
        "-m",
        "anymri.cli",
        "predict",
        "--flair",
        flair,
        "-m",
        model,
        "-o",
        place / "result",
    ]
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, encoding="utf-8", check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)),
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert f"{place / 'result'}: cannot be written" in done.stderr
    assert "free some space" in done.stderr
    assert list(place.iterdir()) == []


def test_unknown_methods_and_keys_of_a_run_are_refused(tmp_path):
    config, out = tmp_path / "run.yaml", tmp_path / "run"
    Cache.create(tmp_path / "cache", GLIOMA, None)
    good = f"method: {{name: unet}}\ndata: {{cache: {tmp_path / 'cache'}}}\n"
    cases = {
        good.replace("unet", "unat"): ("unat", "unet"),
        good + "training: {epoch: 3}\n": ("training.epoch", "training.epochs"),
        good.replace("{name: unet}", "{name: unet, config: {wide: 3}}"): ("method.config.wide", "width"),
        good + "trainig: {}\n": ("trainig", "training"),
        good + "training: {epochs: many}\n": ("training.epochs", "many"),
        "method: [unet\n": (config, "YAML"),
        "": (config, "no settings"),
        good: ("no training subject left", "cache"),
        good.replace("/cache", "/nowhere"): ("nowhere", "preprocess"),
    }
    for text, words in cases.items():
        config.write_text(text)
        refused(run("train", config, "-o", out), *words)
    config.write_text(good)
    refused(run("train", config, "-o", out, "--set", "training.epoch=3"), "training.epoch", "training.epochs")
    refused(run("train", config, "-o", out, "--set", "nonsense"), "nonsense")
    refused(run("train", tmp_path / "no.yaml", "-o", out), tmp_path / "no.yaml")
    refused(run("train", tmp_path, "-o", out), tmp_path)
    assert not out.exists()
