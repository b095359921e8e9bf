from __future__ import annotations

import importlib.util
from pathlib import Path
from xml.etree import ElementTree

from anymri.methods import METHODS


def test_the_page_of_methods_and_its_timeline_are_up_to_date(repository: Path) -> None:
    place = importlib.util.spec_from_file_location("page", repository / "tools" / "write_methods_reference.py")
    assert place is not None
    assert place.loader is not None
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    page = module.PAGE.read_text(encoding="utf-8")
    assert page == module.page(), "run tools/write_methods_reference.py"
    assert module.TIMELINE.read_text(encoding="utf-8") == module.timeline(), "run tools/write_methods_reference.py"
    for name in METHODS:
        assert f"| `{name}` |" in page
    assert all(row["novelty"] and row["weakness"] for row in module.methods()), "a method says nothing of itself"
    ElementTree.fromstring(module.timeline())
