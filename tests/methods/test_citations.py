"""What is cited for a method, and methods of other packages that are broken."""

from __future__ import annotations

import re
import sys
import types
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import yaml
from command_line import refused, run

import anymri
from anymri import methods
from anymri.methods import PluginWarning, citations, describe_methods, get_method, list_methods
from anymri.methods._citations import method_entries
from anymri.protocol.method import MethodInfo
from anymri.types import UserError

ENTRY = re.compile(r"@(\w+)\{([\w-]+),\n((?:  \w+ += \{.*\},\n)+)\}")
#: Fields that BibTeX's standard styles require, by entry type.
REQUIRED = {
    "article": {"author", "title", "journal", "year"},
    "inproceedings": {"author", "title", "booktitle", "year"},
    "misc": {"title"},
    "software": {"author", "title", "version"},
}


def parse(text: str) -> dict[str, tuple[str, dict[str, str]]]:
    """Entries of a BibTeX text: key to type and fields; the whole text must be entries."""
    found = {}
    for entry in text.strip().split("\n\n"):
        match = ENTRY.fullmatch(entry)
        assert match, entry
        fields = dict(re.fullmatch(r"  (\w+) += \{(.*)\},", line).groups() for line in match[3].splitlines())
        for value in fields.values():
            depth = 0
            for sign in re.sub(r"\\[{}]", "", value):
                depth += (sign == "{") - (sign == "}")
                assert depth >= 0, value
            assert depth == 0, value
        found[match[2]] = (match[1], fields)
    return found


PUBLISHED = [name for name in list_methods() if not re.match("anymri|unpublished", get_method(name).info.reference)]


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_entry_of_a_method_agrees_with_what_it_says_of_itself(name: str) -> None:
    info = get_method(name).info
    entries = parse(run("cite", name).out)
    kind, fields = next(iter(entries.values()))
    assert fields["year"] == str(info.year)
    assert not info.doi or fields["doi"] == info.doi
    assert not info.arxiv or (fields["eprint"], fields["archiveprefix"]) == (info.arxiv, "arXiv")
    surname = re.sub(r"\\c\{(\w)\}|[{}\\\"]", r"\1", fields["author"].partition(",")[0])
    assert surname.startswith(re.match(r"[\w-]+", info.reference)[0])
    for kind, fields in entries.values():
        assert fields.keys() >= REQUIRED[kind]
        assert not {"volume", "number"} <= fields.keys() or kind == "article"


def test_every_paper_comes_once_and_the_program_where_it_is_asked_for() -> None:
    assert [entry.key for entry in citations(["resvit", "resvit_unified", "u_hemis", "u_hved"])] == [
        "dalmaz2022resvit", "havaei2016hemis", "dorent2019uhved",
    ]  # fmt: skip
    assert [entry.key for entry in citations(["threshold"])] == ["anymri"]
    rows = run("cite", "rfnet", "--json").json
    assert [(row["type"], row["key"], row["doi"]) for row in rows] == [
        ("inproceedings", "ding2021rfnet", "10.1109/ICCV48922.2021.00394")
    ]
    assert "unknown method 'rfnet2'" in run("cite", "rfnet2").err


def test_the_program_is_cited_as_its_citation_file_says() -> None:
    stated = yaml.safe_load((Path(__file__).parents[2] / "CITATION.cff").read_text(encoding="utf-8"))
    (kind, fields) = parse(run("cite").out)["anymri"]
    assert kind == stated["type"]
    assert fields["title"].replace("{", "").replace("}", "") == stated["title"]
    assert fields["author"].strip("{}") == stated["authors"][0]["name"]
    assert (fields["version"], fields["license"]) == (anymri.__version__, stated["license"])


def test_a_method_that_is_not_listed_is_cited_by_its_own_words() -> None:
    info = MethodInfo(
        title="Cut & Paste",
        family="baseline",
        task="segmentation",
        year=2024,
        reference="Roe et al., MICCAI 2024",
        arxiv="2401.00001",
    )
    (entry,) = method_entries("cut_paste", info)
    assert parse(entry.bibtex()) == {
        "roe2024cutpaste": (
            "misc",
            {
                "author": "Roe and others",
                "title": r"{Cut \& Paste}",
                "year": "2024",
                "howpublished": "MICCAI",
                "eprint": "2401.00001",
                "archiveprefix": "arXiv",
            },
        )
    }
    (entry,) = method_entries("own_net", replace(info, reference="unpublished, of our group", arxiv=""))
    assert parse(entry.bibtex())["2024ownnet"][1] == {
        "title": r"{Cut \& Paste}",
        "year": "2024",
        "note": "unpublished, of our group",
    }


# ------------------------------------------------------------------------------------------- methods of other packages


@pytest.fixture
def plug_in(monkeypatch: pytest.MonkeyPatch):
    """Pretend that packages are installed whose entry points are these."""

    def install(**points: str) -> None:
        made = [EntryPoint(name, value, "anymri.methods") for name, value in points.items()]
        monkeypatch.setattr(methods, "entry_points", lambda group: made)

    module = types.ModuleType("somebodys")
    module.number = 3
    module.Good = get_method("threshold")
    monkeypatch.setitem(sys.modules, "somebodys", module)
    return install


def test_a_working_plug_in_is_a_method_as_any_other(plug_in) -> None:
    plug_in(good="somebodys:Good")
    assert "good" in list_methods()
    assert get_method("good") is get_method("threshold")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("nowhere_at_all:Net", "No module named 'nowhere_at_all'"),
        ("somebodys:Missing", "AttributeError"),
        ("somebodys:number", "is no Method"),
    ],
)
def test_a_broken_plug_in_is_one_line(plug_in, value: str, words: str) -> None:
    plug_in(bad=value)
    with pytest.raises(UserError, match=words) as caught:
        get_method("bad")
    assert "the method bad of the package" in str(caught.value)
    assert "\n" not in str(caught.value)
    refused(run("methods", "bad"), "bad", words)
    assert get_method("unet").info.title == "3D U-Net"


def test_the_list_of_methods_goes_on_without_a_broken_plug_in(plug_in, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "METHODS", {"threshold": methods.METHODS["threshold"]})
    plug_in(bad="nowhere_at_all:Net", good="somebodys:Good")
    with pytest.warns(PluginWarning, match="the method bad of the package nowhere_at_all cannot be used"):
        assert [row["name"] for row in describe_methods()] == ["good", "threshold"]
    answer = run("methods", "--json")
    assert answer.code == 0
    assert [row["name"] for row in answer.json] == ["good", "threshold"]
    assert answer.err.startswith("warning: the method bad of the package")
    assert answer.err.count("\n") == 1


def test_a_plug_in_with_a_taken_name_is_refused(plug_in, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "METHODS", {"threshold": methods.METHODS["threshold"]})
    plug_in(threshold="somebodys:number")
    assert list_methods() == ["threshold"]
    assert get_method("threshold").__name__ == "Threshold"
    with pytest.warns(PluginWarning, match="is left out: threshold is the name of a built-in method"):
        describe_methods()
    one, two = (EntryPoint("new", f"{package}:Net", "anymri.methods") for package in ("aaa", "bbb"))
    monkeypatch.setattr(methods, "entry_points", lambda group: [two, one, one])
    with pytest.warns(PluginWarning) as caught:
        describe_methods()
    texts = [str(warning.message) for warning in caught]
    assert any("package bbb is left out: new is the name of the method new of the package aaa" in t for t in texts)
    assert len(texts) == 2  # and aaa cannot be imported
