"""Voxel values of a file: scaled, checked after the cast, with one value, exactly 0, for background.

Programs write background in three other ways, all read as 0 here: as the stored level next to 0 where slope and
intercept leave no level at 0, as one constant of about that size in a floating-point file, and as NaN around the brain.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from anymri.data.artifacts import repair
from anymri.data.selectors import recode
from anymri.types import UserError

__all__ = ["MAX_LABEL", "image_values", "label_values", "slope_of"]

#: Fewest distinct values other than 0 that a whole-numbered image may have; with fewer it is a label map.
MIN_IMAGE_VALUES = 9
#: Largest label value: up to here single precision, in which augmentation turns label maps, holds whole numbers.
MAX_LABEL = 2**24 - 1
#: Largest distance of a floating-point label from its whole number: half a step of 8 bits over labels up to 5.
MAX_LABEL_ERROR = 0.01
#: Sizes of values between which sums and squares stay within single precision.
FLOAT_RANGE = (1e-18, 1e18)
#: Share of voxels with one and the same value that makes it background; as for exact zeros in `preprocess`.
MIN_BACKGROUND = 0.05
#: Largest distance of a constant background from 0, in relation to the range of values: half a step of 8 bits.
MAX_BACKGROUND_OFFSET = 0.5 / 255


def slope_of(source: str, header: Any) -> tuple[float, float]:
    """Slope and intercept of a NIfTI header, (1, 0) where it has none.

    Raises
    ------
    UserError
        If the intercept is not finite.
    """
    try:
        slope, intercept = header.get_slope_inter()
    except (HeaderDataError, ValueError):
        raise UserError(f"{source}: its scale factor is damaged; convert or download the file again") from None
    return 1.0 if slope is None else slope, 0.0 if intercept is None else intercept


def image_values(
    source: str, raw: NDArray[Any], slope: float = 1, intercept: float = 0, recoded: Mapping[int, int] | None = None
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Intensities as float32, with background exactly 0; checked after scaling and cast.

    Parameters
    ----------
    source : str
        For messages.
    raw : ndarray, shape (i, j, k)
        As stored.
    slope, intercept : float
        ``value = slope * raw + intercept``.
    recoded : mapping of int to int or None
        As for `anymri.data.formats.recode`.

    Returns
    -------
    ndarray of float32, shape (i, j, k)
        Artifacts replaced, see `anymri.data.artifacts`.
    tuple of str
        What was replaced.

    Raises
    ------
    UserError
        If a value is infinite, NaN inside the image or beyond single precision, all values are equal, or there are so
        few that it is a label map.
    """
    values = _fill_background(source, _scale(raw, slope, intercept))
    if raw.dtype.kind in "iu" and intercept != 0:
        values[np.abs(values) <= abs(slope) / 2 * (1 + 1e-5)] = 0
    elif raw.dtype.kind == "f" or intercept != 0:
        values = _constant_to_zero(values)
    values, notes = repair(values, raw)
    values = _to_single(source, values)
    if values.min() == values.max():
        low = float(values.flat[0])
        state = "is empty (all values are 0)" if low == 0 else f"is constant (all values are {low:g})"
        raise UserError(f"{source}: {state}; give the image itself")
    _refuse_label_map(source, values)
    return recode(values, recoded or {}), notes


def _scale(raw: NDArray[Any], slope: float, intercept: float) -> NDArray[Any]:
    """Scaled values, float32 or, where more is needed, float64."""
    if raw.dtype.kind == "f" and raw.dtype.itemsize > 4:
        return raw * slope + intercept
    if intercept == 0:
        return raw.astype(np.float32) if slope == 1 else raw.astype(np.float32) * np.float64(slope)
    return raw * float(slope) + float(intercept)


