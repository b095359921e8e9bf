"""From tissue to signal: the MR physics of each sequence, and randomised contrast.

Times are in milliseconds throughout, relaxivity in 1 / (mmol/l x s).

References
----------
.. [1] R. K.-S. Kwan, A. C. Evans, G. B. Pike, MRI simulation-based evaluation of image-processing and
   classification methods, IEEE TMI 18(11), 1999, DOI 10.1109/42.816072: T1, T2 and proton density at 1.5 T.
.. [2] J. P. Wansapura et al., NMR relaxation times in the human brain at 3.0 tesla, J Magn Reson Imaging 9(4), 1999,
   DOI 10.1002/(SICI)1522-2586(199904)9:4<531::AID-JMRI4>3.0.CO;2-L: grey and white matter at 3 T.
.. [3] G. J. Stanisz et al., T1, T2 relaxation and magnetization transfer in tissue at 3T, Magn Reson Med 54(3),
   2005, DOI 10.1002/mrm.20605: blood, and grey and white matter at both fields.
.. [4] M. Rohrer et al., Comparison of magnetic properties of MRI contrast media solutions at different magnetic
   field strengths, Invest Radiol 40(11), 2005, DOI 10.1097/01.rli.0000184756.66360.d3: relaxivities in plasma.
.. [5] B. Billot et al., SynthSeg: Segmentation of brain MRI scans of any contrast and resolution without retraining,
   Med Image Anal 86, 2023, DOI 10.1016/j.media.2023.102789: learning from images of random contrast.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anymri.errors import UserError
from anymri.phantom.pathology import COMPARTMENTS, Tissue

__all__ = [
    "TISSUES",
    "Protocol",
    "Relaxation",
    "draw_protocols",
    "draw_tissues",
    "enhanced_t1",
    "inversion_recovery",
    "mix",
    "random_signals",
    "sequence_signals",
    "spin_echo",
]


#: A number, or one a voxel.
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


@dataclass(frozen=True)
class Relaxation:
    """Relaxation constants of a tissue: T1 and T2 in ms, proton density relative to CSF."""

    t1_ms: float
    t2_ms: float
    pd: float


#: Constants by field strength (tesla) and compartment. CSF, grey and white: [1]_ at 1.5 T, [2]_ at 3 T; blood: [3]_.
#: Lesions: ours, between white matter and CSF by eye against real cases, drawn widely around (`draw_tissues`).
TISSUES: dict[float, dict[str, Relaxation]] = {
    1.5: {
        "csf": Relaxation(2569, 329, 1.0),
        "grey": Relaxation(833, 83, 0.86),
        "white": Relaxation(500, 70, 0.77),
        "edema": Relaxation(950, 128, 0.88),
        "solid": Relaxation(1080, 135, 0.89),
        "necrosis": Relaxation(1500, 210, 0.94),
        "wmh": Relaxation(800, 108, 0.85),
        "blood": Relaxation(1441, 290, 0.90),
        "cavity": Relaxation(2400, 310, 0.98),
        "plaque": Relaxation(860, 112, 0.86),
        "black_hole": Relaxation(1350, 165, 0.90),
        "active": Relaxation(950, 128, 0.87),
        "acute_core": Relaxation(900, 96, 0.85),
        "subacute_core": Relaxation(1050, 128, 0.88),
        "microcystic": Relaxation(1750, 230, 0.94),
        "hemorrhage": Relaxation(430, 50, 0.80),
    },
    3.0: {
        "csf": Relaxation(4200, 1000, 1.0),
        "grey": Relaxation(1331, 100, 0.84),
        "white": Relaxation(832, 77, 0.72),
        "edema": Relaxation(1450, 145, 0.86),
        "solid": Relaxation(1620, 152, 0.87),
        "necrosis": Relaxation(2200, 240, 0.94),
        "wmh": Relaxation(1250, 122, 0.83),
        "blood": Relaxation(1932, 275, 0.90),
        "cavity": Relaxation(3800, 850, 0.98),
        "plaque": Relaxation(1320, 126, 0.84),
        "black_hole": Relaxation(1980, 185, 0.88),
        "active": Relaxation(1450, 142, 0.86),
        "acute_core": Relaxation(1380, 110, 0.83),
        "subacute_core": Relaxation(1560, 144, 0.87),
        "microcystic": Relaxation(2650, 290, 0.94),
        "hemorrhage": Relaxation(680, 45, 0.80),
    },
}

#: Relative spread (log-normal) of T1 and T2 between subjects.
_SPREAD = {
    "edema": 0.08, "solid": 0.10, "necrosis": 0.25, "wmh": 0.08,
    "cavity": 0.05, "plaque": 0.08, "black_hole": 0.15, "active": 0.10, "acute_core": 0.06, "subacute_core": 0.10,
    "microcystic": 0.12, "hemorrhage": 0.10,
}  # fmt: skip
#: Compartments with the relaxation constants of another: what differs is contrast agent or perfusion.
_SAME_AS = {"enhancing": "solid", "penumbra_grey": "grey", "penumbra_white": "white"}
#: Compartments added after the first version draw from a stream of their own, so that phantom40 stays as frozen.
_LATER = ("cavity", "plaque", "black_hole", "active", "acute_core", "subacute_core", "microcystic", "hemorrhage")


@dataclass(frozen=True)
class Protocol:
    """One sequence: ``kind`` is ``"spin_echo"`` or ``"inversion_recovery"``; times in ms, `agent` in mmol/l."""

    kind: str
    tr_ms: float
    te_ms: float
    ti_ms: float = 0.0
    agent: bool = False


def draw_tissues(generator: np.random.Generator) -> tuple[float, dict[str, Relaxation]]:
    """Draw a field strength (1.5 or 3 T) and one subject's relaxation constants around its table."""
    field_t = (1.5, 3.0)[int(generator.integers(2))]
    tissues = {}
    later = generator.spawn(1)[0]
    for name, value in TISSUES[field_t].items():
        stream = later if name in _LATER else generator
        shared, own = stream.normal(0, _SPREAD.get(name, 0.03), 2)  # more water prolongs both
        t1, t2 = np.exp(0.7 * shared + 0.5 * own), np.exp(shared)
        tissues[name] = Relaxation(float(value.t1_ms * t1), float(value.t2_ms * t2), value.pd)
    return field_t, tissues


