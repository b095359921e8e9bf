"""Series descriptions as sites and vendors write them, with the times they come with: which sequence is it?"""

from __future__ import annotations

import pytest

from anymri.data.dicom import classify_header
from anymri.data.dicom.contrast import contrast_in, says_none


def times(repetition: float, echo: float, inversion: float = 0, **more: object) -> dict[str, object]:
    """Header fields of an acquisition; an inversion time of 0 is none."""
    fields: dict[str, object] = {"RepetitionTime": repetition, "EchoTime": echo, **more}
    return {**fields, "InversionTime": inversion} if inversion else fields


SE, FSE_T1 = times(500, 10), times(650, 20)
MP, GE_3D, TFE = times(2000, 2.5, 900), times(8.2, 3.2, 450), times(8, 3.7)
T1F = times(2200, 10, 850)
T2, T2_3D = times(5000, 100), times(3200, 408)
FL, FL_3D = times(9000, 120, 2500), times(5000, 387, 1800)
PD, STIR = times(3000, 15), times(5000, 60, 160)
GRE, EPI, SWI = times(600, 20), times(6000, 90, ScanningSequence=["EP", "SE"]), times(28, 20)
NONE: dict[str, object] = {}

ROWS = [
    # Siemens
    ("t1_mprage_sag_p2_iso", MP, "t1"),
    ("t1_mprage_sag_p2_iso_KM", MP, "t1c"),
    ("t1_mprage_tra_p2_iso_nativ", MP, "t1"),
    ("t1_mpr_ns_sag", MP, "t1"),
    ("t1_se_tra", SE, "t1"),
    ("t1_se_tra_KM", SE, "t1c"),
    ("t1_tse_dark-fluid_tra", T1F, "t1"),
    ("t1_tirm_tra_dark-fluid", T1F, "t1"),
    ("t1_fl2d_tra", times(250, 2.5), "t1"),
    ("t1_vibe_tra_dixon_W", times(6, 2.4), "t1"),
    ("t1_space_sag_p2_iso", FSE_T1, "t1"),
    ("t1_starvibe_fs_post", times(5, 2), "t1c"),
    ("t2_tse_tra_512", T2, "t2"),
    ("t2_blade_tra", T2, "t2"),
    ("t2_space_sag_p2_iso", T2_3D, "t2"),
    ("t2_haste_tra", times(1200, 90), "t2"),
    ("t2_space_dark-fluid_sag_p3_iso", FL_3D, "flair"),
    ("t2_spc_da-fl_irprep_sag", FL_3D, "flair"),
    ("t2_tirm_tra_dark-fluid", FL, "flair"),
    ("t2_tirm_tra_dark-fluid_320", NONE, "flair"),
    ("t2_tirm_cor", FL, "flair"),
    ("t2_tirm_cor_fs", STIR, None),
    ("t2_tirm_cor", NONE, None),
    ("pd+t2_tse_tra", PD, "pd"),
    ("pd+t2_tse_tra", T2, "t2"),
    ("pd+t2_tse_tra", NONE, None),
    ("t2_fl2d_tra_hemo", GRE, None),
    ("ep2d_diff_3scan_trace_p2_ADC", EPI, None),
    ("SWI_Images", SWI, None),
    ("Mag_Images", SWI, None),
    ("mIP_Images(SW)", SWI, None),
    ("gre_field_mapping", times(500, 5), None),
    ("AAHScout_MPR_sag", times(3, 1.4), None),
    ("t1_mprage_sag_MPR_tra", MP, None),
    ("<MPR Range>", MP, None),
    ("MPR cor", NONE, None),
    ("t1_mp2rage_sag_INV1", MP, None),
    ("t1_mp2rage_sag_INV2", times(5000, 3, 2500), None),
    ("t1_mp2rage_sag_UNI_Images", MP, None),
    ("t1_mp2rage_T1_Images_map", MP, None),
    ("t1_tra_KM_SUB", SE, None),
    ("PosDisp: [4] t1_se_sag", SE, None),
    ("TOF_3D_multi-slab", times(22, 3.7), None),
    ("t2_ci3d_tra_CISS", times(5, 2.5), None),
    ("Perf_ep2d", times(1500, 30), None),
    # GE
    ("Sag CUBE T2 FLAIR", times(6000, 130, 1850), "flair"),
    ("Ax T2 FLAIR FS", FL, "flair"),
    ("AX T2 FLAIR 3mm", times(8800, 145, 2250), "flair"),
    ("Ax FLAIR PROPELLER", FL, "flair"),
    ("AX T2 PROPELLER", T2, "t2"),
    ("Ax T2 FRFSE", T2, "t2"),
    ("Sag T2 CUBE", times(2500, 95), "t2"),
    ("AX T2 SSFSE", times(1000, 85), "t2"),
    ("Ax FSPGR 3D +C", GE_3D, "t1c"),
    ("3D Ax T1 MP-RAGE_R22", MP, "t1"),
    ("SAG BRAVO", GE_3D, "t1"),
    ("BRAVO POST", GE_3D, "t1c"),
    ("Sag T1 CUBE +C", FSE_T1, "t1c"),
    ("AX T1 FLAIR", T1F, "t1"),
    ("AX T1 FLAIR", NONE, "t1"),
    ("Ax T1 FLAIR +C FS", T1F, "t1c"),
    ("OAx T1 FLAIR post", T1F, "t1c"),
    ("AX FLAIR", T1F, "t1"),
    ("IR-FSPGR", GE_3D, "t1"),
    ("AX T2 GRE", GRE, None),
    ("AX GRE", GRE, None),
    ("AX T2* MERGE", times(500, 15), None),
    ("Ax SWAN", times(40, 25), None),
    ("Ax DWI b1000", EPI, None),
    ("Apparent Diffusion Coefficient (mm2/s)", EPI, None),
    ("ASSET calibration", NONE, None),
    ("3-pl T2* FGRE", NONE, None),
    ("3Plane Loc SSFSE", T2, None),
    ("FIESTA-C", times(5, 2), None),
    ("3D ASL (non-contrast)", times(4800, 11), None),
    ("INHANCE 3D Velocity", NONE, None),
    ("MIP T1 +C", GE_3D, None),
    ("COR REFORMAT T1", GE_3D, None),
    # Philips
    ("T1W_3D_TFE", TFE, "t1"),
    ("sT1W_3D_TFE_Gd", TFE, "t1c"),
    ("WIP T1W_SE SENSE", SE, "t1"),
    ("WIP sT1W_3D_TFE SENSE +C", TFE, "t1c"),
    ("T1W_FFE", times(200, 4.6), "t1"),
    ("T1W_IR", times(2500, 20, 400), "t1"),
    ("T1 VISTA", times(600, 28), "t1"),
    ("3D_Brain_VIEW_FLAIR", times(4800, 340, 1650), "flair"),
    ("3D_Brain_VIEW_T2", times(2500, 260), "t2"),
    ("FLAIR_longTR", times(11000, 125, 2800), "flair"),
    ("T2W_TSE", T2, "t2"),
    ("T2W_DRIVE_CLEAR", T2, "t2"),
    ("T2W_TSE_SPAIR", times(4000, 80, 100), "t2"),
    ("PDW_TSE", PD, "pd"),
    ("T2W_FFE", GRE, None),
    ("T2W_TSE", times(600, 20, ScanningSequence=["GR"]), None),
    ("SWIp", SWI, None),
    ("VEN_BOLD", SWI, None),
    ("B0 map", times(650, 7), None),
    ("B1map", NONE, None),
    ("SmartBrain", NONE, None),
    ("SURVEY", NONE, None),
    ("Ref_Head_8", NONE, None),
    ("m-FFE", times(600, 14), None),
    ("bTFE", times(4, 2), None),
    ("DWI", EPI, None),
    ("dADC", EPI, None),
    ("DTI_32dir FA", EPI, None),
    ("mDIXON T1 opp phase", times(5, 1.2), None),
    # Canon, Hitachi, United Imaging
    ("FLAIR_AX", FL, "flair"),
    ("FSE2D_T2_AX", T2, "t2"),
    ("3D MPRAGE Iso", MP, "t1"),
    ("FE3D_T1", times(12, 5), "t1"),
    ("T2*_FE_AX", GRE, None),
    ("FSBB", SWI, None),
    ("t1_gre_fsp3d_sag", TFE, "t1"),
    ("t2_fse_tra", T2, "t2"),
    # words in any order, contrast agent, negation
    ("SAG MPRAGE +C", MP, "t1c"),
    ("SPGR Gd", GE_3D, "t1c"),
    ("T1 C+", SE, "t1c"),
    ("T1 + C", SE, "t1c"),
    ("C+ T1", SE, "t1c"),
    ("post T1", SE, "t1c"),
    ("CE T1", SE, "t1c"),
    ("T1CE", SE, "t1c"),
    ("t1gd", SE, "t1c"),
    ("T1 gado", SE, "t1c"),
    ("T1 mit KM", SE, "t1c"),
    ("KM T1", SE, "t1c"),
    ("T1 nach KM", SE, "t1c"),
    ("T1 con contraste", SE, "t1c"),
    ("T1 avec gadolinium", SE, "t1c"),
    ("T1 après injection", SE, "t1c"),
    ("T1 dopo mdc", SE, "t1c"),
    ("T1 com contraste", SE, "t1c"),
    ("T1 med kontrast", SE, "t1c"),
    ("T1 na contrast", SE, "t1c"),
    ("T1 增强", SE, "t1c"),
    ("造影T1", SE, "t1c"),
    ("T1 with contrast", SE, "t1c"),
    ("T1 posterior fossa post contrast", SE, "t1c"),
    ("T1 post-op +C", SE, "t1c"),
    ("T1 pre contrast", SE, "t1"),
    ("T1 pre-Gd", SE, "t1"),
    ("pre T1", SE, "t1"),
    ("T1 without contrast", SE, "t1"),
    ("T1 w/o", SE, "t1"),
    ("T1 W/O contrast", SE, "t1"),
    ("T1 non-contrast", SE, "t1"),
    ("T1 no Gd", SE, "t1"),
    ("T1 unenhanced", SE, "t1"),
    ("T1 ohne KM", SE, "t1"),
    ("T1 nativ", SE, "t1"),
    ("T1 vor KM", SE, "t1"),
    ("T1 sans injection", SE, "t1"),
    ("T1 avant gado", SE, "t1"),
    ("T1 sin contraste", SE, "t1"),
    ("T1 senza mdc", SE, "t1"),
    ("T1 sem contraste", SE, "t1"),
    ("T1 zonder contrast", SE, "t1"),
    ("T1 utan kontrast", SE, "t1"),
    ("T1 C-", SE, "t1"),
    ("T1 平扫", SE, "t1"),
    ("T1 posterior fossa", SE, "t1"),
    ("T1 post fossa", SE, "t1"),
    ("T1 AP", SE, "t1"),
    ("T1 PA", SE, "t1"),
    ("T1 post-op", SE, "t1"),
    ("FLAIR post contrast", FL, "flair"),
    ("T2 post Gd", T2, "t2"),
    ("T2 FLAIR +C", FL, "flair"),
    ("T1PostContrast", SE, "t1c"),
    ("T1preGd", SE, "t1"),
    ("GdT1", SE, "t1c"),
    ("T1w/C", SE, "t1c"),
    ("T1 w.o. contrast", SE, "t1"),
    ("T1 contrast: none", SE, "t1"),
    ("T1 high contrast", SE, "t1"),
    ("T1 s/ contraste", SE, "t1"),
    ("T1 c/ contraste", SE, "t1c"),
    ("T1 antes de contraste", SE, "t1"),
    ("T1 senza mezzo di contrasto", SE, "t1"),
    ("T1 con mezzo di contrasto", SE, "t1c"),
    ("T1 bez kontrastu", SE, "t1"),
    ("T1 po kontraście", SE, "t1c"),
    ("T1 без контраста", SE, "t1"),
    ("T1 с контрастом", SE, "t1c"),
    ("T1 kontrastsız", SE, "t1"),
    ("T1 조영", SE, "t1c"),
    ("T1 o. KM", SE, "t1"),
    ("T1 -KM", SE, "t1"),
    ("T1 postcentral gyrus", SE, "t1"),
    ("T1 ProHance", SE, "t1c"),
    ("T2 FLAIR", T1F, None),
    ("PD/T2", SE, None),
    ("T1", times(700, 30), "t1"),
    ("T1", times(500, 90), None),
    ("T1", times(2500, 10, 800), "t1"),
    ("T1 3D", times(600, 20, ScanningSequence="GR"), None),
    ("T1 SPACE", times(700, 100), None),
    ("T2", times(3000, 40), None),
    ("T2", times(500, 90), None),
    ("T2 HASTE", times(1000, 80), "t2"),
    ("T2 FS", times(5000, 90, 150), "t2"),
    ("FLAIR", times(9000, 120), "flair"),
    ("FLAIR", times(9000, 120, 500), None),
    ("FLAIR", times(11000, 140, 2250), "flair"),
    ("PD", times(500, 10), None),
    ("T1 Edwin Baldwin", SE, "t1"),
    ("T1 Oliver Swift", SE, "t1"),
    # times that contradict the words
    ("T2", SE, None),
    ("T2 TSE", PD, None),
    ("T1 SAG", T2, None),
    ("T1", PD, None),
    ("T1 MPRAGE", FL, None),
    ("FLAIR", T2, "flair"),
    ("FLAIR", SE, None),
    ("FLAIR", STIR, None),
    ("T2", FL, None),
    ("T2", STIR, None),
    ("PD", T2, None),
    ("T1 FLAIR", FL, None),
    # kinds that are never used
    ("T2 STIR", STIR, None),
    ("COR STIR", STIR, None),
    ("T1 map", SE, None),
    ("T2 mapping", T2, None),
    ("T2 star", GRE, None),
    ("3D DIR", times(7500, 320, 3000), None),
    ("PSIR", T1F, None),
    ("T2 TSE C-spine", T2, None),
    ("HWS T1 sag", SE, None),
    ("rCBF", EPI, None),
    ("Phase images", T2, None),
    ("T2 no phase wrap", T2, "t2"),
]


