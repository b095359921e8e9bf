from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from anymri.data.split import PARTS, Split, make_split, read_split, write_split
from anymri.types import Subject, UserError


def cohort(subjects: int = 20, per_patient: int = 1, sites: int = 1) -> list[Subject]:
    def one(number: int) -> Subject:
        patient = number // per_patient
        return Subject(f"s{number:03}", {"t1": Path("x")}, None, f"p{patient:03}", f"site{patient % sites}")

    return [one(number) for number in range(subjects)]


def sizes(split: Split, fold: int = 0) -> list[int]:
    return [len(split.part(name, fold)) for name in PARTS]


def test_fractions_are_kept() -> None:
    assert sizes(make_split(cohort(50), fractions=(0.8, 0.0, 0.2))) == [40, 0, 10]
    assert sizes(make_split(cohort(7))) == [5, 1, 1]
    assert sizes(make_split(cohort(1251))) == [876, 125, 250]


@pytest.mark.parametrize("folds", [2, 3, 7, 20])
def test_every_subject_is_tested_once(folds: int) -> None:
    subjects = cohort(20)
    split = make_split(subjects, folds=folds)
    tested = [subject_id for fold in range(folds) for subject_id in split.part("test", fold)]
    assert sorted(tested) == [subject.subject_id for subject in subjects]
    for fold in range(folds):
        assert sizes(split, fold)[2] in (20 // folds, -(-20 // folds))
        assert sorted(split.part("train", fold) + split.part("test", fold)) == sorted(tested)


def test_leave_one_out() -> None:
    split = make_split(cohort(7), folds=7)
    assert [sizes(split, fold) for fold in range(7)] == [[6, 0, 1]] * 7


def test_validation_comes_from_the_rest() -> None:
    split = make_split(cohort(20), folds=5, validation=0.25)
    assert [sizes(split, fold) for fold in range(5)] == [[12, 4, 4]] * 5


@pytest.mark.parametrize("options", [{"folds": 4}, {"folds": 3, "validation": 0.3}, {"fractions": (0.5, 0.25, 0.25)}])
def test_patients_stay_together(options: dict) -> None:
    subjects = cohort(40, per_patient=3)
    patient = {subject.subject_id: subject.patient for subject in subjects}
    split = make_split(subjects, **options)
    for fold in split.folds:
        owners = [{patient[subject_id] for subject_id in ids} for ids in fold.values()]
        assert sum(map(len, owners)) == len(set().union(*owners)) == 14


def test_sites_are_shared_out() -> None:
    subjects = cohort(60, sites=3)
    site = {subject.subject_id: subject.site for subject in subjects}
    split = make_split(subjects, folds=5, validation=0.25, stratify=True)
    for fold in range(5):
        for name, expected in zip(PARTS, (12, 4, 4), strict=True):
            counts = Counter(site[subject_id] for subject_id in split.part(name, fold))
            assert max(abs(count - expected) for count in counts.values()) <= 1, (fold, name, counts)
    plain = make_split(subjects, folds=5)
    spread = [Counter(site[s] for s in plain.part("test", fold)).values() for fold in range(5)]
    assert any(max(counts) - min(counts) > 2 for counts in spread), "the test above would pass without stratifying"


def test_seed_decides_and_row_order_does_not() -> None:
    subjects = cohort(30)
    assert make_split(subjects, seed=1) == make_split(subjects[::-1], seed=1)
    assert make_split(subjects, seed=1).folds != make_split(subjects, seed=2).folds
    assert make_split(subjects, folds=5, seed=1).folds != make_split(subjects, folds=5, seed=2).folds


def test_every_subject_is_equally_likely_to_be_tested() -> None:
    counts = Counter(s for seed in range(300) for s in make_split(cohort(10), seed=seed).part("test"))
    assert min(counts.values()) > 35  # 60 expected each, standard deviation 7
    assert max(counts.values()) < 85


def test_given_lists() -> None:
    split = make_split(cohort(4), lists={"train": ["s002", "s000"], "test": ["s001"]})
    assert split.folds == ({"train": ("s000", "s002"), "validation": (), "test": ("s001",)},)


@pytest.mark.parametrize(
    ("lists", "words"),
    [
        ({"train": ["s000"], "test": ["s000"]}, "'p000' is in 'train' .* and 'test'"),
        ({"train": ["s000"], "test": ["s001"]}, "'p000' is in 'train' .s000. and 'test' .s001."),
        ({"train": ["s000", "s000"]}, "twice"),
        ({"train": ["s999"]}, "'s999' is not in the table"),
        ({"training": ["s000"]}, "part 'training' is unknown"),
    ],
)
def test_leaks_and_wrong_lists_are_refused(lists: dict[str, list[str]], words: str) -> None:
    with pytest.raises(UserError, match=words):
        make_split(cohort(4, per_patient=2), lists=lists)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"folds": 1}, "from 2 to 5"),
        ({"folds": 6}, "6 folds of 5 patients"),
        ({"folds": 2, "validation": 1.0}, "validation share"),
        ({"folds": 2, "validation": 0.01}, "too few"),
        ({"fractions": (0.5, 0.5)}, "add up to 1"),
        ({"fractions": (0.5, 0.5, 0.5)}, "add up to 1"),
        ({"fractions": (1.5, -0.5, 0.0)}, "add up to 1"),
        ({"fractions": (0.98, 0.01, 0.01)}, "too few"),
    ],
)
def test_shares_that_cannot_be_are_refused(options: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        make_split(cohort(5), **options)


def test_written_and_read_again(tmp_path: Path) -> None:
    split = make_split(cohort(12, per_patient=2), folds=3, seed=5)
    path = write_split(tmp_path / "new" / "split.json", split)
    assert read_split(path) == split
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["seed"] == 5
    assert set(content["folds"][0]) == {"train", "validation", "test"}
    first = path.read_bytes()
    assert write_split(path, split).read_bytes() == first
    assert [file.name for file in path.parent.iterdir()] == ["split.json"]


def test_a_split_by_hand_needs_only_folds(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    path.write_text('{"folds": [{"train": ["a"], "test": ["b"]}]}')
    assert read_split(path).folds == ({"train": ("a",), "validation": (), "test": ("b",)},)


def test_a_leak_added_by_hand_is_found_when_reading(tmp_path: Path) -> None:
    path = write_split(tmp_path / "split.json", make_split(cohort(12, per_patient=2), folds=3))
    content = json.loads(path.read_text(encoding="utf-8"))
    fold = content["folds"][1]
    moved = fold["test"].pop()
    fold["train"].append(moved)  # its patient's other study stays in the test part
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="fold 1: patient"):
        read_split(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is damaged"),
        ("[]", "no JSON object"),
        ("{}", "folds is missing"),
        ('{"folds": []}', "folds = .* does not fit"),
        ('{"folds": [{"train": "abc"}]}', r"folds\.0\.train = 'abc' does not fit"),
        ('{"folds": [{"training": ["a"]}]}', r"unknown field folds\.0\.training"),
        ('{"folds": [["a"]]}', r"folds\.0 = .* does not fit"),
        ('{"folds": [{"train": ["a"], "test": ["a"]}]}', "one part"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "split.json"
    path.write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        read_split(path)
    assert str(path) in str(caught.value)
    with pytest.raises(UserError, match="anymri split"):
        read_split(tmp_path / "none.json")


def test_parts_and_folds_that_do_not_exist() -> None:
    split = make_split(cohort(6), folds=3)
    for name, fold, words in (("train", 3, "fold 3"), ("train", -1, "fold -1"), ("tests", 0, "part 'tests'")):
        with pytest.raises(UserError, match=words):
            split.part(name, fold)
