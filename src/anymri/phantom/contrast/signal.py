"""The MR signal equations. Times are in milliseconds throughout, relaxivity in 1 / (mmol/l x s).

All are signed: what is imaged is the magnitude of the sum over a voxel's tissues. Ideal pulses and complete spoiling
are assumed; spin echoes neglect what their refocusing pulses do to the longitudinal magnetisation.

References
----------
.. [1] J. Frahm, A. Haase, D. Matthaei, Rapid NMR imaging of dynamic processes using the FLASH technique, Magn Reson
   Med 3(2), 1986, DOI 10.1002/mrm.1910030217: spoiled gradient echo.
.. [2] T. W. Redpath, F. W. Smith, Use of a double inversion recovery pulse sequence to image selectively grey or white
   brain matter, Br J Radiol 67, 1994, DOI 10.1259/0007-1285-67-804-1258.
.. [3] R. Deichmann et al., Optimization of 3-D MP-RAGE sequences for structural brain imaging, NeuroImage 12(1), 2000,
   DOI 10.1006/nimg.2000.0601: the steady state of an inversion, a train of small pulses and a pause.
.. [4] W. T. Dixon, Simple proton spectroscopic imaging, Radiology 153(1), 1984, DOI 10.1148/radiology.153.1.6089263:
   water and fat in and out of phase.
"""

from __future__ import annotations

import numpy as np

from anymri.errors import UserError

__all__ = [
    "Value",
    "diffusion_decay",
    "double_inversion_recovery",
    "double_inversion_times",
    "enhanced_t1",
    "inversion_null",
    "inversion_recovery",
    "mp_rage",
    "spin_echo",
    "spoiled_gradient_echo",
    "water_fat_phase",
]

#: Protons' frequency in MHz a tesla, and how far fat's main peak lies below water in ppm.
_GAMMA_MHZ_T, _FAT_PPM = 42.577, 3.5

#: A number, or one per voxel.
Value = float | np.ndarray


def _check_times(**times_ms: Value) -> None:
    for name, value in times_ms.items():
        if not np.all(np.asarray(value) > 0) or not np.all(np.isfinite(value)):
            raise UserError(f"phantom: {name} must be a positive time in ms, not {value}; choose a value above 0")


def spin_echo(pd: Value, t1_ms: Value, t2_ms: Value, tr_ms: Value, te_ms: Value) -> Value:
    """Spin echo signal, ``pd (1 - exp(-TR/T1)) exp(-TE/T2)``.

    Parameters
    ----------
    pd : float or ndarray
        Proton density, CSF = 1.
    t1_ms, t2_ms, tr_ms, te_ms : float or ndarray
        Relaxation, repetition and echo times.

    Raises
    ------
    UserError
        If a time is not positive.
    """
    _check_times(T1=t1_ms, T2=t2_ms, TR=tr_ms, TE=te_ms)
    return pd * (1 - np.exp(-tr_ms / t1_ms)) * np.exp(-te_ms / t2_ms)


def inversion_recovery(pd: Value, t1_ms: Value, t2_ms: Value, tr_ms: Value, te_ms: Value, ti_ms: Value) -> Value:
    """Inversion recovery spin echo, signed: ``pd (1 - 2 exp(-TI/T1) + exp(-TR/T1)) exp(-TE/T2)``.

    Parameters
    ----------
    pd : float or ndarray
        Proton density, CSF = 1.
    t1_ms, t2_ms, tr_ms, te_ms, ti_ms : float or ndarray
        Relaxation, repetition, echo and inversion times.

    Raises
    ------
    UserError
        If a time is not positive.
    """
    _check_times(T1=t1_ms, T2=t2_ms, TR=tr_ms, TE=te_ms, TI=ti_ms)
    return pd * (1 - 2 * np.exp(-ti_ms / t1_ms) + np.exp(-tr_ms / t1_ms)) * np.exp(-te_ms / t2_ms)


