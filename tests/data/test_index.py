from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from anymri.data.index import find_study, index_dataset, missingness, read_subjects, write_subjects
from anymri.types import Subject, UserError


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def two_subjects(root: Path) -> list[Subject]:
    touch(root, "images/a/t1.nii.gz", "images/a/flair.nii.gz", "images/a/seg.nii.gz", "images/b/t1c.nii.gz")
    a, b = root / "images/a", root / "images/b"
    return [
        Subject("a", {"t1": a / "t1.nii.gz", "flair": a / "flair.nii.gz"}, a / "seg.nii.gz", "p1", "Bern"),
        Subject("b", {"t1c": b / "t1c.nii.gz"}, None, "p2", ""),
    ]


def test_the_table_has_empty_cells_and_relative_paths(tmp_path: Path) -> None:
    subjects = two_subjects(tmp_path)
    path = write_subjects(tmp_path / "tables" / "subjects.csv", subjects)
    assert path.read_text(encoding="utf-8").splitlines() == [
        "subject,patient,site,label,t1,t1c,flair",
        "a,p1,Bern,../images/a/seg.nii.gz,../images/a/t1.nii.gz,,../images/a/flair.nii.gz",
        "b,p2,,,,../images/b/t1c.nii.gz,",
    ]
    read = read_subjects(path)
    assert [(s.subject_id, s.patient, s.site) for s in read] == [("a", "p1", "Bern"), ("b", "p2", "")]
    for ours, theirs in zip(subjects, read, strict=True):
        assert {code: file.resolve() for code, file in theirs.images.items()} == ours.images
        assert (theirs.label and theirs.label.resolve()) == ours.label
    assert [file.name for file in path.parent.iterdir()] == ["subjects.csv"], "a temporary file was left"


def test_class_labels_are_a_column_where_there_are_any(tmp_path: Path) -> None:
    first, second = two_subjects(tmp_path)
    path = write_subjects(tmp_path / "subjects.csv", [replace(first, class_label="IDH mutant"), second])
    assert path.read_text(encoding="utf-8").splitlines()[:2] == [
        "subject,patient,site,label,class_label,t1,t1c,flair",
        "a,p1,Bern,images/a/seg.nii.gz,IDH mutant,images/a/t1.nii.gz,,images/a/flair.nii.gz",
    ]
    read = read_subjects(path)
    assert [(s.class_label, s.site, sorted(s.images)) for s in read] == [
        ("IDH mutant", "Bern", ["flair", "t1"]),
        ("", "", ["t1c"]),
    ]
    path.write_text("subject,class_lable,t1\na,x,images/a/t1.nii.gz\n")
    with pytest.raises(UserError, match=r"unknown column 'class_lable'; did you mean 'class_label'"):
        read_subjects(path)


def test_table_and_images_can_move_together(tmp_path: Path) -> None:
    write_subjects(tmp_path / "one" / "subjects.csv", two_subjects(tmp_path / "one"))
    (tmp_path / "one").rename(tmp_path / "two")
    assert len(read_subjects(tmp_path / "two" / "subjects.csv")) == 2


def test_relative_roots_and_links_are_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "store/xyz", "real/data/a/empty")
    (tmp_path / "real/data/a/t1.nii.gz").symlink_to(tmp_path / "store/xyz")
    (tmp_path / "link").symlink_to(tmp_path / "real/data")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    path = write_subjects("subjects.csv", index_dataset("../link"))
    assert read_subjects(path)[0].images["t1"].is_file()
    assert path.read_text(encoding="utf-8").splitlines()[1].endswith("../real/data/a/t1.nii.gz")
    monkeypatch.chdir(tmp_path / "link")
    assert index_dataset(".")[0].subject_id == "a"
    monkeypatch.chdir(tmp_path / "link" / "a")
    assert index_dataset(".")[0].subject_id == "a"


