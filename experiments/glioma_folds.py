"""Make glioma weights from all thirteen real cases, and two folds that score each case unseen; resumable.

    python experiments/glioma_folds.py --real ../shared/data/brats2021 --work work/folds

The seven cases with ids above 01000 and the six below are the folds: a network of the bundled recipe learns from the
phantoms and one group and is scored on the other. Fold 0 learns from all. Every step is skipped where its file exists.
`experiments/glioma_grades.py` goes on from here to the bundled weights.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from leave_one_out import network
from phantom_only import prepare, score, write_split

from anymri.data.cache import Cache

#: Name of the weights that learn from all, as of the bundled model.
NAME = "glioma_unet"
SPLIT = "glioma_folds.json"


def divide(work: Path, known: list[str]) -> None:
    """Fold 0 learns from everything; fold 1 is scored on the older group, fold 2 on the newer."""
    phantoms = [name for name in Cache(work / "cache").subject_ids if name not in known]
    older = [name for name in known if int(name.rpartition("_")[2]) > 1000]
    newer = [name for name in known if name not in older]
    write_split(work / SPLIT, [([*phantoms, *known], []), ([*phantoms, *newer], older), ([*phantoms, *older], newer)])


def main() -> None:
    """Run the chosen folds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", type=Path, required=True, help="folder of the real cases")
    parser.add_argument("--work", type=Path, required=True, help="folder for everything made")
    parser.add_argument("--folds", type=int, nargs="*", default=[0, 1, 2], help="0 = learns from all cases")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    work = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    divide(work, prepare(arguments.real, work))
    for fold in arguments.folds:
        name = f"fold{fold}" if fold else NAME
        weights = network(work, fold, name, SPLIT)
        if fold:
            score(weights, work, work / f"{name}.parquet", SPLIT, fold)


if __name__ == "__main__":
    main()
