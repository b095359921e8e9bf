"""What `anymri predict` and `anymri index` say about the files they were given."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from command_line import refused, run
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from anymri.data.datasets import get_dataset
from anymri.phantom import PhantomSettings, make_subject
from anymri.zoo import find_card

SPACING_MM = (8.0, 8.0, 8.0)


@pytest.fixture(scope="module")
def images() -> dict[str, np.ndarray]:
    return dict(make_subject(5, 1, PhantomSettings(spacing_mm=8.0)).images)


@pytest.fixture
def study(tmp_path: Path, images: dict[str, np.ndarray]) -> Path:
    """A folder of one study with names as people write them."""
    folder = get_dataset("folder").write(tmp_path / "data", "case", images, None, SPACING_MM)
    for code, name in (("t1", "T1 MPRAGE"), ("t1c", "T1_post_contrast"), ("t2", "AX T2"), ("flair", "FLAIR")):
        (folder / f"{code}.nii.gz").rename(folder / f"{name}.nii.gz")
    return folder


def test_the_sequences_of_a_folder_and_what_is_not_used(study: Path, tmp_path: Path) -> None:
    shutil.copy(study / "FLAIR.nii.gz", study / "scan7.nii.gz")
    answer = run("predict", study, "-o", tmp_path / "out", "-q")
    assert answer.code == 0, answer.err
    told = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))
    assert told["available"] == ["t1", "t1c", "t2", "flair"]
    assert "scan7.nii.gz: not used; its name names no sequence" in told["warnings"]
    assert "scan7.nii.gz: not used; its name names no sequence" in answer.err


@pytest.mark.parametrize("option", ["--t1c", "--t1ce", "--t1gd"])
def test_other_names_of_the_option_for_t1c(study: Path, tmp_path: Path, option: str) -> None:
    answer = run("predict", option, study / "T1_post_contrast.nii.gz", "-o", tmp_path / "out", "--json")
    assert answer.code == 0, answer.err
    assert json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))["available"] == ["t1c"]


def test_strict_refuses_a_wrong_name_and_leaves_nothing_behind(tmp_path: Path) -> None:
    made = make_subject(99, 3, PhantomSettings(spacing_mm=4.0, anatomy="varied")).images
    folder = get_dataset("folder").write(tmp_path / "data", "case", dict(made), None, (4.0, 4.0, 4.0))
    (folder / "t2.nii.gz").rename(folder / "spare.nii.gz")
    (folder / "flair.nii.gz").rename(folder / "t2.nii.gz")
    (folder / "spare.nii.gz").rename(folder / "flair.nii.gz")
    before = sorted(tmp_path.rglob("*"))
    answer = run("predict", folder, "--check-labels", "strict", "-o", tmp_path / "out" / "deep")
    refused(answer, "t2.nii.gz: given as T2-weighted, does not look like T2 but like FLAIR", "swap them back")
    assert sorted(tmp_path.rglob("*")) == before
    answer = run("predict", folder, "-o", tmp_path / "out", "-q")
    assert answer.code == 0, answer.err
    assert "T2-weighted does not look like T2 but like FLAIR" in answer.err


def test_two_files_of_a_sequence_are_chosen_between_by_the_user(study: Path, tmp_path: Path) -> None:
    second = nib.load(study / "AX T2.nii.gz")
    nib.save(nib.Nifti1Image(np.asarray(second.dataobj)[::-1], second.affine), study / "COR T2.nii.gz")
    refused(run("predict", study, "-o", tmp_path / "out"), "AX T2.nii.gz", "COR T2.nii.gz", "--series t2=FILE")
    answer = run("predict", study, "--series", f"t2={study / 'AX T2.nii.gz'}", "-o", tmp_path / "out", "-q")
    assert answer.code == 0, answer.err
    assert "T2-weighted: COR T2.nii.gz is not used, another was given" in answer.err


def test_bids_data_sets_and_subjects_with_sessions_are_refused_with_their_names(
    tmp_path: Path, images: dict[str, np.ndarray]
) -> None:
    root = tmp_path / "bids"
    for name in ("sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1"):
        get_dataset("bids").write(root, name, {"flair": images["flair"]}, None, SPACING_MM)
    out = tmp_path / "out"
    refused(run("predict", root, "-o", out), "3 sessions", "sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1")
    refused(run("predict", root / "sub-01", "-o", out), "2 sessions", "ses-1", "ses-2", "--session ses-2")
    refused(run("predict", root, "--session", "ses-9", "-o", out), "has no session ses-9")
    refused(run("predict", root, "--raw", "-o", out), "3 sessions")
    assert not out.exists()
    for folder, session in ((root / "sub-01", "ses-2"), (root, "sub-02"), (root / "sub-01" / "ses-1", None)):
        options = ["--session", session] if session else []
        assert run("predict", folder, *options, "-o", out, "--overwrite", "-q").code == 0, folder
    refused(run("predict", "--t1", "a.nii.gz", "--session", "1", "-o", out), "--session 1")


def test_one_image_under_two_names_is_refused_though_it_was_rescaled(study: Path, tmp_path: Path) -> None:
    image = nib.load(study / "AX T2.nii.gz")
    scaled = (np.asarray(image.dataobj) * 0.5).astype(np.uint16)
    nib.save(nib.Nifti1Image(scaled, image.affine), tmp_path / "copy.nii.gz")
    answer = run(
        "predict", "--t1", study / "AX T2.nii.gz", "--t2", tmp_path / "copy.nii.gz", "-o", tmp_path / "out"
    )  # fmt: skip
    refused(answer, "copy.nii.gz", "given as t2 is the same image, rescaled, as")


def test_indexing_prints_what_it_did_not_use(tmp_path: Path, images: dict[str, np.ndarray]) -> None:
    root = tmp_path / "bids"
    get_dataset("bids").write(root, "sub-01", {"flair": images["flair"]}, None, SPACING_MM)
    anat = root / "sub-01" / "anat"
    for name in ("run-2_FLAIR", "T1map"):
        shutil.copy(anat / "sub-01_FLAIR.nii.gz", anat / f"sub-01_{name}.nii.gz")
    command = ("index", root, "-d", "bids", "-o", tmp_path / "s.csv", "--no-picture")
    said = run(*command).out
    assert "found and not used, or doubtful: 2 files\n" in said
    assert "  FLAIR: sub-01_run-2_FLAIR.nii.gz is not used, sub-01_FLAIR.nii.gz was taken of 2\n" in said
    assert [text.partition(":")[0] for text in run(*command, "--json").json["not_used"]] == [
        "sub-01_T1map.nii.gz", "FLAIR",
    ]  # fmt: skip


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_with_a_value_that_is_no_number_find_no_volume_of_zero(study: Path, tmp_path: Path, bad: float) -> None:
    original, path = find_card("default").path, tmp_path / "model.safetensors"
    with safe_open(original, framework="numpy") as file:
        header = {key: value for key, value in file.metadata().items() if key != "sha256"} | {"format": "anymri-1"}
    state = load_file(original)
    first = next(name for name, value in state.items() if value.ndim == 5)
    state[first].flat[7] = bad
    save_file(state, path, metadata=header)
    answer = run("predict", study, "--model", path, "-o", tmp_path / "out")
    refused(answer, f"{path}: the weights of unet hold NaN or infinite values in 1 of", f"first {first}; get the file")
    assert not (tmp_path / "out").exists()
