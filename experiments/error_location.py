"""Where a segmentation errs: voxels of the whole tumour added near it, added far from it, and left out.

    python experiments/error_location.py RUN --cache CACHE --split two.json --part train --subset t1c+flair

Prints one line per subject; windows as in training, half overlapping. "Near" is within two voxels of the reference.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from anymri.data.split import read_split
from anymri.evaluation.score_subject import predict_entry
from anymri.evaluation.setup import Evaluation, EvaluationSettings
from anymri.inference.labels import regions

NEAR = 2


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--part", default="train")
    parser.add_argument("--subset", required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    work = Evaluation.prepare(options.run, options.cache, EvaluationSettings(), subsets=[options.subset])
    for subject in read_split(options.split).part(options.part, 0):
        entry = work.cache.entry(subject, work.subsets[0])
        real = np.asarray(entry.label) > 0
        for _, prediction in predict_entry(work, entry, work.subsets, ("logits",)):
            found = np.asarray(regions(prediction.probability, work.method.head, work.spec)["whole_tumor"]) > 0
            far = ndimage.distance_transform_edt(~real) > NEAR
            parts, count = ndimage.label(found)
            largest = parts == 1 + np.argmax(ndimage.sum(found, parts, range(1, count + 1))) if count else found
            dice = [2 * (mask & real).sum() / (mask.sum() + real.sum()) for mask in (found, largest)]
            print(
                f"{subject}: Dice {100 * dice[0]:.1f}, of the largest piece {100 * dice[1]:.1f}; added near "
                f"{(found & ~real & ~far).sum()}, far {(found & far).sum()}; left out {(real & ~found).sum()}"
            )


if __name__ == "__main__":
    main()
