"""Grey values of aligned brains: what the model sees before it takes its own z-scores.

``zscore`` leaves the values, since z-scores do not change under any linear map. ``percentile`` clips them to their
0.5th and 99.5th percentile, so that a few bright voxels do not set the scale. ``histogram`` maps the percentiles
piecewise linearly to those of a normal distribution, whatever the scanner's histogram was.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special  # not scipy.stats, whose import takes half a second of every prediction

__all__ = ["NORMALISATIONS", "normalise"]

NORMALISATIONS = ("zscore", "percentile", "histogram")
#: Percentiles that are matched, as in Nyul, Udupa and Zhang (IEEE TMI 19(2), 2000).
LANDMARKS = (1.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 99.0)


def normalise(
    image: NDArray[np.float32], inside: NDArray[np.bool_], code: str, kind: str
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Values inside the brain, 0 outside.

    Parameters
    ----------
    image : ndarray of float32, shape (D, H, W)
    inside : ndarray of bool, shape (D, H, W)
        Brain that this sequence covers; only its values count.
    code : str
        Modality, for the record.
    kind : {"zscore", "percentile", "histogram"}

    Returns
    -------
    image : ndarray of float32, shape (D, H, W)
        Brain voxels are never exactly 0.
    facts : dict
        What was done.

    Notes
    -----
    Histogram standardisation as published matches a scale learnt from a training set; here it is that of the normal
    distribution (mean 0, standard deviation 1), the same for every sequence, because models differ in training sets.
    """
    values = image[inside].astype(np.float64)
    facts: dict[str, Any] = {"modality": code, "kind": kind}
    if kind == "percentile":
        low, high = np.percentile(values, [0.5, 99.5])
        facts["clipped_to"] = [round(float(low), 4), round(float(high), 4)]
        values = np.clip(values, low, high)
    elif kind == "histogram":
        points = np.percentile(values, LANDMARKS)
        facts["landmarks"] = np.round(points, 4).tolist()
        goal = special.ndtri(np.asarray(LANDMARKS) / 100)
        points = np.maximum.accumulate(points + np.arange(len(points)) * 1e-9 * max(1.0, abs(points[-1])))
        values = np.interp(values, points, goal)
    values[values == 0] = 1e-6
    out = np.zeros(image.shape, np.float32)
    out[inside] = values
    return out, facts
