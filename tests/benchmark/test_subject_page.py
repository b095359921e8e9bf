"""The Markdown page of named columns: fifteen rows, each subject, and enhancing tumour one by one, by hand."""

from __future__ import annotations

import pytest
from command_line import refused, run

from anymri.types import GLIOMA


@pytest.fixture
def tables(dice_rows, table_writer, tmp_path):
    """A network in two tables, one subject each, the second seen in training, and one of two other subjects' halves."""
    rows = dice_rows("unet", subjects=2, seen=("case001",))
    for name in ("case000", "case001"):
        table_writer(tmp_path / f"fold-{name}.parquet", [row for row in rows if row["subject"] == name])
    table_writer(tmp_path / "half.parquet", [{**row, "value": row["value"] / 2} for row in rows])
    return tmp_path, rows


def lines_of(page):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("|")]


def mean(rows, subjects=("case000", "case001"), region="whole_tumor", has=""):
    chosen = [
        row["value"] for row in rows
        if row["metric"] == "dice" and row["target"] == region and row["subject"] in subjects and has in row["subset"]
    ]  # fmt: skip
    return 100 * sum(chosen) / len(chosen)


def test_means_by_subset_by_subject_and_of_enhancing_tumour(tables):
    folder, rows = tables
    page = folder / "page.md"
    columns = ("--column", f"unet={folder}/fold-*.parquet", "--column", f"half={folder}/half.parquet")
    answer = run("report", "--markdown", page, "--title", "Two", *columns, "--region", "whole_tumor")
    assert answer.code == 0, answer.err
    text = page.read_text(encoding="utf-8")
    lines = lines_of(text)
    assert lines[0] == ["FLAIR", "T1", "T1C", "T2", "WT unet", "WT half"]
    assert lines[2][:4] == ["○", "○", "○", "●"]
    rows_of_means = {
        line[0].strip("*"): [cell.strip("*") for cell in line[4:]] for line in lines if "mean of" in line[0]
    }
    assert rows_of_means["mean of 15"] == [f"{mean(rows):.1f}", f"{mean(rows) / 2:.1f}"]
    with_flair = mean(rows, has="flair")
    assert rows_of_means["mean of 8 with FLAIR"] == [f"{with_flair:.1f}", f"{with_flair / 2:.1f}"]
    subjects = {line[0]: line[1:] for line in lines if line[0].startswith("case") and len(line) == 3}
    assert subjects == {
        name: [f"{mean(rows, (name,)):.1f}", f"{mean(rows, (name,)) / 2:.1f}"] for name in ("case000", "case001")
    }
    enhancing = {line[0]: line[1:] for line in lines if line[0].startswith("case") and len(line) == 8}
    assert [enhancing[name][0] for name in ("case000", "case001")] == ["no", "yes"]
    full = next(
        row["value"] for row in rows
        if row["subject"] == "case000" and row["target"] == "enhancing_tumor"
        and row["subset"] == "+".join(GLIOMA.modalities)
    )  # fmt: skip
    assert enhancing["case000"][1] == f"{100 * full:.1f}"
    assert "**Seen in training:** unet, 1 subjects." in text


def test_mistakes_are_named(tables):
    folder, _ = tables
    page = folder / "page.md"
    refused(run("report", "--markdown", page, "--column", "unet"), "--column unet", "NAME=TABLES")
    refused(run("report", "--markdown", page, "--column", f"unet={folder}/none*.parquet"), "no such table")
    column = f"unet={folder}/half.parquet"
    refused(run("report", "--markdown", page, "--column", column, "--region", "liver"), "--region liver", "tumor_core")
    assert not page.exists()


def test_other_sequences_are_refused(tables, dice_rows, table_writer):
    folder, _ = tables
    table_writer(folder / "liver.parquet", dice_rows("unet")[:1], modalities=["t1_in", "t1_out"])
    column = f"unet={folder}/liver.parquet"
    refused(run("report", "--markdown", folder / "page.md", "--column", column), "T1, T1c, T2 and FLAIR")
