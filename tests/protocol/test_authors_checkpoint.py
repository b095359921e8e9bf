"""Import of authors' checkpoints: which table is found, which source is known, and what a method makes of both."""

import sys

import pytest
import torch

from anymri.errors import UserError
from anymri.methods import create
from anymri.methods.u_hemis import UHeMIS
from anymri.protocol.authors_checkpoint import choose_source, find_table

KNOWN = ("official", "official:<subset>", "retrained:<sources>-><target>")
TABLE = """
SOURCES = {"official:<subset>": "Mine", "port": "Mine; give all"}
FRESH = r"encoders\\.t1\\..*"

def translate(theirs, source):
    weights = {key.removeprefix("their."): value for key, value in theirs.items()}
    return {"preset": "tiny", **MORE}, weights
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with the method `mine` and a table for it."""
    (tmp_path / "somebody" / "authors").mkdir(parents=True)
    (tmp_path / "somebody" / "authors" / "broken.py").write_text("import not_installed_anywhere\n", encoding="utf-8")
    (tmp_path / "somebody" / "authors" / "mine.py").write_text(
        TABLE.replace("**MORE", f"**{create('u_hemis').presets['tiny'].config}"), encoding="utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield "somebody"
    for name in [name for name in sys.modules if name.partition(".")[0] == "somebody"]:
        del sys.modules[name]


@pytest.mark.parametrize("source", ["official", "official:t1", "official:t1+flair", "retrained:t1+t2->flair"])
def test_sources_that_fit_a_spelling_are_known(source):
    assert choose_source(KNOWN, source, "mine")[0] == source


def test_the_first_source_is_the_usual_one():
    assert choose_source(("port", "official"), None, "mine") == ("port", "port")
    assert choose_source(KNOWN[1:], "official:t2", "mine") == ("official:t2", "official:<subset>")
    with pytest.raises(
        UserError, match="unknown source 'official' of mine weights; known: official:<subset>, retrained"
    ):
        choose_source(KNOWN[1:], None, "mine")


@pytest.mark.parametrize(
    "source", ["", "paper", "official:", "official:a:b", "retrained:t1->", "retrained", "OFFICIAL"]
)
def test_other_sources_are_refused(source):
    with pytest.raises(UserError, match="unknown source"):
        choose_source(KNOWN, source, "mine")


def test_a_method_without_a_table_says_so(package):
    for where, name in ((package, "other"), ("anymri.methods", "threshold"), ("no_such_package", "mine"), ("", "mine")):
        with pytest.raises(UserError, match=f"method '{name}' cannot import foreign weights; train it"):
            find_table(where, name)


def test_a_table_that_misses_something_else_says_what(package):
    with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
        find_table(package, "broken")


def test_a_method_of_another_package_is_filled_by_its_table(package):
    mine = type("Mine", (UHeMIS,), {"name": "mine", "__module__": f"{package}.methods"})
    trained = create("u_hemis", preset="tiny")
    trained.get_buffer("median_statistics").fill_(7.0)
    theirs = {
        f"module.their.{key}": value
        for key, value in trained.state_dict().items()
        if not key.startswith(("encoders.t1.", "median_"))
    }
    method = mine.import_state_dict(theirs, "port")
    assert isinstance(method, mine)
    assert not method.training
    assert method.get_buffer("median_statistics").isnan().all()
    state = method.state_dict()
    assert all(torch.equal(state[key.removeprefix("module.their.")], value) for key, value in theirs.items())
    with pytest.raises(UserError, match=r"mine: weights of source 'port' are not those of Mine; give all \(.*encoders"):
        mine.import_state_dict(dict(list(theirs.items())[1:]), "port")
    spoilt = dict(theirs)
    key = next(iter(theirs))
    spoilt[key] = theirs[key].clone()
    spoilt[key].view(-1)[0] = torch.nan
    with pytest.raises(UserError, match=r"NaN or infinite values in 1 tensors, first " + key.split("their.")[1]):
        mine.import_state_dict(spoilt, "port")
