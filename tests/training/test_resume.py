"""A run that was killed ends in the same weights, bit for bit, as one that was not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(
    ("precision", "occurrence"),
    [pytest.param("32", 2, id="32"), pytest.param("bf16", 1, id="bf16", marks=pytest.mark.slow)],
)
def test_killed_runs_end_in_the_weights_of_an_unbroken_one(tmp_path, precision, occurrence):
    program = Path(__file__).with_name("crashes.py")
    command = [sys.executable, str(program), str(tmp_path), precision, str(occurrence)]
    path = os.pathsep.join(filter(None, [str(program.parents[1]), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, env=environment)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    # Every injected death happened; a kill at a random time may find the run finished, but not all three.
    assert all(all(died) for name, died in told["deaths"].items() if name != "killed")
    assert any(told["deaths"]["killed"])
    assert len(told["deaths"]) == 10
    unbroken = told["results"].pop("unbroken")
    assert unbroken["rows"] == 5
    for name, result in told["results"].items():
        assert result == unbroken, f"died at: {name}"
