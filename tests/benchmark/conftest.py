"""Made-up results tables."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from anymri.evaluation.results import COLUMNS
from anymri.types import GLIOMA

#: Weight of each sequence for each region: made up, with the field's pattern.
WORTH = {
    "whole_tumor": {"t1": 0.45, "t1c": 0.5, "t2": 0.75, "flair": 0.82},
    "tumor_core": {"t1": 0.3, "t1c": 0.72, "t2": 0.45, "flair": 0.4},
    "enhancing_tumor": {"t1": 0.1, "t1c": 0.7, "t2": 0.2, "flair": 0.2},
}


def make_rows(
    method: str, *, subjects: int = 4, seed: int = 0, fold: int = 0, seen: tuple[str, ...] = (), **fields
) -> list[dict]:
    """Rows of one run: all subsets x subjects x regions, Dice rising with what is available."""
    rng = np.random.default_rng([seed, fold, zlib.crc32(method.encode())])
    quality = 0.5 if method == "threshold" else rng.uniform(0.85, 1.05)
    base = {
        "run": fields.get("run", f"{method}-tiny-made_up-fold{fold}-seed{seed}"),
        "protocol": "anymri",
        "preset": fields.get("preset", "tiny"),
        "method": method,
        "dataset": "made_up",
        "fold": fold,
        "seed": seed,
    }
    rows = []
    for s in range(subjects):
        subject = fields.get("prefix", "case") + f"{s:03d}"
        free = s == 1  # the second subject has no enhancing tumour
        for subset in GLIOMA.subsets():
            common = {**base, "subject": subject, "subset": "+".join(subset), "seen_in_training": subject in seen}
            for region, worth in WORTH.items():
                best = max(worth[code] for code in subset) + 0.02 * len(subset)
                value = float(np.clip(quality * best + rng.normal(0, 0.04), 0, 1))
                empty = free and region == "enhancing_tumor"
                value = float(rng.integers(0, 2)) if empty else value
                row = {**common, "target": region, "reference_empty": empty, "unit": "1"}
                rows.append({**row, "metric": "dice", "value": value})
                if region == "enhancing_tumor":
                    rows.append({**row, "metric": "dice_et_min500mm3", "value": min(1.0, value + 0.01)})
    return rows


def make_synthesis(method: str, psnr: float, *, subjects: int = 4, **fields) -> list[dict]:
    """Rows of completion: every subset, every target it lacks."""
    base = {
        "run": fields.get("run", f"{method}-tiny-made_up-fold0-seed0"),
        "protocol": "anymri",
        "preset": "tiny",
        "method": method,
        "dataset": "made_up",
        "fold": 0,
        "seed": 0,
        "reference_empty": False,
        "seen_in_training": False,
    }
    rows = []
    for s in range(subjects):
        for subset in GLIOMA.subsets():
            for target in GLIOMA.modalities:
                if target in subset:
                    continue
                row = {**base, "subject": f"case{s:03d}", "subset": "+".join(subset), "target": target}
                for metric, value, unit in (("psnr", psnr + s, "dB"), ("ssim", 0.9, "1"), ("mae", 0.3, "z")):
                    rows.append({**row, "metric": metric, "value": value, "unit": unit})
    return rows


def write_table(path: Path, rows: list[dict], **settings) -> Path:
    """A results table as the evaluator writes it."""
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    stored = {"modalities": list(GLIOMA.modalities), "subsets": ["+".join(s) for s in GLIOMA.subsets()], **settings}
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(
        {b"anymri": json.dumps(stored).encode()}
    )
    parquet.write_table(table, path)
    return path


@pytest.fixture(scope="session")
def table_writer():
    return write_table


@pytest.fixture(scope="session")
def dice_rows():
    return make_rows


@pytest.fixture(scope="session")
def synthesis_rows():
    return make_synthesis


@pytest.fixture
def made_up(tmp_path):
    """Two methods in two files."""
    folder = tmp_path / "tables"
    folder.mkdir()
    return [
        write_table(folder / "threshold.parquet", make_rows("threshold")),
        write_table(folder / "u_hved.parquet", make_rows("u_hved") + make_synthesis("u_hved", 24.0)),
    ]
