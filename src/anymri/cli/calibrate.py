"""Verb calibrate: measure a model on studies it has not seen, so that predict can say how far to trust it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anymri.cli.options import Device, Json, Precision, Quiet, Threads, finite, say, use_threads, writes
from anymri.cli.options import precision as parse_precision
from anymri.errors import UserError


@writes("output", kept="the same command begins anew")
def calibrate(
    model: Annotated[str, typer.Argument(help="Run folder, weights file or bundled model.")],
    data: Annotated[Path, typer.Option("--data", help="Cache folder of studies with label maps.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Record; default: beside the weights, where predict looks.")
    ] = None,
    fold_model: Annotated[
        list[str] | None,
        typer.Option("--fold-model", help="Weights of the same recipe that have not seen some studies; repeatable."),
    ] = None,
    reference: Annotated[
        Path | None, typer.Option("--reference", help="Cache of the same files at their own spacing: measure there.")
    ] = None,
    split_file: Annotated[Path | None, typer.Option("--split", help="Split file; default: every study.")] = None,
    fold: Annotated[int, typer.Option("--fold", min=0, max=1_000_000)] = 0,
    part: Annotated[str, typer.Option("--part", help="train, validation or test.")] = "validation",
    confidence: Annotated[
        float, typer.Option("--confidence", min=0.5, max=0.999, callback=finite, help="Of intervals and margins.")
    ] = 0.8,
    measured_on: Annotated[
        str | None, typer.Option("--measured-on", help="Which studies, in words: stands beside the numbers.")
    ] = None,
    precision: Precision = "auto",
    device: Device = "auto",
    threads: Threads = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure a model on studies it has not seen: expected Dice, intervals, margins and alarm of later predictions.

    Studies that it has seen in training are left out. With --fold-model each study is predicted by the first network
    that has not seen it, and the record is for MODEL.

    Example: anymri calibrate runs/unet --data cache --split split.json --part validation
    """
    from dataclasses import asdict

    from anymri.evaluation.calibrate import calibrate as run_calibration
    from anymri.files import make_folder
    from anymri.records import write_record
    from anymri.zoo import calibration_place, get_card

    use_threads(threads)
    if output is None and get_card(model) is not None:
        raise UserError(f"{model}: is a bundled model, whose calibration is part of anymri; give -o for another one")
    place = calibration_place(model) if output is None else output
    record, left_out = run_calibration(
        model, data, fold_models=fold_model or (), reference=reference, split=split_file, fold=fold, part=part,
        confidence=confidence, measured_on=measured_on, precision=parse_precision(precision), device=device,
        progress=not quiet,
    )  # fmt: skip
    make_folder(place.parent)
    write_record(place, asdict(record))
    lines = [f"{len(left_out)} studies left out, seen in training or without a label map"] if left_out else []
    lines += [f"measured on {record.studies} studies", f"wrote {place}"]
    say(as_json, {"calibration": place, "studies": record.studies, "left_out": left_out}, "\n".join(lines))
