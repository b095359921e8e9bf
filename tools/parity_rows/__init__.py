"""Rows of the parity page, one module for each method: `row()` compares, `LOAD` says how a checkpoint is loaded."""

import sys
from pathlib import Path

#: Goldens, the scripts that recorded them and the comparison are those of the tests.
TESTS = Path(__file__).parents[2] / "tests"
sys.path[:0] = [str(TESTS / "golden"), str(TESTS / "methods")]
