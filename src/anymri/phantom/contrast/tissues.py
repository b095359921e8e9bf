"""Tissue constants: T1, T2, proton density, T2* and diffusion, of the head and the abdomen, at 1.5 T and 3 T.

Times are in milliseconds, diffusion coefficients in 10^-3 mm2/s.

References
----------
.. [1] R. K.-S. Kwan, A. C. Evans, G. B. Pike, MRI simulation-based evaluation of image-processing and
   classification methods, IEEE TMI 18(11), 1999, DOI 10.1109/42.816072: T1, T2 and proton density at 1.5 T.
.. [2] J. P. Wansapura et al., NMR relaxation times in the human brain at 3.0 tesla, J Magn Reson Imaging 9(4), 1999,
   DOI 10.1002/(SICI)1522-2586(199904)9:4<531::AID-JMRI4>3.0.CO;2-L: grey and white matter at 3 T.
.. [3] G. J. Stanisz et al., T1, T2 relaxation and magnetization transfer in tissue at 3T, Magn Reson Med 54(3),
   2005, DOI 10.1002/mrm.20605: blood, and grey and white matter at both fields.
.. [4] C. M. J. de Bazelaire et al., MR imaging relaxation times of abdominal and pelvic tissues measured in vivo at
   3.0 T, Radiology 230(3), 2004, DOI 10.1148/radiol.2303021331.
.. [5] A. M. Peters et al., T2* measurements in human brain at 1.5, 3 and 7 T, Magn Reson Imaging 25(6), 2007: R2*
   grows about linearly with the field.
.. [6] J. Helenius et al., Diffusion-weighted MR imaging in normal human brains in various age groups, AJNR 23(2),
   2002, PMC7975251: cortex 0.89, deep grey matter 0.75, white matter 0.70.
.. [7] C.-H. Toh et al., Primary cerebral lymphoma and glioblastoma multiforme: differences in diffusion
   characteristics, AJNR 29(3), 2008: enhancing glioblastoma 0.96 +- 0.12.
.. [8] M. G. Lansberg et al., Evolution of apparent diffusion coefficient, diffusion-weighted, and T2-weighted signal
   intensity of acute stroke, AJNR 22(4), 2001: low in the first week, pseudo-normal in the second.
.. [9] Y. X. J. Wang et al., letter on the triphasic relation of T2 and ADC, Quant Imaging Med Surg, 2024
   (qims.amegroups.org/article/view/131350): liver 1.1, spleen 0.8.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

__all__ = ["BODY", "TISSUES", "Relaxation", "draw_body", "draw_diffusion", "draw_tissues", "t2_star"]


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
SAME_AS = {"enhancing": "solid", "penumbra_grey": "grey", "penumbra_white": "white"}
#: Compartments added after the first version draw from a stream of their own, so that phantom40 stays as frozen.
LATER = ("cavity", "plaque", "black_hole", "active", "acute_core", "subacute_core", "microcystic", "hemorrhage")


def draw_tissues(generator: np.random.Generator) -> tuple[float, dict[str, Relaxation]]:
    """Draw a field strength (1.5 or 3 T) and one subject's relaxation constants around its table."""
    field_t = (1.5, 3.0)[int(generator.integers(2))]
    tissues = {}
    later = generator.spawn(1)[0]
    for name, value in TISSUES[field_t].items():
        stream = later if name in LATER else generator
        shared, own = stream.normal(0, _SPREAD.get(name, 0.03), 2)  # more water prolongs both
        t1, t2 = np.exp(0.7 * shared + 0.5 * own), np.exp(shared)
        tissues[name] = Relaxation(float(value.t1_ms * t1), float(value.t2_ms * t2), value.pd)
    return field_t, tissues


