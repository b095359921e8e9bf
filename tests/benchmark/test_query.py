"""Averages of results tables on disk against pandas on the same rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from anymri.benchmark.query import mean_by, select_rows
from anymri.errors import UserError
from anymri.evaluation.results import COLUMNS, write_table


def rows(method, count, seed):
    rng = np.random.default_rng(seed)
    return [
        {
            "run": f"{method}-1", "protocol": "anymri", "preset": "tiny", "method": method, "dataset": "made-up",
            "fold": int(i % 2), "seed": 0, "subject": f"s{i % 7}", "subset": ("t1", "t1c", "t2+flair")[i % 3],
            "target": ("whole_tumor", "tumor_core")[i % 2], "metric": ("dice", "hd95")[(i // 2) % 2],
            "value": float(rng.uniform()) if i % 11 else float("nan"), "unit": "1", "reference_empty": False,
            "seen_in_training": False,
        }
        for i in range(count)
    ]  # fmt: skip


@pytest.fixture
def tables(tmp_path):
    """Two files whose dictionaries differ."""
    data = {"unet": rows("unet", 60, 0), "u_hved": rows("u_hved", 50, 1)}
    paths = []
    for method, content in data.items():
        paths.append(tmp_path / f"{method}.parquet")
        write_table(paths[-1], content, {})
    return paths, pd.DataFrame([row for content in data.values() for row in content])


def test_means_over_two_files(tables):
    paths, frame = tables
    found = mean_by(paths, ["method", "subset"], {"metric": "dice", "target": ["whole_tumor", "tumor_core"]})
    chosen = frame[frame["metric"] == "dice"].dropna(subset=["value"])
    expected = chosen.groupby(["method", "subset"])["value"].agg(["mean", "std", "count"]).reset_index()
    assert found[["method", "subset"]].to_numpy().tolist() == expected[["method", "subset"]].to_numpy().tolist()
    assert found["mean"].tolist() == pytest.approx(expected["mean"].tolist())
    assert found["std"].tolist() == pytest.approx(expected["std"].tolist())
    assert found["n"].tolist() == expected["count"].tolist()


def test_rows_and_columns_are_chosen(tables):
    paths, frame = tables
    table = select_rows(paths[0], {"fold": 1, "subset": "t1"}, ["subject", "value"])
    assert table.column_names == ["subject", "value"]
    expected = frame[(frame["method"] == "unet") & (frame["fold"] == 1) & (frame["subset"] == "t1")]
    assert table.num_rows == len(expected)
    assert select_rows(paths).column_names == list(COLUMNS)
    assert select_rows(paths, {"metric": "ssim"}).num_rows == 0
    assert mean_by(paths, ["method"], {"metric": "ssim"}).empty


def test_mistakes_are_told_plainly(tables, tmp_path):
    paths, _ = tables
    with pytest.raises(UserError, match="no column 'colour'"):
        mean_by(paths, ["colour"])
    with pytest.raises(UserError, match=r"absent\.parquet: no such results table"):
        select_rows(tmp_path / "absent.parquet")
    (tmp_path / "text.parquet").write_text("not a table")
    with pytest.raises(UserError, match=r"text\.parquet: not a readable results table"):
        select_rows(tmp_path / "text.parquet")
    with pytest.raises(UserError, match="no such results table"):
        select_rows([])
