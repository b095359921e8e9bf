from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest

from anymri.data.datasets import DATASETS
from anymri.data.published_splits import make_published, published_splits, read_published
from anymri.data.split import read_split, write_split
from anymri.types import Subject, UserError

SIZES = {
    "brats2015_robustseg": [(242, 12, 20)],
    "brats2018_u_hved": [(199, 29, 57)] * 3,
    "brats2020_rfnet": [(219, 50, 100)],
    "brats2021_m2ftrans": [(876, 125, 250)],
    "brats2023_im_fuse": [(875, 125, 251)],
    "real13": [(10, 0, 3), (10, 0, 3), (11, 0, 2), (11, 0, 2), (10, 0, 3)],
}


def cohort(name: str) -> list[Subject]:
    """Every listed subject, with the patients that the layout's adapter would tell."""
    from anymri.data.datasets import brats2015, brats2023

    patient = {
        "brats2015": brats2015._patient,
        "brats2023": lambda subject_id: brats2023._describe(subject_id)[0],
    }.get(read_published(name)["dataset"], str)
    ids = {s for fold in read_published(name)["folds"] for part in fold.values() for s in part}
    return [Subject(s, {"t1": Path("t1.nii.gz")}, None, patient(s)) for s in sorted(ids)]


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_the_published_ones(name: str) -> None:
    values = read_published(name)
    assert values["name"] == name
    assert values["dataset"] in DATASETS
    assert "github.com" in values["source"]
    assert [tuple(len(fold[p]) for p in ("train", "validation", "test")) for fold in values["folds"]] == SIZES[name]
    for fold in values["folds"]:
        ids = [subject_id for part in fold.values() for subject_id in part]
        assert len(set(ids)) == len(ids)


def test_every_list_is_tested() -> None:
    assert published_splits() == sorted(SIZES)


def test_the_stated_overlaps_of_brats2018_are_true() -> None:
    folds = read_published("brats2018_u_hved")["folds"]
    tests = [set(fold["test"]) for fold in folds]
    assert [len(a & b) for a, b in combinations(tests, 2)] == [14, 9, 14]
    assert len(set.intersection(*tests)) == 3
    assert len(set.union(*tests)) == 137


@pytest.mark.parametrize("name", [name for name in SIZES if name != "brats2015_robustseg"])
def test_no_patient_is_in_two_parts(name: str, tmp_path: Path) -> None:
    split = make_published(name, cohort(name))
    assert split.kind == f"published: {name}"
    assert read_split(write_split(tmp_path / "split.json", split)) == split


def test_a_published_leak_is_refused_unless_asked_for() -> None:
    """Two patients of BraTS 2015 have time points in two parts of the list."""
    subjects = cohort("brats2015_robustseg")
    with pytest.raises(UserError, match=r"HGG_brats_tcia_pat\d+.*allow leaks"):
        make_published("brats2015_robustseg", subjects)
    split = make_published("brats2015_robustseg", subjects, with_leaks=True)
    assert len(split.part("test")) == 20


def test_missing_and_further_subjects() -> None:
    subjects = cohort("brats2020_rfnet")
    with pytest.raises(UserError, match="9 of its 369 subjects are not in the table"):
        make_published("brats2020_rfnet", subjects[:360])
    split = make_published("brats2020_rfnet", [*subjects[:360], Subject("mine", {})], partial=True)
    assert sum(len(ids) for ids in split.folds[0].values()) == 360
    with pytest.raises(UserError, match="369 of its 369"):
        make_published("brats2020_rfnet", [Subject("mine", {})], partial=True)
    only = [s for s in subjects if s.subject_id not in read_published("brats2020_rfnet")["folds"][0]["validation"]]
    with pytest.raises(UserError, match="no subject of the part 'validation'"):
        make_published("brats2020_rfnet", only, partial=True)
    with pytest.raises(UserError, match="did you mean 'brats2020_rfnet'"):
        make_published("brats2020_rf", subjects)
