"""Keep or drop: Dice of a study with one spoiled sequence against Dice without that sequence.

    python experiments/quality_curves.py --real ../shared/data/brats2021 --work /tmp/quality \\
        --folds work/glioma/glioma_folds.json --networks work/glioma/fold1.safetensors work/glioma/fold2.safetensors

Every real case is predicted by a network that has not seen it, at 3 mm, from all four sequences: as they are, without
one, and with one spoiled by one artifact at several strengths. The spoiled image is measured too. One file a case, so
that a broken run goes on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from quality_judge import ARTIFACTS, CODES, SEEDS, STEP_MM, Study, read_case

from anymri.data.geometry import Geometry
from anymri.data.nifti import Volume
from anymri.data.preprocess import preprocess_study
from anymri.inference.labels import regions
from anymri.inference.predict import load
from anymri.inference.sliding_window import WindowSettings, predict_subject

STRENGTHS = (0.3, 0.7, 1.0)


def as_volume(array: np.ndarray) -> Volume:
    """An array on the grid of 3 mm; axes as anymri keeps them."""
    depth, height, width = array.shape
    return Volume(array, Geometry(np.diag([STEP_MM, STEP_MM, STEP_MM, 1.0]), (width, height, depth)), "array")


class Scorer:
    """Dice of one case from any of its sequences."""

    def __init__(self, network: Path, label: np.ndarray) -> None:
        self.model = load(network)
        self.label = as_volume(label.astype(np.int16))
        self.windows = WindowSettings(precision="auto").trained_as(self.model.method.facts)

    def dice(self, images: dict[str, np.ndarray]) -> dict[str, float]:
        """Dice of every region; of a region that is in neither, 1."""
        method = self.model.method
        volumes = {code: as_volume(image) for code, image in images.items()}
        study = preprocess_study(volumes, method.facts.spacing_mm, label=self.label, spec=method.spec)
        assert study.label is not None
        subset = tuple(code for code in CODES if code in images)
        found = predict_subject(method, study, [subset], self.windows, outputs=("logits",))[subset]
        assert found.probability is not None
        assert found.head is not None
        scores = {}
        for name, mask in regions(found.probability, found.head, method.spec).items():
            truth = np.isin(study.label, list(method.spec.region_values(name)))
            total = int(mask.sum()) + int(truth.sum())
            scores[name] = 2 * float((mask & truth).sum()) / total if total else 1.0
        return scores


def score_case(study: Study, scorer: Scorer) -> list[dict[str, Any]]:
    """Rows of one case."""
    rows: list[dict[str, Any]] = [{"code": "", "artifact": "none", "strength": 0, "dice": scorer.dice(study.images)}]
    for code in CODES:
        rest = {other: image for other, image in study.images.items() if other != code}
        rows.append({"code": code, "artifact": "dropped", "strength": 0, "dice": scorer.dice(rest)})
        for artifact in ARTIFACTS:
            for strength in STRENGTHS:
                image = study.spoil(code, artifact, strength)
                found = study.measure(code, image)
                dice = None if found is None else scorer.dice({**study.images, code: image})
                rows.append({"code": code, "artifact": artifact, "strength": strength, "dice": dice, "measures": found})
    return rows


def main() -> None:
    """Score the cases that have no file yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--folds", type=Path, required=True, help="split whose last folds the networks belong to")
    parser.add_argument("--networks", type=Path, nargs="+", required=True, help="one for each of the last folds")
    parser.add_argument("--skip", type=int, default=0, help="cases of each fold that are left out at its end")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = arguments.work / "curves"
    folder.mkdir(parents=True, exist_ok=True)
    folds = json.loads(arguments.folds.read_text())["folds"][-len(arguments.networks) :]
    known = sorted(path.name for path in arguments.real.iterdir() if path.is_dir())
    order = [(k, name) for k, fold in enumerate(folds) for name in sorted(fold["test"])]
    order.sort(key=lambda row: (folds[row[0]]["test"].index(row[1]), row[0]))  # first of each fold, second of each, ...
    for k, name in order[: len(order) - arguments.skip]:
        out = folder / f"{name}.json"
        if out.exists():
            continue
        images, label = read_case(arguments.real / name)
        study = Study(images, SEEDS["real"], known.index(name), None)
        out.write_text(json.dumps(score_case(study, Scorer(arguments.networks[k], label))))
        print(name, flush=True)


if __name__ == "__main__":
    main()
