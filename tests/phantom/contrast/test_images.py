"""What every sequence shows: the order of tissues, strokes, independence of the draws, protocols."""

import numpy as np
import pytest

from anymri.errors import UserError
from anymri.phantom import PhantomSettings, checksum, make_subject
from anymri.phantom.contrast import BODY, draw_further_protocol, draw_tissues, sequence_signals, tissue_signal
from anymri.phantom.contrast.perfusion import draw_perfusion
from anymri.phantom.contrast.protocol import KINDS
from anymri.phantom.contrast.tissues import draw_diffusion
from anymri.phantom.settings import MODALITIES, SEQUENCES

SPACING_MM = 5.0
INDEX = 2  # a stroke with as much penumbra as core
FURTHER = ("pd", "mprage", "dir", "dwi", "t2_spir", "t1_in", "t1_out")


def study(index=INDEX, **settings):
    return make_subject(4, index, PhantomSettings(spacing_mm=SPACING_MM, **settings))


@pytest.fixture(scope="module")
def stroke():
    return study(pathology="stroke", modalities=SEQUENCES)


@pytest.mark.parametrize("seed", range(20))
def test_every_sequence_keeps_the_order_of_tissues(seed):
    generator = np.random.default_rng(seed)
    field_t, tissues = draw_tissues(generator)
    diffusion = draw_diffusion(generator)
    signal = {
        code: {
            name: abs(value)
            for name, value in sequence_signals(
                tissues, draw_further_protocol(generator, code, field_t), {}, 3.7, field_t=field_t, diffusion=diffusion
            ).items()
        }
        for code in FURTHER
    }
    assert signal["pd"]["grey"] > signal["pd"]["white"]
    mprage = signal["mprage"]
    assert mprage["white"] > 1.2 * mprage["grey"] > 1.2 * mprage["csf"]
    dir_ = signal["dir"]
    assert max(dir_["white"], dir_["csf"]) < 0.5 * dir_["grey"]
    assert dir_["plaque"] > 2 * dir_["white"]
    dwi = signal["dwi"]
    assert dwi["acute_core"] > 1.3 * max(dwi["grey"], dwi["white"])
    assert dwi["csf"] < 0.5 * dwi["white"]
    assert dwi["penumbra_white"] == pytest.approx(dwi["white"], rel=0.25)
    spir = signal["t2_spir"]
    assert spir["csf"] > spir["grey"] > spir["white"]
    for code in ("t1_in", "t1_out"):
        assert signal[code]["white"] > signal[code]["grey"] > signal[code]["csf"]


@pytest.mark.parametrize("seed", range(20))
def test_diffusion_of_lesions(seed):
    adc = draw_diffusion(np.random.default_rng(seed), age_h=72.0)
    assert adc["acute_core"] < 0.62 < min(adc["grey"], adc["white"], adc["penumbra_grey"])
    assert adc["white"] < adc["solid"] < adc["edema"] < adc["csf"]
    late = draw_diffusion(np.random.default_rng(seed), age_h=300.0)
    assert adc["subacute_core"] < 0.65 < late["subacute_core"]  # pseudo-normal in the second week
    assert adc["enhancing"] == adc["solid"]


@pytest.mark.parametrize("seed", range(20))
def test_blood_supply_of_a_stroke(seed):
    supply, _ = draw_perfusion(np.random.default_rng(seed))
    grey, white, core = supply["grey"], supply["white"], supply["acute_core"]
    assert grey.cbf > 1.5 * white.cbf
    assert grey.cbv > 2 * white.cbv
    assert core.cbf < 0.3 * (grey.cbf + white.cbf) / 2
    assert core.cbv < 0.6 * (grey.cbv + white.cbv) / 2
    for part in ("grey", "white"):
        risk = supply[f"penumbra_{part}"]
        assert risk.tmax_s > 6 > 3 > supply[part].tmax_s
        assert 0.3 * supply[part].cbf < risk.cbf < 0.65 * supply[part].cbf
        assert risk.cbv > 0.85 * supply[part].cbv
    assert core.tmax_s >= risk.tmax_s - 0.5


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("field_t", [1.5, 3.0])
def test_abdominal_tissues(field_t, seed):
    def signal(name, code):
        protocol = draw_further_protocol(np.random.default_rng(seed), code, field_t)
        return abs(tissue_signal(name, BODY[field_t][name], protocol, field_t=field_t))

    organs = ("liver", "spleen", "kidney")
    assert signal("fat", "t2_spir") < 0.8 * min(signal(name, "t2_spir") for name in organs)  # fat is nulled
    assert signal("spleen", "t2_spir") > signal("liver", "t2_spir") > signal("muscle", "t2_spir")
    assert signal("liver", "t1_in") > max(signal("spleen", "t1_in"), signal("kidney", "t1_in"))
    assert signal("fat", "t1_in") > signal("liver", "t1_in")


def test_a_stroke_in_all_sequences(stroke):
    assert tuple(stroke.images) == SEQUENCES
    grey = {code: image.astype(float) for code, image in stroke.images.items()}
    core, risk = stroke.label == 2, stroke.label == 1
    brain = grey["t1"] > 0
    healthy = brain & (stroke.label == 0) & (grey["adc"] < 1000)  # without fluid
    median = {code: [np.median(image[part]) for part in (core, risk, healthy)] for code, image in grey.items()}
    assert median["dwi"][0] > 1.25 * median["dwi"][2]
    assert median["adc"][0] < 650 < median["adc"][1]  # 10^-6 mm2/s
    assert median["dwi"][1] == pytest.approx(median["dwi"][2], rel=0.2)  # only blood supply shows the penumbra
    assert median["tmax"][1] > 600 > 300 > median["tmax"][2]  # 0.01 s
    assert median["ttp"][1] > median["ttp"][2] + 300
    assert median["cbf"][0] < median["cbf"][1] < median["cbf"][2]
    assert median["cbv"][0] < 0.6 * median["cbv"][2]
    for image in grey.values():
        np.testing.assert_array_equal(image > 0, brain)
    np.testing.assert_array_equal(stroke.images["t1_in"].shape, stroke.label.shape)
    assert set(stroke.parameters["contrast"]["protocols"]) == {*MODALITIES, *FURTHER}
    assert set(stroke.parameters["artifacts"]) == set(SEQUENCES)


