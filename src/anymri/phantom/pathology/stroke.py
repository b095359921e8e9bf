"""Ischaemic stroke: core and penumbra in the territory of one artery.

References
----------
.. [1] M. G. Lansberg et al., Evolution of apparent diffusion coefficient, diffusion-weighted, and T2-weighted signal
   intensity of acute stroke, AJNR 22(4), 2001: low ADC in the first week, pseudo-normal in the second, later high;
   DWI and T2-weighted signal high throughout.
.. [2] R. G. Gonzalez, Clinical MRI of acute ischemic stroke, J Magn Reson Imaging 36(2), 2012, DOI 10.1002/jmri.23595:
   diffusion shows the core, perfusion the tissue at risk.
.. [3] Acute ischemic infarct topology and stroke severity in 238 patients, AJNR, 2021, PMC7963653: mean volume 77 ml
   where insula, lentiform nucleus or corona radiata were hit, 16 ml elsewhere, the spread above the mean in both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anymri.phantom.anatomy import Anatomy, Shape
from anymri.phantom.noise import smooth_noise
from anymri.phantom.pathology.healthy import make_hyperintensities, make_vessels
from anymri.phantom.pathology.spread import mass_effect
from anymri.phantom.pathology.tissue import Tissue, combine, connected, fill, level_for_volume, sigmoid

__all__ = ["StrokePlan", "grow_stroke", "plan_stroke"]

PENUMBRA, CORE = 1, 2


@dataclass(frozen=True)
class Territory:
    """What one artery supplies: middle and half axes (z, y, |x|) in MNI mm, where its flow ends first, how often."""

    middle_mm: tuple[float, float, float]
    half_mm: tuple[float, float, float]
    first_mm: tuple[float, float, float]
    share: float
    largest_ml: float


#: Arteries, roughly, by eye on the template; shares are ours.
TERRITORIES = {
    "middle cerebral": Territory((14, -14, 46), (34, 44, 26), (8, -6, 36), 0.68, 240),
    "anterior cerebral": Territory((34, 28, 9), (30, 36, 11), (24, 36, 8), 0.08, 60),
    "posterior cerebral": Territory((2, -70, 18), (20, 26, 18), (0, -76, 14), 0.12, 60),
    "cerebellar": Territory((-40, -62, 26), (16, 20, 22), (-42, -64, 24), 0.12, 40),
}


@dataclass(frozen=True)
class StrokePlan:
    """A stroke before it is filled in.

    Parameters
    ----------
    artery : str
        A key of `TERRITORIES`.
    side : int
        -1 left, 1 right.
    stage : {"acute", "subacute"}
    core_ml, penumbra_ml : float
    push_mm : ndarray of float64, shape (3, D, H, W), or None
        Displacement by a swollen infarct.
    parameters : dict
    """

    artery: str
    side: int
    stage: str
    core_ml: float
    penumbra_ml: float
    push_mm: np.ndarray | None
    parameters: dict


def plan_stroke(generator: np.random.Generator, shape: Shape, stage: str) -> StrokePlan:
    """Draw a stroke's artery, side, size and age.

    Parameters
    ----------
    generator : numpy.random.Generator
    shape : Shape
    stage : {"acute", "subacute"}

    Notes
    -----
    Core: log-normal, median 20 ml, kept within 0.5 ml and what the artery supplies; after [3]_. Acute (2 to 24 hours):
    penumbra 0.3 to 6 times the core. Sub-acute (2 to 14 days): perfusion has come back, there is no penumbra, and
    large infarcts swell.
    """
    artery = list(TERRITORIES)[int(generator.choice(len(TERRITORIES), p=[t.share for t in TERRITORIES.values()]))]
    territory = TERRITORIES[artery]
    side = int(generator.choice([-1, 1]))
    core_ml = float(np.clip(20 * np.exp(generator.normal(0, 1.1)), 0.5, 0.8 * territory.largest_ml))
    wanted_ml = core_ml * float(np.clip(1.6 * np.exp(generator.normal(0, 0.7)), 0.3, 6))
    age_h = float(generator.uniform(2, 24) if stage == "acute" else generator.uniform(48, 336))
    swelling = float(generator.uniform(0.05, 0.2))
    penumbra_ml = min(wanted_ml, territory.largest_ml - core_ml) if stage == "acute" else 0.0
    push_mm = None
    if stage == "subacute" and core_ml > 15:
        place = np.array(territory.first_mm) * [1, 1, side]
        squared = sum((axis - middle) ** 2 for axis, middle in zip(shape.coordinates_mm, place, strict=True))
        voxel = np.array(np.unravel_index(int(np.argmin(squared)), shape.grid.shape)) + np.array(shape.grid.start)
        radius_mm = (core_ml * 1000 * 3 / (4 * np.pi)) ** (1 / 3)
        push_mm = mass_effect(shape, (voxel[None] + 0.5) * shape.grid.spacing_mm, np.full((1, 3), radius_mm), swelling)
    parameters = {
        "kind": f"stroke, {stage}", "artery": artery, "side": "left" if side < 0 else "right", "age_h": age_h,
        "core_ml": core_ml, "penumbra_ml": penumbra_ml, "swelling": swelling if push_mm is not None else 0.0,
    }  # fmt: skip
    return StrokePlan(artery, side, stage, core_ml, penumbra_ml, push_mm, parameters)


def _distance(anatomy: Anatomy, middle_mm: tuple, half_mm: tuple | float, side: int) -> np.ndarray:
    """Distance from a place in MNI space on one side, in units of half axes."""
    half = np.broadcast_to(half_mm, 3)
    place = np.array(middle_mm) * [1, 1, side]
    squared = sum(
        ((axis - middle) / extent) ** 2
        for axis, middle, extent in zip(anatomy.coordinates_mm, place, half, strict=True)
    )
    return np.sqrt(squared)


def grow_stroke(generator: np.random.Generator, plan: StrokePlan, anatomy: Anatomy, wmh_share: float) -> Tissue:
    """Fill a planned stroke into a subject's anatomy.

    Parameters
    ----------
    generator : numpy.random.Generator
    plan : StrokePlan
    anatomy : Anatomy
    wmh_share : float
        Share of subjects with white matter hyperintensities.

    Returns
    -------
    Tissue
        Labels 1: penumbra, 2: core.

    Notes
    -----
    Tissue that lacks flow is a level set of the distance within the territory, the core one of the distance from
    where the flow ends first, both made irregular by noise. Acute core: low ADC, T2 hardly raised; sub-acute core:
    pseudo-normal ADC, long T1 and T2 (so that DWI stays bright by T2), some uptake of contrast agent [1]_.
    """
    grid, territory = anatomy.grid, TERRITORIES[plan.artery]
    rough = np.exp(
        0.2 * smooth_noise(generator, grid, 20.0)
        + 0.12 * smooth_noise(generator, grid, 9.0)
        + 0.08 * smooth_noise(generator, grid, 5.0)
    )
    same_side = anatomy.coordinates_mm[2] * plan.side > 1.0
    allowed = anatomy.brain & same_side & (anatomy.ventricle < 0.3) & (anatomy.csf < 0.5)
    territory_score = _distance(anatomy, territory.middle_mm, territory.half_mm, plan.side) * rough
    within = allowed & (territory_score < 1.6)
    # arterial flow ends at a wedge towards the surface: the core reaches further within the territory
    core_score = (_distance(anatomy, territory.first_mm, 30.0, plan.side) + 0.6 * territory_score) * rough
    core_limit = level_for_volume(core_score, within, plan.core_ml, grid.spacing_mm)
    core = within & (core_score < core_limit)
    softness = generator.uniform(0.03, 0.08)
    tissue_share = (1 - anatomy.csf) * same_side * (1 - anatomy.ventricle) * anatomy.brain
    core_share = sigmoid((1 - core_score / core_limit) / softness) * tissue_share
    penumbra = np.zeros(grid.shape, bool)
    risk_share = np.zeros(grid.shape)
    if plan.penumbra_ml > 0:
        risk_score = 0.5 * core_score / core_limit + territory_score
        limit = level_for_volume(risk_score, within & ~core, plan.penumbra_ml, grid.spacing_mm)
        penumbra = connected(within & ~core & (risk_score < limit), core)
        risk_share = sigmoid((1 - risk_score / limit) / softness) * tissue_share * (1 - core_share)
    spots = make_hyperintensities(generator, anatomy, wmh_share)
    shares = combine(anatomy, {"wmh": spots * anatomy.white, "blood": make_vessels(generator, anatomy)})
    # what lacks flow keeps its make-up of grey and white matter: penumbra looks like healthy tissue, but for perfusion
    grey_part = shares["grey"] / np.maximum(shares["grey"] + shares["white"], 1e-6)
    parts = {"penumbra_grey": risk_share * grey_part, "penumbra_white": risk_share * (1 - grey_part)}
    parts[f"{plan.stage}_core"] = core_share
    if plan.penumbra_ml == 0:
        parts = {f"{plan.stage}_core": core_share}
    shares = fill(shares, core_share + risk_share, parts, anatomy.brain)
    label = np.zeros(grid.shape, np.uint8)
    label[penumbra] = PENUMBRA
    label[core] = CORE
    return Tissue(shares, label, anatomy.brain, grid, dict(plan.parameters))
