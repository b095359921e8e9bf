"""Diffuse glioma: core, enhancement, necrosis, oedema, mass effect and resection.

References
----------
.. [1] W. G. Bradley, MR appearance of hemorrhage in the brain, Radiology 189(1), 1993: old blood shortens T1 and T2.
.. [2] S. H. Patel et al., T2-FLAIR mismatch, an imaging biomarker for IDH and 1p/19q status in lower-grade gliomas,
   Clin Cancer Res 23(20), 2017: bright in T2 and dark in FLAIR inside.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anymri.phantom.anatomy import Anatomy, Shape
from anymri.phantom.noise import smooth_noise
from anymri.phantom.pathology.healthy import make_hyperintensities, make_vessels
from anymri.phantom.pathology.spread import mass_effect, spread_edema
from anymri.phantom.pathology.tissue import Tissue, combine, fill, level_for_volume, sigmoid
from anymri.phantom.settings import Grid, PhantomSettings

__all__ = ["GliomaPlan", "grow_glioma", "plan_glioma"]

NCR, EDEMA, ET, RESECTION_CAVITY = 1, 2, 3, 4


@dataclass(frozen=True)
class GliomaPlan:
    """A glioma before it is filled in.

    Parameters
    ----------
    centres_mm : ndarray of float64, shape (F, 3)
        Foci (D, H, W) in mm from the start of the imaged volume.
    radii_mm : ndarray of float64, shape (F, 3)
        Half axes of the core of each focus, before its outline is made irregular.
    kind : {"none", "rim", "partial", "patchy"}
        Enhancement: none, a closed rim, a rim with gaps, scattered islands.
    whole_ml, core_ml : float
        Volumes of all tumour and of its core.
    push_mm : ndarray of float64, shape (3, D, H, W)
        Displacement of the surrounding tissue.
    parameters : dict
        What was drawn.
    """

    centres_mm: np.ndarray
    radii_mm: np.ndarray
    kind: str
    whole_ml: float
    core_ml: float
    push_mm: np.ndarray
    parameters: dict


def _draw_centres(generator: np.random.Generator, shape: Shape, count: int) -> np.ndarray:
    """Voxels (F, 3) of `shape.grid`: mostly in the white matter of the cerebrum, later foci near the first."""
    step = max(1, round(4.0 / shape.grid.spacing_mm))
    coordinates = np.ascontiguousarray(shape.coordinates_mm[:, ::step, ::step, ::step])
    white, grey = (shape.template.sample(image, coordinates) for image in (shape.template.white, shape.template.grey))
    z, y, _ = coordinates
    lower = (z < -22) & (y < -35) | (z < -12) & (np.abs(coordinates[2]) < 14)  # cerebellum and brain stem
    weight = (white + 0.25 * grey) ** 2 * np.where(lower, 0.02, 1.0)
    places = np.stack(np.meshgrid(*(np.arange(n) for n in weight.shape), indexing="ij"), axis=-1).reshape(-1, 3) * step
    chosen: list[np.ndarray] = []
    for _ in range(count):
        total = weight.ravel().cumsum()
        place = places[np.searchsorted(total, generator.uniform() * total[-1])]
        chosen.append(place)
        distance_mm = np.sqrt(((places - place) ** 2).sum(axis=1)).reshape(weight.shape) * shape.grid.spacing_mm
        if len(chosen) == 1:
            weight = weight * np.exp(-(((distance_mm - 35) / 15) ** 2))
    return np.array(chosen)


def plan_glioma(generator: np.random.Generator, shape: Shape, settings: PhantomSettings) -> GliomaPlan:
    """Draw a glioma's place, size, make-up and mass effect.

    Parameters
    ----------
    generator : numpy.random.Generator
    shape : Shape
    settings : PhantomSettings

    Notes
    -----
    Whole tumour volume: log-normal, median 75 ml, kept within 10 and 210 ml. Core: 15 to 80 % of it. A low grade has a
    core of 45 to 95 %, little mass effect, hardly any necrosis and in one of ten some patchy enhancement; a high grade
    always enhances, as a rim or one with gaps. Resected gliomas have lost most of their mass effect.
    `PhantomSettings.core_share` replaces the shares of the core.
    """
    free, multifocal, choice = generator.uniform(size=3)
    kind = "none" if free < settings.et_free_share else ("rim", "partial", "patchy")[int(choice * 3)]
    if settings.grade != "mixed":
        low, high = ("none" if free < 0.9 else "patchy"), ("rim", "rim", "partial")[int(choice * 3)]
        kind = low if settings.grade == "low" else high
    count = 1 if multifocal >= settings.multifocal_share else int(generator.integers(2, 4))
    whole_ml = float(np.clip(75 * np.exp(generator.normal(0, 0.7)), 10, 210))
    core_share = float(generator.beta(1.6, 2.0))
    if settings.core_share is not None:
        least, most = settings.core_share
        core_share = least * (most / least) ** float(generator.spawn(1)[0].uniform())
    else:
        core_share = 0.45 + 0.5 * core_share if settings.grade == "low" else 0.15 + 0.65 * core_share
    core_ml = whole_ml * core_share
    sizes = np.exp(generator.normal(0, 0.35, count)) * np.array([1.0, 0.5, 0.35])[:count]
    radii_mm = (core_ml * sizes / sizes.sum() * 1000 * 3 / (4 * np.pi)) ** (1 / 3)
    radii_mm = radii_mm[:, None] * np.exp(generator.normal(0, 0.2, (count, 3)))
    grid = shape.grid
    centres_mm = (_draw_centres(generator, shape, count) + np.array(grid.start) + 0.5) * grid.spacing_mm

    strength = generator.uniform(0.05, 0.4)
    if settings.pathology == "glioma_resected":
        strength *= 0.15
    elif settings.grade == "low":
        strength *= 0.5
    push_mm = mass_effect(shape, centres_mm, radii_mm, strength)
    parameters = {
        "kind": kind,
        "grade": settings.grade,
        "foci": count,
        "whole_ml": whole_ml,
        "core_ml": core_ml,
        "centres_mm": centres_mm.tolist(),
        "radii_mm": radii_mm.tolist(),
        "push": strength,
    }
    return GliomaPlan(centres_mm, radii_mm, kind, whole_ml, core_ml, push_mm, parameters)


def _distance(plan: GliomaPlan, anatomy: Anatomy) -> np.ndarray:
    """Distance to the nearest focus in units of its half axes; further across the midline outside the callosum."""
    axes = anatomy.grid.axes_mm()
    distance = np.full(anatomy.grid.shape, np.inf)
    for centre, radii in zip(plan.centres_mm, plan.radii_mm, strict=True):
        squared = sum(((axis - middle) / radius) ** 2 for axis, middle, radius in zip(axes, centre, radii, strict=True))
        np.minimum(distance, squared, out=distance)
    distance = np.sqrt(distance)
    place = tuple(
        np.clip(np.round(plan.centres_mm[0] / anatomy.grid.spacing_mm - 0.5).astype(int) - anatomy.grid.start, 0, None)
    )
    x = anatomy.coordinates_mm[2]
    other_side = sigmoid(-x * np.sign(x[place]) / 1.5)
    return distance * (1 + 0.8 * other_side * (1 - anatomy.white))


def _enhancing_share(generator: np.random.Generator, kind: str, grid: Grid) -> np.ndarray | float:
    """Which part of the solid tumour takes up contrast agent, 0 to 1."""
    if kind == "none":
        return 0.0
    if kind == "rim":
        return sigmoid((smooth_noise(generator, grid, 9.0) + 2.0) / 0.2)
    scale_mm, low, high = (18.0, -0.4, 0.5) if kind == "partial" else (7.0, -0.3, 0.8)
    return sigmoid((smooth_noise(generator, grid, scale_mm) - generator.uniform(low, high)) / 0.15)


def _make_core(generator: np.random.Generator, plan: GliomaPlan, anatomy: Anatomy) -> tuple[np.ndarray, ...]:
    """Core share, core mask, necrotic share of the core and outward score (1 at the core's surface)."""
    grid = anatomy.grid
    roughness = generator.uniform(0.6, 1.4)
    score = _distance(plan, anatomy) * np.exp(
        roughness
        * (
            0.26 * smooth_noise(generator, grid, 16.0)
            + 0.12 * smooth_noise(generator, grid, 8.0)
            + 0.05 * smooth_noise(generator, grid, 4.0)
        )
    )
    allowed = anatomy.brain & (anatomy.ventricle < 0.4)
    score = score / level_for_volume(score, allowed, plan.core_ml, grid.spacing_mm)
    core = allowed & (score < 1)
    share = sigmoid((1 - score) / generator.uniform(0.03, 0.10)) * (1 - anatomy.ventricle) * anatomy.brain

    radius_mm = float(plan.radii_mm.max())
    depth_mm = (1 - score) * radius_mm
    shell_mm = generator.uniform(2.5, 6.5) * np.exp(0.4 * smooth_noise(generator, grid, 10.0))
    hollow = sigmoid((depth_mm - shell_mm) / 0.8)
    cysts = sigmoid((smooth_noise(generator, grid, 12.0) - generator.uniform(-1.2, 1.4)) / generator.uniform(0.2, 1.0))
    mottled = 0.35 * sigmoid((smooth_noise(generator, grid, 7.0) - 0.5) / 0.4)
    hollow = np.maximum(hollow, mottled * generator.uniform(0, 1))
    necrosis = hollow * (cysts if generator.uniform() < 0.5 else np.maximum(cysts, 0.85))
    return share, core, necrosis, score


def _patchwork(
    generator: np.random.Generator, grade: str, solid: np.ndarray, necrosis: np.ndarray, grid: Grid
) -> dict[str, np.ndarray]:
    """Make the inside uneven: watery parts of low grades (dark in FLAIR, [2]_), old blood in high grades ([1]_)."""
    coarse, fine = smooth_noise(generator, grid, 12.0), smooth_noise(generator, grid, 5.0)
    if grade == "low":
        level = generator.uniform(-1.0, 2.0)
        watery = generator.uniform(0.3, 0.8) * sigmoid((coarse + 0.4 * fine - level) / 0.25)
        return {"microcystic": solid * watery, "solid": solid * (1 - watery)}
    clots = sigmoid((coarse + 0.6 * fine - generator.uniform(1.2, 3.0)) / 0.15)
    parts = {"hemorrhage": (solid + necrosis) * clots}
    return parts | {"solid": solid * (1 - clots), "necrosis": necrosis * (1 - clots)}


def _resect(
    generator: np.random.Generator, plan: GliomaPlan, anatomy: Anatomy, score: np.ndarray
) -> tuple[np.ndarray, float]:
    """Share of a cavity where the core was, open to the nearest surface, and its reach (1: all of the core)."""
    grid = anatomy.grid
    reach = float(generator.uniform(0.7, 1.1))
    centre, radius_mm = plan.centres_mm[0], max(6.0, 0.5 * float(plan.radii_mm[0].mean()))
    axes = grid.axes_mm()
    squared = sum((axis - middle) ** 2 for axis, middle in zip(axes, centre, strict=True))
    from_above = axes[0] > centre[0] - 15.0
    outside = np.where(~anatomy.brain & from_above, squared, np.inf)
    place = np.array(np.unravel_index(int(np.argmin(outside)), grid.shape))
    line = (place + np.array(grid.start) + 0.5) * grid.spacing_mm - centre
    along = sum((axis - middle) * part for axis, middle, part in zip(axes, centre, line, strict=True)) / (line @ line)
    off = np.maximum(squared - np.clip(along, 0, None) ** 2 * (line @ line), 0)
    corridor = np.where(along > 0, np.sqrt(off) / radius_mm, np.inf)
    rough = np.exp(0.12 * smooth_noise(generator, grid, 9.0))
    depth = np.minimum(score / reach, corridor * rough)
    return sigmoid((1 - depth) / 0.06) * anatomy.brain, reach


def grow_glioma(
    generator: np.random.Generator, plan: GliomaPlan, anatomy: Anatomy, settings: PhantomSettings
) -> Tissue:
    """Fill a planned glioma into a subject's anatomy.

    Parameters
    ----------
    generator : numpy.random.Generator
    plan : GliomaPlan
    anatomy : Anatomy
    settings : PhantomSettings

    Notes
    -----
    Core and oedema are level sets of distances made irregular by noise, at the level that gives the planned volume.
    All kinds of enhancement share the same layout (a solid shell around a partly necrotic inside): where the tumour
    enhances cannot be told from its shape, nor from any sequence without contrast agent.
    """
    share, core, necrosis, score = _make_core(generator, plan, anatomy)
    if settings.grade != "mixed":
        depth = sigmoid((0.7 - score) / 0.08)  # the inside of a high grade is dead throughout
        necrosis = 0.1 * necrosis if settings.grade == "low" else np.maximum(necrosis, 0.9 * depth)
    enhancing = _enhancing_share(generator, plan.kind, anatomy.grid)
    oedema, oedema_mask = spread_edema(generator, anatomy, core, score, plan.whole_ml - plan.core_ml)
    spots = make_hyperintensities(generator, anatomy, settings.wmh_share)
    vessels = make_vessels(generator, anatomy)
    shares = combine(
        anatomy,
        {
            "wmh": spots * anatomy.white,
            "edema": oedema * (anatomy.white + 0.85 * anatomy.grey),
            "blood": vessels * (1 - share),
        },
    )
    solid = share * (1 - necrosis)
    inside = {"necrosis": share * necrosis, "enhancing": solid * enhancing, "solid": solid * (1 - enhancing)}
    if settings.grade != "mixed":
        inside |= _patchwork(generator.spawn(1)[0], settings.grade, inside["solid"], inside["necrosis"], anatomy.grid)
    shares = fill(shares, share, inside, anatomy.brain)

    label = np.zeros(anatomy.grid.shape, np.uint8)
    label[oedema_mask] = EDEMA
    label[core] = NCR
    label[core & (necrosis < 0.5) & (np.broadcast_to(enhancing, label.shape) > 0.5)] = ET
    parameters = dict(plan.parameters)
    if settings.pathology == "glioma_resected":
        cavity, parameters["resected"] = _resect(generator.spawn(1)[0], plan, anatomy, score)
        shares = fill(shares, cavity, {"cavity": cavity}, anatomy.brain)
        label[anatomy.brain & (cavity > 0.5)] = RESECTION_CAVITY
    return Tissue(shares, label, anatomy.brain, anatomy.grid, parameters)
