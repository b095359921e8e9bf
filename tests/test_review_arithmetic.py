"""The review's tables are kept as printed, and the page of its arithmetic is the one that the code writes."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from anymri.types import GLIOMA

TOOL = Path(__file__).resolve().parents[1] / "tools" / "review_arithmetic.py"
place = importlib.util.spec_from_file_location("review_arithmetic", TOOL)
review = sys.modules["review_arithmetic"] = importlib.util.module_from_spec(place)
place.loader.exec_module(review)


def test_table_3_has_every_subset_region_and_method():
    table = review.load_table3()
    assert set(table.rows) == {GLIOMA.subset_name(subset) for subset in GLIOMA.subsets()}
    assert table.regions == tuple(GLIOMA.regions)
    assert all(len(row[region]) == 6 for row in table.rows.values() for region in table.regions)
    # Four cells read off the page: row of dots FLAIR, T1, T1c, T2.
    assert table.value("t1", "enhancing_tumor", "hemis") == 12.4
    assert table.value("flair", "whole_tumor", "m3ae") == 88.7
    assert table.value("t1c+t2+flair", "tumor_core", "acn") == 82.9
    assert table.value("t1+t1c+t2+flair", "enhancing_tumor", "mmcformer") == 80.1


def test_the_recipes_of_both_networks_quote_the_same_rows():
    from anymri.recipes import load_recipe

    table = review.load_table3()
    for method, name in (("hemis", "u_hemis"), ("hved", "u_hved")):
        rows = load_recipe(name, "brats2018").published[0].rows
        for subset, values in rows.items():
            assert values == tuple(table.value(subset, region, method) for region in table.regions)


def test_means_that_do_not_follow_from_their_rows():
    checks = review.mean_checks(review.load_table3())
    wrong = {(c.method, c.place): (c.printed, round(c.computed, 2)) for c in checks if not c.agrees}
    assert wrong == {("m3ae", "whole_tumor"): (85.8, 85.5), ("hemis", "tumor_core"): (59.7, 60.95)}
    assert len(checks) == 18


def test_cells_of_table_4_that_do_not_follow_from_table_3():
    checks = review.single_sequence_checks(review.load_table3(), review.load_table4())
    wrong = {(c.method, c.place): (c.printed, round(c.computed, 1)) for c in checks if not c.agrees}
    assert wrong == {
        ("hemis", "t1"): (16.7, 34.9),
        ("hemis", "t2"): (36.0, 51.0),
        ("smu_net", "t1"): (63.3, 63.6),
    }
    assert len(checks) == 24


def test_an_average_of_table_4_that_does_not_follow_from_its_cells():
    wrong = [
        (c.method, c.printed, round(c.computed, 2)) for c in review.average_checks(review.load_table4()) if not c.agrees
    ]
    assert wrong == [("hemis", 48.8, 40.85)]


def test_what_is_printed_bold_but_is_not_the_best():
    wrong = {(subset, region) for subset, region, _, _ in review.bold_checks(review.load_table3())}
    whole = "whole_tumor"
    assert wrong == {("t1", whole), ("flair", whole), ("t1c+t2", whole), ("t1+t1c+t2+flair", whole)}


def test_a_method_that_is_worse_with_everything():
    assert review.full_set_checks(review.load_table3()) == [("m3ae", "whole_tumor", 85.1, "t1+t2+flair", 90.2)]


def test_rounding_is_no_discrepancy():
    assert review.Check("a", "b", 85.9, 85.8).agrees
    assert not review.Check("a", "b", 85.9, 85.79).agrees


def test_the_page_is_up_to_date(repository, tmp_path):
    review.write_review_arithmetic(tmp_path / "page.md")
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == review.review_arithmetic()
    assert (repository / "docs" / "results" / "review-arithmetic.md").read_text(
        encoding="utf-8"
    ) == review.review_arithmetic()
    assert list(tmp_path.iterdir()) == [tmp_path / "page.md"]


def test_the_page_names_the_numbers():
    page = review.review_arithmetic()
    for text in ("59.7 | 60.95", "85.8 | 85.50", "16.7 | 34.87", "36.0 | 51.00", "48.8 | 40.85", "is 49.17"):
        assert text in page


@pytest.mark.parametrize("load", [review.load_table3, review.load_table4])
def test_both_tables_name_their_source(load):
    table = load()
    assert table.doi == "10.26599/CVM.2025.9450399"
    assert "2025" in table.source
