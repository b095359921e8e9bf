"""Verb import-weights: make weights of anymri from an authors' checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anymri.cli.options import Json, say, writes


@writes("output")
def import_weights(
    method: Annotated[str, typer.Argument(help="Registry name, see `anymri methods`.")],
    checkpoint: Annotated[Path, typer.Argument(help="The authors' file, of PyTorch or safetensors.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Weights file to write.")] = Path("model.safetensors"),
    source: Annotated[
        str | None,
        typer.Option("--source", help="Which weights these are, e.g. official:t1c+flair; default: the usual."),
    ] = None,
    entry: Annotated[
        str | None, typer.Option("--entry", help="Entry of the file to take; default: state_dict, else the whole.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make weights that every command opens from a checkpoint of a method's authors.

    Which files and sources each method knows: docs/reference/parity.md.

    Example: anymri import-weights rfnet model_last.pth -o rfnet.safetensors
    """
    from anymri.protocol.weights_file import weights_digest
    from anymri.zoo.checkpoint import import_file

    made = import_file(method, checkpoint, output, source, entry)
    served = "any" if made.subsets == "any" else list(made.subsets)
    size = sum(parameter.numel() for parameter in made.parameters())
    values = {"weights": output, "method": method, "parameters": size, "subsets": served, "sha": weights_digest(made)}
    shown = served if isinstance(served, str) else ", ".join(served)
    say(as_json, values, f"{method}, {size:,} parameters, subsets: {shown}\nwrote {output}")
