"""The report page and its tables, from made-up results."""

from __future__ import annotations

import base64
import json
import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from anymri.benchmark.report import build_report, read_results, table3, to_markdown
from anymri.benchmark.report.figures import curve_figure, heat_map, ramp_colour
from anymri.benchmark.report.tables import cells, column_order, enhancing_summary, provenance, synthesis_table
from anymri.types import GLIOMA, UserError

#: The review's Table 3, top to bottom: Flair, T1, T1c, T2.
REVIEW_ROWS = [
    *("○○○●", "○○●○", "○●○○", "●○○○", "○○●●", "○●●○", "●●○○", "○●○●"),
    *("●○○●", "●○●○", "●●●○", "●●○●", "●○●●", "○●●●", "●●●●"),
]


def _table_rows(markdown: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines() if line.startswith("|")
    ]


# ---------------------------------------------------------------------------------------------------------- values


def test_rows_have_the_order_of_the_reviews_table_3(made_up):
    rows = _table_rows(to_markdown(made_up))
    assert rows[0][:4] == ["FLAIR", "T1", "T1c", "T2"]
    assert ["".join(row[:4]) for row in rows[2:17]] == REVIEW_ROWS
    assert rows[17][0] == "**Mean**"
    assert len(rows) == 18 + 2 + 4, "the Dice table, then completion: head, rule, four sequences"


def test_cells_are_means_over_subjects_in_per_cent(made_up):
    frame = read_results(made_up).frame
    wide = table3(made_up)
    assert list(wide.columns.levels[0]) != []
    for subset in ("t2", "t1c+flair"):
        for region in GLIOMA.regions:
            own = frame[(frame["subset"] == subset) & (frame["target"] == region) & (frame["method"] == "u_hved")]
            expected = 100 * own.loc[own["metric"] == "dice", "value"].mean()
            assert wide.loc[subset, (region, "u_hved")] == pytest.approx(expected)
    for column in wide.columns:
        assert wide.loc["mean", column] == pytest.approx(wide[column].iloc[:15].mean())
    assert [column for _, column in wide.columns[:2]] == ["threshold", "u_hved"], "baselines come first"


def test_every_cell_counts_subjects_and_those_without_enhancing_tumour(made_up):
    counts = cells(read_results(made_up))
    assert set(counts["n"]) == {4}
    assert set(counts.xs("enhancing_tumor", level="target")["empty"]) == {1}
    assert set(counts.xs("whole_tumor", level="target")["empty"]) == {0}
    body = _table_rows(to_markdown(made_up))[2:17]
    assert all(re.fullmatch(r"[\d.]+ \(n 4\)", cell) for row in body for cell in row[4:8])
    assert all(re.fullmatch(r"[\d.]+ \(n 4, 1 ET-free\)", cell) for row in body for cell in row[8:10])


def test_subjects_that_lack_a_sequence_lower_n_only_in_their_rows(dice_rows, table_writer, tmp_path):
    rows = [r for r in dice_rows("unet") if r["subject"] != "case000" or "t1c" not in r["subset"].split("+")]
    counts = cells(read_results([table_writer(tmp_path / "r.parquet", rows)]))["n"]
    assert counts.loc[("t1c", "whole_tumor", "unet")] == 3
    assert counts.loc[("t2+flair", "whole_tumor", "unet")] == 4


def test_seeds_are_averaged_within_a_subject_and_folds_are_pooled(dice_rows, table_writer, tmp_path):
    rows = [
        *dice_rows("unet", seed=0),
        *dice_rows("unet", seed=1),
        *dice_rows("unet", fold=1, prefix="other", subjects=3),
    ]
    results = read_results([table_writer(tmp_path / "r.parquet", rows)])
    assert column_order(results) == ["unet"]
    counts = cells(results)
    assert set(counts["n"]) == {7}
    frame = pd.DataFrame(rows)
    own = frame[(frame["subset"] == "t2") & (frame["target"] == "tumor_core") & (frame["metric"] == "dice")]
    expected = own.groupby("subject")["value"].mean().mean()
    assert counts.loc[("t2", "tumor_core", "unet"), "mean"] == pytest.approx(expected)


