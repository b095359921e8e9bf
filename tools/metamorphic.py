"""Measure what changes of a study that mean nothing do to its segmentation: the metamorphic table.

    anymri phantom work/coarse --subjects 2 --seed 7
    python tools/metamorphic.py ../shared/data/brats2021/BraTS2021_00000 work/coarse/BraTS* --fine work --page out.md

`--fine` adds two phantoms of 1 mm, chosen by a rule: of the seeds from 100 on, the first two whose own labels hold
3 ml of enhancing tumour and in which the unchanged result has 1 ml of every region. In fewer voxels than that a cell
would tell of single voxels. No changed study is looked at for it.

Each study is written to files in many other ways (padded, cropped, stored in another order, in other units, ...), the
bundled model predicts from the files, and the probability of every region is brought back to the original voxels and
cut at one half. The table holds the Dice with the same of the unchanged study. Where every voxel keeps its value the
result may not change at all: there the label maps have to be equal too.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from datetime import date
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage

from anymri.data.formats import write_foreign
from anymri.data.geometry import Geometry, from_native
from anymri.data.study_files import find_study
from anymri.inference.predict import Model, load

Array = np.ndarray[Any, Any]
REGIONS = {"WT": "whole_tumor", "TC": "tumor_core", "ET": "enhancing_tumor"}
#: Least Dice where voxels are interpolated or intensities rounded; where voxels keep their values it is 1.
LEAST = 0.99
INTERPOLATED = (
    "- A study that is interpolated before the program sees it is another, smoother study: the noisier and coarser\n"
    "  its voxels (2 mm of the phantoms), the more of the result goes with it. No grid undoes that."
)
#: The rule for fine phantoms: first seed, their number, least volumes in ml of their labels and of the result.
FIRST_SEED, FINE, LEAST_TRUE_ML, LEAST_FOUND_ML = 100, 2, 3.0, 1.0
#: Value of enhancing tumour in the labels of phantoms.
ENHANCING = 3


class Stored(NamedTuple):
    """A study as it is stored: native arrays by sequence, their affine, how to write them, how to undo the change."""

    arrays: dict[str, Array]
    affine: Array
    back: Callable[[Array], Array] = lambda label: label
    write: Callable[[Path, Array, Array], Path] | None = None


Change = Callable[[Stored], Stored]


# --------------------------------------------------------------------------------------------------------------
# Changes that keep every voxel's value
# --------------------------------------------------------------------------------------------------------------


def pad(before: tuple[int, ...], after: tuple[int, ...], value: float = 0, *, moved: bool = False) -> Change:
    """More empty space; `moved`: without telling the affine, so that the head lies elsewhere in the world."""

    def change(study: Stored) -> Stored:
        arrays = {
            code: np.pad(array, list(zip(before, after, strict=True)), constant_values=value)
            for code, array in study.arrays.items()
        }
        shape = next(iter(study.arrays.values())).shape
        inner = tuple(slice(low, low + size) for low, size in zip(before, shape, strict=True))
        affine = study.affine if moved else study.affine @ shift([-low for low in before])
        return Stored(arrays, affine, lambda label: label[inner])

    return change


def crop(study: Stored, *, moved: bool = False) -> Stored:
    """To the box of what is not 0 in any sequence."""
    filled = np.logical_or.reduce([array != 0 for array in study.arrays.values()])
    inner = ndimage.find_objects(filled.astype(np.uint8))[0]
    affine = study.affine if moved else study.affine @ shift([part.start for part in inner])

    def back(label: Array) -> Array:
        whole = np.zeros(filled.shape, label.dtype)
        whole[inner] = label
        return whole

    return Stored({code: array[inner] for code, array in study.arrays.items()}, affine, back)


def permute(study: Stored) -> Stored:
    """Axes stored in another order."""
    order = [2, 0, 1]
    arrays = {code: array.transpose(order) for code, array in study.arrays.items()}
    return Stored(arrays, study.affine[:, [*order, 3]], lambda label: label.transpose(np.argsort(order)))


def flip(study: Stored) -> Stored:
    """Two axes stored backwards."""
    step = np.diag([-1.0, 1, -1, 1])
    shape = next(iter(study.arrays.values())).shape
    step[[0, 2], 3] = shape[0] - 1, shape[2] - 1
    arrays = {code: np.flip(array, (0, 2)) for code, array in study.arrays.items()}
    return Stored(arrays, study.affine @ step, lambda label: np.flip(label, (0, 2)))


def as_type(dtype: Any) -> Change:
    """Another type on disk."""
    return lambda study: study._replace(arrays={code: array.astype(dtype) for code, array in study.arrays.items()})


def nan_around(study: Stored) -> Stored:
    """NaN in place of 0 around the brain, in a file of floats."""
    arrays = {code: np.where(outside(array), np.nan, array).astype(np.float32) for code, array in study.arrays.items()}
    return study._replace(arrays=arrays)


def reverse(study: Stored) -> Stored:
    """Sequences handed over in the reverse order."""
    return study._replace(arrays=dict(reversed(study.arrays.items())))


def stored_as(ending: str, make: Callable[[Array, Array], Any] | None = None) -> Change:
    """Another format: `make` gives a nibabel image, else the ending decides."""

    def write(stem: Path, array: Array, affine: Array) -> Path:
        path = stem.with_name(stem.name + ending)
        if make is not None:
            nib.save(make(array, affine), path)
        else:
            geometry = Geometry(affine, array.shape)
            write_foreign(path, np.ascontiguousarray(from_native(array, affine)), geometry)
        return path

    return lambda study: study._replace(write=write)


def scaled_integers(array: Array, affine: Array) -> Any:
    """NIfTI whose header halves the stored numbers."""
    image = nib.Nifti1Image((array * 2).astype(np.int16), affine)
    image.header.set_slope_inter(0.5, 0)
    return image


def four_axes(array: Array, affine: Array) -> Any:
    """NIfTI with two more axes of length 1."""
    return nib.Nifti1Image(array[..., None, None], affine)


def big_endian(array: Array, affine: Array) -> Any:
    """NIfTI-2 of the other byte order."""
    header = nib.Nifti2Header(endianness=">")
    header.set_data_dtype(array.dtype.newbyteorder(">"))
    return nib.Nifti2Image(array, affine, header)


def renamed(study: Stored) -> Stored:
    """Files whose names say nothing."""
    names = iter(["zebra", "yak", "xerus", "wombat"])

    def write(stem: Path, array: Array, affine: Array) -> Path:
        path = stem.with_name(f"{next(names)}.nii")
        nib.save(nib.Nifti1Image(array, affine), path)
        return path

    return study._replace(write=write)


# --------------------------------------------------------------------------------------------------------------
# Changes that interpolate voxels or round intensities
# --------------------------------------------------------------------------------------------------------------


def rescale(study: Stored) -> Stored:
    """Every sequence in units of its own."""
    factors = (3.7, 0.013, 41.0, 0.9)
    arrays = {c: array * np.float32(f) for (c, array), f in zip(study.arrays.items(), factors, strict=True)}
    return study._replace(arrays=arrays)


def offset(study: Stored) -> Stored:
    """A constant added inside the brain of every sequence."""
    arrays = {c: np.where(array != 0, array + np.float32(250.3), 0) for c, array in study.arrays.items()}
    return study._replace(arrays=arrays)


def hot_voxel(study: Stored) -> Stored:
    """One voxel of the last sequence, in the corner of the array, is as bright as the brain."""
    arrays = {code: array.copy() for code, array in study.arrays.items()}
    last = arrays[list(arrays)[-1]]
    last[0, 0, 0] = np.percentile(last[last != 0], 60)
    return study._replace(arrays=arrays)


def turn_header(degrees: float) -> Change:
    """The header says that the head is turned about the upright axis; the voxels are the same."""
    angle = np.radians(degrees)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return lambda study: study._replace(affine=turn @ study.affine)


def resample(factor: float, shifted: float = 0) -> Change:
    """Voxels `factor` as long, or `shifted` by part of one, by linear interpolation inside the brain."""

    def change(study: Stored) -> Stored:
        shape = next(iter(study.arrays.values())).shape
        size = [int(np.ceil(n / factor)) for n in shape]
        first = (factor - 1) / 2 + shifted  # centre of the new first voxel, in old voxels

        def sample(array: Array, matrix: float, begin: float, wanted: Any) -> Array:
            inside = (array != 0).astype(np.float32)
            total, share = (
                ndimage.affine_transform(part, [matrix] * 3, begin, tuple(wanted), np.float32, order=1)
                for part in (array.astype(np.float32), inside)
            )
            return np.where(share >= 0.5, total / np.maximum(share, 1e-6), 0).astype(np.float32)

        def back(probability: Array) -> Array:
            return ndimage.affine_transform(
                probability, [1 / factor] * 3, -first / factor, shape, np.float32, order=1, mode="nearest"
            )

        step = np.diag([factor] * 3 + [1.0])
        step[:3, 3] = first
        arrays = {code: sample(array, factor, first, size) for code, array in study.arrays.items()}
        return Stored(arrays, study.affine @ step, back)

    return change


#: What is done, what it is called, and whether every voxel keeps its value.
CHANGES: dict[str, tuple[bool, Change]] = {
    "one empty layer more at the end of each axis": (True, pad((0, 0, 0), (1, 1, 1))),
    "7, 3 and 5 empty layers more at the beginning": (True, pad((7, 3, 5), (0, 2, 0))),
    "the same, affine not updated": (True, pad((7, 3, 5), (0, 2, 0), moved=True)),
    "cropped to the brain": (True, crop),
    "cropped to the brain, affine not updated": (True, lambda study: crop(study, moved=True)),
    "axes stored in another order": (True, permute),
    "two axes stored backwards": (True, flip),
    "double precision": (True, as_type(np.float64)),
    "doubled integers, halved by the header": (True, stored_as(".nii.gz", scaled_integers)),
    "NaN around the brain": (True, nan_around),
    "not packed (.nii)": (True, stored_as(".nii", nib.Nifti1Image)),
    "big-endian NIfTI-2": (True, stored_as(".nii.gz", big_endian)),
    "MetaImage (.mha)": (True, stored_as(".mha")),
    "NRRD (.nrrd)": (True, stored_as(".nrrd")),
    "two more axes of length 1": (True, stored_as(".nii.gz", four_axes)),
    "names that say nothing": (True, renamed),
    "sequences in the reverse order": (True, reverse),
    "every sequence times a factor of its own": (False, rescale),
    "250.3 added to the brain": (False, offset),
    "one hot voxel in the corner of FLAIR": (False, hot_voxel),
    "header turned by 44 degrees": (False, turn_header(44)),
    "header turned by 46 degrees": (False, turn_header(46)),
    "moved by half a voxel": (False, resample(1, shifted=0.5)),
    "voxels 0.9 times as long": (False, resample(0.9)),
}


# --------------------------------------------------------------------------------------------------------------
# Measuring
# --------------------------------------------------------------------------------------------------------------


def shift(voxels: list[int]) -> Array:
    """Index of a new grid to that of the old one, which its first voxel lies `voxels` into."""
    step = np.eye(4)
    step[:3, 3] = voxels
    return step


def outside(array: Array) -> Array:
    """What is 0 and connected to the border of the array."""
    pieces, _ = ndimage.label(array == 0)
    faces = [np.take(pieces, end, axis) for axis in range(3) for end in (0, -1)]
    return np.isin(pieces, np.setdiff1d(np.concatenate([face.ravel() for face in faces]), 0))


def read(folder: Path) -> Stored:
    """Study of a folder as it is stored."""
    images: dict[str, Any] = {code: nib.load(path) for code, path in find_study(folder).images.items()}
    affine = next(iter(images.values())).affine
    return Stored({code: np.asarray(image.dataobj) for code, image in images.items()}, affine)


class Found(NamedTuple):
    """Result on the study's own voxels: every region's probability above one half, and the label map."""

    regions: dict[str, Array]
    label: Array


def predict(model: Model, study: Stored, folder: Path) -> Found:
    """Result of a study by way of files."""
    write = study.write or stored_as(".nii.gz", nib.Nifti1Image)(study).write
    assert write is not None
    paths = {code: write(folder / code, array, study.affine) for code, array in study.arrays.items()}
    result = model.predict(paths)
    regions = {short: np.asarray(result.probability[name].dataobj) for short, name in REGIONS.items()}
    label = np.asarray(result.segmentation.dataobj)
    return Found({short: study.back(array) > 0.5 for short, array in regions.items()}, study.back(label))


def dice(one: Array, other: Array) -> float:
    """Dice of two masks; 1 if both are empty."""
    total = int(one.sum() + other.sum())
    return 1.0 if total == 0 else 2 * int((one & other).sum()) / total


def fine_phantoms(model: Model, folder: Path) -> list[Path]:
    """Folders of the first phantoms of 1 mm that hold enough of every region."""
    chosen: list[Path] = []
    for seed in count(FIRST_SEED):
        place = folder / f"seed-{seed}"
        if not place.is_dir():
            call = ["phantom", str(place), "--subjects", "1", "--spacing", "1", "--seed", str(seed), "--quiet"]
            subprocess.run([sys.executable, "-m", "anymri.cli", *call], check=True)
        study = next(path for path in place.iterdir() if path.is_dir())
        stored: Any = nib.load(next(study.glob("*seg*")))
        label = np.asarray(stored.dataobj)
        if (label == ENHANCING).sum() < LEAST_TRUE_ML * 1000:
            continue
        with tempfile.TemporaryDirectory() as files:
            found = predict(model, read(study), Path(files)).regions
        print(f"seed {seed}:", {region: int(inside.sum()) for region, inside in found.items()}, flush=True)
        if min(inside.sum() for inside in found.values()) >= LEAST_FOUND_ML * 1000:
            chosen.append(study)
        if len(chosen) == FINE:
            break
    return chosen


def measure(model: Model, folder: Path, names: list[str]) -> tuple[dict[str, int], dict[str, dict[str, float]]]:
    """Voxels of every region of the unchanged result, and Dice with it by change and region."""
    study = read(folder)
    with tempfile.TemporaryDirectory() as place:
        truth = predict(model, study, Path(place))
    sizes = {region: int(inside.sum()) for region, inside in truth.regions.items()}
    found: dict[str, dict[str, float]] = {}
    for name in names:
        with tempfile.TemporaryDirectory() as place:
            changed = predict(model, CHANGES[name][1](study), Path(place))
        found[name] = {region: dice(changed.regions[region], truth.regions[region]) for region in REGIONS}
        if CHANGES[name][0] and not np.array_equal(changed.label, truth.label):
            found[name] = {region: min(value, 1 - 1e-4) for region, value in found[name].items()}
        print(f"{folder.name}: {name}: {found[name]}", flush=True)
    return sizes, found


def page(command: str, sizes: Mapping[str, dict[str, int]], found: Mapping[str, dict[str, dict[str, float]]]) -> str:
    """The table as Markdown, with what falls short named first."""
    names = list(next(iter(found.values())))
    short = [
        f"{name}, {study} {region}: {value:.4f}"
        for study, table in found.items()
        for name, row in table.items()
        for region, value in row.items()
        if value < (1 if CHANGES[name][0] else LEAST)
    ]
    cells = [(study, region) for study in found for region in REGIONS]
    lines = [
        "# Changes that mean nothing",
        "",
        "The same studies, stored otherwise: the bundled model predicts from the files, the probability of every",
        "region is brought back to the original voxels and cut at one half, and the table holds the Dice with the same",
        "of the unchanged study. Where every voxel keeps its value (first part) it is to be 1, with equal label maps,",
        f"else at least {LEAST}. Why it is so:",
        "[design](../explanation/design.md#the-result-depends-on-the-study-alone).",
        "",
        f"- Command: `{command}`",
        "- Phantoms: `anymri phantom work/coarse --subjects 2 --seed 7`, voxels of 2 mm. Those of 1 mm are made by",
        f"  the tool, one subject a seed: of the seeds from {FIRST_SEED} on, the first {FINE} whose own labels hold",
        f"  {LEAST_TRUE_ML:g} ml of enhancing tumour and in which the unchanged result has {LEAST_FOUND_ML:g} ml of",
        "  every region. No changed study was looked at for that, and no seed left out for another reason.",
        f"- Made {date.today()}, two-core x86-64 with AVX-512 bfloat16, no GPU; nothing else is random.",
        "- Voxels of the unchanged result: "
        + "; ".join(f"{study} " + ", ".join(f"{r} {n}" for r, n in row.items()) for study, row in sizes.items())
        + ".",
        f"- Cells: {len(cells) * len(names)}; short of the bound: {len(short)}" + (":" if short else "."),
        *(f"  - {text}" for text in short),
        *([INTERPOLATED] if short else []),
        "",
    ]
    for same, title in ((True, "Every voxel keeps its value"), (False, "Interpolated, rounded or told otherwise")):
        lines += [f"## {title}", "", "| change | " + " | ".join(f"{s} {r}" for s, r in cells) + " |"]
        lines += ["|---|" + "---|" * len(cells)]
        for name in (name for name in names if CHANGES[name][0] == same):
            lines.append(f"| {name} | " + " | ".join(_cell(found[s][name][r]) for s, r in cells) + " |")
        lines.append("")
    return "\n".join(lines)


def _cell(value: float) -> str:
    return "1" if value == 1 else f"{value:.4f}"


def main() -> None:
    """Measure and print or write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("studies", type=Path, nargs="*")
    parser.add_argument("--fine", type=Path, help="folder for two phantoms of 1 mm more, chosen by the rule above")
    parser.add_argument("--page", type=Path, help="Markdown page to write")
    parser.add_argument("--only", nargs="*", help="changes whose names hold one of these texts")
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = [name for name in CHANGES if not options.only or any(text in name for text in options.only)]
    model = load("default", "cpu")
    sizes, found = {}, {}
    studies = {folder.name: folder for folder in options.studies}
    if options.fine:
        studies |= {f"{folder.parent.name} (1 mm)": folder for folder in fine_phantoms(model, options.fine)}
    for name, folder in studies.items():
        sizes[name], found[name] = measure(model, folder, names)
    command = "python tools/metamorphic.py " + " ".join(str(folder) for folder in options.studies)
    command += f" --fine {options.fine}" if options.fine else ""
    text = page(command + (f" --page {options.page}" if options.page else ""), sizes, found)
    if options.page:
        options.page.write_text(text, encoding="utf-8", newline="\n")
    else:
        print(text)


if __name__ == "__main__":
    main()