def enhanced_t1(t1_ms: Value, relaxivity: float, concentration_mmol_l: Value) -> Value:
    """T1 in ms with contrast agent: ``1/T1 = 1/T1_0 + r1 C``.

    Parameters
    ----------
    t1_ms : float or ndarray
        T1 without agent.
    relaxivity : float
        r1 in 1 / (mmol/l x s).
    concentration_mmol_l : float or ndarray
        Concentration of agent in the tissue, not negative.

    Raises
    ------
    UserError
        If T1 is not positive or a concentration is negative.
    """
    _check_times(T1=t1_ms)
    if np.any(np.asarray(concentration_mmol_l) < 0):
        raise UserError("phantom: a concentration of contrast agent is negative; choose 0 or more")
    return 1 / (1 / t1_ms + relaxivity * concentration_mmol_l / 1000)


def _check_flip(degrees: float) -> None:
    if not 0 < degrees <= 90:
        raise UserError(f"phantom: a flip angle of {degrees} degrees is not possible; choose above 0 to 90")


def spoiled_gradient_echo(
    pd: Value, t1_ms: Value, t2_star_ms: Value, tr_ms: float, te_ms: float, flip_degrees: float
) -> Value:
    """Spoiled gradient echo [1]_: ``pd sin a (1 - E) / (1 - cos a E) exp(-TE/T2*)`` with ``E = exp(-TR/T1)``.

    Parameters
    ----------
    pd : float or ndarray
        Proton density, CSF = 1.
    t1_ms, t2_star_ms : float or ndarray
    tr_ms, te_ms : float
    flip_degrees : float
        Above 0 and at most 90.

    Raises
    ------
    UserError
        If a time is not positive or the flip angle is out of range.
    """
    _check_times(T1=t1_ms, TR=tr_ms, TE=te_ms, **{"T2*": t2_star_ms})
    _check_flip(flip_degrees)
    angle, recovered = np.radians(flip_degrees), np.exp(-tr_ms / t1_ms)
    return pd * np.sin(angle) * (1 - recovered) / (1 - np.cos(angle) * recovered) * np.exp(-te_ms / t2_star_ms)


def double_inversion_recovery(
    pd: Value, t1_ms: Value, t2_ms: Value, tr_ms: float, te_ms: float, ti_ms: float, ti2_ms: float
) -> Value:
    """Double inversion recovery [2]_: ``pd (1 - 2 exp(-TI2/T1) + 2 exp(-TI/T1) - exp(-TR/T1)) exp(-TE/T2)``.

    Parameters
    ----------
    pd : float or ndarray
        Proton density, CSF = 1.
    t1_ms, t2_ms : float or ndarray
    tr_ms, te_ms : float
    ti_ms, ti2_ms : float
        From the first and from the second inversion to the excitation.

    Raises
    ------
    UserError
        If a time is not positive, or the second inversion is not between the first and the excitation.
    """
    _check_times(T1=t1_ms, T2=t2_ms, TR=tr_ms, TE=te_ms, TI=ti_ms, TI2=ti2_ms)
    if not ti2_ms < ti_ms < tr_ms:
        raise UserError(f"phantom: TI2 {ti2_ms:g}, TI {ti_ms:g}, TR {tr_ms:g} ms: each must be shorter than the next")
    longitudinal = 1 - 2 * np.exp(-ti2_ms / t1_ms) + 2 * np.exp(-ti_ms / t1_ms) - np.exp(-tr_ms / t1_ms)
    return pd * longitudinal * np.exp(-te_ms / t2_ms)


def inversion_null(t1_ms: float, tr_ms: float) -> float:
    """Inversion time in ms at which inversion recovery gives no signal of a T1."""
    _check_times(T1=t1_ms, TR=tr_ms)
    return float(-t1_ms * np.log((1 + np.exp(-tr_ms / t1_ms)) / 2))


