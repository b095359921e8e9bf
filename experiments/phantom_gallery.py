"""Draw the phantom: sequences, pathologies and artifacts, and the page that shows them.

Usage: ``python experiments/phantom_gallery.py docs/results``. Writes ``phantom-gallery.md``, keeping what was written
by hand below its marker, and ``phantom-gallery/*.jpg``. With ``--real FOLDER --beside FILE`` draws real cases in the
same form instead, for looking only: they are not part of the page.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from anymri.phantom import PhantomSettings, PhantomSubject, make_subject
from anymri.phantom.abdomen import ABDOMEN_SEQUENCES, make_abdomen
from anymri.phantom.artifacts import ARTIFACTS, Scan, artifact_stream, draw_shell, impose_artifacts, put_in_head
from anymri.phantom.settings import PATHOLOGIES, SEQUENCES, Grid

BY_HAND = "<!-- written by hand below this line; the command keeps it -->"
SEED, INDEX, STRENGTH = 7, 3, 0.6
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
TILE = (104, 88)  # height and width of a picture in voxels of 2 mm
TOP = {"cbf": 97.0, "cbv": 97.0}
COLOURS = np.array([[0, 0, 0], [80, 160, 255], [80, 220, 120], [255, 210, 60], [255, 90, 90]], np.uint8)


@dataclass
class View:
    """One axial slice of a study, the same for all its pictures."""

    place: int
    centre: tuple[int, int]
    tops: dict[str, float]

    @classmethod
    def of(cls, images: Mapping[str, np.ndarray], label: np.ndarray) -> View:
        """The slice with most of most labels, else one through the ventricles; bright up to the 99.7th percentile.

        Vessels would fill the grey scale of maps of blood flow and volume, which end at the 97th.
        """
        shown = np.any([image > 0 for image in images.values()], axis=0)
        kinds = np.stack([(label == value).sum(axis=(1, 2)) for value in range(1, 5)])
        counts = kinds.sum(axis=0) * (kinds > 3).sum(axis=0)
        slices, rows, columns = (np.nonzero(shown.any(axis=axes))[0] for axes in ((1, 2), (0, 2), (0, 1)))
        place = int(counts.argmax()) if counts.any() else int(slices[0] + 0.55 * len(slices))
        tops = {code: float(np.percentile(image[image > 0], TOP.get(code, 99.7))) for code, image in images.items()}
        return cls(place, (int(rows.mean()), int(columns.mean())), tops)

    def cut(self, image: np.ndarray) -> np.ndarray:
        """The slice around the head, front up, left of the body on the right."""
        height, width = TILE
        padded = np.pad(image[self.place], ((height, height), (width, width)))
        row, column = self.centre[0] + height - height // 2, self.centre[1] + width - width // 2
        return padded[row : row + height, column : column + width][::-1, ::-1]

    def grey(self, image: np.ndarray, code: str) -> np.ndarray:
        """A picture of one sequence."""
        tile = np.clip(self.cut(image) / max(self.tops[code], 1e-6) * 255, 0, 255).astype(np.uint8)
        return np.repeat(tile[..., None], 3, axis=2)

    def label(self, label: np.ndarray) -> np.ndarray:
        """A picture of the label map: 1 blue, 2 green, 3 yellow, 4 red."""
        return COLOURS[self.cut(label)]


Rows = Iterator[tuple[str, list[np.ndarray]]]


def draw_sheet(path: Path, rows: Sequence[tuple[str, Sequence[np.ndarray]]], columns: Sequence[str]) -> None:
    """Write a table of pictures, all of one size, as one JPEG."""
    height, width = rows[0][1][0].shape[:2]
    left, top = 92, 16
    sheet = Image.new("RGB", (left + width * len(columns), top + height * len(rows)))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for number, name in enumerate(columns):
        draw.text((left + number * width + 3, 2), name, font=font, fill="white")
    for number, (name, tiles) in enumerate(rows):
        draw.text((3, top + number * height + height // 2 - 6), name.replace("_", "\n"), font=font, fill="white")
        for place, tile in enumerate(tiles):
            sheet.paste(Image.fromarray(tile), (left + place * width, top + number * height))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, quality=72, optimize=True)


def study(index: int = INDEX, **settings: object) -> PhantomSubject:
    """A phantom at 2 mm."""
    return make_subject(SEED, index, PhantomSettings(**settings))  # type: ignore[arg-type]


class Spoiler:
    """A clean phantom in its head, ready for artifacts."""

    def __init__(self, subject: PhantomSubject) -> None:
        self.subject = subject
        self.air = {name: (np.array(values[:3]), values[3]) for name, values in subject.parameters["air_mm"].items()}
        brain = subject.images["t1"] > 0
        edges = [np.nonzero(brain.any(axis=axes))[0] for axes in ((1, 2), (0, 2), (0, 1))]
        (z, z_end), (y, y_end), (x, x_end) = ((int(edge[0]), int(edge[-1]) + 1) for edge in edges)
        self.grid = Grid(subject.spacing_mm, (z, y, x), (z_end, y_end, x_end))
        self.shell = draw_shell(artifact_stream(SEED, INDEX, "head", "shell"), brain[self.grid.slices], self.grid)

    def spoil(self, code: str, artifact: str, strength: float) -> np.ndarray:
        """One sequence with one artifact, in the whole volume."""
        axis = self.subject.parameters["artifacts"][code]["slice_axis"]
        image = self.subject.images[code][self.grid.slices].astype(float)
        scan = put_in_head(Scan(image, image > 0, self.grid, axis, None, self.air), self.shell, code)
        scan, _ = impose_artifacts(scan, {artifact: strength}, partial(artifact_stream, SEED, INDEX, code))
        result = np.zeros(self.subject.label.shape)
        result[scan.grid.slices] = np.where(scan.seen, scan.image, 0)
        return result


def study_tiles(view: View, images: Mapping[str, np.ndarray], label: np.ndarray) -> list[np.ndarray]:
    """Pictures of all sequences and the label map."""
    return [*(view.grey(image, code) for code, image in images.items()), view.label(label)]


def pathology_rows(codes: Sequence[str]) -> Rows:
    """A row for each pathology, a column for each sequence and the label map."""
    for name in PATHOLOGIES:
        for grade in ("low", "high") if name == "glioma" else ("mixed",):
            subject = study(pathology=name, grade=grade, modalities=tuple(codes))
            view = View.of(subject.images, subject.label)
            title = f"{grade}-grade_{name}" if grade != "mixed" else name
            yield (
                title,
                [*(view.grey(image, code) for code, image in subject.images.items()), view.label(subject.label)],
            )


def sequence_rows(names: Sequence[str]) -> Rows:
    """A row for each artifact, a column for each sequence of a glioma."""
    subject = study()
    view = View.of(subject.images, subject.label)
    spoiler = Spoiler(subject)
    yield "none", [view.grey(image, code) for code, image in subject.images.items()]
    for name in names:
        yield name, [view.grey(spoiler.spoil(code, name, STRENGTH), code) for code in subject.images]


def disease_rows(names: Sequence[str], diseases: Sequence[str]) -> Rows:
    """A row for each artifact, a column for each pathology in FLAIR."""
    subjects = [study(pathology=name) for name in diseases]
    views = [View.of(subject.images, subject.label) for subject in subjects]
    pairs = list(zip(views, [Spoiler(subject) for subject in subjects], strict=True))
    yield "none", [view.grey(spoiler.subject.images["flair"], "flair") for view, spoiler in pairs]
    for name in names:
        yield name, [view.grey(spoiler.spoil("flair", name, STRENGTH), "flair") for view, spoiler in pairs]


def strength_rows(names: Sequence[str]) -> Rows:
    """A row for each artifact, a column for each strength in T1c."""
    subject = study()
    view, spoiler = View.of(subject.images, subject.label), Spoiler(subject)
    for name in names:
        spoiled = [spoiler.spoil("t1c", name, strength) for strength in STRENGTHS]
        shown = view
        if name == "susceptibility":  # near the air below the brain, not where the tumour is
            change = np.abs(spoiled[2] - spoiled[0]).sum(axis=(1, 2))
            shown = replace(view, place=int(change.argmax()))
        yield name, [shown.grey(image, "t1c") for image in spoiled]


def random_rows() -> Rows:
    """A row for each of six gliomas of random contrast."""
    for index in range(6):
        subject = study(index, contrast="random")
        view = View.of(subject.images, subject.label)
        yield f"subject {index}", study_tiles(view, subject.images, subject.label)


def anatomy_rows() -> Rows:
    """Eight brains without disease, T1 and T2, plain and varied."""
    for anatomy in ("plain", "varied"):
        studies = [study(index, pathology="none", anatomy=anatomy) for index in range(8)]
        views = [View.of(subject.images, subject.label) for subject in studies]
        for code in ("t1", "t2"):
            pairs = zip(views, studies, strict=True)
            yield f"{anatomy}_{code}", [view.grey(subject.images[code], code) for view, subject in pairs]


def head_rows() -> Rows:
    """A glioma in its head: what a raw study shows, at the level of the tumour and below it."""
    subject = study(skull=True)
    view = View.of(study().images, subject.label)
    for name, place in (("tumour", view.place), ("below", max(view.place - 14, 0))):
        shown = replace(view, place=place)
        yield name, [shown.grey(image, code) for code, image in subject.images.items()]


def abdomen_rows() -> Rows:
    """Three abdomens through the liver, at 3 mm."""
    for index in range(3):
        images, label, _ = make_abdomen(SEED, index)
        place = int((label == 1).sum(axis=(1, 2)).argmax())
        tiles = [np.clip(image[place] / np.percentile(image, 99.7) * 255, 0, 255) for image in images.values()]
        shown = [np.repeat(tile[::-1, ::-1, None], 3, axis=2).astype(np.uint8) for tile in tiles]
        yield f"subject {index}", [*shown, COLOURS[label[place][::-1, ::-1]]]


def real_rows(folder: Path, codes: Sequence[str]) -> Rows:
    """A row for each real case ``CASE/{t1,...,seg}.nii.gz``, on every second voxel."""
    from anymri.data.nifti import read_image

    for case in sorted(path.parent for path in folder.glob("*/seg.nii.gz")):
        images = {code: read_image(case / f"{code}.nii.gz").array[::2, ::2, ::2] for code in codes}
        label = read_image(case / "seg.nii.gz", "label").array[::2, ::2, ::2]
        label = np.where(label == 4, 3, label)
        view = View.of(images, label)
        yield case.name[-9:], study_tiles(view, images, label)


PAGE = """# What the phantom looks like