def test_settings_of_one_method_get_columns_of_their_own(dice_rows, table_writer, tmp_path):
    by_preset = [*dice_rows("unet"), *dice_rows("unet", preset="tiny, missing=zero_fill", run="b")]
    results = read_results([table_writer(tmp_path / "a.parquet", by_preset)])
    assert column_order(results) == ["unet (tiny)", "unet (tiny, missing=zero_fill)"]
    by_run = [*dice_rows("unet", run="short"), *dice_rows("unet", run="long")]
    results = read_results([table_writer(tmp_path / "b.parquet", by_run)])
    assert column_order(results) == ["unet (long)", "unet (short)"]


def test_a_mean_over_fewer_rows_says_so(dice_rows, table_writer, tmp_path):
    rows = [*dice_rows("unet"), *(row for row in dice_rows("u_hved") if row["subset"] in ("t2", "flair"))]
    path = table_writer(tmp_path / "r.parquet", rows)
    last = _table_rows(to_markdown([path]))[17]
    assert ["(of 2 rows)" in cell for cell in last[4:]] == [True, False] * 3
    assert build_report([path], tmp_path / "r.html").read_text(encoding="utf-8").count("of 2 rows") == 3


def test_the_same_table_given_twice_counts_once(made_up):
    assert table3([*made_up, made_up[0]]).equals(table3(made_up))


def test_enhancing_summary_splits_the_subsets_by_t1c(made_up):
    wide = table3(made_up)[("enhancing_tumor", "u_hved")].drop("mean")
    row = next(row for row in enhancing_summary(read_results(made_up)) if row["column"] == "u_hved")
    shown = [name for name in wide.index if "t1c" in name.split("+")]
    assert (row["count_with"], row["count_without"]) == (8, 7)
    assert row["with"] == pytest.approx(wide[shown].mean())
    assert row["difference"] == pytest.approx(wide[shown].mean() - wide.drop(shown).mean())


def test_gain_is_over_the_better_baseline_on_common_pairs(dice_rows, synthesis_rows, table_writer, tmp_path):
    rows = [*dice_rows("u_hved"), *synthesis_rows("u_hved", 24.0), *synthesis_rows("copy_best_available", 20.0)]
    short = [r for r in synthesis_rows("linear_regression", 21.5) if r["subject"] != "case003"]
    results = read_results([table_writer(tmp_path / "r.parquet", rows + short)])
    table = synthesis_table(results)
    assert set(table["pairs"]) == {3 * 7}, "only pairs that all have"
    for target in GLIOMA.modalities:
        assert table.loc[(target, "u_hved"), "psnr"] == pytest.approx(25.0)
        assert table.loc[(target, "u_hved"), "gain"] == pytest.approx(2.5)
    assert [key[0] for key in table.index[::3]] == list(GLIOMA.modalities)


def test_other_modalities_get_rows_by_size(dice_rows, table_writer, tmp_path):
    rows = [r for r in dice_rows("unet") if set(r["subset"].split("+")) <= {"t1", "t2"}]
    path = table_writer(tmp_path / "r.parquet", rows, modalities=["t1", "t2"], subsets=["t1", "t2", "t1+t2"])
    assert list(table3([path]).index) == ["t1", "t2", "t1+t2", "mean"]


# ------------------------------------------------------------------------------------------------------------ page


@pytest.fixture
def page(made_up, tmp_path):
    return build_report(made_up, tmp_path / "report.html").read_text(encoding="utf-8")


def test_page_is_self_contained_and_says_nothing_of_the_machine(page, tmp_path):
    assert not re.search(r"(src|href)\s*=\s*[\"'](?!data:|#)", page)
    assert not re.search(r"https?://|@import|url\(", page)
    assert "<script" not in page
    assert str(tmp_path) not in page
    import socket

    assert socket.gethostname() not in re.sub(r"<style>.*?</style>", "", page, flags=re.S)


def test_page_has_all_sections_and_fifteen_rows(page):
    for heading in (
        "Dice for every subset",
        "Heat map",
        "against the number of missing sequences",
        "Completion",
        "Provenance",
    ):
        assert heading in page
    assert page.count('<td class="dot">') == 15 * 4
    assert page.count("n 4, 1 ET-free") == 15 * 2
    assert page.count("<svg") == 9, "heat map, curves, intervals, ranks of three regions with two keys, subjects"
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page


