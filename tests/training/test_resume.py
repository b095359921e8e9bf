"""A run that was killed ends in the same weights, bit for bit, as one that was not."""

import os

import pytest
from apart import apart
from crashes import crash_and_resume


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(
    ("precision", "occurrence"),
    [pytest.param("32", 2, id="32"), pytest.param("bf16", 1, id="bf16", marks=pytest.mark.slow)],
)
def test_killed_runs_end_in_the_weights_of_an_unbroken_one(tmp_path, precision, occurrence):
    told = apart(crash_and_resume, tmp_path, precision, occurrence)
    # Every injected death happened; a kill at a random time may find the run finished, but not all three.
    assert all(all(died) for name, died in told["deaths"].items() if name != "killed")
    assert any(told["deaths"]["killed"])
    assert len(told["deaths"]) == 10
    unbroken = told["results"].pop("unbroken")
    assert unbroken["rows"] == 5
    for name, result in told["results"].items():
        assert result == unbroken, f"died at: {name}"
