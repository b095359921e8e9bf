"""What `anymri predict` says on the terminal: what it read, what it found, how far to trust it, where it is."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
from command_line import run

from anymri.inference import predict as predict_module
from anymri.inference.trust.measured import trust_line
from anymri.phantom import PhantomSettings, generate


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Folder of one phantom that was handed in with all its sequences."""
    root = tmp_path_factory.mktemp("phantom")
    generate(root, 1, 5, PhantomSettings(spacing_mm=3.0))
    return next(path for path in sorted(root.iterdir()) if path.is_dir())


@pytest.fixture
def t1(study):
    return next(study.glob("*t1n.nii.gz"))


def test_all_is_said_in_order(study, tmp_path):
    answer = run("predict", study, "-o", tmp_path / "out")
    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    assert lines[0] == f"{study.name}:"
    for name, line in zip(("T1", "T1c", "T2", "FLAIR"), lines[1:5], strict=True):
        assert line.split()[0] == name
        assert line.endswith(".nii.gz")
    (whole,) = (line for line in lines if line.startswith("whole tumour"))
    trust = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))["trust"]
    assert whole.endswith(trust_line(trust, "whole_tumor"))
    assert trust["measured"]["regions"]["whole_tumor"]["n"] == 13
    assert " ml " in whole
    assert any(line.startswith("This model always looks for a tumour.") for line in lines)
    assert lines[-1] == f"wrote {tmp_path / 'out'}/report.html"


@pytest.mark.parametrize("options", [(), ("-q",), ("--json",)])
def test_the_warning_of_a_low_subset_comes_first_on_standard_error(t1, tmp_path, options):
    answer = run("predict", "--t1", t1, "-o", tmp_path / "out", *options)
    assert answer.code == 0, answer.err
    sentence = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))["warnings"][0]
    assert sentence.startswith("Not usable from T1 alone: this model misses most tumours (median Dice 0.")
    assert answer.err.splitlines()[0] == f"warning: {sentence}"
    assert "Enhancing tumour is unknown: it needs T1c" in answer.err
    if "--json" in options:
        assert answer.json["warnings"][0] == sentence
        assert answer.json["volumes_ml"]["enhancing_tumor"] is None
        assert answer.json["unknown"]["enhancing_tumor"].startswith("needs T1c")
        assert answer.json["trust"]["measured"]["regions"]["whole_tumor"]["n"] >= 6
        assert answer.json["result"] == str(tmp_path / "out")
    elif "-q" not in options:
        assert answer.out.splitlines()[1].split() == ["T1", t1.name]
        words = "not given, not filled in: not shown to beat a copy"
        assert answer.out.splitlines()[2].split(maxsplit=1) == ["T1c", words]
    if "--json" not in options:
        (line,) = (line for line in answer.out.splitlines() if line.startswith("enhancing tumour"))
        assert line.endswith("unknown: needs T1c, which was not given")


def test_python_gives_the_same_as_the_command(t1):
    result = predict_module.load("default").predict({"t1": t1})
    assert result.volumes_ml["enhancing_tumor"] is None
    assert result.volumes_ml["whole_tumor"] >= 0
    assert result.warnings[0].startswith("Not usable from T1 alone")
    assert result.probability["whole_tumor"].shape == result.segmentation.shape
    assert result.name == t1.name


def test_probabilities_lie_on_the_input_grid(study, tmp_path):
    answer = run("predict", study, "-o", tmp_path / "out", "--save-probabilities", "-q")
    assert answer.code == 0, answer.err
    label = nib.load(tmp_path / "out" / "segmentation.nii.gz")
    for name in ("probability_whole_tumor", "probability_tumor_core", "probability_enhancing_tumor", "uncertainty"):
        image = nib.load(tmp_path / "out" / f"{name}.nii.gz")
        values = np.asarray(image.dataobj)
        assert image.shape == label.shape
        assert np.array_equal(image.affine, label.affine)
        assert values.min() >= 0
        assert values.max() <= 1
    whole = np.asarray(nib.load(tmp_path / "out" / "probability_whole_tumor.nii.gz").dataobj)
    found = np.asarray(label.dataobj) != 0
    assert whole[found].mean() > 0.6
    assert whole[~found].mean() < 0.1


def test_formats_licence_and_files_are_said_and_names_kept_out(t1, tmp_path):
    options = ("--outputs", "bids,surface", "--deidentify", "--verbose")
    answer = run("predict", "--t1", t1, "-o", tmp_path / "out", *options)
    assert answer.code == 0, answer.err
    assert not (tmp_path / "out" / "segmentation.nii.gz").exists()
    assert (tmp_path / "out" / "derivatives" / "anymri" / "dataset_description.json").is_file()
    assert "opened model glioma_unet" in answer.err
    assert "derivatives/anymri/: 3 files" in answer.err
    assert "licence Apache-2.0" in answer.out
    assert "anymri cite unet" in answer.out
    facts = (tmp_path / "out" / "result.json").read_text(encoding="utf-8")
    assert t1.name not in facts + answer.out + answer.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--outputs", "dicom"), "--outputs dicom: no such format; choose of nifti, dicom-seg"),
        (("--outputs", "dicom-seg"), "it did not come as DICOM; give the DICOM study, or leave dicom-seg out"),
        (("--seg-series", "t1"), "--seg-series t1: chooses for dicom-seg; add --outputs dicom-seg"),
    ],
)
def test_formats_that_cannot_be_written_are_refused_before_anything_is_computed(t1, tmp_path, options, message):
    answer = run("predict", "--t1", t1, "-o", tmp_path / "out", *options)
    assert answer.code == 2
    assert message in answer.err
    assert not (tmp_path / "out").exists()