def draw_protocols(generator: np.random.Generator, field_t: float) -> dict[str, Protocol]:
    """Draw the times of the four sequences.

    Parameters
    ----------
    generator : numpy.random.Generator
    field_t : float
        1.5 or 3.

    Notes
    -----
    T1 and T1c: TR 450-700 (3 T: 550-850), TE 8-15. T2: TR 3500-6000, TE 80-115. FLAIR: TR 8000-11000, TE 90-130, TI
    such that CSF is at most 15 % away from its null point, as scanners are set.
    """
    tr = generator.uniform(450, 700) if field_t < 2 else generator.uniform(550, 850)
    te = generator.uniform(8, 15)
    t2 = Protocol("spin_echo", generator.uniform(3500, 6000), generator.uniform(80, 115))
    flair_tr = generator.uniform(8000, 11000)
    csf_t1 = TISSUES[field_t]["csf"].t1_ms
    null_ti = -csf_t1 * np.log((1 + np.exp(-flair_tr / csf_t1)) / 2)
    flair = Protocol(
        "inversion_recovery", flair_tr, generator.uniform(90, 130), float(null_ti * generator.uniform(0.88, 1.08))
    )
    t1 = Protocol("spin_echo", tr, te)
    return {"t1": t1, "t1c": Protocol("spin_echo", tr, te, agent=True), "t2": t2, "flair": flair}


def sequence_signals(
    tissues: dict[str, Relaxation], protocol: Protocol, agent_mmol_l: dict[str, float], relaxivity: float
) -> dict[str, float]:
    """Signal of every compartment in one sequence (signed for inversion recovery).

    Parameters
    ----------
    tissues : dict of str to Relaxation
        One subject's constants. ``enhancing`` has the constants of ``solid``, penumbra those of healthy tissue.
    protocol : Protocol
    agent_mmol_l : dict of str to float
        Concentration of contrast agent by compartment, used if the protocol is with agent.
    relaxivity : float
        r1 in 1 / (mmol/l x s).
    """
    signals = {}
    for name in COMPARTMENTS:
        tissue = tissues[_SAME_AS.get(name, name)]
        concentration = agent_mmol_l.get(name, 0.0) if protocol.agent else 0.0
        t1 = enhanced_t1(tissue.t1_ms, relaxivity, concentration)
        if protocol.kind == "spin_echo":
            signals[name] = float(spin_echo(tissue.pd, t1, tissue.t2_ms, protocol.tr_ms, protocol.te_ms))
        else:
            signals[name] = float(
                inversion_recovery(tissue.pd, t1, tissue.t2_ms, protocol.tr_ms, protocol.te_ms, protocol.ti_ms)
            )
    if not protocol.agent:  # blood flows: mostly a void, unless contrast agent makes it bright
        signals["blood"] *= 0.35
    return signals


