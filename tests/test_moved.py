"""Old import paths still work and say where to go."""

from __future__ import annotations

import runpy
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from anymri.moved import ATTRIBUTES, MODULES


def import_old(name: str) -> ModuleType:
    sys.modules.pop(name, None)
    with pytest.warns(DeprecationWarning, match=f"{name} has moved to {MODULES[name][0]}"):
        return import_module(name)


@pytest.mark.parametrize("old", MODULES)
def test_an_old_path_gives_every_public_name_and_warns(old):
    module, first = import_old(old), import_module(MODULES[old][0])
    for name in getattr(first, "__all__", ()):
        assert getattr(module, name) is getattr(first, name)


def test_old_names_by_old_paths():
    base, plan = import_old("anymri.methods.base"), import_old("anymri.evaluation.plan")
    assert [base.read_header.__name__, base.with_target.__name__] == ["read_header", "with_target"]
    assert (base.show.__name__, plan.Asked.__name__) == ("zero_absent", "EvaluationSettings")
    assert plan.predict_entry.__name__ == "predict_entry"


@pytest.mark.parametrize("old", ATTRIBUTES)
def test_a_name_that_left_its_module_is_handed_on_with_a_warning(old):
    module, _, name = old.rpartition(".")
    home, _, new = ATTRIBUTES[old].rpartition(".")
    with pytest.warns(DeprecationWarning, match=f"{old} is now {ATTRIBUTES[old]}"):
        found = getattr(import_module(module), name)
    assert found is getattr(import_module(home), new)


def test_names_that_never_were_are_still_missing():
    with pytest.raises(ModuleNotFoundError):
        import_module("anymri.data.nowhere")
    for module in (import_old("anymri.data.files"), import_module("anymri.methods")):
        assert not hasattr(module, "nothing")


def test_the_page_of_moved_names_is_up_to_date(repository: Path):
    tool = runpy.run_path(str(repository / "tools" / "write_moved_names.py"))
    page = tool["PAGE"].read_text(encoding="utf-8")
    assert page == tool["page"](), "run tools/write_moved_names.py"
    for old in (*MODULES, *ATTRIBUTES):
        assert f"| `{old}` |" in page
    for new in (home for homes in MODULES.values() for home in homes):
        import_module(new)
