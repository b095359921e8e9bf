"""Names, JSON files and label maps of BIDS data sets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from anymri.data.datasets.bids import find_sessions, index_bids
from anymri.data.datasets.bids_names import read_bids_name, read_session
from anymri.types import UserError

#: What stands between ``sub-01_`` and the ending, to modality code.
NAMES = {
    "T1w": "t1", "T2w": "t2", "FLAIR": "flair", "PDw": "pd", "dwi": "dwi",
    "ce-gadolinium_T1w": "t1c", "ce-GADAVIST_T1w": "t1c", "ce-none_T1w": "t1", "ce-None_T1w": "t1",
    "ce-pre_T1w": "t1", "ce-without_T1w": "t1", "ce-nogad_T1w": "t1", "ce-gadolinium_FLAIR": "flair",
    "acq-post_T1w": "t1c", "acq-postcontrast_T1w": "t1c", "acq-postGd_T1w": "t1c", "acq-pre_T1w": "t1",
    "acq-precontrast_T1w": "t1", "acq-postop_T1w": "t1", "acq-posterior_T1w": "t1", "acq-pre_ce-gadolinium_T1w": None,
    "acq-pre_ce-none_T1w": "t1", "acq-post_ce-gd_T1w": "t1c",
    "acq-mprage_T1w": "mprage", "acq-MPRAGE_T1w": "mprage", "acq-mpragePost_T1w": "t1c",
    "acq-mprage_ce-gadolinium_T1w": "t1c", "acq-highres_T1w": "t1", "acq-space_T2w": "t2", "acq-flair_T2w": "flair",
    "acq-flair_T1w": "t1", "acq-stir_T2w": None, "acq-mp2rage_T1w": None,
    "acq-inphase_T1w": "t1_in", "acq-spir_T2w": "t2_spir",
    "rec-norm_T1w": "t1", "rec-mip_T1w": None, "run-2_T1w": "t1", "ses-1_acq-sag_run-01_T1w": "t1",
    "part-mag_T1w": "t1", "part-phase_T1w": None, "part-real_T2w": None, "part-imag_FLAIR": None,
    "echo-1_T1w": "t1", "inv-1_MP2RAGE": None, "inv-2_T1w": None, "UNIT1": None, "MP2RAGE": None, "T1map": None,
    "T2map": None, "T2starw": None, "inplaneT2": None, "PDT2": None, "MEGRE": None, "bold": None,
    "label-GM_probseg": None, "desc-brain_mask": None, "dseg": None, "label-lesion_mask": None,
    "space-MNI152NLin6Asym_desc-preproc_T1w": "t1", "T1ce": "t1c",
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_bids_name_is_read(name: str) -> None:
    reading = read_bids_name(f"sub-01_{name}.nii.gz")
    assert reading.code == NAMES[name], reading
    assert (reading.code is None) == bool(reading.reason)


def session(root: Path, *names: str, **sidecars: dict) -> Path:
    """A session with images of these names; a sidecar is named by the suffix of its image."""
    anat = root / "sub-01" / "anat"
    anat.mkdir(parents=True, exist_ok=True)
    for name in names:
        (anat / f"sub-01_{name}.nii.gz").write_bytes(b"")
    for suffix, values in sidecars.items():
        (anat / f"sub-01_{suffix.replace('__', '-')}.json").write_text(json.dumps(values))
    return root / "sub-01"


def read(folder: Path, wanted: tuple[str, ...] | None = None) -> tuple[dict[str, str], str]:
    found = read_session(folder, wanted)
    images = {code: path.name[7:-7] for code, path in found.images.items()}
    return images, " | ".join(text for _, text in found.notes)


@pytest.mark.parametrize(
    ("names", "images", "words"),
    [
        (["T1w", "run-2_T1w"], {"t1": "T1w"}, "T1-weighted: sub-01_run-2_T1w.nii.gz is not used, sub-01_T1w"),
        (["run-10_T1w", "run-2_T1w"], {"t1": "run-2_T1w"}, "sub-01_run-10_T1w.nii.gz is not used"),
        (["acq-mprage_T1w", "T2w"], {"t1": "acq-mprage_T1w", "t2": "T2w"}, ""),
        (["acq-mprage_T1w", "T1w"], {"t1": "T1w"}, "sub-01_acq-mprage_T1w.nii.gz is not used, sub-01_T1w.nii.gz"),
        (["echo-1_T1w", "echo-2_T1w"], {"t1": "echo-1_T1w"}, "echo-2_T1w.nii.gz is not used"),
        (["echo-1_T2w", "echo-2_T2w"], {"t2": "echo-2_T2w"}, "echo-1_T2w.nii.gz is not used"),
        (["part-mag_T1w", "part-phase_T1w"], {"t1": "part-mag_T1w"}, "part-phase is no magnitude image"),
        (["inv-1_MP2RAGE", "inv-2_MP2RAGE", "UNIT1", "FLAIR"], {"flair": "FLAIR"}, "UNIT1 is none of the sequences"),
        (["T1w", "desc-brain_mask", "label-GM_probseg"], {"t1": "T1w"}, ""),
        (["acq-pre_T1w", "acq-post_T1w"], {"t1": "acq-pre_T1w", "t1c": "acq-post_T1w"}, ""),
    ],
)
def test_the_choice_of_a_session_is_said(tmp_path: Path, names: list[str], images: dict, words: str) -> None:
    found, notes = read(session(tmp_path, *names))
    assert found == images
    assert words in notes
    assert bool(words) == bool(notes)


def test_an_mprage_is_t1_unless_it_is_asked_for(tmp_path: Path) -> None:
    folder = session(tmp_path, "acq-mprage_T1w")
    assert read(folder, ("t1", "flair"))[0] == {"t1": "acq-mprage_T1w"}
    assert read(folder, ("t1", "mprage"))[0] == {"mprage": "acq-mprage_T1w"}
    assert list(index_bids(tmp_path)[0].images) == ["t1"]
    (tmp_path / "dataset.yaml").write_text("modalities: [t1, mprage]\n")
    assert list(index_bids(tmp_path)[0].images) == ["mprage"]


@pytest.mark.parametrize(
    ("name", "values", "code", "words"),
    [
        ("T1w", {"ContrastBolusIngredient": "GADOLINIUM"}, "t1c", "is taken for it as its JSON file names an agent"),
        ("T1w", {"ContrastBolusIngredient": "NONE"}, "t1", ""),
        ("ce-none_T1w", {"ContrastBolusIngredient": "GADOLINIUM"}, "t1", "says before contrast agent, its JSON file"),
        ("ce-gd_T1w", {"ContrastBolusIngredient": "none"}, "t1c", "its JSON file says none"),
        ("T1w", {"EchoTime": 0.1, "RepetitionTime": 5.0}, "t1", "100 ms, repetition 5000 ms) are those of a T2-weigh"),
        ("T2w", {"EchoTime": 0.09, "RepetitionTime": 9.0, "InversionTime": 2.5}, "t2", "are those of a FLAIR"),
        ("T2w", {"EchoTime": 0.01, "RepetitionTime": 0.6}, "t2", "are those of a T1-weighted"),
        ("FLAIR", {"EchoTime": 0.012, "RepetitionTime": 2.2, "InversionTime": 0.8}, "flair", "of a T1-weighted"),
        ("T2w", {"EchoTime": 0.05, "RepetitionTime": 4.0, "InversionTime": 0.16}, "t2", "are those of STIR"),
        ("T2w", {"EchoTime": 95, "RepetitionTime": 4500}, "t2", ""),  # ms, as some converters write
        ("T1w", {"EchoTime": 100, "RepetitionTime": 4500}, "t1", "echo 100 ms, repetition 4500 ms"),
        ("T1w", {"EchoTime": 0.00298, "RepetitionTime": 2.3, "InversionTime": 0.9}, "t1", ""),  # MP-RAGE
        ("T1w", {"EchoTime": 0.0032, "RepetitionTime": 0.0082}, "t1", ""),  # BRAVO
        ("T1w", {"EchoTime": 0.012, "RepetitionTime": 0.55}, "t1", ""),  # spin echo
        ("T1w", {"EchoTime": 0.024, "RepetitionTime": 2.5, "InversionTime": 0.86}, "t1", ""),  # T1 FLAIR
        ("T2w", {"EchoTime": 0.41, "RepetitionTime": 3.2}, "t2", ""),  # SPACE
        ("FLAIR", {"EchoTime": 0.39, "RepetitionTime": 5.0, "InversionTime": 1.8}, "flair", ""),
        ("FLAIR", {"EchoTime": 0.12, "RepetitionTime": 9.0}, "flair", ""),  # inversion left out
        ("T1w", {"EchoTime": "fast", "RepetitionTime": None, "InversionTime": True}, "t1", ""),
        ("T1w", [], "t1", ""),
    ],
)
def test_the_json_file_is_held_against_the_name(
    tmp_path: Path, name: str, values: object, code: str, words: str
) -> None:
    found, notes = read(session(tmp_path, name, **{name.replace("-", "__"): values}))
    assert found == {code: name}
    assert words in notes
    assert bool(words) == bool(notes)


def test_an_image_named_after_contrast_agent_goes_before_one_known_by_its_json_file(tmp_path: Path) -> None:
    folder = session(tmp_path, "T1w", "ce-gadolinium_T1w", T1w={"ContrastBolusIngredient": "GADOLINIUM"})
    assert read(folder)[0] == {"t1c": "ce-gadolinium_T1w"}


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (["sub-01/anat/sub-01_T1w.nii"], {"sub-01": "sub-01"}),
        (
            ["sub-01/ses-1/anat/sub-01_ses-1_T1w.nii", "sub-01/ses-2/func/sub-01_ses-2_bold.nii"],
            {"sub-01_ses-1": "sub-01/ses-1"},
        ),
        (["sub-02/sub-02_FLAIR.nii"], {"sub-02": "sub-02"}),
        (["a/t1.nii"], {}),
    ],
)  # fmt: skip
def test_sessions_of_a_data_set(tmp_path: Path, files: list[str], found: dict[str, str]) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(b"")
    assert find_sessions(tmp_path) == {name: tmp_path / place for name, place in found.items()}


# ----------------------------------------------------------------------------------------------------- label maps

TISSUE = "index\tname\n1\tGM\n2\tWM\n3\tCSF\n"
LESION = "index\tname\n1\tnecrotic tumour core\n2\toedema\n"


@pytest.mark.parametrize(
    ("place", "beside", "used", "words"),
    [
        ("derivatives/manual/sub-01/anat/sub-01_label-lesion_dseg", {}, True, ""),
        ("derivatives/sub-01/anat/sub-01_label-lesion_mask", {}, True, ""),
        ("derivatives/x/sub-01/anat/sub-01_label-L_mask", {}, True, ""),
        ("derivatives/x/sub-01/anat/sub-01_desc-tumor_dseg", {}, True, ""),
        ("derivatives/x/sub-01/anat/sub-01_label-WMH_mask", {}, True, ""),
        ("sub-01/anat/sub-01_label-lesion_mask", {}, True, ""),
        ("sub-01/anat/sub-01_T1w_label-lesion_roi", {}, True, ""),
        ("derivatives/x/sub-01/anat/sub-01_dseg", {"sub-01_dseg.tsv": LESION}, True, ""),
        ("derivatives/x/sub-01/anat/sub-01_dseg", {"sub-01_dseg.json": '{"LabelMap": {"lesion": 1}}'}, True, ""),
        ("derivatives/lesion_masks/sub-01/anat/sub-01_dseg", {}, True, ""),
        ("derivatives/x/sub-01/anat/sub-01_dseg", {}, False, "nothing says that it is of lesions"),
        ("derivatives/x/sub-01/anat/sub-01_dseg", {"sub-01_dseg.tsv": TISSUE}, False, "names tissues"),
        ("derivatives/x/sub-01/anat/sub-01_dseg", {"sub-01_dseg.tsv": LESION + "3\tGM\n"}, False, "names tissues"),
        ("derivatives/fmriprep/sub-01/anat/sub-01_dseg", {}, False, "fmriprep makes maps of anatomy"),
        ("derivatives/fmriprep/sub-01/anat/sub-01_desc-aseg_dseg", {}, False, "fmriprep makes maps of anatomy"),
        ("derivatives/x/sub-01/anat/sub-01_label-GM_probseg", {}, False, "holds probabilities"),
        ("derivatives/x/sub-01/anat/sub-01_label-lesion_probseg", {}, False, "holds probabilities"),
        ("derivatives/x/sub-01/anat/sub-01_desc-brain_mask", {}, False, "does not say lesion or tumour"),
        ("derivatives/x/sub-01/anat/sub-01_label-hippocampus_dseg", {}, False, "does not say lesion or tumour"),
        ("derivatives/x/sub-01/anat/sub-01_space-MNI152Lin_label-lesion_mask", {}, False, "is in the space MNI152Lin"),
        ("derivatives/x/sub-01/anat/sub-01_space-T1w_label-lesion_mask", {}, True, ""),
    ],
)
def test_only_maps_of_lesions_are_labels(tmp_path: Path, place: str, beside: dict, used: bool, words: str) -> None:
    session(tmp_path, "T1w")
    path = tmp_path / f"{place}.nii.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    for name, text in beside.items():
        (path.parent / name).write_text(text)
    subject = index_bids(tmp_path)[0]
    notes = " | ".join(text for _, text in subject.notes)
    assert (subject.label == path) == used
    assert words in notes
    assert bool(words) == bool(notes)


def test_what_a_derivative_data_set_says_counts(tmp_path: Path) -> None:
    session(tmp_path, "T1w")
    path = tmp_path / "derivatives/drawn/sub-01/anat/sub-01_dseg.nii.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    described = tmp_path / "derivatives/drawn/dataset_description.json"
    for values, used in (
        ({"Name": "Tumour outlines of two raters"}, True),
        ({"Name": "outlines", "GeneratedBy": [{"Name": "Manual", "Description": "stroke lesions"}]}, True),
        ({"Name": "fMRIPrep - fMRI PREProcessing workflow", "Description": "lesion masks respected"}, False),
        ({"Name": "outlines", "GeneratedBy": [{"Name": "FreeSurfer"}]}, False),
        ({"Name": "outlines"}, False),
    ):
        described.write_text(json.dumps(values))
        assert (index_bids(tmp_path)[0].label == path) == used, values


def test_labels_that_the_data_set_names_count_as_lesions(tmp_path: Path) -> None:
    session(tmp_path, "T1w")
    path = tmp_path / "derivatives/x/sub-01/anat/sub-01_label-hamartoma_mask.nii.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    assert index_bids(tmp_path)[0].label is None
    (tmp_path / "dataset.yaml").write_text("modalities: [t1]\nlabels: {hamartoma: 1}\n")
    assert index_bids(tmp_path)[0].label == path


def test_a_lesion_mask_beside_a_label_map_is_named(tmp_path: Path) -> None:
    session(tmp_path, "T1w", "label-lesion_dseg", "label-lesion_mask")
    subject = index_bids(tmp_path)[0]
    assert subject.label.name == "sub-01_label-lesion_dseg.nii.gz"
    assert [text for _, text in subject.notes] == [
        "sub-01_label-lesion_mask.nii.gz: not used as label map; sub-01_label-lesion_dseg.nii.gz was taken"
    ]
    session(tmp_path, "run-2_label-lesion_dseg")
    with pytest.raises(UserError, match="a second label map"):
        index_bids(tmp_path)
