"""Small cached studies and runs for the tests of the loop."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_cohort import SIZES, write_cache

from anymri import methods
from anymri.config import RunConfig, validate_run_config


@pytest.fixture(scope="session")
def cache_folder(tmp_path_factory) -> Path:
    return write_cache(tmp_path_factory.mktemp("training") / "balls")


@pytest.fixture
def make_config(cache_folder):
    """Build a quick run's configuration; keyword arguments go to the training section."""

    def build(method: str = "u_hemis", config: dict | None = None, data: dict | None = None, **training) -> RunConfig:
        quick = {"epochs": 2, "steps_per_epoch": 2, "batch_size": 2, "patch": [16, 16, 16]}
        quick = {**({} if method == "two_turns" else quick), "device": "cpu", "precision": "32"}
        return validate_run_config(
            {
                "method": {"name": method, "config": SIZES.get(method, {}) if config is None else config},
                "data": {"cache": str(cache_folder), "split": str(cache_folder.parent / "split.json"), **(data or {})},
                "training": {**quick, **training},
            }
        )

    return build


@pytest.fixture
def two_turns(monkeypatch):
    """Class of the test method; it is in the table while the test runs."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setitem(methods.METHODS, "two_turns", "two_turns:TwoTurns")
    return methods.get_method("two_turns")
