"""Masks to compare metrics on, and the definitions written out without any library's algorithm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Pair = tuple[Mask, Mask]

#: Fifty pairs of each shape and spacing, so that other libraries can be given whole batches.
GRIDS = [
    ((9, 8, 10), (1.0, 1.0, 1.0)),
    ((4, 11, 9), (3.0, 0.9, 0.9)),
    ((7, 7, 7), (1.0, 1.5, 2.0)),
    ((10, 3, 8), (0.5, 4.0, 1.0)),
]
PAIRS_A_GRID = 50


def random_pair(seed: int, shape: tuple[int, ...]) -> Pair:
    """Two overlapping masks of random size and smoothness; many touch the border, some are a few voxels."""
    from scipy.ndimage import uniform_filter

    rng = np.random.default_rng(seed)
    smooth = uniform_filter(rng.normal(size=shape), int(rng.integers(1, 4)))
    other = smooth + rng.uniform(0.1, 1.5) * smooth.std() * rng.normal(size=shape)
    level = rng.uniform(0.4, 1.0)
    return smooth >= np.quantile(smooth, level), other >= np.quantile(other, level)


def random_batches() -> list[tuple[tuple[float, ...], list[Pair]]]:
    """Spacing and fifty pairs of every grid, 200 in all."""
    return [
        (spacing, [random_pair(PAIRS_A_GRID * place + i, shape) for i in range(PAIRS_A_GRID)])
        for place, (shape, spacing) in enumerate(GRIDS)
    ]


def filled(shape: tuple[int, ...], *boxes: tuple[slice, ...]) -> Mask:
    """A mask that is true in some boxes."""
    mask = np.zeros(shape, bool)
    for box in boxes:
        mask[box] = True
    return mask


def hand_made() -> dict[str, tuple[Mask, Mask, tuple[float, ...]]]:
    """Prediction, reference and spacing of the cases that conventions are made for."""
    shape, cube = (8, 9, 10), (slice(2, 6), slice(3, 7), slice(2, 8))
    unit, thick = (1.0, 1.0, 1.0), (4.0, 1.0, 0.5)
    empty, block, full = filled(shape), filled(shape, cube), np.ones(shape, bool)
    corner = filled(shape, (slice(0, 3), slice(0, 4), slice(0, 2)))
    faces = filled(shape, (slice(0, 8), slice(4, 6), slice(0, 10)))
    return {
        "both empty": (empty, empty, unit),
        "only the prediction empty": (empty, block, unit),
        "only the reference empty": (block, empty, unit),
        "one voxel each, equal": (filled(shape, (2, 3, 4)), filled(shape, (2, 3, 4)), unit),
        "one voxel each, the image's far corners": (filled(shape, (0, 0, 0)), filled(shape, (7, 8, 9)), thick),
        "one voxel in a block": (filled(shape, (3, 4, 5)), block, unit),
        "touching a corner of the image": (corner, filled(shape, (slice(0, 4), slice(0, 4), slice(0, 3))), unit),
        "touching opposite faces": (faces, faces | corner, thick),
        "the whole image": (full, full, unit),
        "the whole image against a block": (full, block, thick),
        "side by side, sharing a face": (block, np.roll(block, 4, axis=0) & ~block, thick),
        "shifted along 4 mm voxels": (np.roll(block, 1, axis=0), block, thick),
        "shifted along 0.5 mm voxels": (np.roll(block, 1, axis=2), block, thick),
    }


# --------------------------------------------------------------------------------------------------------------
# Surface distances
# --------------------------------------------------------------------------------------------------------------


def surface_points_mm(mask: Mask, spacing_mm: Sequence[float]) -> NDArray[np.float64]:
    """Centres (N, 3) of the voxels that have a neighbour through a face outside the mask or the image."""
    points = []
    for place in np.argwhere(mask):
        for axis in range(mask.ndim):
            for step in (-1, 1):
                other = place.copy()
                other[axis] += step
                if not 0 <= other[axis] < mask.shape[axis] or not mask[tuple(other)]:
                    points.append(tuple(place))
    return np.array(sorted(set(points)), float) * np.asarray(spacing_mm)


def surface_distances_mm(pair: Pair, spacing_mm: Sequence[float]) -> tuple[NDArray, NDArray]:
    """Distance of every surface voxel to the nearest of the other mask, all pairs tried, in both directions."""
    p, r = (surface_points_mm(mask, spacing_mm) for mask in pair)
    every = np.sqrt(((p[:, None] - r[None]) ** 2).sum(-1))
    return every.min(1), every.min(0)


# --------------------------------------------------------------------------------------------------------------
# Lesions
# --------------------------------------------------------------------------------------------------------------


def lesion_dice(prediction: Mask, reference: Mask, steps: int = 3, ignore: int = 50) -> tuple[float, int]:
    """BraTS 2023's rules with sets of voxels: dilation by eighteen neighbours, pieces by twenty-six.

    Returns the mean Dice over lesions and false positives, and the number of false positives.
    """
    near = [(a, b, c) for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1)]
    eighteen = [step for step in near if sum(map(abs, step)) <= 2]

    image = set(np.ndindex(prediction.shape))

    def dilate(voxels, times):
        for _ in range(times):
            voxels = {(a + x, b + y, c + z) for a, b, c in voxels for x, y, z in eighteen} & image
        return voxels

    def pieces(voxels):
        left, found = set(voxels), []
        while left:
            todo, piece = [left.pop()], set()
            while todo:
                v = todo.pop()
                piece.add(v)
                for x, y, z in near:
                    other = (v[0] + x, v[1] + y, v[2] + z)
                    if other in left:
                        left.remove(other)
                        todo.append(other)
            found.append(piece)
        return found

    real = {tuple(v) for v in np.argwhere(reference).tolist()}
    guessed = pieces({tuple(v) for v in np.argwhere(prediction).tolist()})
    lesions = [piece & real for piece in pieces(dilate(real, steps))]
    scores, used = [], set()
    for lesion in lesions:
        reach = dilate(lesion, steps)
        hit = [i for i, piece in enumerate(guessed) if piece & reach]
        used |= set(hit)
        union = set().union(*(guessed[i] for i in hit)) if hit else set()
        if len(lesion) > ignore:
            scores.append(2 * len(union & lesion) / (len(union) + len(lesion)))
    total = len(scores) + len(guessed) - len(used)
    return (sum(scores) / total if total else 1.0), len(guessed) - len(used)
