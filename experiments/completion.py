"""Measure completed sequences against copying, on real cases that the network had not seen; resumable.

    python experiments/completion.py --real ../shared/data/brats2021 --work work/completion \
        --folds work/glioma_folds.json --networks 1=work/fold1.safetensors 2=work/fold2.safetensors
    python experiments/completion.py --real ../shared/data/brats2021 --work work/completion_phantom \
        --networks glioma_phantom_unet
    python experiments/completion.py ... --card src/anymri/zoo/weights/glioma_unet.md --table table.md

Every case is completed from each of its 14 incomplete subsets, on the grid of its files, as `anymri predict` does,
and each completed sequence is held against the real one beside the two trivial baselines: a copy of the given sequence
most like it and a voxel-wise linear regression, both fitted to the other real cases (with folds: to those the network
learnt from). One CSV file a case, kept, so that the script goes on where it stopped. `--card` puts the outcome into a
model card, `--table` writes the tables of docs/results/completion.md.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import yaml
from scipy import stats

from anymri.data.index import find_study
from anymri.data.lattice import NATIVE
from anymri.data.nifti import Volume, read_image
from anymri.data.preprocess import preprocess_study
from anymri.evaluation import metrics
from anymri.evaluation.baselines import Moments, collect_moments, copy_best_available, linear_regression
from anymri.files import replace_text
from anymri.inference.restore import restore_image
from anymri.inference.sliding_window import WindowSettings, iterate_subject
from anymri.methods import Method
from anymri.modalities import MODALITIES
from anymri.types import GLIOMA
from anymri.zoo import open_model
from anymri.zoo.card import COMPLETION_METRICS, ERROR_EDGES, CompletionScore

CONFIDENCE = 0.95
#: SSIM is measured in this many axial slices around the middle of the brain: it is the slow part.
SSIM_SLICES = 48
DIGITS = {"psnr": ".1f", "ssim": ".3f", "psnr_tumor": ".1f"}


class Case(NamedTuple):
    """A real case: its images as read, in z-scores on its own grid, and its whole tumour."""

    name: str
    volumes: dict[str, Volume]
    study: Any
    tumor: np.ndarray[Any, Any]


def open_case(folder: Path) -> Case:
    """Read one case of the BraTS layout."""
    found = find_study(folder, None, GLIOMA.modalities)
    volumes = {code: read_image(path) for code, path in found.images.items()}
    (label,) = folder.glob("*seg.nii.gz")
    return Case(folder.name, volumes, preprocess_study(volumes), read_image(label, kind="label").array > 0)


def complete(method: Method, case: Case) -> Iterator[tuple[tuple[str, ...], dict[str, np.ndarray[Any, Any]]]]:
    """Every incomplete subset, and the sequences that the network makes from it, on the grid of the files.

    All four sequences are prepared once: what is not shown changes no bit of a prediction
    (`test_deleted_and_simulated_sequences_agree_bit_for_bit`).
    """
    study = preprocess_study(case.volumes, method.facts.spacing_mm, spec=method.spec)
    windows = WindowSettings().trained_as(method.facts)
    subsets = [subset for subset in GLIOMA.subsets() if len(subset) < len(GLIOMA.modalities)]
    for subset, prediction in iterate_subject(method, study, subsets, windows, outputs=("image",)):
        native = np.logical_or.reduce([case.volumes[code].array != 0 for code in subset])
        brain = torch.from_numpy(study.brain([GLIOMA.index(code) for code in subset]))
        image = prediction.image
        assert image is not None
        missing = [code for code in GLIOMA.modalities if code not in subset]
        yield (
            subset,
            {code: restore_image(image[GLIOMA.index(code)], brain, study.lattice, native, NATIVE) for code in missing},
        )


def middle(brain: Any) -> slice:
    """Axial slices around the middle of a brain."""
    filled = np.flatnonzero(brain.any(axis=(1, 2)))
    centre = (filled[0] + filled[-1]) // 2
    return slice(max(0, centre - SSIM_SLICES // 2), centre + SSIM_SLICES // 2)


def score(candidate: Any, real: Any, tumor: Any, width: float) -> dict[str, float]:
    """Metrics of one candidate, and how large the error of a voxel is."""
    brain = real != 0
    slab = middle(brain)
    error = np.abs(candidate - real)[brain]
    inside = tumor[brain]
    values = {
        "psnr": metrics.psnr(candidate, real, brain, width),
        "ssim": metrics.ssim(candidate[slab], real[slab], brain[slab], width),
        "psnr_tumor": metrics.psnr(candidate, real, brain & tumor, width),
        "mae": float(error.mean()),
        "mae_tumor": float(error[inside].mean()),
        "p90": float(np.percentile(error, 90)),
    }
    place = np.digitize(candidate[brain], ERROR_EDGES)
    for part in range(len(ERROR_EDGES) + 1):
        found = error[place == part]
        values[f"error{part}"] = float(found.mean()) if found.size > 100 else float("nan")
    return values


def rows_of(case: Case, method: Method, moments: list[Moments]) -> Iterator[dict[str, Any]]:
    """Scores of the network and the copy, and the PSNR of the regression, from every incomplete subset."""
    image = {code: np.asarray(case.study.image[GLIOMA.index(code)], np.float32) for code in GLIOMA.modalities}
    width = {code: metrics.data_range(array, array != 0) for code, array in image.items()}
    copies: dict[tuple[str, str], dict[str, float]] = {}
    tumor = np.where(case.tumor, case.study.image, np.float32(0))
    grams = {
        "psnr": collect_moments(case.study, GLIOMA).gram,
        "psnr_tumor": collect_moments(case.study._replace(image=tumor), GLIOMA).gram,
    }
    for subset, made in complete(method, case):
        for target, array in made.items():
            facts = {"case": case.name, "subset": GLIOMA.subset_name(subset), "target": target}
            yield {**facts, "by": "network", "copied": "", **score(array, image[target], case.tumor, width[target])}
            source = copy_best_available(moments, GLIOMA, target, subset)
            assert source is not None
            if (source, target) not in copies:
                copies[source, target] = score(image[source], image[target], case.tumor, width[target])
            yield {**facts, "by": "copy", "copied": source, **copies[source, target]}
            weights = linear_regression(moments, GLIOMA, target, subset)
            assert weights is not None
            fit = {name: regression_psnr(weights, target, gram[target], width[target]) for name, gram in grams.items()}
            yield {**facts, "by": "regression", "copied": "", **fit}


def regression_psnr(weights: Mapping[str, float], target: str, gram: Any, width: float) -> float:
    """PSNR of a voxel-wise linear regression in the voxels that a matrix of second moments was collected from."""
    vector = np.zeros(len(gram))
    vector[0] = weights[""]
    for code in weights.keys() - {""}:
        vector[1 + GLIOMA.index(code)] = weights[code]
    vector[1 + GLIOMA.index(target)] = -1
    return float(10 * np.log10(width**2 / (vector @ gram @ vector / gram[0, 0])))


def divide(real: Path, folds: Path | None) -> dict[str, tuple[list[str], list[str]]]:
    """Network to the cases it is scored on, and those that the baselines learn from (without folds: all others)."""
    names = sorted(path.name for path in real.iterdir() if path.is_dir())
    if folds is None:
        return {"": (names, names)}
    written = json.loads(folds.read_text(encoding="utf-8"))["folds"]
    return {
        str(number): ([name for name in fold["test"] if name in names], [n for n in fold["train"] if n in names])
        for number, fold in enumerate(written)
    }


def measure(real: Path, work: Path, folds: Path | None, networks: Mapping[str, str], cases: int | None) -> None:
    """Write one CSV file a case, where it is not there already."""
    parts = divide(real, folds)
    work.mkdir(parents=True, exist_ok=True)
    for fold, weights in networks.items():
        scored, known = parts[fold]
        wanted = [name for name in scored if not (work / f"{name}.csv").exists()][:cases]
        if not wanted:
            continue
        moments = {name: collect_moments(open_case(real / name).study, GLIOMA) for name in known}
        method = open_model(weights)
        seen = set(method.facts.training_subjects or ()) & set(wanted)
        if seen:
            raise SystemExit(f"{weights} has seen {', '.join(sorted(seen))}")
        for name in wanted:
            others = [moments[other] for other in known if other != name]
            rows = list(rows_of(open_case(real / name), method, others))
            replace_text(work / f"{name}.csv", pd.DataFrame(rows).to_csv(index=False))
            print(name, flush=True)


def summarise(work: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """By target and subset: means, paired differences to the copy with their interval, size of the error."""
    table = pd.concat([pd.read_csv(path) for path in sorted(work.glob("*.csv"))])
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for target in GLIOMA.modalities:
        for subset in map(GLIOMA.subset_name, GLIOMA.subsets()):
            rows = table[(table.target == target) & (table.subset == subset)]
            if rows.empty:
                continue
            by = {name: part.set_index("case").sort_index() for name, part in rows.groupby("by")}
            found.setdefault(target, {})[subset] = cell(by)
    return found


def cell(by: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Fields of `CompletionScore` for one target and subset."""
    made, copied, regression = by["network"], by["copy"], by["regression"]
    entry: dict[str, Any] = {"n": len(made), "copied": copied.copied.mode()[0]}
    for metric in COMPLETION_METRICS:
        parts = (made, copied) if metric == "ssim" else (made, copied, regression)
        entry[metric] = [round(float(part[metric].mean()), 3) for part in parts]
        gain = (made[metric] - copied[metric]).dropna()
        half = stats.t.ppf((1 + CONFIDENCE) / 2, len(gain) - 1) * gain.std() / np.sqrt(len(gain))
        entry[f"gain_{metric}"] = [round(float(gain.mean() + shift), 3) for shift in (-half, 0, half)]
    entry |= {key: round(float(made[key].mean()), 3) for key in ("mae", "mae_tumor", "p90")}
    columns = [f"error{part}" for part in range(len(ERROR_EDGES) + 1)]
    entry["error_by_value"] = [round(float(value), 2) for value in made[columns].mean().ffill().bfill()]
    return entry