@pytest.mark.parametrize(("text", "header", "code"), ROWS, ids=[f"{n}-{row[0]}" for n, row in enumerate(ROWS)])
def test_descriptions_with_their_times(text: str, header: dict[str, object], code: str | None) -> None:
    found, reason = classify_header({"SeriesDescription": text, **header})
    assert found == code, reason
    assert reason


def test_the_table_is_wide() -> None:
    assert len({row[0] for row in ROWS}) >= 120


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        (FL, "flair"),
        (times(4000, 194.4, 1400), "flair"),  # low field
        (times(6000, 394, 2200), "flair"),
        (times(4800, 387, 1650), "flair"),
        (SE, "t1"),
        (MP, "t1"),
        (times(8.9, 3.164, 900), "t1"),
        (times(2300, 3), "t1"),  # MP-RAGE without its inversion time
        (T2, "t2"),
        (PD, "pd"),
        (STIR, None),
        (EPI, None),
        (times(600, 20, ScanningSequence=["GR"]), None),
        (times(2000, 30, ScanningSequence=["GR"]), None),
        (times(3000, 50), None),
        ({**SE, "ContrastBolusAgent": "Gd"}, "t1c"),
        ({"RepetitionTime": "", "EchoTime": None}, None),
        ({"RepetitionTime": "nan", "EchoTime": "x"}, None),
    ],
)
def test_times_alone(facts: dict[str, object], code: str | None) -> None:
    assert classify_header(facts)[0] == code


