"""Sequence protocols: times, angles and diffusion weighting, drawn or given.

Times are in milliseconds. All ranges are ours, around usual clinical protocols.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from anymri.errors import UserError
from anymri.phantom.contrast.signal import double_inversion_times, inversion_null
from anymri.phantom.contrast.tissues import TISSUES

__all__ = ["KINDS", "Protocol", "check_overrides", "draw_further_protocol", "draw_protocols", "override"]

#: Quantities that the signal equation of each kind of sequence takes.
KINDS: dict[str, tuple[str, ...]] = {
    "spin_echo": ("tr_ms", "te_ms"),
    "inversion_recovery": ("tr_ms", "te_ms", "ti_ms"),
    "double_inversion": ("tr_ms", "te_ms", "ti_ms", "ti2_ms"),
    "mp_rage": ("tr_ms", "te_ms", "ti_ms", "flip_degrees", "pulse_ms"),
    "gradient_echo": ("tr_ms", "te_ms", "flip_degrees"),
    "diffusion": ("tr_ms", "te_ms", "b_s_mm2", "fat_left"),
    "fat_suppressed": ("tr_ms", "te_ms", "fat_left"),
}


@dataclass(frozen=True)
class Protocol:
    """Protocol of one sequence.

    Parameters
    ----------
    kind : str
        A key of `KINDS`.
    tr_ms, te_ms : float
    ti_ms, ti2_ms : float
        Inversion times, where the kind has them.
    agent : bool, default=False
        With contrast agent.
    flip_degrees : float
    pulse_ms : float
        From pulse to pulse of the train of an MP-RAGE, which has `pulses` of them.
    pulses : int
    b_s_mm2 : float
        Diffusion weighting.
    fat_left : float
        Share of the fat signal that suppression leaves.

    Raises
    ------
    UserError
        If the times, angle or shares do not make a sequence.
    """

    kind: str
    tr_ms: float
    te_ms: float
    ti_ms: float = 0.0
    agent: bool = False
    ti2_ms: float = 0.0
    flip_degrees: float = 90.0
    pulse_ms: float = 0.0
    pulses: int = 0
    b_s_mm2: float = 0.0
    fat_left: float = 1.0

    def __post_init__(self) -> None:
        for name in KINDS[self.kind]:
            value, may_be_zero = getattr(self, name), name in ("b_s_mm2", "fat_left")
            if not math.isfinite(value) or value < 0 or (value == 0 and not may_be_zero):
                raise UserError(
                    f"phantom: {name} is {value:g}; choose a number {'of 0 or more' if may_be_zero else 'above 0'}"
                )
        if self.te_ms > 1000 or self.b_s_mm2 > 10_000:
            raise UserError(
                f"phantom: TE {self.te_ms:g} ms and b {self.b_s_mm2:g} s/mm2 leave no signal; at most 1000 and 10000"
            )
        if not self.te_ms < self.tr_ms or not self.ti_ms < self.tr_ms:
            raise UserError(
                f"phantom: TE {self.te_ms:g} and TI {self.ti_ms:g} ms must be shorter than TR {self.tr_ms:g} ms"
            )
        if self.ti2_ms and not self.ti2_ms < self.ti_ms:
            raise UserError(f"phantom: TI2 {self.ti2_ms:g} ms must be shorter than TI {self.ti_ms:g} ms")
        if self.flip_degrees > 90 or self.fat_left > 1:
            raise UserError(
                f"phantom: flip angle {self.flip_degrees:g} degrees, fat left {self.fat_left:g}; at most 90 and 1"
            )
        half_ms = self.pulses // 2 * self.pulse_ms
        if half_ms and not half_ms < min(self.ti_ms, self.tr_ms - self.ti_ms):
            raise UserError(
                f"phantom: {self.pulses} pulses every {self.pulse_ms:g} ms do not fit around TI {self.ti_ms:g} in TR "
                f"{self.tr_ms:g} ms; lengthen TI and TR"
            )

    def to_dict(self) -> dict:
        """Kind, agent, and the quantities that its equation takes, for the provenance file."""
        values = asdict(self)
        names = ("kind", "agent", *KINDS[self.kind], *(("pulses",) if self.pulses else ()))
        return {name: values[name] for name in names}


def draw_protocols(generator: np.random.Generator, field_t: float) -> dict[str, Protocol]:
    """Draw the times of T1, T1c, T2 and FLAIR.

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
    null_ti = inversion_null(csf_t1, flair_tr)
    flair = Protocol(
        "inversion_recovery", flair_tr, generator.uniform(90, 130), float(null_ti * generator.uniform(0.88, 1.08))
    )
    t1 = Protocol("spin_echo", tr, te)
    return {"t1": t1, "t1c": Protocol("spin_echo", tr, te, agent=True), "t2": t2, "flair": flair}