#: Constants of the abdomen by field strength. Liver, spleen, kidney (cortex, medulla), muscle and subcutaneous fat:
#: [4]_; `kidney`: three parts of cortex and one of medulla. Proton densities: ours.
BODY: dict[float, dict[str, Relaxation]] = {
    1.5: {
        "liver": Relaxation(586, 46, 0.80),
        "spleen": Relaxation(1057, 79, 0.86),
        "kidney": Relaxation(1078, 86, 0.88),
        "kidney_cortex": Relaxation(966, 87, 0.88),
        "kidney_medulla": Relaxation(1412, 85, 0.90),
        "muscle": Relaxation(856, 27, 0.80),
        "fat": Relaxation(343, 58, 0.90),
    },
    3.0: {
        "liver": Relaxation(809, 34, 0.80),
        "spleen": Relaxation(1328, 61, 0.86),
        "kidney": Relaxation(1243, 77, 0.88),
        "kidney_cortex": Relaxation(1142, 76, 0.88),
        "kidney_medulla": Relaxation(1545, 81, 0.90),
        "muscle": Relaxation(898, 29, 0.80),
        "fat": Relaxation(382, 68, 0.90),
    },
}

#: Share of the signal-giving protons that are fat's. Liver: ours, below the 5 % that count as fatty.
FAT_SHARE = {"fat": 0.92, "liver": 0.03, "muscle": 0.02}

#: What adds to 1/T2 in a gradient echo, in 1/s a tesla. 1.8: fits grey and white matter at 3 T to [5]_ (66 and 53 ms);
#: the others are ours: fluid hardly any, liver (iron), venous blood and old blood more.
_R2_PRIME = {"csf": 0.3, "cavity": 0.3, "necrosis": 1.0, "blood": 6.0, "hemorrhage": 20.0, "liver": 9.0, "spleen": 5.0}

#: Diffusion coefficients: grey (cortex and deep nuclei together) and white matter [6]_, solid and enhancing tumour
#: [7]_, liver and spleen [9]_. CSF: that of water at body temperature. All other lesions: ours, in the order that the
#: named studies report; acute core below the 0.62 by which software finds it.
_DIFFUSION = {
    "csf": 3.1, "grey": 0.83, "white": 0.70, "edema": 1.40, "solid": 0.98, "enhancing": 0.98, "necrosis": 1.90,
    "wmh": 1.00, "blood": 2.5, "cavity": 2.9, "plaque": 1.08, "black_hole": 1.35, "active": 1.10,
    "penumbra_grey": 0.81, "penumbra_white": 0.69, "acute_core": 0.48, "subacute_core": 0.80, "microcystic": 1.60,
    "hemorrhage": 0.75, "liver": 1.10, "spleen": 0.80, "kidney": 1.95, "kidney_cortex": 2.0, "kidney_medulla": 1.85,
    "muscle": 1.45, "fat": 0.05,
}  # fmt: skip
_DIFFUSION_SPREAD = {"edema": 0.06, "solid": 0.08, "necrosis": 0.12, "acute_core": 0.06, "microcystic": 0.08}


def t2_star(name: str, t2_ms: float, field_t: float) -> float:
    """T2* in ms of a tissue: ``1/T2* = 1/T2 + R2'``, R2' growing with the field."""
    return 1 / (1 / t2_ms + _R2_PRIME.get(name, 1.8) * field_t / 1000)


def draw_body(generator: np.random.Generator, field_t: float) -> dict[str, Relaxation]:
    """Draw one subject's constants of the abdomen around its table, 3 % spread as healthy tissue of the head has."""
    factors = np.exp(generator.normal(0, 0.03, (len(BODY[field_t]), 2)))
    return {
        name: replace(value, t1_ms=float(value.t1_ms * t1), t2_ms=float(value.t2_ms * t2))
        for (name, value), (t1, t2) in zip(BODY[field_t].items(), factors, strict=True)
    }


def draw_diffusion(generator: np.random.Generator, age_h: float | None = None) -> dict[str, float]:
    """Draw one subject's diffusion coefficients, 10^-3 mm2/s.

    Parameters
    ----------
    generator : numpy.random.Generator
    age_h : float, optional
        Age of a stroke: the coefficient of a sub-acute core rises evenly from 0.52 at two days to 0.88 at fourteen,
        pseudo-normal in the second week [8]_.
    """
    values = dict(_DIFFUSION)
    if age_h is not None:
        values["subacute_core"] = 0.52 + 0.36 * float(np.clip((age_h - 48) / (336 - 48), 0, 1))
    values = {
        name: float(v * np.exp(generator.normal(0, _DIFFUSION_SPREAD.get(name, 0.03)))) for name, v in values.items()
    }
    values["enhancing"] = values["solid"]
    return values