@pytest.mark.parametrize(
    "kind",
    [
        ["ORIGINAL", "PRIMARY", "P", "ND"],
        ["ORIGINAL", "PRIMARY", "PHASE MAP", "P", "FFE"],
        ["ORIGINAL", "PRIMARY", "R_IR", "R", "IR"],
        ["ORIGINAL", "PRIMARY", "I"],
        ["DERIVED", "PRIMARY", "T1 MAP", "ND"],
        ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"],
        ["DERIVED", "SECONDARY", "MPR"],
        ["DERIVED", "SECONDARY", "PROJECTION IMAGE", "MIP"],
        ["DERIVED", "SECONDARY", "SUBTRACTION"],
        ["ORIGINAL", "PRIMARY", "M", "SWI"],
        ["ORIGINAL", "PRIMARY", "LOCALIZER"],
        ["ORIGINAL", "PRIMARY", "F", "FAT", "DIXON"],
    ],
)
def test_image_types_that_are_left_out(kind: list[str]) -> None:
    code, reason = classify_header({"SeriesDescription": "T2 TSE", "ImageType": kind, **T2})
    assert code is None
    assert "image type" in reason


@pytest.mark.parametrize(
    "kind",
    [
        ["ORIGINAL", "PRIMARY", "M", "ND", "NORM"],
        ["ORIGINAL", "PRIMARY", "OTHER"],
        ["ORIGINAL", "PRIMARY", "M_SE", "M", "SE"],
        ["DERIVED", "SECONDARY"],
        ["DERIVED", "PRIMARY", "DIXON", "WATER"],
    ],
)
def test_image_types_that_are_used(kind: list[str]) -> None:
    assert classify_header({"SeriesDescription": "T2 TSE", "ImageType": kind, **T2})[0] == "t2"


