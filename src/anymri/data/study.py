"""Study: the arrays of one subject as methods see them, in memory or mapped from the cache."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anymri.data.geometry import Geometry
from anymri.types import DataSpec

__all__ = ["Entry", "Study", "label_dtype"]


class Study(NamedTuple):
    """One study as methods see it.

    Attributes
    ----------
    image : ndarray of float32, shape (M, D, H, W)
        z-scores (rounded to float16's values, so that the cache holds exactly these), 0 in the background, NaN
        where a modality is absent.
    present : ndarray of bool, shape (M,)
    label : ndarray of int, shape (D, H, W), or None
        Label values of the specification, and its `ignore`.
    statistics : ndarray of float32, shape (M, len(STATISTICS))
        Raw-intensity statistics of each modality's own brain; NaN where absent.
    boxes : ndarray of int64, shape (M, 2, 3)
        Brain box of each modality, ``[start, stop)``; all 0 where absent.
    sidecar : dict
        The same facts for the cache's JSON file.
    geometry : Geometry
        Native grid of the input.
    grid : Geometry
        Grid of `image`; same orientation and box, other voxel size.
    """

    image: NDArray[np.float32]
    present: NDArray[np.bool_]
    label: NDArray[np.integer] | None
    statistics: NDArray[np.float32]
    boxes: NDArray[np.int64]
    sidecar: dict[str, Any]
    geometry: Geometry
    grid: Geometry


class Entry(NamedTuple):
    """One cached subject; the arrays stay on disk until they are sliced.

    Attributes
    ----------
    subject_id : str
    image : memmap of float16, shape (M, D, H, W)
        z-scores, 0 in the background, NaN where a modality is absent.
    label : memmap of int, shape (D, H, W), or None
        Of the type `label_dtype`.
    present : ndarray of bool, shape (M,)
    statistics : ndarray of float32, shape (M, len(STATISTICS))
        Raw-intensity statistics of each modality's own brain; NaN where absent.
    boxes : ndarray of int64, shape (M, 2, 3)
        Brain box of each modality, ``[start, stop)`` along (D, H, W); all 0 where absent.
    spacing_mm : tuple of float
        Spacing of the cached grid along (D, H, W).
    affine : ndarray of float64, shape (4, 4)
        Cached index (d, h, w) to world position in mm.
    geometry : Geometry
        Native grid of the source files (without their header).
    ignore : int or None, default=None
        Value in `label` of voxels that nobody labelled.
    """

    subject_id: str
    image: NDArray[np.float16]
    label: NDArray[np.integer] | None
    present: NDArray[np.bool_]
    statistics: NDArray[np.float32]
    boxes: NDArray[np.int64]
    spacing_mm: tuple[float, float, float]
    affine: NDArray[np.float64]
    geometry: Geometry
    ignore: int | None = None


def label_dtype(spec: DataSpec) -> type[np.integer[Any]]:
    """Type of label maps of a specification: uint8, or int16 or int32 where a value needs it."""
    largest = max((0, spec.ignore or 0, *spec.labels.values()))
    return np.uint8 if largest <= 255 else np.int16 if largest <= np.iinfo(np.int16).max else np.int32
