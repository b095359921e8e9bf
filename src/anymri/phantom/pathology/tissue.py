"""Make-up of every voxel, and what pathologies share: soft edges, regions of a given volume, mixing."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from anymri.phantom.anatomy import Anatomy
from anymri.phantom.settings import Grid

__all__ = ["COMPARTMENTS", "Tissue", "combine", "connected", "fill", "in_order", "level_for_volume", "sigmoid"]

#: What a voxel can consist of. `solid` is tumour without, `enhancing` tumour with contrast agent uptake; without
#: agent the two are the same. `wmh`: white matter hyperintensity, not part of the tumour. `blood`: vessels;
#: `hemorrhage`: old blood in a tumour. `cavity`: where one was cut out. `microcystic`: watery part of a low grade.
COMPARTMENTS = (
    "csf", "grey", "white", "edema", "solid", "enhancing", "necrosis", "wmh", "blood",
    "cavity", "plaque", "black_hole", "active", "penumbra_grey", "penumbra_white", "acute_core", "subacute_core",
    "microcystic", "hemorrhage",
)  # fmt: skip


@dataclass(frozen=True)
class Tissue:
    """Make-up of every voxel, and the truth.

    Parameters
    ----------
    shares : dict of str to ndarray of float64, shape (D, H, W)
        By compartment, in the order of `COMPARTMENTS` and only those that occur; they sum to 1 in the brain and to 0
        outside.
    label : ndarray of uint8, shape (D, H, W)
        0 background, else the values of the pathology's labels.
    brain : ndarray of bool, shape (D, H, W)
    grid : Grid
    parameters : dict
        What was drawn.
    """

    shares: dict[str, np.ndarray]
    label: np.ndarray
    brain: np.ndarray
    grid: Grid
    parameters: dict = field(default_factory=dict)


def sigmoid(value: np.ndarray) -> np.ndarray:
    """Smooth step from 0 to 1 about 0."""
    return 0.5 * (1 + np.tanh(0.5 * value))


def level_for_volume(score: np.ndarray, allowed: np.ndarray, volume_ml: float, spacing_mm: float) -> float:
    """Value below which the `allowed` voxels with the smallest scores make up a volume."""
    values = score[allowed]
    wanted = int(np.clip(round(volume_ml * 1000 / spacing_mm**3), 1, max(1, len(values) - 1)))
    return float(np.partition(values, wanted)[wanted])


def connected(region: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """Parts of a region that touch a seed region."""
    pieces, count = ndimage.label(region | seed)
    keep = np.zeros(count + 1, dtype=bool)
    keep[np.unique(pieces[seed])] = True
    keep[0] = False
    return keep[pieces] & region


def combine(anatomy: Anatomy, added: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Shares of the compartments that occur; each added one displaces what is there, in the order given."""
    shares = {"csf": anatomy.csf.copy(), "grey": anatomy.grey.copy(), "white": anatomy.white.copy()}
    for name, share in added.items():
        rest = 1 - share
        for value in shares.values():
            value *= rest
        shares[name] = shares.get(name, 0.0) + share * anatomy.brain
    return in_order(shares)


def fill(
    shares: dict[str, np.ndarray], total: np.ndarray, parts: dict[str, np.ndarray], brain: np.ndarray
) -> dict[str, np.ndarray]:
    """Give the share `total` of every voxel to new compartments, whose shares are `parts` and sum to it.

    Overwrites the arrays of `shares`: at 1 mm each has tens of megabytes.
    """
    rest = 1 - total
    for value in shares.values():
        value *= rest
    for name, part in parts.items():
        shares[name] = shares.get(name, 0.0) + part * brain
    return in_order(shares)


def in_order(shares: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same shares in the order of `COMPARTMENTS`, so that sums over them do not depend on how they came about."""
    return {name: shares[name] for name in COMPARTMENTS if name in shares}
