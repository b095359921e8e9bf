"""Tables for people and papers: n everywhere, training subjects, completion, words where a number is missing."""

import csv
import io
import re

import numpy as np
import pytest
from scipy.stats import wilcoxon

from anymri.benchmark.outputs import worth_page, write_outputs
from anymri.benchmark.report import build_report, read_results
from anymri.benchmark.report.statistics_page import statistics_page
from anymri.benchmark.report.text_tables import to_latex, to_markdown

#: A whole word, so that no name is taken for it.
NAN = re.compile(r"\bnan\b", re.IGNORECASE)


def stored(run, subjects=28, dropped=None):
    training = [{"subset": None, "subjects": subjects, "dropped": dropped or {}, "code": None}]
    return {"run": run, "fold": 0, "training": training}


def rows_of(text, heading):
    """Cells of the first table below a heading."""
    lines = text.split(heading, 1)[1].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("|"))
    table = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split("|")])
    return table


@pytest.fixture
def two(dice_rows, table_writer, tmp_path):
    """Two methods; one could not learn from three of the subjects."""
    return [
        table_writer(tmp_path / "a.parquet", dice_rows("unet", run="a"), **stored("a")),
        table_writer(tmp_path / "b.parquet", dice_rows("acn", run="b"), **stored("b", 25, {"without t2": 3})),
    ]


