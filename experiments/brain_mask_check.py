"""Brain-mask check, one sequence at a time: real brains in synthetic heads, phantoms, real heads beside themselves.

    python experiments/brain_mask_check.py ../shared/data --heads --work work/heads      Dice with the true brain
    python experiments/brain_mask_check.py ../shared/data --phantoms --work work/heads   the same of phantoms with skull
    python experiments/brain_mask_check.py ../shared/data --agreement   Dice between the masks of T1, T2 and FLAIR alone
    python experiments/brain_mask_check.py ../shared/data --volumes --work work/masks    masks of all raw heads

`--heads` draws the phantom's skull and scalp, a face with eyes, a nasal cavity and a neck with its cord around the
skull-stripped cases of `brats2021`, adds noise and turns the head. `--work` keeps heads and results: the same command
goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy import ndimage

from anymri.data.datasets.layout import native_grid
from anymri.data.geometry import Geometry
from anymri.data.lattice import Lattice
from anymri.data.nifti import Volume, read_image, write_image
from anymri.data.raw import registration
from anymri.data.raw.bias import correct_bias
from anymri.data.raw.brain import STEP_MM, estimate_brain
from anymri.data.raw.grids import sample, upright_grid
from anymri.data.raw.study import BOX_MM
from anymri.phantom import PhantomSettings, make_subject
from anymri.phantom.artifacts.head import draw_shell, put_in_head
from anymri.phantom.artifacts.table import Scan
from anymri.phantom.noise import smooth_noise
from anymri.phantom.settings import Grid

SEED = 4
CODES = ("t1", "flair", "t2", "t1c")
#: Voxel size of the heads, and room below the brain's box for the neck, in mm.
HEAD_MM, NECK_MM = 2.0, 60.0
#: Signal of muscle, of the eyes' fluid and of the fat around them, relative to the brain's mean.
MUSCLE = {"t1": 0.6, "t1c": 0.7, "t2": 0.35, "flair": 0.5}
EYE = {"t1": 0.3, "t1c": 0.3, "t2": 2.2, "flair": 0.3}
FAT = {"t1": 1.5, "t1c": 1.4, "t2": 1.1, "flair": 0.9}


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


def draw_face(generator: np.random.Generator, brain: np.ndarray, geometry: Geometry, code: str) -> np.ndarray:
    """Signal of face and neck, relative to the brain's mean, outside skull and scalp.

    Ellipsoids and cylinders in mm from the brain: no anatomy, but bright, dark and brain-like things where a head has
    them: the spinal cord leads out of the brain, the eyes are as bright as CSF.
    """
    index = np.indices(brain.shape).reshape(3, -1)
    x, y, z = geometry.affine_dhw[:3, :3] @ index + geometry.affine_dhw[:3, 3:]
    places = brain.ravel()
    middle, front, base = np.median(x[places]), np.percentile(y[places], 99.5), np.percentile(z[places], 2)
    across, forward, up = x - middle, y - front, z - base
    texture = 1 + 0.25 * smooth_noise(generator, Grid.whole(HEAD_MM), 12.0)
    texture = np.resize(texture, brain.shape).ravel()
    neck = ((across / 58) ** 2 + ((forward + 95) / 62) ** 2 < 1) & (up < 12)
    face = (across / 62) ** 2 + ((forward + 22) / 48) ** 2 + ((up + 12) / 60) ** 2 < 1
    signal = np.where(neck | face, MUSCLE[code] * texture, 0.0)
    rim = ((across / 53) ** 2 + ((forward + 95) / 57) ** 2 >= 1) & neck & ~face
    signal[rim] = FAT[code]
    bone = (across**2 + (forward + 105) ** 2 < 18**2) & neck
    signal[bone] = 0.1
    signal[(across**2 + (forward + 105) ** 2 < 7**2) & neck] = 0.9  # the cord
    signal[(across**2 + (forward + 65) ** 2 < 9**2) & neck] = 0.0  # the airway
    signal[(np.abs(across) < 11) & (forward > -45) & (forward < 20) & (up < 8) & (up > -35)] = 0.0  # the nasal cavity
    for side in (-32, 32):
        away = (across - side) ** 2 + (forward + 2) ** 2 + (up - 22) ** 2
        signal[away < 20**2] = FAT[code]
        signal[away < 12**2] = EYE[code]
    depth_mm = ndimage.distance_transform_edt(~brain) * HEAD_MM
    return np.where(depth_mm > 17, signal.reshape(brain.shape), 0.0)


def in_head(case: Path, code: str, generator: np.random.Generator) -> tuple[Volume, np.ndarray]:
    """A skull-stripped image with head, face and neck around it, at `HEAD_MM`, turned at random; and its brain."""
    volume = read_image(case / f"{code}.nii.gz")
    grid = Grid.whole(HEAD_MM)
    step = np.array(volume.geometry.shape_dhw) / grid.shape
    geometry = Lattice(step=tuple(step.tolist())).grid(volume.geometry, grid.shape)
    image = np.maximum(sample(volume.array, volume.geometry, geometry), 0)
    brain = sample((volume.array != 0).astype(np.float32), volume.geometry, geometry) > 0.5
    shell = draw_shell(generator, brain, grid)
    scan = put_in_head(Scan(np.where(brain, image, 0).astype(float), brain, grid), shell, code)
    below = int(NECK_MM / HEAD_MM)
    head = np.zeros((grid.shape[0] + below, *grid.shape[1:]), np.float32)
    head[below:][shell.grid.slices] = scan.image
    brain = np.pad(brain, ((below, 0), (0, 0), (0, 0)))
    moved = geometry.affine.copy()
    moved[:3, 3] -= below * geometry.affine_dhw[:3, 0]
    geometry = Geometry(moved, head.shape[::-1])
    head = np.maximum(head, scan.level * draw_face(generator, brain, geometry, code))
    head = np.hypot(head + generator.normal(0, 0.02 * scan.level, head.shape), 0.02 * scan.level).astype(np.float32)
    turn = geometry.affine.copy()
    for axis, angle in enumerate(np.radians(generator.normal(0, 6, 3))):
        i, j = (other for other in range(3) if other != axis)
        rotation = np.eye(4)
        rotation[i, i] = rotation[j, j] = np.cos(angle)
        rotation[i, j], rotation[j, i] = -np.sin(angle), np.sin(angle)
        turn = rotation @ turn
    return Volume(head, Geometry(turn, geometry.shape), f"{case.name} {code}"), brain


def real_heads(data: Path, codes: Iterable[str]) -> Iterator[tuple[str, str, Volume, np.ndarray]]:
    """Case, sequence, head and brain of every glioma."""
    for code in codes:
        for number, case in enumerate(sorted((data / "brats2021").iterdir())):
            yield case.name, code, *in_head(case, code, np.random.default_rng([SEED, number]))


def phantom_heads(count: int, codes: Iterable[str]) -> Iterator[tuple[str, str, Volume, np.ndarray]]:
    """The same of phantoms with skull and scalp, varied anatomy and scanner."""
    settings = PhantomSettings(spacing_mm=HEAD_MM, anatomy="varied", scanner="varied")
    for number in range(count):
        brain = make_subject(SEED, number, settings).images["t1"] != 0  # the same to the last bit inside a skull
        images = make_subject(SEED, number, replace(settings, skull=True)).images
        geometry = native_grid(brain.shape, (HEAD_MM,) * 3)
        for code in codes:
            yield f"phantom-{number}", code, Volume(images[code].astype(np.float32), geometry, code), brain


def check_heads(heads: Iterable[tuple[str, str, Volume, np.ndarray]], work: Path) -> None:
    """Dice of every head that `work` has none of yet, then the means and the lowest of all."""
    work.mkdir(parents=True, exist_ok=True)
    record = work / "dice.jsonl"
    lines = record.read_text().splitlines() if record.exists() else []
    scores = {(case, code): value for case, code, value in map(json.loads, lines)}
    for case, code, volume, brain in heads:
        if (case, code) in scores:
            continue
        start = time.process_time()
        write_image(work / f"{case}_{code}.nii.gz", volume.array, volume.geometry, np.float32)
        write_image(work / f"{case}_{code}_brain.nii.gz", brain.astype(np.uint8), volume.geometry)
        scores[case, code] = dice(find_brain(volume, volume.geometry), brain)
        with record.open("a") as handle:
            handle.write(json.dumps([case, code, round(scores[case, code], 4)]) + "\n")
        seconds = time.process_time() - start
        print(f"{case} {code:<6} Dice {scores[case, code]:.3f}  {seconds:.1f} CPU s", flush=True)
    cases, codes = (list(dict.fromkeys(key[place] for key in scores)) for place in (0, 1))
    print("| case | " + " | ".join(codes) + " |\n|" + "---|" * (1 + len(codes)))
    for case in cases:
        print(f"| {case} | " + " | ".join(f"{scores.get((case, code), np.nan):.3f}" for code in codes) + " |")
    for what, of in (("mean", np.mean), ("lowest", np.min)):
        numbers = [of([value for (_, other), value in scores.items() if other == code]) for code in codes]
        print(f"| **{what}, n = {len(cases)}** | " + " | ".join(f"{value:.3f}" for value in numbers) + " |")


def keep_masks(data: Path, work: Path) -> None:
    """Masks of the raw heads at hand, each sequence alone; volume, and overlap with the mask kept before."""
    work.mkdir(parents=True, exist_ok=True)
    low, high = (np.array(corner) for corner in BOX_MM)
    frame = upright_grid(low - 40, high + 40, STEP_MM)
    for file in sorted((data / "openms_raw").glob("*/*.nii.gz")):
        name = f"{file.parent.name}_{file.name.partition('.')[0]}"
        mask, kept = find_brain(read_image(file), frame), work / f"{name}.npz"
        same = f", Dice with the mask kept before {dice(mask, np.load(kept)['mask']):.4f}" if kept.exists() else ""
        if not kept.exists():
            np.savez_compressed(kept, mask=mask)
        print(f"{name} {mask.sum() * STEP_MM**3 / 1000:.0f} ml{same}", flush=True)


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    for part in ("heads", "phantoms", "agreement", "volumes"):
        parser.add_argument(f"--{part}", action="store_true")
    parser.add_argument("--work", type=Path, default=Path("work/heads"))
    parser.add_argument("--codes", nargs="*", choices=CODES, default=CODES)
    parser.add_argument("--count", type=int, default=5, help="phantoms")
    chosen = parser.parse_args()
    if chosen.heads:
        check_heads(real_heads(chosen.data, chosen.codes), chosen.work / "glioma")
    if chosen.phantoms:
        check_heads(phantom_heads(chosen.count, chosen.codes), chosen.work / "phantoms")
    if chosen.agreement:
        check_agreement(chosen.data)
    if chosen.volumes:
        keep_masks(chosen.data, chosen.work)
