"""The leaderboard's page from made-up tables and logs."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from anymri.benchmark.report import read_results
from anymri.errors import UserError


@pytest.fixture
def leaderboard(repository: Path):
    place = importlib.util.spec_from_file_location("leaderboard", repository / "tools" / "leaderboard.py")
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    return module


@pytest.fixture
def bench(dice_rows, table_writer, tmp_path):
    """Two methods, and a third with networks for two subsets; one log with an epoch that was begun twice."""
    folder = tmp_path / "bench"
    (folder / "results").mkdir(parents=True)
    for name in ("threshold", "rfnet"):
        table_writer(folder / "results" / f"{name}.parquet", dice_rows(name, run=f"run-{name}"))
    few = [row for row in dice_rows("acn", run="run-acn") if row["subset"] in ("t2", "flair")]
    table_writer(folder / "results" / "acn.parquet", few)
    (folder / "runs" / "a").mkdir(parents=True)
    rows = [{"event": "start", "run": "run-rfnet", "parameters": 491_000}]
    rows += [{"stage": "train", "epoch": epoch, "seconds": s} for epoch, s in ((1, 60.0), (2, 999.0), (2, 30.0))]
    text = "\n".join(json.dumps(row) for row in rows) + '\n{"cut off'
    (folder / "runs" / "a" / "log.jsonl").write_text(text, encoding="utf-8")
    return folder


def test_the_page_ranks_methods_with_provenance(leaderboard, bench):
    results = read_results(leaderboard.find_tables([bench]))
    page = leaderboard.page(results, leaderboard.read_trainings([bench]), "Title", "Preface.\n", "f.svg")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("|")]
    names = [row[0] for row in rows[2:5]]
    assert names == ["`rfnet`", "`threshold`", "`acn`"], "best mean first, incomplete methods last"
    rfnet, threshold, acn = rows[2:5]
    assert rfnet[-5:] == ["15", "4", "0", "491 k", "1.5"]
    assert threshold[-2:] == ["–", "–"]
    assert (acn[-5], "(" in acn[1], "(" in rfnet[1]) == ("2", False, True)
    assert "`acn` serves 2 subsets" in page
    assert page.count("○○○●".replace("", " | ").strip(" |")) == 3, "a T2 row for each region"
    assert "`run-rfnet`" in page.split("## Runs")[1]


def test_chosen_rows_compare_one_network_a_subset_with_the_others(leaderboard, bench):
    results = leaderboard.choose_subsets(read_results(leaderboard.find_tables([bench])), ["t2", "flair"])
    page = leaderboard.page(results, {}, "Title", "", "f.svg")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("|")]
    assert {row[0]: row[-5] for row in rows[2:5]} == {"`acn`": "2", "`rfnet`": "2", "`threshold`": "2"}
    assert all("(" in row[1] for row in rows[2:5]), "nobody is left out"
    with pytest.raises(UserError, match="--subsets t1c: no such rows"):
        leaderboard.choose_subsets(results, ["t1c"])


def test_a_leaderboard_without_the_floor_is_refused(leaderboard, bench, tmp_path):
    (bench / "results" / "threshold.parquet").unlink()
    with pytest.raises(UserError, match="no results of 'threshold'"):
        leaderboard.page(read_results(leaderboard.find_tables([bench])), {}, "", "", "")
    with pytest.raises(UserError, match="no results table in it"):
        leaderboard.find_tables([tmp_path])
