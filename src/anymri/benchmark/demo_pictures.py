"""One subject from each subset of its sequences: what was given, what was filled in, what was segmented."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image

__all__ = ["SubsetPicture", "draw_all_subsets"]

#: Height of a panel, width of the column of names and gap, in pixels; colours of the palette.
HEIGHT, NAMES_WIDTH, GAP, COLOURS = 150, 150, 4, 128
#: Which sequence lies under the contours, where it is available.
BACKGROUND = ("flair", "t1c", "t2", "t1")


@dataclass(frozen=True, kw_only=True)
class SubsetPicture:
    """A picture and its subject.

    Parameters
    ----------
    subject : str
    png : bytes
    completes : bool
        Whether the model fills in missing sequences.
    """

    subject: str
    png: bytes
    completes: bool

    def section(self) -> str:
        """Section of a page, HTML."""
        from anymri.inference.pictures import data_uri

        missing = "filled in by the model (SYNTHETIC)" if self.completes else "black: this model does not fill in"
        return (
            "<h2>One subject from every subset</h2>\n"
            f"<p>{self.subject}. Each row shows what the model was given; the other sequences are {missing}. "
            "Last column: its segmentation on a sequence it was given (blue oedema, orange necrotic core, yellow "
            "enhancing tumour), with its Dice for the whole tumour (WT), the tumour core (TC) and the enhancing tumour "
            "(ET). The first row is the truth.</p>\n"
            '<figure style="max-width:860px"><img loading="lazy" '
            f'src="{data_uri(self.png)}" alt="Subject {self.subject} segmented from every subset"></figure>\n\n'
        )


def draw_all_subsets(method: Any, cache: Path, table: pd.DataFrame) -> SubsetPicture:
    """Predict the median subject from every subset and draw it.

    Parameters
    ----------
    method : Method or Family
        In evaluation mode, with ``extra`` as `anymri.zoo.open_model` gives it.
    cache : Path
        Complete subjects with label maps.
    table : DataFrame
        Results of `anymri.evaluation.evaluate` for the same method and cache.

    Returns
    -------
    SubsetPicture
    """
    import numpy as np
    import torch

    from anymri.data.cache import Cache
    from anymri.evaluation.pictures import rank_subjects
    from anymri.inference.sliding_window import WindowSettings, iterate_subject

    own = table[table["method"] == method.name]
    ranked = rank_subjects(own)
    subject = ranked.get("median", ranked["best"])
    entry = Cache(cache).entry(subject)
    image = np.asarray(entry.image, np.float32)
    view = _View(image, np.asarray(entry.label), method.spec, entry.spacing_mm, own[own["subject"] == subject])
    subsets = (
        method.spec.subsets() if method.subsets == "any" else [method.spec.parse_subset(s) for s in method.subsets]
    )
    tensors = (torch.from_numpy(image), torch.from_numpy(entry.statistics), torch.from_numpy(entry.boxes))
    settings = WindowSettings(window=(getattr(method, "extra", None) or {}).get("window"), precision="auto")
    rows = [view.truth()]
    for subset, prediction in iterate_subject(method, tensors, subsets, settings, subject_id=subject):
        rows.append(view.row(subset, prediction))
    return SubsetPicture(subject=subject, png=_stack(rows), completes="image" in method.outputs)


class _View:
    """How every row of the picture looks: slice, box and grey ranges are the same in all."""

    def __init__(self, image: Any, label: Any, spec: Any, spacing_mm: Any, results: pd.DataFrame) -> None:
        from anymri.inference.pictures import brain_box, lesion_slices, value_range

        self.image, self.label, self.spec, self.results = image, label, spec, results
        first = image[0]
        self.limits = [value_range(channel) for channel in image]
        self.options = {
            "index": lesion_slices(label, first)["axial"],
            "box": brain_box(first),
            "spacing_mm": spacing_mm,
            "height": HEIGHT,
            "spec": spec,
        }

    def truth(self) -> list[Image]:
        """All sequences and the reference."""
        panels = [self._panel(index, channel) for index, channel in enumerate(self.image)]
        reference = self._panel(
            self._under(self.spec.modalities), self.image[self._under(self.spec.modalities)], self.label
        )
        return [self._names(["truth"]), *panels, reference]

    def row(self, subset: tuple[str, ...], prediction: Any) -> list[Image]:
        """One subset: given and made-up sequences, and the segmentation."""
        from anymri.inference.labels import label_map

        panels = []
        for index, code in enumerate(self.spec.modalities):
            if code in subset:
                panels.append(self._panel(index, self.image[index]))
            elif prediction.image is not None and bool(prediction.synthesised[index]):
                panels.append(self._panel(index, prediction.image[index].numpy(), stamp="SYNTHETIC"))
            else:
                panels.append(self._panel(index, self.image[index] * 0))
        found = None
        if prediction.probability is not None and prediction.head is not None:
            found = label_map(prediction.probability, prediction.head, self.spec)
        under = self._under(subset)
        return [
            self._names([*subset, "", *self._scores(subset)]),
            *panels,
            self._panel(under, self.image[under], found),
        ]

    def _panel(self, index: int, channel: Any, label: Any = None, stamp: str | None = None) -> Image:
        from anymri.inference.pictures import slice_picture

        return slice_picture(channel, label, limits=self.limits[index], stamp=stamp, **self.options)

    def _under(self, subset: tuple[str, ...]) -> int:
        return self.spec.index(next((code for code in BACKGROUND if code in subset), subset[0]))

    def _scores(self, subset: tuple[str, ...]) -> list[str]:
        rows = self.results
        rows = rows[(rows["metric"] == "dice") & (rows["subset"] == self.spec.subset_name(subset))]
        values = dict(zip(rows["target"].astype(str), rows["value"], strict=True))
        short = {"whole_tumor": "WT", "tumor_core": "TC", "enhancing_tumor": "ET"}
        return [f"{name} {values[region]:.2f}" for region, name in short.items() if region in values]

    def _names(self, lines: list[str]) -> Image:
        from PIL import Image, ImageDraw, ImageFont

        picture = Image.new("RGB", (NAMES_WIDTH, HEIGHT))
        font = ImageFont.load_default(15)
        ImageDraw.Draw(picture).multiline_text((8, 6), "\n".join(lines), fill=(255, 255, 255), font=font, spacing=3)
        return picture


def _stack(rows: list[list[Image]]) -> bytes:
    """Rows of panels as one PNG in few colours: small on the page."""
    from PIL import Image

    width = sum(panel.width + GAP for panel in rows[0]) - GAP
    canvas = Image.new("RGB", (width, len(rows) * (HEIGHT + GAP) - GAP))
    for number, row in enumerate(rows):
        left = 0
        for panel in row:
            canvas.paste(panel, (left, number * (HEIGHT + GAP)))
            left += panel.width + GAP
    buffer = BytesIO()
    canvas.quantize(colors=COLOURS, dither=Image.Dither.NONE).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
