"""Every pathology by its name: how it enters a brain and what its labels mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from anymri.phantom.anatomy import Anatomy, Shape
from anymri.phantom.pathology.glioma import grow_glioma, plan_glioma
from anymri.phantom.pathology.healthy import healthy_tissue
from anymri.phantom.pathology.hyperintensities import grow_hyperintensities
from anymri.phantom.pathology.metastases import grow_metastases, plan_metastases
from anymri.phantom.pathology.multiple_sclerosis import grow_multiple_sclerosis
from anymri.phantom.pathology.stroke import grow_stroke, plan_stroke
from anymri.phantom.pathology.tissue import Tissue
from anymri.phantom.settings import PhantomSettings
from anymri.types import GLIOMA

__all__ = ["PATHOLOGY_TABLE", "Pathology"]


def _no_plan(generator: np.random.Generator, shape: Shape, settings: PhantomSettings) -> None:
    """For what does not push tissue aside."""


@dataclass(frozen=True)
class Pathology:
    """One row of the table.

    Parameters
    ----------
    grow : callable
        Generator, plan, anatomy and settings to `Tissue`.
    plan : callable
        Generator, shape and settings to a plan, whose `push_mm` the anatomy is rendered with; or to None.
    labels, regions : dict
        As in `anymri.types.DataSpec`.
    """

    grow: Callable[[np.random.Generator, Any, Anatomy, PhantomSettings], Tissue]
    plan: Callable[[np.random.Generator, Shape, PhantomSettings], Any] = _no_plan
    labels: dict[str, int] = field(default_factory=lambda: dict(GLIOMA.labels))
    regions: dict[str, tuple[str, ...]] = field(default_factory=lambda: dict(GLIOMA.regions))


_LESION_REGION: dict[str, tuple[str, ...]] = {"lesion": ("lesion",)}
_STROKE_LABELS = {"penumbra": 1, "core": 2}
_STROKE_REGIONS: dict[str, tuple[str, ...]] = {"penumbra": ("penumbra", "core"), "core": ("core",)}

#: Labels and regions are those of the layouts for such data: BraTS 2023 and 2024, MSSEG 2016, WMH 2017, SPES 2015.
PATHOLOGY_TABLE: dict[str, Pathology] = {
    "glioma": Pathology(grow_glioma, plan_glioma),
    "glioma_resected": Pathology(
        grow_glioma,
        plan_glioma,
        {**GLIOMA.labels, "resection_cavity": 4},
        {**GLIOMA.regions, "resection_cavity": ("resection_cavity",)},
    ),
    "metastases": Pathology(
        lambda generator, plan, anatomy, settings: grow_metastases(generator, plan, anatomy, settings.wmh_share),
        lambda generator, shape, settings: plan_metastases(generator, shape),
    ),
    "multiple_sclerosis": Pathology(
        lambda generator, plan, anatomy, settings: grow_multiple_sclerosis(generator, anatomy),
        labels={"lesion": 1},
        regions=_LESION_REGION,
    ),
    "wmh": Pathology(
        lambda generator, plan, anatomy, settings: grow_hyperintensities(generator, anatomy),
        labels={"lesion": 1, "other_pathology": 2},
        regions=_LESION_REGION,
    ),
    "stroke": Pathology(
        lambda generator, plan, anatomy, settings: grow_stroke(generator, plan, anatomy, settings.wmh_share),
        lambda generator, shape, settings: plan_stroke(generator, shape, "acute"),
        _STROKE_LABELS,
        _STROKE_REGIONS,
    ),
    "stroke_subacute": Pathology(
        lambda generator, plan, anatomy, settings: grow_stroke(generator, plan, anatomy, settings.wmh_share),
        lambda generator, shape, settings: plan_stroke(generator, shape, "subacute"),
        _STROKE_LABELS,
        _STROKE_REGIONS,
    ),
    "none": Pathology(
        lambda generator, plan, anatomy, settings: healthy_tissue(generator, anatomy, settings), labels={}, regions={}
    ),
}
