"""Brain masks of T1 heads by deepbet (MIT, T1 only) and ours, against the true brain: Dice as a yardstick.

    python -m venv DEEPBET && DEEPBET/bin/pip install torch==2.13.0 && DEEPBET/bin/pip install --no-deps deepbet
    DEEPBET/bin/pip install nibabel scipy pandas tqdm fill_voids connected-components-3d
    python experiments/brain_mask_check.py ../shared/data --heads --codes t1 --work work/heads
    python benchmarks/against_deepbet.py work/heads/glioma --python DEEPBET/bin/python

Reads the heads, true brains and `dice.jsonl` that `experiments/brain_mask_check.py` keeps. deepbet runs in an
environment of its own and is no dependency; its weights lie inside its wheel. The heads are synthetic around real
brains, so neither number says how well a mask does on patients.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from anymri.data.nifti import read_image

#: What the other environment runs: paths of images and of masks come as arguments.
PROGRAM = """
import sys
from deepbet import run_bet
images, masks = sys.argv[1:len(sys.argv) // 2 + 1], sys.argv[len(sys.argv) // 2 + 1:]
run_bet(images, mask_paths=masks, threshold=0.5, n_dilate=0, no_gpu=True)
"""


def main() -> None:
    """Run deepbet on all heads at once and print both Dice of each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("heads", type=Path, help="folder of the kept heads")
    parser.add_argument("--python", type=Path, required=True, help="interpreter of deepbet's environment")
    arguments = parser.parse_args()
    lines = (arguments.heads / "dice.jsonl").read_text().splitlines()
    ours = {case: value for case, code, value in map(json.loads, lines) if code == "t1"}
    theirs = {}
    with tempfile.TemporaryDirectory() as folder:
        images = [str(arguments.heads / f"{case}_t1.nii.gz") for case in ours]
        masks = [str(Path(folder) / f"{case}.nii.gz") for case in ours]
        subprocess.run([arguments.python, "-c", PROGRAM, *images, *masks], check=True)
        for case, mask in zip(ours, masks, strict=True):
            brain = read_image(arguments.heads / f"{case}_t1_brain.nii.gz", "label").array != 0
            found = read_image(mask, "label").array > 0
            theirs[case] = float(2 * (brain & found).sum() / (brain.sum() + found.sum()))
    print("| case | anymri | deepbet |\n|---|---|---|")
    for case, value in ours.items():
        print(f"| {case} | {value:.3f} | {theirs[case]:.3f} |")
    for what, of in (("mean", np.mean), ("lowest", np.min)):
        print(f"| **{what}, n = {len(ours)}** | {of(list(ours.values())):.3f} | {of(list(theirs.values())):.3f} |")


if __name__ == "__main__":
    main()
