"""Which files of a folder are the study, and what is said of the others."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from anymri.data.formats import write_foreign
from anymri.data.geometry import Geometry
from anymri.data.index import index_dataset, not_used, summarise
from anymri.data.nifti import read_image
from anymri.data.study_files import find_study
from anymri.types import UserError

GLIOMA = ("t1", "t1c", "t2", "flair")


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


def names(folder: Path, *options: object, **more: object) -> dict[str, str]:
    return {
        code: path.relative_to(folder).as_posix() for code, path in find_study(folder, *options, **more).images.items()
    }


# ------------------------------------------------------------------------------------------------------- flat folders


def test_usual_names_of_one_folder_are_understood(tmp_path: Path) -> None:
    touch(tmp_path, "AX T2 FLAIR 3mm.nii.gz", "T1 MPRAGE.nii", "t1_post_contrast.NII.GZ", "T2w.Nii", "T1_brainmask.nii")
    assert names(tmp_path, None, GLIOMA) == {
        "t1": "T1 MPRAGE.nii",
        "t1c": "t1_post_contrast.NII.GZ",
        "t2": "T2w.Nii",
        "flair": "AX T2 FLAIR 3mm.nii.gz",
    }
    assert find_study(tmp_path).notes == ()


def test_whatever_image_is_not_used_is_named_with_the_reason(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "t1.nii.gz", "t1.nii", "t1_old.nii.gz", "scan.nii.gz", "dwi.nii.gz", "T1map.nii", "orig.mgz", "seg.nii.gz",
        "notes.txt", ".hidden_t2.nii", "raw/flair.nii.gz", "result/result.json", "result/segmentation.nii.gz",
    )  # fmt: skip
    found = find_study(tmp_path, None, GLIOMA)
    assert {code: path.name for code, path in found.images.items()} == {"t1": "t1.nii.gz"}
    assert sorted(found.notes) == [
        "T1-weighted: t1.nii is not used, t1.nii.gz was taken of 3",
        "T1-weighted: t1_old.nii.gz is not used, t1.nii.gz was taken of 3",
        "T1map.nii: not used; a quantitative map, by its name",
        "dwi.nii.gz: not used; the model does not take dwi",
        "folder raw: 1 image in it is not used; the sequences were found beside it",
        "orig.mgz: not used; its format is not read, convert it to .nii.gz",
        "scan.nii.gz: not used; its name names no sequence",
    ]


def test_a_study_of_diffusion_without_t1_is_told_to_look_like_one_of_stroke(tmp_path: Path) -> None:
    touch(tmp_path, "dwi.nii.gz", "adc.nii.gz", "flair.nii.gz")
    assert "as studies of acute stroke do" in find_study(tmp_path, None, GLIOMA).notes[0]
    assert find_study(tmp_path, None, ("dwi", "adc", "flair")).notes == (), "a model of stroke knows them"
    touch(tmp_path, "t1.nii.gz")
    assert not any("stroke" in note for note in find_study(tmp_path, None, GLIOMA).notes)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["a_t1.nii.gz", "b_t1.nii.gz"], "a_t1.nii.gz and b_t1.nii.gz are both t1"),
        (["T1_brain.nii.gz", "T1_head.nii.gz"], "are both t1"),
        (["AX T2.nii", "COR T2.nii", "t1.nii"], "AX T2.nii and COR T2.nii are both t2"),
        (["t1ce.nii", "t1gd.nii"], "are both t1c"),
        (["BraTS-1-t1n.nii.gz", "BraTS-2-t1n.nii.gz"], "are both t1"),
        (["x_0000.nii.gz", "x_0001.nii.gz"], "0000 is a channel number of nnU-Net, and no dataset.json"),
        (["scan.nii", "T1-C.nii"], r"no sequence recognised \(T1-C.nii: T1-C can mean with or without"),
        (["T1.mgz"], r"no sequence recognised \(T1.mgz: its format is not read"),
        (["dwi.nii", "adc.nii"], "holds dwi, adc, but the model takes t1, t1c, t2, flair"),
    ],
)
def test_where_nobody_can_choose_nothing_is_guessed(tmp_path: Path, files: list[str], words: str) -> None:
    touch(tmp_path / "s", *files)
    with pytest.raises(UserError, match=words) as caught:
        find_study(tmp_path / "s", None, GLIOMA)
    assert "\n" not in str(caught.value)
    assert ";" in str(caught.value)


def test_of_two_names_the_one_without_further_words_is_taken(tmp_path: Path) -> None:
    touch(tmp_path / "case7", "case7_t1.nii.gz", "case7_t1_brain.nii.gz")
    assert names(tmp_path / "case7") == {"t1": "case7_t1.nii.gz"}


def test_what_the_user_gave_is_not_asked_for_again(tmp_path: Path) -> None:
    touch(tmp_path, "a_t1.nii.gz", "b_t1.nii.gz", "flair.nii.gz", "scan.nii.gz")
    found = find_study(tmp_path, None, GLIOMA, {"t1": tmp_path / "scan.nii.gz"})
    assert list(found.images) == ["flair"]
    assert found.notes == (
        "T1-weighted: a_t1.nii.gz is not used, another was given",
        "T1-weighted: b_t1.nii.gz is not used, another was given",
    )
    (tmp_path / "other").mkdir()
    touch(tmp_path / "other", "scan.nii.gz")
    assert find_study(tmp_path / "other", None, GLIOMA, {"t1": tmp_path / "other/scan.nii.gz"}).images == {}


@pytest.mark.parametrize("name", ["T1.NII.GZ", "T1.Nii", "T1.mha", "T1.MHA", "T1.NRRD"])
def test_endings_in_any_letter_case_are_read(tmp_path: Path, name: str) -> None:
    array = np.arange(24 * 5, dtype=np.int16).reshape(4, 5, 6)
    if name.lower().endswith((".nii", ".nii.gz")):
        small = tmp_path / name.lower()
        nib.save(nib.Nifti1Image(array, np.eye(4)), small)
    else:
        small = tmp_path / name.lower()
        write_foreign(small, array, Geometry(np.eye(4), array.shape[::-1]))
    small.rename(tmp_path / name)
    path = find_study(tmp_path).images["t1"]
    assert path.name == name
    assert read_image(path).array.size == array.size


# ------------------------------------------------------------------------------------------------ several in a folder


@pytest.mark.parametrize(
    ("files", "session", "words"),
    [
        (["sub-1/anat/sub-1_T1w.nii", "sub-2/anat/sub-2_T1w.nii"], None, "2 subjects: sub-1, sub-2; give the folder"),
        (
            ["sub-1/ses-1/anat/sub-1_ses-1_T1w.nii", "sub-1/ses-2/anat/sub-1_ses-2_T1w.nii"],
            None,
            "holds 2 sessions: sub-1_ses-1, sub-1_ses-2; choose one with --session sub-1_ses-2, or give its folder",
        ),
        (
            ["sub-1/ses-1/anat/sub-1_ses-1_T1w.nii", "sub-2/ses-1/anat/sub-2_ses-1_T1w.nii"],
            "ses-1",
            "holds 2 sessions: sub-1_ses-1, sub-2_ses-1",
        ),
        (["sub-1/ses-1/anat/sub-1_ses-1_T1w.nii"], "ses-3", "has no session ses-3; it has sub-1_ses-1"),
        (["sub-1/anat/sub-1_T1w.nii", "sub-1/anat/sub-2_T2w.nii"], None, "holds images of sub-1, sub-2"),
        (["a/t1.nii", "b/flair.nii"], None, "holds 2 studies: a, b; give the folder of one"),
        (["HGG/a/t1.nii", "LGG/b/t1.nii"], None, "holds 2 studies: HGG/a, LGG/b"),
        (["2019/T1/flair.nii", "2020/T1/flair.nii"], None, "holds 2 studies"),
        (["a/t1.nii", "b/t1.nii"], "c", "has no study c; it has a, b"),
        (["t1.nii"], "2", "has no sessions, it is one study; leave --session 2 out"),
        ([f"s{n:02d}/t1.nii" for n in range(12)], None, "holds 12 studies: s00, .*, s07 and 4 more; give"),
    ],
)
def test_a_folder_of_several_studies_is_refused_with_their_names(
    tmp_path: Path, files: list[str], session: str | None, words: str
) -> None:
    touch(tmp_path / "root", *files)
    with pytest.raises(UserError, match=words) as caught:
        find_study(tmp_path / "root", session)
    assert "\n" not in str(caught.value)


BIDS = [f"sub-{s}/ses-{n}/anat/sub-{s}_ses-{n}_T1w.nii" for s in ("01", "02") for n in ("1", "2")]


@pytest.mark.parametrize(
    ("folder", "session", "found"),
    [
        ("", "sub-02_ses-1", "sub-02/ses-1"),
        ("", "sub-02/ses-1", "sub-02/ses-1"),
        ("sub-01", "ses-2", "sub-01/ses-2"),
        ("sub-01", "2", "sub-01/ses-2"),
        ("sub-01/ses-2", None, "sub-01/ses-2"),
        ("sub-01/ses-2/anat", None, "sub-01/ses-2"),
    ],
)
def test_a_session_is_chosen_by_name(tmp_path: Path, folder: str, session: str | None, found: str) -> None:
    touch(tmp_path, *BIDS)
    place = find_study(tmp_path / folder, session).images["t1"]
    assert place.relative_to(tmp_path).as_posix().startswith(f"{found}/anat/")


def test_the_only_session_is_used_and_other_choices_are_said(tmp_path: Path) -> None:
    touch(tmp_path, BIDS[0], BIDS[0].replace("T1w", "run-2_T1w"), "sub-01/ses-2/func/sub-01_ses-2_bold.nii")
    found = find_study(tmp_path)
    assert found.images["t1"].name == "sub-01_ses-1_T1w.nii"
    assert found.notes == ("T1-weighted: sub-01_ses-1_run-2_T1w.nii is not used, sub-01_ses-1_T1w.nii was taken of 2",)


def test_the_only_study_in_a_folder_is_used(tmp_path: Path) -> None:
    touch(tmp_path, "patient/2020/t1.nii.gz", "patient/2020/flair.nii.gz", "patient/readme.txt")
    assert names(tmp_path) == {"t1": "patient/2020/t1.nii.gz", "flair": "patient/2020/flair.nii.gz"}
    touch(tmp_path, "other/t1.nii.gz")
    assert names(tmp_path, "other") == {"t1": "other/t1.nii.gz"}
    assert names(tmp_path, "patient/2020", ["flair"]) == {"flair": "patient/2020/flair.nii.gz"}


def test_a_folder_for_each_sequence(tmp_path: Path) -> None:
    touch(tmp_path, "3 T1 SAG/img.nii.gz", "5 FLAIR/img.nii.gz", "7 scout/img.nii.gz")
    assert names(tmp_path) == {"t1": "3 T1 SAG/img.nii.gz", "flair": "5 FLAIR/img.nii.gz"}
    assert find_study(tmp_path).notes == ("img.nii.gz: not used; folder 7 scout: a localiser, by its name",)


# -------------------------------------------------------------------------------------------------------------- nnU-Net


def test_numbers_of_nnunet_need_their_description(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr/c1_0000.nii.gz", "imagesTr/c1_0001.nii.gz", "imagesTr/c2_0000.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps({"channel_names": {"0": "FLAIR", "1": "T1"}}))
    with pytest.raises(UserError, match="holds 2 cases: c1, c2; choose one with --session c1"):
        find_study(tmp_path / "imagesTr")
    assert names(tmp_path / "imagesTr", "c1") == {"t1": "c1_0001.nii.gz", "flair": "c1_0000.nii.gz"}
    assert names(tmp_path / "imagesTr", "c2") == {"flair": "c2_0000.nii.gz"}
    touch(tmp_path, "one/c9_0001.nii.gz", "one/c9_0007.nii.gz")
    assert names(tmp_path / "one") == {"t1": "c9_0001.nii.gz"}
    assert find_study(tmp_path / "one").notes == ("c9_0007.nii.gz: not used; dataset.json names no channel 0007",)


def test_a_case_of_an_nnunet_data_set_is_found_from_its_root(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr/c1_0000.nii.gz", "imagesTr/c2_0000.nii.gz", "labelsTr/c1.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps({"channel_names": {"0": "FLAIR"}}))
    assert names(tmp_path, "c2") == {"flair": "imagesTr/c2_0000.nii.gz"}
    with pytest.raises(UserError, match="holds 2 cases: c1, c2"):
        find_study(tmp_path)


# ---------------------------------------------------------------------------------------------------- whole data sets


def test_indexing_says_what_it_did_not_use(tmp_path: Path) -> None:
    touch(tmp_path, "a/t1.nii.gz", "a/FLAIR.nii.gz", "a/scan.nii", "a/seg.nii.gz", "b/t1.nii.gz", "b/T1map.nii.gz")
    said = not_used(tmp_path, index_dataset(tmp_path))
    assert said == [
        "a/FLAIR.nii.gz: not used; FLAIR by its name, but name or place are not those of this layout",
        "a/scan.nii: not used; its name names no sequence",
        "b/T1map.nii.gz: not used; a quantitative map, by its name",
    ]
    assert summarise(said, 2) == [
        "found and not used, or doubtful: 3 files", *(f"  {one}" for one in said[:2]), "  and 1 more",
    ]  # fmt: skip
    assert summarise([]) == []


def test_indexing_bids_says_which_run_was_taken_and_which_map_was_not(tmp_path: Path) -> None:
    touch(tmp_path, BIDS[0], BIDS[0].replace("T1w", "run-2_T1w"), BIDS[0].replace("T1w", "T2starw"))
    touch(tmp_path, "derivatives/fmriprep/sub-01/ses-1/anat/sub-01_ses-1_dseg.nii.gz", "sub-01/ses-1/func/x_bold.nii")
    said = " | ".join(not_used(tmp_path, index_dataset(tmp_path, "bids")))
    assert said.count("not used") == 3
    for words in ("run-2_T1w.nii is not used", "T2starw is none of", "not used as label map; fmriprep makes maps of"):
        assert words in said


def test_real_studies_give_no_note(shared_data: Path) -> None:
    cases = [path for path in (shared_data / "brats2021").iterdir() if path.is_dir()]
    assert len(cases) > 5
    for case in cases:
        found = find_study(case, None, GLIOMA)
        assert list(found.images) == list(GLIOMA)
        assert found.notes == ()
    for case in (path for path in (shared_data / "openms_raw").iterdir() if path.is_dir()):
        assert find_study(case, None, GLIOMA).notes == ()
