"""Make the bundled glioma weights and their leave-one-out numbers on the real cases, from nothing, resumable.

    python tools/leave_one_out.py --real ../shared/data/brats2021 --work work/glioma [--folds 0 1 2] [--steps ...]

Every step writes files and is skipped where they exist, so folds can be shared between processes.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import torch
import yaml

from anymri.config import load_run_config
from anymri.data.cache import Cache
from anymri.data.index import index_dataset, read_subjects, write_subjects
from anymri.data.loading import PatchLoader
from anymri.data.preprocess import preprocess
from anymri.data.subsets import make_sampler
from anymri.evaluation import evaluate
from anymri.methods import create
from anymri.methods.base import show
from anymri.phantom import PhantomSettings, generate
from anymri.training import train
from anymri.types import GLIOMA
from anymri.zoo import open_model

RECIPES = Path(__file__).parents[1] / "src" / "anymri" / "recipes"
PHANTOMS, SEED, SPACING_MM = 200, 2027, 2.0
#: Name of the bundled model.
NAME = "glioma_unet"


def prepare(real: Path, work: Path) -> list[str]:
    """Phantoms, caches and the split; returns the real subjects' ids."""
    if not (work / "phantoms").exists():
        generate(work / "phantoms", PHANTOMS, SEED, PhantomSettings(spacing_mm=SPACING_MM, contrast="random"))
    phantoms = index_dataset(work / "phantoms", "brats2023")
    studies = index_dataset(real, "folder")
    write_subjects(work / "subjects.csv", [*phantoms, *studies])
    write_subjects(work / "real.csv", studies)
    preprocess(work / "subjects.csv", work / "cache", spacing_mm=SPACING_MM)
    preprocess(work / "real.csv", work / "native")
    names, known = [p.subject_id for p in phantoms], [s.subject_id for s in read_subjects(work / "real.csv")]
    folds = [{"train": names, "validation": [], "test": known}]
    folds += [{"train": [*names, *(n for n in known if n != out)], "validation": [], "test": [out]} for out in known]
    folds.append({"train": [*names, *known], "validation": [], "test": []})
    (work / "split.json").write_text(json.dumps({"folds": folds, "seed": SEED}))
    # The threshold is tuned on real studies alone: the best it can do.
    alone = [{"train": [n for n in known if n != out], "validation": [], "test": [out]} for out in known]
    (work / "real.json").write_text(json.dumps({"folds": alone, "seed": SEED}))
    return known


def data(work: Path, fold: int, split: str = "split.json") -> list[str]:
    """Overrides that point a recipe at the data."""
    return [f"data.cache={work / 'cache'}", f"data.split={work / split}", f"data.fold={fold}"]


def by_region(labels: Path, work: Path) -> Path:
    """Give the pretrained U-Net one output a region, fitted to what its softmax over labels says on phantoms.

    A fresh output layer would need hundreds of steps to learn what the old one knows. The region's log-odds under
    the old layer are regressed on the finest features, over 12 phantom crops with random subsets.
    """
    out = work / "pretrain_regions.safetensors"
    if out.exists():
        return out
    old = open_model(labels)
    new = create("unet", **{**asdict(old.config), "targets": "regions"})
    loader = PatchLoader(Cache(work / "cache"), old.extra["training_subjects"], (64, 80, 64), 1, SEED, "none")
    draw, generator = make_sampler("uniform_subset", old.spec), torch.Generator().manual_seed(SEED)
    features, odds = [], []
    for step in range(12):
        batch = loader.batch(0, 0, step)
        available = draw(batch.present, 0.0, generator)
        with torch.inference_mode():
            finest = old._features(show(batch.image, available), available, count=1)[0]
            probability = old.head.probability(old.heads[0](finest).float()).double()
        chosen = torch.randperm(finest[0, 0].numel(), generator=generator)[:20000]
        wanted = [[old.spec.labels[name] for name in names] for names in old.spec.regions.values()]
        region = torch.stack([probability[:, values].sum(1) for values in wanted], 1)
        features.append(finest[0].flatten(1).double()[:, chosen].T)
        odds.append(torch.logit(region[0].flatten(1)[:, chosen].T, eps=2e-3))
    x, y = torch.cat(features), torch.cat(odds)
    solution = torch.linalg.lstsq(torch.cat([x, torch.ones(len(x), 1).double()], 1), y).solution.float()
    weights = {key: value for key, value in old.state_dict().items() if not key.startswith("heads.")}
    weights["heads.0.weight"] = solution[:-1].T.reshape(-1, x.shape[1], 1, 1, 1).contiguous()
    weights["heads.0.bias"] = solution[-1].contiguous()
    new.load_state_dict(weights)
    new.save(out, old.extra)
    return out


