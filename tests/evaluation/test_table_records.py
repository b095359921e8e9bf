"""What a results table, an index of pictures and a card of predictions may not be."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from anymri.benchmark.query import select_rows
from anymri.benchmark.report import build_report
from anymri.errors import UserError
from anymri.evaluation.results import COLUMNS, METADATA_KEY, join_tables, read_rows, read_settings, read_table
from anymri.evaluation.results import write_table as write
from anymri.evaluation.saved import SavedPredictions
from anymri.records import seal, write_record
from anymri.types import GLIOMA

ROW = {
    "run": "r", "protocol": "anymri", "preset": "tiny", "method": "unet", "dataset": "d", "fold": 0, "seed": 0,
    "subject": "a", "subset": "t1+flair", "target": "whole_tumor", "metric": "dice", "value": 0.5, "unit": "1",
    "reference_empty": False, "seen_in_training": False,
}  # fmt: skip
ROWS = [ROW, {**ROW, "subset": "t1", "value": float("nan")}, {**ROW, "metric": "psnr", "value": float("inf")}]
SETTINGS = {"method": "unet", "modalities": ["t1", "t1c", "t2", "flair"], "subsets": ["t1", "t1+flair"], "fold": 0}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "results.parquet"
    write(path, ROWS, SETTINGS)
    return path


def change(path, settings=None, **columns):
    """Write the table with other columns or settings, keeping what is stored beside the rows."""
    table = parquet.read_table(path)
    for name, values in columns.items():
        table = table.set_column(table.column_names.index(name), name, pa.array(values))
    if settings is not None:
        table = table.replace_schema_metadata({METADATA_KEY: settings})
    parquet.write_table(table, path)


def stored(path):
    return json.loads(parquet.read_schema(path).metadata[METADATA_KEY])


def test_rows_and_settings_come_back(path, tmp_path):
    frame, settings = read_table(path)
    assert settings == read_settings(path) == SETTINGS
    assert frame["value"].tolist()[0] == 0.5
    assert np.isnan(frame["value"][1])
    write(tmp_path / "other.parquet", [{**ROW, "subject": "b"}], {**SETTINGS, "fold": 1})
    join_tables([path, tmp_path / "other.parquet"], tmp_path / "both.parquet")
    frame, settings = read_table(tmp_path / "both.parquet")
    assert frame["subject"].tolist() == ["a", "a", "a", "b"]
    assert settings["tables"] == [SETTINGS, {**SETTINGS, "fold": 1}]
    parquet.write_table(parquet.read_table(path), path, compression="none", use_dictionary=False, row_group_size=1)
    assert len(read_rows(path)) == 3  # stored in another way, the same rows


@pytest.mark.parametrize(
    ("name", "values", "says"),
    [
        ("value", [0.75, np.nan, np.inf], "its rows were changed or damaged"),
        ("subject", ["b", "a", "a"], "its rows were changed or damaged"),
        ("seen_in_training", [True, False, False], "its rows were changed or damaged"),
        ("value", [np.inf, np.nan, np.inf], "column 'value' is infinite for dice"),
        ("value", ["0.5", "nan", "inf"], "column 'value' holds string, not float"),
        ("fold", [0.5, 0.0, 0.0], "column 'fold' holds double, not int"),
        ("seen_in_training", ["no", "no", "no"], "column 'seen_in_training' holds string, not bool"),
        ("metric", [1, 2, 3], "column 'metric' holds int64, not text"),
        ("metric", ["dice", None, "psnr"], "column 'metric' has 1 empty cells"),
        ("seed", [0, 0, None], "column 'seed' has 1 empty cells"),
        ("subset", ["t1+t9", "t1", "t1"], "column 'subset' holds 't1.t9'"),
        ("subset", ["t1+t1", "t1", "t1"], "column 'subset' holds 't1.t1'"),
        ("target", ["[" * 3000, "x" * 10**6, "\x00"], "its rows were changed or damaged"),
    ],
)
def test_rows_that_do_not_fit_are_named(path, name, values, says):
    change(path, **{name: values})
    with pytest.raises(UserError, match=rf"results\.parquet: {says}") as raised:
        read_table(path)
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"fold": 1}, "was changed or damaged"),
        ({"rows_sha256": ...}, "was changed or damaged"),
        ({"sha256": ...}, "sha256 is missing"),
        ({"format": 2}, "has format 2, made by a newer version"),
        ({"further": 1}, "unknown field further"),
        ({"modalities": "t1"}, "modalities = 't1' does not fit"),
        ({"modalities": ["t1", "x"]}, "modalities: 'x' is no modality"),
        ({"subsets": ["t1+x"]}, "subsets.0: 'x' is no modality"),
        ({"fold": "0"}, "fold = '0' does not fit"),
        ({"code": ""}, "code = '' does not fit"),
        ({"seed": 10**30}, "seed is no finite number"),
        ({"settings": {"window": [0, 1, 1]}}, "settings.window.* does not fit"),
        ({"settings": {"spacing_mm": [1, 1, float("nan")]}}, "settings.spacing_mm.2 is no finite number"),
        ({"training": [{"subjects": -1}]}, "training.0.subjects = -1 does not fit"),
        ({"tables": [{"fold": []}]}, r"tables.0.fold = \[\] does not fit"),
        ({"downstream": {"run": "x"}}, "downstream.method is missing"),
    ],
)
def test_settings_that_do_not_fit_are_named(path, changes, says):
    values = {key: value for key, value in (stored(path) | changes).items() if value is not ...}
    change(path, json.dumps(values).encode())
    for read in (read_table, read_settings, select_rows):
        with pytest.raises(UserError, match=rf"results\.parquet: {says}"):
            read(path)


@pytest.mark.parametrize("text", [b"", b"{", b"[" * 3000, b"[1]", b"\xff\xfe", b'{"fold": 1e400}'])
def test_settings_that_are_no_record_are_refused(path, text):
    change(path, text)
    with pytest.raises(UserError, match=r"results\.parquet: .*(damaged|no finite number)"):
        read_settings(path)


def test_a_file_that_is_no_table_is_refused(path, tmp_path):
    content = path.read_bytes()
    folder = tmp_path / "folder.parquet"
    folder.mkdir()
    (folder / "part.parquet").write_bytes(content)
    for damaged in (b"", content[:-4], content[: len(content) // 2], b"PAR1" + bytes(50) + b"PAR1", b"\x89PNG"):
        path.write_bytes(damaged)
        for read in (read_table, read_settings, read_rows):
            with pytest.raises(UserError, match=r"results\.parquet: not a readable results table"):
                read(path)
    for place in (folder, tmp_path / "nowhere.parquet"):
        with pytest.raises(UserError, match="not a readable results table"):
            read_table(place)


def test_a_damaged_page_is_noticed_where_only_some_columns_are_read(tmp_path):
    path = tmp_path / "long.parquet"
    random = np.random.default_rng(0)
    write(path, [{**ROW, "value": value} for value in random.uniform(size=5000)], SETTINGS)
    content = bytearray(path.read_bytes())
    place = content.find(parquet.read_table(path)["value"].to_numpy()[:1].tobytes())
    content[place if place > 0 else len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"long\.parquet: not a readable results table"):
        select_rows(path, columns=["value"])


def test_a_table_of_an_older_version_is_read_without_checksums(path):
    plain = {key: value for key, value in stored(path).items() if key not in ("format", "sha256", "rows_sha256")}
    change(path, json.dumps({**plain, "of_yesterday": 1}).encode(), value=[0.25, 0.5, 0.75])
    assert read_table(path)[0]["value"].tolist() == [0.25, 0.5, 0.75]
    assert set(parquet.read_table(path).column_names) == set(COLUMNS)


PICTURE = {
    "run": "r", "protocol": "anymri", "dataset": "d", "method": "unet", "subject": "a", "subset": "t1", "rank": "best",
    "file": "t1-best.png", "dice": {"whole_tumor": 0.5}, "seen_in_training": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"subset": ...}, "pictures.0.subset is missing"),
        ({"dice": {"x": 1e5}}, "pictures.0.dice.x = 100000.0 does not fit"),
        ({"dice": {"x": float("nan")}}, "pictures.0.dice.x is no finite number"),
        ({"dice": [1]}, "pictures.0.dice = .* does not fit"),
        ({"subject": 5}, "pictures.0.subject = 5 does not fit"),
        ({"further": 5}, "unknown field pictures.0.further"),
        ({"sha256": "0" * 64}, "best.png: was changed or damaged"),
    ],
)
def test_an_index_of_pictures_that_does_not_fit_is_named(path, tmp_path, changes, says):
    folder = tmp_path / "results.pictures"
    folder.mkdir()
    (folder / "t1-best.png").write_bytes(b"\x89PNG")
    picture = {key: value for key, value in (PICTURE | changes).items() if value is not ...}
    content = seal({"format": 1, "legend": "", "pictures": [picture]}) if "nan" not in str(changes) else {}
    (folder / "index.json").write_text(json.dumps(content or {"legend": "", "pictures": [picture]}))
    with pytest.raises(UserError, match=says):
        build_report([path], tmp_path / "report.html")


def test_a_lost_or_changed_index_of_pictures_is_noticed(path, tmp_path):
    folder = tmp_path / "results.pictures"
    folder.mkdir()
    with pytest.raises(UserError, match=r"index\.json: does not exist; evaluate again"):
        build_report([path], tmp_path / "report.html")
    content = seal({"format": 1, "legend": "", "pictures": [PICTURE]})
    (folder / "index.json").write_text(json.dumps({**content, "pictures": []}))
    with pytest.raises(UserError, match=r"index\.json: was changed or damaged"):
        build_report([path], tmp_path / "report.html")


def test_a_card_of_predictions_that_does_not_fit_is_named(tmp_path):
    facts = {"run": "r", "method": "unet", "dataset": "d", "labels": {"et": 3}, "grid": "g", "completed": "c"}
    SavedPredictions(tmp_path / "p", "a" * 64, facts, GLIOMA)
    SavedPredictions(tmp_path / "p", "a" * 64, facts, GLIOMA)
    with pytest.raises(UserError, match="another model or question"):
        SavedPredictions(tmp_path / "p", "b" * 64, facts, GLIOMA)
    card = tmp_path / "p" / "predictions.json"
    whole = json.loads(card.read_text(encoding="utf-8"))
    card.write_text(json.dumps({**whole, "labels": {"et": 2}}))
    with pytest.raises(UserError, match=r"predictions\.json: was changed"):
        SavedPredictions(tmp_path / "p", "a" * 64, facts, GLIOMA)
    write_record(card, {**whole, "labels": {"et": "3"}})
    with pytest.raises(UserError, match=r"predictions\.json: labels\.et = '3' does not fit"):
        SavedPredictions(tmp_path / "p", "a" * 64, facts, GLIOMA)
