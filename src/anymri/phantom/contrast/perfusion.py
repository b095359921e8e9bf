"""Perfusion maps: blood flow, blood volume, time to peak and Tmax of every tissue, healthy and short of blood.

References
----------
.. [1] Comparison of T1-based and T2*-based first-pass perfusion parameters, PMC5801598: grey matter 60.5 ml/100 g/min
   and 5.0 ml/100 g, white matter 32.0 and 1.84.
.. [2] C. Chen et al., What is the "optimal" target mismatch criteria for acute ischemic stroke?, Front Neurol 11, 2021,
   DOI 10.3389/fneur.2020.590766: core where blood flow is below 30 % of normal.
.. [3] J. M. Olivot et al., Hypoperfusion intensity ratio predicts infarct progression and functional outcome in the
   DEFUSE 2 cohort, Stroke 45(4), 2014, DOI 10.1161/STROKEAHA.113.003857: lesion at Tmax > 6 s, severe at > 10 s.
.. [4] A. Wouters et al., A comparison of relative time to peak and Tmax for mismatch-based patient selection, Front
   Neurol 8, 2017, DOI 10.3389/fneur.2017.00539: Tmax > 6 s corresponds to a time to peak 4.5 s later than normal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anymri.phantom.noise import smooth_noise
from anymri.phantom.pathology import COMPARTMENTS, Tissue

__all__ = ["Perfusion", "draw_perfusion", "perfusion_map"]


@dataclass(frozen=True)
class Perfusion:
    """Blood supply of a tissue: flow in ml/100 g/min, volume in ml/100 g, delay (Tmax) in s."""

    cbf: float
    cbv: float
    tmax_s: float


#: Grey and white matter: [1]_. The others: ours; vascular tumour above, oedema and necrosis below white matter.
_NORMAL: dict[str, Perfusion] = {
    "csf": Perfusion(1.0, 0.15, 1.5),
    "grey": Perfusion(60, 5.0, 1.0),
    "white": Perfusion(32, 1.9, 1.6),
    "edema": Perfusion(20, 1.4, 2.0),
    "solid": Perfusion(45, 3.5, 1.4),
    "enhancing": Perfusion(85, 8.0, 1.2),
    "necrosis": Perfusion(4, 0.5, 2.5),
    "wmh": Perfusion(20, 1.4, 1.8),
    "blood": Perfusion(250, 45, 0.5),
    "cavity": Perfusion(1.0, 0.15, 1.5),
    "plaque": Perfusion(22, 1.5, 1.8),
    "black_hole": Perfusion(16, 1.2, 1.9),
    "active": Perfusion(40, 2.6, 1.4),
    "subacute_core": Perfusion(45, 3.2, 1.4),
    "microcystic": Perfusion(25, 1.8, 1.6),
    "hemorrhage": Perfusion(5, 0.6, 2.0),
}


def draw_perfusion(generator: np.random.Generator) -> tuple[dict[str, Perfusion], float]:
    """Draw one subject's blood supply and the time in s at which contrast agent peaks where nothing delays it.

    Parameters
    ----------
    generator : numpy.random.Generator

    Notes
    -----
    Penumbra: flow 35 to 60 % of normal, volume 90 to 125 % (vessels widen), Tmax 7 to 10.5 s. Core: flow 8 to 25 %,
    below the 30 % of [2]_, volume 20 to 50 %, Tmax 10 to 15 s, above the 10 s of [3]_; a sub-acute core is perfused
    again. Ranges are ours between the sources' thresholds.
    """
    gain_flow, gain_volume = np.exp(generator.normal(0, 0.12, 2))
    shares = generator.uniform([0.35, 0.90, 7.0, 0.08, 0.20, 10.0], [0.60, 1.25, 10.5, 0.25, 0.50, 15.0])
    risk_flow, risk_volume, risk_tmax, core_flow, core_volume, core_tmax = (float(value) for value in shares)
    values = dict(_NORMAL)
    for part in ("grey", "white"):
        normal = _NORMAL[part]
        values[f"penumbra_{part}"] = Perfusion(normal.cbf * risk_flow, normal.cbv * risk_volume, risk_tmax)
    middle = (_NORMAL["grey"].cbf + _NORMAL["white"].cbf) / 2, (_NORMAL["grey"].cbv + _NORMAL["white"].cbv) / 2
    values["acute_core"] = Perfusion(middle[0] * core_flow, middle[1] * core_volume, core_tmax)
    drawn = {
        name: Perfusion(float(values[name].cbf * gain_flow), float(values[name].cbv * gain_volume), values[name].tmax_s)
        for name in COMPARTMENTS
        if name in values
    }
    return drawn, float(generator.uniform(16, 26))


def perfusion_map(
    tissue: Tissue, kind: str, supply: dict[str, Perfusion], peak_s: float, generator: np.random.Generator
) -> np.ndarray:
    """One map, shape (D, H, W): ``cbf`` in ml/100 g/min, ``cbv`` in ml/100 g, ``ttp`` and ``tmax`` in s.

    Parameters
    ----------
    tissue : Tissue
    kind : {"cbf", "cbv", "ttp", "tmax"}
    supply : dict of str to Perfusion
    peak_s : float
        Time to peak without delay.
    generator : numpy.random.Generator
        Of the patchiness; the same state for all four maps, which are maps of one blood supply.

    Notes
    -----
    Flow and volume of a voxel are means over its tissues, times are weighted by volume of blood: where there is none,
    nothing tells the time. Time to peak follows Tmax by 0.75 [4]_. The patchiness (8 %, over 25 mm) is ours.
    """
    patchy = np.exp(0.08 * smooth_noise(generator, tissue.grid, 25.0)) * tissue.brain
    volume = sum(supply[name].cbv * share for name, share in tissue.shares.items())
    if kind == "cbv":
        return volume * patchy
    if kind == "cbf":
        return sum(supply[name].cbf * share for name, share in tissue.shares.items()) * patchy
    delay = sum(supply[name].cbv * supply[name].tmax_s * share for name, share in tissue.shares.items())
    tmax = np.divide(delay, volume, out=np.zeros(tissue.grid.shape), where=volume > 0) / np.where(
        tissue.brain, patchy, 1
    )
    return tmax if kind == "tmax" else (peak_s + 0.75 * tmax) * tissue.brain
