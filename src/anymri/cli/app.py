"""The command ``anymri``: one verb per arrow of the pipeline, each a thin layer over the Python functions.

Only typer and small modules are imported at the top, so that ``anymri --help`` answers at once.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from typing import Annotated, NoReturn

import typer

from anymri.cli import (
    batch,
    benchmark,
    calibrate,
    catalogues,
    data,
    new_method,
    phantom,
    predict,
    quality,
    serve,
    training,
    weights,
)
from anymri.errors import UserError
from anymri.stopping import Stopped, stop_signals

#: Exit code of a command that signal 1 would end, as shells expect it: 130 after Ctrl-C, 143 after `kill`.
SIGNALLED = 128

app = typer.Typer(
    name="anymri",
    help="Brain MRI with missing sequences: segment, complete, benchmark, train. Research use only.",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for verb in (
    phantom.phantom, data.index, data.split, data.preprocess, data.cache, data.plan, data.prepare, data.datasets,
    training.train, training.curves, training.evaluate, calibrate.calibrate, benchmark.benchmark, benchmark.report,
    benchmark.cost, benchmark.protocols, predict.predict, batch.volumes, quality.quality, training.demo,
    catalogues.methods, catalogues.cite, catalogues.models, weights.import_weights, new_method.new_method, serve.serve,
):  # fmt: skip
    app.command()(verb)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from anymri.version import __version__

        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Entry point: whatever a user can mend is one line on standard error and exit code 2.

    A signal that ends the command is one line, too; a reader of its output that has seen enough (``| head``) is none.
    """
    code: object = None
    stopped = None
    try:
        with stop_signals():
            code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
            sys.stdout.flush()
    except Stopped as stop:
        stopped = (stop.number, stop.kept)
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # typer's answer to it
            _leave_silently()
        raise
    except UserError as error:
        _refuse(str(error))
    except OSError as error:
        if error.errno is None:
            raise
        if isinstance(error, BrokenPipeError):
            _leave_silently()
        _refuse(_system_reason(error))
    except Exception as error:
        # The errors of the command line itself (a missing option, a wrong number) carry this method.
        say = getattr(error, "format_message", None)
        if say is None:
            raise
        context = getattr(error, "ctx", None)
        verb = context.command_path if context is not None else "anymri"
        _refuse(f"{say().rstrip('.')}; see {verb} --help")
    if code == SIGNALLED + signal.SIGINT:  # a KeyboardInterrupt that typer caught
        stopped = (int(signal.SIGINT), "")
    if stopped is not None:  # out of the handler above, so that what the exception held is let go
        number, kept = stopped
        how = "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"
        typer.echo(f"anymri: {how}; {kept or 'the same command goes on where it can'}", err=True)
        code = SIGNALLED + number
    sys.exit(code if isinstance(code, int) else 0)


def _refuse(message: str) -> NoReturn:
    typer.echo("anymri: " + message.replace("\n", " "), err=True)
    sys.exit(2)


def _leave_silently() -> NoReturn:
    """End as a command does whose output nobody reads any more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more as it ends
    sys.exit(SIGNALLED + signal.SIGPIPE)


def _system_reason(error: OSError) -> str:
    """What the operating system refused, and what to do about it."""
    from anymri.files import REMEDIES

    place, reason = error.filename or "output", error.strerror or type(error).__name__
    if error.errno in REMEDIES and error.errno not in (errno.ENOENT, errno.ENOTDIR):
        return f"{place}: cannot be read or written ({reason}); {REMEDIES[error.errno]}"
    return f"{place}: {reason}; check the path"
