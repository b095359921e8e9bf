"""How real are the phantoms? One small network, learnt from three kinds of data, scored on real cases it has not seen.

    python experiments/realism.py --real ../shared/data/brats2021 --work work/realism [--set KEY=VALUE ...]

Trains on (a) phantoms of fixed contrast, (b) phantoms of random contrast and (c) real cases alone, each left out once.
Resumable: every step writes files and is skipped where they exist.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from phantom_only import PHANTOMS, SEED, SPACING_MM, prepare, run, score

from anymri.data.index import index_dataset, write_subjects
from anymri.data.preprocess import preprocess
from anymri.phantom import PhantomSettings, generate

RECIPE = "glioma/realism.yaml"


def prepare_fixed(work: Path) -> None:
    """As many phantoms of the same seed, but with the contrast of one scanner and protocol."""
    if not (work / "fixed_phantoms").exists():
        generate(work / "fixed_phantoms", PHANTOMS, SEED, PhantomSettings(spacing_mm=SPACING_MM, contrast="physics"))
    found = index_dataset(work / "fixed_phantoms", "brats2023")
    preprocess(write_subjects(work / "fixed.csv", found), work / "fixed", spacing_mm=SPACING_MM)


def main() -> None:
    """Train and score everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", type=Path, required=True, help="folder of the real cases to score on")
    parser.add_argument("--work", type=Path, required=True, help="folder for everything made")
    parser.add_argument("--folds", type=int, nargs="*", help="which real studies to leave out, from 0; default: all")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", nargs="*", default=[], help="changes to the recipe, e.g. training.precision=bf16")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    work, changes = arguments.work, arguments.set
    work.mkdir(parents=True, exist_ok=True)
    known = prepare(arguments.real, work)
    prepare_fixed(work)
    score(run(RECIPE, work, "random", changes=changes), work, work / "random.parquet")
    fixed = [*changes, f"data.cache={work / 'fixed'}", "data.split=null"]
    score(run(RECIPE, work, "fixed_contrast", changes=fixed), work, work / "fixed_contrast.parquet")
    for fold in range(len(known)) if arguments.folds is None else arguments.folds:
        network = run(RECIPE, work, f"real{fold}", "real.json", fold, changes)
        score(network, work, work / f"real{fold}.parquet", "real.json", fold)
        floor = run("phantom40/threshold.yaml", work, f"threshold{fold}", "real.json", fold)
        score(floor, work, work / f"threshold{fold}.parquet", "real.json", fold)


if __name__ == "__main__":
    main()
