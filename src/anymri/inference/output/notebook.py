"""A result in notebooks: a small piece of HTML and a matplotlib figure, without any name of a study or file."""

from __future__ import annotations

from html import escape
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from anymri.inference.output.first_line import first_line, is_usable
from anymri.inference.pictures import (
    brain_box,
    colour_hex,
    data_uri,
    label_colours,
    lesion_slices,
    slice_picture,
    value_range,
)
from anymri.inference.trust.measured import trust_line
from anymri.inference.words import title
from anymri.modalities import MODALITIES

if TYPE_CHECKING:
    from PIL import Image

    from anymri.inference.output.result import Result

__all__ = ["plot_result", "result_html"]

#: Height of a picture in pixels: a result of four sequences stays below 100 kB.
HEIGHT = 200


def result_html(result: Result) -> str:
    """What Jupyter shows of a result: its first line, volumes, an axial slice of every sequence.

    Parameters
    ----------
    result : Result

    Returns
    -------
    str
        Self-contained, in the colours of the notebook, light or dark. Study and files are not named.
    """
    weight = "normal" if is_usable(result) else "bold"
    rows = [
        f"<tr><td>{escape(title(region))}</td><td style='text-align:right'>"
        f"{'unknown' if volume is None else f'{volume:.1f} ml'}</td><td style='text-align:left'>"
        f"{escape(_said(result, region))}</td></tr>"
        for region, volume in result.volumes_ml.items()
    ]
    figures = [
        f"<figure style='margin:0 6px 6px 0;display:inline-block'><img src='{data_uri(_webp(picture), 'webp')}' "
        f"alt='{text}, axial slice' style='display:block;height:{HEIGHT}px'>"
        f"<figcaption style='font-size:.85em'>{text}</figcaption></figure>"
        for text, picture in _slices(result)
    ]
    table = f"<table>{''.join(rows)}</table>" if rows else ""
    return (
        f"<div><p style='font-weight:{weight}'>{escape(first_line(result))}</p>{table}<div>{''.join(figures)}</div>"
        "<p style='font-size:.85em'>For research use only.</p></div>"
    )


def plot_result(result: Result, index: int | None = None) -> Any:
    """A figure of one axial slice of every sequence, with contours; completed sequences carry the word SYNTHETIC.

    Parameters
    ----------
    result : Result
    index : int or None, default=None
        Slice, from 0 below; None = through the largest lesion.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib import pyplot
    from matplotlib.patches import Patch

    pictures = _slices(result, index)
    figure, axes = pyplot.subplots(1, len(pictures), figsize=(3 * len(pictures), 4.2), squeeze=False)
    for axis, (text, picture) in zip(axes[0], pictures, strict=True):
        axis.imshow(np.asarray(picture))
        axis.set_title(text, fontsize=10)
        axis.axis("off")
    if result.view.label is not None:
        colours = label_colours(result.spec)
        keys = [Patch(color=colour_hex(colours[label]), label=title(label)) for label in result.label_values]
        figure.legend(handles=keys, loc="lower center", ncols=len(keys), frameon=False, fontsize=9)
    figure.suptitle(first_line(result), fontsize=10, wrap=True)
    pyplot.close(figure)  # or a notebook would show it twice
    return figure


def _said(result: Result, region: str) -> str:
    if region in result.unknown:
        return result.unknown[region].partition(";")[0]
    return trust_line(result.trust, region)


def _slices(result: Result, index: int | None = None) -> list[tuple[str, Image.Image]]:
    """Caption and axial slice of every sequence, given first, then completed."""
    view = result.view
    first = next(iter(view.images.values()))
    place = lesion_slices(view.label, first)["axial"] if index is None else index
    options: dict[str, Any] = {"index": place, "box": brain_box(first), "spacing_mm": view.geometry.spacing_mm}
    options |= {"height": HEIGHT, "spec": result.spec}
    pictures = [
        (MODALITIES[code].short_name, slice_picture(image, view.label, limits=value_range(image), **options))
        for code, image in view.images.items()
    ]
    for code, image in view.completed.items():
        mark = f"SYNTHETIC {MODALITIES[code].short_name}"
        pictures.append((mark, slice_picture(image, limits=value_range(image), stamp=mark, **options)))
    return pictures


def _webp(picture: Image.Image) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, format="WEBP", quality=80)
    return buffer.getvalue()
