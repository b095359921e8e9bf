"""Options and small functions that the verbs of the command share."""

from __future__ import annotations

import functools
import inspect
import json
import math
from collections.abc import Callable
from typing import Annotated, Any

import typer

from anymri.errors import UserError
from anymri.stopping import Stopped

#: Largest seed; those of torch are signed numbers of 64 bits.
LARGEST_SEED = 2**63 - 1


def finite(value: float | None) -> float | None:
    """The number itself; NaN, which every bound lets through, is refused."""
    if value is not None and value != value:
        raise typer.BadParameter("nan is no number")
    return value


Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON and nothing else to standard output.")]
Seed = Annotated[int, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Seed of everything random.")]
Threads = Annotated[int, typer.Option("--threads", min=0, max=1024, help="CPU threads; 0 = all cores.")]
Workers = Annotated[int, typer.Option("--workers", min=1, max=1024, help="Parallel processes.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")]
Device = Annotated[
    str, typer.Option("--device", help="auto, cpu, mps, cuda or cuda:<number>; auto = the GPU where there is one.")
]
Precision = Annotated[
    str, typer.Option("--precision", help="auto, 32 (exact) or bf16 (faster where the processor has it).")
]


#: What a verb says that writes its outputs at its end, each whole or not at all.
WHOLE = "nothing half-written is left; run the same command again"


def writes(*outputs: str, kept: str = WHOLE) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Let a verb hold the locks of its outputs while it runs.

    Parameters
    ----------
    *outputs : str
        Parameters of the verb that are paths of outputs, or None.
    kept : str
        What is kept when a signal ends the verb, and how to go on.
    """

    def decorate(verb: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(verb)

        @functools.wraps(verb)
        def alone(*arguments: Any, **options: Any) -> None:
            from anymri.locks import one_writer

            given = signature.bind(*arguments, **options)
            given.apply_defaults()
            paths = [given.arguments[name] for name in outputs]
            try:
                with one_writer(*(path for path in paths if path is not None)):
                    verb(*arguments, **options)
            except Stopped as stop:
                stop.kept = stop.kept or kept
                raise

        return alone

    return decorate


def say(as_json: bool, values: dict[str, Any], text: str) -> None:
    """Print one result, for a machine or for a person; JSON has no NaN, so that it becomes null."""
    if as_json:
        plain = json.loads(json.dumps(values, default=str), parse_constant=lambda _: None)
        text = json.dumps(plain)
    typer.echo(text)


def use_threads(threads: int) -> None:
    import torch

    if threads:
        torch.set_num_threads(threads)


def precision(name: str) -> Any:
    """Check the name of a precision."""
    if name not in ("auto", "32", "bf16"):
        raise UserError(f"--precision {name}: unknown; choose auto, 32 or bf16")
    return name


def metric_set(name: str) -> Any:
    """Check the name of a set of metrics before anything is loaded."""
    if name not in ("standard", "full"):
        raise UserError(f"--metrics {name}: unknown; choose standard or full")
    return name


def key_values(pairs: list[str] | None, option: str, example: str) -> dict[str, str]:
    """Read repeated ``KEY=VALUE`` options."""
    values = {}
    for pair in pairs or []:
        key, sign, value = pair.partition("=")
        if not sign or not key or not value:
            raise UserError(f"{option} {pair}: not of the form KEY=VALUE; write e.g. {option} {example}")
        values[key.strip()] = value.strip()
    return values


def numbers(pairs: list[str] | None, option: str, example: str) -> dict[str, float]:
    """Read repeated ``KEY=NUMBER`` options."""
    values = {}
    for key, text in key_values(pairs, option, example).items():
        try:
            values[key] = float(text)
        except ValueError:
            values[key] = math.nan
        if not math.isfinite(values[key]):
            raise UserError(f"{option}: what follows = is not a number; write e.g. {option} {example}")
    return values


def voxels(text: str | None, option: str) -> tuple[int, int, int] | None:
    """Read a size ``D,H,W``."""
    if text is None:
        return None
    sizes = [part.strip() for part in text.split(",")]
    if len(sizes) != 3 or not all(size.isdecimal() and len(size) < 6 and 0 < int(size) <= 4096 for size in sizes):
        raise UserError(f"{option} {text[:80]}: not three sizes of 1 to 4096 voxels; write e.g. {option} 64,64,64")
    return int(sizes[0]), int(sizes[1]), int(sizes[2])
