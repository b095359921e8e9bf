"""Vectors and graphs of subjects: round trip, damage, what does not fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small_cohort import write_cache

from anymri.data.cache import Cache
from anymri.data.cache_check import check_cache, clean_cache
from anymri.data.loading import PatchLoader, volume_batch
from anymri.data.tables import ArrayKind, Tables, graph_kinds
from anymri.types import Graph, UserError

KINDS = {
    "clinical": ArrayKind("float32", (2,), ("age_years", "sex_female")),
    "visits": ArrayKind("int64", (None,)),
    **graph_kinds("functional", node_features=3, edge_features=1),
}


def graph(nodes: int, edges: list[tuple[int, int]]) -> dict[str, np.ndarray]:
    return {
        "functional.nodes": np.arange(3 * nodes, dtype=np.float32).reshape(nodes, 3),
        "functional.edges": np.array(edges, dtype=np.int64).reshape(-1, 2).T,
        "functional.edge_features": np.ones((len(edges), 1), np.float32),
    }


FIRST = {"clinical": np.array([63, np.nan], np.float32), **graph(4, [(0, 1), (1, 0), (3, 2)])}
SECOND = {"visits": np.array([2, 5, 9]), **graph(2, [])}


@pytest.fixture
def tables(tmp_path) -> Tables:
    made = Tables.create(tmp_path / "tables", KINDS)
    made.write("a", FIRST)
    made.write("b", SECOND)
    return made


def test_what_is_written_is_read(tables):
    again = Tables(tables.folder)
    assert again.arrays == KINDS
    assert again.subject_ids == ("a", "b")
    for name, arrays in (("a", FIRST), ("b", SECOND)):
        found = again.read(name)
        assert found.keys() == arrays.keys()
        for key, array in arrays.items():
            assert found[key].dtype == array.dtype
            np.testing.assert_array_equal(found[key], array)
    assert again.read("c") == {}
    found = Graph.of(again.read("a"), "functional")
    assert isinstance(found, Graph)
    assert found.edges.tolist() == [[0, 1, 3], [1, 0, 2]]
    assert Graph.of(again.read("a"), "structural") is None
    assert Tables.create(tables.folder, KINDS).subject_ids == ("a", "b")
    with pytest.raises(UserError, match="holds tables of other arrays"):
        Tables.create(tables.folder, {"clinical": KINDS["clinical"]})


def test_the_same_arrays_give_the_same_bytes_and_another_value_another_fingerprint(tables, tmp_path):
    path, before = tables.folder / "a.safetensors", tables.fingerprint()
    content = path.read_bytes()
    for _ in range(5):
        assert tables.write("a", dict(reversed(FIRST.items()))).read_bytes() == content
    other = Tables.create(tmp_path / "elsewhere", KINDS)
    other.write("b", SECOND)
    other.write("a", FIRST)
    assert other.fingerprint() == before
    other.write("a", FIRST | {"clinical": np.array([64, np.nan], np.float32)})
    assert other.fingerprint() != before
    assert not list(tables.folder.glob(".*"))


def test_damage_is_noticed(tables):
    path = tables.folder / "a.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    for damaged, says in (
        (bytes(content), "was changed or damaged"),
        (bytes(content[:-8]), "is damaged"),
        (b"", "is damaged"),
        ((tables.folder / "b.safetensors").read_bytes(), "subject_id is 'b', of another subject"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=rf"a\.safetensors: {says}.*; write it anew"):
            tables.read("a")
    path.unlink()
    path.symlink_to(tables.folder / "gone")
    with pytest.raises(UserError, match=r"a\.safetensors: is damaged .no plain file.; write it anew"):
        tables.read("a")
    description = tables.folder / "tables.json"
    for text in ("{", "[]"):
        description.write_text(text)
        with pytest.raises(UserError, match="is damaged"):
            Tables(tables.folder)
    for version, says in ((1, "older version"), (3, "newer version")):
        description.write_text(json.dumps({"format": version, "arrays": {}}))
        with pytest.raises(UserError, match=f"has format {version}, made by an? {says}"):
            Tables(tables.folder)
    with pytest.raises(UserError, match="holds no tables"):
        Tables(tables.folder / "nowhere")


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"age": np.zeros(2, np.float32)}, "array 'age' is unknown; known: clinical"),
        ({"clinical": np.zeros(2)}, "clinical is float64 (2,), not float32 (2,)"),
        ({"clinical": np.zeros(3, np.float32)}, "clinical is float32 (3,), not float32 (2,)"),
        ({"clinical": np.zeros((1, 2), np.float32)}, "clinical is float32 (1, 2)"),
        ({"clinical": np.array([1, np.inf], np.float32)}, "clinical holds an infinite value"),
        ({"functional.edges": np.zeros((2, 0), np.int64)}, "has edges but no nodes"),
        (graph(2, [(0, 2)]), "graph functional has 2 nodes and an edge to another one"),
        (graph(2, [(-1, 0)]), "graph functional has 2 nodes and an edge to another one"),
        (
            graph(2, [(0, 1)]) | {"functional.edge_features": np.ones((2, 1), np.float32)},
            "graph functional has 1 edges and features of 2",
        ),
    ],
)
def test_what_does_not_fit_is_not_written(tables, arrays, says):
    before = (tables.folder / "a.safetensors").read_bytes()
    with pytest.raises(UserError) as raised:
        tables.write("a", arrays)
    assert says in str(raised.value)
    assert (tables.folder / "a.safetensors").read_bytes() == before


def test_wrong_kinds_are_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown type 'float16'"):
        Tables.create(tmp_path, {"x": ArrayKind("float16", (1,))})
    with pytest.raises(ValueError, match="2 entries do not fit"):
        Tables.create(tmp_path, {"x": ArrayKind("float32", (3,), ("a", "b"))})
    with pytest.raises(UserError, match="file name"):
        Tables.create(tmp_path, {"x": ArrayKind("float32", (3,))}).write("a/b", {})


def test_a_batch_has_the_arrays_of_its_rows(tmp_path: Path) -> None:
    folder = write_cache(tmp_path / "cache")
    made = Tables.create(folder / "tables", KINDS)
    made.write("p0", FIRST)
    made.write("p2", SECOND)
    before = Cache(folder).fingerprint()
    assert check_cache(folder).subjects == 5
    clean_cache(folder)
    cache = Cache(folder)
    assert cache.fingerprint() == before
    assert cache.tables is not None
    assert cache.tables.subject_ids == ("p0", "p2")
    batch = PatchLoader(cache, ("p0", "p1", "p2"), (8, 8, 8), 3).batch(0, 0, 0)
    rows = dict(zip(batch.subject_ids, batch.arrays, strict=True))
    assert [set(rows[name]) for name in ("p0", "p1", "p2")] == [set(FIRST), set(), set(SECOND)]
    assert torch.equal(rows["p2"]["visits"], torch.tensor([2, 5, 9]))
    (alone,) = volume_batch(cache, "p0").arrays
    assert alone["clinical"].dtype == torch.float32
    (folder / "tables" / "tables.json").write_text("{")  # of no concern to who does not ask
    assert volume_batch(Cache(folder, facts=()), "p0").arrays == ({},)
    with pytest.raises(UserError, match="is damaged"):
        volume_batch(Cache(folder), "p0")


def test_a_subject_is_a_name_in_the_folder_and_no_way_out_of_it(tables, tmp_path):
    other = Tables.create(tmp_path / "other", tables.arrays)
    other.write("secret", {})
    for name in ("../other/secret", str(other.folder / "secret"), ".."):
        with pytest.raises(UserError, match="must be usable as a file name"):
            tables.read(name)
