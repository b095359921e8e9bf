"""Which studies a folder, a BIDS data set or a table holds."""

from __future__ import annotations

import zipfile

import pytest

from anymri.inference.batch.studies import list_studies
from anymri.types import UserError


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


def listed(root, out="nowhere"):
    """Id to what leads to its images."""
    return {study.name: study.source for study in list_studies(root, root / out)}


def test_folders_and_what_lies_in_them(tmp_path):
    touch(
        tmp_path, "a/t1.nii.gz", "site/b/flair.nii", "site/c/t2.nii", "empty.nii.gz", "notes/read me.txt", "odd/x.nii"
    )
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("x.dcm", bytes(128) + b"DICM")
    said = []
    studies = list_studies(tmp_path, tmp_path / "out", said.append)
    assert {study.name: study.source.folder.name for study in studies} == {
        "a": "a", "site_b": "b", "site_c": "c", "odd": "odd", "z": "z.zip",
    }  # fmt: skip
    assert said == ["no studies, as they hold no image: notes"]


def test_the_folder_of_results_is_no_study(tmp_path):
    touch(tmp_path, "a/t1.nii", "out/studies/a/t1.nii")
    assert list(listed(tmp_path, "out")) == ["a"]


def test_sessions_of_bids(tmp_path):
    touch(
        tmp_path,
        "sub-01/anat/sub-01_T1w.nii.gz",
        "sub-02/ses-1/anat/sub-02_ses-1_FLAIR.nii.gz",
        "sub-02/ses-2/anat/sub-02_ses-2_T2w.nii.gz",
        "sub-03/func/sub-03_task-rest_bold.nii.gz",
        "derivatives/x/sub-01/anat/sub-01_T1w.nii.gz",
    )
    assert list(listed(tmp_path)) == ["sub-01", "sub-02_ses-1", "sub-02_ses-2", "sub-03"]


def test_cases_of_nnunet(tmp_path):
    touch(tmp_path, "dataset.json", "case_1_0000.nii.gz", "case_1_0001.nii.gz", "case_2_0000.nii.gz")
    found = listed(tmp_path)
    assert {name: source.session for name, source in found.items()} == {"case_1": "case_1", "case_2": "case_2"}


def test_a_table_of_paths(tmp_path):
    table = tmp_path / "studies.csv"
    table.write_text("Study,T1w,t1ce,folder,session,raw\na,x/1.nii,,,,\nb,,2,dicom,3,yes\nc,,,,,\n")
    a, b, c = list_studies(table, tmp_path / "out")
    assert a.source.files == {"t1": str(tmp_path / "x" / "1.nii")}
    assert (b.source.folder, b.source.files, b.source.session, b.source.raw) == (
        tmp_path / "dicom",
        {"t1c": "2"},
        "3",
        True,
    )
    assert (c.source, c.problem.endswith("c has no image; name a sequence or a folder")) == (None, True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names no study"),
        ("study,t1\n", "names no study"),
        ("t1,t2\na,b\n", "no column 'study'"),
        ("study,t1,T1w\na,b,c\n", "two columns for t1"),
        ("study,t1,colour\na,b,c\n", "unknown column 'colour'"),
        ("study,t1\na,b,c\n", "has 3 cells, the header 2"),
        ("study,t1\n../a,b\n", "cannot name a subject"),
        ("study,t1,raw\na,b,perhaps\n", "neither yes nor no"),
        ("study,t1\na,b\na,c\n", "two studies are called a"),
        ("study,t1,session\na,b,2\n", "a session chooses in a folder"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path, text, words):
    (tmp_path / "studies.csv").write_text(text)
    with pytest.raises(UserError, match=words):
        list_studies(tmp_path / "studies.csv", tmp_path / "out")


def test_a_folder_without_studies_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no folder"):
        list_studies(tmp_path, tmp_path / "out")
    with pytest.raises(UserError, match="does not exist"):
        list_studies(tmp_path / "nowhere", tmp_path / "out")
