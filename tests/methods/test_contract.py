"""The contract suite over the method table: what is absent has no influence, and every part learns."""

from __future__ import annotations

from conftest import CASES

from anymri.methods import get_method, list_methods
from anymri.testing import MethodContract

for _case, (_cls, _config) in CASES.items():
    _test = f"Test_{_case.replace('-', '_')}"
    globals()[_test] = type(_test, (MethodContract,), {"method": _cls, "config": _config, "__doc__": _case})


def test_the_table_names_a_method_as_it_names_itself():
    for name in list_methods():
        assert get_method(name).name == name
