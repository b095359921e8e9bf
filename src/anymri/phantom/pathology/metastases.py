"""Brain metastases: one or many round tumours at the border of grey and white matter.

References
----------
.. [1] J. Y. Delattre et al., Distribution of brain metastases, Arch Neurol 45(7), 1988: of 288 patients 49 % had one
   metastasis, 21 % two, 13 % three, 6 % four, 11 % more.
.. [2] T. Schroeder et al., Mapping distribution of brain metastases: does the primary tumor matter?, J Neurooncol
   147(1), 2020, DOI 10.1007/s11060-020-03419-6: more in the cerebellum than its volume suggests; 3313 in 369 patients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anymri.phantom.anatomy import Anatomy, Shape
from anymri.phantom.noise import smooth_noise
from anymri.phantom.pathology.foci import Focus, draw_places, paint_foci
from anymri.phantom.pathology.healthy import make_hyperintensities, make_vessels
from anymri.phantom.pathology.spread import mass_effect, spread_edema
from anymri.phantom.pathology.tissue import Tissue, combine, fill, sigmoid

__all__ = ["MetastasesPlan", "draw_count", "grow_metastases", "plan_metastases"]

NCR, EDEMA, ET = 1, 2, 3
#: Probability of one, two, three, four and more metastases [1]_.
COUNTS = (0.49, 0.21, 0.13, 0.06, 0.11)


@dataclass(frozen=True)
class MetastasesPlan:
    """Metastases before they are filled in.

    Parameters
    ----------
    foci : list of Focus
    edema_ml : float
    push_mm : ndarray of float64, shape (3, D, H, W)
    parameters : dict
    """

    foci: list[Focus]
    edema_ml: float
    push_mm: np.ndarray
    parameters: dict


def draw_count(generator: np.random.Generator) -> int:
    """How many metastases a patient has."""
    count = int(generator.choice(len(COUNTS), p=COUNTS)) + 1
    return count if count < len(COUNTS) else min(4 + int(generator.geometric(0.15)), 30)


def plan_metastases(generator: np.random.Generator, shape: Shape) -> MetastasesPlan:
    """Draw the number, places and sizes of metastases, their oedema and mass effect.

    Parameters
    ----------
    generator : numpy.random.Generator
    shape : Shape

    Notes
    -----
    Number: as [1]_, beyond four geometric, at most 30. Diameter: log-normal, median 13 mm for one and less for many,
    kept within 4 and 45 mm. Oedema: around those above 8 mm, log-normal, median twice their volume, at most 90 ml.
    """
    count = draw_count(generator)
    grid = shape.grid
    step = max(1, round(4.0 / grid.spacing_mm))
    coordinates = np.ascontiguousarray(shape.coordinates_mm[:, ::step, ::step, ::step])
    white, grey = (shape.template.sample(image, coordinates) for image in (shape.template.white, shape.template.grey))
    z, y, x = coordinates
    cerebellum, stem = (z < -22) & (y < -35), (z < -12) & (np.abs(x) < 14) & (y > -45)
    weight = np.maximum(white * grey, 0) * np.where(stem, 0.3, np.where(cerebellum, 1.3, 1.0))
    places = draw_places(generator, weight, count)
    centres_mm = (places * step + np.array(grid.start) + 0.5) * grid.spacing_mm
    median_mm = 13.0 if count == 1 else 13.0 * count**-0.25
    radii_mm = np.clip(median_mm * np.exp(generator.normal(0, 0.6, count)), 4, 45) / 2
    half_axes = radii_mm[:, None] * np.exp(generator.normal(0, 0.1, (count, 3)))
    foci = [Focus(centre, half) for centre, half in zip(centres_mm, half_axes, strict=True)]
    large = radii_mm > 4
    volume_ml = 4 / 3 * np.pi * radii_mm**3 / 1000
    edema_ml = float(min((volume_ml[large] * 2 * np.exp(generator.normal(0, 0.9, large.sum()))).sum(), 90.0))
    push_mm = mass_effect(shape, centres_mm[large], half_axes[large], float(generator.uniform(0.1, 0.35)))
    parameters = {
        "kind": "metastases", "foci": count, "diameters_mm": (2 * radii_mm).tolist(),
        "centres_mm": centres_mm.tolist(), "edema_ml": edema_ml,
    }  # fmt: skip
    return MetastasesPlan(foci, edema_ml, push_mm, parameters)


def grow_metastases(generator: np.random.Generator, plan: MetastasesPlan, anatomy: Anatomy, wmh_share: float) -> Tissue:
    """Fill planned metastases into a subject's anatomy.

    Parameters
    ----------
    generator : numpy.random.Generator
    plan : MetastasesPlan
    anatomy : Anatomy
    wmh_share : float
        Share of subjects with white matter hyperintensities.

    Returns
    -------
    Tissue
        Labels 1 ncr, 2 edema, 3 et. All metastases enhance; those above about 12 mm have a dead middle.
    """
    grid = anatomy.grid
    score, nearest = paint_foci(grid, plan.foci, reach=1.8)
    found = nearest >= 0
    score = np.where(found, score, 9.0) * np.exp(
        0.12 * smooth_noise(generator, grid, 9.0) + 0.06 * smooth_noise(generator, grid, 4.5)
    )
    radius_mm = np.where(found, np.array([focus.radius_mm for focus in plan.foci])[nearest], 1.0)
    edge_mm = max(0.4, 0.25 * grid.spacing_mm)
    share = np.where(found, sigmoid((1 - score) * radius_mm / edge_mm), 0.0) * anatomy.brain
    core = anatomy.brain & (share > 0.5)
    shell_mm = generator.uniform(2.5, 4.5) * np.exp(0.3 * smooth_noise(generator, grid, 8.0))
    hollow = sigmoid(((1 - score) * radius_mm - shell_mm) / 0.6) * (radius_mm > 5)

    oedema, oedema_mask = np.zeros(grid.shape), np.zeros(grid.shape, bool)
    large = np.array([focus.radius_mm > 4 for focus in plan.foci])[nearest] & core
    if plan.edema_ml > 0 and large.any():
        distance_mm = _outside_mm(plan, grid.axes_mm())
        oedema, oedema_mask = spread_edema(generator, anatomy, large, distance_mm, plan.edema_ml)
        oedema_mask &= ~core
    spots = make_hyperintensities(generator, anatomy, wmh_share)
    added = {"wmh": spots * anatomy.white, "edema": oedema * (anatomy.white + 0.85 * anatomy.grey)}
    shares = combine(anatomy, {**added, "blood": make_vessels(generator, anatomy) * (1 - share)})
    parts = {"necrosis": share * hollow, "enhancing": share * (1 - hollow)}
    shares = fill(shares, share, parts, anatomy.brain)
    label = np.zeros(grid.shape, np.uint8)
    label[oedema_mask] = EDEMA
    label[core] = ET
    label[core & (hollow > 0.5)] = NCR
    return Tissue(shares, label, anatomy.brain, grid, dict(plan.parameters))


def _outside_mm(plan: MetastasesPlan, axes_mm: list[np.ndarray]) -> np.ndarray:
    """Distance from the surface of the nearest metastasis that has oedema, plus 1 mm; less around large ones."""
    nearest: np.ndarray | float = np.inf
    for focus in plan.foci:
        if focus.radius_mm > 4:
            squared = sum((axis - middle) ** 2 for axis, middle in zip(axes_mm, focus.centre_mm, strict=True))
            outside = np.maximum(np.sqrt(squared) - focus.radius_mm, 0) + 1.0
            nearest = np.minimum(nearest, outside / np.sqrt(focus.radius_mm))
    return np.asarray(nearest)
