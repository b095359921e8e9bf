from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from anymri.data.datasets import DATASETS, get_dataset
from anymri.data.datasets.brats2021 import index_brats2021, write_brats2021
from anymri.data.datasets.brats2023 import index_brats2023, write_brats2023
from anymri.data.datasets.folder import index_folder
from anymri.data.nifti import read_image
from anymri.types import UserError


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not an image: indexing must not open it")


def volumes(shape: tuple[int, int, int] = (5, 6, 7)) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {code: random.integers(0, 900, shape).astype(np.float32) for code in ("t1", "t1c", "t2", "flair")}


def test_brats2021_names(tmp_path: Path) -> None:
    touch(tmp_path, *(f"BraTS2021_00003/BraTS2021_00003_{x}.nii.gz" for x in ("t1", "t1ce", "t2", "flair", "seg")))
    touch(tmp_path, "BraTS2021_00001/BraTS2021_00001_flair.nii", "readme/notes.txt", "name_mapping.csv")
    first, second = index_brats2021(tmp_path)
    assert (first.subject_id, second.subject_id) == ("BraTS2021_00001", "BraTS2021_00003")
    assert first.images == {"flair": tmp_path / "BraTS2021_00001/BraTS2021_00001_flair.nii"}
    assert first.label is None
    assert {code: path.name for code, path in second.images.items()} == {
        "t1": "BraTS2021_00003_t1.nii.gz",
        "t1c": "BraTS2021_00003_t1ce.nii.gz",
        "t2": "BraTS2021_00003_t2.nii.gz",
        "flair": "BraTS2021_00003_flair.nii.gz",
    }
    assert second.label is not None
    assert second.label.name == "BraTS2021_00003_seg.nii.gz"


def test_brats2018_groups_and_sites(tmp_path: Path) -> None:
    for folder in ("HGG/Brats18_CBICA_AAB_1", "LGG/Brats18_TCIA09_141_1", "HGG/Brats18_2013_2_1"):
        name = folder.split("/")[1]
        touch(tmp_path, f"{folder}/{name}_t1.nii.gz", f"{folder}/{name}_seg.nii.gz")
    subjects = index_brats2021(tmp_path)
    assert [(s.subject_id, s.patient, s.site) for s in subjects] == [
        ("Brats18_2013_2_1", "Brats18_2013_2_1", "2013"),
        ("Brats18_CBICA_AAB_1", "Brats18_CBICA_AAB_1", "CBICA"),
        ("Brats18_TCIA09_141_1", "Brats18_TCIA09_141_1", "TCIA09"),
    ]
    touch(tmp_path, "LGG/Brats18_2013_2_1/Brats18_2013_2_1_t1.nii.gz")
    with pytest.raises(UserError, match="second folder of this name"):
        index_brats2021(tmp_path)


def test_the_misnamed_label_of_brats2020_is_found(tmp_path: Path) -> None:
    touch(tmp_path, "BraTS20_Training_355/BraTS20_Training_355_t1.nii", "BraTS20_Training_355/W39_x_Segm.nii")
    label = index_brats2021(tmp_path)[0].label
    assert label is not None
    assert label.name == "W39_x_Segm.nii"


def test_brats2023_names_and_time_points(tmp_path: Path) -> None:
    for name in ("BraTS-GLI-00005-001", "BraTS-GLI-00005-000", "BraTS-GLI-00007-000"):
        touch(tmp_path, *(f"{name}/{name}-{x}.nii.gz" for x in ("t1n", "t1c", "t2w", "t2f", "seg")))
    subjects = index_brats2023(tmp_path)
    assert [s.subject_id[-9:] for s in subjects] == ["00005-000", "00005-001", "00007-000"]
    assert [s.patient for s in subjects] == ["BraTS-GLI-00005", "BraTS-GLI-00005", "BraTS-GLI-00007"]
    assert {code: path.name[20:-7] for code, path in subjects[0].images.items()} == {
        "t1": "t1n", "t1c": "t1c", "t2": "t2w", "flair": "t2f",
    }  # fmt: skip
    assert index_brats2023(tmp_path / "BraTS-GLI-00007-000")[0].subject_id == "BraTS-GLI-00007-000"


@pytest.mark.parametrize("name", ["brats2021", "brats2023", "folder"])
def test_nothing_found_says_what_was_expected(name: str, tmp_path: Path) -> None:
    for root, words in ((tmp_path, "no subject found; expected folders"), (tmp_path / "x", "does not exist")):
        with pytest.raises(UserError, match=words) as caught:
            DATASETS[name].index(root)
        assert str(root) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_label_without_image_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "BraTS2021_00001/BraTS2021_00001_seg.nii.gz", "BraTS2021_00002/BraTS2021_00002_t1.nii.gz")
    with pytest.raises(UserError, match="label map but no image"):
        index_brats2021(tmp_path)


