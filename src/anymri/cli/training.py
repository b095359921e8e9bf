"""Training verbs: train, curves, evaluate and demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anymri.cli.options import (
    LARGEST_SEED,
    Device,
    Json,
    Precision,
    Quiet,
    Threads,
    finite,
    metric_set,
    say,
    use_threads,
    voxels,
    writes,
)
from anymri.cli.options import precision as parse_precision
from anymri.errors import UserError


@writes("output", kept="no checkpoint was written yet; the same command begins anew")
def train(
    config: Annotated[Path, typer.Argument(help="YAML file of the run.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Run folder; an unfinished run in it is resumed, one of other code set aside."
        ),
    ],
    init: Annotated[str | None, typer.Option("--init", help="Start from a bundled model or weights file.")] = None,
    override: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE, e.g. training.epochs=5; repeatable.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Seed of everything random.")
    ] = None,
    threads: Threads = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train one method; writes checkpoint, resolved configuration, log and weights to the run folder.

    Example: anymri train unet.yaml --set training.epochs=50 -o runs/unet
    """
    from anymri.config import load_run_config
    from anymri.training import train as run_training

    use_threads(threads)
    settings = list(override or [])
    settings += [f"training.init={init}"] if init else []
    settings += [f"training.seed={seed}"] if seed is not None else []
    run = run_training(load_run_config(config, settings), output, progress=not quiet)
    say(as_json, {"run": run}, f"trained: {run}")


@writes("output")
def curves(
    runs: Annotated[list[str], typer.Argument(help="Run folders, each as FOLDER or NAME=FOLDER.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Drawing.")] = Path("curves.svg"),
    as_json: Json = False,
) -> None:
    """Draw every loss term of finished runs against minutes of training, one panel per run.

    Each term is divided by its own first mean, so that terms of any scale show whether they still fall.

    Example: anymri curves unet=runs/unet runs/u_hved -o curves.svg
    """
    from anymri.training.loss_curves import draw_loss_curves

    named = {}
    for text in runs:
        name, sign, folder = text.partition("=")
        named[name] = Path(folder if sign else name)
    if len(named) < len(runs):
        raise UserError("curves: two runs have one name; write NAME=FOLDER with different names")
    say(as_json, {"curves": draw_loss_curves(named, output)}, f"wrote {output}")


@writes("output", "save_predictions", kept="scored subjects are kept; the same command goes on")
def evaluate(
    model: Annotated[
        str, typer.Argument(help="Run folder, weights file, bundled model, or folder of per-subset runs.")
    ],
    data: Annotated[Path, typer.Option("--data", help="Cache folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Results table.")] = Path("results.parquet"),
    split_file: Annotated[Path | None, typer.Option("--split", help="Split file; default: every subject.")] = None,
    fold: Annotated[int, typer.Option("--fold", min=0, max=1_000_000)] = 0,
    part: Annotated[str, typer.Option("--part", help="train, validation or test.")] = "test",
    subset: Annotated[
        list[str] | None, typer.Option("--subset", help="e.g. t1c+flair; repeatable; default: all.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option("--reference", help="Cache of the same files at their own spacing: score there.")
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, max=65_536, help="Windows at a time.")] = 1,
    overlap: Annotated[
        float,
        typer.Option(
            "--overlap", min=0, max=0.99, callback=finite, help="Share that neighbouring windows have in common."
        ),
    ] = 0.5,
    window: Annotated[
        str | None, typer.Option("--window", help="Size D,H,W in voxels, e.g. 64,64,64; default: that of the training.")
    ] = None,
    save_predictions: Annotated[
        Path | None, typer.Option("--save-predictions", help="Folder for label maps and completed images (NIfTI).")
    ] = None,
    metrics: Annotated[
        str,
        typer.Option("--metrics", help="standard, or full: lesions, surfaces, calibration, synthesis by place."),
    ] = "standard",
    downstream: Annotated[
        str | None, typer.Option("--downstream", help="Segmenter (as MODEL) that is given the completed studies.")
    ] = None,
    precision: Precision = "auto",
    device: Device = "auto",
    threads: Threads = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Score a model on every subset of sequences; each window is encoded once.

    Example: anymri evaluate runs/unet --data cache --split split.json -o results.parquet
    """
    from anymri.evaluation import evaluate as run_evaluation

    use_threads(threads)
    table = run_evaluation(
        model, data, output, split=split_file, fold=fold, part=part, subsets=subset, reference=reference,
        batch_size=batch_size, overlap=overlap, window=voxels(window, "--window"), precision=parse_precision(precision),
        device=device, save_predictions=save_predictions, progress=not quiet, metrics=metric_set(metrics),
        downstream=downstream,
    )  # fmt: skip
    dice = table[table.metric == "dice"].groupby("target", observed=True).value.mean()
    lines = [f"{target:<18} mean Dice {value:.3f}" for target, value in dice.items()]
    say(as_json, {"results": output, "dice": dice.to_dict()}, "\n".join([*lines, f"wrote {output}"]))


@writes("output", kept="the same command begins anew")
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the demonstration.")] = Path("demo"),
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Seed of the phantoms; default: a fresh one.")
    ] = None,
    model: Annotated[
        str,
        typer.Option("--model", "-m", help="Bundled model, weights file, run folder, or folder of per-subset runs."),
    ] = "default",
    train_one: Annotated[bool, typer.Option("--train", help="Also train a small network on phantoms first.")] = False,
    threads: Threads = 0,
    as_json: Json = False,
) -> None:
    """Run the main job on fresh phantoms: every subset of sequences segmented and completed, and a report.

    Example: anymri demo --seed 1 -o demo
    """
    from anymri.benchmark.demo import run_demo

    use_threads(threads)
    page = run_demo(output, seed=seed, model=model, train_one=train_one)
    say(as_json, {"report": page}, f"done; open {page}")
