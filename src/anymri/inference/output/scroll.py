"""Scrollable slices of a study: one picture file per sequence, for the report."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from math import ceil, sqrt
from typing import Any

import numpy as np
from PIL import Image

from anymri.inference.output.result import View
from anymri.inference.pictures import (
    axial_sheet,
    brain_box,
    contour_picture,
    data_uri,
    png_bytes,
    slice_picture,
    value_range,
)
from anymri.types import DataSpec

__all__ = ["Scroll", "make_scroll"]

Array = np.ndarray[Any, Any]
#: Height of a slice in the file, in pixels.
HEIGHT = 220
#: More slices than this are thinned out evenly, so that the page stays a few MB.
MOST_SLICES = 200


@dataclass(frozen=True, kw_only=True)
class Scroll:
    """Sheets of slices, in rows from the lowest to the highest.

    Parameters
    ----------
    sheets : dict of str to str
        Modality code to the address of its sheet.
    contours : str or None
        Address of the sheet of contours; None without a label map.
    columns, rows : int
        Slices in a row, and rows.
    width, height : int
        Of one slice, in pixels.
    slices : list of int
        Number of each slice in the volume, counted from 1 below.
    first : int
        Place in `slices` to begin with.
    of : int
        Slices of the volume.
    """

    sheets: dict[str, str]
    contours: str | None
    columns: int
    rows: int
    width: int
    height: int
    slices: list[int]
    first: int
    of: int


def make_scroll(view: View, spec: DataSpec, first: int) -> Scroll:
    """Draw every axial slice that shows brain.

    Parameters
    ----------
    view : View
    spec : DataSpec
    first : int
        Index of the slice to begin with.
    """
    box = brain_box(np.logical_or.reduce([image != 0 for image in view.images.values()]))
    step = ceil((box[0].stop - box[0].start) / MOST_SLICES)
    slices = list(range(box[0].start, box[0].stop, step))
    options: dict[str, Any] = {"box": box, "spacing_mm": view.geometry.spacing_mm, "height": HEIGHT}
    size = slice_picture(next(iter(view.images.values())), index=slices[0], **options).size
    columns = max(1, round(sqrt(len(slices) * size[1] / size[0])))
    sheets = {}
    for code, image in view.images.items():
        limits = value_range(image)
        drawn = [slice_picture(image, index=index, limits=limits, **options).convert("L") for index in slices]
        sheets[code] = data_uri(_webp(axial_sheet(drawn, columns)), "webp")
    contours = None
    if view.label is not None:
        lines = [contour_picture(view.label, index=index, box=box, size=size, spec=spec) for index in slices]
        contours = data_uri(png_bytes(axial_sheet(lines, columns)))
    return Scroll(
        sheets=sheets,
        contours=contours,
        columns=columns,
        rows=ceil(len(slices) / columns),
        width=size[0],
        height=size[1],
        slices=[index + 1 for index in slices],
        first=int(np.abs(np.array(slices) - first).argmin()),
        of=view.geometry.shape_dhw[0],
    )


def _webp(picture: Image.Image) -> bytes:
    """Lossy, a third smaller than JPEG of the same look; the same picture gives the same bytes."""
    buffer = BytesIO()
    picture.save(buffer, format="WEBP", quality=75, method=4)
    return buffer.getvalue()
