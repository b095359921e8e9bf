"""Leave-one-out of the bundled glioma recipe on real cases, resumable.

    python experiments/leave_one_out.py --real ../shared/data/brats2021 --work work/glioma [--folds 0 1 2]

Starts from the bundled weights that phantoms alone gave (`experiments/phantom_only.py`) and uses that tool's data.
Every step writes files and is skipped where they exist, so folds can be shared between processes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from phantom_only import prepare, run, score, write_split

from anymri.data.cache import Cache
from anymri.zoo import open_model

RECIPE, SPLIT = "glioma/real_and_phantoms.yaml", "leave_one_out.json"


def divide(work: Path, known: list[str]) -> None:
    """Fold k trains on the phantoms and every real study but the k-th."""
    phantoms = [name for name in Cache(work / "cache").subject_ids if name not in known]
    folds = [([*phantoms, *(name for name in known if name != out)], [out]) for out in known]
    write_split(work / SPLIT, folds)


def network(
    work: Path, fold: int, name: str, split: str = SPLIT, recipe: str = RECIPE, changes: Sequence[str] = ()
) -> Path:
    """Train one fold; weights in half precision, half the size, as they are bundled and scored."""
    out = work / f"{name}.safetensors"
    if not out.exists():
        method = open_model(run(recipe, work, name, split, fold, changes))
        for parameter in method.parameters():
            parameter.data = parameter.data.half()
        method.save(out, method.facts)
    return out


def main() -> None:
    """Run the chosen steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", type=Path, required=True, help="folder of the real cases")
    parser.add_argument("--work", type=Path, required=True, help="folder for everything made")
    parser.add_argument("--folds", type=int, nargs="*", help="which studies to leave out, from 0; default: all")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    work = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    known = prepare(arguments.real, work)
    divide(work, known)
    for k in range(len(known)) if arguments.folds is None else arguments.folds:
        score(network(work, k, f"fold{k}"), work, work / f"fold{k}.parquet", SPLIT, k)
        # The threshold is tuned on the other real studies alone: the best it can do.
        floor = run("phantom40/threshold.yaml", work, f"threshold{k}", "real.json", k)
        score(floor, work, work / f"threshold{k}.parquet", "real.json", k)


if __name__ == "__main__":
    main()