def double_inversion_times(short_t1_ms: float, long_t1_ms: float, tr_ms: float) -> tuple[float, float]:
    """TI and TI2 in ms at which double inversion recovery gives no signal of either T1 (white matter and CSF).

    Raises
    ------
    UserError
        If the repetition time is too short for both.
    """
    from scipy.optimize import brentq

    _check_times(T1=short_t1_ms, T1_long=long_t1_ms, TR=tr_ms)

    def second(first: float) -> float:
        return float(-short_t1_ms * np.log((1 + 2 * np.exp(-first / short_t1_ms) - np.exp(-tr_ms / short_t1_ms)) / 2))

    def left(first: float) -> float:
        parts = np.exp(-np.array([second(first), first, tr_ms]) / long_t1_ms)
        return float(1 - 2 * parts[0] + 2 * parts[1] - parts[2])

    if tr_ms <= 2 * short_t1_ms or left(short_t1_ms) * left(tr_ms) > 0:
        raise UserError(f"phantom: a repetition time of {tr_ms:g} ms is too short to suppress two tissues; lengthen it")
    first = float(brentq(left, short_t1_ms, tr_ms, xtol=1e-9))
    return first, second(first)


def mp_rage(
    pd: Value,
    t1_ms: Value,
    t2_star_ms: Value,
    tr_ms: float,
    te_ms: float,
    ti_ms: float,
    flip_degrees: float,
    pulses: int,
    pulse_ms: float,
) -> Value:
    """MP-RAGE in its steady state [3]_: inversion, a train of small pulses whose middle lies TI later, a pause.

    Parameters
    ----------
    pd : float or ndarray
        Proton density, CSF = 1.
    t1_ms, t2_star_ms : float or ndarray
    tr_ms : float
        From inversion to inversion.
    te_ms : float
    ti_ms : float
        From the inversion to the middle of the train.
    flip_degrees : float
        Of each pulse.
    pulses : int
        In a train; even.
    pulse_ms : float
        From pulse to pulse.

    Raises
    ------
    UserError
        If a time is not positive, or the train does not fit into TI and TR.
    """
    _check_times(T1=t1_ms, TR=tr_ms, TE=te_ms, TI=ti_ms, pulse_distance=pulse_ms, **{"T2*": t2_star_ms})
    _check_flip(flip_degrees)
    half = pulses // 2
    wait_ms, pause_ms = ti_ms - half * pulse_ms, tr_ms - ti_ms - half * pulse_ms
    if wait_ms <= 0 or pause_ms <= 0:
        raise UserError(
            f"phantom: {pulses} pulses every {pulse_ms:g} ms do not fit around TI {ti_ms:g} in TR {tr_ms:g} ms; "
            "lengthen TI and TR"
        )
    angle = np.radians(flip_degrees)
    between, waiting, pausing = (np.exp(-span / t1_ms) for span in (pulse_ms, wait_ms, pause_ms))
    factor = np.cos(angle) * between
    steady = (1 - between) / (1 - factor)  # where the train tends to
    # before the train: start = 1 - (1 + m) waiting, with m left at the next inversion after train and pause
    rest = (1 - pausing) + pausing * steady * (1 - factor ** (2 * half))
    start = (1 - waiting - waiting * rest) / (1 + waiting * pausing * factor ** (2 * half))
    middle = steady + (start - steady) * factor**half
    return pd * np.sin(angle) * middle * np.exp(-te_ms / t2_star_ms)


def diffusion_decay(adc: Value, b_s_mm2: float) -> Value:
    """Share of the signal that diffusion leaves, ``exp(-b D)``.

    Parameters
    ----------
    adc : float or ndarray
        Apparent diffusion coefficient in 10^-3 mm2/s.
    b_s_mm2 : float
        Diffusion weighting, 0 or more.

    Raises
    ------
    UserError
        If either is negative.
    """
    if b_s_mm2 < 0 or np.any(np.asarray(adc) < 0):
        raise UserError(f"phantom: diffusion weighting b {b_s_mm2:g} s/mm2 and coefficient must not be negative")
    return np.exp(-b_s_mm2 * adc / 1000)


def water_fat_phase(te_ms: float, field_t: float) -> float:
    """Phase in radians between water and the main peak of fat at an echo time [4]_: in phase at multiples of 2 pi."""
    _check_times(TE=te_ms)
    return float(2 * np.pi * _FAT_PPM * _GAMMA_MHZ_T * field_t * te_ms / 1000)