def table_text(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown tables, one a target."""
    heads = ["from", "copy of", "copy", "regression", "network", "network - copy: PSNR", "SSIM", "PSNR in the tumour"]
    heads += ["beats copying", "error of a voxel"]
    lines = []
    for target, subsets in found.items():
        lines += [f"### {MODALITIES[target].short_name}", "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        for subset, entry in subsets.items():
            psnr, ssim, tumor = (entry[metric] for metric in COMPLETION_METRICS)
            cells = [f"{psnr[k]:.1f} / {ssim[k]:.3f} / {tumor[k]:.1f}" for k in (1, 0)]
            cells.insert(1, f"{psnr[2]:.1f} / – / {tumor[2]:.1f}")
            gains = [_gain(entry[f"gain_{metric}"], DIGITS[metric]) for metric in COMPLETION_METRICS]
            beats = "**yes**" if CompletionScore(**entry).beats_copying else "no"
            error = f"{entry['mae']:.2f}, {entry['mae_tumor']:.2f}, {entry['p90']:.2f}"
            names = [subset, MODALITIES[entry["copied"]].short_name]
            lines.append("| " + " | ".join([*names, *cells, *gains, beats, error]) + " |")
        lines.append("")
    return "\n".join(lines)


def _gain(interval: list[float], digits: str) -> str:
    low, mean, high = (f"{value:+{digits}}" for value in interval)
    return f"{mean} ({low} to {high})"


def write_card(card: Path, found: dict[str, Any], measured_on: str) -> None:
    """Replace ``numbers.completion`` of a model card; everything else stays as it is."""
    text = card.read_text(encoding="utf-8")
    opening, front, body = text.split("---\n", 2)
    front = re.sub(r"^  completion:\n(?:    .*\n)*", "", front, flags=re.MULTILINE)
    front += f"  completion:\n    measured_on: {measured_on}\n    by_target:\n"
    for target, subsets in found.items():
        front += f"      {target}:\n"
        for subset, entry in subsets.items():  # one line each
            line = yaml.safe_dump(entry, sort_keys=False, width=10_000, default_flow_style=True)
            front += f"        {subset}: {line}"
    replace_text(card, f"{opening}---\n{front}---\n{body}")


def main() -> None:
    """Measure, then write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, required=True, help="folder of the real cases")
    parser.add_argument("--work", type=Path, required=True, help="folder of the CSV files")
    parser.add_argument("--folds", type=Path, help="split file; without it the network has seen none of the cases")
    parser.add_argument("--networks", nargs="*", default=[], help="model, or FOLD=WEIGHTS with --folds")
    parser.add_argument("--cases", type=int, help="at most so many further cases a network")
    parser.add_argument("--card", type=Path, help="model card to write numbers.completion into")
    parser.add_argument("--measured-on", default="", help="with --card: which cases")
    parser.add_argument("--table", type=Path, help="Markdown file to write the tables to")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pairs = [text.rpartition("=") for text in arguments.networks]
    networks = {fold: weights for fold, _, weights in pairs}
    measure(arguments.real, arguments.work, arguments.folds, networks, arguments.cases)
    found = summarise(arguments.work)
    if arguments.card is not None:
        write_card(arguments.card, found, arguments.measured_on)
    if arguments.table is not None:
        replace_text(arguments.table, table_text(found))


if __name__ == "__main__":
    main()
