"""Leaderboard on thirteen real cases by five folds, for any method; resumable.

    python experiments/real13.py --real ../shared/data/brats2021 --work work/real13 --methods unet rfnet

Every network learns phantoms once, then each fold's real cases and phantoms from there, with the same processor minutes
for every method. Folds are those of `anymri split --published real13`; scores are on the grid of the files. Settings
are those of `recipes/phantom40/<method>.yaml`; `threshold` always stands beside them. Every step is skipped where its
files exist, so methods can be added later.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from glioma_grades import prepare
from phantom_only import RECIPES, write_split

from anymri.cli.app import app
from anymri.config import load_run_config
from anymri.data.cache import Cache
from anymri.data.published_splits import read_published
from anymri.training import train

FOLDS, SPLIT, STEPS_PER_EPOCH = 5, "real13.json", 25
#: Real cases are shown this often for each phantom, as in the recipe of the bundled model.
REPEAT = {"BraTS2021_*": 40}
#: Steps of the trial that a method's processor time per step is measured by: the longer one less the shorter one.
TRIAL = (2, 8)
#: The recipe of the bundled model stands beside the methods under this name.
CHOSEN = "whole_brain"


def divide(work: Path, known: list[str]) -> None:
    """Folds 0 to 4 as published, the phantoms in every training part; fold 5 is the phantoms alone."""
    phantoms = [name for name in Cache(work / "cache").subject_ids if name not in known]
    folds = [([*phantoms, *fold["train"]], fold["test"]) for fold in read_published("real13")["folds"]]
    write_split(work / SPLIT, [*folds, (phantoms, [])])


def settings(method: str) -> dict[str, Any]:
    """Method and training sections of a recipe, without length and seed."""
    name = "glioma/whole_brain.yaml" if method == CHOSEN else f"phantom40/{method}.yaml"
    recipe = yaml.safe_load((RECIPES / name).read_text(encoding="utf-8"))
    training = {key: value for key, value in recipe["training"].items() if key not in ("epochs", "seed", "init")}
    return {"method": recipe["method"], "training": training | {"steps_per_epoch": STEPS_PER_EPOCH, "threads": 1}}


def fit(method: str, work: Path, out: Path, epochs: int, steps_per_epoch: int = STEPS_PER_EPOCH) -> Path:
    """Train one method on the phantoms alone."""
    recipe = settings(method)
    recipe["data"] = {"cache": str(work / "cache"), "split": str(work / SPLIT), "fold": FOLDS}
    recipe["training"] |= {"epochs": epochs, "steps_per_epoch": steps_per_epoch}
    written = work / f"{method}.yaml"
    written.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return train(load_run_config(written), out)


def seconds_per_step(method: str, work: Path) -> float:
    """Processor seconds of a training step, measured once and kept."""
    kept = work / "seconds_per_step.json"
    known = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    if method not in known:
        spent = []
        for steps in TRIAL:
            with tempfile.TemporaryDirectory() as folder:
                begin = time.process_time()
                fit(method, work, Path(folder) / "run", 1, steps)
                spent.append(time.process_time() - begin)
        known[method] = (spent[1] - spent[0]) / (TRIAL[1] - TRIAL[0])
        kept.write_text(json.dumps(known, indent=1), encoding="utf-8")
    return float(known[method])


def entry(method: str, work: Path, minutes: tuple[float, float]) -> dict[str, Any]:
    """Entry of the plan for one method; its network has learnt phantoms when this returns."""
    if method == "threshold":
        return {"name": method}
    per_epoch = seconds_per_step(method, work) * STEPS_PER_EPOCH
    before, after = (max(1, round(60 * length / per_epoch)) for length in minutes)
    start = fit(method, work, work / "phantoms_only" / method, before)
    recipe = settings(method)
    return {**recipe["method"], "training": recipe["training"] | {"epochs": after, "init": str(start)}}


def main() -> None:
    """Prepare the data, let every method learn phantoms, and run the benchmark over the folds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", type=Path, required=True, help="folder of the real cases")
    parser.add_argument("--work", type=Path, required=True, help="folder for everything made")
    parser.add_argument("--methods", nargs="+", default=[CHOSEN], help=f"names of recipes/phantom40, or {CHOSEN}")
    parser.add_argument("--minutes", type=float, nargs=2, default=(12.0, 6.0), help="processor minutes: phantoms, fold")
    parser.add_argument("--folds", type=int, nargs="*", default=list(range(FOLDS)))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    work = arguments.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    divide(work, prepare(arguments.real, work))
    plan = {
        "title": "Thirteen real cases, five folds",
        "data": {"cache": str(work / "cache"), "split": str(work / SPLIT), "repeat": REPEAT},
        "folds": arguments.folds,
        "seeds": arguments.seeds,
        "methods": [entry(method, work, arguments.minutes) for method in ["threshold", *arguments.methods]],
        "evaluation": {"reference": str(work / "native"), "batch_size": 4, "pictures": False},
    }
    (work / "plan.yaml").write_text(yaml.safe_dump(plan, sort_keys=False), encoding="utf-8")
    app(["benchmark", str(work / "plan.yaml"), "-o", str(work / "bench")], standalone_mode=False)


if __name__ == "__main__":
    main()
