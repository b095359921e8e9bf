"""Diffuse glioma: core, enhancement, necrosis, oedema and mass effect."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from anymri.phantom.anatomy import Anatomy, Shape
from anymri.phantom.noise import smooth_noise
from anymri.phantom.pathology.healthy import make_hyperintensities, make_vessels
from anymri.phantom.pathology.tissue import Tissue, combine, connected, in_order, level_for_volume, sigmoid
from anymri.phantom.settings import Grid, PhantomSettings

__all__ = ["GliomaPlan", "grow_glioma", "plan_glioma"]

NCR, EDEMA, ET = 1, 2, 3


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
    Whole tumour volume: log-normal, median 75 ml, kept within 10 and 210 ml. Core: 15 to 80 % of it.
    """
    free, multifocal, choice = generator.uniform(size=3)
    kind = "none" if free < settings.et_free_share else ("rim", "partial", "patchy")[int(choice * 3)]
    count = 1 if multifocal >= settings.multifocal_share else int(generator.integers(2, 4))
    whole_ml = float(np.clip(75 * np.exp(generator.normal(0, 0.7)), 10, 210))
    core_ml = whole_ml * float(0.15 + 0.65 * generator.beta(1.6, 2.0))
    sizes = np.exp(generator.normal(0, 0.35, count)) * np.array([1.0, 0.5, 0.35])[:count]
    radii_mm = (core_ml * sizes / sizes.sum() * 1000 * 3 / (4 * np.pi)) ** (1 / 3)
    radii_mm = radii_mm[:, None] * np.exp(generator.normal(0, 0.2, (count, 3)))
    grid = shape.grid
    centres_mm = (_draw_centres(generator, shape, count) + np.array(grid.start) + 0.5) * grid.spacing_mm

    strength = generator.uniform(0.05, 0.4)
    push_mm = np.zeros_like(shape.coordinates_mm)
    axes = grid.axes_mm()
    inside = np.clip(2 * shape.depth() - 1, 0, 1)  # the skull holds the brain's surface in place
    for centre, radii in zip(centres_mm, radii_mm, strict=True):
        offset = [axis - middle for axis, middle in zip(axes, centre, strict=True)]
        distance = np.sqrt(sum(part**2 for part in offset)) + 1e-6
        radius = float(radii.mean())
        size = strength * radius * np.minimum(distance / radius, 1) * np.exp(-np.maximum(distance - radius, 0) / 25)
        size *= inside
        for row in range(3):
            push_mm[row] += size * offset[row] / distance
    parameters = {
        "kind": kind,
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


def _make_edema(
    generator: np.random.Generator, plan: GliomaPlan, anatomy: Anatomy, core: np.ndarray, score: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Oedema share and mask: spreads through white matter, little into grey, not into CSF."""
    grid = anatomy.grid
    blur = 1.5 / grid.spacing_mm
    speed = 0.12 + ndimage.gaussian_filter(anatomy.white, blur) + 0.25 * ndimage.gaussian_filter(anatomy.grey, blur)
    reach = (
        score / speed * np.exp(0.22 * smooth_noise(generator, grid, 13.0) + 0.12 * smooth_noise(generator, grid, 6.0))
    )
    allowed = anatomy.brain & ~core & (anatomy.ventricle < 0.3) & (anatomy.csf < 0.6)
    limit = level_for_volume(reach, allowed, plan.whole_ml - plan.core_ml, grid.spacing_mm)
    mask = connected(allowed & (reach < limit), core)
    softness = generator.uniform(0.03, 0.10)
    share = sigmoid((1 - reach / limit) / softness)
    near = ndimage.binary_dilation(mask | core, iterations=max(1, round(4 / grid.spacing_mm)))
    level = generator.uniform(0.65, 1.1) * (1 + 0.25 * smooth_noise(generator, grid, 15.0))
    return share * near * np.clip(level, 0.3, 1.0), mask


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
    enhancing = _enhancing_share(generator, plan.kind, anatomy.grid)
    oedema, oedema_mask = _make_edema(generator, plan, anatomy, core, score)
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
    shares = {name: value * (1 - share) for name, value in shares.items()}
    shares = in_order({**shares, **{name: value * anatomy.brain for name, value in inside.items()}})

    label = np.zeros(anatomy.grid.shape, np.uint8)
    label[oedema_mask] = EDEMA
    label[core] = NCR
    label[core & (necrosis < 0.5) & (np.broadcast_to(enhancing, label.shape) > 0.5)] = ET
    return Tissue(shares, label, anatomy.brain, anatomy.grid, dict(plan.parameters))
