"""nnU-Net's raw folders: the label ``ignore`` from the files to the scores, the folder above, its folds."""

import json

import numpy as np
import pytest
from command_line import run

from anymri.data.cache import Cache
from anymri.data.datasets.layout import native_grid, write_array
from anymri.data.datasets.nnunet import index_nnunet, read_nnunet_spec, write_nnunet
from anymri.data.index import write_subjects
from anymri.data.preprocess import preprocess
from anymri.data.specification import read_spec, write_spec
from anymri.data.split import nnunet_split, read_split
from anymri.evaluation.scoring import score_regions, score_regions_in_full
from anymri.types import DataSpec, UserError

SHAPE = (12, 14, 16)


@pytest.mark.parametrize(("lesion", "ignore", "dtype"), [(1, 2, np.uint8), (300, 301, np.int16), (1, 70000, np.int32)])
def test_ignored_voxels_reach_the_cache_in_as_many_bits_as_they_need(tmp_path, lesion, ignore, dtype):
    image = np.zeros(SHAPE, np.int16)
    image[2:-2, 2:-2, 2:-2] = np.random.default_rng(0).integers(100, 900, (8, 10, 12))
    label = np.zeros(SHAPE, np.int32)
    label[4:6, 4:8, 4:8], label[:2] = lesion, ignore
    grid = native_grid(SHAPE, (1.0, 1.0, 1.0))
    write_array(tmp_path / "raw/imagesTr/A_0000.nii.gz", image, grid)
    write_array(tmp_path / "raw/labelsTr/A.nii.gz", label, grid)
    labels = {"background": 0, "lesion": lesion, "ignore": ignore}
    (tmp_path / "raw/dataset.json").write_text(json.dumps({"channel_names": {"0": "T1"}, "labels": labels}))
    spec = read_nnunet_spec(tmp_path / "raw")
    assert spec == DataSpec(("t1",), {"lesion": lesion}, {"lesion": ("lesion",)}, ignore)
    write_spec(tmp_path / "s.csv", spec, "nnunet")
    assert read_spec(tmp_path / "s.csv") == spec
    report = preprocess(index_nnunet(tmp_path / "raw"), tmp_path / "cache", spec=spec, progress=False)
    assert report.failed == {}
    stored = Cache(tmp_path / "cache").entry("A").label
    assert stored.dtype == dtype
    np.testing.assert_array_equal(stored, label)


def test_ignored_voxels_change_no_score():
    spec = DataSpec(("t1",), {"lesion": 1}, {"lesion": ("lesion",)}, ignore=2)
    label = np.zeros(SHAPE, np.uint8)
    label[4:8, 4:8, 4:8] = 1
    predicted = label == 1
    predicted[4:6, 4:8, 8:10] = True
    without = {score.metric: score.value for score in score_regions({"lesion": predicted}, label, spec, (1, 1, 1))}
    assert without["dice"] == pytest.approx(2 * 64 / (64 + 80))
    label[4:6, 4:8, 8:10] = 2
    label[0], predicted[0] = 2, True
    values = {score.metric: score.value for score in score_regions({"lesion": predicted}, label, spec, (1, 1, 1))}
    assert values["dice"] == 1
    assert values["hd95"] == 0
    assert values["volume_error"] == 0
    full = {score.metric: score.value for score in score_regions_in_full({"lesion": predicted}, label, spec, (1, 1, 1))}
    assert full["iou"] == 1
    assert full["precision"] == 1


# ---------------------------------------------------------------------------------- the folder above and its folds


def write_data_set(root, *cases):
    for number, case in enumerate(cases):
        image = np.zeros(SHAPE, np.int16)
        image[2:-2, 2:-2, 2:-2] = np.random.default_rng(number).integers(100, 900, (8, 10, 12))
        write_nnunet(root, case, {"t1": image}, (image > 500).astype(np.uint8))
    return root


def test_the_only_data_set_of_a_folder_is_used_and_several_are_listed(tmp_path):
    write_data_set(tmp_path / "Dataset001_A", "A1")
    assert [subject.subject_id for subject in index_nnunet(tmp_path)] == ["A1"]
    assert read_nnunet_spec(tmp_path) == read_nnunet_spec(tmp_path / "Dataset001_A")
    done = run("index", tmp_path, "--dataset", "nnunet", "-o", tmp_path / "s.csv")
    assert "used Dataset001_A" in done.out
    write_data_set(tmp_path / "Dataset002_B", "B1")
    with pytest.raises(UserError, match=r"2 data sets \(Dataset001_A, Dataset002_B\)"):
        index_nnunet(tmp_path)


def test_folds_of_nnunet_become_a_split(tmp_path):
    cases = ["A1", "A2", "A3", "A4", "A5"]
    subjects = index_nnunet(write_data_set(tmp_path / "raw", *cases))
    path = tmp_path / "splits_final.json"
    path.write_text(json.dumps([{"train": ["A1", "A3"], "val": ["A2"]}, {"train": ["A2", "A1"], "val": ["A3"]}]))
    split = nnunet_split(path, subjects)
    assert split.part("train", 1) == ("A1", "A2")
    assert split.part("validation", 0) == ("A2",)
    assert split.part("test", 0) == ("A4", "A5")
    write_subjects(tmp_path / "s.csv", subjects)
    run("split", tmp_path / "s.csv", "--published", path, "-o", tmp_path / "split.json")
    assert read_split(tmp_path / "split.json").folds == split.folds
    for text, word in (
        ('[{"train": ["X"], "val": []}]', "'X' is not in the table"),
        ("{}", "fold"),
        ("[1]", "fold 0: is damaged"),
        ('[{"train": [3], "val": []}]', "fold 0: train.0 = 3 does not fit"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=word):
            nnunet_split(path, subjects)


@pytest.mark.parametrize("ending", ["/../../out.nii.gz", "\\x.nii.gz"])
def test_the_ending_of_files_is_no_way_out_of_the_folder(tmp_path, ending):
    root = tmp_path / "raw"
    (root / "imagesTr").mkdir(parents=True)
    (root / "dataset.json").write_text(json.dumps({"channel_names": {"0": "T1"}, "file_ending": ending}))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="is not the plain name of a file in this folder"):
        index_nnunet(root)
    with pytest.raises(UserError, match="is not the plain name of a file in this folder"):
        write_nnunet(root, "A", {"t1": np.zeros(SHAPE, np.int16)})
    assert sorted(tmp_path.rglob("*")) == before
