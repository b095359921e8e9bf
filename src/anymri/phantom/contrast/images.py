"""Ideal images of every sequence from tissue shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from anymri.phantom.contrast.perfusion import draw_perfusion, perfusion_map
from anymri.phantom.contrast.protocol import Protocol, draw_further_protocol, draw_protocols, override
from anymri.phantom.contrast.randomised import jitter, random_signals
from anymri.phantom.contrast.signal import (
    diffusion_decay,
    double_inversion_recovery,
    enhanced_t1,
    inversion_recovery,
    mp_rage,
    spin_echo,
    spoiled_gradient_echo,
    water_fat_phase,
)
from anymri.phantom.contrast.tissues import (
    BODY,
    FAT_SHARE,
    SAME_AS,
    Relaxation,
    draw_body,
    draw_diffusion,
    draw_tissues,
    t2_star,
)
from anymri.phantom.pathology import COMPARTMENTS, Tissue
from anymri.phantom.settings import MODALITIES, PERFUSION, PhantomSettings

__all__ = ["ideal_images", "mix", "sequence_signals", "tissue_signal"]

#: Blood flows: mostly a void in spin echoes, unless contrast agent makes it bright. Gradient echoes see it.
_FLOW_VOID = 0.35
_NO_VOID = ("mp_rage", "gradient_echo")


def _one_pool(name: str, tissue: Relaxation, t1_ms: float, protocol: Protocol, field_t: float) -> float:
    """Signed signal of a tissue as if it were all water, or all fat."""
    pd, t2, tr, te = tissue.pd, tissue.t2_ms, protocol.tr_ms, protocol.te_ms
    if protocol.kind == "inversion_recovery":
        return float(inversion_recovery(pd, t1_ms, t2, tr, te, protocol.ti_ms))
    if protocol.kind == "double_inversion":
        return float(double_inversion_recovery(pd, t1_ms, t2, tr, te, protocol.ti_ms, protocol.ti2_ms))
    if protocol.kind == "gradient_echo":
        return float(spoiled_gradient_echo(pd, t1_ms, t2_star(name, t2, field_t), tr, te, protocol.flip_degrees))
    if protocol.kind == "mp_rage":
        star = t2_star(name, t2, field_t)
        train = (protocol.flip_degrees, protocol.pulses, protocol.pulse_ms)
        return float(mp_rage(pd, t1_ms, star, tr, te, protocol.ti_ms, *train))
    return float(spin_echo(pd, t1_ms, t2, tr, te))


def tissue_signal(
    name: str,
    tissue: Relaxation,
    protocol: Protocol,
    *,
    field_t: float = 3.0,
    relaxation_rate: float = 0.0,
    adc: float = 0.0,
) -> complex | float:
    """Signal of one tissue in one sequence, signed; complex where water and fat differ in phase.

    Parameters
    ----------
    name : str
        Of the tissue: says its share of fat and its T2*.
    tissue : Relaxation
    protocol : Protocol
    field_t : float
        1.5 or 3.
    relaxation_rate : float
        What contrast agent adds to 1/T1, in 1/s: relaxivity times concentration.
    adc : float
        Diffusion coefficient in 10^-3 mm2/s.
    """
    t1_ms = enhanced_t1(tissue.t1_ms, relaxation_rate, 1.0)
    water = _one_pool(name, tissue, float(t1_ms), protocol, field_t)
    if protocol.kind == "diffusion":
        water *= float(diffusion_decay(adc, protocol.b_s_mm2))
    share = FAT_SHARE.get(name, 0.0)
    if share == 0:
        return water
    lipid = BODY[field_t]["fat"]
    fat = _one_pool(
        "fat", lipid if name != "fat" else tissue, (lipid if name != "fat" else tissue).t1_ms, protocol, field_t
    )
    fat *= protocol.fat_left
    if protocol.kind != "gradient_echo":
        return (1 - share) * water + share * fat
    return (1 - share) * water + share * fat * np.exp(1j * water_fat_phase(protocol.te_ms, field_t))


def sequence_signals(
    tissues: dict[str, Relaxation],
    protocol: Protocol,
    agent_mmol_l: dict[str, float],
    relaxivity: float,
    *,
    field_t: float = 3.0,
    diffusion: Mapping[str, float] | None = None,
) -> dict[str, complex | float]:
    """Signal of every compartment with constants in one sequence (signed for inversion recovery).

    Parameters
    ----------
    tissues : dict of str to Relaxation
        One subject's constants. ``enhancing`` has the constants of ``solid``, penumbra those of healthy tissue.
    protocol : Protocol
    agent_mmol_l : dict of str to float
        Concentration of contrast agent by compartment, used if the protocol is with agent.
    relaxivity : float
        r1 in 1 / (mmol/l x s).
    field_t : float
        1.5 or 3; for what depends on T2*.
    diffusion : dict of str to float, optional
        Diffusion coefficients in 10^-3 mm2/s, for diffusion-weighted sequences.
    """
    signals: dict[str, complex | float] = {}
    for name in COMPARTMENTS:
        constants = tissues.get(SAME_AS.get(name, name))
        if constants is None:
            continue
        concentration = agent_mmol_l.get(name, 0.0) if protocol.agent else 0.0
        signals[name] = tissue_signal(
            name, constants, protocol,
            field_t=field_t, relaxation_rate=relaxivity * concentration, adc=(diffusion or {}).get(name, 0.0),
        )  # fmt: skip
    if not protocol.agent and protocol.kind not in _NO_VOID:
        signals["blood"] *= _FLOW_VOID
    return signals


def mix(tissue: Tissue, signals: Mapping[str, complex | float]) -> np.ndarray:
    """Partial volume: signal magnitude of every voxel, shape (D, H, W), from its shares and their (signed) signals."""
    total = np.zeros(tissue.grid.shape, complex if np.iscomplexobj(list(signals.values())) else float)
    for name, share in tissue.shares.items():
        total += signals[name] * share
    return np.abs(total)


#: One sequence's random stream by its name.
Stream = Callable[[str], np.random.Generator]


@dataclass(frozen=True)
class _Patient:
    """What holds for all sequences of one subject; agent in mmol/l, relaxivity in 1 / (mmol/l x s)."""

    field_t: float
    tissues: dict[str, Relaxation]
    agent_mmol_l: dict[str, float]
    relaxivity: float

    def signals(self, protocol: Protocol, diffusion: Mapping[str, float] | None = None) -> dict[str, complex | float]:
        """Signal of every compartment in a sequence."""
        return sequence_signals(
            self.tissues, protocol, self.agent_mmol_l, self.relaxivity, field_t=self.field_t, diffusion=diffusion
        )


def _draw_patient(
    generator: np.random.Generator, tissue: Tissue, stream: Stream
) -> tuple[_Patient, dict[str, Protocol]]:
    """Field strength, constants and agent of a subject, and the protocols of its T1, T1c, T2 and FLAIR."""
    field_t, tissues = draw_tissues(generator)
    protocols = draw_protocols(generator, field_t)
    relaxivity = 4.1 if field_t < 2 else 3.7  # gadopentetate in plasma, Rohrer 2005
    later = generator.spawn(1)[0]
    agent = {"enhancing": float(generator.uniform(0.15, 0.9)), "blood": float(generator.uniform(0.3, 1.2))}
    agent |= {"active": float(later.uniform(0.1, 0.5)), "subacute_core": float(later.uniform(0.0, 0.15))}
    if BODY[field_t].keys() & tissue.shares.keys():
        tissues |= draw_body(stream("body"), field_t)
    return _Patient(field_t, tissues, agent, relaxivity), protocols


def _map(
    tissue: Tissue, weighted: Mapping[str, complex | float], plain: Mapping[str, complex | float], b_s_mm2: float
) -> np.ndarray:
    """Diffusion coefficient in 10^-3 mm2/s as scanners compute it, from two images: with their partial volume."""
    pair = [np.maximum(mix(tissue, signals), 1e-9) for signals in (plain, weighted)]
    return np.where(tissue.brain, np.log(pair[0] / pair[1]) / b_s_mm2 * 1000, 0.0)


def ideal_images(
    generator: np.random.Generator, tissue: Tissue, settings: PhantomSettings, codes: Sequence[str], stream: Stream
) -> tuple[dict[str, np.ndarray], dict]:
    """Images without artifacts, and the drawn contrast parameters.

    Parameters
    ----------
    generator : numpy.random.Generator
        Of T1, T1c, T2 and FLAIR.
    tissue : Tissue
    settings : PhantomSettings
    codes : sequence of str
        Sequences to make.
    stream : callable
        Name to a random stream of its own, for everything else: no image depends on which others are made.

    Returns
    -------
    images : dict of str to ndarray of float64, shape (D, H, W)
        Signals in arbitrary units; maps in 10^-3 mm2/s, ml/100 g/min, ml/100 g and s.
    parameters : dict
    """
    random = settings.contrast == "random"
    drawn: dict[str, Mapping[str, complex | float]]
    if random:
        drawn = {code: random_signals(generator, code) for code in MODALITIES}
        parameters: dict = {"signals": drawn}
    further = [code for code in codes if code not in MODALITIES]
    if not random or further:
        patient, protocols = _draw_patient(stream("tissues") if random else generator, tissue, stream)
        protocols = {code: override(code, each, settings.protocols) for code, each in protocols.items()}
    if not random:
        parameters = {
            "field_t": patient.field_t,
            "tissues": {name: asdict(value) for name, value in patient.tissues.items()},
            "protocols": {code: value.to_dict() for code, value in protocols.items()},
            "agent_mmol_l": patient.agent_mmol_l,
            "relaxivity": patient.relaxivity,
        }
        drawn = {code: patient.signals(protocols[code]) for code in MODALITIES if code in codes}
    images = {code: mix(tissue, drawn[code]) for code in codes if code in MODALITIES}
    if further:
        more, record = _further_images(tissue, patient, settings, further, stream)
        images |= more
        parameters["protocols"] = parameters.get("protocols", {}) | record.pop("protocols")
        parameters |= record
    return {code: images[code] for code in codes}, parameters


def _further_images(
    tissue: Tissue, patient: _Patient, settings: PhantomSettings, codes: Sequence[str], stream: Stream
) -> tuple[dict[str, np.ndarray], dict]:
    """Ideal images beyond T1, T1c, T2 and FLAIR, and what was drawn for them."""
    spread = 0.15 if settings.contrast == "random" else 0.0
    images: dict[str, np.ndarray] = {}
    record: dict = {"field_t": patient.field_t, "protocols": {}}
    diffusion: dict[str, float] = {}
    if {"dwi", "adc", "md"} & set(codes):
        diffusion = draw_diffusion(stream("diffusion"), tissue.parameters.get("age_h"))
        diffusion = jitter(stream("diffusion jitter"), diffusion, spread)
        record["diffusion_um2_ms"] = {name: diffusion[name] for name in COMPARTMENTS if name in diffusion}
    if set(PERFUSION) & set(codes):
        supply, peak_s = draw_perfusion(stream("perfusion"))
        record |= {"perfusion": {name: asdict(value) for name, value in supply.items()}, "time_to_peak_s": peak_s}
    for code in codes:
        if code in PERFUSION:
            images[code] = perfusion_map(tissue, code, supply, peak_s, stream("patchiness"))
            continue
        source = "dwi" if code in ("adc", "md") else code
        echoes = "t1_dual" if code in ("t1_in", "t1_out") else source
        protocol = override(
            source, draw_further_protocol(stream(f"{echoes} protocol"), source, patient.field_t), settings.protocols
        )
        record["protocols"][source] = protocol.to_dict()
        signals = jitter(stream(f"{echoes} jitter"), patient.signals(protocol, diffusion), spread)
        if code in ("adc", "md"):
            plain = jitter(
                stream(f"{echoes} jitter"), patient.signals(replace(protocol, b_s_mm2=0.0), diffusion), spread
            )
            images[code] = _map(tissue, signals, plain, protocol.b_s_mm2)
        else:
            images[code] = mix(tissue, signals)
    return images, record
