"""Write a large report of made-up results, stamped so: 20 methods x 15 subsets x 100 subjects with pictures and costs.

Usage: ``python benchmarks/large_report.py FOLDER``. Checks what a browser must bear; no number in it means anything.
"""

from __future__ import annotations

import argparse
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from anymri.benchmark.report import build_report
from anymri.evaluation.results import COLUMNS, write_table
from anymri.methods import list_methods
from anymri.types import GLIOMA

STAMP = "Made-up numbers: drawn at random to test this page. They say nothing about any method."
#: What each sequence shows of each region in this invented world.
WORTH = {
    "whole_tumor": {"t1": 0.45, "t1c": 0.5, "t2": 0.75, "flair": 0.82},
    "tumor_core": {"t1": 0.3, "t1c": 0.72, "t2": 0.45, "flair": 0.4},
    "enhancing_tumor": {"t1": 0.1, "t1c": 0.7, "t2": 0.2, "flair": 0.2},
}


def method_names(count: int) -> list[str]:
    """Registered names, filled up with invented ones."""
    return [*list_methods(), *(f"invented_{i:02d}" for i in range(count))][:count]


def make_rows(method: str, subjects: int) -> list[dict]:
    """Dice of every subject, subset and region; synthesis scores for every fourth method."""
    rng = np.random.default_rng(zlib.crc32(method.encode()))
    quality = 0.55 if method == "threshold" else rng.uniform(0.9, 1.12)
    hardness = np.random.default_rng(0).normal(0, 0.08, subjects)
    base: dict[str, Any] = {"run": f"made-up-{method}", "method": method, "dataset": "made_up"}
    base |= {"protocol": "made-up", "preset": "tiny", "fold": 0, "seed": 0, "seen_in_training": False, "unit": "1"}
    rows = []
    for s in range(subjects):
        for subset in GLIOMA.subsets():
            place = {**base, "subject": f"made-up-{s:03d}", "subset": GLIOMA.subset_name(subset)}
            for region, worth in WORTH.items():
                empty = region == "enhancing_tumor" and s % 9 == 4
                best = max(worth[code] for code in subset) + 0.02 * len(subset)
                value = float(np.clip(quality * best + hardness[s] + rng.normal(0, 0.05), 0, 1))
                value = float(rng.random() < 0.6) if empty else value
                row = {**place, "target": region, "reference_empty": empty}
                rows.append({**row, "metric": "dice", "value": value})
                if region == "enhancing_tumor":
                    rows.append({**row, "metric": "dice_et_min500mm3", "value": min(1.0, value + 0.01)})
            for target in set(GLIOMA.modalities) - set(subset) if zlib.crc32(method.encode()) % 4 == 0 else ():
                row = {**place, "target": target, "reference_empty": False}
                rows += [
                    {**row, "metric": metric, "value": float(mean + rng.normal(0, mean / 20)), "unit": unit}
                    for metric, mean, unit in (("psnr", 24.0, "dB"), ("ssim", 0.85, "1"), ("mae", 0.3, "z"))
                ]
    return rows


def draw_pictures(folder: Path, method: str) -> None:
    """Three pictures of noise, as large as real ones."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    entries = []
    for rank in ("best", "median", "worst"):
        blocks = rng.integers(0, 255, (240, 720), dtype=np.uint8)
        Image.fromarray(blocks // 16 * 16).save(folder / f"{rank}.png")
        entry: dict[str, Any] = {
            "run": f"made-up-{method}",
            "protocol": "made-up",
            "dataset": "made_up",
            "method": method,
        }
        entry |= {"subject": "made-up", "subset": "t1+t1c+t2+flair", "rank": rank, "file": f"{rank}.png"}
        entries.append({**entry, "dice": {"whole_tumor": 0.5}, "seen_in_training": False})
    content = {"legend": "Noise in place of pictures.", "pictures": entries}
    (folder / "index.json").write_text(json.dumps(content), encoding="utf-8")


def write_report(folder: Path, methods: int = 20, subjects: int = 100) -> Path:
    """Made-up tables, pictures and costs in a folder, and the report of them."""
    folder.mkdir(parents=True, exist_ok=True)
    tables, costs = [], []
    rng = np.random.default_rng(2)
    for method in method_names(methods):
        path = folder / f"{method}.parquet"
        parameters = int(10 ** rng.uniform(5, 7.5))
        settings: dict[str, Any] = {
            "run": f"made-up-{method}",
            "modalities": list(GLIOMA.modalities),
            "stamp": STAMP,
            "fold": 0,
        }
        settings |= {"subsets": [GLIOMA.subset_name(subset) for subset in GLIOMA.subsets()], "parameters": parameters}
        write_table(path, [{name: row[name] for name in COLUMNS} for row in make_rows(method, subjects)], settings)
        draw_pictures(path.with_name(f"{path.stem}.pictures"), method)
        tables.append(path)
        speed = {"encode_s": parameters**0.5 / 5000, "decode_s": parameters**0.5 / 9000, "peak_mb": parameters**0.6 / 9}
        speed = {key: value * float(rng.uniform(0.6, 1.6)) for key, value in speed.items()}
        costs.append({"run": f"made-up-{method}", "subset": "flair", "parameters": parameters, **speed})
    pd.DataFrame(costs).to_csv(folder / "cost.csv", index=False)
    title = f"MADE-UP results of {methods} methods"
    return build_report(tables, folder / "report.html", title=title, costs=folder / "cost.csv")


def main() -> None:
    """Write the report and say how large it is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--methods", type=int, default=20)
    parser.add_argument("--subjects", type=int, default=100)
    arguments = parser.parse_args()
    page = write_report(arguments.folder, arguments.methods, arguments.subjects)
    print(f"wrote {page}: {page.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
