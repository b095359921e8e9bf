"""The hash of code changes with what runs, and with nothing else."""

from __future__ import annotations

import importlib
import sys

import pytest

from anymri import source_code
from anymri.methods import METHODS
from anymri.source_code import code_hash, source_modules

FILES = {
    "__init__": "from my_system.network import Network\n",
    "method": """
        from __future__ import annotations
        from typing import TYPE_CHECKING
        from my_system import Network
        from anymri.nn.blocks import zero_fill
        if TYPE_CHECKING:
            from my_system import notes

        class Mine:
            info = "by me"

            def loss(self):
                from . import late
                return late.weight(Network)
    """,
    "network": "class Network:\n    width = 8\n",
    "late": "def weight(network):\n    return 2 * network.width\n",
    "notes": "TEXT = 'nothing reads this'\n",
}


@pytest.fixture
def hash_with(tmp_path, monkeypatch):
    """Hash of the module `my_system.method` with some files changed."""
    import textwrap

    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_system").mkdir()

    def build(**changed):
        for name, text in {**FILES, **changed}.items():
            (tmp_path / "my_system" / f"{name}.py").write_text(textwrap.dedent(text), encoding="utf-8")
        for cached in (source_code._find, source_code._tree, source_code._plain):
            cached.cache_clear()
        importlib.invalidate_caches()
        return code_hash(["my_system.method"])

    yield build
    for cached in (source_code._find, source_code._tree, source_code._plain):
        cached.cache_clear()


def test_code_counts_wherever_it_is_imported_from(hash_with):
    first = hash_with()
    assert len(first) == 16
    assert first == hash_with()
    for name in ("method", "network", "late"):
        assert hash_with(**{name: FILES[name].replace("2", "3").replace("8", "9").replace("Mine", "Ours")}) != first, (
            name
        )


def test_words_about_the_code_do_not_count(hash_with):
    first = hash_with()
    assert (
        hash_with(network='"""A network."""\n\n\n# eight\nclass Network:\n    """It."""\n\n    width = 8  # wide\n')
        == first
    )
    assert hash_with(method=FILES["method"].replace("by me", "by us")) == first, "what a method says of itself"
    assert hash_with(notes="TEXT = 'changed'") == first, "only type checkers import it"
    assert hash_with(__init__=FILES["__init__"] + "TABLE = 5\n") == first, "Network is its module's, not the package's"


def test_the_version_of_another_package_counts(hash_with, tmp_path):
    first = hash_with()
    told = tmp_path / "my_system-1.0.dist-info"
    told.mkdir()
    (told / "top_level.txt").write_text("my_system\n")
    (told / "RECORD").write_text("my_system/__init__.py,,\n")
    found = []
    for version in ("1.0", "1.1"):
        (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: my_system\nVersion: {version}\n")
        found.append(hash_with())
    assert len({first, *found}) == 3


def test_without_a_file_there_is_no_hash():
    assert code_hash(["__main__"]) is None
    assert code_hash(["no_such_module_at_all"]) is None
    assert code_hash(["sys"]) is None


@pytest.mark.parametrize("name", METHODS)
def test_a_method_counts_its_own_modules_and_no_other_method(name):
    modules = {key: target.partition(":")[0] for key, target in METHODS.items()}  # variants share a file
    found = source_modules([modules[name]])
    assert {modules[name], "anymri.protocol.method", "anymri.types.outputs"} <= found
    assert not found & ({*modules.values()} - {modules[name]})
    assert "anymri.methods" not in found, "the table of names changes with every new method"
    loaded = {m for m in sys.modules if m.startswith(("anymri.nn.", "anymri.losses."))}
    assert {m for m in found if m.startswith(("anymri.nn.", "anymri.losses."))} <= loaded | found


def test_names_that_the_table_of_methods_hands_on_stand_for_the_protocol(tmp_path, monkeypatch):
    (tmp_path / "a_plug_in.py").write_text("from anymri.methods import Method, PerSubset, StepContext\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = source_modules(["a_plug_in"])
    assert {"anymri.protocol.method", "anymri.protocol.per_subset"} <= found
    assert "anymri.methods" not in found


def test_losses_and_blocks_are_found_by_name():
    assert {"anymri.losses.co_training", "anymri.nn.group_norm_unet"} <= source_modules(["anymri.methods.acn"])


def test_every_module_that_changes_numbers_is_there():
    from anymri.evaluation.code import SCORING
    from anymri.training.code import LOOP

    for name in (*SCORING, *LOOP):
        importlib.import_module(name)
        assert source_code._find(name) is not None
