"""The leaderboard's page from made-up tables and logs."""

from __future__ import annotations

import json

import pytest
from command_line import refused, run

from anymri.benchmark.report import leaderboard, read_results
from anymri.errors import UserError


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


def test_the_page_ranks_methods_with_provenance(bench):
    results = read_results(leaderboard.find_tables([bench]))
    page = leaderboard.leaderboard_page(results, leaderboard.read_trainings([bench]), "f.svg")
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


def test_chosen_rows_compare_one_network_a_subset_with_the_others(bench):
    results = leaderboard.choose_subsets(read_results(leaderboard.find_tables([bench])), ["t2", "flair"])
    page = leaderboard.leaderboard_page(results, {}, "f.svg")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("|")]
    assert {row[0]: row[-5] for row in rows[2:5]} == {"`acn`": "2", "`rfnet`": "2", "`threshold`": "2"}
    assert all("(" in row[1] for row in rows[2:5]), "nobody is left out"
    with pytest.raises(UserError, match="--subset t1c: no such rows"):
        leaderboard.choose_subsets(results, ["t1c"])


def test_the_command_writes_page_and_figure(bench, tmp_path):
    page, preface = tmp_path / "new" / "board.md", tmp_path / "preface.md"
    preface.write_text("Made-up numbers.\n", encoding="utf-8")
    answer = run("report", bench, "--markdown", page, "--title", "Board", "--preface", preface, "--floor", "threshold")
    assert (answer.code, answer.out) == (0, f"wrote {page}\n"), answer.err
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Board\n\nMade-up numbers.\n")
    assert "![Means with intervals](board.svg)" in text
    assert (page.parent / "board.svg").read_text(encoding="utf-8").count("rfnet") >= 1
    few = run("report", bench, "--markdown", page, "--subset", "t2")
    assert few.code == 0
    assert "○ | ○ | ○ | ● |" in page.read_text(encoding="utf-8")
    assert "● | ○ | ○ | ○ |" not in page.read_text(encoding="utf-8")


def test_a_system_of_two_networks_took_the_time_of_both(bench, dice_rows, table_writer):
    log = [{"run": "run-gan", "parameters": 9_000}, {"stage": "train", "epoch": 1, "seconds": 60.0}]
    (bench / "runs" / "b").mkdir()
    (bench / "runs" / "b" / "log.jsonl").write_text("\n".join(map(json.dumps, log)), encoding="utf-8")
    rows = dice_rows("mm_gan+rfnet", run="run-gan+run-rfnet")
    table_writer(bench / "results" / "system.parquet", rows)
    results = read_results(leaderboard.find_tables([bench]))
    page = leaderboard.leaderboard_page(results, leaderboard.read_trainings([bench]), "f.svg")
    (line,) = [line for line in page.splitlines() if line.startswith("| `mm_gan+rfnet` |")]
    assert [cell.strip() for cell in line.strip("|").split("|")][-2:] == ["500 k", "2.5"]


def test_a_folder_of_results_makes_the_html_page_too(bench, tmp_path):
    assert run("report", bench, "-o", tmp_path / "report.html").code == 0
    assert "rfnet" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_leaderboard_without_the_floor_is_refused(bench, tmp_path):
    (bench / "results" / "threshold.parquet").unlink()
    page = tmp_path / "page.md"
    refused(run("report", bench, "--markdown", page, "--floor", "threshold"), "--floor threshold", "no results of it")
    assert not page.exists()
    assert run("report", bench, "--markdown", page).code == 0, "no floor was asked for"
    with pytest.raises(UserError, match="no results table in it"):
        leaderboard.find_tables([tmp_path])


def test_options_that_would_do_nothing_are_refused(bench, tmp_path):
    page = tmp_path / "page.md"
    refused(run("report", bench, "--floor", "threshold"), "--floor", "--markdown")
    refused(run("report", bench, "--markdown", page, "--region", "whole_tumor"), "--region", "--column")
    refused(run("report", bench, "--markdown", page, "--column", "a=b.parquet"), "RESULTS", "--column")
    refused(run("report", bench, "--markdown", page, "--preface", tmp_path), "cannot be read")
    refused(run("report", "--markdown", page), "no results table given")
    assert not page.exists()


def test_results_without_dice_make_no_leaderboard(synthesis_rows, table_writer, tmp_path):
    table_writer(tmp_path / "only.parquet", synthesis_rows("mm_gan", 20.0))
    refused(run("report", tmp_path / "only.parquet", "--markdown", tmp_path / "page.md"), "no Dice")
