"""Plans: what they rest on, what changes them, and that a training takes them."""

import nibabel as nib
import numpy as np
import pytest
from command_line import refused, run

from anymri.config import load_run_config, validate_run_config
from anymri.data.cache import Cache
from anymri.data.fingerprint import Fingerprint, take_fingerprint
from anymri.training.planning import plan_training
from anymri.types import GLIOMA, Subject, UserError


def fingerprint(spacing=(1.0, 1.0, 1.0), brain=(140.0, 160.0, 130.0), finest=None):
    return Fingerprint(
        counts={}, opened=3, unreadable={}, spacing_mm=spacing, finest_spacing_mm=finest or spacing, brain_mm=brain
    )


def config(**training):
    small = {"width": 4, "depth": 3}
    return validate_run_config(
        {"method": {"name": "unet", "config": small}, "data": {"cache": "cache"}, "training": training}
    )


def plan(found=None, memory=8.0, spacing=None, **training):
    return plan_training(found or fingerprint(), config(**training), GLIOMA, spacing_mm=spacing, memory_gib=memory)


def save(path, shape, zooms, seed):
    array = np.zeros(shape, np.int16)
    inner = tuple(slice(size // 4, -(size // 4)) for size in shape)
    array[inner] = np.random.default_rng(seed).integers(1, 900, array[inner].shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(array, np.diag([*zooms, 1])).to_filename(path)
    return path


def test_the_fingerprint_is_that_of_the_images(tmp_path):
    subjects = [
        Subject("a", {"t1": save(tmp_path / "a.nii.gz", (40, 32, 16), (1, 1, 3), 0)}),
        Subject("b", {"flair": save(tmp_path / "b.nii.gz", (40, 40, 24), (1, 1.5, 2), 1)}),
        Subject("c", {"t1": tmp_path / "nowhere.nii.gz"}),
    ]
    found = take_fingerprint(subjects)
    assert (found.opened, list(found.unreadable)) == (2, ["c"])
    assert found.spacing_mm == (2.5, 1.25, 1.0)  # medians along D, H, W
    assert found.brain_mm == ((8 * 3 + 12 * 2) / 2, (16 * 1 + 20 * 1.5) / 2, 20.0)
    assert found.counts["only t1"] == 2
    with pytest.raises(UserError, match="no subject can be read"):
        take_fingerprint(subjects[2:])


def test_memory_decides():
    """Less memory never means a larger patch, and what is planned fits."""
    paper = [plan(memory=memory, batch_size=None, patch=None) for memory in (8.0, 0.36, 0.33)]
    sizes = [np.prod(made.config.training.patch) for made in paper]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 64**3 > sizes[1]
    assert all(made.step_gib <= made.memory_gib for made in paper)
    assert "does not fit into 0.3 GiB" in paper[2].reasons["patch"]
    with pytest.raises(UserError, match="choose the preset tiny, a smaller patch, or another machine"):
        plan(memory=0.01)


def test_the_spacing_is_coarser_where_a_patch_would_see_too_little():
    fine = plan(fingerprint(spacing=(0.5, 0.5, 0.5)))
    values = np.array(fine.spacing_mm)
    assert np.prod(np.minimum(64, np.array((140, 160, 130)) / values)) >= 0.249 * np.prod((140, 160, 130) / values)
    assert "made coarser" in fine.reasons["spacing_mm"]
    assert plan(fingerprint(brain=(40.0, 40.0, 40.0))).spacing_mm == (1, 1, 1)
    thick = plan(fingerprint(spacing=(6.0, 1.0, 1.0), finest=(4.0, 1.0, 1.0), brain=(130.0, 60.0, 60.0)))
    assert thick.spacing_mm == (4, 1, 1)
    assert thick.config.training.patch == (36, 60, 60)  # no larger than the brain, in steps of the network's divisor


def test_what_is_given_wins():
    made = plan(spacing=(3.0, 2.0, 2.0), patch=[16, 24, 32], batch_size=5)
    assert made.spacing_mm == (3, 2, 2)
    assert (made.config.training.patch, made.config.training.batch_size) == ((16, 24, 32), 5)
    assert {made.reasons[name] for name in ("spacing_mm", "patch", "batch_size", "memory")} == {"given"}


def test_an_incomplete_folder_is_prepared_and_trains(tmp_path):
    for number, codes in enumerate((("t1", "flair"), ("t1",), ("flair",), ("t1", "flair"), ("t1",))):
        folder = tmp_path / "data" / f"s{number}"
        for channel, code in enumerate(codes):
            save(folder / f"{code}.nii.gz", (32, 32, 32), (1, 1, 1), 10 * number + channel)
        label = np.zeros((32, 32, 32), np.uint8)
        label[12:16, 12:18, 12:20] = 1
        nib.Nifti1Image(label, np.eye(4)).to_filename(folder / "seg.nii.gz")
    yaml = "modalities: [t1, flair]\nlabels: {lesion: 1}\n"
    (tmp_path / "data" / "dataset.yaml").write_text(yaml, encoding="utf-8")
    work = tmp_path / "work"
    small = ["--set", "method.config={width: 4, depth: 3}", "--set", "training.epochs=1"]
    options = [*small, "--set", "training.steps_per_epoch=2", "--spacing", "2", "--memory", "4", "-q"]
    values = run("prepare", tmp_path / "data", "-o", work, *options, "--json").json
    assert values["spacing_mm"] == [2, 2, 2]
    assert values["patch"] == [8, 8, 8]  # the brain is 16 mm wide
    assert len(Cache(work / "cache").subject_ids) == 5
    written = load_run_config(work / "run.yaml")
    assert written.training.patch == (8, 8, 8)
    assert written.data.split == work / "split.json"
    assert (work / "subjects.png").is_file()
    assert run("train", work / "run.yaml", "-o", work / "run", "-q").code == 0
    assert (work / "run" / "model.safetensors").is_file()
    run("plan", work / "subjects.csv", "-o", tmp_path / "own.yaml", *small, "--spacing", "4", "--memory", "4")
    again = run("preprocess", work / "subjects.csv", "--plan", tmp_path / "own.yaml", "-o", tmp_path / "coarse", "-q")
    assert "5 made" in again.out
    assert Cache(tmp_path / "coarse").spacing_mm == (4, 4, 4)
    refused(run("plan", work / "subjects.csv", "-o", tmp_path / "x.yaml", "--spacing", "two"), "spacing")
