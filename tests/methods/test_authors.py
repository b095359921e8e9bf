"""Authors' tables: each belongs to a method, names its sources, and is asked for no other."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest
import torch

from anymri.errors import UserError
from anymri.methods import METHODS, Method, authors, create, get_method
from anymri.methods.authors.naming import available_first
from anymri.types import GLIOMA

TABLES = sorted(path.stem for path in Path(authors.__file__).parent.glob("[!_]*.py") if path.stem != "naming")


@pytest.fixture(params=TABLES)
def table(request):
    return import_module(f"anymri.methods.authors.{request.param}")


def test_every_table_belongs_to_a_method():
    assert len(TABLES) >= 11
    assert set(TABLES) <= set(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_the_mapping_stands_once_and_a_method_without_a_table_says_so(name):
    cls = get_method(name)
    assert cls.import_state_dict.__func__ is Method.import_state_dict.__func__
    if name not in TABLES:
        with pytest.raises(
            UserError, match=f"^method '{name}' cannot import foreign weights; train it with anymri train$"
        ):
            cls.import_state_dict({})


def test_sources_are_named_and_say_what_to_give(table):
    assert table.SOURCES
    for spelling, what in table.SOURCES.items():
        assert re.fullmatch(r"official|retrained|port|official:<\w+>(-><\w+>)?", spelling)
        assert "; give " in what
        assert "\n" not in what


def test_an_unknown_source_is_refused_in_one_line_that_lists_the_known_ones(table):
    name = table.__name__.rpartition(".")[2]
    for source in ("paper", "official:", "port:t1", "official:t1->", *(s for s in table.SOURCES if "<" in s)):
        with pytest.raises(UserError) as error:
            get_method(name).import_state_dict({}, source)
        assert str(error.value) == f"unknown source {source!r} of {name} weights; known: {', '.join(table.SOURCES)}"


def test_weights_of_something_else_are_refused_in_one_line(table):
    name = table.__name__.rpartition(".")[2]
    spelling = next(iter(table.SOURCES))
    source = spelling.replace("<sources>", "t1").replace("<target>", "t2")
    with pytest.raises(UserError) as error:
        get_method(name).import_state_dict({"epoch": torch.tensor(3)}, source)
    message = str(error.value)
    assert message.startswith(f"{name}: weights of source {source!r} are not those of {table.SOURCES[spelling]}")
    assert "\n" not in message


@pytest.mark.parametrize("name", ["acn", "mmcformer", "nnunet_per_subset", "smu_net"])
def test_a_subset_of_unknown_sequences_is_refused(name):
    with pytest.raises(UserError, match="'pd' is not one of t1, t1c, t2, flair") as error:
        get_method(name).import_state_dict({}, "official:pd")
    assert "\n" not in str(error.value)


def test_what_stays_fresh_is_a_part_of_the_network(table):
    with torch.device("meta"):
        names = list(create(table.__name__.rpartition(".")[2]).state_dict())
    pattern = getattr(table, "FRESH", None)
    if pattern is not None:
        fresh = [name for name in names if re.fullmatch(pattern, name)]
        assert 0 < len(fresh) < len(names)


def test_available_channels_come_first_in_the_order_of_the_authors_list():
    assert available_first(("t1c", "flair")) == ("flair", "t1c", "t1", "t2")
    assert available_first(GLIOMA.modalities) == ("flair", "t1", "t1c", "t2")
