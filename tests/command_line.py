"""The command ``anymri`` inside the test's own process: as a shell runs it, without the seconds of a new start."""

import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple

from anymri.cli import main


class Answer(NamedTuple):
    """What a command left on the terminal."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


def run(*arguments):
    """Run one command line and give its exit code and output."""
    before, sys.argv = sys.argv, ["anymri", *map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(err):
            main()
        code = 0
    except SystemExit as stop:
        code = stop.code or 0
    finally:
        sys.argv = before
    return Answer(code, out.getvalue(), err.getvalue())


def refused(answer, *words):
    """Check that a command was refused in one line with exit code 2 that says what to do; give the line."""
    assert answer.code == 2, answer
    assert answer.out == ""
    assert answer.err.startswith("anymri: ")
    assert answer.err.count("\n") == 1, answer.err
    assert ";" in answer.err or "should be" in answer.err, f"no remedy: {answer.err}"
    for word in words:
        assert str(word) in answer.err, answer.err
    return answer.err