@pytest.mark.parametrize("name", ["brats2021", "brats2023", "folder"])
def test_written_subjects_are_found_again(name: str, tmp_path: Path) -> None:
    info = get_dataset(name)
    images = volumes()
    label = np.zeros((5, 6, 7), np.int16)
    label[1, 2, 3], label[2, 2, 3], label[3, 2, 3] = 1, 2, 3
    info.write(tmp_path, "case-001", images, label, (3.0, 2.0, 1.5))
    info.write(tmp_path, "case-000", {"t1c": images["t1c"]})
    bare, full = info.index(tmp_path)
    assert list(bare.images) == ["t1c"]
    assert bare.label is None
    assert list(full.images) == ["t1", "t1c", "t2", "flair"]
    for code, path in full.images.items():
        volume = read_image(path)
        np.testing.assert_array_equal(volume.array, images[code])
        assert volume.geometry.spacing_mm == (3.0, 2.0, 1.5)
    stored = nib.load(full.label).get_fdata()
    assert sorted(np.unique(stored)) == ([0, 1, 2, 4] if name == "brats2021" else [0, 1, 2, 3])


def test_written_axes_and_origin_are_those_of_brats(tmp_path: Path) -> None:
    array = np.zeros((155, 240, 240), np.int16)
    array[150, 10, 20] = 1  # superior, posterior, left
    folder = write_brats2021(tmp_path, "BraTS2021_00000", {"t1": array})
    image = nib.load(folder / "BraTS2021_00000_t1.nii.gz")
    assert image.shape == (240, 240, 155)
    assert image.get_data_dtype() == np.int16
    np.testing.assert_array_equal(image.affine, [[-1, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]])
    assert nib.aff2axcodes(image.affine) == ("L", "P", "S")
    # The marker's world position: 20 voxels right of the leftmost, 10 in front of the hindmost, 150 up.
    assert np.argwhere(image.get_fdata()).tolist() == [[239 - 20, 239 - 10, 150]]


def test_written_like_a_real_case(shared_data: Path, tmp_path: Path) -> None:
    real = shared_data / "brats2021" / "BraTS2021_01476"
    volume, label = read_image(real / "t1.nii.gz"), read_image(real / "seg.nii.gz", kind="label")
    ours = np.where(label.array == 4, 3, label.array)
    folder = write_brats2021(tmp_path, "BraTS2021_01476", {"t1": volume.array}, ours)
    for ending, name in (("t1", "t1"), ("seg", "seg")):
        written, original = nib.load(folder / f"BraTS2021_01476_{ending}.nii.gz"), nib.load(real / f"{name}.nii.gz")
        np.testing.assert_array_equal(np.asarray(written.dataobj), np.asarray(original.dataobj))
        np.testing.assert_array_equal(written.affine, original.affine)
        assert written.get_data_dtype() == original.get_data_dtype()


def test_writing_again_repeats_bytes_and_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = write_brats2023(tmp_path, "BraTS-GLI-00000-000", volumes(), np.zeros((5, 6, 7), int))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    write_brats2023(tmp_path, "BraTS-GLI-00000-000", volumes(), np.zeros((5, 6, 7), int))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    write_brats2023(tmp_path, "BraTS-GLI-00000-000", {"t1": volumes()["t1"]})
    assert [path.name for path in folder.iterdir()] == ["BraTS-GLI-00000-000-t1n.nii.gz"]
    assert [path.name for path in tmp_path.iterdir()] == ["BraTS-GLI-00000-000"]


