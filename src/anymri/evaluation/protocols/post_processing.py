"""Clean-up steps that published evaluations apply to predicted regions before counting.

Every step takes regions by name, the voxel size and the place of the regions in the whole volume, and gives new
regions; it never sees the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from anymri.evaluation.protocols.table import Box

__all__ = ["CLEANINGS", "close_slices", "drop_small_components", "drop_small_enhancing"]

Mask = NDArray[np.bool_]
Regions = dict[str, Mask]


def drop_small_enhancing(regions: Regions, spacing_mm: Sequence[float], box: Box) -> Regions:
    """Empty the enhancing tumour if it has less than 0.5 ml: the field's 500 voxels of 1 mm. No other region changes.

    Parameters
    ----------
    regions : dict of str to ndarray of bool, shape (D, H, W)
    spacing_mm : sequence of float
    box : tuple of slice
        Not used.
    """
    cleaned = dict(regions)
    enhancing = regions.get("enhancing_tumor")
    if enhancing is not None and np.count_nonzero(enhancing) * float(np.prod(spacing_mm)) < 500:
        cleaned["enhancing_tumor"] = np.zeros_like(enhancing)
    return cleaned


def drop_small_components(regions: Regions, spacing_mm: Sequence[float], box: Box) -> Regions:
    """Remove pieces of the whole tumour that are small or lie wholly below slice 25, in all regions.

    Small is less than 2000 mm3 and less than a tenth of the largest piece; slices count from the inferior end of the
    whole volume, in millimetres.

    Parameters
    ----------
    regions : dict of str to ndarray of bool, shape (D, H, W)
    spacing_mm : sequence of float
    box : tuple of slice
        Place of the regions in the volume.
    """
    from scipy.ndimage import find_objects, label

    whole = regions.get("whole_tumor")
    if whole is None or not whole.any():
        return dict(regions)
    pieces, _ = label(whole, np.ones((3, 3, 3)))
    volumes = np.bincount(pieces.ravel())[1:] * float(np.prod(spacing_mm))
    limit = min(2000.0, 0.1 * float(volumes.max()))
    kept = []
    for number, (volume, place) in enumerate(zip(volumes, find_objects(pieces), strict=True), 1):
        top_mm = ((box[0].start or 0) + place[0].stop) * spacing_mm[0]
        if volume >= limit and top_mm > 25:
            kept.append(number)
    inside = np.isin(pieces, kept)
    return {region: mask & inside for region, mask in regions.items()}


def close_slices(regions: Regions, spacing_mm: Sequence[float], box: Box) -> Regions:
    """Close and fill the holes of every axial slice that holds more than 20 voxels of a region.

    The structuring element has 4 x 4 voxels for the whole tumour and 3 x 3 for the tumour core; the enhancing tumour
    stays as it is.

    Parameters
    ----------
    regions : dict of str to ndarray of bool, shape (D, H, W)
    spacing_mm, box
        Not used: the published element is in voxels.
    """
    from scipy.ndimage import binary_closing, binary_fill_holes

    cleaned = dict(regions)
    for region, edge in (("whole_tumor", 4), ("tumor_core", 3)):
        if region not in regions:
            continue
        mask = regions[region].copy()
        for place in np.flatnonzero(mask.sum(axis=(1, 2)) > 20):
            # The margin keeps closing from eroding what touches the border.
            closed = binary_closing(np.pad(mask[place], edge), np.ones((edge, edge)))[edge:-edge, edge:-edge]
            mask[place] = binary_fill_holes(closed)
        cleaned[region] = mask
    return cleaned


CLEANINGS: dict[str, Callable[[Regions, Sequence[float], Box], Regions]] = {
    "drop_small_enhancing": drop_small_enhancing,
    "drop_small_components": drop_small_components,
    "close_slices": close_slices,
}