def label_values(
    source: str, raw: NDArray[Any], slope: float = 1, intercept: float = 0, recoded: Mapping[int, int] | None = None
) -> NDArray[Any]:
    """Labels as int16, or int32 where a value needs it.

    Parameters
    ----------
    source, raw, slope, intercept, recoded
        As for `image_values`.

    Raises
    ------
    UserError
        If the values are not whole numbers from 0 on, within what a scale factor or single precision rounds.
    """
    values: NDArray[Any] = raw if (slope, intercept) == (1, 0) else raw * float(slope) + float(intercept)
    wrong = f"{source}: is not a label map (whole numbers from 0 on); give the segmentation file"
    if values.dtype.kind == "f":
        values = _fill_background(source, values)
        whole = np.rint(values)
        # Where the header scales stored integers, a label may lie half a stored step from its number.
        half = abs(slope) / 2 * (1 + 1e-5) if raw.dtype.kind in "iu" else 0.0
        if (np.abs(values - whole) > max(MAX_LABEL_ERROR, min(half, 0.25))).any():
            raise UserError(wrong)
        values = whole
    if values.min() < 0 or values.max() > MAX_LABEL:
        raise UserError(wrong)
    dtype = np.int16 if values.max() <= np.iinfo(np.int16).max else np.int32
    return recode(values.astype(dtype), recoded or {})


def _to_single(source: str, values: NDArray[Any]) -> NDArray[np.float32]:
    """Cast to float32; refuse finite values that it does not hold, or could not compute with."""
    top = float(np.abs(values).max())
    if top > FLOAT_RANGE[1] or 0 < top < FLOAT_RANGE[0]:
        size = "large" if top > 1 else "small"
        raise UserError(f"{source}: has values up to {top:.3g}, too {size} for single precision; rescale it")
    return values.astype(np.float32)


def _fill_background(source: str, values: NDArray[Any]) -> NDArray[Any]:
    """Replace NaN around the image by 0; refuse NaN inside it, and infinity.

    Inside is what image voxels enclose, and a slice without any value between slices that have some.
    """
    nan = np.isnan(values)
    infinite = int(np.isinf(values).sum())
    if nan.all():
        raise UserError(f"{source}: every value is NaN or infinite; export the image again")
    if infinite:
        raise UserError(f"{source}: {infinite} values are infinite; repair or export the image again")
    if not nan.any():
        return values
    from scipy import ndimage

    empty = nan | (values == 0)
    regions, _ = ndimage.label(empty)
    inside = ~np.isin(regions, np.unique(np.concatenate([regions[face].ravel() for face in _faces()])))
    for axis in range(3):
        filled = ~empty.all(axis=tuple(other for other in range(3) if other != axis))
        between = np.maximum.accumulate(filled) & np.maximum.accumulate(filled[::-1])[::-1] & ~filled
        inside |= between.reshape([-1 if other == axis else 1 for other in range(3)])
    count = int((nan & inside).sum())
    if count:
        raise UserError(f"{source}: {count} values inside the image are NaN; repair or export the image again")
    return np.where(nan, values.dtype.type(0), values)


def _faces() -> list[tuple[Any, ...]]:
    """Index of each of the six outer planes of a volume."""
    every = slice(None)
    return [tuple(end if other == axis else every for other in range(3)) for axis in range(3) for end in (0, -1)]


def _constant_to_zero(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Make background exactly 0 that a floating-point file holds as one value very near 0.

    Such files come of integers with slope and intercept, resaved: what was 0 is then off by up to half a step.
    """
    if np.count_nonzero(values) < (1 - MIN_BACKGROUND) * values.size:
        return values
    corners, counts = np.unique(values[np.ix_(*[(0, -1)] * 3)], return_counts=True)
    background = corners[counts.argmax()]
    near = abs(background) <= MAX_BACKGROUND_OFFSET * float(np.ptp(values))
    same = values == background
    if not near or np.count_nonzero(same) < MIN_BACKGROUND * values.size:
        return values
    return np.where(same, np.float32(0), values)


def _refuse_label_map(source: str, values: NDArray[np.float32]) -> None:
    # A label map shows few values everywhere, so a sample of the voxels tells most images apart at once.
    if np.unique(values.ravel(order="K")[::97]).size > MIN_IMAGE_VALUES or (values != np.rint(values)).any():
        return
    distinct = np.unique(values)
    if distinct[distinct != 0].size < MIN_IMAGE_VALUES:
        raise UserError(f"{source}: looks like a label map ({distinct.size} values); give the image, not a mask")
