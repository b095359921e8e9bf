"""Multiple sclerosis: train on phantoms alone, score on real cases beside a tuned threshold; resumable.

    python experiments/ms_phantom_only.py --real ../shared/data/openms --work work/ms [--set KEY=VALUE ...]

Lesions count as in BraTS metastases 2023: found where a predicted piece touches them within 1 mm; lesions of at most
2 mm3 are not scored. Scored on the 1 mm grid of the files. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from phantom_only import run, write_split

from anymri.data.cache import Cache
from anymri.data.index import index_dataset
from anymri.data.preprocess import preprocess
from anymri.data.specification import dataset_spec
from anymri.data.study import Study
from anymri.evaluation import evaluate
from anymri.evaluation.metrics.lesionwise import BRATS2023, lesionwise
from anymri.inference.labels import regions
from anymri.inference.restore import Target, restore_probability
from anymri.inference.sliding_window import SubjectPrediction
from anymri.phantom import PhantomSettings, generate
from anymri.zoo import open_model

PHANTOMS, SEED, SPACING_MM = 150, 2028, 2.0
SETTINGS = PhantomSettings(spacing_mm=SPACING_MM, pathology="multiple_sclerosis", contrast="random", anatomy="varied")


def prepare(real: Path, work: Path) -> list[str]:
    """Phantoms, caches and splits; returns the ids of the real subjects."""
    if not (work / "phantoms").exists():
        generate(work / "phantoms", PHANTOMS, SEED, SETTINGS, layout="folder")
    phantoms, studies = index_dataset(work / "phantoms", "folder"), index_dataset(real, "folder")
    spec = dataset_spec(work / "phantoms", "folder", phantoms)  # its label 1, a lesion, is that of the real cases
    preprocess([*phantoms, *studies], work / "cache", SPACING_MM, spec=spec)
    preprocess(studies, work / "native", spec=spec)
    known = [study.subject_id for study in studies]
    write_split(work / "split.json", [([phantom.subject_id for phantom in phantoms], known)])
    write_split(work / "real.json", [([name for name in known if name != out], [out]) for out in known])
    return known


def score(model: Path, work: Path, name: str, subjects: list[str]) -> pd.DataFrame:
    """Lesion Dice and lesion-wise F1 of every subset."""
    native, method, rows = Cache(work / "native"), open_model(model), []

    def watch(entry: Study, subset: tuple[str, ...], prediction: SubjectPrediction) -> None:
        truth = native.entry(entry.subject_id)
        label = np.asarray(truth.label) > 0
        assert prediction.probability is not None
        channels = [method.spec.index(code) for code in subset]
        source, target = (Target.of(study, channels) for study in (entry, truth))
        assert method.head is not None
        shown = restore_probability(prediction.probability, method.head, source, target)
        found = np.asarray(regions(shown, method.head, method.spec)["lesion"])
        scores = lesionwise(found, label, truth.spacing_mm, BRATS2023["met"], hd95=False)
        dice = 2 * (found & label).sum() / max(found.sum() + label.sum(), 1)
        counts = {"found": scores.found, "missed": scores.missed, "invented": scores.false_positives}
        values = {"dice": float(dice), "f1": scores.f1, **counts}
        rows.append({"method": name, "subject": entry.subject_id, "subset": "+".join(subset), **values})

    out = work / f"{name}-{'-'.join(subjects)}.parquet"
    evaluate(
        method, work / "cache", out, subjects=subjects, batch_size=4, hd95=False, synthesis=False, pictures=False,
        watch=watch,
    )  # fmt: skip
    return pd.DataFrame(rows)


def show(table: pd.DataFrame) -> None:
    """Print the subsets, mean of the subjects, and each subject with everything and with FLAIR alone."""
    means = table.groupby(["subset", "method"], sort=False)[["dice", "f1"]].mean().unstack("method") * 100
    means.loc["mean of all"] = means.mean()
    print(means.round(1).to_string())
    wide = table[table.subset.isin(["flair", table.subset.iloc[-1]])]
    print(wide.round(3).to_string(index=False))


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", type=Path, required=True, help="folder of the real cases to score on")
    parser.add_argument("--work", type=Path, required=True, help="folder for everything made")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", nargs="*", default=[], help="changes to the recipe, e.g. training.precision=bf16")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    work = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    known = prepare(arguments.real, work)
    network = run("multiple_sclerosis/phantom_only.yaml", work, "network", changes=arguments.set)
    tables = [score(network, work, "phantoms", known)]
    for fold, name in enumerate(known):
        floor = run("phantom40/threshold.yaml", work, f"threshold{fold}", "real.json", fold)
        tables.append(score(floor, work, "threshold", [name]))
    show(pd.concat(tables, ignore_index=True))


if __name__ == "__main__":
    main()
