"""Train on phantoms of random contrast alone and score on real cases, beside a tuned threshold; resumable.

    python experiments/phantom_only.py --real ../shared/data/brats2021 --work work/phantom_only

Every step writes files and is skipped where they exist.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from anymri.config import load_run_config
from anymri.data.index import index_dataset, write_subjects
from anymri.data.preprocess import preprocess
from anymri.evaluation import evaluate
from anymri.phantom import PhantomSettings, generate
from anymri.training import train

RECIPES = Path(__file__).parents[1] / "src" / "anymri" / "recipes"
PHANTOMS, SEED, SPACING_MM = 300, 2027, 3.0


def prepare(real: Path, work: Path) -> list[str]:
    """Phantoms, caches and splits; returns the ids of the real subjects."""
    if not (work / "phantoms").exists():
        generate(work / "phantoms", PHANTOMS, SEED, PhantomSettings(spacing_mm=SPACING_MM, contrast="random"))
    phantoms, studies = index_dataset(work / "phantoms", "brats2023"), index_dataset(real, "folder")
    write_subjects(work / "real.csv", studies)
    write_subjects(work / "subjects.csv", [*phantoms, *studies])
    preprocess(work / "subjects.csv", work / "cache", spacing_mm=SPACING_MM)
    preprocess(work / "real.csv", work / "native")
    known = [study.subject_id for study in studies]
    write_split(work / "split.json", [([phantom.subject_id for phantom in phantoms], known)])
    # The threshold is tuned on the other real cases: the best it can do.
    write_split(work / "real.json", [([name for name in known if name != out], [out]) for out in known])
    return known


def write_split(path: Path, folds: list[tuple[list[str], list[str]]]) -> None:
    """A split file of (train, test) pairs."""
    parts = [{"train": train_part, "validation": [], "test": test_part} for train_part, test_part in folds]
    path.write_text(json.dumps({"folds": parts, "seed": SEED}), encoding="utf-8")


def run(
    recipe: str, work: Path, name: str, split: str = "split.json", fold: int = 0, changes: Sequence[str] = ()
) -> Path:
    """Train one recipe into a folder of the work folder."""
    data = [f"data.cache={work / 'cache'}", f"data.split={work / split}", f"data.fold={fold}"]
    return train(load_run_config(RECIPES / recipe, [*data, *changes]), work / name)


def score(model: Path, work: Path, out: Path, split: str = "split.json", fold: int = 0) -> None:
    """Evaluate on real cases, on the grid of their files."""
    if not out.exists():
        evaluate(
            model, work / "cache", out, split=work / split, fold=fold, reference=work / "native", pictures=False,
            batch_size=4,
        )  # fmt: skip


def main() -> None:
    """Run the chosen steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", type=Path, required=True, help="folder of the real cases to score on")
    parser.add_argument("--work", type=Path, required=True, help="folder for everything made")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    work = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    known = prepare(arguments.real, work)
    score(run("glioma/phantom_only.yaml", work, "network"), work, work / "phantom_only.parquet")
    for fold in range(len(known)):
        model = run("phantom40/threshold.yaml", work, f"threshold{fold}", "real.json", fold)
        score(model, work, work / f"threshold{fold}.parquet", "real.json", fold)


if __name__ == "__main__":
    main()
