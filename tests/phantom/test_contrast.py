"""The signal equations against closed forms, and what the drawn contrasts keep."""

import math

import numpy as np
import pytest

from anymri.errors import UserError
from anymri.phantom.contrast import (
    TISSUES,
    draw_protocols,
    draw_tissues,
    enhanced_t1,
    inversion_recovery,
    mix,
    random_signals,
    sequence_signals,
    spin_echo,
)
from anymri.phantom.pathology import COMPARTMENTS, Tissue
from anymri.phantom.settings import MODALITIES, Grid


def test_spin_echo_at_one_time_constant():
    # TR = T1 and TE = T2: (1 - 1/e) / e
    assert spin_echo(0.8, 900.0, 80.0, 900.0, 80.0) == pytest.approx(0.8 * (1 - math.exp(-1)) / math.e, abs=1e-9)
    assert spin_echo(0.8, 900.0, 80.0, 1e9, 1e-9) == pytest.approx(0.8, abs=1e-6)


def test_inversion_recovery_is_null_at_ln2_and_negative_before():
    t1 = 4200.0
    null = t1 * math.log(2)
    assert inversion_recovery(1.0, t1, 1e12, 1e9, 1.0, null) == pytest.approx(0, abs=1e-6)
    assert inversion_recovery(1.0, t1, 1e12, 1e9, 1.0, 1e-6) == pytest.approx(-1, abs=1e-6)
    closed = 0.9 * (1 - math.exp(-1)) / math.e
    assert inversion_recovery(0.9, t1, 100.0, t1, 100.0, t1) == pytest.approx(closed, abs=1e-9)


def test_contrast_agent_shortens_t1_by_its_relaxivity():
    # 1/1.0 s + 4.1 x 1 mmol/l = 5.1 / s
    assert enhanced_t1(1000.0, 4.1, 1.0) == pytest.approx(1000 / 5.1, abs=1e-6)
    assert enhanced_t1(1000.0, 4.1, 0.0) == pytest.approx(1000.0, abs=1e-9)


@pytest.mark.parametrize(
    "call",
    [
        lambda: spin_echo(1.0, 900.0, 80.0, -500.0, 10.0),
        lambda: spin_echo(1.0, 900.0, 80.0, 500.0, float("nan")),
        lambda: inversion_recovery(1.0, 900.0, 80.0, 9000.0, 100.0, 0.0),
        lambda: enhanced_t1(0.0, 4.1, 1.0),
        lambda: enhanced_t1(900.0, 4.1, -1.0),
    ],
)
def test_impossible_times_are_refused(call):
    with pytest.raises(UserError, match="choose"):
        call()


@pytest.mark.parametrize("seed", range(20))
def test_physics_keeps_the_order_of_tissues(seed):
    generator = np.random.default_rng(seed)
    field_t, tissues = draw_tissues(generator)
    protocols = draw_protocols(generator, field_t)
    agent = {"enhancing": 0.15, "blood": 0.3}
    signal = {code: sequence_signals(tissues, protocols[code], agent, 3.7) for code in MODALITIES}
    assert signal["t1"]["white"] > signal["t1"]["grey"] > signal["t1"]["csf"]
    assert signal["t2"]["csf"] > signal["t2"]["grey"] > signal["t2"]["white"]
    tissue_names = ("grey", "white", "edema", "solid", "wmh")
    assert abs(signal["flair"]["csf"]) < min(signal["flair"][name] for name in tissue_names)
    assert signal["flair"]["edema"] > signal["flair"]["grey"]
    assert signal["t1c"]["enhancing"] > signal["t1c"]["white"]
    for code in ("t1", "t2", "flair"):  # without agent, enhancing tumour looks like any solid tumour
        assert signal[code]["enhancing"] == signal[code]["solid"]


def test_tables_name_every_compartment():
    for tissues in TISSUES.values():
        assert set(tissues) == set(COMPARTMENTS) - {"enhancing", "penumbra_grey", "penumbra_white"}


@pytest.mark.parametrize("seed", range(20))
def test_random_contrast_keeps_what_makes_a_sequence(seed):
    generator = np.random.default_rng(seed)
    signal = {code: random_signals(generator, code) for code in MODALITIES}
    assert all(value > 0 for values in signal.values() for value in values.values())
    assert signal["t2"]["csf"] > signal["t2"]["white"]
    assert signal["flair"]["csf"] < signal["flair"]["white"]
    assert signal["t1c"]["enhancing"] > signal["t1c"]["white"]


def test_partial_volume_is_linear_in_the_signed_signal():
    shape = (2, 1, 1)
    shares = {name: np.zeros(shape) for name in COMPARTMENTS}
    shares["csf"][:] = 0.25
    shares["white"][:] = 0.75
    signals = dict.fromkeys(COMPARTMENTS, 0.0) | {"csf": -0.2, "white": 0.4}
    tissue = Tissue(shares, np.zeros(shape, np.uint8), np.ones(shape, bool), Grid(2.0, (0, 0, 0), shape))
    np.testing.assert_allclose(mix(tissue, signals), 0.25, atol=1e-12)
    signals["white"] = 0.0
    np.testing.assert_allclose(mix(tissue, signals), 0.05, atol=1e-12)  # magnitude, not -0.05


@pytest.mark.parametrize("seed", range(20))
def test_lesions_look_as_they_are_known_to(seed):
    generator = np.random.default_rng(seed)
    field_t, tissues = draw_tissues(generator)
    protocols = draw_protocols(generator, field_t)
    agent = {"active": 0.1, "subacute_core": 0.0}
    signal = {code: sequence_signals(tissues, protocols[code], agent, 3.7) for code in MODALITIES}
    t1, t1c, t2, flair = (signal[code] for code in MODALITIES)
    assert t1["black_hole"] < t1["plaque"] < t1["white"]
    assert t1c["active"] > t1c["plaque"]
    assert t1["active"] < t1["white"]  # without agent an active plaque is a plaque
    for lesion in ("plaque", "black_hole", "subacute_core"):
        assert t2[lesion] > t2["white"]
    for lesion in ("plaque", "active", "acute_core", "subacute_core"):
        assert flair[lesion] > flair["white"]
    assert t2["acute_core"] < t2["subacute_core"]
    assert t2["cavity"] > t2["edema"]
    assert t1["hemorrhage"] > t1["grey"]
    assert t2["hemorrhage"] < t2["white"]
    assert t2["microcystic"] > t2["solid"]
    assert flair["microcystic"] / t2["microcystic"] < flair["solid"] / t2["solid"]  # the mismatch of low grades
    assert abs(flair["cavity"]) < flair["white"]
    for code in MODALITIES:  # what lacks flow alone looks healthy
        assert signal[code]["penumbra_grey"] == signal[code]["grey"]
        assert signal[code]["penumbra_white"] == signal[code]["white"]