def test_no_image_depends_on_which_others_are_made(stroke):
    some = study(pathology="stroke", modalities=("tmax", "adc", "t2", "t1_out"))
    assert list(some.images) == ["t2", "adc", "t1_out", "tmax"]  # in the registered order
    for code, image in some.images.items():
        np.testing.assert_array_equal(image, stroke.images[code])
    four = study(pathology="stroke")
    for code in MODALITIES:
        np.testing.assert_array_equal(four.images[code], stroke.images[code])
    alone = study(pathology="stroke", modalities=("dir",))
    np.testing.assert_array_equal(alone.images["dir"], stroke.images["dir"])


def test_random_contrast_of_the_further_sequences():
    first, second = (study(contrast="random", modalities=("t2", "dwi", "tmax", "dir"), index=i) for i in (INDEX, 1))
    assert first.parameters["contrast"]["diffusion_um2_ms"] != second.parameters["contrast"]["diffusion_um2_ms"]
    alone = study(contrast="random")
    np.testing.assert_array_equal(alone.images["t2"], first.images["t2"])


def test_a_protocol_is_what_was_asked_for_and_nothing_else_changes():
    plain = study(modalities=("flair", "dwi", "adc"))
    asked = study(modalities=("flair", "dwi", "adc"), protocols={"flair:ti_ms": 1500, "dwi:b_s_mm2": 500})
    protocols = asked.parameters["contrast"]["protocols"]
    assert protocols["flair"]["ti_ms"] == 1500
    assert protocols["dwi"]["b_s_mm2"] == 500
    before = plain.parameters["contrast"]["protocols"]
    assert protocols["dwi"]["te_ms"] == before["dwi"]["te_ms"]
    assert protocols["t1"] == before["t1"]
    assert not np.array_equal(asked.images["flair"], plain.images["flair"])
    assert np.median(asked.images["adc"][asked.images["adc"] > 0]) == pytest.approx(
        np.median(plain.images["adc"][plain.images["adc"] > 0]), rel=0.05
    )


def test_scanners_vary_the_four_only_if_asked():
    plain, varied = study(), study(scanner="varied")
    assert checksum(plain) != checksum(varied)
    assert plain.parameters["artifacts"]["t1"]["in_plane_mm"] == 0
    assert varied.parameters["artifacts"]["t1"]["in_plane_mm"] > 0
    assert {study(index, scanner="varied").parameters["scanner"] for index in range(8)} == {"A", "B", "C"}
    same = [plain.parameters["artifacts"]["t2"][name] for name in ("noise", "bias", "slice_mm")]
    assert same == [varied.parameters["artifacts"]["t2"][name] for name in ("noise", "bias", "slice_mm")]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"protocols": {"t1:tr_ms": -500}}, "tr_ms is -500; choose a number above 0"),
        ({"protocols": {"t2:te_ms": float("nan")}}, "te_ms is nan"),
        ({"protocols": {"t1:te_ms": 900}}, "must be shorter than TR"),
        ({"protocols": {"t2:te_ms": 2000}}, "leave no signal"),
        ({"protocols": {"flair:ti_s": 2.2}}, "unknown protocol quantity 'flair:ti_s'; choose flair:tr_ms"),
        ({"protocols": {"t1:ti_ms": 900}}, "unknown protocol quantity 't1:ti_ms'"),
        ({"protocols": {"dwi:te_ms": 80}}, "names no sequence of this study that has a protocol; choose t1, t1c"),
        ({"protocols": {"tmax:te_ms": 80}, "modalities": ("tmax",)}, "choose other modalities"),
        ({"protocols": {"mprage:ti_ms": 300}, "modalities": ("mprage",)}, "160 pulses"),
        ({"protocols": {"mprage:flip_degrees": 120}, "modalities": ("mprage",)}, "flip angle 120 degrees"),
        ({"protocols": {"dwi:b_s_mm2": 0}, "modalities": ("adc",)}, "choose b above 0"),
        ({"protocols": {"t1:tr_ms": True}}, "t1:tr_ms is True"),
        ({"protocols": {"t1:tr_ms": 600}, "contrast": "random"}, "has no protocol"),
        ({"modalities": ()}, "modalities are ()"),
        ({"modalities": "t1"}, "unknown modality 't'"),
        ({"modalities": ("t1", "pet")}, "unknown modality 'pet'; choose from t1, t1c"),
        ({"scanner": "old"}, "unknown scanner 'old'"),
    ],
)
def test_impossible_sequences_are_refused(changes, message):
    with pytest.raises(UserError) as error:
        PhantomSettings(**changes)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_every_quantity_of_a_kind_is_one_of_the_protocol():
    for seed, code in enumerate(FURTHER):
        protocol = draw_further_protocol(np.random.default_rng(seed), code, 3.0)
        assert {"kind", *KINDS[protocol.kind]} <= set(protocol.to_dict())
