"""Pictures of studies: slices with label contours, stamps for synthetic images, as PNG bytes.

Drawn with numpy and Pillow: quick, and the same bytes each time. Arrays are (D, H, W); pictures follow the
radiological convention: seen from the feet or the front, the patient's right is on the left, in sagittal slices
the face is on the left.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from anymri.types import GLIOMA, DataSpec

__all__ = [
    "HEAT",
    "PLANES",
    "Plane",
    "axial_sheet",
    "brain_box",
    "colour_hex",
    "contour_picture",
    "data_uri",
    "grey_picture",
    "heat_picture",
    "label_colours",
    "largest_component",
    "lesion_slices",
    "montage_png",
    "png_bytes",
    "section_areas",
    "slice_picture",
    "slice_png",
    "value_range",
]

Array = np.ndarray[Any, Any]
Plane = Literal["axial", "coronal", "sagittal"]
#: Plane name to the axis it cuts.
PLANES: dict[Plane, int] = {"axial": 0, "coronal": 1, "sagittal": 2}

#: Told apart by people with any colour vision and against grey (after Okabe and Ito).
_NAMED_COLOURS: dict[str, tuple[int, int, int]] = {
    "ncr": (213, 94, 0),
    "edema": (86, 180, 233),
    "et": (240, 228, 66),
}
#: From 0 to 1 in equal steps: dark violet over orange to light yellow.
HEAT = ((0, 0, 4), (81, 18, 124), (183, 55, 121), (252, 137, 97), (252, 253, 191))
_FURTHER_COLOURS = ((86, 180, 233), (230, 159, 0), (0, 158, 115), (204, 121, 167), (240, 228, 66), (213, 94, 0))


def label_colours(spec: DataSpec = GLIOMA) -> dict[str, tuple[int, int, int]]:
    """Colour (red, green, blue) of every label name of a specification."""
    names = list(spec.labels)
    return {
        name: _NAMED_COLOURS.get(name, _FURTHER_COLOURS[index % len(_FURTHER_COLOURS)])
        for index, name in enumerate(names)
    }


def colour_hex(colour: tuple[int, int, int]) -> str:
    """Colour as in style sheets, e.g. ``"#d55e00"``."""
    return "#" + "".join(f"{part:02x}" for part in colour)


def data_uri(data: bytes, kind: Literal["png", "webp"] = "png") -> str:
    """Bytes of a picture as the address of an ``<img>`` that needs no file."""
    return f"data:image/{kind};base64," + b64encode(data).decode("ascii")


def value_range(image: Array) -> tuple[float, float]:
    """Grey range of a picture: 0.5th and 99.5th percentile of the voxels that are neither 0 nor NaN."""
    values = image[(image != 0) & np.isfinite(image)]
    if not values.size:
        return 0.0, 1.0
    low, high = np.percentile(values[:: max(1, values.size // 200_000)], [0.5, 99.5])
    return float(low), float(max(high, low + 1e-6))


def brain_box(image: Array, margin: int = 3) -> tuple[slice, slice, slice]:
    """Box around everything that is neither 0 nor NaN, with a margin in voxels; the whole array if there is nothing."""
    inside = image if image.dtype == bool else (image != 0) & np.isfinite(image)
    slices = []
    for axis, size in enumerate(inside.shape):
        places = np.flatnonzero(inside.any(axis=tuple(other for other in range(3) if other != axis)))
        low, high = (int(places[0]), int(places[-1]) + 1) if places.size else (0, size)
        slices.append(slice(max(0, low - margin), min(size, high + margin)))
    return slices[0], slices[1], slices[2]


def lesion_slices(label: Array | None, image: Array) -> dict[Plane, int]:
    """Index of the slice to show in each plane: the most of the largest lesion, else the middle of the brain.

    Parameters
    ----------
    label : int or bool array, shape (D, H, W), or None
    image : float array, shape (D, H, W)
        Used where there is no lesion.

    Returns
    -------
    dict of str to int
        By plane name.
    """
    if label is not None and bool((label != 0).any()):
        lesion = largest_component(label != 0)
        return {plane: int(areas.argmax()) for plane, areas in section_areas(lesion).items()}
    box = brain_box(image, margin=0)
    return {plane: (box[axis].start + box[axis].stop - 1) // 2 for plane, axis in PLANES.items()}


def section_areas(inside: Array) -> dict[Plane, Array]:
    """Voxels of a shape, bool (D, H, W), in every slice of each plane."""
    box = brain_box(inside, margin=0)
    found: dict[Plane, Array] = {}
    for plane, axis in PLANES.items():
        found[plane] = np.zeros(inside.shape[axis], np.int64)
        found[plane][box[axis]] = inside[box].sum(axis=tuple(other for other in range(3) if other != axis))
    return found


def largest_component(inside: Array) -> Array:
    """The largest connected part of a shape; voxels that touch by a corner are connected.

    Parameters
    ----------
    inside : bool array, shape (D, H, W)

    Returns
    -------
    bool array, shape (D, H, W)
        Empty if `inside` is; the first of equals.
    """
    from scipy.ndimage import label as label_parts

    box = brain_box(inside, margin=0)
    parts, count = label_parts(inside[box], structure=np.ones((3, 3, 3)))
    largest = np.zeros(inside.shape, bool)
    if count:
        largest[box] = parts == np.bincount(parts.ravel())[1:].argmax() + 1
    return largest


def slice_picture(
    image: Array,
    label: Array | None = None,
    *,
    plane: Plane = "axial",
    index: int | None = None,
    spacing_mm: Sequence[float] = (1.0, 1.0, 1.0),
    box: tuple[slice, slice, slice] | None = None,
    limits: tuple[float, float] | None = None,
    style: Literal["contour", "fill"] = "contour",
    stamp: str | None = None,
    height: int = 240,
    spec: DataSpec = GLIOMA,
) -> Image.Image:
    """One slice in grey with labels in colour.

    Parameters
    ----------
    image : float array, shape (D, H, W)
        NaN is shown black.
    label : int array, shape (D, H, W), or None
        Values of ``spec.labels``.
    plane : {"axial", "coronal", "sagittal"}
    index : int or None
        Slice along the plane's axis; None = where `lesion_slices` looks.
    spacing_mm : sequence of float
        Voxel size (D, H, W); the picture has square pixels.
    box : tuple of slice or None
        Part of the volume to show; None = the brain box of `image`.
    limits : tuple of float or None
        Values shown black and white; None = `value_range`. Give it where pictures are to be compared.
    style : {"contour", "fill"}
    stamp : str or None
        Written into the picture, e.g. ``"SYNTHETIC"``.
    height : int
        Height of the picture in pixels.
    spec : DataSpec

    Returns
    -------
    PIL.Image.Image
        RGB.
    """
    index = lesion_slices(label, image)[plane] if index is None else index
    box = brain_box(image) if box is None else box
    limits = value_range(image) if limits is None else limits
    result = grey_picture(
        image, plane=plane, index=index, spacing_mm=spacing_mm, box=box, limits=limits, height=height
    ).convert("RGB")
    if label is not None:
        cut = _cutter(PLANES[plane], index, box)(label).astype(np.int32)
        colour = np.array(result)
        _paint(colour, np.asarray(Image.fromarray(cut).resize(result.size, Image.Resampling.NEAREST)), style, spec)
        result = Image.fromarray(colour)
    if stamp:
        _stamp(result, stamp)
    return result


def grey_picture(
    image: Array,
    *,
    index: int,
    box: tuple[slice, slice, slice],
    limits: tuple[float, float],
    plane: Plane = "axial",
    spacing_mm: Sequence[float] = (1.0, 1.0, 1.0),
    height: int = 240,
) -> Image.Image:
    """One slice in grey and nothing over it; parameters as of `slice_picture`, of mode L."""
    axis = PLANES[plane]
    shown = _cutter(axis, index, box)(image)
    low, high = limits
    grey = np.nan_to_num(np.clip((shown - low) / (high - low), 0, 1))
    grey[shown == 0] = 0
    rows, columns = (size for place, size in enumerate(spacing_mm) if place != axis)
    width = max(1, round(height * grey.shape[1] * columns / (grey.shape[0] * rows)))
    return Image.fromarray((grey * 255).astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)


def contour_picture(
    label: Array,
    *,
    index: int,
    box: tuple[slice, slice, slice],
    size: tuple[int, int],
    spec: DataSpec = GLIOMA,
) -> Image.Image:
    """Contours of the labels of one axial slice, transparent elsewhere.

    Parameters
    ----------
    label : int array, shape (D, H, W)
    index : int
    box : tuple of slice
    size : tuple of int
        Width and height in pixels.
    spec : DataSpec

    Returns
    -------
    PIL.Image.Image
        RGBA.
    """
    cut = _cutter(0, index, box)(label).astype(np.int32)
    if not cut.any():
        return Image.new("RGBA", size)
    shown = np.asarray(Image.fromarray(cut).resize(size, Image.Resampling.NEAREST))
    colour = np.zeros((*shown.shape, 3), np.uint8)
    _paint(colour, shown, "contour", spec)
    opaque = np.where(colour.any(axis=-1, keepdims=True), 255, 0).astype(np.uint8)
    return Image.fromarray(np.concatenate([colour, opaque], axis=-1))


def slice_png(
    image: Array,
    label: Array | None = None,
    *,
    plane: Plane = "axial",
    index: int | None = None,
    spacing_mm: Sequence[float] = (1.0, 1.0, 1.0),
    limits: tuple[float, float] | None = None,
    style: Literal["contour", "fill"] = "contour",
    stamp: str | None = None,
    height: int = 240,
    spec: DataSpec = GLIOMA,
) -> bytes:
    """`slice_picture` as PNG bytes."""
    return png_bytes(
        slice_picture(
            image, label, plane=plane, index=index, spacing_mm=spacing_mm, limits=limits, style=style, stamp=stamp,
            height=height, spec=spec,
        )
    )  # fmt: skip


def montage_png(pictures: Sequence[Image.Image], captions: Sequence[str] | None = None, gap: int = 4) -> bytes:
    """Pictures of one height side by side, each with an optional caption in its upper left corner.

    Parameters
    ----------
    pictures : sequence of PIL.Image.Image
    captions : sequence of str or None
    gap : int
        Black pixels between them.
    """
    width = sum(picture.width for picture in pictures) + gap * (len(pictures) - 1)
    canvas = Image.new("RGB", (width, max(picture.height for picture in pictures)))
    left = 0
    for place, picture in enumerate(pictures):
        canvas.paste(picture, (left, 0))
        if captions:
            _write(canvas, (left + 4, 3), captions[place], size=13, colour=(255, 255, 255))
        left += picture.width + gap
    return png_bytes(canvas)


def heat_picture(
    image: Array,
    value: Array,
    *,
    from_value: float = 0.0,
    limits: tuple[float, float] | None = None,
    stamp: str | None = None,
    **options: Any,
) -> Image.Image:
    """`slice_picture` of an image with a map in [0, 1] over it, in the colours of `HEAT`.

    Parameters
    ----------
    image : float array, shape (D, H, W)
    value : float array, shape (D, H, W)
    from_value : float, default=0.0
        Below it the map is not drawn, so that the image shows.
    limits : tuple of float or None
        Grey range of the image; None = `value_range`.
    stamp : str or None
        Written into the picture.
    options
        Of `slice_picture`: ``plane``, ``index``, ``box`` (needed here), ``spacing_mm``, ``height``.
    """
    grey = np.asarray(slice_picture(image, limits=limits, **options), dtype=np.float32)
    drawn = slice_picture(value, limits=(0.0, 1.0), **options).convert("L")
    level = np.asarray(drawn, dtype=np.float32) / 255
    place = level * (len(HEAT) - 1)
    lower = np.minimum(place.astype(int), len(HEAT) - 2)
    share = (place - lower)[..., None]
    anchors = np.array(HEAT, np.float32)
    colour = anchors[lower] * (1 - share) + anchors[lower + 1] * share
    blended = np.where((level >= from_value)[..., None], 0.3 * grey + 0.7 * colour, grey)
    picture = Image.fromarray(blended.astype(np.uint8))
    if stamp:
        _stamp(picture, stamp)
    return picture


def axial_sheet(images: Sequence[Image.Image], columns: int) -> Image.Image:
    """Pictures of one size in rows of `columns`; what is left over is black, or transparent where they can be."""
    width, height = images[0].size
    rows = -(-len(images) // columns)
    sheet = Image.new(images[0].mode, (width * columns, height * rows))
    for number, picture in enumerate(images):
        sheet.paste(picture, (number % columns * width, number // columns * height))
    return sheet


def png_bytes(picture: Image.Image, compress_level: int = 1) -> bytes:
    """Encode a picture; the same picture gives the same bytes.

    Of slices the default takes a third of the time of level 6 for about the same size; of flat drawings 6 is smaller.
    """
    buffer = BytesIO()
    picture.save(buffer, format="PNG", compress_level=compress_level)
    return buffer.getvalue()


def _cutter(axis: int, index: int, box: tuple[slice, slice, slice]) -> Any:
    """Function that takes the slice out of a volume, in display order: rows downwards, columns to the right."""
    rest = tuple(part for place, part in enumerate(box) if place != axis)

    def cut(volume: Array) -> Array:
        return np.take(volume, index, axis=axis)[rest][::-1, ::-1]

    return cut


def _paint(colour: Array, label: Array, style: str, spec: DataSpec) -> None:
    """Draw labels into an RGB array, later ones on top."""
    colours: Mapping[str, tuple[int, int, int]] = label_colours(spec)
    for name, value in spec.labels.items():
        inside = label == value
        if not inside.any():
            continue
        if style == "fill":
            colour[inside] = (0.5 * colour[inside] + 0.5 * np.array(colours[name])).astype(np.uint8)
        else:
            colour[_rim(inside)] = colours[name]


def _rim(inside: Array) -> Array:
    """Pixels of a shape that touch its outside, two wide."""
    eroded = inside
    for _ in range(2):
        padded = np.pad(eroded, 1)
        eroded = eroded & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return inside & ~eroded


def _stamp(picture: Image.Image, text: str) -> None:
    size = max(11, min(picture.height // 13, picture.width * 3 // (2 * len(text))))
    _write(picture, (4, picture.height - size - 7), text, size=size, colour=(255, 191, 0))


def _write(picture: Image.Image, place: tuple[int, int], text: str, size: int, colour: tuple[int, int, int]) -> None:
    font = ImageFont.load_default(size)
    draw = ImageDraw.Draw(picture)
    draw.text(place, text, fill=colour, font=font, stroke_width=1, stroke_fill=(0, 0, 0))
