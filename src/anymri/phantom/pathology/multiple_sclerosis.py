"""Multiple sclerosis: plaques around the ventricles, below the cortex, in deep white matter and below the tentorium.

References
----------
.. [1] A. J. Thompson et al., Diagnosis of multiple sclerosis: 2017 revisions of the McDonald criteria, Lancet Neurol
   17(2), 2018, DOI 10.1016/S1474-4422(17)30470-2: the four typical places.
.. [2] Z. Lesjak et al., A Novel Public MR Image Dataset of Multiple Sclerosis Patients With Lesion Segmentations Based
   on Multi-rater Consensus, Neuroinformatics 16(1), 2018, DOI 10.1007/s12021-017-9348-7: data of this kind.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from anymri.phantom.anatomy import Anatomy
from anymri.phantom.noise import smooth_noise
from anymri.phantom.pathology.foci import Focus, draw_places, paint_foci, sphere_radius_mm
from anymri.phantom.pathology.healthy import make_vessels
from anymri.phantom.pathology.tissue import Tissue, combine, fill, level_for_volume, sigmoid

__all__ = ["grow_multiple_sclerosis"]

#: Share of the lesions in each of the places of [1]_; the numbers are ours.
PLACES = {"periventricular": 0.5, "juxtacortical": 0.22, "deep": 0.21, "infratentorial": 0.07}


def _draw_sizes(generator: np.random.Generator) -> tuple[float, float, np.ndarray]:
    """Lesion load in ml, how much of it has run together at the ventricles, and the volume of every single lesion."""
    load_ml = float(np.clip(7 * np.exp(generator.normal(0, 1.1)), 0.5, 60))
    confluent_ml = load_ml * float(np.clip(load_ml / 40, 0, 1)) ** 0.5 * float(generator.uniform(0.5, 1.0))
    sizes = np.minimum(0.03 * np.exp(generator.normal(0, 1.3, 400)), 1.5)
    count = int(np.searchsorted(np.cumsum(sizes), load_ml - confluent_ml)) + 1
    return load_ml, confluent_ml, sizes[:count]


def _weights(anatomy: Anatomy, step: int) -> dict[str, np.ndarray]:
    """Where lesions of each place may begin, on every `step`-th voxel."""
    white, grey, ventricle = (
        array[::step, ::step, ::step] for array in (anatomy.white, anatomy.grey, anatomy.ventricle)
    )
    z, y, x = anatomy.coordinates_mm[:, ::step, ::step, ::step]
    lower = (z < -22) & (y < -35) | (z < -12) & (np.abs(x) < 14)
    near = np.minimum(6 * ndimage.gaussian_filter(ventricle, 3.5 / (step * anatomy.grid.spacing_mm)), 1) * ~lower
    return {
        "periventricular": white * near**2,
        "juxtacortical": white * grey * (1 - near) * ~lower,
        "deep": white**2 * (1 - near) * ~lower,
        "infratentorial": white * lower,
    }


def _draw_foci(generator: np.random.Generator, anatomy: Anatomy, sizes_ml: np.ndarray) -> tuple[list[Focus], list[str]]:
    """An ellipsoid for each lesion and its place; those at the ventricles stand on the wall like fingers."""
    grid = anatomy.grid
    step = max(1, round(3.0 / grid.spacing_mm))
    weights = _weights(anatomy, step)
    places = generator.choice(len(PLACES), len(sizes_ml), p=list(PLACES.values()))
    fluid = ndimage.gaussian_filter(anatomy.ventricle[::step, ::step, ::step], 6.0 / (step * grid.spacing_mm))
    slope = np.stack(np.gradient(fluid))
    foci, names = [], []
    for number, size_ml in zip(places, sizes_ml, strict=True):
        name = list(PLACES)[number]
        place = draw_places(generator, weights[name] + 1e-9 * weights["deep"], 1)[0]
        within = generator.uniform(-0.5, 0.5, 3) * step
        centre = (place * step + within + np.array(grid.start) + 0.5) * grid.spacing_mm
        length = np.exp(generator.normal([0.45 if name == "periventricular" else 0.15, 0, 0], 0.2))
        direction = generator.normal(size=(3, 3))
        if name == "periventricular":
            direction[0] = slope[:, place[0], place[1], place[2]] * 1e3 + 1e-3 * direction[0]
        axes = np.linalg.qr(direction.T)[0].T
        radii = sphere_radius_mm(size_ml) * length / np.prod(length) ** (1 / 3)
        foci.append(Focus(centre, radii, axes))
        names.append(name)
    return foci, names


def _draw_kinds(generator: np.random.Generator, foci: list[Focus]) -> np.ndarray:
    """0 plaque, 1 black hole, 2 active (enhancing), for every lesion."""
    radius_mm = np.array([focus.radius_mm for focus in foci])
    hole = generator.uniform(size=len(foci)) < np.clip(0.1 + 0.06 * radius_mm, 0, 0.6)
    share = generator.uniform(0.03, 0.2) if generator.uniform() < 0.4 else 0.0
    active = generator.uniform(size=len(foci)) < share
    return np.where(active, 2, np.where(hole, 1, 0))


def _confluent(generator: np.random.Generator, anatomy: Anatomy, volume_ml: float) -> tuple[np.ndarray, np.ndarray]:
    """Share of lesions that ran together along the ventricles, and which part of it is black hole."""
    grid = anatomy.grid
    near = ndimage.gaussian_filter(anatomy.ventricle, 5.0 / grid.spacing_mm)
    rough = smooth_noise(generator, grid, 9.0) + 0.7 * smooth_noise(generator, grid, 4.5)
    rough = 0.8 * rough + 0.6 * rough[:, :, ::-1]  # both sides alike, roughly
    upper = anatomy.coordinates_mm[0] > -8  # the lateral ventricles, not the fourth
    callosum = np.exp(-((anatomy.coordinates_mm[2] / 9) ** 2))  # has ventricles on both sides, but less disease
    drive = rough + 9.0 * np.sqrt(near) - 2.5 * callosum
    allowed = anatomy.brain & (anatomy.white > 0.4) & (anatomy.ventricle < 0.3) & upper
    limit = -level_for_volume(-drive, allowed, volume_ml, grid.spacing_mm)
    band = sigmoid((drive - limit) / 0.15) * sigmoid((anatomy.white - 0.4) / 0.05) * upper
    return band, 0.7 * sigmoid((smooth_noise(generator, grid, 10.0) - generator.uniform(0.2, 1.5)) / 0.2)


def grow_multiple_sclerosis(generator: np.random.Generator, anatomy: Anatomy) -> Tissue:
    """Fill plaques into a subject's anatomy.

    Parameters
    ----------
    generator : numpy.random.Generator
    anatomy : Anatomy

    Returns
    -------
    Tissue
        Label 1: lesion.

    Notes
    -----
    Lesion load: log-normal, median 7 ml, kept within 0.5 and 60 ml. Lesions: log-normal, median 0.03 ml, at most
    1.5 ml; the higher the load, the more of it has run together along the lateral ventricles. Four in ten subjects
    have enhancing lesions, 3 to 20 % of theirs; the larger a lesion, the likelier it is a black hole (10 to 60 %).
    Set by eye against [2]_.
    """
    load_ml, confluent_ml, sizes_ml = _draw_sizes(generator)
    foci, places = _draw_foci(generator, anatomy, sizes_ml)
    kinds = _draw_kinds(generator, foci)
    grid = anatomy.grid
    score, nearest = paint_foci(grid, foci)
    score = score * np.exp(0.18 * smooth_noise(generator, grid, 7.0) + 0.12 * smooth_noise(generator, grid, 3.5))
    near = nearest >= 0
    score = np.where(near, score, 9.0)
    radius_mm = np.array([focus.radius_mm for focus in foci])[nearest]
    edge_mm = max(generator.uniform(0.3, 0.7), 0.25 * grid.spacing_mm)
    profile = np.where(near, sigmoid((1 - score) * radius_mm / edge_mm), 0.0)
    band, hole_share = _confluent(generator, anatomy, confluent_ml)
    host = (anatomy.white + 0.6 * anatomy.grey) * (1 - np.clip(2 * anatomy.ventricle, 0, 1))
    profile = np.maximum(profile, band)
    kind = np.where(near, kinds[nearest], 0)
    # black holes have a paler border
    hole_share = np.where(kind == 1, np.maximum(hole_share, sigmoid((0.75 - score) / 0.12)), hole_share)
    lesion = profile * host * generator.uniform(0.8, 1.0)
    active = np.where(kind == 2, lesion, 0.0)
    hole = (lesion - active) * hole_share
    shares = combine(anatomy, {"blood": make_vessels(generator, anatomy) * (1 - lesion)})
    parts = {"plaque": lesion - hole - active, "black_hole": hole, "active": active}
    shares = fill(shares, lesion, parts, anatomy.brain)
    label = (anatomy.brain & (profile > 0.5) & (host > 0.5)).astype(np.uint8)
    counts = {name: places.count(name) for name in PLACES}
    parameters = {
        "kind": "multiple_sclerosis",
        "load_ml": load_ml,
        "confluent_ml": confluent_ml,
        "lesions": len(foci),
        "places": counts,
        "black_holes": int((kinds == 1).sum()),
        "enhancing": int((kinds == 2).sum()),
    }
    return Tissue(shares, label, anatomy.brain, grid, parameters)
