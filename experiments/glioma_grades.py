"""Go on from the networks of `glioma_folds.py` with phantoms of every core size and transplanted lesions; resumable.

    python experiments/glioma_folds.py --real ../shared/data/brats2021 --work work/folds
    python experiments/glioma_grades.py --real ../shared/data/brats2021 --folds-of work/folds --work work/grades

Fold 1 is scored on the seven older cases, fold 2 on the six newer, fold 0 learns from all thirteen. Each goes on from
the network of the same fold, so that no case is seen before it is scored. Every step is skipped where its file exists.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from glioma_folds import NAME, SPLIT, divide
from leave_one_out import network
from phantom_only import PHANTOMS, SEED, SPACING_MM, score

from anymri.data.index import index_dataset, write_subjects
from anymri.data.preprocess import preprocess
from anymri.phantom import PhantomSettings, generate

RECIPE = "glioma/whole_brain.yaml"
#: Of the phantoms, how many are of high grade with cores of every size; the others are of mixed grade.
HIGH = 225


def prepare(real: Path, work: Path) -> list[str]:
    """Phantoms of both kinds, caches, splits; returns the ids of the real subjects."""
    mixed = PhantomSettings(spacing_mm=SPACING_MM, contrast="random", anatomy="varied")
    if not (work / "high").exists():
        generate(work / "high", HIGH, SEED + 1, replace(mixed, grade="high", core_share=(0.03, 0.9)))
    if not (work / "mixed").exists():
        generate(work / "mixed", PHANTOMS - HIGH, SEED, mixed)
    studies = index_dataset(real, "folder")
    phantoms = [
        replace(study, subject_id=f"{kind}_{study.subject_id}", patient=f"{kind}_{study.patient or study.subject_id}")
        for kind in ("high", "mixed")
        for study in index_dataset(work / kind, "brats2023")
    ]
    write_subjects(work / "real.csv", studies)
    write_subjects(work / "subjects.csv", [*phantoms, *studies])
    preprocess(work / "subjects.csv", work / "cache", spacing_mm=SPACING_MM)
    preprocess(work / "real.csv", work / "native")
    return [study.subject_id for study in studies]


def main() -> None:
    """Run the chosen folds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", type=Path, required=True, help="folder of the real cases")
    parser.add_argument("--folds-of", type=Path, required=True, help="work folder of glioma_folds.py")
    parser.add_argument("--work", type=Path, required=True, help="folder for everything made")
    parser.add_argument("--folds", type=int, nargs="*", default=[2, 1, 0], help="0 = learns from all cases")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    work = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    divide(work, prepare(arguments.real, work))
    for fold in arguments.folds:
        name = f"fold{fold}" if fold else NAME
        start = [f"training.init={arguments.folds_of / f'{name}.safetensors'}"]
        weights = network(work, fold, name, SPLIT, RECIPE, start)
        if fold:
            score(weights, work, work / f"{name}.parquet", SPLIT, fold)


if __name__ == "__main__":
    main()
