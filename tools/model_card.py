"""Put measured numbers into a model card: results tables of unseen cases in, the card's front matter out.

    anymri index ../shared/data/brats2021 --dataset folder -o work/real.csv
    anymri preprocess work/real.csv --spacing 3 -o work/cache
    anymri preprocess work/real.csv -o work/native
    anymri evaluate glioma_phantom_unet --data work/cache --reference work/native -o work/results.parquet
    python tools/model_card.py src/anymri/zoo/weights/glioma_phantom_unet.md work/results.parquet \
        --measured-on "thirteen BraTS 2021 cases, none of them in training"

Rows of subjects that were seen in training are left out. Several tables, e.g. of the folds of a cross-validation, are
taken as one. The prose of the card stays as it is.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from anymri.evaluation.results import read_table
from anymri.types import GLIOMA, DataSpec
from anymri.zoo.card import REGION_ML, RegionScore


def summarise(tables: list[pd.DataFrame], method: str, spec: DataSpec = GLIOMA) -> dict[str, dict[str, RegionScore]]:
    """Scores by subset and region over the subjects that were not in training."""
    table = pd.concat(tables).astype({"subset": str, "target": str, "metric": str, "subject": str, "method": str})
    table = table[(table.method == method) & ~table.seen_in_training]
    wide = table.pivot_table(index=["subset", "target", "subject"], columns="metric", values="value", dropna=False)
    if "dice" not in wide or wide.dice.dropna().empty:
        raise SystemExit("no Dice of an unseen subject in these tables")
    wide = wide[wide.dice.notna()].reset_index()
    wide["reference_ml"] = _reference_ml(wide)
    found: dict[str, dict[str, RegionScore]] = {}
    for subset in map(spec.subset_name, spec.subsets()):
        rows = wide[wide.subset == subset]
        if len(rows):
            found[subset] = {region: _score(rows[rows.target == region]) for region in spec.regions}
    return found


def _reference_ml(wide: pd.DataFrame) -> pd.Series:
    """Volume of the reference: error in ml over relative error, of whichever subset has both.

    With an empty reference the relative error is NaN, or 0 beside an error of 0.
    """
    ratio = (wide.volume_error / wide.relative_volume_error).where(wide.relative_volume_error != 0)
    volume = ratio.groupby([wide.target, wide.subject]).transform("median")
    return volume.fillna(0.0)


def _score(rows: pd.DataFrame) -> RegionScore:
    has = rows.reference_ml >= REGION_ML
    dice, absent = rows.dice[has], rows[~has]
    predicted = absent.volume_error + absent.reference_ml
    return RegionScore(
        mean=round(float(dice.mean()), 3) if len(dice) else None,
        median=round(float(dice.median()), 3) if len(dice) else None,
        n=len(dice),
        without=len(absent),
        left_empty=int((predicted < REGION_ML).sum()),
        false_ml=round(float(predicted.median()), 1) if len(absent) else None,
    )


def numbers(scores: dict[str, dict[str, RegionScore]], measured_on: str) -> dict[str, Any]:
    """The card's entry ``numbers``; what says nothing of cases without a region is left out where all have it."""
    by_subset: dict[str, Any] = {}
    for subset, regions in scores.items():
        by_subset[subset] = {}
        for region, score in regions.items():
            keys = ("mean", "median", "n") if not score.without else tuple(asdict(score))
            by_subset[subset][region] = {key: asdict(score)[key] for key in keys}
    return {"measured_on": measured_on, "by_subset": by_subset}


def front_matter(values: dict[str, Any]) -> str:
    """YAML between two lines of ---, one region per line."""
    facts = {key: value for key, value in values.items() if key != "numbers"}
    text = yaml.safe_dump(facts, sort_keys=False, width=120)
    text += yaml.safe_dump({"numbers": values["numbers"]}, sort_keys=False, width=200, default_flow_style=None)
    return f"---\n{text}---\n"


def main() -> None:
    """Rewrite the numbers of one card."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("card", type=Path, help="Markdown card to rewrite")
    parser.add_argument("tables", type=Path, nargs="+", help="results.parquet files")
    parser.add_argument("--measured-on", required=True, help="which cases, e.g. 'six BraTS 2021 cases, ...'")
    arguments = parser.parse_args()
    _, front, text = arguments.card.read_text(encoding="utf-8").split("---\n", 2)
    values = yaml.safe_load(front)
    scores = summarise([read_table(path)[0] for path in arguments.tables], values["method"])
    values["numbers"] = {
        **(values.get("numbers") or {}),
        **numbers(scores, arguments.measured_on),
    }  # other measurements stay
    arguments.card.write_text(front_matter(values) + text, encoding="utf-8")


if __name__ == "__main__":
    main()