def test_a_deleted_file_and_a_missing_column_are_the_same(tmp_path: Path) -> None:
    touch(tmp_path, "a/t1.nii.gz", "a/t2.nii.gz")
    (tmp_path / "a/t2.nii.gz").unlink()
    path = write_subjects(tmp_path / "s.csv", index_dataset(tmp_path))
    assert path.read_text(encoding="utf-8").splitlines()[0] == "subject,patient,site,label,t1"
    assert list(read_subjects(path)[0].images) == ["t1"]


def test_a_table_by_hand_needs_only_subject_and_images(tmp_path: Path) -> None:
    touch(tmp_path, "x.nii", "y.nii")
    (tmp_path / "s.csv").write_bytes("\ufeffflair , subject\r\nx.nii,\u00c4 1\r\n\r\n,\r\ny.nii,2\r\n".encode())
    first, second = read_subjects(tmp_path / "s.csv")
    assert (first.subject_id, first.patient, second.subject_id) == ("\u00c4 1", "\u00c4 1", "2")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("subject,t1\n", "no subject"),
        ("name,t1\na,x.nii\n", "no column 'subject'"),
        ("subject;t1\na;x.nii\n", "no column 'subject'.*commas"),
        ("subject,t1ce\na,x.nii\n", "did you mean 't1c'"),
        ("subject,t1,t1\na,x.nii,x.nii\n", "two columns 't1'"),
        ("subject,t1\na,x.nii\na,y.nii\n", "line 3: subject 'a' comes twice"),
        ("subject,site,t1\na,Be\x07rn,x.nii\n", "line 2: site holds a control character"),
        ("subject,t1\na\x7f,x.nii\n", "line 2: subject holds a control character"),
        ("subject,t1,label\na,,x.nii\n", "line 2: subject 'a' has no image"),
        ("subject,t1\na,z.nii\n", r"line 2: t1 file .*z.nii does not exist"),
        ("subject,t1,label\na,x.nii,z.nii\n", r"line 2: label file .*z.nii does not exist"),
        ("subject,t1,t2\na,x.nii,x.nii\n", "given as t1 and as t2"),
        ("subject,t1\na,x.nii,y.nii\n", "line 2: has 3 cells"),
        ("subject,site,t1,t2\na,x.nii,y.nii\n", "line 2: has 3 cells, the header 4; write a comma for every empty"),
        ("subject,t1\n../a,x.nii\n", "line 2: '../a' cannot name a subject"),
        ("subject,t1\n,x.nii\n", "line 2: '' cannot name a subject"),
    ],
)
def test_mistakes_in_the_table_name_the_line(tmp_path: Path, text: str, words: str) -> None:
    touch(tmp_path, "x.nii", "y.nii")
    path = tmp_path / "s.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        read_subjects(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_table(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_bytes(b"subject,t1\n\xff\xfe\x00")
    for name, words in (("s.csv", "not a readable table"), ("none.csv", "anymri index"), (".", "not a readable table")):
        with pytest.raises(UserError, match=words):
            read_subjects(tmp_path / name)


def test_a_folder_in_the_way_of_the_table(tmp_path: Path) -> None:
    subjects = two_subjects(tmp_path)
    (tmp_path / "s.csv").mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        write_subjects(tmp_path / "s.csv", subjects)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "s.csv"]


def test_missingness_counts_modalities_and_exact_sets(tmp_path: Path) -> None:
    one, other = two_subjects(tmp_path)
    assert missingness([one, other, other]) == {
        "subjects": 3,
        "label": 1,
        "t1": 1,
        "t1c": 2,
        "t2": 0,
        "flair": 1,
        "only t1c": 2,
        "only t1+flair": 1,
    }