All pictures are of phantoms; none shows a person. Made by `python experiments/phantom_gallery.py docs/results` (seed
{seed}, subject {index}, 2 mm). Each is one axial slice through most of the disease, as bright as the 99.7th percentile
of its clean image; left of the body is on the right.

## Pathologies by sequence

Labels: 1 blue, 2 green, 3 yellow, 4 red. Glioma, metastases: 1 necrotic or non-enhancing core, 2 oedema, 3 enhancing,
4 resection cavity. Sclerosis, hyperintensities: 1 lesion, 2 lacune. Stroke: 1 penumbra, 2 core.

![pathologies](phantom-gallery/pathologies.jpg)

## Every sequence by pathology

The four above and all others that the phantom can make ([how](../reference/phantom.md#sequences)) but MD, which is as
ADC. Maps of blood flow and volume are as bright as their 97th percentile.

![every sequence by pathology](phantom-gallery/sequences-by-pathology.jpg)

## Artifacts by sequence

Strength {strength}; imposed on the whole head and skull-stripped afterwards, as in most data sets. `phase_cancellation`
shows only where there is fat, which a brain alone does not have. A black picture: the slice shown is a missing one.

![artifacts by sequence](phantom-gallery/artifacts-by-sequence.jpg)

## Artifacts by strength

![artifacts by strength](phantom-gallery/artifacts-by-strength.jpg)

## Artifacts by pathology

FLAIR, strength {strength}.

![artifacts by pathology](phantom-gallery/artifacts-by-pathology.jpg)

## Random contrast

`contrast="random"`: six gliomas for networks that must meet any scanner.

![random contrast](phantom-gallery/random-contrast.jpg)

## Anatomy, plain and varied

Eight brains without disease. `--anatomy varied` deforms them further, draws ventricles, atrophy and asymmetry more
widely and adds the deep nuclei.

![anatomy](phantom-gallery/anatomy.jpg)

## Whole heads

`--skull`: the same glioma with skull and scalp, at the level of the tumour and 28 mm below.

![heads](phantom-gallery/heads.jpg)

## Abdomens

`--anatomy abdomen`: T1 in and out of phase, T2-SPIR, labels (1 liver, 2 right kidney, 3 left kidney, 4 spleen), 3 mm.

![abdomens](phantom-gallery/abdomens.jpg)

"""


def write_page(path: Path) -> None:
    """Write the page around what was written by hand."""
    old = path.read_text(encoding="utf-8") if path.is_file() else ""
    kept = old.partition(BY_HAND)[2] or "\n"
    page = PAGE.format(seed=SEED, index=INDEX, strength=STRENGTH)
    path.write_text(f"{page}{BY_HAND}{kept}", encoding="utf-8")


def main() -> None:
    """Draw every sheet and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="*", help="Names of sheets to draw; default all.")
    parser.add_argument("--real", type=Path, help="Folder of real cases, CASE/{t1,t1c,t2,flair,seg}.nii.gz.")
    parser.add_argument("--beside", type=Path, help="JPEG to draw the real cases into.")
    options = parser.parse_args()
    codes = list(study().images)
    if options.real:
        glioma_codes = ["t1", "t1c", "t2", "flair"]
        draw_sheet(options.beside, list(real_rows(options.real, glioma_codes)), [*glioma_codes, "label"])
        return
    names = [name for name in ARTIFACTS if name != "phase_cancellation"]
    diseases = [name for name in PATHOLOGIES if name not in ("none", "glioma_resected")]
    every = [code for code in SEQUENCES if code != "md"]
    pictures = options.out / "phantom-gallery"
    sheets = {
        "pathologies": (pathology_rows(codes), [*codes, "label"]),
        "sequences-by-pathology": (pathology_rows(every), [*every, "label"]),
        "artifacts-by-sequence": (sequence_rows(names), codes),
        "artifacts-by-strength": (strength_rows(names), [f"{strength:g}" for strength in STRENGTHS]),
        "artifacts-by-pathology": (disease_rows(names, diseases), [name.replace("_", " ")[:13] for name in diseases]),
        "random-contrast": (random_rows(), [*codes, "label"]),
        "anatomy": (anatomy_rows(), [f"subject {index}" for index in range(8)]),
        "heads": (head_rows(), codes),
        "abdomens": (abdomen_rows(), [*ABDOMEN_SEQUENCES, "label"]),
    }
    for name, (rows, columns) in sheets.items():
        if options.only and name not in options.only:
            continue
        print(f"drawing {name}")
        draw_sheet(pictures / f"{name}.jpg", list(rows), columns)
    write_page(options.out / "phantom-gallery.md")


if __name__ == "__main__":
    main()