def test_an_interrupted_write_is_no_subject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from anymri.data.datasets import layout

    write = layout.write_image
    calls: list[Path] = []

    def failing(path: Path, *arguments: object) -> Path:
        calls.append(path)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return write(path, *arguments)

    monkeypatch.setattr(layout, "write_image", failing)
    with pytest.raises(KeyboardInterrupt):
        write_brats2023(tmp_path, "BraTS-GLI-00000-000", volumes())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("images", "label", "words"),
    [
        ({"pd": np.ones((2, 2, 2))}, None, "pd"),
        ({}, None, "nothing"),
        ({"t1": np.full((2, 2, 2), 40000.0)}, None, "16-bit"),
        ({"t1": np.full((2, 2, 2), np.nan)}, None, "16-bit"),
        ({"t1": np.ones((2, 2))}, None, "axes"),
        ({"t1": np.ones((2, 2, 2)), "t2": np.ones((2, 2, 3))}, None, "shape"),
        ({"t1": np.ones((2, 2, 2))}, np.full((2, 2, 2), 4), "label 4"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path: Path, images: dict, label: np.ndarray | None, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        write_brats2021(tmp_path, "BraTS2021_00000", images, label)
    assert list(tmp_path.iterdir()) == []


def test_foreign_files_are_never_replaced(tmp_path: Path) -> None:
    touch(tmp_path, "BraTS2021_00000/thesis.docx", "BraTS2021_00001")
    for name, words in (("BraTS2021_00000", "thesis.docx"), ("BraTS2021_00001", "a file is where")):
        with pytest.raises(UserError, match=words):
            write_brats2021(tmp_path, name, volumes())
    assert (tmp_path / "BraTS2021_00000/thesis.docx").exists()
    with pytest.raises(ValueError, match="file name"):
        write_brats2021(tmp_path, "../elsewhere", volumes())


# -------------------------------------------------------------------------------------------------- any folder


def found(root: Path, **patterns: str) -> dict[str, list[str]]:
    return {s.subject_id: [*s.images, *(["label"] if s.label else [])] for s in index_folder(root, patterns)}


def test_default_layout_of_real_cases(shared_data: Path) -> None:
    subjects = index_folder(shared_data / "brats2021")
    folders = sorted(path.name for path in (shared_data / "brats2021").iterdir() if path.is_dir())
    assert [s.subject_id for s in subjects] == folders
    assert all(list(s.images) == ["t1", "t1c", "t2", "flair"] and s.label for s in subjects)
    assert list(index_folder(shared_data / "icbm152")[0].images) == ["t1", "t2", "pd"]


def test_the_text_of_the_first_star_is_the_subject(tmp_path: Path) -> None:
    touch(tmp_path, "a_T1.nii.gz", "a_T2.nii.gz", "b_T2.nii.gz", "a_mask.nii.gz", "HGG/c_T1.nii.gz")
    assert found(tmp_path, t1="*_T1.nii.gz", t2="*_T2.nii.gz", label="*_mask.nii.gz") == {
        "a": ["t1", "t2", "label"],
        "b": ["t2"],
    }
    assert found(tmp_path, t1="HGG/*_T1.nii.gz") == {"c": ["t1"]}


def test_a_folder_with_a_star_is_the_subject(tmp_path: Path) -> None:
    touch(
        tmp_path, "sub-01/anat/x_T1w.nii", "sub-02/anat/y_FLAIR.nii", "sub-01/anat/z_FLAIR.nii", "other/anat/x_T1w.nii"
    )
    patterns = {"t1": "sub-*/anat/*_T1w.nii", "flair": "sub-*/anat/*_FLAIR.nii"}
    assert found(tmp_path, **patterns) == {"sub-01": ["t1", "flair"], "sub-02": ["flair"]}


def test_the_subject_can_be_marked(tmp_path: Path) -> None:
    touch(tmp_path, "HGG/a/a_T1.nii.gz", "LGG/b/b_T1.nii.gz", "LGG/b/old_T1.nii.gz", "deep/er/c/c_T1.nii.gz")
    assert found(tmp_path, t1="*/{subject}/{subject}_T1.nii.gz") == {"a": ["t1"], "b": ["t1"]}
    assert found(tmp_path, t1="**/{subject}/{subject}_T1.nii.gz") == {"a": ["t1"], "b": ["t1"], "c": ["t1"]}


def test_brackets_in_names_are_letters(tmp_path: Path) -> None:
    touch(tmp_path, "a [1].nii", "a 1.nii")
    with pytest.raises(UserError, match="no file fits"):
        index_folder(tmp_path, {"t1": "*[2].nii"})


@pytest.mark.parametrize(
    ("patterns", "words"),
    [
        ({"t1": "*/*_T1.nii.gz"}, "narrow the pattern"),
        ({"t1ce": "*_T1.nii.gz"}, "did you mean"),
        ({"t1": "case_T1.nii.gz"}, "names no subject"),
        ({"t1": "/data/*.nii"}, "must be relative"),
        ({"t1": "../*.nii"}, "must be relative"),
        ({"t1": "*_T3.nii.gz"}, r"no file fits t1=\*_T3"),
        ({"label": "*/a_T1.nii.gz"}, "has no image"),
    ],
)
def test_patterns_that_do_not_work_say_why(tmp_path: Path, patterns: dict[str, str], words: str) -> None:
    touch(tmp_path, "x/a_T1.nii.gz", "x/b_T1.nii.gz", "case_T1.nii.gz")
    with pytest.raises(UserError, match=words) as caught:
        index_folder(tmp_path, patterns)
    assert "\n" not in str(caught.value)


def test_unknown_layout() -> None:
    with pytest.raises(UserError, match="did you mean 'brats2023'"):
        get_dataset("brats2022x3")


def test_the_table_is_complete() -> None:
    assert list(DATASETS) == sorted(DATASETS)
    for name, info in DATASETS.items():
        assert info.name == name
        assert info.title
        assert info.licence
        assert info.where
