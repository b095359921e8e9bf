"""Names of files as people write them: a table for the reader of names."""

from __future__ import annotations

import pytest

from anymri.data.datasets.spellings import contrast_of, image_ending, modality_of, read_name, words_of

#: File name to modality code; None = not to be taken for any.
NAMES = {
    # The field's own
    "t1.nii.gz": "t1", "t1n.nii.gz": "t1", "T1w.nii.gz": "t1", "t1ce.nii.gz": "t1c", "t1gd.nii.gz": "t1c",
    "T1c.nii.gz": "t1c", "t1_ce.nii.gz": "t1c", "T1+C.nii.gz": "t1c", "t2w.nii.gz": "t2", "T2.nii": "t2",
    "t2f.nii.gz": "flair", "flair.nii.gz": "flair", "FLAIR.nii": "flair", "FlAiR.NII.GZ": "flair",
    "BraTS20_Training_001_t1ce.nii.gz": "t1c", "BraTS-GLI-00005-000-t1n.nii.gz": "t1",
    "BraTS-GLI-00005-000-t2f.nii.gz": "flair", "UCSF-PDGM-0004_T1_bias.nii.gz": None,
    "DP_preprocessed.nii.gz": "pd", "GADO_preprocessed.nii.gz": "t1c", "adc.nii.gz": "adc", "ADC_map.nii": "adc",
    "dwi.nii.gz": "dwi", "SWI.nii.gz": "swi", "T2_SPIR.mha": "t2_spir", "in_phase.mha": "t1_in",
    "case_t1_out.nii": "t1_out",
    # As scanners and people describe them
    "AX T2 FLAIR 3mm.nii.gz": "flair", "T1 MPRAGE.nii": "t1", "MPRAGE.nii.gz": "mprage", "mp-rage.nii": "mprage",
    "patient_T1w_brain.nii.gz": "t1", "patientT1.nii.gz": "t1", "subjT1Post.nrrd": "t1c", "3DT1.nii": "t1",
    "axt1.nii.gz": "t1", "SAG_T1_SE.nii.gz": "t1", "COR-T2-TSE.nii.gz": "t2", "t2_tirm_tra_dark-fluid.nii.gz": "flair",
    "T2 dark fluid.nii": "flair", "FLAIR3D.nii.gz": "flair", "flair_2.nii.gz": "flair", "T1w1.nii.gz": "t1",
    "T2_SPACE_FLAIR.nii.gz": "flair", "t2_space.nii.gz": "t2", "T1W_3D_TFE.nii": "t1", "T1-weighted.nii.gz": "t1",
    "proton density.nii.gz": "pd", "PDw.nii.gz": "pd", "rT1.nii": "t1", "FLAIR post gd.nii": "flair",
    # T1 FLAIR is T1-weighted
    "T1 FLAIR.nii.gz": "t1", "T1FLAIR.nii.gz": "t1", "SAG T1 TSE FLAIR.nii": "t1", "T1 FLAIR post.nii": "t1c",
    # Contrast agent and its negation
    "T1post.nii.gz": "t1c", "t1_post_contrast.nii.gz": "t1c", "T1_POSTGD.nii.gz": "t1c", "t1gad.mha": "t1c",
    "T1 mit KM.nii": "t1c", "T1 nach KM.nii": "t1c", "T1 con contraste.nii": "t1c", "T1 avec gado.nii": "t1c",
    "T1_MDC.nii": "t1c", "gd_t1.nii.gz": "t1c", "T1C+.nii.gz": "t1c", "T1_enhanced.nii.gz": "t1c",
    "mprage_post.nii.gz": "t1c", "t1 preop post gd.nii": "t1c", "T1 post contrast without fs.nii": "t1c",
    "T1 pre.nii.gz": "t1", "T1_pre_contrast.nii.gz": "t1", "t1precontrast.nii.gz": "t1", "T1 -C.nii": "t1",
    "T1 without contrast.nii": "t1", "T1 ohne KM.nii": "t1", "T1 sans injection.nii": "t1", "T1_noncontrast.nii": "t1",
    "T1 sin contraste.nii": "t1", "T1_wo.nii": "t1", "unenhanced T1.nii": "t1", "T1_no_gd.nii": "t1",
    "T1 posterior fossa.nii": "t1", "T1_post_op.nii": "t1", "T1_postop.nii.gz": "t1", "T1_pre_op.nii": "t1",
    "T1_post_RT.nii": "t1", "T1-C.nii": None, "T1C-.nii": None, "t1 gad neg.nii": "t1",
    "t1_C_minus.nii": "t1", "t1_mpr_sag_iso.nii": "t1", "T1_pre_post.nii": None,
    "T1WI+C.nii": "t1c", "T1W_SAG_POSTCON.nii": "t1c", "T1_GdDTPA.nii": "t1c", "T1_gadobutrol.nii.gz": "t1c",
    "T1_plus_C.nii": "t1c", "T1 precon.nii": "t1", "T1_noncon.nii": "t1", "T1_ax_c.nii.gz": None, "T1_contr.nii": "t1c",
    # Registered to another sequence
    "FLAIR_to_T1.nii.gz": "flair", "T2onT1.nii": "t2", "flair_in_t1.nii": "flair", "FLAIRinT1.nii": "flair",
    "flair2t1.nii.gz": "flair", "T2_in_T1_space.nii.gz": "t2",
    "flair_reg_t1.nii.gz": "flair", "T2_space-T1w.nii.gz": "t2", "FLAIR T1.nii": None, "flair_t1reg.nii.gz": None,
    # Two sequences, or none
    "PD_T2.nii": None, "T1_T2.nii.gz": None, "scan1.nii.gz": None, "image.nii": None, "t12.nii.gz": None,
    "IM0001.nii": None, "patient_0000.nii.gz": None,
    # Masks and maps
    "seg.nii.gz": None, "T1_mask.nii.gz": None, "T1w_brainmask.nii.gz": None, "t1_brain_mask.nii": None,
    "segFLAIR.nii.gz": None, "FLAIR_label.nii.gz": None, "T1Mask1.nii.gz": None, "FLAIR_lesion.nii.gz": None,
    "lesion.nii.gz": None, "wmh.nii.gz": None, "T1map.nii.gz": None, "T1_MP2RAGE_UNI.nii": None,
    "MP2RAGE_INV1.nii": None, "T2star.nii": None, "T2_star.nii.gz": None, "T2*.nii": None, "T2 GRE.nii": None,
    "T2_STIR.nii": None, "t2_tirm_cor_fs.nii": None, "TIRM.nii": None, "STIR.nii.gz": None,
    "T1_wm.nii.gz": None, "c1T1.nii": None, "t1c_synthetic.nii.gz": None,
    "T1 localizer.nii": None, "T1_MIP.nii": None, "T1_subtraction.nii": None, "DTI.nii.gz": None,
    # Abbreviations that mean other things as well
    "dir_T1.nii.gz": "t1", "DIR.nii.gz": "dir", "CT_T1.nii": "t1", "ct.nii.gz": "ct", "T1 GRE.nii": "t1",
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_read_as_a_person_reads_it(name: str) -> None:
    ending = image_ending(name)
    assert ending
    reading = read_name(name[: -len(ending)])
    assert reading.code == NAMES[name], reading
    assert (reading.code is None) == bool(reading.reason)
    assert not (reading.mask and reading.code)


@pytest.mark.parametrize("letter", [str.lower, str.upper, str.title])
@pytest.mark.parametrize("name", ["t1ce", "T1 post contrast", "AX T2 FLAIR", "t1_gd", "t2f", "T1 MPRAGE", "brainmask"])
def test_letter_case_means_nothing(name: str, letter: object) -> None:
    assert read_name(letter(name)) == read_name(name)


def test_masks_are_told_from_names_that_say_nothing() -> None:
    for name in ("seg", "x_mask", "T1_brainmask", "lesion", "labels", "T1_dseg"):
        assert read_name(name).mask, name
    for name in ("scan1", "T1map", "t1_lesion", "PD_T2"):
        assert not read_name(name).mask, name


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("a.nii", ".nii"), ("a.NII.GZ", ".NII.GZ"), ("a.Nii", ".Nii"), ("a.mha", ".mha"), ("a.nrrd", ".nrrd"),
        ("a.b.nii.gz", ".nii.gz"), (".a.nii", ""), ("._T1.nii.gz", ""), ("a.mgz", ""), (".nii.gz", ""), ("a.png", ""),
    ],
)  # fmt: skip
def test_endings_of_images(name: str, ending: str) -> None:
    assert image_ending(name) == ending


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("T1", "t1"), ("T2-FLAIR", "flair"), ("T1 Gd", "t1c"), ("t1_in", "t1_in"), ("T1 (post-contrast)", "t1c"),
        ("T2 SPIR", "t2_spir"), ("sonar", None), ("T1 x", None), ("noNorm", None), ("CT", "ct"), ("rCBV", "cbv"),
    ],
)  # fmt: skip
def test_names_of_channels_must_be_understood_whole(name: str, code: str | None) -> None:
    assert modality_of(name) == code


def test_words_and_contrast() -> None:
    assert words_of("AXT1+C_3mm") == ["ax", "t1", "gd"]
    assert words_of("patientT1w") == ["patient", "t1w"]
    for text, says in (("post", "with"), ("pre", "without"), ("post op", ""), ("pre op post gd", "with"), ("", "")):
        assert contrast_of(text.split()) == says, text
