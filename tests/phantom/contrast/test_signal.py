"""Signal equations against closed forms, limits and a simulation pulse by pulse, to 1e-6."""

import math

import numpy as np
import pytest
from scipy import stats

from anymri.errors import UserError
from anymri.phantom.artifacts.acquisition import Artifacts, apply_artifacts
from anymri.phantom.contrast import BODY, TISSUES, Protocol, Relaxation, tissue_signal
from anymri.phantom.contrast.signal import (
    diffusion_decay,
    double_inversion_recovery,
    double_inversion_times,
    inversion_null,
    inversion_recovery,
    mp_rage,
    spoiled_gradient_echo,
    water_fat_phase,
)
from anymri.phantom.contrast.tissues import t2_star
from anymri.phantom.settings import Grid


def test_spoiled_gradient_echo_at_90_degrees_and_at_the_ernst_angle():
    assert spoiled_gradient_echo(0.8, 900.0, 60.0, 900.0, 60.0, 90.0) == pytest.approx(
        0.8 * (1 - 1 / math.e) / math.e, abs=1e-6
    )
    t1, tr = 800.0, 30.0
    best = math.degrees(math.acos(math.exp(-tr / t1)))
    # at the Ernst angle the signal is tan(angle / 2)
    peak = spoiled_gradient_echo(1.0, t1, 1e12, tr, 1e-9, best)
    assert peak == pytest.approx(math.tan(math.radians(best) / 2), abs=1e-6)
    assert peak > max(spoiled_gradient_echo(1.0, t1, 1e12, tr, 1e-9, best + step) for step in (-1, 1))


def test_double_inversion_against_block_by_block():
    t1, t2, tr, te, first, second = 1331.0, 100.0, 8000.0, 30.0, 3300.0, 450.0
    left = 0.0  # of the longitudinal magnetisation, just after the excitation
    for start, span in ((1, tr - first), (-1, first - second), (-1, second)):
        left = 1 + (start * left - 1) * math.exp(-span / t1)
    expected = 0.8 * left * math.exp(-te / t2)
    assert double_inversion_recovery(0.8, t1, t2, tr, te, first, second) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("short", "long"), [(832.0, 4200.0), (500.0, 2569.0)])
def test_double_inversion_times_null_both_tissues(short, long):
    first, second = double_inversion_times(short, long, 8000.0)
    for t1 in (short, long):
        assert double_inversion_recovery(1.0, t1, 1e12, 8000.0, 1e-9, first, second) == pytest.approx(0, abs=1e-6)
    with pytest.raises(UserError, match="too short"):
        double_inversion_times(short, long, 1.5 * short)


def test_inversion_null_is_the_null_of_inversion_recovery():
    assert inversion_recovery(1.0, 4200.0, 1e12, 9000.0, 1e-9, inversion_null(4200.0, 9000.0)) == pytest.approx(
        0, abs=1e-6
    )


@pytest.mark.parametrize("t1", [832.0, 1331.0, 4200.0])
def test_mp_rage_against_a_simulation_of_every_pulse(t1):
    tr, ti, flip, pulses, distance = 2300.0, 900.0, 9.0, 160, 7.0
    left = 1.0
    for _ in range(40):  # until steady
        left = 1 - (1 + left) * math.exp(-(ti - pulses / 2 * distance) / t1)
        for pulse in range(pulses):
            if pulse == pulses // 2:
                middle = left
            left = 1 + (left * math.cos(math.radians(flip)) - 1) * math.exp(-distance / t1)
        left = 1 + (left - 1) * math.exp(-(tr - ti - pulses / 2 * distance) / t1)
    expected = 0.7 * math.sin(math.radians(flip)) * middle * math.exp(-3.0 / 50.0)
    assert mp_rage(0.7, t1, 50.0, tr, 3.0, ti, flip, pulses, distance) == pytest.approx(expected, abs=1e-6)


def test_mp_rage_of_weak_pulses_is_an_inversion_recovery():
    signal = mp_rage(1.0, 900.0, 1e12, 2300.0, 1e-9, 900.0, 1e-4, 160, 7.0) / math.radians(1e-4)
    closed = 1 - 2 * math.exp(-900 / 900) / (1 + math.exp(-2300 / 900))
    assert signal == pytest.approx(closed, abs=1e-6)
    with pytest.raises(UserError, match="do not fit"):
        mp_rage(1.0, 900.0, 50.0, 2300.0, 3.0, 500.0, 9.0, 160, 7.0)


