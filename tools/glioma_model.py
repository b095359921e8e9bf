"""Make the bundled glioma weights from phantoms alone, and score them on real cases they have never seen; resumable.

    python tools/glioma_model.py --real ../shared/data/brats2021 --work work/glioma [--steps train score bundle card]

Every step writes files and is skipped where they exist.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pandas as pd
import torch
import yaml

from anymri.config import load_run_config
from anymri.data.index import index_dataset, write_subjects
from anymri.data.preprocess import preprocess
from anymri.evaluation import evaluate
from anymri.phantom import generate
from anymri.training import train
from anymri.types import GLIOMA
from anymri.zoo import open_model

RECIPES = Path(__file__).parents[1] / "src" / "anymri" / "recipes"
PHANTOMS, SEED, SPACING_MM = 300, 2027, 3.0
#: Name of the bundled model.
NAME = "glioma_unet"


def prepare(real: Path, work: Path) -> list[str]:
    """Phantoms, caches and splits; returns the ids of the real subjects."""
    if not (work / "phantoms").exists():
        generate(work / "phantoms", PHANTOMS, SEED, SPACING_MM, contrast="random")
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


def run(recipe: str, work: Path, name: str, split: str = "split.json", fold: int = 0, init: Path | None = None) -> Path:
    """Train one recipe into a folder of the work folder."""
    data = [f"data.cache={work / 'cache'}", f"data.split={work / split}", f"data.fold={fold}"]
    start = [f"training.init={init / 'model.safetensors'}"] if init else []
    return train(load_run_config(RECIPES / recipe, [*data, *start]), work / name)


def score(model: Path, work: Path, out: Path, split: str = "split.json", fold: int = 0) -> None:
    """Evaluate on real cases, on the grid of their files."""
    if not out.exists():
        evaluate(
            model, work / "cache", out, split=work / split, fold=fold, reference=work / "native", pictures=False,
            batch_size=4,
        )  # fmt: skip


def bundle(model: Path, out: Path) -> None:
    """Weights in half precision, half the size; they are computed with in single precision or bfloat16."""
    method = open_model(model)
    for parameter in method.parameters():
        parameter.data = parameter.data.half()
    method.save(out, method.extra)


def write_card(work: Path, out: Path) -> None:
    """Model card: facts and means in front, `tools/glioma_card.md` behind."""
    table = pd.read_parquet(work / "phantom_only.parquet")
    table = table[(table.metric == "dice") & (table.method == "unet")]
    means = table.groupby(["subset", "target"], observed=True).value.mean().round(3)
    regions = list(GLIOMA.regions)
    numbers = {s: {r: float(means[s, r]) for r in regions} for s in map(GLIOMA.subset_name, GLIOMA.subsets())}
    front = {
        "name": NAME,
        "method": "unet",
        "summary": "Glioma from any subset of T1, T1c, T2, FLAIR: regions and missing sequences, at 3 mm.",
        "modalities": list(GLIOMA.modalities),
        "data": "300 random-contrast phantoms (seed 2027); no real image",
        "seed": 0,
        "command": "python tools/glioma_model.py --real ../shared/data/brats2021 --work work/glioma",
        "licence": "Apache-2.0",
        "limits": "Research use only. Trained on phantoms; skull-stripped adult glioma before surgery only.",
        "numbers": {"measured_on": "seven BraTS 2021 cases, none seen in training", "by_subset": numbers},
    }
    text = Path(__file__).with_name("glioma_card.md").read_text(encoding="utf-8")
    out.write_text(f"---\n{yaml.safe_dump(front, sort_keys=False, width=120)}---\n\n{text}", encoding="utf-8")


def main() -> None:
    """Run the chosen steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", type=Path, required=True, help="folder of the real cases to score on")
    parser.add_argument("--work", type=Path, required=True, help="folder for everything made")
    parser.add_argument("--steps", nargs="*", default=["train", "score", "bundle", "card"])
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    work = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    known = prepare(arguments.real, work)
    if "train" in arguments.steps:
        first = run("glioma/first.yaml", work, "first")
        run("glioma/second.yaml", work, "second", init=first)
    if "score" in arguments.steps:
        score(work / "second", work, work / "phantom_only.parquet")
        for fold in range(len(known)):
            model = run("phantom40/threshold.yaml", work, f"threshold{fold}", "real.json", fold)
            score(model, work, work / f"threshold{fold}.parquet", "real.json", fold)
    if "bundle" in arguments.steps:
        bundle(work / "second", work / f"{NAME}.safetensors")
    if "card" in arguments.steps:
        write_card(work, work / f"{NAME}.md")


if __name__ == "__main__":
    main()
