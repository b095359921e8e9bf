"""Score a synthesis run beside the two trivial baselines, in the brain and in the tumour, and draw one subject.

    python experiments/synthesis.py RUN --cache CACHE --split split.json [--subsets t1,t1+t2] [--picture out.png]

Prints a Markdown table: mean over the test subjects of PSNR in the brain, SSIM, and PSNR in the tumour; and by how much
the method is above the better baseline in PSNR.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anymri.data.split import read_split
from anymri.evaluation.baselines import BASELINES, collect_moments, fill_in
from anymri.evaluation.score_subject import predict_entry
from anymri.evaluation.scoring import score_synthesis_by_place
from anymri.evaluation.setup import Evaluation, EvaluationSettings
from anymri.inference.sliding_window import WindowSettings

METRICS = ("psnr", "ssim", "psnr_tumor")


def candidates(work: Evaluation, subject: str, moments: list[Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Subset, target and what the method and each baseline put there; and the real image and tumour."""
    found = []
    for entry, subsets in work.cache.entries(subject, work.subsets_of(subject)):
        image = np.asarray(entry.image, np.float32)
        for subset, prediction in predict_entry(work, entry, subsets, ("image",)):
            shown = {code: image[work.spec.index(code)] for code in subset}
            for channel in np.flatnonzero(prediction.synthesised.numpy()):
                target = work.spec.modalities[channel]
                assert prediction.image is not None
                made = {name: fill_in(name, moments, work.spec, target, shown) for name in BASELINES}
                made |= {"method": prediction.image[channel].numpy(), "real": image[channel]}
                found.append((work.spec.subset_name(subset), target, made))
    return found


def draw(path: Path, cells: dict[str, tuple[str, dict[str, Any]]], subject: str) -> None:
    """One axial slice a target: the real sequence, the method's and the baselines'."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, grid = plt.subplots(len(cells), 4, figsize=(12, 3.3 * len(cells)), squeeze=False)
    for axes, (target, (subset, made)) in zip(grid, cells.items(), strict=True):
        depth = int(np.argmax((made["real"] != 0).sum(axis=(1, 2))))
        for axis, name in zip(axes, ("real", "method", *BASELINES), strict=True):
            shown = np.where(made["real"][depth] != 0, made[name][depth], -3)
            axis.imshow(shown, cmap="gray", vmin=-3, vmax=3, origin="lower")
            axis.set_title(f"{target} from {subset}" if name == "method" else f"{name} {target}".replace("_", " "))
            axis.axis("off")
    figure.suptitle(subject)
    figure.tight_layout()
    figure.savefig(path, dpi=70)


def margins(row: dict[str, list[list[float]]]) -> tuple[float, float]:
    """By how much the method is above the better baseline in PSNR (dB) and SSIM, means over the subjects."""
    means = {name: np.nanmean(values, 0) for name, values in row.items()}
    psnr, ssim = (float(means["method"][i] - max(means[name][i] for name in BASELINES)) for i in (0, 1))
    return psnr, ssim


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="run folder, or folder of runs with one network each")
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--subsets", default=None)
    parser.add_argument("--picture", type=Path, default=None)
    options = parser.parse_args()
    torch.set_num_threads(1)
    subsets = options.subsets.split(",") if options.subsets else None
    work = Evaluation.prepare(
        options.run, options.cache, EvaluationSettings(windows=WindowSettings(overlap=0.25)), subsets=subsets
    )
    split = read_split(options.split)
    moments = [collect_moments(work.cache.entry(name), work.spec) for name in split.part("train", 0)]
    rows: dict[tuple[str, str], dict[str, list[list[float]]]] = {}
    for subject in split.part("test", 0):
        entry = work.cache.entry(subject)
        found = candidates(work, subject, moments)
        if options.picture is not None:
            # The last subset that lacks a target shows the most.
            draw(options.picture, {target: (subset, made) for subset, target, made in found}, subject)
            options.picture = None
        for subset, target, made in found:
            for name in (*BASELINES, "method"):
                scores = score_synthesis_by_place(
                    target, made[name], made["real"], made["real"] != 0, np.asarray(entry.label) > 0
                )
                values = {score.metric: score.value for score in scores}
                cell = rows.setdefault((subset, target), {})
                cell.setdefault(name, []).append([values.get(metric, np.nan) for metric in METRICS])
    print("| Shown | Made | copy best available | linear regression | method | above both by |")
    print("|---|---|---|---|---|---:|")
    for (subset, target), cell in rows.items():
        texts = ["{:.2f} / {:.3f} / {:.2f}".format(*np.nanmean(cell[name], 0)) for name in (*BASELINES, "method")]
        print(f"| {subset} | {target} | {' | '.join(texts)} | {margins(cell)[0]:+.1f} dB |")
    psnr, ssim = np.transpose([margins(cell) for cell in rows.values()])
    print(
        f"\nPSNR: {psnr.mean():+.2f} dB in the mean of {len(psnr)} cells, above both in {(psnr > 0).sum()}, by 1 dB or "
        f"more in {(psnr >= 1).sum()}; {psnr.min():+.2f} to {psnr.max():+.2f}. SSIM: above both in {(ssim > 0).sum()}."
    )


if __name__ == "__main__":
    main()
