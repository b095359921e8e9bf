"""Memory and time of `predict` on a study of 512 x 512 x 400 voxels at 0.3 mm, through the whole verb.

`python tools/large_study.py --sequences flair t1` makes a head with a lesion, runs the verb in a process of its own and
prints the largest memory it held. The bound is 5 GiB; beyond it the exit code is 1.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.ndimage import zoom

#: Voxels (i, j, k), their edge in mm, and the most memory the verb may hold, in GiB.
SHAPE, EDGE_MM, BOUND_GIB = (512, 512, 400), 0.3, 5.0
#: Brightness of brain and lesion.
CONTRAST = {"t1": (600, 400), "t1c": (600, 900), "t2": (500, 900), "flair": (500, 1000)}


def write_head(path: Path, code: str) -> None:
    """Write an ellipsoid of smooth tissue with a ball of a lesion and nothing around it, int16."""
    random = np.random.default_rng(len(code))
    axes = [np.linspace(-1, 1, size, dtype=np.float32) for size in SHAPE]
    texture = zoom(random.normal(0, 40, [size // 8 for size in SHAPE]).astype(np.float32), 8, order=1)
    brain, lesion = CONTRAST[code]
    array = np.zeros(SHAPE, np.int16)
    for k, z in enumerate(axes[2]):
        radius = axes[0][:, None] ** 2 + axes[1][None] ** 2
        spot = (axes[0][:, None] - 0.3) ** 2 + (axes[1][None] - 0.2) ** 2 + (z - 0.1) ** 2 < 0.04
        plane = np.where(spot, lesion, brain) + texture[:, :, k]
        array[:, :, k] = np.where(radius + z**2 < 0.85, plane, 0)
    image = nib.Nifti1Image(array, np.diag([-EDGE_MM, -EDGE_MM, EDGE_MM, 1]))
    image.header.set_xyzt_units("mm")
    image.to_filename(path)


def measure(folder: Path, codes: list[str]) -> tuple[int, float, float]:
    """Run the verb; exit code, the most memory in GiB, seconds of the processor."""
    command = [sys.executable, "-m", "anymri.cli", "predict", "-o", str(folder / "out"), "-q"]
    for code in codes:
        write_head(folder / f"{code}.nii", code)
        command += [f"--{code}", str(folder / f"{code}.nii")]
    process = subprocess.Popen(command)
    _, status, used = os.wait4(process.pid, 0)
    return os.waitstatus_to_exitcode(status), used.ru_maxrss / 2**20, used.ru_utime + used.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sequences", nargs="+", choices=CONTRAST, default=["flair"])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        code, gib, seconds = measure(Path(folder), asked.sequences)
    print(f"{'+'.join(asked.sequences)}: exit code {code}, {gib:.2f} GiB at most, {seconds:.0f} s")
    return int(code != 0 or gib > BOUND_GIB)


if __name__ == "__main__":
    raise SystemExit(main())
