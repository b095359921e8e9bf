"""Every kind of file that is read back, damaged in every way: one line that names the file, never a traceback."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from anymri.benchmark.cost import COST_COLUMNS, read_costs
from anymri.benchmark.run import _Log
from anymri.data.appearance import judge
from anymri.data.cache import Cache
from anymri.data.datasets.nnunet import channel_codes
from anymri.data.fingerprint import Fingerprint
from anymri.data.published_splits import read_published
from anymri.data.split import nnunet_split, read_split
from anymri.data.study import Study
from anymri.data.tables import ArrayKind, Tables
from anymri.errors import UserError
from anymri.evaluation.results import read_settings, read_table, write_table
from anymri.evaluation.saved import SavedPredictions
from anymri.evaluation.table_records import Pictures
from anymri.methods import create, load
from anymri.methods._catalogue_rows import read_catalogue
from anymri.protocol.weights_file import read_header
from anymri.records import read_record, seal
from anymri.training.checkpoint import CheckpointStore
from anymri.training.log import read_log
from anymri.training.planning import read_plan_spacing
from anymri.training.run_records import RunCard
from anymri.types import GLIOMA, STATISTICS, Subject

ROW = {
    "run": "r", "protocol": "anymri", "preset": "tiny", "method": "unet", "dataset": "d", "fold": 0, "seed": 0,
    "subject": "a", "subset": "t1", "target": "whole_tumor", "metric": "dice", "value": 0.5, "unit": "1",
    "reference_empty": False, "seen_in_training": False,
}  # fmt: skip
PREDICTIONS = {"run": "r", "method": "m", "dataset": "d", "labels": {"et": 3}, "grid": "g", "completed": "c"}
PICTURE = {"method": "unet", "subject": "a", "subset": "t1", "rank": "best", "file": "a.png", "dice": {"x": 0.5}}
TRIPLE = (1.0, 1.0, 1.0)
PLAN = {
    "format": 1, "spacing_mm": TRIPLE, "step_gib": 0.5, "memory_gib": 1.0, "reasons": {"patch": "why"}, "patch": None,
    "batch_size": 2, "fingerprint": asdict(Fingerprint(
        counts={"t1": 1}, opened=1, unreadable={}, spacing_mm=TRIPLE, finest_spacing_mm=TRIPLE, brain_mm=TRIPLE,
    )),
}  # fmt: skip
CARD = {
    "format": 1, "run": "r", "identity": "0" * 64, "dataset_fingerprint": "0" * 64, "training_subjects": ["a"],
    "validation_subjects": [], "stages": [{"name": "x"}], "start": "fresh", "parameters": 5, "dropped_subjects": {},
}  # fmt: skip


def cached(folder):
    cache = Cache.create(folder, GLIOMA, None)
    image = np.full((4, 6, 6, 6), np.nan, np.float32)
    image[0] = 0
    image[0, 1:5, 1:5, 1:5] = np.random.default_rng(0).normal(size=(4, 4, 4))
    statistics = np.full((4, len(STATISTICS)), np.nan, np.float32)
    statistics[0] = 1
    cache.write_entry("a", Study.from_arrays(image, statistics))
    return cache


def read_cached(folder):
    Cache(folder).verify("a")
    Cache(folder).fingerprint()


@pytest.fixture
def kinds(tmp_path):
    """Kind to a whole file of it and what reads it; the text files among them are JSON."""

    def plain(name, content):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(json.dumps(content))
        return path

    folder = tmp_path / "cache"
    cached(folder)
    tables = Tables.create(folder / "tables", {"x": ArrayKind("float32", (2,), ("age", "sex"))})
    vectors = tables.write("a", {"x": np.ones(2, np.float32)})
    results = tmp_path / "results.parquet"
    write_table(results, [ROW], {"modalities": ["t1"], "fold": 0})
    pictures = plain("results.pictures/index.json", seal({"format": 1, "legend": "x", "pictures": [PICTURE]}))
    weights = tmp_path / "model.safetensors"
    create("threshold").save(weights)
    SavedPredictions(tmp_path / "saved", "0" * 64, PREDICTIONS, GLIOMA)
    run = tmp_path / "run"
    run.mkdir()
    CheckpointStore(run).write({"x": torch.ones(1)})
    split = plain("split.json", {"folds": [{"train": ["a"], "validation": [], "test": ["b"]}], "seed": 0})
    nnunet = plain("splits_final.json", [{"train": ["a"], "val": ["b"]}])
    dataset = plain("raw/dataset.json", {"channel_names": {"0": "T1"}, "labels": {"background": 0}})
    plan, card = plain("run.plan.json", seal(PLAN)), plain("run/run.json", seal(CARD))
    log = plain("run/log.jsonl", {"stage": "x", "epoch": 1, "seconds": 1.0, "terms": {}})
    bench = plain("bench/log.jsonl", {"time": "x", "event": "done", "cell": "x", "seconds": 1.0})
    from anymri.methods import CATALOGUE

    catalogue = plain("catalogue.json", json.loads(Path(CATALOGUE).read_text())[:1])
    return {
        "dataset.json": (folder / "dataset.json", lambda: Cache(folder)),
        "sidecar": (folder / "a.json", lambda: read_cached(folder)),
        "voxels": (folder / "a.npy", lambda: read_cached(folder)),
        "tables.json": (folder / "tables" / "tables.json", lambda: Tables(tables.folder)),
        "vectors": (vectors, lambda: Tables(tables.folder).read("a")),
        "split": (split, lambda: read_split(split)),
        "splits_final": (nnunet, lambda: nnunet_split(nnunet, [Subject(name, {}) for name in "ab"])),
        "nnunet": (dataset, lambda: channel_codes(dataset.parent)),
        "plan": (plan, lambda: read_plan_spacing(tmp_path / "run.yaml")),
        "card": (card, lambda: read_record(card, RunCard, "train into a new folder")),
        "pointer": (run / "checkpoint.json", lambda: CheckpointStore(run).read()),
        "log": (log, lambda: read_log(run)),
        "benchmark log": (bench, lambda: _Log(bench).read()),
        "weights": (weights, lambda: load(weights)),
        "results": (results, lambda: (read_settings(results), read_table(results))),
        "pictures": (pictures, lambda: read_record(pictures, Pictures, "evaluate again")),
        "predictions": (
            tmp_path / "saved" / "predictions.json",
            lambda: SavedPredictions(tmp_path / "saved", "0" * 64, PREDICTIONS, GLIOMA),
        ),
        "catalogue": (catalogue, lambda: read_catalogue(catalogue)),
    }


def refusal(read, what):
    try:
        found = read()
    except UserError as error:
        return str(error)
    return pytest.fail(f"{what} was read: {found}")


JSON = (
    "dataset.json", "sidecar", "tables.json", "split", "splits_final", "nnunet", "plan", "card", "pointer",
    "predictions", "pictures", "catalogue",
)  # fmt: skip
LOGS = ("log", "benchmark log")
BINARY = ("voxels", "vectors", "weights", "results")
#: Kinds with a checksum over all that is in them.
SEALED = (*BINARY, "dataset.json", "sidecar", "tables.json", "plan", "card", "pointer", "predictions", "pictures")
DAMAGES = {
    "binary": lambda content: b"\x00\xff\xfe" + bytes(range(256)),
    "nested": lambda content: b"[" * 3000 + b"]" * 3000,
    "null": lambda content: b"null",
    "text": lambda content: b'"text"',
    "digits": lambda content: b"9" * 5000,
    "NaN": lambda content: b'{"a": NaN}',
    "infinite": lambda content: b'{"a": 1e400}',
    "long": lambda content: b'{"a": "' + b"x" * 1_000_000 + b'"}',
    "other": lambda content: b'{"a": [1, null, {}]}',
    "twice": lambda content: content + content,
}


@pytest.mark.parametrize("kind", [*JSON, *LOGS, *BINARY])
def test_whatever_stands_in_a_file_the_refusal_is_one_line_with_its_name(kinds, kind):
    path, read = kinds[kind]
    content = path.read_bytes()
    read()
    cut = {f"cut at {size}": lambda _, size=size: content[:size] for size in (0, 1, len(content) // 2)}
    for name, damage in ({} if kind in LOGS else cut | DAMAGES).items():
        if (kind, name) == ("results", "twice"):
            continue  # read from its end: the same table
        path.write_bytes(damage(content))
        said = refusal(read, f"{kind}: {name}")
        assert path.name in said or path.parent.name in said, f"{kind}, {name}: {said}"
        assert "\n" not in said, (kind, name)
        assert len(said) < 600, (kind, name)
    for name in ("binary", "nested", "null", "NaN", "infinite") if kind in LOGS else ():
        path.write_bytes(content + b"\n" + DAMAGES[name](content) + b"\n")
        with pytest.raises(UserError, match=r"log\.jsonl, line 2"):
            read()


@pytest.mark.parametrize("kind", SEALED)
def test_a_changed_byte_is_noticed(kinds, kind):
    path, read = kinds[kind]
    content = path.read_bytes()
    for place in np.random.default_rng(0).choice(len(content), min(12, len(content)), replace=False):
        if kind not in BINARY and chr(content[place]).isspace():
            continue  # layout
        changed = bytearray(content)
        changed[place] ^= 1
        path.write_bytes(changed)
        try:
            found = read()
        except UserError:
            continue
        assert kind == "results", f"byte {place}: {chr(content[place])!r}"
        path.write_bytes(content)
        assert str(found) == str(read()), f"byte {place} of a results table changed what was read"


@pytest.mark.parametrize("kind", [kind for kind in JSON if kind not in ("nnunet", "splits_final", "catalogue")])
def test_a_lost_and_a_further_field_are_named(kinds, kind):
    path, read = kinds[kind]
    whole = json.loads(path.read_bytes())
    optional = {"split": {"seed"}, "card": {"dropped_subjects"}, "sidecar": {"sources", "sides"}}.get(kind, set())
    again = seal if "format" in whole else dict
    for key in whole.keys() - optional - {"sha256", "format"}:
        path.write_text(json.dumps(again({name: value for name, value in whole.items() if name != key})))
        with pytest.raises(UserError, match=f"{path.name}: {key} is missing|{key} is missing"):
            read()
    path.write_text(json.dumps(again({**whole, "of_tomorrow": 1})))
    with pytest.raises(UserError, match=f"{path.name}: unknown field of_tomorrow"):
        read()
    if "format" in whole:
        path.write_text(json.dumps(again({**whole, "format": 99, "of_tomorrow": 1})))
        with pytest.raises(UserError, match=f"{path.name}: has format 99, made by a newer version"):
            read()


def test_numbers_of_a_table_of_costs_are_numbers(tmp_path):
    path = tmp_path / "cost.csv"
    whole = pd.DataFrame([["r", "t1", 5, 0.5, 0.25, 10.0]] * 2, columns=list(COST_COLUMNS))
    whole.to_csv(path, index=False)
    assert read_costs(path)["encode_s"].tolist() == [0.5, 0.5]
    for cell in ("x", "nan", "inf", "-1", "", "1e999"):
        path.write_text(whole.to_csv(index=False) + f"r,t1,5,{cell},0.25,10\n")
        with pytest.raises(UserError, match=r"cost\.csv, line 4: encode_s is no number"):
            read_costs(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and nothing", b"\x93NUMPY", b"[" * 3000])
def test_a_damaged_part_of_the_package_says_so(tmp_path, monkeypatch, content):
    (tmp_path / "judge.npz").write_bytes(content)
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "x.json").write_bytes(content)
    monkeypatch.setattr("importlib.resources.files", lambda package: tmp_path)
    judge._load.cache_clear()
    for read in (judge._load, lambda: read_published("x")):
        with pytest.raises(UserError, match=r"damaged .*install anymri anew"):
            read()
    judge._load.cache_clear()


def test_metadata_of_weights_are_read_without_a_pipe_that_hangs(tmp_path):
    import os

    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"model\.safetensors: not a readable weights file"):
        read_header(tmp_path / "model.safetensors")
