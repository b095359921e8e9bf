"""Demonstration pictures: a subject in every subset of its sequences, what was given, filled in and segmented."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image

    from anymri.data.study import Study
    from anymri.inference.sliding_window import SubjectPrediction
    from anymri.types import DataSpec

__all__ = ["SubsetPictures"]

#: Height of a panel, width of the column of names and gap, in pixels; colours of the palette.
HEIGHT, NAMES_WIDTH, GAP, COLOURS = 150, 100, 4, 96
#: Which sequence lies under the contours, where it is available.
BACKGROUND = ("flair", "t1c", "t2", "t1")
#: Regions whose Dice stands beside a row.
SHORT_NAMES = {"whole_tumor": "WT", "tumor_core": "TC", "enhancing_tumor": "ET"}


class SubsetPictures:
    """Pictures of every scored subject, one row per subset, drawn while an evaluation runs.

    Give the object to `anymri.evaluation.evaluate` as `watch`. Subjects must have label maps.

    Parameters
    ----------
    spec : DataSpec
        Of the data set and the model.
    """

    def __init__(self, spec: DataSpec) -> None:
        self.spec = spec
        self._subjects: dict[str, _Subject] = {}

    def __call__(self, study: Study, subset: tuple[str, ...], prediction: SubjectPrediction) -> None:
        """Draw one row."""
        drawn = _Subject(study, self.spec)
        subject = self._subjects.setdefault(study.subject_id, drawn)
        same = subject.study.lattice == study.lattice
        subject.rows[subset] = (subject if same else drawn).draw(subset, prediction)

    def pngs(self, table: pd.DataFrame) -> dict[str, bytes]:
        """One PNG per subject, with the Dice of the results table beside each row.

        Parameters
        ----------
        table : DataFrame
            What `anymri.evaluation.evaluate` returned.

        Returns
        -------
        dict of str to bytes
            By subject id.
        """
        return {name: subject.png(table[table["subject"] == name]) for name, subject in self._subjects.items()}

    def section(self, table: pd.DataFrame) -> str:
        """Section of a page with all pictures, HTML."""
        from anymri.inference.pictures import data_uri

        figures = "".join(
            f'<figure style="max-width:820px"><img loading="lazy" src="{data_uri(png)}" '
            f'alt="{name} from every subset"><figcaption>{name}</figcaption></figure>\n'
            for name, png in self.pngs(table).items()
        )
        return (
            "<h2>Every subject from every subset</h2>\n"
            "<p>Each row shows the sequences that were given and, marked SYNTHETIC, those that the model filled in; "
            "black: not filled in. Last column: the segmentation, on a sequence that was given (blue oedema, orange "
            "necrotic core, yellow enhancing tumour). The first row is the truth. Dice of the whole tumour (WT), the "
            f"tumour core (TC) and the enhancing tumour (ET) on the left.</p>\n{figures}\n"
        )


@dataclass
class _Subject:
    """Slice, box and grey ranges that all rows of one subject share."""

    study: Study
    spec: DataSpec
    rows: dict[tuple[str, ...], list[Image]] = field(default_factory=dict)

    @cached_property
    def image(self) -> Any:
        import numpy as np

        return np.asarray(self.study.image, np.float32)

    @cached_property
    def look(self) -> dict[str, Any]:
        import numpy as np

        from anymri.inference.pictures import brain_box, lesion_slices

        inside = np.nan_to_num(self.image).any(axis=0).astype(np.float32)
        return {
            "index": lesion_slices(self.study.label, inside)["axial"],
            "box": brain_box(inside),
            "spacing_mm": self.study.spacing_mm,
            "height": HEIGHT,
            "spec": self.spec,
        }

    @cached_property
    def limits(self) -> list[tuple[float, float]]:
        from anymri.inference.pictures import value_range

        return [value_range(channel) for channel in self.image]

    def draw(self, subset: tuple[str, ...], prediction: SubjectPrediction) -> list[Image]:
        """Given and made-up sequences, and the segmentation."""
        from anymri.inference.labels import label_map

        panels = []
        made = prediction.image if bool(prediction.synthesised.any()) else None
        for index, code in enumerate(self.spec.modalities):
            if code in subset:
                panels.append(self._panel(index, self.image[index]))
            elif made is not None and bool(prediction.synthesised[index]):
                panels.append(self._panel(index, made[index].numpy(), stamp="SYNTHETIC"))
            else:
                panels.append(self._panel(index, self.image[index] * 0))
        found = None
        if prediction.probability is not None and prediction.head is not None:
            found = label_map(prediction.probability, prediction.head, self.spec)
        return [*panels, self._segmented(subset, found)]

    def truth(self) -> list[Image]:
        """All sequences and the reference."""
        panels = [self._panel(index, channel) for index, channel in enumerate(self.image)]
        return [*panels, self._segmented(self.spec.modalities, self.study.label)]

    def png(self, results: pd.DataFrame) -> bytes:
        """All rows, in few colours: small on the page."""
        from PIL import Image

        named = [(["truth"], self.truth())]
        for subset, panels in self.rows.items():
            named.append(([*subset, *_scores(results, self.spec.subset_name(subset))], panels))
        width = NAMES_WIDTH + sum(GAP + panel.width for panel in named[0][1])
        canvas = Image.new("RGB", (width, len(named) * (HEIGHT + GAP) - GAP))
        for number, (lines, panels) in enumerate(named):
            top, left = number * (HEIGHT + GAP), NAMES_WIDTH + GAP
            _write(canvas, (8, top + 4), lines)
            for panel in panels:
                canvas.paste(panel, (left, top))
                left += panel.width + GAP
        buffer = BytesIO()
        canvas.quantize(colors=COLOURS, dither=Image.Dither.NONE).save(buffer, format="PNG", optimize=True)
        return buffer.getvalue()

    def _panel(self, index: int, channel: Any, label: Any = None, stamp: str | None = None) -> Image:
        from anymri.inference.pictures import slice_picture

        return slice_picture(channel, label, limits=self.limits[index], stamp=stamp, **self.look)

    def _segmented(self, subset: tuple[str, ...], label: Any) -> Image:
        index = self.spec.index(next((code for code in BACKGROUND if code in subset), subset[0]))
        return self._panel(index, self.image[index], label)


def _scores(results: pd.DataFrame, subset: str) -> list[str]:
    rows = results[(results["metric"] == "dice") & (results["subset"] == subset)]
    values = dict(zip(rows["target"].astype(str), rows["value"], strict=True))
    return [f"{name} {values[region]:.2f}" for region, name in SHORT_NAMES.items() if region in values]


def _write(canvas: Image, place: tuple[int, int], lines: list[str]) -> None:
    from PIL import ImageDraw, ImageFont

    font = ImageFont.load_default(14)
    ImageDraw.Draw(canvas).multiline_text(place, "\n".join(lines), fill=(255, 255, 255), font=font, spacing=3)