def test_page_is_the_same_each_time(made_up, tmp_path):
    first, second = (build_report(made_up, tmp_path / f"{name}.html") for name in "ab")
    assert first.read_bytes() == second.read_bytes()
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    written = pd.read_csv(tmp_path / "a.csv")
    assert len(written) == 15 * 3 * 2
    assert list(written["subset"][:3]) == ["t2", "t1c", "t1"]
    assert (tmp_path / "a.md").read_text(encoding="utf-8") == to_markdown(made_up)


def test_training_subjects_are_stamped_wherever_they_count(dice_rows, table_writer, tmp_path):
    rows = [*dice_rows("u_hved", seen=("case002",)), *dice_rows("threshold")]
    path = table_writer(tmp_path / "r.parquet", rows)
    page = build_report([path], tmp_path / "report.html").read_text(encoding="utf-8")
    assert "u_hved: 1 of 4 subjects" in page
    assert page.count("the model was trained on 1 of these 4 subjects") == 15 * 3
    assert to_markdown([path]).count(", seen)") == 15 * 3
    # A cell that was trained on cannot be the best one, however good.
    body = page.split("<tbody>")[1].split("</tbody>")[0]
    assert not re.search(r'class="[^"]*best[^>]*>(?:(?!</td>).)*stamp', body)
    clean = build_report([table_writer(tmp_path / "c.parquet", dice_rows("u_hved"))], tmp_path / "c.html").read_text(
        encoding="utf-8"
    )
    assert "seen in training" not in clean.lower().replace("trained on", "")