def mix(tissue: Tissue, signals: dict[str, float]) -> np.ndarray:
    """Partial volume: signal magnitude of every voxel, shape (D, H, W), from its shares and their (signed) signals."""
    total = np.zeros(tissue.grid.shape)
    for name, share in tissue.shares.items():
        total += signals[name] * share
    return np.abs(total)


#: Brightness of each compartment in random contrast, (low, high) of a uniform draw; brain is about 0 with spread 1.
#: Wide, but each sequence keeps what makes it that sequence: CSF is dark in T1 and FLAIR and bright in T2, tumour is
#: bright in FLAIR and T2 and faintly dark in T1, and enhancing tumour and vessels are bright in T1c only.
_RANDOM: dict[str, dict[str, tuple[float, float]]] = {
    "t1": {
        "csf": (-4.0, -2.0),
        "grey": (-0.6, 0.2),
        "white": (0.3, 1.1),
        "edema": (-0.7, 0.7),
        "solid": (-1.0, 0.6),
        "necrosis": (-2.5, 0.3),
        "wmh": (-0.4, 0.7),
        "blood": (-2.0, 1.5),
        "cavity": (-4.0, -1.5),
        "plaque": (-0.8, 0.6),
        "black_hole": (-2.5, -0.5),
        "active": (-0.9, 0.5),
        "acute_core": (-0.7, 0.4),
        "subacute_core": (-1.3, 0.3),
        "microcystic": (-2.2, 0.0),
        "hemorrhage": (0.5, 3.0),
    },
    "t1c": {
        "csf": (-4.0, -2.0),
        "grey": (-0.6, 0.2),
        "white": (0.2, 1.0),
        "edema": (-0.8, 0.7),
        "solid": (-1.0, 0.7),
        "enhancing": (1.2, 4.5),
        "necrosis": (-2.5, 0.2),
        "wmh": (-0.4, 0.7),
        "blood": (0.5, 4.5),
        "cavity": (-4.0, -1.5),
        "plaque": (-0.8, 0.6),
        "black_hole": (-2.5, -0.5),
        "active": (0.9, 4.0),
        "acute_core": (-0.7, 0.4),
        "subacute_core": (-1.3, 1.5),
        "microcystic": (-2.2, 0.0),
        "hemorrhage": (0.5, 3.0),
    },
    "t2": {
        "csf": (1.8, 4.5),
        "grey": (-0.4, 0.4),
        "white": (-1.2, -0.5),
        "edema": (0.3, 1.9),
        "solid": (0.3, 2.4),
        "necrosis": (0.8, 4.0),
        "wmh": (0.0, 1.2),
        "blood": (-2.0, 0.5),
        "cavity": (1.8, 4.5),
        "plaque": (0.2, 1.8),
        "black_hole": (0.7, 3.0),
        "active": (0.3, 2.0),
        "acute_core": (-0.1, 1.2),
        "subacute_core": (0.4, 2.4),
        "microcystic": (0.9, 4.0),
        "hemorrhage": (-2.5, 0.5),
    },
    "flair": {
        "csf": (-3.5, -1.5),
        "grey": (-0.1, 0.7),
        "white": (-0.7, 0.2),
        "edema": (1.0, 3.0),
        "solid": (0.8, 3.2),
        "necrosis": (-1.2, 3.0),
        "wmh": (0.6, 2.2),
        "blood": (-2.0, 0.5),
        "cavity": (-3.0, -0.3),
        "plaque": (0.9, 2.8),
        "black_hole": (-0.5, 2.4),
        "active": (1.0, 3.0),
        "acute_core": (0.2, 1.8),
        "subacute_core": (0.9, 3.0),
        "microcystic": (-1.0, 2.5),
        "hemorrhage": (-2.0, 1.5),
    },
}


#: Spread of the brain's values over their mean in random contrast, (low, high): that of real studies, and beyond.
_RANDOM_SPREAD = {"t1": (0.12, 0.32), "t1c": (0.12, 0.32), "t2": (0.22, 0.42), "flair": (0.16, 0.34)}


def random_signals(generator: np.random.Generator, sequence: str) -> dict[str, float]:
    """Draw an arbitrary positive signal for every compartment of a sequence, in the spirit of [5]_.

    Parameters
    ----------
    generator : numpy.random.Generator
    sequence : {"t1", "t1c", "t2", "flair"}
    """
    spread = generator.uniform(*_RANDOM_SPREAD[sequence])
    later = generator.spawn(1)[0]
    signals = {
        name: float((later if name in _LATER else generator).uniform(low, high))
        for name, (low, high) in _RANDOM[sequence].items()
    }
    for name, other in _SAME_AS.items():
        signals.setdefault(name, signals[other])
    return {name: float(max(0.03, 1 + spread * signals[name])) for name in COMPARTMENTS}
