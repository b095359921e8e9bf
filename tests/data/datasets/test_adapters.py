"""Every adapter reads what its writer wrote, refuses what is not its own, and knows its traps."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import run

from anymri.data.datasets import DATASETS, get_dataset
from anymri.data.datasets.layout import native_grid
from anymri.data.index import index_dataset, not_used, read_subjects, write_subjects
from anymri.data.nifti import read_image
from anymri.data.specification import dataset_spec
from anymri.types import GLIOMA, DataSpec, Subject, UserError

SHAPE = (10, 12, 14)
SPACING_MM = (3.0, 2.0, 1.5)

#: Ids that fit each layout: two subjects of two patients.
IDS = {
    "adni": ("002_S_0413_2006-11-15", "005_S_0221_2007-01-02"),
    "bids": ("sub-01_ses-1", "sub-02"),
    "brats2013": ("HG_0001", "LG_0001"),
    "brats2015": ("HGG_brats_2013_pat0001_1", "LGG_brats_2013_pat0001_1"),
    "brats2023": ("BraTS-GLI-00005-000", "BraTS-GLI-00006-000"),
    "brats2024": ("BraTS-GLI-02060-100", "BraTS-GLI-02061-100"),
    "chaos": ("1-T1DUAL", "2-T2SPIR"),
    "duke_liver": ("0001-4", "0002-7"),
    "isles2015_siss": ("1", "2"),
    "isles2015_spes": ("1", "2"),
    "ixi": ("IXI002-Guys-0828", "IXI012-HH-1211"),
    "msseg2016": ("Center_01-Patient_01", "Center_07-Patient_01"),
    "sabre": ("sub-01", "sub-02"),
    "wmh2017": ("GE3T-100", "Utrecht-0"),
}


def spec_of(name: str) -> DataSpec:
    return GLIOMA if name in ("bids", "folder", "nnunet") else get_dataset(name).spec


def study(name: str, seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """Random volumes of every sequence of a data set, and a label map with every label."""
    random = np.random.default_rng(seed)
    spec = spec_of(name)
    codes = {"chaos": ("t1_in", "t1_out"), "duke_liver": ("t1c",)}.get(name, spec.modalities)
    volumes = {code: random.integers(0, 900, SHAPE).astype(np.int16) for code in codes}
    if not spec.labels:
        return volumes, None
    return volumes, random.choice([0, *spec.labels.values()], SHAPE).astype(np.uint8)


def check_equal(subject: Subject, volumes: dict[str, np.ndarray], label: np.ndarray | None) -> None:
    assert set(subject.images) == set(volumes)
    grid = native_grid(SHAPE, SPACING_MM)
    for code, path in subject.images.items():
        volume = read_image(path)
        np.testing.assert_array_equal(volume.array, volumes[code], err_msg=code)
        np.testing.assert_allclose(volume.geometry.affine, grid.affine, atol=1e-5)
        assert volume.geometry.shape == grid.shape
    assert (subject.label is None) == (label is None)
    if subject.label is not None:
        stored = read_image(subject.label, kind="label")
        ours = np.where(stored.array == 4, 3, stored.array) if subject.subject_id.startswith("case") else stored.array
        np.testing.assert_array_equal(ours, label)
        np.testing.assert_allclose(stored.geometry.affine, grid.affine, atol=1e-5)


@pytest.mark.parametrize("name", DATASETS)
def test_what_was_written_is_read_back(name: str, tmp_path: Path) -> None:
    info = get_dataset(name)
    first, second = IDS.get(name, ("case-1", "case-2"))
    volumes, label = study(name)
    info.write(tmp_path / "data", first, volumes, label, SPACING_MM)
    # The second lacks sequences and the label map, where the layout lets it.
    fewer = dict(list(volumes.items())[: 4 if name == "msd_brain" else max(1, len(volumes) // 2)])
    if name == "chaos":
        fewer = {"t2_spir": volumes["t1_in"]}
    info.write(tmp_path / "data", second, fewer, None, SPACING_MM)
    subjects = index_dataset(tmp_path / "data", name)
    assert [subject.subject_id for subject in subjects] == sorted((first, second))
    by_id = {subject.subject_id: subject for subject in subjects}
    check_equal(by_id[first], volumes, label)
    check_equal(by_id[second], fewer, None)
    assert len({subject.patient for subject in subjects}) == 2
    assert not [path for path in tmp_path.rglob("*") if ".tmp" in path.name or path.name.endswith(".part")]
    # The table keeps how each file is to be read.
    table = write_subjects(tmp_path / "tables" / "subjects.csv", subjects)
    again = {subject.subject_id: subject for subject in read_subjects(table)}
    check_equal(again[first], volumes, label)
    spec = dataset_spec(tmp_path / "data", name, subjects)
    assert set(volumes) <= set(spec.modalities)
    assert label is None or set(np.unique(label).tolist()) <= {0, *spec.labels.values()}


@pytest.mark.parametrize("name", DATASETS)
def test_writing_again_changes_nothing(name: str, tmp_path: Path) -> None:
    info = get_dataset(name)
    subject_id = IDS.get(name, ("case-1",))[0]
    volumes, label = study(name)
    contents = []
    for _ in range(2):
        info.write(tmp_path, subject_id, volumes, label, SPACING_MM)
        contents.append({path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()})
    differing = [path for path, content in contents[0].items() if contents[1].get(path) != content]
    # DICOM files carry the version and time of their writer's library.
    assert [path for path in differing if path.suffix not in (".dcm", ".dicom")] == []
    assert contents[0].keys() == contents[1].keys()
    assert len(index_dataset(tmp_path, name)) == 1


@pytest.mark.parametrize("name", DATASETS)
def test_an_empty_folder_says_what_was_expected(name: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing here")
    for root, words in ((tmp_path, "no subject found; expected"), (tmp_path / "x", "does not exist")):
        with pytest.raises(UserError, match=words) as caught:
            DATASETS[name].index(root)
        assert str(root) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", DATASETS)
def test_what_a_layout_has_no_place_for_is_refused(name: str, tmp_path: Path) -> None:
    info = get_dataset(name)
    subject_id = IDS.get(name, ("case-1",))[0]
    volumes, _ = study(name)
    foreign = {"ttp": np.ones(SHAPE)} if "ttp" not in spec_of(name).modalities else {"pd": np.ones(SHAPE)}
    if name not in ("folder", "rrms", "nnunet"):
        with pytest.raises(ValueError, match="cannot write"):
            info.write(tmp_path, subject_id, foreign)
    with pytest.raises(ValueError, match="16-bit"):
        info.write(tmp_path, subject_id, {code: np.full(SHAPE, 1e6) for code in volumes})
    if not spec_of(name).labels and name != "sabre":
        with pytest.raises(ValueError, match="no label maps"):
            info.write(tmp_path, subject_id, volumes, np.ones(SHAPE, np.uint8))
    with pytest.raises(UserError, match="no subject found"):
        info.index(tmp_path)


def test_the_catalogue_is_complete() -> None:
    assert list(DATASETS) == sorted(DATASETS)
    for name, info in DATASETS.items():
        json.dumps(info.to_dict())
        assert info.name == name
        assert all((info.title, info.licence, info.where, info.spec.modalities))
        assert info.traps or name == "folder"
        assert info.citation or name == "folder"


# ------------------------------------------------------------------------------------------- what each must know


def test_the_merged_core_of_brats2015_changes_no_region(tmp_path: Path) -> None:
    """1 necrosis, 2 edema, 3 non-enhancing, 4 enhancing in files; core = 1, 3, 4."""
    import SimpleITK as sitk

    info = get_dataset("brats2015")
    info.write(tmp_path, "HGG_brats_tcia_pat309_0001", *study("brats2015"), SPACING_MM)
    label_file = next(tmp_path.rglob("*.OT.*.mha"))
    theirs = np.arange(np.prod(SHAPE)).reshape(SHAPE) % 5
    image = sitk.GetImageFromArray(theirs.astype(np.uint8))
    image.CopyInformation(sitk.ReadImage(str(label_file)))
    sitk.WriteImage(image, str(label_file))
    subject = info.index(tmp_path)[0]
    assert subject.patient == "HGG_brats_tcia_pat309"
    ours = read_image(subject.label, kind="label").array
    theirs = theirs[:, ::-1, ::-1]  # stored axes L, P, S
    assert set(np.unique(ours)) == {0, 1, 2, 3}
    np.testing.assert_array_equal(ours > 0, theirs > 0)
    np.testing.assert_array_equal(np.isin(ours, (1, 3)), np.isin(theirs, (1, 3, 4)))
    np.testing.assert_array_equal(ours == 3, theirs == 4)


def test_archive_copies_without_inner_folders_are_read(tmp_path: Path) -> None:
    info = get_dataset("brats2015")
    volumes, label = study("brats2015")
    folder = info.write(tmp_path, "HGG_brats_2013_pat0001_1", volumes, label, SPACING_MM)
    for path in list(folder.glob("*/*.mha")):
        path.rename(folder / path.name)
        path.parent.rmdir()
    check_equal(info.index(tmp_path)[0], volumes, label)
    shutil.copy(next(folder.glob("*.MR_T1.*")), folder / "VSD.Brain.XX.O.MR_T1.99999.mha")
    with pytest.raises(UserError, match="the same sequence; remove one"):
        info.index(tmp_path)


def test_decathlon_channels_and_hidden_files(tmp_path: Path) -> None:
    info = get_dataset("msd_brain")
    volumes, label = study("msd_brain")
    info.write(tmp_path, "BRATS_001", volumes, label, SPACING_MM)
    (tmp_path / "imagesTr" / "._BRATS_001.nii.gz").write_bytes(b"not an image")
    subject = info.index(tmp_path)[0]
    order = ("flair", "t1", "t1c", "t2")
    assert {code: path.name for code, path in subject.images.items()} == {
        code: f"BRATS_001.nii.gz#{channel}" for channel, code in enumerate(order)
    }
    raw = read_image(tmp_path / "labelsTr" / "BRATS_001.nii.gz", kind="label").array
    np.testing.assert_array_equal(raw == 1, label == 2)  # edema is 1 in the file
    with pytest.raises(ValueError, match="t2 is missing"):
        info.write(tmp_path, "BRATS_002", {code: volumes[code] for code in ("flair", "t1", "t1c")})
    (tmp_path / "imagesTr" / "BRATS_001.nii.gz").unlink()
    info.write(tmp_path, "BRATS_002", volumes, label, SPACING_MM)
    with pytest.raises(UserError, match="a label map without its image"):
        info.index(tmp_path)


def test_post_treatment_glioma_keeps_the_cavity_out_of_the_tumour() -> None:
    spec = get_dataset("brats2024").spec
    assert spec.labels["resection_cavity"] == 4
    assert 4 not in spec.region_values("whole_tumor")
    assert spec.region_values("tumor_core") == GLIOMA.region_values("tumor_core")


def test_wmh_and_msseg_sites(tmp_path: Path) -> None:
    for name, subject_id in (("wmh2017", "GE3T-100"), ("msseg2016", "Center_03-Patient_02")):
        info = get_dataset(name)
        info.write(tmp_path / name / "training" / "Amsterdam", subject_id, *study(name), SPACING_MM)
        subject = info.index(tmp_path / name)[0]
        assert (subject.subject_id, subject.site) == (subject_id, subject_id.split("-")[0])
    info = get_dataset("wmh2017")
    info.write(tmp_path / "test" / "Amsterdam", "Philips_VU .PETMR_01.-161", *study("wmh2017"), SPACING_MM)
    assert [s.site for s in info.index(tmp_path / "test")] == ["Philips_VU .PETMR_01."]
    assert get_dataset("wmh2017").spec.region_values("lesion") == (1,)  # other pathology (2) is no lesion


def test_the_second_rater_of_msgc_is_no_subject(tmp_path: Path) -> None:
    info = get_dataset("msgc2008")
    info.write(tmp_path / "UNC_train_Part1", "UNC_train_Case01", *study("msgc2008"), SPACING_MM)
    second = tmp_path / "UNC_train_lesion_byCHB" / "UNC_train_Case01"
    second.mkdir(parents=True)
    (second / "UNC_train_Case01_lesion_byCHB.nhdr").write_text("")
    assert [(s.subject_id, s.site) for s in info.index(tmp_path)] == [("UNC_train_Case01", "UNC")]


def test_chaos_masks_are_matched_by_slice_not_by_file_name(tmp_path: Path) -> None:
    """In the release, masks and slices have different names; names need not follow the positions."""
    info = get_dataset("chaos")
    volumes, label = study("chaos")
    folder = info.write(tmp_path, "7-T1DUAL", volumes, label, SPACING_MM)
    for kind in ("Ground", "DICOM_anon/InPhase"):
        files = sorted((folder / kind).iterdir())
        for number, path in enumerate(files, start=1):
            path.rename(path.with_name(f"X-{(number + 3) % SHAPE[0]:05d}{path.suffix}"))
    check_equal(info.index(tmp_path)[0], volumes, label)
    next((folder / "Ground").iterdir()).unlink()
    with pytest.raises(UserError, match="9 masks for 10 slices"):
        read_image(info.index(tmp_path)[0].label, kind="label")


def test_both_protocols_of_a_chaos_patient_share_the_patient(tmp_path: Path) -> None:
    info = get_dataset("chaos")
    volumes, label = study("chaos")
    info.write(tmp_path / "Train_Sets", "7", volumes, label)
    info.write(tmp_path / "Train_Sets", "7", {"t2_spir": volumes["t1_in"]}, label)
    assert [(s.subject_id, s.patient) for s in info.index(tmp_path)] == [("7-T1DUAL", "7"), ("7-T2SPIR", "7")]
    info.write(tmp_path / "Test_Sets", "7", volumes)
    with pytest.raises(UserError, match="index one set at a time"):
        info.index(tmp_path)


def test_a_series_with_a_missing_slice_is_refused(tmp_path: Path) -> None:
    folder = get_dataset("adni").write(tmp_path, "002_S_0413_2006-11-15", *study("adni"), SPACING_MM)
    series = sorted(folder.rglob("*.dcm"))[0].parent
    sorted(series.iterdir())[4].unlink()
    with pytest.raises(UserError, match="slices are missing"):
        read_image(series)


def test_adni_takes_one_of_several_and_leaves_out_what_is_no_sequence(tmp_path: Path) -> None:
    info = get_dataset("adni")
    volumes, _ = study("adni")
    folder = info.write(tmp_path, "002_S_0413_2006-11-15", {"t1": volumes["t1"]}, None, SPACING_MM)
    scan = next((folder / "MPRAGE").glob("*/*"))
    for other in ("Calibration_Scan", "Axial_T2-Star", "MPRAGE__GradWarp__N3"):
        shutil.copytree(scan, folder / other / scan.parent.name / "I9")
    shutil.copytree(scan, folder / "MPRAGE" / "2006-11-15_10_00_00.0" / "I0")
    subject = info.index(tmp_path)[0]
    assert {code: path.name for code, path in subject.images.items()} == {"t1": "I0"}
    assert (subject.patient, subject.site) == ("002_S_0413", "002")


@pytest.mark.parametrize("name", ["folder", "bids"])
def test_what_labels_mean_is_asked_for_where_nothing_says_it(name: str, tmp_path: Path) -> None:
    root = tmp_path / "data"
    get_dataset(name).write(root, IDS.get(name, ("s1",))[0], *study(name), SPACING_MM)
    command = ("index", root, "-d", name, "-o", tmp_path / "subjects.csv", "--no-picture")
    said = run(*command).out
    assert "label maps are read as 1 ncr, 2 edema, 3 et; if they mean something else, say so in a dataset.yaml" in said
    (root / "dataset.yaml").write_text("modalities: [t1]\nlabels: {lesion: 1}\n", encoding="utf-8")
    said = run(*command).out
    assert "label maps are read as 1 lesion\n" in said


@pytest.mark.parametrize(
    ("description", "code"),
    [
        ("MPRAGE", "t1"),
        ("MPR__GradWarp__B1_Correction__N3__Scaled", "t1"),
        ("MPR-R____N3", "t1"),
        ("MT1__GradWarp__N3m", "t1"),
        ("Accelerated_Sag_IR-FSPGR", "t1"),
        ("Axial_PD_T2_FSE", None),  # two echoes in one folder
        ("Double_TSE", None),
        ("Axial_T2-FLAIR", "flair"),
        ("Axial_T2-Star", None),
        ("HarP_135_final_release_2015", None),
    ],
)
def test_adni_descriptions_of_the_archive(tmp_path: Path, description: str, code: str | None) -> None:
    info = get_dataset("adni")
    volumes, _ = study("adni")
    folder = info.write(tmp_path, "002_S_0413_2006-11-15", {"t1": volumes["t1"]}, None, SPACING_MM)
    (folder / "MPRAGE").rename(folder / description)
    if code is None:
        with pytest.raises(UserError, match="no subject found"):
            info.index(tmp_path)
    else:
        assert list(info.index(tmp_path)[0].images) == [code]


def test_duke_series_without_a_use_are_left_out(tmp_path: Path) -> None:
    info = get_dataset("duke_liver")
    info.write(tmp_path, "0001-4", *study("duke_liver"), SPACING_MM)
    info.write(tmp_path, "0001-5", *study("duke_liver"), SPACING_MM)
    key = tmp_path / "SegmentationKey.csv"
    key.write_text(
        key.read_text(encoding="utf-8").replace("0001,5,K", "1,5,C")
    )  # C: arterial; the release writes numbers without zeros
    subjects = info.index(tmp_path)
    assert [(s.subject_id, s.patient) for s in subjects] == [("0001-4", "0001")]
    key.write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="has not the columns"):
        info.index(tmp_path)


def test_bids_entities_sites_and_label_maps(tmp_path: Path) -> None:
    info = get_dataset("bids")
    volumes, label = study("bids")
    info.write(tmp_path, "sub-01_ses-1", volumes, label, SPACING_MM)
    anat = tmp_path / "sub-01" / "ses-1" / "anat"
    assert (anat / "sub-01_ses-1_ce-gadolinium_T1w.nii.gz").is_file()
    for name in ("sub-01_ses-1_run-2_T1w.nii.gz", "sub-01_ses-1_T1map.nii.gz", "sub-01_ses-1_desc-brain_mask.nii.gz"):
        shutil.copy(anat / "sub-01_ses-1_T1w.nii.gz", anat / name)
    (tmp_path / "participants.tsv").write_text("participant_id\tsite\nsub-01\tBern\n")
    subject = info.index(tmp_path)[0]
    check_equal(subject, volumes, label)
    assert (subject.patient, subject.site) == ("sub-01", "Bern")
    other = tmp_path / "derivatives" / "rater2" / "sub-01" / "ses-1" / "anat" / "sub-01_ses-1_label-lesion_dseg.nii.gz"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"")
    with pytest.raises(UserError, match="a second label map"):
        info.index(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"participant\tsite\nsub-01\tBern\n", "no column participant_id"),
        ("participant_id\tsite\nsub-01\tBern\n".encode("utf-16"), "no column participant_id"),
        (b"participant_id\tsite\tsite\nsub-01\tBern\tBonn\n", "a column twice"),
        (b"participant_id\tage\tsite\nsub-01\tBern\n", "row 2: is not as long as the header"),
        (b"participant_id\tsite\n\0\tBern\n", "row 2: holds a control character"),
        (b"participant_id\tsi\0\0\nsub-01\tBern\n", "row 1: holds a control character"),
        (None, "cannot be read"),
    ],
)
def test_a_bids_table_of_participants_is_read_or_refused(tmp_path: Path, content: bytes | None, words: str) -> None:
    info, table = get_dataset("bids"), tmp_path / "participants.tsv"
    info.write(tmp_path, "sub-01", {"t1": study("bids")[0]["t1"]}, None, SPACING_MM)
    if content is None:
        table.symlink_to("nowhere")
    else:
        table.write_bytes(content)
    with pytest.raises(UserError, match=words):
        info.index(tmp_path)


def test_a_participant_without_a_row_is_named(tmp_path: Path) -> None:
    info = get_dataset("bids")
    for subject in ("sub-01", "sub-02"):
        info.write(tmp_path, subject, {"t1": study("bids")[0]["t1"]}, None, SPACING_MM)
    (tmp_path / "participants.tsv").write_text("participant_id\tsite\nsub-01\tBern\n")
    found = info.index(tmp_path)
    assert [subject.site for subject in found] == ["Bern", ""]
    assert "participants.tsv: has no row for sub-02; the site is unknown" in not_used(tmp_path, found)


def test_nnunet_describes_itself(tmp_path: Path) -> None:
    info = get_dataset("nnunet")
    (tmp_path / "dataset.json").write_text(
        json.dumps({
            "channel_names": {"0": "T1w", "1": "T2-FLAIR"},
            "labels": {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3},
            "file_ending": ".nii.gz",
        })
    )  # fmt: skip
    volumes = {"t1": np.arange(np.prod(SHAPE)).reshape(SHAPE), "flair": np.arange(np.prod(SHAPE)).reshape(SHAPE) % 99}
    info.write(tmp_path, "CASE_1", volumes, np.ones(SHAPE, int))
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.nii.gz")) == [
        "imagesTr/CASE_1_0000.nii.gz", "imagesTr/CASE_1_0001.nii.gz", "labelsTr/CASE_1.nii.gz",
    ]  # fmt: skip
    spec = dataset_spec(tmp_path, "nnunet")
    assert spec.modalities == ("t1", "flair")
    assert spec.labels == {"label_1": 1, "core": 2}
    assert spec.regions == {"whole": ("label_1", "core"), "core": ("core",)}
    (tmp_path / "imagesTs").mkdir()
    (tmp_path / "imagesTr/CASE_1_0000.nii.gz").rename(tmp_path / "imagesTs/CASE_1_0000.nii.gz")
    with pytest.raises(UserError, match="is in imagesTr and in imagesTs"):
        info.index(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "Expecting property name"),
        ("[]", "has no channel_names"),
        ('{"channel_names": {"0": "T1", "1": "T1w"}}', "named twice"),
        ('{"channel_names": {"0": "sonar"}}', "no known modality"),
    ],
)
def test_a_wrong_nnunet_description_says_so(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        DATASETS["nnunet"].index(tmp_path)
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------------------------- a folder that describes itself


def own_folder(root: Path, text: str) -> None:
    DATASETS["folder"].write(root, "case-1", {"t1": np.arange(np.prod(SHAPE)).reshape(SHAPE)})
    (root / "dataset.yaml").write_text(text)


def test_a_folder_describes_itself(tmp_path: Path) -> None:
    own_folder(
        tmp_path,
        "title: My cohort\nmodalities: [flair, t1]\nlabels: {lesion: 1, stroke: 2}\n"
        "regions: {any: [lesion, stroke], lesion: [lesion]}\n"
        "files: {t1: '*/t1.nii.gz', label: '*/mask.nii.gz'}\nfile_values: {255: 1}\n",
    )
    import nibabel as nib

    mask = np.zeros(SHAPE, np.uint8)
    mask[1:3] = 255
    nib.save(nib.Nifti1Image(mask, np.eye(4)), tmp_path / "case-1" / "mask.nii.gz")
    subject = index_dataset(tmp_path, "folder")[0]
    assert set(np.unique(read_image(subject.label, kind="label").array)) == {0, 1}
    spec = dataset_spec(tmp_path, "folder")
    assert spec.modalities == ("flair", "t1")
    assert spec.region_values("any") == (1, 2)


def test_bids_with_labels_of_its_own(tmp_path: Path) -> None:
    info = get_dataset("bids")
    info.write(tmp_path, "sub-01", {"flair": study("bids")[0]["flair"]}, np.full(SHAPE, 1, np.uint8))
    (tmp_path / "dataset.yaml").write_text("modalities: [t1, flair]\nlabels: {plaque: 5}\nfile_values: {1: 5}\n")
    assert set(np.unique(read_image(info.index(tmp_path)[0].label, kind="label").array)) == {5}
    assert dataset_spec(tmp_path, "bids").regions == {"plaque": ("plaque",)}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("modalities: [t1", "not valid YAML in line 2"),
        ("just words", "no list of keys"),
        ("modality: [t1]", "unknown key 'modality'"),
        ("modalities: [t1]\nlabels: [lesion]", "labels is no list of names"),
        ("modalities: [t1]\nlabels: {lesion: one}", "not a whole number"),
        ("modalities: [t1]\nlabels: {lesion: 1}\nregions: {all: [tumor]}", "unknown label 'tumor'"),
        ("modalities: [t9]", "unknown modality 't9'"),
        ("labels: {lesion: 1}", "names no modalities"),
        ("modalities: [t1]\nfile_values: {255: x}", "not a whole number"),
    ],
)
def test_a_wrong_description_says_so(tmp_path: Path, text: str, words: str) -> None:
    own_folder(tmp_path, text)
    with pytest.raises(UserError, match=words) as caught:
        dataset_spec(tmp_path, "folder")
    assert "dataset.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_sequences_than_those_of_glioma_are_channels_of_their_own(shared_data: Path) -> None:
    subjects = index_dataset(shared_data / "icbm152", "folder")
    assert dataset_spec(shared_data / "icbm152", "folder", subjects).modalities == ("t1", "t2", "pd")
