"""Methods against each other in the report: intervals, ranks, cost, one sequence only, published numbers."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pandas as pd
import pytest

from anymri.benchmark.cost import measure_runs, read_costs, write_costs
from anymri.benchmark.report import build_report, read_results
from anymri.benchmark.report.accuracy_cost import cost_figure, cost_points, pareto_front
from anymri.benchmark.report.comparison import (
    comparable,
    compared_scores,
    interval_figure,
    leading_pair,
    rank_figure,
    scatter_figure,
)
from anymri.benchmark.report.figures import standalone
from anymri.benchmark.report.published_numbers import published_groups, single_sequence_table
from anymri.protocol.facts import TrainingFacts
from anymri.types import UserError


@pytest.fixture
def results(dice_rows, table_writer, tmp_path):
    """Four methods; the one with one network per subset has networks for the single sequences only."""
    paths = [table_writer(tmp_path / f"{name}.parquet", dice_rows(name)) for name in ("threshold", "u_hved", "rfnet")]
    rows = [
        {**row, "run": f"nnunet-{row['subset']}"} for row in dice_rows("nnunet_per_subset") if "+" not in row["subset"]
    ]
    return read_results([*paths, table_writer(tmp_path / "nnunet.parquet", rows)])


def test_a_method_with_fewer_subsets_does_not_shrink_the_comparison(results):
    compared = comparable(results)
    assert compared.columns == ("threshold", "rfnet", "u_hved")
    assert len(compared.subsets) == 15
    assert compared.left_out == {"nnunet_per_subset": 4}
    scores = compared_scores(results, compared)
    frame = results.frame
    own = frame[(frame["metric"] == "dice") & (frame["target"] == "tumor_core") & (frame["column"] == "rfnet")]
    expected = own.groupby("subject", observed=True)["value"].mean()
    assert scores["tumor_core"]["rfnet"].to_numpy() == pytest.approx(expected.to_numpy())


def test_without_two_complete_methods_all_are_compared_on_what_they_share(dice_rows, table_writer, tmp_path):
    part = [row for row in dice_rows("rfnet") if row["subset"] in ("t2", "flair")]
    paths = [table_writer(tmp_path / "a.parquet", dice_rows("unet")), table_writer(tmp_path / "b.parquet", part)]
    compared = comparable(read_results(paths))
    assert set(compared.columns) == {"unet", "rfnet"}
    assert (set(compared.subsets), compared.left_out) == ({"t2", "flair"}, {})


def test_figures_show_every_method_and_subject(results):
    scores = compared_scores(results, comparable(results))
    pair = leading_pair(scores)
    assert pair is not None
    assert set(pair) == {"rfnet", "u_hved"}, "threshold is made to be worse"
    means = {name: sum(table[name].mean() for table in scores.values()) for name in pair}
    assert means[pair[1]] >= means[pair[0]]
    for figure, marks in (
        (interval_figure(scores), 3 * 3),
        (rank_figure(scores), 0),
        (scatter_figure(results, scores, pair), 3 * 4),
    ):
        root = ElementTree.fromstring(figure)
        assert len(list(root.iter("circle"))) == marks
        box = [float(value) for value in root.get("viewBox").split()]
        for circle in root.iter("circle"):
            assert 0 <= float(circle.get("cx")) <= box[2]
            assert 0 <= float(circle.get("cy")) <= box[3]
        assert ElementTree.fromstring(standalone(figure)).tag == "{http://www.w3.org/2000/svg}svg"
    # In the last panel the subject without enhancing tumour is an open circle.
    assert scatter_figure(results, scores, pair).count('fill="none" fill-opacity') == 1


def test_the_bars_of_a_rank_diagram_join_what_the_tests_cannot_tell_apart():
    """Two methods that swap places from subject to subject, and one that always loses clearly."""
    table = pd.DataFrame({"a": [0.9, 0.8] * 10, "b": [0.8, 0.9] * 10, "c": [0.1, 0.2] * 10})
    root = ElementTree.fromstring(rank_figure({"lesion": table}))
    bars = [line for line in root.iter("line") if line.get("stroke-width") == "4.0"]
    texts = {node.text: node for node in root.iter("text")}
    assert len(bars) == 1
    place = {rank: float(texts[rank].get("x")) for rank in "123"}
    middle = (place["1"] + place["2"]) / 2
    assert {"a 1.5", "b 1.5", "c 3.0"} <= set(texts)
    assert float(bars[0].get("x1")) < middle < float(bars[0].get("x2")) < place["3"]


def test_the_pareto_front_holds_what_no_other_beats():
    points = pd.DataFrame(
        {"dice": [70.0, 80.0, 75.0, 80.0, 90.0], "parameters": [1.0, 2.0, 3.0, 2.5, float("nan")]}, index=list("abcde")
    )
    assert pareto_front(points, "parameters") == ["a", "b"]


def test_costs_are_matched_by_run_and_the_table_knows_parameters(dice_rows, table_writer, tmp_path):
    paths = [
        table_writer(tmp_path / f"{name}.parquet", dice_rows(name, run=f"run-{name}"), run=f"run-{name}", parameters=n)
        for name, n in (("unet", 2_000_000), ("rfnet", 3_000_000))
    ]
    results = read_results(paths)
    points = cost_points(results)
    assert points["parameters"].to_dict() == {"unet": 2.0, "rfnet": 3.0}
    assert cost_figure(points, {}).count("<circle") == 2
    costs = tmp_path / "cost.csv"
    row = {"run": "run-unet", "subset": "t1", "parameters": 5, "encode_s": 1.0, "decode_s": 0.5, "peak_mb": 100.0}
    write_costs(pd.DataFrame([row, {**row, "subset": "t2", "encode_s": 2.0, "peak_mb": 120.0}]), costs)
    points = cost_points(results, read_costs(costs))
    assert points.loc["unet", ["seconds", "peak_mb", "parameters"]].tolist() == [2.0, 120.0, 5e-6]
    assert points.loc["rfnet", "parameters"] == 3.0
    page = build_report(paths, tmp_path / "r.html", costs=costs).read_text(encoding="utf-8")
    assert "Accuracy against cost" in page
    costs.write_text("run,subset\n", encoding="utf-8")
    with pytest.raises(UserError, match="has no column 'parameters'"):
        build_report(paths, tmp_path / "r.html", costs=costs)
    with pytest.raises(UserError, match="not a readable table of costs"):
        read_costs(tmp_path / "none.csv")


def test_costs_of_a_network_are_measured(tmp_path):
    from anymri.methods import create

    create("unet", preset="tiny", width=2, depth=2).save(tmp_path / "w.safetensors", TrainingFacts(run="mine"))
    costs = measure_runs([tmp_path / "w.safetensors"], (8, 8, 8), repetitions=1)
    assert list(costs["subset"]) == ["t1+t1c+t2+flair", "t1", "t1c", "t2", "flair"]
    assert set(costs["run"]) == {"mine"}
    assert (costs[["parameters", "encode_s", "peak_mb"]] > 0).all(axis=None)
    every = measure_runs([tmp_path / "w.safetensors"], (8, 8, 8), repetitions=1, every_subset=True)
    assert len(set(every["subset"])) == 15


@pytest.mark.parametrize(
    ("first", "last", "ticks"),
    [(-0.35, 0.0, [0.5, 0.6, 0.7, 0.8, 0.9, 1]), (0.2, 1.4, [2, 5, 10, 20]), (-0.5, 3.2, [1, 10, 100, 1000])],
)
def test_a_cost_axis_has_a_few_ticks_however_long_it_is(first, last, ticks):
    from anymri.benchmark.report.accuracy_cost import _log_ticks

    assert _log_ticks(first, last) == pytest.approx(ticks)


def test_one_sequence_only_beside_the_network_trained_for_it(results):
    table = single_sequence_table(results)
    assert table["columns"] == ["FLAIR", "T1", "T1c", "T2", "average"]
    assert table["reference"] == "nnunet_per_subset"
    rows = {row["method"]: row for row in table["rows"]}
    assert [name for name, row in rows.items() if row["dedicated"]] == ["nnunet_per_subset"]
    frame = results.frame[results.frame["metric"] == "dice"]

    def mean(column, code):
        own = frame[(frame["column"] == column) & (frame["subset"] == code)]
        return 100 * own.groupby("target", observed=True)["value"].mean().mean()

    for place, code in enumerate(("flair", "t1", "t1c", "t2")):
        cell = rows["u_hved"]["cells"][place]
        assert float(cell["value"]) == pytest.approx(mean("u_hved", code), abs=0.051)
        assert float(cell["gap"]) == pytest.approx(mean("u_hved", code) - mean("nnunet_per_subset", code), abs=0.051)
    average = sum(mean("u_hved", code) for code in ("t1", "t1c", "t2", "flair")) / 4
    assert float(rows["u_hved"]["cells"][4]["value"]) == pytest.approx(average, abs=0.051)


def test_published_numbers_stand_in_blocks_of_their_own(results, made_up, tmp_path):
    ours, *others = published_groups(results)
    assert ours["ours"]
    assert {row["method"] for row in ours["rows"]} == {"threshold", "rfnet", "u_hved", "nnunet_per_subset"}
    review = next(group for group in others if group["title"] == "BraTS 2018, Table 3")
    assert "10.26599/CVM.2025.9450399" in review["source"]
    assert {"method": "u_hved", "values": ["80.1", "64.0", "50.1"], "note": "mean as printed"} in review["rows"]
    assert len(review["lines"]) == 15
    first = review["lines"][0]  # T2 alone
    assert "".join(first["dots"]) == "○○○●"
    assert first["values"][[row["method"] for row in review["rows"]].index("u_hved")] == "80.9"
    sources = {(group["source"], group["title"]) for group in others}
    assert len(sources) == len(others), "no source and place twice"
    page = build_report(made_up, tmp_path / "r.html").read_text(encoding="utf-8")
    block = page.split('id="published"')[1].split("</table>")[0]
    assert block.count("<tbody>") == len(published_groups(read_results(made_up)))
    assert all("80.9" not in body for body in re.findall(r"<tbody>.*?</tbody>", block, re.S)[:1])


def test_invented_tables_are_stamped(dice_rows, table_writer, tmp_path):
    path = table_writer(tmp_path / "a.parquet", dice_rows("unet"), stamp="Made-up numbers.")
    page = build_report([path], tmp_path / "r.html").read_text(encoding="utf-8")
    assert '<p class="warning"><strong>Made-up numbers.' in page
    assert "Published numbers" not in page, "no paper reports this method"
