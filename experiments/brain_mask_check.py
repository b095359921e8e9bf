"""How good the brain mask of a single sequence is: real brains in synthetic heads, and real heads beside themselves.

    python experiments/brain_mask_check.py ../shared/data --heads       Dice of each sequence's mask with the true brain
    python experiments/brain_mask_check.py ../shared/data --agreement   Dice between the masks of T1, T2 and FLAIR alone

`--heads` draws the phantom's skull and scalp around the skull-stripped cases of `brats2021`, and turns the head.
"""

from __future__ import annotations

import argparse
import time
from itertools import combinations
from pathlib import Path

import numpy as np

from anymri.data.geometry import Geometry
from anymri.data.lattice import Lattice
from anymri.data.nifti import Volume, read_image
from anymri.data.raw import registration
from anymri.data.raw.bias import correct_bias
from anymri.data.raw.brain import STEP_MM, estimate_brain
from anymri.data.raw.grids import sample, upright_grid
from anymri.data.raw.study import BOX_MM
from anymri.phantom.artifacts.head import draw_shell, put_in_head
from anymri.phantom.artifacts.table import Scan
from anymri.phantom.settings import Grid

SEED = 4
CODES = ("t1", "t1c", "t2", "flair")


def dice(one: np.ndarray, other: np.ndarray) -> float:
    """Overlap of two masks."""
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def find_brain(volume: Volume, frame: Geometry, frame_to_image: np.ndarray | None = None) -> np.ndarray:
    """Mask of one image alone, on a grid in its own world or in another."""
    array, _ = correct_bias(volume.array, volume.geometry)
    mni, _ = registration.register_template(registration.working(array, volume.geometry))
    matrix = registration.rigid_part(mni)
    box = upright_grid(*BOX_MM, STEP_MM)
    found = estimate_brain(array, volume.geometry, mni, box, matrix).probability
    back = np.linalg.inv(matrix) @ (np.eye(4) if frame_to_image is None else frame_to_image)
    return sample(found, box, frame, back, smooth=False) > 0.5


def in_head(case: Path, code: str, generator: np.random.Generator) -> tuple[Volume, np.ndarray]:
    """A skull-stripped image with a head around it, at 2 mm, turned at random; and its brain."""
    volume = read_image(case / f"{code}.nii.gz")
    grid = Grid.whole(2.0)
    step = np.array(volume.geometry.shape_dhw) / grid.shape
    geometry = Lattice(step=tuple(step.tolist())).grid(volume.geometry, grid.shape)
    image = np.maximum(sample(volume.array, volume.geometry, geometry), 0)
    brain = sample((volume.array != 0).astype(np.float32), volume.geometry, geometry) > 0.5
    shell = draw_shell(generator, brain, grid)
    scan = put_in_head(Scan(np.where(brain, image, 0).astype(float), brain, grid), shell, code)
    head = np.zeros(grid.shape, np.float32)
    head[shell.grid.slices] = scan.image
    head = np.hypot(head + generator.normal(0, 0.02 * scan.level, head.shape), 0.02 * scan.level).astype(np.float32)
    turn = geometry.affine.copy()
    angles = np.radians(generator.normal(0, 6, 3))
    for axis, angle in enumerate(angles):
        i, j = (other for other in range(3) if other != axis)
        step = np.eye(4)
        step[i, i] = step[j, j] = np.cos(angle)
        step[i, j], step[j, i] = -np.sin(angle), np.sin(angle)
        turn = step @ turn
    return Volume(head, Geometry(turn, geometry.shape), f"{case.name} {code}"), brain


def check_heads(data: Path, cases: int) -> None:
    """Print a row per case and sequence."""
    scores: dict[str, list[float]] = {code: [] for code in CODES}
    for number, case in enumerate(sorted((data / "brats2021").iterdir())[:cases]):
        for code in CODES:
            volume, brain = in_head(case, code, np.random.default_rng([SEED, number]))
            start = time.process_time()
            scores[code].append(dice(find_brain(volume, volume.geometry), brain))
            print(
                f"{case.name} {code:<6} Dice {scores[code][-1]:.3f}  {time.process_time() - start:.1f} CPU s",
                flush=True,
            )
    for code, values in scores.items():
        print(f"{code:<6} mean {np.mean(values):.3f}, lowest {min(values):.3f}, n = {len(values)}")


def check_agreement(data: Path) -> None:
    """Print the volume of each mask and the overlap of each pair, in the world of the T1."""
    for case in sorted((data / "openms_raw").iterdir()):
        volumes = {code: read_image(case / f"{code}.nii.gz") for code in ("t1", "t2", "flair")}
        small = {code: registration.working(volume.array, volume.geometry) for code, volume in volumes.items()}
        low, high = (np.array(corner) for corner in BOX_MM)
        masks = {}
        frame = upright_grid(low - 40, high + 40, STEP_MM)
        for code, volume in volumes.items():
            matrix = np.eye(4) if code == "t1" else registration.register_rigid(small["t1"], small[code])[0]
            masks[code] = find_brain(volume, frame, matrix)
            print(f"{case.name} {code:<6} {masks[code].sum() * STEP_MM**3 / 1000:.0f} ml", flush=True)
        for one, other in combinations(masks, 2):
            print(f"{case.name} {one} and {other}: Dice {dice(masks[one], masks[other]):.3f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--heads", action="store_true")
    parser.add_argument("--agreement", action="store_true")
    parser.add_argument("--cases", type=int, default=7)
    chosen = parser.parse_args()
    if chosen.heads:
        check_heads(chosen.data, chosen.cases)
    if chosen.agreement:
        check_agreement(chosen.data)
