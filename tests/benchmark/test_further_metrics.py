"""Tables of metrics beside Dice, of completed studies segmented, and of classes: by hand, and where they appear."""

from __future__ import annotations

import pytest

from anymri.benchmark.report import build_report, read_results, to_markdown
from anymri.benchmark.report.further_metrics import class_table, further_sections, further_table, place_table
from anymri.types import GLIOMA

FULL = "+".join(GLIOMA.modalities)


def row(subject="a", subset="t1", target="whole_tumor", metric="dice", value=0.5, **fields):
    base = {
        "run": "run-u", "protocol": "anymri", "preset": "tiny", "method": "u_hved", "dataset": "made_up", "fold": 0,
        "seed": 0, "unit": "1", "reference_empty": False, "seen_in_training": False,
    }  # fmt: skip
    return {**base, "subject": subject, "subset": subset, "target": target, "metric": metric, "value": value, **fields}


@pytest.fixture
def read(table_writer, tmp_path):
    """Results of made-up rows."""

    def make(rows):
        return read_results([table_writer(tmp_path / "made_up.parquet", rows)])

    return make


def test_means_over_subjects_then_over_subsets(read):
    rows = [row(metric="hd95", value=value, subject=name) for name, value in (("a", 2.0), ("b", 4.0))]
    rows += [row(metric="hd95", value=9.0, subset="t2"), row(metric="sensitivity", value=0.25), row()]
    results = read(rows)
    table = further_table(results)
    assert list(table.columns) == ["hd95", "sensitivity"]
    assert table.loc[("whole_tumor", "u_hved")].tolist() == [6.0, 0.25]
    (section,) = further_sections(results)
    assert section["head"] == ["region", "method", "HD95 (mm)", "sensitivity (%)"]
    assert section["rows"] == [["Whole tumour", "u_hved", "6.0", "25.0"]]


def test_standard_tables_have_no_further_section(read):
    assert further_sections(read([row(), row(metric="hd95", value=2.0)])) == []


def test_synthesis_by_place_stands_in_the_order_of_the_sequences(read):
    rows = [row(target=code, metric="psnr_tumor", value=value) for code, value in (("flair", 20.0), ("t1c", 18.0))]
    rows += [row(target="t1c", metric="psnr_tumor", value=15.0, method="linear_regression", run="linear")]
    table = place_table(read(rows))
    assert [tuple(map(str, key)) for key in table.index] == [
        ("t1c", "linear_regression"), ("t1c", "u_hved"), ("flair", "u_hved"),
    ]  # fmt: skip
    assert table["psnr_tumor"].tolist() == [15.0, 18.0, 20.0]


def classes(subject, truth, probability, seed=0):
    found = [
        row(subject, target=name, metric="class_probability", value=value, reference_empty=name != truth, seed=seed)
        for name, value in zip(("high", "low"), (probability, 1 - probability), strict=True)
    ]
    correct = float((probability >= 0.5) == (truth == "high"))
    return [*found, row(subject, target=truth, metric="class_correct", value=correct, seed=seed)]


def test_classes_of_a_cohort_by_hand(read):
    """Highs at 0.9 and 0.4, lows at 0.6, 0.2 and 0.1: 5 of 6 pairs in order; 3 of 5 right, 1 of 2 and 2 of 3."""
    rows = [*classes("a", "high", 0.9), *classes("b", "high", 0.4), *classes("c", "low", 0.6)]
    rows += [*classes("d", "low", 0.2), *classes("e", "low", 0.1)]
    table = class_table(read(rows))
    assert table.loc[("t1", "u_hved")].to_dict() == {
        "auroc": pytest.approx(5 / 6),
        "accuracy": pytest.approx(3 / 5),
        "balanced_accuracy": pytest.approx((1 / 2 + 2 / 3) / 2),
        "n": 5,
    }


def test_seeds_are_averaged_not_joined(read):
    """One seed orders both pairs rightly, the other wrongly: 0.5, though the mean probabilities would be right."""
    rows = [*classes("a", "high", 0.9), *classes("b", "low", 0.1)]
    rows += [*classes("a", "high", 0.4, seed=1), *classes("b", "low", 0.6, seed=1)]
    table = class_table(read(rows))
    assert (table["auroc"].item(), table["accuracy"].item(), table["n"].item()) == (0.5, 0.5, 2)
    (section,) = further_sections(read(rows))
    assert section["rows"] == [["T1", "u_hved", "50.0", "50.0", "50.0", "2"]]


def test_page_and_markdown_show_what_there_is(dice_rows, table_writer, tmp_path):
    downstream = [
        row(subset=subset, metric="downstream_dice", value=value, method=method, run=method)
        for method, subset, value in (("mm_gan", "t1", 0.31), ("complete_study", FULL, 0.87))
    ]
    path = table_writer(tmp_path / "r.parquet", [*dice_rows("u_hved"), *downstream, row(metric="iou", value=0.123)])
    page = build_report([path], tmp_path / "report.html").read_text(encoding="utf-8")
    assert '<h2 id="downstream">' in page
    assert page.count("complete_study") >= 2
    for value in ("31.0", "87.0", "IoU (%)", "12.3"):
        assert value in page, value
    text = to_markdown([path])
    table = text.split("frozen segmenter")[1].split("Other metrics")[0]
    assert "WT complete_study | WT mm_gan" in table
    assert "| ○ | ● | ○ | ○ | – | 31.0 (n 1) |" in table
    assert "| ● | ● | ● | ● | 87.0 (n 1) | – |" in table
    assert "12.3" in text.split("Other metrics")[1]
    plain = table_writer(tmp_path / "plain.parquet", dice_rows("u_hved"))
    page = build_report([plain], tmp_path / "plain.html").read_text(encoding="utf-8")
    assert "downstream" not in page
    assert "Other metrics" not in page