@pytest.mark.parametrize(
    "agent", ["", " ", "no", "NONE", "0", "0.0", "0 ml", "without", "ohne", "sin contraste", "N/A"]
)
def test_header_fields_that_say_no_agent(agent: str) -> None:
    assert says_none(agent)
    assert classify_header({"SeriesDescription": "T1", "ContrastBolusAgent": agent, **SE})[0] == "t1"


@pytest.mark.parametrize(
    "agent", ["Gadovist", "10ML DOTAREM", "YES", "MULTIHANCE 0.1 mmol", "GD", "7.5", "Gadobutrol no. 3"]
)
def test_header_fields_that_name_an_agent(agent: str) -> None:
    assert not says_none(agent)
    assert classify_header({"SeriesDescription": "T1", "ContrastBolusAgent": agent, **SE})[0] == "t1c"


def test_the_series_own_words_go_before_the_agent_field() -> None:
    """An agent is often entered once for a whole study."""
    facts = {"SeriesDescription": "T1 pre", "ContrastBolusAgent": "Gadovist", **SE}
    assert classify_header(facts)[0] == "t1"


def test_a_protocols_name_says_nothing_of_contrast_where_the_series_is_described() -> None:
    facts = {"SeriesDescription": "AX T1", "ProtocolName": "Brain with and without contrast", **SE}
    assert classify_header(facts)[0] == "t1"
    assert classify_header({"SeriesDescription": "", "ProtocolName": "t1_se_tra_KM", **SE})[0] == "t1c"


@pytest.mark.parametrize(
    ("text", "said"),
    [("T1", None), ("T1 24cm", None), ("T1 W and W/O", None), ("T1 presat", None), ("T1 3D AX", None), ("T1 FS", None)],
)
def test_no_word_of_contrast(text: str, said: bool | None) -> None:
    assert contrast_in(text) is said


def test_reasons_repeat_no_header_text() -> None:
    for text, header, _ in ROWS:
        _, reason = classify_header({"SeriesDescription": f"{text} Doe^Jane", **header})
        assert "doe" not in reason.lower()
