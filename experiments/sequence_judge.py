"""Make the numbers of `anymri.data.appearance`: an average brain and a classifier, both from digital phantoms alone.

    python experiments/sequence_judge.py --workers 1

Needs the extras `phantom` and `classical`. Phantoms have every pathology, plain and varied anatomy and scanners, and
in a quarter of the studies further artifacts. T1, T1c, T2 and FLAIR come with contrast by the signal equations and at
random within the sequence; all others by the equations only, since their random contrast may turn grey and white
matter around.

The packaged file was fitted to 300 phantoms of these settings, measured in parts while this tool was being written. The
tool itself has run from end to end with `--subjects 60` only; that file was not taken.
"""

from __future__ import annotations

import argparse
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import numpy as np

from anymri.data.appearance.brain_frame import STEP_MM, Small, align, shrink, to_frame
from anymri.data.appearance.judge import GROUPS
from anymri.data.appearance.measures import Maps, make_maps, measure
from anymri.phantom import PhantomSettings, make_subject
from anymri.phantom.anatomy import draw_shape, render_anatomy
from anymri.phantom.variation import draw_variation

OUT = Path(__file__).resolve().parents[1] / "src" / "anymri" / "data" / "appearance" / "judge.npz"
#: Frame (D, H, W) in voxels of 4 mm: room for any brain.
SHAPE = (40, 50, 42)
#: Anatomies of the average, and rounds of laying them on it.
ANATOMIES, ROUNDS = 60, 3
#: Seed of the phantoms, and how many.
SEED, SUBJECTS = 14, 300
MODALITIES = ("t1", "t1c", "t2", "flair", "pd", "mprage", "dwi", "adc")
PATHOLOGIES = (
    "glioma", "glioma", "glioma", "glioma_resected", "metastases", "multiple_sclerosis", "wmh", "stroke",
    "stroke_subacute", "none",
)  # fmt: skip
#: Weight of the penalty (scikit-learn's C), and standard deviations at which numbers are clipped.
C, CLIP = 0.1, 2.0


def settings(index: int) -> PhantomSettings:
    """Settings of a phantom; every combination comes up."""
    return PhantomSettings(
        spacing_mm=STEP_MM,
        pathology=PATHOLOGIES[index % 10],
        contrast=("physics", "random")[index // 10 % 2],
        anatomy=("plain", "varied")[index // 3 % 2],
        scanner=("plain", "varied")[index // 2 % 2],
        artifact_rate=0.25 if index % 4 == 0 else 0.0,
        modalities=MODALITIES,
    )


def make_average() -> list[np.ndarray]:
    """Mean brain, csf, grey, white and ventricle of random anatomies, each laid on the mean of the round before."""
    drawn = []
    for seed in range(ANATOMIES):
        generator = np.random.default_rng(seed)
        variation = draw_variation(np.random.default_rng(seed + 10**6)) if seed % 2 else None
        anatomy = render_anatomy(generator, draw_shape(generator, STEP_MM, variation), None, (0.3, 2.3), variation)
        drawn.append(
            [
                part.astype(np.float32)
                for part in (anatomy.brain, anatomy.csf, anatomy.grey, anatomy.white, anatomy.ventricle)
            ]
        )
    total = [np.zeros(SHAPE, np.float32)] * 5
    for round_number in range(ROUNDS):
        moved = []
        for parts in drawn:
            small = Small(parts[0], parts[0], np.full(3, STEP_MM))
            place = align(small, total[0]) if round_number else _centred(parts[0])
            moved.append([to_frame(Small(part, np.ones_like(part), small.step_mm), place, SHAPE)[0] for part in parts])
        total = [np.mean([parts[row] for parts in moved], axis=0) for row in range(5)]
    return [np.rint(np.clip(part, 0, 1) * 255).astype(np.uint8) for part in total]


def _centred(brain: np.ndarray) -> np.ndarray:
    middle = np.array([places.mean() for places in np.nonzero(brain)])
    return np.concatenate([np.eye(3), (middle - (np.array(SHAPE) - 1) / 2)[:, None]], axis=1)


def measure_study(index: int, images: dict[str, np.ndarray], maps: Maps) -> list[tuple[str, dict[str, float]]]:
    """Sequence and numbers of every image of a phantom that keeps its sequence's meaning."""
    found = []
    for code, array in images.items():
        if settings(index).contrast == "random" and code not in ("t1", "t1c", "t2", "flair"):
            continue
        small = shrink(array, (STEP_MM,) * 3)
        if small is not None and small.share.sum() > 3000:
            values, share = to_frame(small, align(small, maps.brain), SHAPE)
            found.append((code, measure(values, share, maps)))
    return found


def _one(task: tuple[int, int, list[np.ndarray]]) -> list[tuple[str, dict[str, float]]]:
    seed, index, average = task
    maps = make_maps(*[(part / 255).astype(np.float32) for part in average])
    return measure_study(index, make_subject(seed, index, settings(index)).images, maps)


def fit(rows: list[tuple[str, dict[str, float]]], average: list[np.ndarray]) -> dict[str, Any]:
    """Everything that `anymri.data.appearance.judge` loads."""
    from sklearn.linear_model import LogisticRegression

    names = list(rows[0][1])
    numbers = np.array([[found[name] for name in names] for _, found in rows])
    codes = np.array([code for code, _ in rows])
    mean, spread = numbers.mean(axis=0), numbers.std(axis=0) + 1e-6
    scaled = np.clip((numbers - mean) / spread, -CLIP, CLIP)
    saved: dict[str, Any] = dict(zip(("brain", "csf", "grey", "white", "ventricle"), average, strict=True))
    saved |= {"names": np.array(names), "mean": mean, "spread": spread, "clip": np.array(CLIP)}
    for model, groups in (("three", ("t1", "t2", "flair")), ("six", tuple(GROUPS))):
        use = np.isin(codes, [code for group in groups for code in GROUPS[group]])
        fitted = LogisticRegression(C=C, max_iter=2000).fit(scaled[use], codes[use])
        saved |= {
            f"{model} codes": fitted.classes_,
            f"{model} coefficients": fitted.coef_,
            f"{model} intercept": fitted.intercept_,
        }
        print(
            f"{model}: {use.sum()} images, {np.mean(fitted.predict(scaled[use]) == codes[use]):.3f} of them told right"
        )
    return saved


def main() -> None:
    """Make phantoms, measure, fit, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--subjects", type=int, default=SUBJECTS, help="phantoms to fit to")
    parser.add_argument("--out", type=Path, default=OUT, help="file to write")
    arguments = parser.parse_args()
    average = make_average()
    tasks = [(SEED, index, average) for index in range(arguments.subjects)]
    with Pool(arguments.workers) as pool:
        rows = [row for rows in pool.imap(_one, tasks, chunksize=4) for row in rows]
    saved = fit(rows, average)
    rounded = {name: value.astype(np.float32) if value.dtype == np.float64 else value for name, value in saved.items()}
    np.savez_compressed(arguments.out, **rounded)
    print(f"wrote {arguments.out} ({arguments.out.stat().st_size / 1000:.0f} kB)")


if __name__ == "__main__":
    main()