def test_every_format_says_how_many_subjects_a_method_learned_from(two, tmp_path):
    page = build_report(two, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Training subjects: acn 25 (3 without t2 left out); unet 28." in page
    assert page.count("3 without t2 left out") == 1 + 3, "the sentence, and a column in each region"
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| Training n |  |  |  | 25 | 28 | 25 | 28 | 25 | 28 |" in markdown
    assert r"\multicolumn{4}{l}{Training $n$} & 25 & 28 &  \\" in (tmp_path / "report.tex").read_text(encoding="utf-8")
    lines = list(csv.DictReader(io.StringIO((tmp_path / "report.csv").read_text(encoding="utf-8"))))
    told = {(line["method"], line["training_subjects"], line["training_dropped"]) for line in lines}
    assert told == {("unet", "28", "none"), ("acn", "25", "3 without t2")}
    assert {line["subjects"] for line in lines} == {"4"}


def test_folds_with_other_numbers_are_a_range(dice_rows, table_writer, tmp_path):
    paths = [
        table_writer(
            tmp_path / f"{n}.parquet", dice_rows("unet", run=f"r{n}", seed=n), **stored(f"r{n}", n, {"x": n % 2})
        )
        for n in (7, 8)
    ]
    assert "unet 7 to 8 (0 to 1 x left out)" in to_markdown(paths)


def test_a_latex_cell_with_fewer_subjects_says_so(dice_rows, table_writer, tmp_path):
    few = [row for row in dice_rows("acn") if row["subset"] != "flair" or row["subject"] == "case000"]
    paths = [table_writer(tmp_path / "a.parquet", dice_rows("unet")), table_writer(tmp_path / "b.parquet", few)]
    tex = to_latex(read_results(paths))
    assert r"T1c & T2 & acn & unet & $n$ \\" in tex
    flair = next(line for line in tex.splitlines() if line.startswith(r"$\bullet$ & $\circ$ & $\circ$ & $\circ$"))
    assert flair.count(r"{\scriptsize (1)}") == 1
    assert flair.endswith(r"& 4 \\")
    assert tex.count(r"{\scriptsize") == 3, "one row in each region"


def test_one_subject_gives_words_and_no_nan(dice_rows, table_writer, tmp_path):
    for subjects, name in ((1, "one"), (2, "two")):
        out = tmp_path / name
        out.mkdir()
        paths = [table_writer(out / f"{m}.parquet", dice_rows(m, subjects=subjects)) for m in ("unet", "acn")]
        write_outputs(paths, out)
        for path in (out / "statistics.md", out / "worth.md", *out.glob("report.*")):
            text = path.read_text(encoding="utf-8")
            assert not NAN.search(re.sub(r"<style>.*?</style>", "", text, flags=re.S)), path.name
    text = (tmp_path / "one" / "statistics.md").read_text(encoding="utf-8")
    assert "not computed: n = 1" in text
    assert "Ranks not computed: n = 1." in text
    assert "not computed: n = 1" in (tmp_path / "one" / "worth.md").read_text(encoding="utf-8")
    assert "Friedman not computed: two methods" in (tmp_path / "two" / "statistics.md").read_text(encoding="utf-8")


def test_sequences_that_add_nothing_have_no_share(dice_rows, table_writer, tmp_path):
    rows = [{**row, "value": 0.0, "reference_empty": False} for row in dice_rows("unet")]
    text = worth_page(read_results([table_writer(tmp_path / "r.parquet", rows)]))
    assert "| T1c | +0.0 (+0.0 to +0.0) | not computed: together they add 0 |" in text
    assert not NAN.search(text)


def test_incomplete_cohorts_are_tested_subset_by_subset(dice_rows, table_writer, tmp_path):
    lacking = {"case000", "case001", "case002"}

    def incomplete(method):
        return [r for r in dice_rows(method, subjects=9) if r["subject"] not in lacking or "t2" not in r["subset"]]

    paths = [table_writer(tmp_path / f"{m}.parquet", incomplete(m)) for m in ("acn", "unet")]
    results = read_results(paths)
    text = statistics_page(results)
    assert "n = 6 subjects" in text
    table = rows_of(text.split("## Tumour core", 1)[1], "Subset by subset")
    n = {row[0]: row[4] for row in table[2:]}
    assert n["flair"] == "9"
    assert n["t1c+flair"] == "9"
    assert n["t2+flair"] == "6"
    assert len(n) == 15
    frame = results.frame
    part = frame[(frame.subset == "t1c+flair") & (frame.target == "tumor_core") & (frame.metric == "dice")]
    wide = part.pivot_table(index="subject", columns="method", values="value", observed=True)
    row = next(row for row in table if row[0] == "t1c+flair")
    assert row[1] == "acn - unet"
    assert float(row[2]) == pytest.approx(100 * (wide.acn - wide.unet).mean(), abs=0.051)
    assert float(row[5]) == pytest.approx(wilcoxon(wide.acn, wide.unet).pvalue, rel=0.01)


def test_complete_cohorts_are_not(dice_rows, table_writer, tmp_path):
    paths = [table_writer(tmp_path / f"{m}.parquet", dice_rows(m)) for m in ("acn", "unet")]
    assert "Subset by subset" not in statistics_page(read_results(paths))


def test_no_common_subject_is_said(dice_rows, table_writer, tmp_path):
    paths = [table_writer(tmp_path / f"{m}.parquet", dice_rows(m, prefix=m)) for m in ("acn", "unet")]
    text = statistics_page(read_results(paths))
    assert "Not computed: no subject has all of these subsets by all methods." in text
    row = next(row for row in rows_of(text, "Subset by subset") if row[0] == "flair")
    assert row[4:6] == ["0", "not computed: n = 0"]


def test_synthesis_alone_is_in_every_format(synthesis_rows, table_writer, tmp_path):
    rows = [*synthesis_rows("mm_gan", 24.0), *synthesis_rows("copy_best_available", 20.0)]
    path = table_writer(tmp_path / "r.parquet", rows, **stored("mm_gan-tiny-made_up-fold0-seed0", 12))
    write_outputs([path], tmp_path)
    for name in ("report.html", "report.md", "report.tex", "report.synthesis.csv", "statistics.md"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert "25.5" in text, f"{name}: mean PSNR of four subjects, 24 to 27"
        assert not NAN.search(re.sub(r"<style>.*?</style>", "", text, flags=re.S)), name
    assert not (tmp_path / "report.csv").exists()
    (t1, *_) = csv.DictReader(io.StringIO((tmp_path / "report.synthesis.csv").read_text(encoding="utf-8")))
    assert (t1["sequence"], t1["method"], t1["subjects"], t1["images"]) == ("t1", "copy_best_available", "4", "28")
    assert "| T1 | mm_gan | 25.50 | 4.00 | 0.900 | 0.300 | 4 | 28 |" in (tmp_path / "report.md").read_text()
    assert "Training subjects: mm_gan 12." in (tmp_path / "report.md").read_text()
    statistics = (tmp_path / "statistics.md").read_text()
    assert "## FLAIR, synthesised: PSNR in dB" in statistics
    assert "mm_gan - copy_best_available" in statistics or "copy_best_available - mm_gan" in statistics


def test_a_joined_table_keeps_what_was_stored_beside_each(two, tmp_path):
    write_outputs(two, tmp_path)
    joined = to_markdown([tmp_path / "results.parquet"])
    assert joined == to_markdown(two)
    assert np.unique([s["run"] for s in read_results([tmp_path / "results.parquet"]).settings]).tolist() == ["a", "b"]
