"""Does a label drawn in MNI space come back to every scanner's grid? Balls, there and back, on real raw studies.

    python experiments/raw_round_trip.py ../shared/data/openms_raw

Three balls of 20 mm radius are drawn in MNI space and put on the study's aligned grid. `there`: Dice between them
brought to a sequence's own grid and the same balls drawn on that grid directly, through the registration's matrices.
`back`: Dice between the balls and what comes back to the aligned grid from a sequence's own.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from anymri.data.geometry import Geometry
from anymri.data.raw.source import find_raw
from anymri.data.raw.study import RawStudy, prepare_raw
from anymri.types import GLIOMA

#: Middles (x, y, z) in mm, MNI: left frontal, right parietal, deep in the middle.
BALLS = {1: (-30.0, 30.0, 20.0), 2: (30.0, -50.0, 35.0), 3: (0.0, -18.0, 10.0)}
RADIUS_MM = 20.0


def draw_balls(study: RawStudy, geometry: Geometry, world_to_reference: np.ndarray) -> np.ndarray:
    """Label map (D, H, W) of the balls on a grid whose world lies in the reference's by a matrix."""
    assert study.mni_to_reference is not None
    indices = np.indices(geometry.shape_dhw).reshape(3, -1)
    to_mni = np.linalg.inv(study.mni_to_reference) @ world_to_reference @ geometry.affine_dhw
    points = to_mni[:3, :3] @ indices + to_mni[:3, 3:]
    label = np.zeros(indices.shape[1], np.uint8)
    for value, middle in BALLS.items():
        label[((points - np.array(middle)[:, None]) ** 2).sum(axis=0) < RADIUS_MM**2] = value
    return label.reshape(geometry.shape_dhw)


def dice(one: np.ndarray, other: np.ndarray) -> str:
    """Overlap of each ball."""
    pairs = [(one == value, other == value) for value in BALLS]
    return " ".join(f"{2 * (a & b).sum() / (a.sum() + b.sum()):.3f}" for a, b in pairs)


def main() -> None:
    """Print a row per study and sequence."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of raw studies")
    print("study sequence spacing | there, each ball | back, each ball")
    for case in sorted(path for path in parser.parse_args().data.iterdir() if path.is_dir()):
        study = prepare_raw(find_raw(case, {}, GLIOMA.modalities).images)
        grid_to_reference = study.grid_to_native[study.reference]
        label = draw_balls(study, study.grid, grid_to_reference)
        for code, native in study.native.items():
            native_to_reference = grid_to_reference @ np.linalg.inv(study.grid_to_native[code])
            direct = draw_balls(study, native, native_to_reference)
            moved = study.label_to_native(label, code)
            spacing = "x".join(f"{size:.2g}" for size in native.spacing_mm)
            there, back = dice(moved, direct), dice(study.label_from_native(moved, code), label)
            print(f"{case.name} {code:<6} {spacing:<14} | {there} | {back}", flush=True)


if __name__ == "__main__":
    main()