def score(run: Path, work: Path, fold: int, out: Path) -> None:
    """Evaluate on the held-out studies, on the grid of their files."""
    if not out.exists():
        split = work / "split.json"
        evaluate(run, work / "cache", out, split=split, fold=fold, reference=work / "native", pictures=False)


def bundle(run: Path, out: Path) -> None:
    """Weights in half precision, half the size; they are computed with in single precision or bfloat16."""
    method = open_model(run)
    for parameter in method.parameters():
        parameter.data = parameter.data.half()
    method.save(out, method.extra)


def write_card(work: Path, out: Path) -> None:
    """Model card: facts and leave-one-out means in front, `tools/glioma_card.md` behind."""
    table = pd.concat([pd.read_parquet(path) for path in sorted(work.glob("fold*.parquet"))])
    table = table[(table.metric == "dice") & (table.method == "unet")]
    means = table.groupby(["subset", "target"], observed=True).value.mean().round(3)
    regions = list(GLIOMA.regions)
    numbers = {s: {r: float(means[s, r]) for r in regions} for s in map(GLIOMA.subset_name, GLIOMA.subsets())}
    front = {
        "name": NAME,
        "method": "unet",
        "summary": "Glioma from any subset of T1, T1c, T2, FLAIR: regions and missing sequences, at 2 mm.",
        "modalities": list(GLIOMA.modalities),
        "data": "200 random-contrast phantoms (seed 2027), seven BraTS 2021 cases (CC BY 4.0, doi:10.7937/jc8x-9874)",
        "seed": 0,
        "command": "python tools/leave_one_out.py --real ../shared/data/brats2021 --work work/glioma",
        "licence": "Apache-2.0; training data CC BY 4.0, see below",
        "limits": "Research use only. Seven real training cases; skull-stripped adult glioma before surgery only.",
        "numbers": {
            "measured_on": "seven BraTS 2021 cases, each left out of training",
            "by_subset": numbers,
        },
    }
    text = Path(__file__).with_name("glioma_card.md").read_text(encoding="utf-8")
    out.write_text(f"---\n{yaml.safe_dump(front, sort_keys=False, width=120)}---\n\n{text}", encoding="utf-8")


def main() -> None:
    """Run the chosen steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", type=Path, required=True, help="folder of the real cases")
    parser.add_argument("--work", type=Path, required=True, help="folder for everything made")
    parser.add_argument("--folds", type=int, nargs="*", help="which studies to leave out, from 0; default: all")
    parser.add_argument("--steps", nargs="*", default=["pretrain", "folds", "final", "card"])
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    work = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    known = prepare(arguments.real, work)
    pretrained = work / "pretrain"
    if "pretrain" in arguments.steps:
        train(load_run_config(RECIPES / "glioma" / "pretrain.yaml", data(work, 0)), pretrained)
        score(pretrained, work, 0, work / "phantom_only.parquet")
    init = [f"training.init={by_region(pretrained, work)}"]
    if "folds" in arguments.steps:
        for k in range(len(known)) if arguments.folds is None else arguments.folds:
            fold = data(work, k + 1)
            train(load_run_config(RECIPES / "glioma" / "finetune.yaml", [*fold, *init]), work / f"fold{k}")
            score(work / f"fold{k}", work, k + 1, work / f"fold{k}.parquet")
            real_only = data(work, k, "real.json")
            train(load_run_config(RECIPES / "phantom40" / "threshold.yaml", real_only), work / f"threshold{k}")
            score(work / f"threshold{k}", work, k + 1, work / f"threshold{k}.parquet")
    if "final" in arguments.steps:
        final = data(work, len(known) + 1)
        train(load_run_config(RECIPES / "glioma" / "finetune.yaml", [*final, *init]), work / "final")
        bundle(work / "final", work / f"{NAME}.safetensors")
    if "card" in arguments.steps:
        write_card(work, work / f"{NAME}.md")


if __name__ == "__main__":
    main()