def test_pictures_are_embedded_until_the_page_is_full(made_up, tmp_path, monkeypatch):
    folder = made_up[1].with_name("u_hved.pictures")
    folder.mkdir()
    png = b"\x89PNG" + bytes(3000)
    pictures = []
    for subset in ("t1+t1c+t2+flair", "flair"):
        for rank in ("best", "worst"):
            (folder / f"{subset}-{rank}.png").write_bytes(png)
            facts = {
                "run": "u_hved-tiny-made_up-fold0-seed0",
                "method": "u_hved",
                "subject": "case001",
                "subset": subset,
            }
            more = {"rank": rank, "file": f"{subset}-{rank}.png", "seen_in_training": rank == "best"}
            pictures.append({**facts, **more, "dice": {"whole_tumor": 0.875, "enhancing_tumor": 1.0}})
    (folder / "index.json").write_text(json.dumps({"legend": "Blue is oedema.", "pictures": pictures}))
    page = build_report(made_up, tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 4
    assert "WT 87.5, ET 100.0" in page
    assert "u_hved, from T1 + T1c + T2 + FLAIR" in page
    assert page.count("<figcaption>") == 4
    assert page.split("<figure>", 1)[1].count("seen in training") == 2
    monkeypatch.setattr("anymri.benchmark.report.build.PICTURE_BUDGET", 9000)
    page = build_report(made_up, tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 2
    assert "2 pictures are not on this page" in page


def test_names_are_escaped(dice_rows, table_writer, tmp_path):
    path = table_writer(tmp_path / "r.parquet", dice_rows("<b>&unet", run="<script>"))
    page = build_report([path], tmp_path / "report.html", title="<i>results").read_text(encoding="utf-8")
    assert "<script>" not in page
    assert "<b>&unet" not in page
    assert "&lt;i&gt;results" in page


def test_figures_are_well_formed(made_up):
    results = read_results(made_up)
    for figure in (heat_map(results), curve_figure(results)):
        root = ElementTree.fromstring(figure)
        assert root.tag == "svg"
        box = [float(value) for value in root.get("viewBox").split()]
        for rect in root.iter("rect"):
            assert 0 <= float(rect.get("x")) <= box[2]
            assert 0 <= float(rect.get("y")) <= box[3]
    assert len(re.findall("<rect", heat_map(results))) == 15 * 2 * 3


def test_panels_without_room_side_by_side_are_figures_of_their_own(dice_rows, table_writer, tmp_path):
    """A printed page keeps a figure whole, which it cannot if all panels below each other are one figure."""
    paths = [table_writer(tmp_path / f"{i}.parquet", dice_rows(f"method_{i:02d}", subjects=2)) for i in range(20)]
    panels = heat_map(read_results(paths)).split("</svg>")
    assert len(panels) == 4
    assert panels[-1] == ""
    for panel in panels[:-1]:
        root = ElementTree.fromstring(panel + "</svg>")
        height = float(root.get("viewBox").split()[3])
        assert height < 600
        assert all(0 <= float(rect.get("y")) < height for rect in root.iter("rect"))


def test_heat_map_text_can_be_read_on_its_colour():
    for share in np.linspace(0, 1, 21):
        fill, ink = ramp_colour(share)

        def luminance(colour):
            values = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
            linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
            return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

        high, low = sorted((luminance(fill), luminance(ink)), reverse=True)
        assert (high + 0.05) / (low + 0.05) > 4.0


def test_twenty_methods_and_a_hundred_subjects_make_a_small_page(dice_rows, table_writer, tmp_path):
    paths = [table_writer(tmp_path / f"{i}.parquet", dice_rows(f"method_{i:02d}", subjects=100)) for i in range(20)]
    out = build_report(paths, tmp_path / "report.html", title="Made-up results")
    assert out.stat().st_size < 1_000_000
    assert out.read_text(encoding="utf-8").count("<tbody>") >= 3, "one table per region"


def test_provenance_names_runs_and_versions(dice_rows, table_writer, tmp_path):
    rows = dice_rows("unet", run="unet-tiny-x-1234")
    stored = {"run": "unet-tiny-x-1234", "fold": 0, "versions": {"anymri": "0.1.0"}, "dataset_fingerprint": "abc"}
    results = read_results([table_writer(tmp_path / "r.parquet", rows, **stored)])
    (entry,) = provenance(results)
    assert (entry["run"], entry["fingerprint"], entry["versions"]) == ("unet-tiny-x-1234", "abc", {"anymri": "0.1.0"})
    assert entry["subjects"] == 4


# ---------------------------------------------------------------------------------------------------------- errors


def test_mistakes_are_one_line(made_up, dice_rows, table_writer, tmp_path):
    other = table_writer(tmp_path / "other.parquet", dice_rows("unet"), modalities=["t1", "t2"])
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 and then nothing")
    short = tmp_path / "short.parquet"
    pd.DataFrame({"run": ["a"]}).to_parquet(short)
    empty = table_writer(tmp_path / "empty.parquet", [])
    for paths, match in (
        ([tmp_path / "none.parquet"], "not a readable results table"),
        ([broken], "not a readable results table"),
        ([short], "has no column 'protocol'"),
        ([empty], "holds no results"),
        ([], "no results table given"),
        ([made_up[0], other], "modalities differ"),
    ):
        with pytest.raises(UserError, match=match) as caught:
            build_report(paths, tmp_path / "report.html")
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="is a folder"):
        build_report(made_up, tmp_path)
    assert not (tmp_path / "report.html").exists()


@pytest.fixture
def index(made_up):
    """Write the index of pictures of one table: one entry, of the given name."""
    folder = made_up[1].with_name("u_hved.pictures")
    folder.mkdir()

    def write(name):
        entry = {"method": "u_hved", "subject": "case001", "subset": "flair", "rank": "best", "dice": {}, "file": name}
        (folder / "index.json").write_text(json.dumps({"legend": "", "pictures": [entry]}))
        return folder

    return write


@pytest.mark.parametrize("name", ["/etc/passwd", "../secret.png", "a/../../secret.png", "..", "", None, 3, "link.png"])
def test_a_picture_is_a_file_of_its_folder(made_up, index, tmp_path, name):
    folder = index(str(made_up[0].parent / "secret.png") if name == "/etc/passwd" else name)
    secret = folder.parent / "secret.png"
    secret.write_bytes(b"\x89PNG secret")
    (folder / "link.png").symlink_to(secret)
    with pytest.raises(UserError, match=r"u_hved\.pictures.*(is not the plain name of a file|file = .* does not fit)"):
        build_report(made_up, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_a_picture_is_what_its_first_bytes_say(made_up, index, tmp_path):
    folder = index("one.png")
    build_report(made_up, tmp_path / "report.html")  # a picture that somebody removed is left out
    for content, mime in ((b"\x89PNG1", "png"), (b"\xff\xd8\xff1", "jpeg"), (b"<svg/>", "svg+xml")):
        (folder / "one.png").write_bytes(content)
        page = build_report(made_up, tmp_path / "report.html").read_text(encoding="utf-8")
        assert f"data:image/{mime};base64,{base64.b64encode(content).decode()}" in page
    (folder / "one.png").write_bytes(b"root:x:0:0")
    with pytest.raises(UserError, match=r"one\.png: is no PNG, JPEG or SVG picture; evaluate again"):
        build_report(made_up, tmp_path / "report.html")
