"""Terminal summary of a prediction."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from anymri.cli.options import say

if TYPE_CHECKING:
    from anymri.inference.output.result import Result

__all__ = ["say_result"]


def say_result(result: Result, folder: Path, *, quiet: bool, as_json: bool) -> None:
    """Print warnings to standard error, then what was read, found and written to standard output.

    Parameters
    ----------
    result : Result
    folder : Path
        Where it was written.
    quiet : bool
        Only warnings, volumes and the place.
    as_json : bool
        The content of ``result.json`` and the place, instead of text.
    """
    from anymri.inference.output.write import result_facts

    for warning in result.warnings:
        typer.echo(f"warning: {warning}", err=True)
    lines = _volume_lines(result)
    if not quiet:
        lines = [*_sequence_lines(result), "", *lines, "", *_closing_lines(result)]
    say(as_json, {"result": folder, **result_facts(result)}, "\n".join([*lines, f"wrote {folder}/report.html"]))


def _sequence_lines(result: Result) -> list[str]:
    """Which sequence came from which file, and which were not there."""
    from anymri.modalities import MODALITIES

    lines = [f"{result.name}:"]
    for code in result.spec.modalities:
        given = result.provenance["inputs"].get(code)
        dropped = result.quality is not None and code in result.quality.dropped
        absent = f"{'left out, unusable' if dropped else 'not given'}{_completion(result, code)}"
        lines.append(f"  {MODALITIES[code].short_name:<8}{given['name'] if given else absent}")
    return lines


def _completion(result: Result, code: str) -> str:
    """What became of a sequence that was not given."""
    judged = result.trust.get("completion", {}).get(code, {})
    doubt = {True: "", False: ": not shown to beat a copy", None: ""}[judged.get("beats_copying")]
    if code in result.view.completed:
        return f", filled in (synthetic{doubt})"
    return f", not filled in{doubt}" if judged else ""


def _volume_lines(result: Result) -> list[str]:
    """Volume of every region, and what was measured of it with these sequences."""
    from anymri.inference.trust.measured import trust_line
    from anymri.inference.words import name

    lines = []
    for region, volume in result.volumes_ml.items():
        if volume is None:
            lines.append(f"{name(region):<18}  unknown: {result.unknown[region].partition(';')[0]}")
        else:
            lines.append(f"{name(region):<18}{volume:>8.1f} ml  {trust_line(result.trust, region)}")
    return lines


def _closing_lines(result: Result) -> list[str]:
    """What holds for every result of this model."""
    from anymri.inference.output.result import NOTICE
    from anymri.inference.trust.told import trust_sentences
    from anymri.inference.words import scope

    facts = result.provenance
    licence = f"Model {facts['model']}: licence {facts['licence']}."
    cite = f"Please cite {facts['cite']} (anymri cite {facts['method']})."
    told = trust_sentences(result.trust, result.spec)
    return [*told, *([scope(result.spec)] if result.volumes_ml else []), licence, cite, NOTICE]