#: Ranges of the further sequences: kind, then quantity to (low, high). TI of MP-RAGE to the middle of its train.
_RANGES: dict[str, tuple[str, dict[str, tuple[float, float]]]] = {
    "pd": ("spin_echo", {"tr_ms": (2200, 4000), "te_ms": (10, 30)}),
    "mprage": (
        "mp_rage",
        {
            "tr_ms": (1900, 2500),
            "te_ms": (2.2, 3.6),
            "ti_ms": (850, 1050),
            "flip_degrees": (7, 10),
            "pulse_ms": (6.5, 8.5),
        },
    ),
    "dir": ("double_inversion", {"tr_ms": (6500, 9000), "te_ms": (20, 40)}),
    "dwi": ("diffusion", {"tr_ms": (3500, 6500), "te_ms": (65, 100), "fat_left": (0.02, 0.10)}),
    "t2_spir": ("fat_suppressed", {"tr_ms": (1600, 3000), "te_ms": (70, 90), "fat_left": (0.02, 0.08)}),
    "t1_in": ("gradient_echo", {"tr_ms": (110, 200), "flip_degrees": (60, 80)}),
    "t1_out": ("gradient_echo", {"tr_ms": (110, 200), "flip_degrees": (60, 80)}),
}
_MPRAGE_PULSES = 160
#: Echo times in ms at which water and fat are opposed (1) and in phase (2), by field strength.
_FAT_TE = {1.5: {"t1_out": 2.24, "t1_in": 4.47}, 3.0: {"t1_out": 1.12, "t1_in": 2.24}}


def draw_further_protocol(generator: np.random.Generator, sequence: str, field_t: float) -> Protocol:
    """Draw the protocol of a sequence beyond T1, T1c, T2 and FLAIR.

    Parameters
    ----------
    generator : numpy.random.Generator
        ``t1_in`` and ``t1_out`` are two echoes of one acquisition: give both the same state.
    sequence : {"pd", "mprage", "dir", "dwi", "t2_spir", "t1_in", "t1_out"}
    field_t : float
        1.5 or 3.

    Notes
    -----
    DIR: TI and TI2 null the table's white matter and CSF, each at most 3 % away. DWI: b = 1000 s/mm2.
    """
    kind, ranges = _RANGES[sequence]
    values: dict[str, Any] = {name: float(generator.uniform(low, high)) for name, (low, high) in ranges.items()}
    if sequence == "dir":
        table = TISSUES[field_t]
        first, second = double_inversion_times(table["white"].t1_ms, table["csf"].t1_ms, values["tr_ms"])
        values |= {"ti_ms": first * generator.uniform(0.98, 1.02), "ti2_ms": second * generator.uniform(0.97, 1.03)}
    if sequence == "dwi":
        values["b_s_mm2"] = 1000.0
    if sequence in _FAT_TE[field_t]:
        values["te_ms"] = _FAT_TE[field_t][sequence]
    if sequence == "mprage":
        return Protocol(kind, **values, pulses=_MPRAGE_PULSES)
    return Protocol(kind, **values)


_KIND_OF = {"t1": "spin_echo", "t1c": "spin_echo", "t2": "spin_echo", "flair": "inversion_recovery"} | {
    name: kind for name, (kind, _) in _RANGES.items()
}
#: What is computed from another sequence.
_COMPUTED = {"adc": "dwi", "md": "dwi"}


def override(sequence: str, protocol: Protocol, overrides: Mapping[str, float]) -> Protocol:
    """The protocol with what the user said about it, e.g. ``{"flair:ti_ms": 2200}``."""
    parts = [(*key.partition(":")[::2], value) for key, value in overrides.items()]
    changes: dict[str, Any] = {name: float(value) for code, name, value in parts if code == sequence}
    return replace(protocol, **changes)


def check_overrides(overrides: Mapping[str, float], sequences: tuple[str, ...]) -> None:
    """Check what a user says about protocols before anything is drawn.

    Parameters
    ----------
    overrides : dict of str to float
        ``"<sequence>:<quantity>"`` to its value, for all subjects.
    sequences : tuple of str
        The sequences of the study.

    Raises
    ------
    UserError
        If a sequence or quantity is unknown, or no protocol of the ranges can have the value.
    """
    for key, value in overrides.items():
        sequence, _, name = key.partition(":")
        source = [code for code in sequences if _COMPUTED.get(code, code) == sequence]
        if sequence not in _KIND_OF or not source:
            with_protocol = [code for code in dict.fromkeys(_COMPUTED.get(c, c) for c in sequences) if code in _KIND_OF]
            raise UserError(
                f"phantom: protocol {key!r} names no sequence of this study that has a protocol; choose "
                f"{', '.join(with_protocol) or 'other modalities'}"
            )
        if name not in KINDS[_KIND_OF[sequence]]:
            known = ", ".join(f"{sequence}:{quantity}" for quantity in KINDS[_KIND_OF[sequence]])
            raise UserError(f"phantom: unknown protocol quantity {key!r}; choose {known}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"phantom: protocol {key} is {value!r}; choose a number")
        if name == "b_s_mm2" and value == 0 and {"adc", "md"} & set(sequences):
            raise UserError("phantom: without diffusion weighting (b_s_mm2 0) there is no adc; choose b above 0")
    for sequence in dict.fromkeys(key.partition(":")[0] for key in overrides):
        for seed in range(16):  # a value that only some draws of the other quantities allow is refused too
            generator = np.random.default_rng(seed)
            field_t = (1.5, 3.0)[seed % 2]
            drawn = (
                draw_further_protocol(generator, sequence, field_t)
                if sequence in _RANGES
                else draw_protocols(generator, field_t)[sequence]
            )
            try:
                override(sequence, drawn, overrides)
            except UserError as error:
                raise UserError(f"{error!s} ({sequence})") from None
