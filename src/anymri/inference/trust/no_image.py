"""No-image check: files that hold no MR image of a brain but label maps, tissue maps, computed tomography, noise."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymri.data.appearance.brain_frame import shrink

__all__ = ["why_no_image"]

#: Share of neighbours with exactly the same value from which an image counts as drawn, not measured: noise leaves a
#: few percent in 8 bits.
DRAWN = 0.5
#: Share of voxels within 3 % of the top from which values count as shares of a tissue; tissue spreads wider in images.
PLATEAU = 0.15
#: Share of voxels below 3 % of the top, none negative, from which values count as shares of a tissue too: even
#: suppressed fluid is brighter in an image.
EMPTY = 0.25
#: Correlation of blocks of 4 mm with their neighbours below which there is no anatomy; that of noise is 0.
COHERENT = 0.15
#: CT numbers (HU): air, and where CSF, grey and white matter lie.
AIR_HU = -500.0


def why_no_image(array: NDArray[Any], spacing_mm: tuple[float, ...]) -> str | None:
    """Reason why an array is no MR image, or None.

    Parameters
    ----------
    array : ndarray, shape (D, H, W)
        Background 0.
    spacing_mm : tuple of float
        Along (D, H, W).
    """
    inside = array != 0
    if not inside.any():
        return None
    if float(array.min()) < AIR_HU and float(np.percentile(array[inside], 1)) < AIR_HU:
        return f"holds values down to {array.min():.0f}: looks like CT (Hounsfield units), not MR"
    both = inside[:, :, 1:] & inside[:, :, :-1]
    same = float((array[:, :, 1:] == array[:, :, :-1])[both].mean()) if both.any() else 0.0
    if same > DRAWN:
        return f"holds areas of exactly one value ({same:.0%} of neighbours are equal): looks like a map of labels"
    values = array[inside][:: max(1, int(inside.sum()) // 500_000)]
    top = float(np.percentile(values, 99.9))
    full, empty = float((values >= 0.97 * top).mean()), float((values <= 0.03 * top).mean())
    if top > 0 and values.min() >= 0 and (full > PLATEAU or empty > EMPTY):
        return f"has {full:.0%} of its voxels at its top and {empty:.0%} near 0: looks like a map of tissue shares"
    coherence = _coherence(array, spacing_mm)
    if coherence is not None and coherence < COHERENT:
        return f"changes at random from place to place (correlation of neighbours {coherence:.2f}): shows no anatomy"
    return None


def _coherence(array: NDArray[Any], spacing_mm: tuple[float, ...]) -> float | None:
    """Least correlation, along the three axes, of small blocks with their neighbours; None where there are too few."""
    small = shrink(array, spacing_mm)
    if small is None or (small.share > 0.7).sum() < 1000:
        return None
    inside = small.share > 0.7
    values = np.clip(small.values, *np.percentile(small.values[inside], [2, 98]))
    found = []
    for axis in range(3):
        rows, seen = np.moveaxis(values, axis, 0), np.moveaxis(inside, axis, 0)
        both = seen[1:] & seen[:-1]
        pair = rows[1:][both], rows[:-1][both]
        if both.sum() < 500 or min(part.std() for part in pair) == 0:
            return None
        found.append(float(np.corrcoef(*pair)[0, 1]))
    return min(found)