def test_patterns_belong_to_the_folder_layout(tmp_path: Path) -> None:
    touch(tmp_path, "a_T1.nii")
    assert index_dataset(tmp_path, patterns={"t1": "*_T1.nii"})[0].subject_id == "a"
    with pytest.raises(UserError, match="--dataset folder"):
        index_dataset(tmp_path, "brats2021", {"t1": "*_T1.nii"})
    with pytest.raises(UserError, match="did you mean 'brats2021'"):
        index_dataset(tmp_path, "brats21")
    touch(tmp_path, "BraTS20_Training_001/BraTS20_Training_001_t1ce.nii.gz")
    assert list(index_dataset(tmp_path, "brats2020")[0].images) == ["t1c"]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["t1.nii.gz", "t1c.nii", "seg.nii.gz"], {"t1": "t1.nii.gz", "t1c": "t1c.nii"}),
        (["s-t1n.nii.gz", "s-t2f.nii.gz"], {"t1": "s-t1n.nii.gz", "flair": "s-t2f.nii.gz"}),
        (["s_t1.nii.gz", "s_t1ce.nii.gz"], {"t1": "s_t1.nii.gz", "t1c": "s_t1ce.nii.gz"}),
        (["other_t1.nii.gz", "other_t1ce.nii.gz"], {"t1": "other_t1.nii.gz", "t1c": "other_t1ce.nii.gz"}),
        (["other-t2w.nii.gz", "notes.txt"], {"t2": "other-t2w.nii.gz"}),
    ],
)
def test_a_study_is_recognised_in_every_layout(tmp_path: Path, files: list[str], expected: dict[str, str]) -> None:
    touch(tmp_path, *(f"s/{name}" for name in files))
    assert {code: path.name for code, path in find_study(tmp_path / "s").images.items()} == expected


def test_a_study_that_is_not_recognised(tmp_path: Path) -> None:
    touch(tmp_path, "s/scan1.nii.gz", "two/a_t1.nii.gz", "two/b_t1.nii.gz")
    for name, words in (("s", "no sequence recognised"), ("two", "are both t1"), ("none", "does not exist")):
        with pytest.raises(UserError, match=words):
            find_study(tmp_path / name)


@pytest.mark.parametrize(
    ("folder", "files", "codes"),
    [
        ("sub-01", ["anat/sub-01_T1w.nii.gz", "anat/sub-01_ce-gadolinium_T1w.nii.gz"], ["t1", "t1c"]),
        ("sub-01/ses-2", ["anat/sub-01_ses-2_FLAIR.nii.gz"], ["flair"]),
        ("7", ["VSD.Brain.XX.O.MR_DWI.1/VSD.Brain.XX.O.MR_DWI.1.nii"], ["dwi"]),
        ("100", ["pre/FLAIR.nii.gz", "pre/T1.nii.gz", "wmh.nii.gz"], ["t1", "flair"]),
        ("any", ["scan_T1.nhdr", "scan_FLAIR.nhdr"], ["t1", "flair"]),
    ],
)
def test_a_study_of_other_layouts_is_recognised(
    tmp_path: Path, folder: str, files: list[str], codes: list[str]
) -> None:
    touch(tmp_path, *(f"{folder}/{name}" for name in files))
    assert list(find_study(tmp_path / folder).images) == codes


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"subject,t1\na,x.nii\0\n", "holds NUL bytes"),
        (b"subject,t1\na," + b"x" * 200_000 + b"\n", "field larger than field limit"),
        (b"subject,t1\n" + b'a,"' + b"\n" * 150_000, "field larger than field limit"),
    ],
)
def test_tables_with_cells_without_end_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "s.csv").write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        read_subjects(tmp_path / "s.csv")
    assert "\n" not in str(caught.value)


def test_tables_without_end_are_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "s.csv").open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(UserError, match="more than the 67,108,864"):
        read_subjects(tmp_path / "s.csv")
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    with pytest.raises(UserError, match="not a plain file"):
        read_subjects(tmp_path / "zero.csv")


def test_tables_of_too_many_lines_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anymri.data.index.MOST_SUBJECTS", 2)
    touch(tmp_path, "x.nii", "y.nii", "z.nii")
    (tmp_path / "s.csv").write_text("subject,t1\na,x.nii\nb,y.nii\n")
    assert len(read_subjects(tmp_path / "s.csv")) == 2
    with (tmp_path / "s.csv").open("a") as file:
        file.write("c,z.nii\n")
    with pytest.raises(UserError, match="more than 2 lines"):
        read_subjects(tmp_path / "s.csv")