def test_diffusion_decays_by_b_times_d():
    assert diffusion_decay(0.7, 1000.0) == pytest.approx(math.exp(-0.7), abs=1e-9)
    assert diffusion_decay(0.7, 0.0) == 1.0
    for wrong in ((-0.1, 1000.0), (0.7, -1.0)):
        with pytest.raises(UserError, match="negative"):
            diffusion_decay(*wrong)


@pytest.mark.parametrize("field_t", [1.5, 3.0])
def test_water_and_fat_in_and_out_of_phase(field_t):
    hertz = 3.5 * 42.577 * field_t
    assert water_fat_phase(1000 / hertz, field_t) == pytest.approx(2 * math.pi, abs=1e-9)
    half = Relaxation(BODY[field_t]["fat"].t1_ms, BODY[field_t]["fat"].t2_ms, BODY[field_t]["fat"].pd)
    common = {"tr_ms": 150.0, "flip_degrees": 70.0}
    opposed = Protocol("gradient_echo", te_ms=500 / hertz, **common)
    together = Protocol("gradient_echo", te_ms=1000 / hertz, **common)
    for protocol, sign in ((opposed, -1), (together, 1)):
        whole = tissue_signal("white", half, protocol, field_t=field_t)  # no fat in white matter
        star = {name: t2_star(name, half.t2_ms, field_t) for name in ("white", "fat", "liver")}
        whole /= math.exp(-protocol.te_ms / star["white"])
        expected = [0.97 * whole * math.exp(-protocol.te_ms / star["liver"])]
        expected.append(sign * 0.03 * whole * math.exp(-protocol.te_ms / star["fat"]))
        signal = tissue_signal("liver", half, protocol, field_t=field_t)
        assert abs(signal - sum(expected)) < 1e-6


def test_spir_leaves_the_named_share_of_fat():
    fat = BODY[1.5]["fat"]
    signals = [
        tissue_signal("fat", fat, Protocol("fat_suppressed", 2000.0, 80.0, fat_left=left), field_t=1.5)
        for left in (1.0, 0.0)
    ]
    full = fat.pd * (1 - math.exp(-2000 / fat.t1_ms)) * math.exp(-80 / fat.t2_ms)
    np.testing.assert_allclose(signals, [full, 0.08 * full], atol=1e-6)


def test_t2_star_is_shorter_and_near_what_was_measured():
    for field_t, tissues in TISSUES.items():
        assert all(t2_star(name, each.t2_ms, field_t) < each.t2_ms for name, each in tissues.items())
    measured = {"grey": 66.0, "white": 53.2}  # Peters 2007, 3 T
    for name, value in measured.items():
        assert t2_star(name, TISSUES[3.0][name].t2_ms, 3.0) == pytest.approx(value, rel=0.05)


@pytest.mark.parametrize("level", [0.0, 0.3])
def test_a_uniform_tissue_is_scanned_with_rician_noise(level):
    # half of the box at `level` (0: air), half at 1; no blur, texture or bias: only noise acts
    shape = (24, 24, 24)
    grid, sigma = Grid(2.0, (0, 0, 0), shape), 0.05
    image = np.full(shape, level)
    image[12:] = 1.0
    plain = Artifacts((0.0, 0.0, 0.0), blur_mm=0.0, slice_axis=0, slice_mm=0.0, bias=0.0, noise=sigma)
    empty = np.zeros((3, *shape))
    scanned = apply_artifacts(
        np.random.default_rng(4), image, np.ones(shape, bool), np.zeros(shape), empty, plain, grid
    )
    before = image / image.mean()
    noisy = np.sqrt(before**2 + 2 * sigma**2)  # root mean square of a Rice distribution
    scale = np.sqrt((scanned**2).mean() / (noisy**2).mean())  # brightness is normalised after the noise
    for part in (slice(0, 12), slice(12, 24)):
        signal = before[part].flat[0]
        expected = stats.rice(signal / sigma, scale=sigma)
        assert stats.kstest(scanned[part].ravel() / scale, expected.cdf).pvalue > 0.01
    assert stats.kstest(scanned[:12].ravel() / scale, stats.norm(level, sigma).cdf).pvalue < 1e-6
