"""Compare lesions of phantoms with those of real cases: volumes, counts and brightness.

Usage: ``python experiments/phantom_lesions.py docs/results/phantom-lesions.md --glioma ../shared/data/brats2021
--sclerosis ../shared/data/openms``, folders of ``CASE/{t1,t1c,t2,flair,seg}.nii.gz``. What was written by hand below
the marker of an existing page is kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from phantom_gallery import BY_HAND
from scipy import ndimage

from anymri.benchmark.report.text_tables import markdown_table
from anymri.data.nifti import read_image
from anymri.phantom import PhantomSettings, make_subject

CODES = ("t1", "t1c", "t2", "flair")
SEED = 2026
#: One study: images, label (1 ncr or lesion, 2 edema, 3 et) and voxel volume in ml.
Study = tuple[dict[str, np.ndarray], np.ndarray, float]


def real_studies(folder: Path) -> Iterator[Study]:
    """Real cases, on every second voxel: as coarse as the phantoms."""
    for path in sorted(folder.glob("*/seg.nii.gz")):
        label = read_image(path, "label").array[::2, ::2, ::2]
        images = {code: read_image(path.parent / f"{code}.nii.gz").array[::2, ::2, ::2] for code in CODES}
        yield images, np.where(label == 4, 3, label), 0.008


def phantom_studies(pathology: str, count: int, contrast: str) -> Iterator[Study]:
    """Phantoms at 2 mm."""
    for index in range(count):
        settings = PhantomSettings(pathology=pathology, contrast=contrast)
        subject = make_subject(SEED, index, settings)
        yield subject.images, subject.label, 0.008


def brightness(images: dict[str, np.ndarray], region: np.ndarray) -> dict[str, float]:
    """Median z-score of a region in each sequence, by the mean and spread of the brain; NaN below 10 voxels."""
    found = {}
    for code, image in images.items():
        brain = image > 0
        inside = image[region & brain]
        value = (np.median(inside) - image[brain].mean()) / image[brain].std() if len(inside) >= 10 else np.nan
        found[f"z {code}"] = float(value)
    return found


def glioma_row(images: dict[str, np.ndarray], label: np.ndarray, voxel_ml: float) -> dict[str, float]:
    """Volumes of a glioma and how bright its parts are."""
    whole, core, enhancing = label > 0, np.isin(label, (1, 3)), label == 3
    row = {"whole tumour, ml": whole.sum(), "tumour core, ml": core.sum(), "enhancing tumour, ml": enhancing.sum()}
    row = {name: float(count) * voxel_ml for name, count in row.items()}
    row["core share of the whole"] = row["tumour core, ml"] / max(row["whole tumour, ml"], 1e-9)
    pieces, count = ndimage.label(whole, np.ones((3, 3, 3)))
    sizes = np.bincount(pieces.ravel())[1:]
    row["largest piece, share"] = float(sizes.max() / sizes.sum()) if count else np.nan
    for name, region in {"edema": label == 2, "core": label == 1, "enhancing": enhancing}.items():
        row |= {f"{name}: {key}": value for key, value in brightness(images, region).items()}
    return row


def sclerosis_row(images: dict[str, np.ndarray], label: np.ndarray, voxel_ml: float) -> dict[str, float]:
    """Load, number and size of lesions and how bright they are."""
    pieces, count = ndimage.label(label == 1, np.ones((3, 3, 3)))
    sizes = np.bincount(pieces.ravel())[1:] * voxel_ml
    row = {"load, ml": float(sizes.sum()), "lesions": float(count), "median lesion, ml": float(np.median(sizes))}
    row["largest lesion, share of the load"] = float(sizes.max() / sizes.sum())
    return row | {f"lesion: {key}": value for key, value in brightness(images, label == 1).items()}


def summary(values: list[float]) -> str:
    """Median and range from the tenth to the ninetieth percentile; all values where there are two or fewer."""
    kept = [value for value in values if np.isfinite(value)]
    if len(kept) <= 2:
        return ", ".join(f"{value:.2f}" for value in kept)
    low, middle, high = np.percentile(kept, (10, 50, 90))
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def table(columns: dict[str, list[dict[str, float]]]) -> str:
    """A Markdown table, a line for each quantity and a column for each group."""
    names = list(next(iter(columns.values()))[0])
    header = ["", *(f"{name}, n = {len(rows)}" for name, rows in columns.items())]
    body = [[name, *(summary([row[name] for row in rows]) for rows in columns.values())] for name in names]
    return markdown_table(header, body, left=len(header))


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--glioma", type=Path, required=True)
    parser.add_argument("--sclerosis", type=Path, required=True)
    parser.add_argument("--count", type=int, default=40, help="Phantoms of each kind.")
    options = parser.parse_args()
    parts = []
    for title, folder, pathology, measure in (
        ("Glioma", options.glioma, "glioma", glioma_row),
        ("Multiple sclerosis", options.sclerosis, "multiple_sclerosis", sclerosis_row),
    ):
        columns = {"real": [measure(*study) for study in real_studies(folder)]}
        for contrast in ("physics", "random"):
            columns[contrast] = [measure(*study) for study in phantom_studies(pathology, options.count, contrast)]
        parts.append(f"## {title}\n\n{table(columns)}\n")
    old = options.out.read_text(encoding="utf-8") if options.out.is_file() else ""
    kept = old.partition(BY_HAND)[2] or "\n"
    head = f"""# Lesions of phantoms beside real ones

Median (10th to 90th percentile; every value where there are two). Phantoms: seed {SEED}, 2 mm, default settings,
physical and random contrast. Real cases: every second voxel. z: median of a region by the mean and spread of the brain.
Made by `python experiments/phantom_lesions.py docs/results/phantom-lesions.md --glioma ../shared/data/brats2021
--sclerosis ../shared/data/openms --count {options.count}`.

"""
    options.out.write_text(f"{head}{chr(10).join(parts)}\n{BY_HAND}{kept}", encoding="utf-8")


if __name__ == "__main__":
    main()
