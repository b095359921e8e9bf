"""What is written from the methods is up to date: the catalogue, the page and its timeline."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from anymri.methods import CATALOGUE, METHODS


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    path = Path(__file__).parents[2] / "tools" / "write_methods_reference.py"
    place = importlib.util.spec_from_file_location("page", path)
    assert place is not None
    assert place.loader is not None
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    return module


def test_the_page_of_methods_and_its_timeline_are_up_to_date(tool: ModuleType) -> None:
    page = tool.PAGE.read_text(encoding="utf-8")
    assert page == tool.page(), "run tools/write_methods_reference.py"
    assert tool.TIMELINE.read_text(encoding="utf-8") == tool.timeline(), "run tools/write_methods_reference.py"
    for name in METHODS:
        assert f"| `{name}` |" in page
    assert all(row["novelty"] and row["weakness"] for row in tool.methods()), "a method says nothing of itself"
    ElementTree.fromstring(tool.timeline())


def test_the_catalogue_is_what_the_classes_say(tool: ModuleType) -> None:
    """Sizes of both presets among them: every method is built here, without memory for its weights."""
    assert CATALOGUE.read_text(encoding="utf-8") == tool.catalogue(), "run tools/write_methods_reference.py"


@pytest.mark.parametrize("words", [("methods",), ("methods", "--json"), ("cite", "rfnet", "threshold")])
def test_listing_and_citing_wait_for_no_torch(words: tuple[str, ...]) -> None:
    code = f"import sys; sys.argv = ['anymri', *{words}]\nfrom anymri.cli import main\n"
    code += "try: main()\nexcept SystemExit: sys.exit(int('torch' in sys.modules or 'numpy' in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert "rfnet" in done.stdout
