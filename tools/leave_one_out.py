"""Make the bundled glioma weights and their leave-one-out numbers on the real cases, resumable.

    python tools/leave_one_out.py --real ../shared/data/brats2021 --work work/glioma [--folds 0 1 2] [--steps ...]

Starts from the bundled weights that phantoms alone gave (`tools/phantom_only.py`) and uses that tool's data. Every step
writes files and is skipped where they exist, so folds can be shared between processes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from model_card import front_matter, numbers, summarise
from phantom_only import prepare, run, score, write_split

from anymri.data.cache import Cache
from anymri.evaluation.results import read_table
from anymri.types import GLIOMA
from anymri.zoo import open_model

#: Name of the bundled model.
NAME = "glioma_unet"
RECIPE, SPLIT = "glioma/real_and_phantoms.yaml", "leave_one_out.json"


def divide(work: Path, known: list[str]) -> None:
    """Fold k trains on the phantoms and every real study but the k-th; the last fold on everything."""
    phantoms = [name for name in Cache(work / "cache").subject_ids if name not in known]
    folds = [([*phantoms, *(name for name in known if name != out)], [out]) for out in known]
    write_split(work / SPLIT, [*folds, ([*phantoms, *known], [])])


def network(work: Path, fold: int, name: str, split: str = SPLIT) -> Path:
    """Train one fold; weights in half precision, half the size, as they are bundled and scored."""
    out = work / f"{name}.safetensors"
    if not out.exists():
        method = open_model(run(RECIPE, work, name, split, fold))
        for parameter in method.parameters():
            parameter.data = parameter.data.half()
        method.save(out, method.extra)
    return out


def write_card(work: Path, out: Path) -> None:
    """Model card: facts and what was measured of each left-out case in front, `tools/glioma_card.md` behind."""
    tables = [read_table(path)[0] for path in sorted(work.glob("fold*.parquet"))]
    front = {
        "name": NAME,
        "method": "unet",
        "summary": "Glioma from any subset of T1, T1c, T2, FLAIR: regions and missing sequences, at 3 mm.",
        "modalities": list(GLIOMA.modalities),
        "data": "300 random-contrast phantoms (seed 2027), seven BraTS 2021 cases (CC BY 4.0, doi:10.7937/jc8x-9874)",
        "seed": 0,
        "command": "python tools/leave_one_out.py --real ../shared/data/brats2021 --work work/glioma",
        "licence": "Apache-2.0; training data CC BY 4.0, see below",
        "limits": "Research use only. Seven real training cases; skull-stripped adult glioma before surgery only.",
        "numbers": numbers(summarise(tables, "unet"), "seven BraTS 2021 cases, each left out of training"),
    }
    text = Path(__file__).with_name("glioma_card.md").read_text(encoding="utf-8")
    out.write_text(f"{front_matter(front)}\n{text}", encoding="utf-8")


def main() -> None:
    """Run the chosen steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", type=Path, required=True, help="folder of the real cases")
    parser.add_argument("--work", type=Path, required=True, help="folder for everything made")
    parser.add_argument("--folds", type=int, nargs="*", help="which studies to leave out, from 0; default: all")
    parser.add_argument("--steps", nargs="*", default=["folds", "final", "card"])
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    work = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    known = prepare(arguments.real, work)
    divide(work, known)
    if "folds" in arguments.steps:
        for k in range(len(known)) if arguments.folds is None else arguments.folds:
            score(network(work, k, f"fold{k}"), work, work / f"fold{k}.parquet", SPLIT, k)
            # The threshold is tuned on the other real studies alone: the best it can do.
            floor = run("phantom40/threshold.yaml", work, f"threshold{k}", "real.json", k)
            score(floor, work, work / f"threshold{k}.parquet", "real.json", k)
    if "final" in arguments.steps:
        network(work, len(known), NAME)
    if "card" in arguments.steps:
        write_card(work, work / f"{NAME}.md")


if __name__ == "__main__":
    main()
